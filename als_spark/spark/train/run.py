"""Train a grid on prepared ratings, in whichever placement they are in."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import SparkSession

from als_spark.errors import SolveError
from als_spark.spark.prepare.prepared import PreparedRatings
from als_spark.spark.train.per_model import run_grid_on_executors
from als_spark.train.backend import Factors
from als_spark.train.grid import SweepCollector, run_grid
from als_spark.train.local import LocalBackend
from als_spark.train.loop import ModelSpec, OnIteration, TrainingOptions


def train_grid(
    session: SparkSession,
    prepared: PreparedRatings,
    specs: Sequence[ModelSpec],
    options: TrainingOptions,
    collector: SweepCollector,
    *,
    starts: Sequence[Factors] | None = None,
    on_iteration: OnIteration | None = None,
) -> None:
    """Train all points of a grid.

    Parameters
    ----------
    session : SparkSession
    prepared : PreparedRatings
        From :func:`als_spark.spark.prepare.prepare.prepare_ratings`.
    specs : sequence of ModelSpec
        The points, from :func:`als_spark.train.grid.grid_specs`.
    options : TrainingOptions
        What they share.
    collector : SweepCollector
        Receives each model as it finishes.
    starts : sequence of Factors, optional
        Starting factors, one a point, by dense row: row k belongs to
        ``prepared.summary.users.ids[k]``, or ``items``.
    on_iteration : callable, optional
        Called with iterations' records.

    Raises
    ------
    SolveError
        If a row's system has no finite solution; it names the row by its original id.
    """
    try:
        if isinstance(prepared.backend, LocalBackend):
            run_grid_on_executors(
                session,
                prepared.backend,
                specs,
                options,
                collector,
                starts=starts,
                on_iteration=on_iteration,
            )
        else:
            run_grid(
                prepared.backend,
                specs,
                options,
                collector,
                starts=starts,
                on_iteration=on_iteration,
            )
    except SolveError as error:
        ids = prepared.summary.users if error.side == "user" else prepared.summary.items
        raise error.named(ids.ids[error.row].as_py()) from error
