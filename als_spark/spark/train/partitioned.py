"""The backend on Spark: blocks on the executors, a half-step a Spark job.

Ratings are partitioned twice, by user and by item (see :mod:`als_spark.spark.prepare.pack`). A
half-step broadcasts the fixed factors of all models that are still running; each task reads its
block once, slice by slice, solves the rows of every model inside ``mapPartitions`` with NumPy, and
returns them; the driver puts the rows in their places. Of shared rows the tasks return normal
equations, which the driver sums and solves: there are at most as many such rows as blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from pyspark import RDD, Broadcast, SparkContext

from als_spark.errors import SolveError
from als_spark.solve.rows import (
    accumulate_rows,
    pad_factors,
    ridge_weights,
    solve_normal_equations,
    solve_padded,
)
from als_spark.spark.planner import group_models
from als_spark.spark.prepare.slices import SliceNumber, TrainSlice
from als_spark.spark.session import broadcasted, described
from als_spark.spark.worker import prepare_worker
from als_spark.train.backend import Factors, HalfStep, Solved
from als_spark.train.metrics import ErrorSums, EvaluationPart, SideStats, train_errors
from als_spark.types import SIDES, FloatArray, IntArray, Side, SplitName


class Task(NamedTuple):
    """What an executor needs to know of one model's half-step: scalars and one array."""

    padded: FloatArray
    """Fixed factors, from :func:`als_spark.solve.rows.pad_factors`."""
    reg: float
    exponent: float


class SolvedSlice(NamedTuple):
    """One slice's share of a half-step."""

    number: SliceNumber
    factors: list[FloatArray]
    """(n_rows_of_the_slice, rank) for each model."""
    losses: list[float]


class SharedSums(NamedTuple):
    """What one slice adds to the normal equations of shared rows."""

    number: SliceNumber
    rows: IntArray
    sums: list[tuple[FloatArray, FloatArray]]
    """From :func:`als_spark.solve.rows.accumulate_rows`, for each model."""


