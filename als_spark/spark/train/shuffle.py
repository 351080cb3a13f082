"""Partition the ratings, and leave the factors of one side, or of both, on the executors too.

The plan says of each side how the fixed factors reach its blocks. Where that is ``shuffle``, they
stay in factor blocks beside the rating blocks of their own side
(:mod:`als_spark.spark.train.factor_blocks`): each sends to a rating block the rows that it needs,
and no other. Solved rows stay where they were solved; the driver gets sums.

What a row is solved against is the same, in the same order, as if it were broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np

from als_spark.errors import ConfigError
from als_spark.spark.session import described
from als_spark.spark.shared import shared
from als_spark.spark.train.factor_blocks import DistributedFactors, distinct_stores
from als_spark.spark.train.routed_blocks import RoutedBlocks
from als_spark.spark.train.routed_half_step import RoutedHalfStep
from als_spark.spark.train.routed_rankings import measure_rankings
from als_spark.spark.train.routed_tasks import ErrorModel, ErrorTask, errors_routed
from als_spark.train.backend import AnyFactors, AnyHalfStep, FactorPair, Factors, HalfStep, Solved
from als_spark.train.bayes.loop import Posterior, PosteriorRecord, train_posteriors
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.checkpoint import Checkpoint
from als_spark.train.grid import Collector, run_grid
from als_spark.train.loop import OnIteration
from als_spark.train.metrics import ErrorSums, SideStats
from als_spark.train.records import ModelSpec, Options, RankingMeans, options_of_each
from als_spark.types import SIDES, FloatArray, Side, SplitName, other_side


class RoutedRatings(RoutedBlocks):
    """A :class:`~als_spark.train.backend.Backend`, and the placement that trains on it.

    See :class:`als_spark.spark.train.run.Placement`.
    """

    @property
    def backend(self) -> RoutedRatings:
        """What the training loop asks: itself."""
        return self

    def train(
        self,
        specs: Sequence[ModelSpec],
        options: Options,
        collector: Collector,
        *,
        starts: Sequence[Factors | None] | None = None,
        on_iteration: OnIteration | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Train all points side by side: see :func:`als_spark.train.grid.run_grid`.

        Raises
        ------
        ConfigError
            If a model is to be accelerated, and the items' factors stay on the executors.
        """
        fast = any(own.accelerate for own in options_of_each(options, len(specs)))
        if fast and self.stays("item"):
            raise ConfigError(
                "`accelerate=` with the items' factors shuffled: the extrapolation needs them on "
                'the driver: use `exchange="broadcast"`, or leave it out'
            )
        run_grid(
            *(self, specs, options, collector),
            starts=starts,
            on_iteration=on_iteration,
            checkpoint=checkpoint,
        )

    def train_posteriors(
        self,
        stats: SideStats,
        grid: Sequence[PosteriorOptions],
        take: Callable[[int, Posterior], None],
        on_iteration: Callable[[int, PosteriorRecord], None],
    ) -> None:
        """Train one after the other: see :func:`als_spark.train.bayes.loop.train_posteriors`."""
        train_posteriors(self, stats, grid, take, on_iteration)

    def close(self) -> None:
        """Unpersist everything but the factors."""
        self.resources.close()

    def solve(self, side: Side, steps: Sequence[AnyHalfStep], label: str) -> list[Solved]:
        """Run a half-step of several models: a Spark job, or a few where they are too large."""
        results: list[Solved] = []
        ridge = [step for step in steps if isinstance(step, HalfStep)]
        if len(ridge) < len(steps):
            raise ConfigError(
                'a Bayesian method with `exchange="shuffle"`: its half-steps need what is known of '
                'all rows of the other side: use `exchange="broadcast"`'
            )
        n_fixed = self.sides[side].n_needed if self.stays(other_side(side)) else None
        for group in self.plan.groups(side, [step.fixed.shape[1] for step in ridge], n_fixed):
            with described(self.context, label):
                results += RoutedHalfStep(self, side, ridge[group]).run()
        return results

    def errors(
        self, models: Sequence[FactorPair], label: str
    ) -> list[Mapping[SplitName, ErrorSums]]:
        """Sum the errors of several models in one Spark job, or a few."""
        results: list[Mapping[SplitName, ErrorSums]] = []
        n_fixed = self.sides["user"].n_needed if self.stays("item") else None
        ranks = [items.shape[1] for _, items in models]
        for group in self.plan.groups("user", ranks, n_fixed):
            with described(self.context, label):
                results += self._errors(models[group])
        return results

    def rankings(
        self,
        models: Sequence[FactorPair],
        label: str,
    ) -> list[Mapping[SplitName, RankingMeans]]:
        """Measure the rankings of several models in one Spark job; the items' are arrays."""
        if self.ranking is None:
            return [{} for _ in models]
        with described(self.context, label):
            return measure_rankings(self, self.ranking, models)

    def _errors(self, models: Sequence[FactorPair]) -> list[Mapping[SplitName, ErrorSums]]:
        users, items = (self.held(side, [m[k] for m in models]) for k, side in enumerate(SIDES))
        task = ErrorTask(
            self.sides["user"].shared_rows,
            self.sides["item"].shared_rows,
            [
                ErrorModel(
                    _array_of(own),
                    _array_of(other),
                    own.source if isinstance(own, DistributedFactors) else None,
                    _shared_of(own),
                    _shared_of(other),
                )
                for own, other in zip(users, items, strict=True)
            ],
        )
        with ExitStack() as temporary:
            parts = self.parts_before(
                "user", [m for m in items if isinstance(m, DistributedFactors)], temporary
            )
            own = [m for m in users if isinstance(m, DistributedFactors)]
            parts += [store.rdd for store in distinct_stores(own)]
            whole = self.beside([*parts, self.sides["user"].ratings])
            handle = temporary.enter_context(shared(self.context, task))
            found = whole.mapPartitions(partial(errors_routed, task=handle)).collect()
        return [
            ErrorSums.by_split((split, sums[k]) for split, sums in found)
            for k in range(len(models))
        ]


def _array_of(factors: AnyFactors) -> FloatArray | None:
    return factors if isinstance(factors, np.ndarray) else None


def _shared_of(factors: AnyFactors) -> FloatArray:
    """Return the factors of the shared rows, where others stay on the executors."""
    return factors.shared if isinstance(factors, DistributedFactors) else np.zeros((0, 0))
