"""Half-steps of Bayesian factorisation: the posterior of each row, given the other side.

The model of a rating is

    r_ui = m + b_u + c_i + u_u·v_i + noise,    noise variance 1 / (a t_u t_i)

With x_u = (b_u, u_u), y_i = (c_i, v_i), each of D = d + 1 numbers, z_i = (1, v_i) and q_ui = r_ui −
m − c_i, and the prior x_u ~ N(p_u, (g_u L)⁻¹), the conditional posterior of a row is normal
(Salakhutdinov and Mnih 2008, "Bayesian Probabilistic Matrix Factorization using Markov Chain Monte
Carlo", equations 11 to 14; here with biases):

    A_u = g_u L + a t_u Σ_i t_i z_i z_iᵀ        h_u = g_u L p_u + a t_u Σ_i t_i q_ui z_i
    mean A_u⁻¹ h_u, covariance A_u⁻¹

``mean`` takes the mean (with a = 1 the ridge solution, towards p_u in place of zero), ``sample``
draws from the posterior, and ``variational`` takes both moments, where the other side is known by
its moments, too: z_i z_iᵀ and q_ui z_i are then expectations (Lim and Teh 2007, "Variational
Bayesian Approach to Movie Rating Prediction", equations 10 to 13).

A solved row is an array of numbers, its *posterior row*: x (D), for ``variational`` the lower
triangle of its covariance, row by row (D (D + 1) / 2), the expected squared error Σ_i t_i E(r_ui −
prediction)², and ln det of its covariance. So it goes through the exchanges as factors do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from als_spark.errors import SolveError
from als_spark.solve.blocks import RatingBlock, cut_runs
from als_spark.solve.gram import gather, make_workspace, multiply
from als_spark.solve.linalg import row_dots
from als_spark.solve.philox import normals
from als_spark.solve.solver import RowSums
from als_spark.types import FloatArray, IntArray, Side

Kind = Literal["mean", "sample", "variational"]


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the numbers of a posterior row are."""

    size: int
    """D."""
    kind: Kind

    @property
    def n_covariances(self) -> int:
        """Numbers of the covariance: of its lower triangle, or none."""
        return self.size * (self.size + 1) // 2 if self.kind == "variational" else 0

    @property
    def total(self) -> int:
        """Numbers of a row."""
        return self.size + self.n_covariances + 2

    def means(self, table: FloatArray) -> FloatArray:
        """(n_rows, D) x: its mean, or the draw."""
        return table[:, : self.size]

    def packed(self, table: FloatArray) -> FloatArray:
        """(n_rows, D (D + 1) / 2) lower triangles of the covariances."""
        return table[:, self.size : -2]

    def errors(self, table: FloatArray) -> FloatArray:
        """(n_rows,) expected squared errors, weighted by the t of the other side."""
        return table[:, -2]

    def log_dets(self, table: FloatArray) -> FloatArray:
        """(n_rows,) ln det of the covariances."""
        return table[:, -1]


def pack(matrices: FloatArray) -> FloatArray:
    """Return the lower triangles of (n, D, D) matrices, row by row."""
    lower = np.tril_indices(matrices.shape[1])
    return np.ascontiguousarray(matrices[:, lower[0], lower[1]])


def unpack(packed: FloatArray, size: int) -> FloatArray:
    """Return the (n, D, D) symmetric matrices of lower triangles."""
    rows, columns = np.tril_indices(size)
    full = np.empty((packed.shape[0], size, size), packed.dtype)
    full[:, rows, columns] = packed
    full[:, columns, rows] = packed
    return full


@dataclass(frozen=True, slots=True)
class FixedSide:
    """The other side of a half-step, as its rows are used.

    Attributes
    ----------
    padded : (n_columns + 1, D + 1)
        √t (1, v), and places for what is left of the ratings; the last row is of zeros.
    offsets : (n_columns + 1,) float64
        m + c.
    roots : (n_columns + 1,) float64
        √t; 0 for padded places.
    spreads : (n_columns + 1, D (D + 1) / 2) float64 or None
        Covariances times t.
    """

    padded: FloatArray
    offsets: FloatArray
    roots: FloatArray
    spreads: FloatArray | None

    @staticmethod
    def of(
        table: FloatArray,
        columns: Columns,
        scales: FloatArray,
        mean: float,
        dtype: npt.DTypeLike,
    ) -> FixedSide:
        """Prepare the posterior rows of a side, with t of each and the constant m."""
        means = columns.means(table)
        n, size = means.shape
        roots = np.append(np.sqrt(scales), 0.0)
        padded = np.zeros((n + 1, size + 1), dtype)
        padded[:-1, 0] = roots[:-1]
        padded[:-1, 1:-1] = means[:, 1:] * roots[:-1, None]
        offsets = np.append(mean + means[:, 0], 0.0)
        spreads = None
        if columns.n_covariances:
            spreads = np.zeros((n + 1, columns.n_covariances))
            np.multiply(columns.packed(table), scales[:, None], out=spreads[:-1])
        return FixedSide(padded, offsets, roots, spreads)


