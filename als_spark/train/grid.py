"""The grid: rank d × ridge λ, on any backend, with the best point kept as a model."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from als_spark.solve.objective import Objective
from als_spark.train.backend import Backend, Factors, HeldFactors
from als_spark.train.checkpoint import Checkpoint, Finished, states_left
from als_spark.train.loop import OnIteration, continue_training, train_models
from als_spark.train.metrics import ErrorSums
from als_spark.train.records import (
    DEFAULT_JUDGE,
    Judge,
    ModelSpec,
    Options,
    PointResult,
    RankingMeans,
    best_point,
)
from als_spark.train.state import LoopState
from als_spark.types import SplitName

OnPoint = Callable[[int, PointResult], None]


def grid_specs(ranks: Sequence[int], objectives: Sequence[Objective | float]) -> list[ModelSpec]:
    """List the points of a grid, rank by rank, objective by objective.

    Parameters
    ----------
    ranks : sequence of int
        d of the grid.
    objectives : sequence of Objective or float
        A number λ stands for ``Objective(λ)``, the plain ridge.
    """
    whole = [
        objective if isinstance(objective, Objective) else Objective(objective)
        for objective in objectives
    ]
    pairs = [(rank, objective) for rank in ranks for objective in whole]
    return [ModelSpec(point, rank, objective) for point, (rank, objective) in enumerate(pairs)]


@dataclass(frozen=True, slots=True)
class SweepOutcome:
    """What a sweep has found, whole or cut short.

    The finished points in grid order; the position of the best among them, as the judge finds on
    the part ``selected_on``; and its factors.
    """

    points: Sequence[PointResult]
    best: int
    selected_on: SplitName
    best_factors: HeldFactors
    judge: Judge = DEFAULT_JUDGE

    def __repr__(self) -> str:
        """Say which point is the best."""
        best = self.points[self.best]
        value = self.judge.value(best, self.selected_on)
        return (
            f"<SweepOutcome: the best of {len(self.points)} points is {best.place}: "
            f"{self.selected_on} {self.judge.label} {value:.4f}>"
        )


class Collector(Protocol):
    """What takes the models of a grid as they finish; called from several threads."""

    @property
    def needs_errors(self) -> bool:
        """Whether errors and ranking measures are wanted: they cost a pass over all ratings."""
        ...

    def add(
        self,
        trained: LoopState,
        sums: Mapping[SplitName, ErrorSums],
        rankings: Mapping[SplitName, RankingMeans],
    ) -> None:
        """Take a trained model, its error sums and, where asked for, its ranking measures."""


class SweepCollector:
    """Gathers finished models: a result each, and the factors of the best one only.

    Safe to call from several threads.

    Parameters
    ----------
    selected_on : {"validation", "test", "train"}
        The part that the best point is chosen on.
    on_point : callable, optional
        Called with the grid position and the result of each finished point.
    judge : Judge
        The measure that chooses it, on its own the mean squared error. A ranking measure needs
        ratings that were prepared with a :class:`als_spark.train.ranking.RankingRule`.
    """

    needs_errors = True

    def __init__(
        self, selected_on: SplitName, on_point: OnPoint | None = None, judge: Judge = DEFAULT_JUDGE
    ) -> None:
        self._selected_on = selected_on
        self._judge = judge
        self._on_point = on_point
        self._results: dict[int, PointResult] = {}
        self._best: tuple[int, HeldFactors] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Say what has been found so far."""
        outcome = self.outcome()
        found = f"{len(self._results)} points, none the best" if outcome is None else f"{outcome}"
        return f"<SweepCollector: {found.strip('<>').removeprefix('SweepOutcome: ')}>"

    def add(
        self,
        trained: LoopState,
        sums: Mapping[SplitName, ErrorSums],
        rankings: Mapping[SplitName, RankingMeans] | None = None,
    ) -> None:
        """Take a trained model, its error sums and its ranking measures."""
        result = PointResult(
            spec=trained.spec,
            iterations=trained.iterations,
            evaluations=trained.evaluations,
            converged=trained.converged,
            objective=trained.objective,
            seconds=trained.seconds,
            errors={split: part.means() for split, part in sums.items()},
            history=trained.history,
            rankings=rankings or {},
        )
        self.keep(result, lambda: trained.plain_factors)

    def keep(self, result: PointResult, factors: Callable[[], HeldFactors]) -> bool:
        """Take the result of a model; ask for its factors, and return True, if it is the best yet.

        What :meth:`add` makes of a trained model; another training calls it itself.
        """
        point, is_best = result.spec.point, False
        with self._lock:
            self._results[point] = result
            # Cold ratings that are dropped may leave no error to choose by, of any point.
            if math.isfinite(self._judge.value(result, self._selected_on)):
                order = sorted(self._results)
                candidates = [self._results[place] for place in order]
                is_best = order[best_point(candidates, self._selected_on, self._judge)] == point
            if is_best:
                self._best = (point, factors())
        if self._on_point is not None:
            self._on_point(point, result)
        return is_best

    def outcome(self) -> SweepOutcome | None:
        """Return what has been found so far; None while no point has a finite measure."""
        with self._lock:
            if self._best is None:
                return None
            order = sorted(self._results)
            return SweepOutcome(
                points=tuple(self._results[point] for point in order),
                best=order.index(self._best[0]),
                selected_on=self._selected_on,
                best_factors=self._best[1],
                judge=self._judge,
            )


def run_grid(
    backend: Backend,
    specs: Sequence[ModelSpec],
    options: Options,
    collector: Collector,
    *,
    starts: Sequence[Factors | None] | None = None,
    on_iteration: OnIteration | None = None,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train all points side by side on one backend.

    Each pass over the ratings serves every model that is still running. Parameters are those of
    :func:`als_spark.spark.train.run.train_grid`, and where the ratings are.
    """

    def add(finished: Finished) -> None:
        if checkpoint is not None:
            checkpoint.keep_finished(finished)
        collector.add(*finished)

    def collect(finished: Sequence[LoopState]) -> None:
        if not collector.needs_errors:
            for model in finished:
                add(Finished(model, {}, {}))
            return
        names = ", ".join(
            f"d={model.spec.rank} λ={model.spec.objective.reg:g}" for model in finished
        )
        factors = [model.plain_factors for model in finished]
        sums = backend.errors(factors, f"ALS errors of {names}")
        rankings = backend.rankings(factors, f"ALS ranking measures of {names}")
        for model, errors, ranked in zip(finished, sums, rankings, strict=True):
            add(Finished(model, errors, ranked))

    if checkpoint is None:
        train_models(
            backend, specs, options, starts=starts, on_iteration=on_iteration, on_finished=collect
        )
        return
    left, each = states_left(backend, specs, options, starts, checkpoint, collector.add)
    continue_training(
        backend,
        left,
        each,
        on_iteration=on_iteration,
        on_finished=collect,
        on_states=checkpoint.keep_states,
    )