class SparkBackend:
    """Training ratings as an RDD of slices of blocks, held-out ratings as one of evaluation parts.

    Parameters
    ----------
    context : SparkContext
    slices : RDD of TrainSlice
        Persisted; a partition a block, those by user before those by item.
    n_blocks : int
        Blocks of each side.
    rows : mapping of side to mapping of SliceNumber to (n,) int32
        Dense rows of each slice, in the order of its factors; shared rows are in none.
    evaluation : RDD of EvaluationPart or None
        Persisted.
    stats : mapping of side to SideStats
    """

    def __init__(
        self,
        context: SparkContext,
        slices: RDD[TrainSlice],
        n_blocks: int,
        rows: Mapping[Side, Mapping[SliceNumber, IntArray]],
        evaluation: RDD[EvaluationPart] | None,
        stats: Mapping[Side, SideStats],
    ) -> None:
        self._context = context
        self._slices = slices
        self._n_blocks = n_blocks
        self._rows = rows
        self._evaluation = evaluation
        self._stats = stats

    def degrees(self, side: Side) -> IntArray:
        """See :class:`als_spark.train.backend.Backend`."""
        return self._stats[side].degrees

    def solve(self, side: Side, steps: Sequence[HalfStep], label: str) -> list[Solved]:
        """Run one half-step of several models: one Spark job, or a few where they are too large."""
        results: list[Solved] = []
        ranks = [step.fixed.shape[1] for step in steps]
        n_fixed, itemsize = steps[0].fixed.shape[0], steps[0].fixed.itemsize
        for group in group_models(n_fixed, ranks, itemsize):
            results += self._solve_group(side, steps[group], label)
        return results

    def errors(self, models: Sequence[Factors], label: str) -> list[Mapping[SplitName, ErrorSums]]:
        """Sum the errors of several models in one Spark job."""
        parts: RDD[Any] = self._slices
        partitions = self._partitions("user")
        if self._evaluation is not None:
            parts = self._context.union([parts, self._evaluation])
            partitions += range(self._slices.getNumPartitions(), parts.getNumPartitions())
        with described(self._context, label), broadcasted(self._context, list(models)) as shared:
            found = self._context.runJob(
                parts, partial(errors_of_partition, models=shared), partitions
            )
        results: list[Mapping[SplitName, ErrorSums]] = []
        for k in range(len(models)):
            by_split: dict[SplitName, list[ErrorSums]] = {}
            for split, sums in found:
                by_split.setdefault(split, []).append(sums[k])
            results.append({split: ErrorSums.total(sums) for split, sums in by_split.items()})
        return results

    def _partitions(self, side: Side) -> list[int]:
        first = SIDES.index(side) * self._n_blocks
        return list(range(first, first + self._n_blocks))

    def _solve_group(self, side: Side, steps: Sequence[HalfStep], label: str) -> list[Solved]:
        tasks = [Task(pad_factors(step.fixed), step.reg, step.exponent) for step in steps]
        with described(self._context, label), broadcasted(self._context, tasks) as broadcast:
            solve = partial(solve_partition, side=side, tasks=broadcast)
            returned = self._context.runJob(self._slices, solve, self._partitions(side))
        solved: list[SolvedSlice] = []
        shared: list[SharedSums] = []
        for part in returned:
            if isinstance(part, SolveError):
                raise part
            if isinstance(part, SharedSums):
                shared.append(part)
            else:
                solved.append(part)
        # In the order of the slices, so that the sums below do not depend on which task ended
        # first.
        solved.sort(key=lambda part: part.number)
        shared.sort(key=lambda part: part.number)
        results = []
        for k, step in enumerate(steps):
            factors = step.current.copy()
            for part in solved:
                factors[self._rows[side][part.number]] = part.factors[k]
            loss = sum(part.losses[k] for part in solved)
            if shared:
                sums = [(part.rows, *part.sums[k]) for part in shared]
                loss += self._solve_shared(side, sums, step, factors)
            results.append(Solved(factors, loss))
        return results

    def _solve_shared(
        self,
        side: Side,
        sums: Sequence[tuple[IntArray, FloatArray, FloatArray]],
        step: HalfStep,
        factors: FloatArray,
    ) -> float:
        """Solve the shared rows of one model into ``factors``; return their part of the loss."""
        rows = np.unique(np.concatenate([part[0] for part in sums]))
        rank = step.fixed.shape[1]
        stacks, squares = np.zeros((rows.size, rank + 1, rank)), np.zeros(rows.size)
        for part_rows, part_stacks, part_squares in sums:
            at = np.searchsorted(rows, part_rows)
            stacks[at] += part_stacks
            squares[at] += part_squares
        weights = ridge_weights(self._stats[side].degrees[rows], step.reg, step.exponent)
        solution, losses = solve_normal_equations(stacks, squares, weights, factors.dtype)
        bad = np.flatnonzero(~np.isfinite(solution).all(axis=1))
        if bad.size:
            raise SolveError(side, int(rows[bad[0]]), step.reg)
        factors[rows] = solution
        return float(losses.sum())


def solve_partition(
    slices: Iterable[TrainSlice], *, side: Side, tasks: Broadcast[list[Task]]
) -> Iterator[SolvedSlice | SharedSums | SolveError]:
    """Solve the rows of a partition's slices for every model: runs on an executor.

    A system without a solution is returned, not raised: it is the user's to mend, and not a failure
    of the executor that Spark should try again.
    """
    prepare_worker()
    models = tasks.value
    for part in slices:
        if part.shared:
            sums = [accumulate_rows(part.ratings, model.padded) for model in models]
            yield SharedSums(part.number, part.ratings.rows, sums)
            continue
        try:
            solved = [
                solve_padded(part.ratings, model.padded, model.reg, model.exponent, side=side)
                for model in models
            ]
        except SolveError as error:
            yield error
            continue
        factors, losses = zip(*solved, strict=True)
        yield SolvedSlice(part.number, list(factors), list(losses))


def errors_of_partition(
    parts: Iterable[TrainSlice | EvaluationPart], *, models: Broadcast[list[Factors]]
) -> Iterator[tuple[SplitName, list[ErrorSums]]]:
    """Sum the errors of every model over a partition's parts: runs on an executor."""
    prepare_worker()
    factors = models.value
    for part in parts:
        if isinstance(part, EvaluationPart):
            yield part.split, [part.errors(users, items) for users, items in factors]
        else:
            sums = [train_errors(part.ratings, users, items) for users, items in factors]
            yield "train", sums
