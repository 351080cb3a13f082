"""What executors do in a half-step, and for error sums, where factors stay in blocks.

A task reads the parts of one block, in this order: what it needs (:class:`Needs`) and the chunks of
fixed factors that have been sent to it, if these are not broadcast; the factor blocks of its own
rows, if these stay; its ratings, slice by slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from als_spark.errors import SolveError
from als_spark.solve.implicit import gram_of_all
from als_spark.solve.linalg import row_dots
from als_spark.solve.objective import Objective
from als_spark.solve.routing import CompactFactors, Needs
from als_spark.solve.solver import RowSolver
from als_spark.spark.shared import HasValue
from als_spark.spark.train.exchange import (
    SharedSums,
    SolvedSlice,
    TrainSlice,
    solve_slices,
)
from als_spark.spark.train.factor_blocks import FactorBlock, Source
from als_spark.spark.worker import prepare_worker
from als_spark.train.metrics import ErrorSums, EvaluationPart
from als_spark.types import FloatArray, IntArray, Side, SplitName


class BlockModel(NamedTuple):
    """What the tasks of a half-step know of a model."""

    objective: Objective
    solver: RowSolver | None
    """What solves rows against all fixed factors; None where they are sent."""
    fixed_shared: FloatArray
    """(n_shared, columns) factors of the shared rows of the fixed side."""
    gram: FloatArray | None
    """Sum of v vᵀ over the fixed rows with training ratings; for implicit objectives."""
    current: Source | None
    """Where the factors of the rows to solve are; None where they are the driver's."""
    n_others: int
    """Fixed rows with training ratings."""


class HalfStepTask(NamedTuple):
    """A half-step of several models."""

    side: Side
    fixed_shared_rows: IntArray
    """Shared rows of the fixed side, rising."""
    models: Sequence[BlockModel]


class Sums(NamedTuple):
    """What new factors of a model add up to, over some rows."""

    loss: float = 0.0
    squared_change: float = 0.0
    penalty: float = 0.0
    squares: float = 0.0
    """See :class:`als_spark.train.backend.Measures`."""
    gram: FloatArray | None = None
    """Sum of x xᵀ; of implicit objectives."""


class BlockReport(NamedTuple):
    """What the driver hears of a block whose factors stay."""

    block: int
    sums: list[Sums]
    """Of each model, without the shared rows."""
    shared: list[SharedSums]
    error: SolveError | None


def sums_of(
    objective: Objective,
    factors: FloatArray,
    before: FloatArray,
    degrees: tuple[IntArray, IntArray],
    n_others: int,
    loss: float,
) -> Sums:
    """Sum up new factors of rows with training ratings.

    ``degrees`` are all ratings of each row, and those that the penalty counts.
    """
    difference = np.subtract(factors, before, dtype=np.float64).reshape(-1)
    dots = row_dots(factors, factors)
    ratings, counted = degrees
    gram = gram_of_all(factors, ratings) if objective.implicit else None
    return Sums(
        loss,
        float(difference @ difference),
        float(objective.weights(counted) @ dots),
        float(objective.masses(ratings, n_others) @ dots),
        gram,
    )


def add_up(parts: Sequence[Sums]) -> Sums:
    """Add sums up, in their order."""
    grams = [part.gram for part in parts if part.gram is not None]
    gram = None
    if grams:
        gram = grams[0].copy()
        for more in grams[1:]:
            gram += more
    return Sums(
        sum(part.loss for part in parts),
        sum(part.squared_change for part in parts),
        sum(part.penalty for part in parts),
        sum(part.squares for part in parts),
        gram,
    )


class _Reader:
    """Reads what lies before the ratings of a block."""

    def __init__(self, shared_rows: IntArray, shared: Sequence[FloatArray]) -> None:
        self._shared = shared_rows, shared
        self._compact: CompactFactors | None = None
        self.blocks: dict[int, FactorBlock] = {}

    def take(self, part: Any) -> bool:
        """Take a part; tell whether it was one to take."""
        if isinstance(part, Needs):
            self._compact = CompactFactors(part, *self._shared)
        elif isinstance(part, FactorBlock):
            self.blocks[part.store] = part
        elif type(part) is tuple:
            assert self._compact is not None
            self._compact.take(*part[1])
        else:
            # Of an earlier half-step, in the store of its factors.
            return isinstance(part, BlockReport)
        return True

    def fixed(self) -> list[FloatArray]:
        """Return the compact fixed factors of each model: once, since memory is scarce."""
        assert self._compact is not None
        factors, self._compact = self._compact.finish(), None
        return factors


def solve_routed(
    index: int, parts: Iterable[Any], *, task: HasValue[HalfStepTask], store: int | None
) -> Iterator[SolvedSlice | SharedSums | SolveError | BlockReport | FactorBlock]:
    """Solve the rows of a block for every model: runs on an executor.

    Solved rows are yielded, or stay as a factor block of a store, whose report comes before it.
    """
    prepare_worker()
    side, shared_rows, models = task.value
    reader = _Reader(shared_rows, [model.fixed_shared for model in models])
    # Of what is not taken everything else is ratings.
    slices = (p for p in parts if not reader.take(p) and isinstance(p, TrainSlice))
    solved = _solve(reader, slices, side, models)
    if store is None:
        yield from (result for _, result in solved)
    else:
        yield from _solve_into(index, reader, solved, models, store)


