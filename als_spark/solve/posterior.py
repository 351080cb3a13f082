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
Bayesian Approach to Movie Rating Prediction", equations 10 to 13). ``diagonal`` does the same with
normal distributions whose coordinates are independent: that of the row nearest to the posterior has
its mean, and the variances 1 / A_dd (Bishop 2006, "Pattern Recognition and Machine Learning",
section 10.1.2).

A solved row is an array of numbers, its *posterior row*: x (D), for ``variational`` the lower
triangle of its covariance, row by row (D (D + 1) / 2), for ``diagonal`` its variances (D), the
expected squared error Σ_i t_i E(r_ui − prediction)², and ln det of its covariance. So it goes
through the exchanges as factors do.

Products and systems are in the dtype of the fixed factors (float32 or float64); what is summed
piece by piece, or over blocks, is summed and solved in float64, and so are systems that have no
finite solution in float32. Posterior rows are float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from als_spark.errors import SolveError
from als_spark.solve.blocks import RatingBlock, Run, cut_runs
from als_spark.solve.gram import accumulate, gather, make_workspace, multiply, weigh
from als_spark.solve.linalg import (
    cholesky_stack,
    invert_stack,
    row_dots,
    solve_lower_stack,
    solve_spd_stack,
    solve_upper_stack,
)
from als_spark.solve.philox import normals
from als_spark.solve.solver import RowSums
from als_spark.types import FloatArray, IntArray, Side

Kind = Literal["mean", "sample", "variational", "diagonal"]

DRAWN_ROWS = 256
"""Rows whose random numbers are made at a time: what the second-level cache keeps."""

