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
finite solution in float32. Posterior rows are of that dtype, too; float64 where they do not fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from als_spark.errors import SolveError
from als_spark.solve.blocks import RatingBlock, Run, cut_pieces, cut_runs
from als_spark.solve.gram import accumulate, gather, make_workspace, multiply, weigh
from als_spark.solve.linalg import (
    factor_and_solve_stack,
    invert_stack,
    row_dots,
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
PIECE = 1 << 12
"""Ratings of a row whose covariances are summed in the dtype of the fixed factors."""


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
        """Return (n, D, D) covariances as rows have them: (n, numbers of the covariance).

        Only their upper triangles are read.
        """
        first, second = self.places
        return np.ascontiguousarray(matrices[:, second, first])

    def errors(self, table: FloatArray) -> FloatArray:
        """(n_rows,) expected squared errors, weighted by the t of the other side."""
        return table[:, -2]

    def log_dets(self, table: FloatArray) -> FloatArray:
        """(n_rows,) ln det of the covariances; 0 where there are none."""
        return table[:, -1]


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
        √t (c, 1, v); the last row is of zeros. The place of c then takes what is left of a rating.
    mean : float
        m.
    spreads : (n_columns + 1, D (D + 1) / 2) or (n_columns + 1, D), or None
        Covariances, or variances, times t.
    """

    padded: FloatArray
    mean: float
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
        roots = np.sqrt(scales)[:, None]
        padded = np.zeros((n + 1, size + 1), dtype)
        np.multiply(means[:, :1], roots, out=padded[:-1, :1], casting="same_kind")
        padded[:-1, 1:2] = roots
        np.multiply(means[:, 1:], roots, out=padded[:-1, 2:], casting="same_kind")
        spreads = None
        if columns.n_covariances:
            spreads = np.zeros((n + 1, columns.n_covariances), dtype)
            packed = columns.packed(table)
            np.multiply(packed, scales[:, None], out=spreads[:-1], casting="same_kind")
        return FixedSide(padded, mean, spreads)

    def exact(self) -> FixedSide:
        """Return the same in float64."""
        spreads = None if self.spreads is None else self.spreads.astype(np.float64)
        return FixedSide(self.padded.astype(np.float64), self.mean, spreads)

    def enter(self, known: FloatArray, ratings: FloatArray) -> None:
        """Put √t (r − m − c) in the place of √t c of gathered rows."""
        left = np.subtract(ratings, self.mean, dtype=known.dtype)
        left *= known[:, 1]
        np.subtract(left, known[:, 0], out=known[:, 0])


@dataclass(frozen=True, slots=True)
class RowPriors:
    """What is known of rows before their ratings: x ~ N(p, (g L)⁻¹), and how noisy they are.

    ``means`` (n_rows, D) has p, or (1, D) that of all rows; ``precision`` (D, D) is L, ``weights``
    (n_rows,) has g, ``noise`` (n_rows,) a t.
    """

    means: FloatArray
    precision: FloatArray
    weights: FloatArray | None
    """None: all are 1."""
    noise: FloatArray

    def means_of(self, rows: IntArray) -> FloatArray:
        """Return (n, D) p of some rows."""
        return self.means[rows if self.means.shape[0] > 1 else np.zeros_like(rows)]

    def times_precision(self, vectors: FloatArray, rows: IntArray) -> FloatArray:
        """Multiply (n, D) vectors of some rows by g L of each."""
        products: FloatArray = vectors @ self.precision
        if self.weights is not None:
            products = products * self.weights[rows][:, None]
        return products


@dataclass(frozen=True, slots=True)
class Draw:
    """Which random numbers a half-step takes: see :func:`als_spark.solve.philox.normals`."""

    seed: int
    iteration: int

    def normals(self, rows: IntArray, n: int, side: Side) -> FloatArray:
        """Return (n_rows, n) random numbers of rows."""
        return normals(rows, n, seed=self.seed, iteration=self.iteration, side=side)


@dataclass(frozen=True, slots=True)
class PosteriorSolver:
    """Finds the posterior of rows: see :class:`als_spark.solve.solver.RowSolver`.

    What it returns as factors are posterior rows, and as loss the sum of their squared errors.
    ``draw`` is needed to sample.
    """

    columns: Columns
    fixed: FixedSide
    priors: RowPriors
    draw: Draw | None = None

    def solve(self, block: RatingBlock, *, side: Side) -> tuple[FloatArray, float]:
        """Find the posterior of every row of a block."""
        solved = self._solve_block(block, side)
        if self.fixed.padded.dtype != np.float64 and not np.isfinite(solved.sum()):
            solved = self._exact()._solve_block(block, side)
        return self._finished(solved, block.rows, side)

    def accumulate(self, block: RatingBlock) -> RowSums:
        """Sum the equations of rows whose other ratings are in other blocks."""
        size = self.columns.size
        total = RowSums(np.empty((block.n_rows, size + 1, size)), np.empty(block.n_rows))
        with np.errstate(over="ignore", invalid="ignore"):
            self._accumulate_into(total, block)
            read = np.einsum("rii->", total.stacks[:, 1:]) + total.stacks[:, 0].sum()
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
        systems = _Systems(self, rows, side)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            systems.solve(slice(None), sums.stacks.copy())
            solved = systems.finish(sums.squares)
        return self._finished(solved, rows, side)

    def _exact(self) -> PosteriorSolver:
        """Return the solver of the same rows in float64."""
        return replace(self, fixed=self.fixed.exact())

    def _finished(self, solved: FloatArray, rows: IntArray, side: Side) -> tuple[FloatArray, float]:
        """Return rows in the dtype of the fixed factors, if they fit, and their squared errors.

        SolveError names the first row that is not finite.
        """
        if not np.isfinite(solved.sum()):
            bad = np.flatnonzero(~np.isfinite(solved).all(axis=1))
            if bad.size:
                raise SolveError(side, int(rows[bad[0]]), float(self.priors.precision[-1, -1]))
        with np.errstate(over="ignore", invalid="ignore"):
            cast = solved.astype(self.fixed.padded.dtype, copy=False)
            fits = np.isfinite(cast.sum(dtype=np.float64))
        return cast if fits else solved, float(self.columns.errors(solved).sum())

    def _solve_block(self, block: RatingBlock, side: Side) -> FloatArray:
        """Solve all rows; what overflows, or has no solution, comes out as NaN."""
        systems, squares = _Systems(self, block.rows, side), np.empty(block.n_rows)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for run, stack in self._stacks(block, squares):
                systems.solve(run.rows, stack)
            return systems.finish(squares)

    def _accumulate_into(self, total: RowSums, block: RatingBlock) -> None:
        for run, stack in self._stacks(block, total.squares):
            total.stacks[run.rows] = stack

    def _stacks(self, block: RatingBlock, squares: FloatArray) -> Iterator[tuple[Run, FloatArray]]:
        """Sum the equations of a block, a run of rows at a time: (n_rows, D + 1, D) of each.

        ``squares`` (n_rows of the block,) float64 takes the expected squares of what is left of the
        ratings.
        """
        workspace, size = make_workspace(self.fixed.padded), self.columns.size
        variances = self._sum_variances(block)
        # A row's system takes as much memory as D ratings.
        for run in cut_runs(block, 0, workspace.shape[0], least=size):
            stack = self._multiply_run(block, run, workspace, squares[run.rows])
            if self.columns.kind == "diagonal":
                own = variances[run.rows]
                np.einsum("nii->ni", stack[:, 1:])[:, 1:] += own[:, 1:]
                squares[run.rows] += own[:, 0]
            elif self.fixed.spreads is not None:
                self._add_spreads(stack, squares[run.rows], self._sum_spreads(block, run))
            yield run, stack

    def _multiply_run(
        self, block: RatingBlock, run: Run, workspace: FloatArray, squares: FloatArray
    ) -> FloatArray:
        """Return the (n_rows, D + 1, D) products of a run; ``squares`` (n_rows,) take r²."""
        size, padded = self.columns.size, self.fixed.padded
        indices, ratings = block.indices[run.places], block.ratings[run.places]
        weights = None if block.weights is None else block.weights[run.places]
        if indices.size > workspace.shape[0]:
            # A row longer than the workspace is a run of its own, summed in pieces.
            squares[:] = 0.0

            def add_squares(known: FloatArray) -> None:
                left = known[:, 0].astype(np.float64)
                squares[0] += left @ left

            whole = accumulate(
                *(indices, ratings, padded, workspace, padded.dtype, self.fixed.enter, weights),
                seen=add_squares,
            )
            return whole[None]
        known = gather(padded, indices, workspace)
        self.fixed.enter(known, ratings)
        if weights is not None:
            weigh(known, weights)
        left = known[:, 0].astype(np.float64)
        left *= left
        stack = np.empty((squares.size, size + 1, size), padded.dtype)
        row = place = 0
        for n, width in run.segments:
            rows, places = slice(row, row + n), slice(place, place + n * width)
            multiply(known[places].reshape(n, width, size + 1), stack[rows])
            squares[rows] = left[places].reshape(n, width).sum(axis=1)
            row, place = rows.stop, places.stop
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
        if block.weights is None:
            weights = np.ones(run.places.stop - run.places.start, spreads.dtype)
        else:
            weights = block.weights[run.places].astype(spreads.dtype, copy=False)
        rows, widths = (np.array(numbers) for numbers in zip(*run.segments, strict=True))
        starts, firsts = cut_pieces(np.repeat(widths, rows), PIECE)
        chosen = sparse.csr_array(
            (weights, block.indices[run.places], starts), shape=(starts.size - 1, spreads.shape[0])
        )
        summed: FloatArray = chosen @ spreads
        if firsts.size < summed.shape[0]:
            summed = np.add.reduceat(summed, firsts, axis=0, dtype=np.float64)
        return summed

    def _add_spreads(self, stack: FloatArray, squares: FloatArray, summed: FloatArray) -> None:
        """Add to the sums of a run what comes of the covariances of the other side."""
        size = self.columns.size
        added = unpack(summed, size)
        stack[:, 0, 1:] -= added[:, 0, 1:]
        stack[:, 2:, 1:] += added[:, 1:, 1:]
        squares += added[:, 0, 0]


class _Systems:
    """The systems of some rows, solved a run at a time, and what is found of the rows.

    Parameters
    ----------
    solver : PosteriorSolver
    rows : (n_rows,) int
        Dense indices.
    side : {"user", "item"}
        Of the rows.
    """

    def __init__(self, solver: PosteriorSolver, rows: IntArray, side: Side) -> None:
        self._columns, self._priors, self._rows = solver.columns, solver.priors, rows
        n, size, kind = rows.size, solver.columns.size, solver.columns.kind
        self._noise = solver.priors.noise[rows]
        self._means = solver.priors.means_of(rows)
        self._prior = solver.priors.times_precision(self._means, rows)
        self._rhs = np.empty((n, size))
        self._solved = np.zeros((n, solver.columns.total))
        # Of E xᵀ A x, what is not x·h.
        self._more = np.zeros(n)
        self._diagonals = np.empty((n, size)) if solver.columns.n_covariances else None
        if kind == "sample":
            assert solver.draw is not None
            draw, x = solver.draw, solver.columns.means(self._solved)
            for first in range(0, n, DRAWN_ROWS):
                own = slice(first, first + DRAWN_ROWS)
                x[own] = draw.normals(rows[own], size, side)
            self._more[:] = row_dots(x, x)

    def solve(self, part: slice, stack: FloatArray) -> None:
        """Solve the systems of a part of the rows, in the dtype of the sums, and overwrite these.

        ``stack`` (n, D + 1, D) has the sums over the ratings; of them, and so of the systems, the
        upper triangles are promised: all that is read.
        """
        columns = self._columns
        self._rhs[part] = stack[:, 0]
        system = stack[:, 1:]
        noise = self._noise[part]
        system *= noise.astype(system.dtype)[:, None, None]
        precision = self._priors.precision.astype(system.dtype)
        if self._priors.weights is not None:
            weights = self._priors.weights[self._rows[part]].astype(system.dtype)
            precision = weights[:, None, None] * precision
        system += precision
        target = noise[:, None] * self._rhs[part] + self._prior[part]
        solution = target.astype(system.dtype)
        solved = self._solved[part]
        x = columns.means(solved)
        if columns.kind == "sample":
            factor_and_solve_stack(system, solution)
            drawn = x.astype(system.dtype)
            solve_upper_stack(system, drawn)
            self._more[part] += row_dots(drawn, target)
            solution += drawn
        elif columns.kind == "variational":
            factor_and_solve_stack(system, solution)
            assert self._diagonals is not None
            self._diagonals[part] = np.einsum("nii->ni", system)
            invert_stack(system)
            columns.packed(solved)[:] = columns.pack(system)
        else:
            if self._diagonals is not None:
                self._diagonals[part] = np.einsum("nii->ni", system)
            solve_spd_stack(system, solution)
        x[:] = solution

    def finish(self, squares: FloatArray) -> FloatArray:
        """Return the posterior rows, given the expected squares of what is left of the ratings."""
        columns, solved, rows = self._columns, self._solved, self._rows
        x, more = columns.means(solved), self._more
        if self._diagonals is not None:
            more += columns.size
            precision, logs = self._priors.precision, np.log(self._diagonals).sum(axis=1)
            if columns.kind == "diagonal":
                np.divide(1.0, self._diagonals, out=columns.packed(solved))
                columns.log_dets(solved)[:], traces = -logs, np.diag(precision)
            else:
                columns.log_dets(solved)[:] = -2.0 * logs
                traces = columns.pack(2.0 * precision[None] - np.diag(np.diag(precision)))[0]
            own = columns.packed(solved) @ traces
            if self._priors.weights is not None:
                own *= self._priors.weights[rows]
            more -= own
        # Of E xᵀ A x the ratings have what the prior has not.
        more += row_dots(self._priors.times_precision(self._means - x, rows), x)
        errors = squares - row_dots(x, self._rhs) + more / self._noise
        columns.errors(solved)[:] = np.maximum(errors, 0.0)
        return solved
