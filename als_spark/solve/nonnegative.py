"""Stacks of small nonnegative least squares problems, solved exactly.

For a symmetric positive definite A, min xᵀA x − 2 b·x over x ≥ 0 has one solution, the one that
fulfils the conditions of Karush, Kuhn and Tucker: with y = A x − b,

    x ≥ 0,   y ≥ 0,   x_i y_i = 0

Block principal pivoting (Kim and Park 2011, "Fast Nonnegative Matrix Factorization: An Active-Set-
like Method and Comparisons", algorithm 1) looks for the *passive* places, those where x may differ
from 0: it solves for these, and exchanges all places that break a condition. Where the number of
such places does not fall in three exchanges, only the last of them is exchanged until it does,
which ends after finitely many steps. A bound on the steps guards against rounding; problems that
reach it go to the active-set method of Lawson and Hanson, one by one, in float64.

All problems of a stack take a step together. Those that are solved leave.

Where A = VᵀV + w I and b = Vᵀr for fewer ratings r than places, a step has a dual form as the plain
ridge has: with V_P the columns of passive places, (V_P V_Pᵀ + w I) y = r and z = Vᵀ y, x is z at
the passive places, and the derivative at the others is −w z.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from als_spark.solve.gram import add_to_diagonals, multiply_dual
from als_spark.solve.linalg import fill_lower_triangles, solve_spd_stack
from als_spark.types import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]

FULL_EXCHANGES = 3
"""Exchanges of all places without progress before one at a time is exchanged."""
MAX_STEPS = 100
"""Steps before a problem goes to the method of Lawson and Hanson."""
CHUNK_ROWS = 128
"""Problems of similar numbers of passive places that are cut out and solved at a time."""


def solve_nonnegative_stack(matrices: FloatArray, rhs: FloatArray) -> None:
    """Solve min xᵀA x − 2 b·x over x ≥ 0 for each of a stack, in place.

    A place is 0 exactly, or its derivative y is 0 to rounding; y is nowhere below 0 by more than
    rounding.

    Parameters
    ----------
    matrices : (n_rows, order, order)
        A of each problem, positive definite, each contiguous; overwritten. Only their upper
        triangles are read.
    rhs : (n_rows, order)
        b of each problem, overwritten with x; NaN where A is not positive definite.
    """
    free = rhs.copy()
    solve_spd_stack(matrices.copy(), free)
    broken = free < 0
    constrained = np.flatnonzero(broken.any(axis=1))
    if constrained.size:
        chosen = matrices[constrained]
        fill_lower_triangles(chosen)
        problems = _Problems(chosen, rhs[constrained])
        free[constrained] = _pivot(problems, broken[constrained])
    rhs[:] = free


def solve_nonnegative_dual(
    known: FloatArray, ratings: FloatArray, weights: FloatArray
) -> FloatArray:
    """Solve min |V x − r|² + w |x|² over x ≥ 0 for each of a stack, by systems of V's height.

    Parameters
    ----------
    known : (n_rows, width, order)
        V of each problem.
    ratings : (n_rows, width)
        r of each problem, of the dtype of ``known``.
    weights : (n_rows,)
        w of each problem, above 0.

    Returns
    -------
    (n_rows, order)
        x; NaN where a system cannot be solved.
    """
    problems = _DualProblems(known, ratings, weights)
    n_rows, _, order = known.shape
    free, broken = problems.step(np.arange(n_rows), np.ones((n_rows, order), bool))
    constrained = np.flatnonzero(broken.any(axis=1))
    if constrained.size:
        chosen = _DualProblems(known[constrained], ratings[constrained], weights[constrained])
        free[constrained] = _pivot(chosen, broken[constrained])
    return free


class _Steps(Protocol):
    """Problems that take a step of the pivoting."""

    def step(self, rows: IntArray, passive: BoolArray) -> tuple[FloatArray, BoolArray]:
        """Solve for the passive places of problems; tell which places break a condition."""
        ...

    def solve_singly(self, row: int) -> FloatArray:
        """Solve one problem by the method of Lawson and Hanson."""
        ...


def _pivot(problems: _Steps, broken: BoolArray) -> FloatArray:
    """Solve problems, of whose solutions with all places passive some places are ``broken``."""
    n_rows, order = broken.shape
    rows, passive = np.arange(n_rows), np.ones((n_rows, order), bool)
    fewest, left = np.full(n_rows, order + 1), np.full(n_rows, FULL_EXCHANGES)
    solution: FloatArray | None = None
    for _ in range(MAX_STEPS):
        n_broken = np.count_nonzero(broken, axis=1)
        better = n_broken < fewest
        fewest = np.where(better, n_broken, fewest)
        left = np.where(better, FULL_EXCHANGES, left - 1)
        stuck = np.flatnonzero(left < 0)
        last = order - 1 - np.argmax(broken[stuck, ::-1], axis=1)
        broken[stuck] = False
        broken[stuck, last] = True
        passive ^= broken
        x, broken = problems.step(rows, passive)
        if solution is None:
            solution = x.copy()
        # What is not finite stays so: there is nothing to exchange.
        going = broken.any(axis=1)
        solution[rows[~going]] = x[~going]
        rows, passive, broken = rows[going], passive[going], broken[going]
        fewest, left = fewest[going], left[going]
        if not rows.size:
            break
    assert solution is not None
    for row in rows.tolist():
        solution[row] = problems.solve_singly(row)
    return solution


class _Problems:
    """Problems whose solutions have places at the bound."""

    def __init__(self, matrices: FloatArray, rhs: FloatArray) -> None:
        self._matrices = matrices
        self._rhs = rhs
        self._roots = np.sqrt(np.einsum("rii->ri", matrices))
        self._precision = rhs.shape[1] * np.finfo(rhs.dtype).eps

    def step(self, rows: IntArray, passive: BoolArray) -> tuple[FloatArray, BoolArray]:
        """See :class:`_Steps`."""
        x = self._solve_passive(rows, passive)
        broken, known = self._broken(rows, passive, x)
        x[~known] = np.nan
        return x, broken

    def solve_singly(self, row: int) -> FloatArray:
        """See :class:`_Steps`."""
        return _lawson_hanson(self._matrices[row], self._rhs[row])

    def _solve_passive(self, rows: IntArray, passive: BoolArray) -> FloatArray:
        """Solve for the passive places of problems; the others are 0."""
        x = np.zeros(passive.shape, self._rhs.dtype)
        n_passive = np.count_nonzero(passive, axis=1)
        by_size = np.argsort(n_passive, kind="stable")
        # Passive places first, in order.
        places = np.argsort(~passive, axis=1, kind="stable")
        for first in range(0, rows.size, CHUNK_ROWS):
            chunk = by_size[first : first + CHUNK_ROWS]
            width = int(n_passive[chunk[-1]])
            if width == 0:
                continue
            at, row = places[chunk, :width], rows[chunk]
            real = np.arange(width) < n_passive[chunk, None]
            matrices = self._matrices[row[:, None, None], at[:, :, None], at[:, None, :]]
            rhs = np.where(real, self._rhs[row[:, None], at], 0)
            # Behind the passive places of a smaller problem: rows of the identity matrix.
            matrices *= real[:, :, None] & real[:, None, :]
            diagonals = np.einsum("rii->ri", matrices)
            diagonals += ~real
            solve_spd_stack(matrices, rhs)
            x[chunk[:, None], at] = rhs
        return x

    def _broken(
        self, rows: IntArray, passive: BoolArray, x: FloatArray
    ) -> tuple[BoolArray, BoolArray]:
        """Tell which places break a condition by more than rounding explains.

        And of which problems that is known: of those whose numbers have not overflowed.
        """
        roots = self._roots[rows]
        y = np.matmul(self._matrices[rows], x[:, :, None])[:, :, 0] - self._rhs[rows]
        # |Σ_j A_ij x_j| ≤ √A_ii Σ_j √A_jj |x_j|, so that is what rounding is relative to.
        slack = self._precision * roots * (roots * np.abs(x)).sum(axis=1, keepdims=True)
        known: BoolArray = np.isfinite(slack).all(axis=1)
        broken: BoolArray = np.where(passive, x < 0, y < -slack) & known[:, None]
        return broken, known


class _DualProblems:
    """Problems of fewer ratings than places."""

    def __init__(self, known: FloatArray, ratings: FloatArray, weights: FloatArray) -> None:
        self._known = known
        self._ratings = ratings
        self._weights = weights.astype(known.dtype)
        squares = np.einsum("rnd,rnd->rd", known, known)
        self._roots = np.sqrt(squares + self._weights[:, None])
        self._precision = known.shape[2] * np.finfo(known.dtype).eps

    def step(self, rows: IntArray, passive: BoolArray) -> tuple[FloatArray, BoolArray]:
        """See :class:`_Steps`."""
        whole = rows.size == self._ratings.shape[0]
        known = self._known if whole else self._known[rows]
        roots, weights = self._roots[rows], self._weights[rows]
        gram = multiply_dual(known * passive[:, None, :])
        add_to_diagonals(gram, weights)
        y = self._ratings[rows]
        solve_spd_stack(gram, y)
        z = np.matmul(y[:, None, :], known)[:, 0]
        x = np.where(passive, z, 0)
        # As in the primal form, whose derivative is w times as large.
        slack = self._precision * roots * (roots * np.abs(x)).sum(axis=1, keepdims=True)
        finite = np.isfinite(slack).all(axis=1)
        x[~finite] = np.nan
        broken: BoolArray = np.where(passive, z < 0, z * weights[:, None] > slack)
        return x, broken & finite[:, None]

    def solve_singly(self, row: int) -> FloatArray:
        """See :class:`_Steps`."""
        known = self._known[row].astype(np.float64)
        ridge = self._weights[row] * np.eye(known.shape[1])
        found = _lawson_hanson(known.T @ known + ridge, known.T @ self._ratings[row])
        return found.astype(self._known.dtype)


def _lawson_hanson(matrix: FloatArray, rhs: FloatArray) -> FloatArray:
    """Solve one problem as the least squares problem Lᵀx ≈ L⁻¹b with A = LLᵀ; NaN if it fails."""
    # Executors rarely need it, and its package takes long to import.
    from scipy.optimize import nnls

    try:
        lower = np.linalg.cholesky(matrix.astype(np.float64))
        target = solve_triangular(lower, rhs.astype(np.float64), lower=True)
        solution: FloatArray = nnls(lower.T, target, maxiter=100 * rhs.size)[0]
    except (np.linalg.LinAlgError, RuntimeError):
        return np.full(rhs.size, np.nan, rhs.dtype)
    return solution.astype(rhs.dtype)