SUMMED_PLACES = 1 << 18
"""Ratings whose variances are summed at a time: to start that takes as long as some thousands."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the numbers of a posterior row are."""

    size: int
    """D."""
    kind: Kind

    @property
    def n_covariances(self) -> int:
        """Numbers of the covariance: of its lower triangle, its diagonal, or none."""
        numbers = {"variational": self.size * (self.size + 1) // 2, "diagonal": self.size}
        return numbers.get(self.kind, 0)

    @property
    def total(self) -> int:
        """Numbers of a row."""
        return self.size + self.n_covariances + 2

    @property
    def places(self) -> tuple[IntArray, IntArray]:
        """Row and column, in the covariance, of each of its numbers."""
        return covariance_places(self.size, self.n_covariances)

    def means(self, table: FloatArray) -> FloatArray:
        """(n_rows, D) x: its mean, or the draw."""
        return table[:, : self.size]

    def packed(self, table: FloatArray) -> FloatArray:
        """(n_rows, D (D + 1) / 2) lower triangles of the covariances, or (n_rows, D) diagonals."""
        return table[:, self.size : -2]

    def pack(self, matrices: FloatArray) -> FloatArray:
        """Return (n, D, D) covariances as rows have them: (n, numbers of the covariance)."""
        first, second = self.places
        return np.ascontiguousarray(matrices[:, first, second])

    def errors(self, table: FloatArray) -> FloatArray:
        """(n_rows,) expected squared errors, weighted by the t of the other side."""
        return table[:, -2]

    def log_dets(self, table: FloatArray) -> FloatArray:
        """(n_rows,) ln det of the covariances; 0 where there are none."""
        return table[:, -1]


def pack(matrices: FloatArray) -> FloatArray:
    """Return the lower triangles of (n, D, D) matrices, row by row."""
    lower = np.tril_indices(matrices.shape[1])
    return np.ascontiguousarray(matrices[:, lower[0], lower[1]])


def packed_sizes(size: int) -> tuple[int, int]:
    """How many numbers a packed (D, D) covariance may have: those of its diagonal, or all."""
    return size, size * (size + 1) // 2


def covariance_places(size: int, n_numbers: int) -> tuple[IntArray, IntArray]:
    """Return row and column of each number of a packed (D, D) covariance.

    ``n_numbers`` tells a lower triangle from a diagonal: D is at least 2.
    """
    if n_numbers == size:
        return np.arange(size), np.arange(size)
    rows, columns = np.tril_indices(size)
    return rows, columns


def unpack(packed: FloatArray, size: int) -> FloatArray:
    """Return the (n, D, D) symmetric matrices of lower triangles, or of diagonals."""
    rows, columns = covariance_places(size, packed.shape[1])
    full = np.zeros((packed.shape[0], size, size), packed.dtype)
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
    spreads : (n_columns + 1, D (D + 1) / 2) or (n_columns + 1, D) float64, or None
        Covariances, or variances, times t.
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
    weights: FloatArray | None
    """None: all are 1."""
    noise: FloatArray

    def times_precision(self, vectors: FloatArray, rows: IntArray) -> FloatArray:
        """Multiply (n, D) vectors of some rows by g L of each."""
        products: FloatArray = vectors @ self.precision
        if self.weights is not None:
            products *= self.weights[rows][:, None]
        return products


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
        self._solve_block(solved, block, side)
        if self.fixed.padded.dtype != np.float64 and not np.isfinite(solved.sum()):
            self._exact()._solve_block(solved, block, side)
        self._check(solved, block.rows, side)
        return solved, float(self.columns.errors(solved).sum())

    def accumulate(self, block: RatingBlock) -> RowSums:
        """Sum the equations of rows whose other ratings are in other blocks."""
        size = self.columns.size
        total = RowSums(np.empty((block.n_rows, size + 1, size)), np.empty(block.n_rows))
        with np.errstate(over="ignore", invalid="ignore"):
            self._accumulate_into(total, block)
            read = np.einsum("rii->", total.stacks[:, :size]) + total.stacks[:, size].sum()
            if self.fixed.padded.dtype != np.float64 and not np.isfinite(read):
                self._exact()._accumulate_into(total, block)
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
        solved = np.empty((rows.size, self.columns.total))
        self._put_draws(solved, rows, side)
        with np.errstate(over="ignore", invalid="ignore"):
            self._solve_into(solved, RowSums(sums.stacks.copy(), sums.squares), rows)
        self._check(solved, rows, side)
        return solved, float(self.columns.errors(solved).sum())

    def _exact(self) -> PosteriorSolver:
        """Return the solver of the same rows in float64."""
        padded = self.fixed.padded.astype(np.float64)
        return replace(self, fixed=replace(self.fixed, padded=padded))

    def _check(self, solved: FloatArray, rows: IntArray, side: Side) -> None:
        """Raise SolveError, which names the first row that is not finite."""
        if np.isfinite(solved.sum()):
            return
        bad = np.flatnonzero(~np.isfinite(solved).all(axis=1))
        if bad.size:
            raise SolveError(side, int(rows[bad[0]]), float(self.priors.precision[-1, -1]))

    def _solve_block(self, solved: FloatArray, block: RatingBlock, side: Side) -> None:
        """Solve all rows; what overflows, or has no solution, comes out as NaN."""
        self._put_draws(solved, block.rows, side)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for run, sums in self._sums(block):
                self._solve_into(solved[run.rows], sums, block.rows[run.rows])

    def _accumulate_into(self, total: RowSums, block: RatingBlock) -> None:
        for run, sums in self._sums(block):
            total.stacks[run.rows], total.squares[run.rows] = sums

    def _put_draws(self, solved: FloatArray, rows: IntArray, side: Side) -> None:
        """Put the random numbers of rows where their x will be, if samples are drawn."""
        if self.columns.kind != "sample":
            return
        assert self.draw is not None
        seed, iteration = self.draw.seed, self.draw.iteration
        x = self.columns.means(solved)
        for first in range(0, rows.size, DRAWN_ROWS):
            part = slice(first, first + DRAWN_ROWS)
            x[part] = normals(rows[part], x.shape[1], seed=seed, iteration=iteration, side=side)

    def _sums(self, block: RatingBlock) -> Iterator[tuple[Run, RowSums]]:
        """Sum the equations of a block, a run of rows at a time."""
        workspace = make_workspace(self.fixed.padded)
        variances = self._sum_variances(block)
        # A row's system takes as much memory as D ratings.
        for run in cut_runs(block, 0, workspace.shape[0], least=self.columns.size):
            indices = block.indices[run.places]
            weights = None if block.weights is None else block.weights[run.places]
            left = block.ratings[run.places] - self.fixed.offsets.take(indices, mode="clip")
            left *= self.fixed.roots.take(indices, mode="clip")
            stack = self._multiply_run(run, indices, left, weights, workspace)
            if weights is not None:
                left *= np.sqrt(weights, dtype=np.float64)
            squares = np.empty(stack.shape[0])
            row = place = 0
            for n, width in run.segments:
                own = left[place : place + n * width].reshape(n, width)
                squares[row : row + n] = row_dots(own, own)
                row += n
                place += n * width
            sums = RowSums(stack, squares)
            if self.columns.kind == "diagonal":
                self._add_spreads(sums, variances[run.rows])
            elif self.fixed.spreads is not None:
                self._add_spreads(sums, self._sum_spreads(block, run))
            yield run, sums

    def _multiply_run(
        self,
        run: Run,
        indices: IntArray,
        left: FloatArray,
        weights: FloatArray | None,
        workspace: FloatArray,
    ) -> FloatArray:
        """Return the (n_rows, D + 1, D) products of a run; ``left`` is without the weights."""
        size, padded = self.columns.size, self.fixed.padded
        if indices.size > workspace.shape[0]:
            # A row longer than the workspace is a run of its own, summed in pieces.
            whole = accumulate(indices, left, padded, workspace, padded.dtype, _enter, weights)
            return whole[None]
        known = gather(padded, indices, workspace)
        _enter(known, left)
        if weights is not None:
            weigh(known, weights)
        stack = np.empty((run.rows.stop - run.rows.start, size + 1, size), padded.dtype)
        row = place = 0
        for n, width in run.segments:
            part = known[place : place + n * width].reshape(n, width, size + 1)
            multiply(part, stack[row : row + n])
            row += n
            place += n * width
        return stack

    def _sum_variances(self, block: RatingBlock) -> FloatArray:
        """(n_rows, D) sums of the variances of the other side; nothing of other kinds."""
        if self.columns.kind != "diagonal":
            return np.empty((block.n_rows, 0))
        summed = np.empty((block.n_rows, self.columns.size))
        for run in cut_runs(block, 0, SUMMED_PLACES):
            summed[run.rows] = self._sum_spreads(block, run)
        return summed

    def _sum_spreads(self, block: RatingBlock, run: Run) -> FloatArray:
        """Sum, over the ratings of each row of a run, the covariances of the other side."""
        spreads = self.fixed.spreads
        assert spreads is not None
        weights = np.ones(run.places.stop - run.places.start)
        if block.weights is not None:
            weights = block.weights[run.places]
        rows, widths = zip(*run.segments, strict=True)
        starts = np.concatenate([[0], np.cumsum(np.repeat(widths, rows))]).astype(np.int32)
        chosen = sparse.csr_array(
            (weights, block.indices[run.places], starts), shape=(starts.size - 1, spreads.shape[0])
        )
        summed: FloatArray = chosen @ spreads
        return summed

    def _add_spreads(self, sums: RowSums, summed: FloatArray) -> None:
        """Add to the sums what comes of the covariances of the other side."""
        size = self.columns.size
        if self.columns.kind == "diagonal":
            diagonals = np.einsum("nii->ni", sums.stacks[:, :size])
            diagonals[:, 1:] += summed[:, 1:]
            sums.squares[:] += summed[:, 0]
            return
        added = unpack(summed, size)
        sums.stacks[:, 1:size, 1:] += added[:, 1:, 1:]
        sums.stacks[:, size, 1:] -= added[:, 0, 1:]
        sums.squares[:] += added[:, 0, 0]

    def _solve_into(self, solved: FloatArray, sums: RowSums, rows: IntArray) -> None:
        """Solve the systems of rows, in the dtype of the sums, which are overwritten.

        ``solved`` (n_rows, columns of the table) takes the posterior rows. It comes with the random
        numbers, if samples are drawn, in the place of x.
        """
        columns, size, priors = self.columns, self.columns.size, self.priors
        noise = priors.noise[rows]
        # Of the sums, and so of the systems, the lower triangles are promised: all that is read.
        system, rhs = sums.stacks[:, :size], sums.stacks[:, size].astype(np.float64)
        system *= noise.astype(system.dtype)[:, None, None]
        precision = priors.precision.astype(system.dtype)
        if priors.weights is not None:
            precision = priors.weights[rows].astype(system.dtype)[:, None, None] * precision
        system += precision
        target = noise[:, None] * rhs + priors.times_precision(priors.means[rows], rows)
        x = columns.means(solved)
        columns.log_dets(solved)[:] = 0.0
        if columns.kind == "sample":
            squares = _draw(system, target, x)
        elif columns.kind == "mean":
            squares = _solve(system, target, x)
        else:
            squares = self._moments(solved, system, target, rows)
        # Of E xᵀ A x the ratings have what the prior has not.
        squares -= row_dots(priors.times_precision(x, rows), x)
        errors = sums.squares - 2.0 * row_dots(x, rhs) + squares / noise
        columns.errors(solved)[:] = np.maximum(errors, 0.0)

    def _moments(
        self, solved: FloatArray, system: FloatArray, target: FloatArray, rows: IntArray
    ) -> FloatArray:
        """Put means, covariances and their ln det into posterior rows.

        Returns (n_rows,) float64 E xᵀ A x without tr(g L S), S the covariance.
        """
        columns, precision = self.columns, self.priors.precision
        x, packed = columns.means(solved), columns.packed(solved)
        if columns.kind == "diagonal":
            diagonals = np.einsum("nii->ni", system).astype(np.float64)
            squares = _solve(system, target, x)
            np.divide(1.0, diagonals, out=packed)
            logs, twice = -np.log(diagonals), np.diag(precision)
        else:
            squares = _solve_by_root(system, target, x)
            logs = -2.0 * np.log(np.einsum("nii->ni", system), dtype=np.float64)
            invert_stack(system)
            packed[:] = pack(system)
            twice = pack(2.0 * precision[None] - np.diag(np.diag(precision)))[0]
        columns.log_dets(solved)[:] = logs.sum(axis=1)
        own = packed @ twice
        if self.priors.weights is not None:
            own *= self.priors.weights[rows]
        squares += columns.size - own
        return squares


def _enter(known: FloatArray, left: FloatArray) -> None:
    """Enter what is left of the ratings as the last column."""
    known[:, -1] = left


def _solve(system: FloatArray, target: FloatArray, x: FloatArray) -> FloatArray:
    """Put A⁻¹ h into x; return xᵀ A x of each row. The systems are overwritten."""
    solution = target.astype(system.dtype)
    solve_spd_stack(system, solution)
    x[:] = solution
    return row_dots(x, target)


def _solve_by_root(system: FloatArray, target: FloatArray, x: FloatArray) -> FloatArray:
    """Do as :func:`_solve`, and leave the Cholesky factors in the place of the systems."""
    solution = target.astype(system.dtype)
    cholesky_stack(system)
    solve_lower_stack(system, solution)
    solve_upper_stack(system, solution)
    x[:] = solution
    return row_dots(x, target)


def _draw(system: FloatArray, target: FloatArray, x: FloatArray) -> FloatArray:
    """Put A⁻¹ h + L⁻ᵀ e, L Lᵀ = A, into x, which has e; return xᵀ A x of each row."""
    half = target.astype(system.dtype)
    cholesky_stack(system)
    solve_lower_stack(system, half)
    half += x
    # Now Lᵀ x.
    squares = row_dots(half, half)
    solve_upper_stack(system, half)
    x[:] = half
    return squares
