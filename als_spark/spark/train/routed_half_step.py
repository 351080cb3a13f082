"""A half-step of several models where the factors of a side stay on the executors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from pyspark import RDD

from als_spark.errors import SolveError
from als_spark.solve.solver import RowSolver, add_sums
from als_spark.spark.shared import share, shared
from als_spark.spark.train.exchange import SharedSums, SolvedSlice, join_solved
from als_spark.spark.train.factor_blocks import (
    DistributedFactors,
    FactorStore,
    distinct_stores,
    new_number,
)
from als_spark.spark.train.routed_blocks import RoutedBlocks
from als_spark.spark.train.routed_tasks import (
    BlockModel,
    BlockReport,
    HalfStepTask,
    add_up,
    reports_of_partition,
    solve_routed,
    sums_of,
)
from als_spark.train.backend import HalfStep, Measures, Solved, as_array
from als_spark.types import Side, other_side


class RoutedHalfStep:
    """Solves one side; the models fit into a worker together."""

    def __init__(self, blocks: RoutedBlocks, side: Side, steps: Sequence[HalfStep]) -> None:
        other = other_side(side)
        self._blocks = blocks
        self._side = side
        self._steps = steps
        fixed = blocks.held(other, [step.fixed for step in steps])
        current = blocks.held(side, [step.current for step in steps])
        self._fixed = [own for own in fixed if isinstance(own, DistributedFactors)]
        self._current = [own for own in current if isinstance(own, DistributedFactors)]
        self._fixed_degrees = blocks.degrees(other)
        self._n_others = int(np.count_nonzero(self._fixed_degrees))
        self._models = [self._model(k) for k in range(len(steps))]

    def run(self) -> list[Solved]:
        """Solve it.

        Raises
        ------
        SolveError
            If a row's system has no finite solution.
        """
        blocks, own = self._blocks, self._blocks.sides[self._side]
        with ExitStack() as temporary:
            parts = blocks.parts_before(self._side, self._fixed, temporary)
            parts += [store.rdd for store in distinct_stores(self._current)]
            whole = blocks.beside([*parts, own.ratings])
            shared_rows = blocks.sides[other_side(self._side)].shared_rows
            task = HalfStepTask(self._side, shared_rows, self._models)
            if self._current:
                return self._leave(whole, task)
            with shared(blocks.context, task) as handle:
                return self._collect(whole, partial(solve_routed, task=handle, store=None))

    def _model(self, k: int) -> BlockModel:
        step = self._steps[k]
        current = self._current[k].source if self._current else None
        if not self._fixed:
            solver = step.objective.row_solver(as_array(step.fixed), self._fixed_degrees)
            none = np.zeros((0, step.fixed.shape[1]))
            return BlockModel(step.objective, solver, none, None, current, self._n_others)
        fixed = self._fixed[k]
        gram = self._blocks.gram(fixed) if step.objective.implicit else None
        return BlockModel(step.objective, None, fixed.shared, gram, current, self._n_others)

    def _solver(self, k: int) -> RowSolver:
        """Return what solves rows whose normal equations have been summed."""
        model = self._models[k]
        if model.solver is not None:
            return model.solver
        none = model.fixed_shared[:0].astype(self._fixed[k].dtype)
        return model.objective.row_solver(none, gram=model.gram)

    def _collect(self, whole: RDD[Any], solve: Any) -> list[Solved]:
        """Bring the solved rows to the driver."""
        returned = whole.mapPartitionsWithIndex(solve).collect()
        for part in returned:
            if isinstance(part, SolveError):
                raise part
        solved = sorted((p for p in returned if isinstance(p, SolvedSlice)), key=_number)
        sums = sorted((p for p in returned if isinstance(p, SharedSums)), key=_number)
        blocks, side = self._blocks, self._side
        return [
            join_solved(
                *(side, step, k, solved, sums),
                rows=blocks.sides[side].rows,
                degrees=blocks.degrees(side, positive=step.objective.implicit),
                solver=self._solver(k),
            )
            for k, step in enumerate(self._steps)
        ]

    def _leave(self, whole: RDD[Any], task: HalfStepTask) -> list[Solved]:
        """Leave the solved rows in a new store."""
        number, handle = new_number(), share(self._blocks.context, task)
        solve = partial(solve_routed, task=handle, store=number)
        solved = whole.mapPartitionsWithIndex(solve, preservesPartitioning=True)
        store = FactorStore(solved, number, handle)
        reports = store.rdd.mapPartitions(reports_of_partition).collect()
        store.end_task()
        reports.sort(key=lambda report: report.block)
        for report in reports:
            if report.error is not None:
                raise report.error
        return [self._solved(k, store, reports) for k in range(len(self._steps))]

    def _solved(self, k: int, store: FactorStore, reports: Sequence[BlockReport]) -> Solved:
        side, objective, before = self._side, self._steps[k].objective, self._current[k]
        sums = [report.sums[k] for report in reports]
        found = sorted((part for report in reports for part in report.shared), key=_number)
        few = before.shared.copy()
        if found:
            rows, equations = add_sums([(part.rows, part.sums[k]) for part in found])
            degrees = self._blocks.degrees(side)[rows]
            counted = self._blocks.degrees(side, positive=objective.implicit)[rows]
            factors, loss = self._solver(k).solve_sums(equations, rows, counted, side=side)
            at = np.searchsorted(before.shared_rows, rows)
            more = self._n_others, loss
            sums.append(sums_of(objective, factors, few[at], (degrees, counted), *more))
            few[at] = factors
        total = add_up(sums)
        new = DistributedFactors(
            *(store, k, side, before.n_rows, before.dtype, before.shared_rows, few),
            gram=total.gram,
        )
        measures = Measures(math.sqrt(total.squared_change), total.penalty, total.squares)
        return Solved(new, total.loss, measures)


def _number(part: SolvedSlice | SharedSums) -> tuple[int, int]:
    return part.number