def _solve(
    reader: _Reader, slices: Iterator[TrainSlice], side: Side, models: Sequence[BlockModel]
) -> Iterator[tuple[TrainSlice, SolvedSlice | SharedSums | SolveError]]:
    solvers: list[RowSolver] | None = None
    for part in slices:
        if solvers is None:
            solvers = _solvers(reader, models)
        for result in solve_slices([part], side, solvers):
            yield part, result


def _solvers(reader: _Reader, models: Sequence[BlockModel]) -> list[RowSolver]:
    given = [model.solver for model in models if model.solver is not None]
    if len(given) == len(models):
        return given
    fixed = reader.fixed()
    return [model.objective.row_solver(fixed.pop(0), gram=model.gram) for model in models]


def _solve_into(
    block: int,
    reader: _Reader,
    solved: Iterator[tuple[TrainSlice, SolvedSlice | SharedSums | SolveError]],
    models: Sequence[BlockModel],
    store: int,
) -> Iterator[BlockReport | FactorBlock]:
    sums: list[list[Sums]] = [[] for _ in models]
    shared: list[SharedSums] = []
    error: SolveError | None = None
    new: list[FloatArray] = []
    for part, result in solved:
        if not new:
            new = [_current(model, reader).copy() for model in models]
        if isinstance(result, SharedSums):
            shared.append(result)
        elif isinstance(result, SolveError):
            error = error or result
        else:
            ratings = part.ratings
            rows = next(iter(reader.blocks.values())).rows
            at = np.searchsorted(rows, ratings.rows)
            for k, (model, factors) in enumerate(zip(models, result.factors, strict=True)):
                counted = ratings.positives() if model.objective.implicit else ratings.degrees
                degrees = ratings.degrees, counted
                more = model.n_others, result.losses[k]
                sums[k].append(sums_of(model.objective, factors, new[k][at], degrees, *more))
                new[k][at] = factors
    # A block without ratings keeps its factors.
    new = new or [_current(model, reader) for model in models]
    rows = next(iter(reader.blocks.values())).rows
    yield BlockReport(block, [add_up(own) for own in sums], shared, error)
    yield FactorBlock(store, rows, new)


def _current(model: BlockModel, reader: _Reader) -> FloatArray:
    assert model.current is not None
    return model.current.of(reader.blocks)


def reports_of_partition(parts: Iterable[Any]) -> Iterator[BlockReport]:
    """Pass on what the driver has to hear: runs on an executor."""
    for part in parts:
        if isinstance(part, BlockReport):
            yield part


class ErrorModel(NamedTuple):
    """What the tasks of error sums know of a model."""

    users: FloatArray | None
    """(n_users, columns) factors; None where they stay in blocks."""
    items: FloatArray | None
    """(n_items, columns) factors; None where they are sent."""
    where: Source | None
    """Where the users' are, if they stay."""
    shared_users: FloatArray
    """(n_shared, columns) factors of the shared users, if the users' stay."""
    shared_items: FloatArray
    """(n_shared, columns) factors of the shared items, if they are sent."""


class ErrorTask(NamedTuple):
    """Error sums of several models; with the shared rows of both sides, rising."""

    shared_users: IntArray
    shared_items: IntArray
    models: Sequence[ErrorModel]


def errors_routed(
    parts: Iterable[Any], *, task: HasValue[ErrorTask]
) -> Iterator[tuple[SplitName, list[ErrorSums]]]:
    """Sum the errors of every model over the ratings of a block: runs on an executor."""
    prepare_worker()
    shared_users, shared_items, models = task.value
    reader = _Reader(shared_items, [model.shared_items for model in models])
    sides: list[tuple[FloatArray, FloatArray]] | None = None
    numbers: IntArray | None = None
    for part in parts:
        if reader.take(part):
            continue
        if sides is None:
            sides, numbers = _sides(reader, models, shared_users)
        rated = part if isinstance(part, EvaluationPart) else EvaluationPart("train", part.ratings)
        if numbers is not None:
            rows = np.searchsorted(numbers, rated.block.rows)
            rated = replace(rated, block=replace(rated.block, rows=rows))
        yield rated.split, [rated.errors(*factors) for factors in sides]


def _sides(
    reader: _Reader, models: Sequence[ErrorModel], shared_rows: IntArray
) -> tuple[list[tuple[FloatArray, FloatArray]], IntArray | None]:
    """Return users' and items' factors of each model, and the dense rows of the former if few."""
    numbers = order = None
    if reader.blocks:
        rows = np.concatenate([next(iter(reader.blocks.values())).rows, shared_rows])
        order = np.argsort(rows)
        numbers = rows[order]
    items = [model.items for model in models if model.items is not None]
    if len(items) < len(models):
        items = reader.fixed()
    users = []
    for model in models:
        if model.users is not None:
            users.append(model.users)
        else:
            assert model.where is not None
            own = model.where.of(reader.blocks)
            users.append(np.concatenate([own, model.shared_users])[order])
    return list(zip(users, items, strict=True)), numbers