@dataclass(frozen=True, slots=True)
class RowPriors:
    """What is known of rows before their ratings: x ~ N(p, (g L)⁻¹), and how noisy they are.

    ``means`` (n_rows, D) has p, ``precision`` (D, D) is L, ``weights`` (n_rows,) has g, ``noise``
    (n_rows,) a t.
    """

    means: FloatArray
    precision: FloatArray
    weights: FloatArray
    noise: FloatArray


@dataclass(frozen=True, slots=True)
class Draw:
    """Which random numbers a half-step takes: see :func:`als_spark.solve.philox.normals`."""

    seed: int
    iteration: int


@dataclass(frozen=True, slots=True)
class PosteriorSolver:
    """Finds the posterior of rows: see :class:`als_spark.solve.solver.RowSolver`.

    What it returns as factors are posterior rows, float64, and as loss the sum of their squared
    errors. ``draw`` is needed to sample.
    """

    columns: Columns
    fixed: FixedSide
    priors: RowPriors
    draw: Draw | None = None

    def solve(self, block: RatingBlock, *, side: Side) -> tuple[FloatArray, float]:
        """Find the posterior of every row of a block."""
        solved = np.empty((block.n_rows, self.columns.total))
        for run_rows, sums in self._sums(block):
            solved[run_rows] = self._posterior(sums, block.rows[run_rows], side)
        return solved, float(self.columns.errors(solved).sum())

    def accumulate(self, block: RatingBlock) -> RowSums:
        """Sum the equations of rows whose other ratings are in other blocks."""
        size = self.columns.size
        total = RowSums(np.empty((block.n_rows, size + 1, size)), np.empty(block.n_rows))
        for run_rows, sums in self._sums(block):
            total.stacks[run_rows], total.squares[run_rows] = sums
        return total

    def solve_sums(
        self,
        sums: RowSums,
        rows: IntArray,
        degrees: IntArray,  # noqa: ARG002
        *,
        side: Side,
    ) -> tuple[FloatArray, float]:
        """Find the posterior of rows whose equations have been summed over all blocks."""
        solved = self._posterior(sums, rows, side)
        return solved, float(self.columns.errors(solved).sum())

    def _sums(self, block: RatingBlock) -> Iterator[tuple[slice, RowSums]]:
        """Sum the equations of a block, a run of rows at a time, in float64."""
        size, fixed = self.columns.size, self.fixed
        workspace = make_workspace(fixed.padded)
        places = workspace.shape[0]
        for run in cut_runs(block, 0, places, least=size):
            indices = block.indices[run.places]
            left = block.ratings[run.places] - fixed.offsets[indices]
            left *= fixed.roots[indices]
            weights = None if block.weights is None else block.weights[run.places]
            roots = None if weights is None else np.sqrt(weights, dtype=np.float64)
            if roots is not None:
                left *= roots
            n_rows = run.rows.stop - run.rows.start
            stack = np.zeros((n_rows, size + 1, size))
            squares = np.empty(n_rows)
            row = place = 0
            for n, width in run.segments:
                end = place + n * width
                # A row longer than the workspace is summed in pieces; it is a run of its own.
                step = width if n * width <= places else places
                for first in range(place, end, n * step):
                    part = slice(first, min(first + n * step, end))
                    known = gather(fixed.padded, indices[part], workspace)
                    if roots is not None:
                        known *= roots[part, None]
                    known[:, -1] = left[part]
                    known = known.reshape(n, -1, size + 1)
                    product = np.empty((n, size + 1, size), known.dtype)
                    multiply(known, product)
                    stack[row : row + n] += product
                own = left[place:end].reshape(n, width)
                squares[row : row + n] = row_dots(own, own)
                row += n
                place = end
            if fixed.spreads is not None:
                self._add_spreads(stack, squares, indices, weights, run.segments)
            yield run.rows, RowSums(stack, squares)

    def _add_spreads(
        self,
        stack: FloatArray,
        squares: FloatArray,
        indices: IntArray,
        weights: FloatArray | None,
        segments: list[tuple[int, int]],
    ) -> None:
        """Add to the sums what comes of the covariances of the other side."""
        spreads, size = self.fixed.spreads, self.columns.size
        assert spreads is not None
        widths = np.concatenate([np.full(n, width) for n, width in segments])
        starts = np.concatenate([[0], np.cumsum(widths)])
        chosen = sparse.csr_array(
            (np.ones(indices.size) if weights is None else weights, indices, starts),
            shape=(widths.size, spreads.shape[0]),
        )
        added = unpack(chosen @ spreads, size)
        stack[:, 1:size, 1:] += added[:, 1:, 1:]
        stack[:, size, 1:] -= added[:, 0, 1:]
        squares += added[:, 0, 0]

    def _posterior(self, sums: RowSums, rows: IntArray, side: Side) -> FloatArray:
        """Solve the systems of rows: (n_rows, columns of the table) posterior rows."""
        size, priors = self.columns.size, self.priors
        rhs = sums.stacks[:, size]
        noise, weights = priors.noise[rows], priors.weights[rows]
        # Of the sums, and so of the systems, the lower triangles are promised: all that is read.
        system = noise[:, None, None] * sums.stacks[:, :size]
        system += weights[:, None, None] * priors.precision
        target = noise[:, None] * rhs
        target += weights[:, None] * (priors.means[rows] @ priors.precision)
        lower = self._roots(system, rows, side)
        half = forward(lower, target)
        if self.columns.kind == "sample":
            assert self.draw is not None
            seed, iteration = self.draw.seed, self.draw.iteration
            half += normals(rows, size, seed=seed, iteration=iteration, side=side)
        x = backward(lower, half)
        solved = np.empty((rows.size, self.columns.total))
        self.columns.means(solved)[:] = x
        # half is now Lᵀ x with L Lᵀ = A, so that its square is xᵀ A x, prior included.
        squares = row_dots(half, half) - weights * row_dots(x @ priors.precision, x)
        if self.columns.kind == "variational":
            covariances = np.linalg.inv(lower @ lower.transpose(0, 2, 1))
            self.columns.packed(solved)[:] = pack(covariances)
            own = np.einsum("nij,ij->n", covariances, priors.precision)
            squares += size - weights * own
        errors = sums.squares - 2.0 * row_dots(x, rhs) + squares / noise
        self.columns.errors(solved)[:] = np.maximum(errors, 0.0)
        diagonal = np.einsum("nii->ni", lower)
        self.columns.log_dets(solved)[:] = -2.0 * np.log(diagonal).sum(axis=1)
        return solved

    def _roots(self, system: FloatArray, rows: IntArray, side: Side) -> FloatArray:
        """Return the Cholesky factors of systems; SolveError names the first that has none."""
        try:
            lower: FloatArray = np.linalg.cholesky(system)
        except np.linalg.LinAlgError:
            lower = np.full_like(system, np.nan)
        if np.isfinite(lower).all():
            return lower
        for row, matrix in zip(rows.tolist(), system, strict=True):
            try:
                usable = bool(np.isfinite(np.linalg.cholesky(matrix)).all())
            except np.linalg.LinAlgError:
                usable = False
            if not usable:
                raise SolveError(side, row, float(self.priors.precision[-1, -1]))
        return lower


def forward(lower: FloatArray, rhs: FloatArray) -> FloatArray:
    """Solve L y = h for a stack of lower triangular matrices, side by side."""
    y = np.empty_like(rhs)
    for k in range(rhs.shape[1]):
        known = np.einsum("nj,nj->n", lower[:, k, :k], y[:, :k])
        y[:, k] = (rhs[:, k] - known) / lower[:, k, k]
    return y


def backward(lower: FloatArray, rhs: FloatArray) -> FloatArray:
    """Solve Lᵀ x = y for a stack of lower triangular matrices, side by side."""
    x = np.empty_like(rhs)
    for k in range(rhs.shape[1] - 1, -1, -1):
        known = np.einsum("nj,nj->n", lower[:, k + 1 :, k], x[:, k + 1 :])
        x[:, k] = (rhs[:, k] - known) / lower[:, k, k]
    return x
