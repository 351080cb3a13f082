"""Train a grid on prepared ratings, in whichever placement they are in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pyspark.sql import DataFrame

from als_spark.errors import SolveError
from als_spark.model.ids import id_for_message
from als_spark.spark.planner import Plan
from als_spark.spark.read.facts import Summary
from als_spark.train.backend import Backend, Factors
from als_spark.train.bayes.loop import Posterior, PosteriorRecord
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.checkpoint import Checkpoint
from als_spark.train.grid import Collector
from als_spark.train.loop import OnIteration
from als_spark.train.metrics import SideStats
from als_spark.train.records import ModelSpec, Options
from als_spark.types import Side, SplitName

_LARGE = 1e9
"""Ratings from here on in size are named where a system has no finite solution."""


class Placement(Protocol):
    """Ratings where they are trained on, and how.

    :class:`als_spark.spark.train.partitioned.PartitionedRatings` partitions the ratings,
    :class:`als_spark.spark.train.per_model.PerModel` the grid.
    """

    @property
    def backend(self) -> Backend:
        """The ratings, for a training loop on the driver."""
        ...

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
        """Train all points of a grid: parameters as in :func:`train_grid`."""
        ...

    def train_posteriors(
        self,
        stats: SideStats,
        grid: Sequence[PosteriorOptions],
        take: Callable[[int, Posterior], None],
        on_iteration: Callable[[int, PosteriorRecord], None],
    ) -> None:
        """Train models with a learnt prior, and hand each over with its position in the grid.

        ``stats`` are of the users; ``on_iteration`` hears of iterations as in :func:`train_grid`.
        Both may be called from several threads.
        """
        ...

    def close(self) -> None:
        """Free what it keeps on the executors."""
        ...


@dataclass(frozen=True, slots=True)
class PreparedRatings:
    """Ratings that can be trained on, with what is known of them.

    Close it, or leave its ``with`` block, to free the executors' memory.

    Attributes
    ----------
    summary : Summary
        Ids, counts, range; of all usable ratings.
    stats : mapping of side to SideStats
        The training ratings.
    n_ratings, n_duplicates : mapping of split name to int, int
        Sizes of the parts, after duplicates were resolved; pairs that were rated more than once.
    rejected : DataFrame or None
        The rows that were dropped (columns ``problem`` and ``raw``); None where there are none.
    plan, placement : Plan, Placement
        How the run uses the cluster, and where the ratings are.
    mean : float
        Mean of the training ratings, weighted where they have weights; the sums of ``stats`` are
        not.
    weight : float
        Sum of the weights of the training ratings; their number where they have none.
    """

    summary: Summary
    stats: Mapping[Side, SideStats]
    n_ratings: Mapping[SplitName, int]
    n_duplicates: int
    rejected: DataFrame | None
    plan: Plan
    placement: Placement
    mean: float
    weight: float

    def __repr__(self) -> str:
        """Say how many ratings of whom there are."""
        parts = ", ".join(f"{count:,} {part}" for part, count in self.n_ratings.items())
        users, items = len(self.summary.users), len(self.summary.items)
        return f"<PreparedRatings: {users:,} users, {items:,} items, ratings: {parts}>"

    @property
    def backend(self) -> Backend:
        """The ratings, for a training loop on the driver."""
        return self.placement.backend

    def close(self) -> None:
        """Free what the placement keeps on the executors."""
        self.placement.close()

    def __enter__(self) -> PreparedRatings:
        """Return the ratings themselves."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close them."""
        self.close()


def train_grid(
    prepared: PreparedRatings,
    specs: Sequence[ModelSpec],
    options: Options,
    collector: Collector,
    *,
    starts: Sequence[Factors | None] | None = None,
    on_iteration: OnIteration | None = None,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train all points of a grid.

    Parameters
    ----------
    prepared : PreparedRatings
        From :func:`als_spark.spark.prepare.prepare.prepare_ratings`.
    specs : sequence of ModelSpec
        The points, from :func:`als_spark.train.grid.grid_specs`.
    options : TrainingOptions or sequence of TrainingOptions
        Of all points, or of each.
    collector : Collector
        Receives each model as it finishes.
    starts : sequence of Factors or None, optional
        Starting factors, one a point (None: the usual start), by dense row: row k belongs to
        ``prepared.summary.users.ids[k]``, or ``items``.
    on_iteration : callable, optional
        Called with the record of every iteration: as it happens where the ratings are partitioned,
        once the collector has the model where the grid is.
    checkpoint : Checkpoint, optional
        Where the training continues from, and what it keeps: finished points, and where the ratings
        are partitioned the states of those that run.

    Raises
    ------
    ConfigError
        If there are not options, or a start, for each point; or if the numbers of an objective
        would overflow (see :meth:`als_spark.solve.objective.Objective.check_size`).
    SolveError
        If a row's system has no finite solution; it names the row by its original id.
    """
    summary = prepared.summary
    largest = max(abs(summary.lowest), abs(summary.highest))
    most = max(int(stats.degrees.max(initial=0)) for stats in prepared.stats.values())
    for spec in specs:
        spec.objective.check_size(most, largest)
    try:
        prepared.placement.train(
            specs,
            options,
            collector,
            starts=starts,
            on_iteration=on_iteration,
            checkpoint=checkpoint,
        )
    except SolveError as error:
        ids = summary.users if error.side == "user" else summary.items
        cause = largest if largest > _LARGE else None
        raise error.named(id_for_message(ids.ids, error.row), cause) from error
