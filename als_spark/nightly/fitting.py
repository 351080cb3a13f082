"""One model, from sources of ratings to a folder that can be published: for train and retrain."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.model.factor_model import FactorModel
from als_spark.model.files import save_model, write_json
from als_spark.nightly.holdout import HoldoutRule, held_out
from als_spark.nightly.run_record import (
    RunRecord,
    Spec,
    StartKind,
    TrainingRecord,
    TrainingSettings,
)
from als_spark.report.progress import ProgressReporter
from als_spark.spark.predict.evaluate import Evaluation, RankingOptions, evaluate_models
from als_spark.spark.prepare.prepare import PrepareOptions, prepare_typed
from als_spark.spark.read.bad_rows import refuse_bad_rows
from als_spark.spark.read.facts import DataFacts
from als_spark.spark.read.snapshot import Snapshot, read_snapshot
from als_spark.spark.read.sources import Source, SourceOptions, unreadable_files_are_named
from als_spark.spark.read.split import TRAIN, SplitOptions, split_ratings
from als_spark.spark.train.run import PreparedRatings, train_grid
from als_spark.train.backend import Factors
from als_spark.train.grid import SweepCollector
from als_spark.train.records import ModelSpec, PointResult, TrainingOptions
from als_spark.train.state import initial_factors
from als_spark.types import BadRows, Duplicates, PlacementChoice, Side

OpenSource = Callable[[SparkSession, SourceOptions], Source]
"""Opens a source of ratings, or raises what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What becomes of unusable rows, and of pairs that were rated more than once."""

    bad_rows: BadRows
    duplicates: Duplicates


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How one model is trained and measured.

    Attributes
    ----------
    placement, partitions
        As in :class:`~als_spark.spark.prepare.prepared.PrepareOptions`.
    """

    holdout: HoldoutRule
    training: TrainingOptions
    ranking: RankingOptions
    placement: PlacementChoice
    partitions: int | None

    def settings(self, spec: Spec) -> TrainingSettings:
        """Return all that decides what is trained from a snapshot of given fingerprint."""
        training = self.training
        return TrainingSettings(
            spec.rank,
            spec.objective.reg,
            spec.objective.exponent,
            *self.holdout,
            training.tol,
            training.max_iter,
            training.dtype,
            training.accelerate,
        )


class Start(NamedTuple):
    """Where a training starts."""

    kind: StartKind
    reason: str
    factors: Factors | None
    """None: the usual start."""
    warm_runs: int
    """Trainings since the last from the usual start, this one counted."""

    def as_record(self) -> dict[str, Any]:
        """Return what a model's description keeps of it."""
        return {"start": self.kind, "reason": self.reason, "warm_runs": self.warm_runs}


class Fitted(NamedTuple):
    """A trained model with the record of its training."""

    model: FactorModel
    result: PointResult


class ReadyRatings(NamedTuple):
    """The ratings of a run, split and packed."""

    snapshot: Snapshot
    split: DataFrame
    """Typed ratings with the column ``split``."""
    prepared: PreparedRatings

    @property
    def facts(self) -> DataFacts:
        """What the data checks of this run, and of the next one, look at."""
        snapshot, summary = self.snapshot, self.prepared.summary
        return DataFacts(
            snapshot.n_ratings,
            len(summary.users),
            len(summary.items),
            snapshot.lowest,
            snapshot.highest,
            snapshot.mean,
            snapshot.spread,
            snapshot.fingerprint,
        )


def read_ratings(
    session: SparkSession,
    sources: Sequence[Source],
    options: ReadOptions,
    progress: ProgressReporter,
    warn: Callable[[str], None],
    stack: ExitStack,
    *,
    integer_ids: Collection[Side] = (),
) -> Snapshot:
    """Read sources of ratings, oldest first; what Spark keeps of them is freed with the stack.

    ``warn`` takes what somebody should know of them; ``integer_ids`` is as in
    :func:`~als_spark.spark.read.snapshot.read_snapshot`.

    Raises
    ------
    DataError
        If rows are unusable and must not be, or no rating is usable.
    """
    stack.enter_context(unreadable_files_are_named(" + ".join(s.label for s in sources)))
    with progress.phase("reading and checking ratings"):
        snapshot = stack.enter_context(
            read_snapshot(session, sources, options.duplicates, integer_ids=integer_ids)
        )
    for part in snapshot.parts[1:]:
        if part.rows == 0:
            warn(f"{part.label} has no rows")
    refuse_bad_rows(snapshot.label, snapshot.bad, options.bad_rows)
    for problem in snapshot.bad.lines:
        warn(f"unusable rows left out: {problem}")
    for doubt in snapshot.warnings:
        warn(doubt)
    return snapshot


def make_ready(
    session: SparkSession,
    snapshot: Snapshot,
    rank: int,
    options: FitOptions,
    progress: ProgressReporter,
    stack: ExitStack,
) -> ReadyRatings:
    """Split and pack a snapshot; what Spark keeps of it is freed with the stack."""
    rule = options.holdout
    prepare = PrepareOptions(
        split=SplitOptions(rule.split, rule.seed, rule.test_fraction),
        dtype=options.training.dtype,
        ranks=[rank],
        placement=options.placement,
        partitions=options.partitions,
    )
    split = split_ratings(snapshot.ratings, prepare.split)
    prepared = stack.enter_context(
        prepare_typed(session, split, snapshot.label, prepare, phase=progress.phase)
    )
    n_users, n_items = len(prepared.summary.users), len(prepared.summary.items)
    progress.write(f"{n_users:,} users, {n_items:,} items, {snapshot.n_ratings:,} ratings")
    return ReadyRatings(snapshot, split, prepared)


def measure(
    session: SparkSession,
    ready: ReadyRatings,
    models: Mapping[str, FactorModel],
    ranking: RankingOptions,
    unseen_by: HoldoutRule | None = None,
) -> dict[str, Evaluation]:
    """Measure models on the held-out ratings; what is trained on is not recommended.

    ``unseen_by`` takes those only that another rule holds out too.
    """
    return evaluate_models(
        session,
        held_out(ready.split, unseen_by),
        models,
        ranking,
        seen=ready.split.where(F.col("split") == TRAIN),
    )


def training_record(fitted: Fitted) -> TrainingRecord:
    """Return what reports and history tell of a training."""
    result, description = fitted.result, fitted.model.description
    return TrainingRecord(
        start=description["start"],
        reason=description["reason"],
        rank=result.rank,
        reg=result.reg,
        exponent=result.spec.objective.exponent,
        iterations=result.iterations,
        evaluations=result.evaluations,
        converged=result.converged,
        objective=result.objective,
        seconds=round(result.seconds, 3),
        history=tuple((r.iteration, r.objective, r.change) for r in result.history),
    )


def fit(
    prepared: PreparedRatings,
    spec: Spec,
    options: FitOptions,
    start: Start,
    progress: ProgressReporter,
) -> Fitted:
    """Train one model until the stopping rule, or the cap, ends it.

    Raises
    ------
    SolveError
        If a row's system has no finite solution.
    """
    # By its training error, which is always finite: one point is the best anyway.
    collector = SweepCollector("train", progress.on_finished)
    train_grid(
        prepared,
        [ModelSpec(0, spec.rank, spec.objective)],
        options.training,
        collector,
        starts=None if start.factors is None else [start.factors],
        on_iteration=progress.on_iteration,
    )
    outcome = collector.outcome()
    assert outcome is not None
    result = outcome.points[0]
    description = {
        **spec.objective.as_record(),
        "objective_of_lambda": spec.objective.note,
        "seed": options.training.seed,
        "holdout": options.holdout.as_record(),
        "iterations": result.iterations,
        "converged": result.converged,
        "objective": result.objective,
        **start.as_record(),
    }
    model = FactorModel(
        prepared.summary.users,
        prepared.summary.items,
        outcome.best_factors,
        prepared.stats["user"],
        prepared.stats["item"],
        description,
    )
    return Fitted(model, result)


def cold_start(reason: str) -> Start:
    """Start as always: random factors."""
    return Start("cold", reason, None, 0)


def warm_start(
    prepared: PreparedRatings, champion: FactorModel, name: str, seed: int, warm_runs: int
) -> Start:
    """Start from a version's factors, of the rank that is to be trained.

    Ids that it does not know start as always, by ``seed``.
    """
    summary = prepared.summary
    usual = initial_factors(len(summary.users), len(summary.items), champion.rank, seed)
    known = 0
    for ids, start, theirs, factors, stats in (
        (summary.users, usual.users, champion.users, champion.factors.users, champion.user_stats),
        (summary.items, usual.items, champion.items, champion.factors.items, champion.item_stats),
    ):
        rows = theirs.rows_of(ids.ids)
        # A row without a rating still has its random start.
        trained = (rows >= 0) & (stats.degrees[rows] > 0)
        start[trained] = factors[rows[trained]]
        known += int(np.count_nonzero(trained))
    share = known / (len(summary.users) + len(summary.items))
    return Start("warm", f"{share:.1%} of the rows start at version {name}", usual, warm_runs)


def write_version(folder: Path, fitted: Fitted, record: RunRecord) -> None:
    """Write a model with all that a version of a store keeps of its run."""
    save_model(fitted.model, folder)
    for name, content in record.version_files.items():
        if name == "metrics.json":
            content = {**content, "train": fitted.result.as_record()}
        write_json(folder / name, content)


@contextmanager
def publishing(progress: ProgressReporter) -> Iterator[Path]:
    """Give a folder for a version that is published within the block."""
    with (
        tempfile.TemporaryDirectory(prefix="als_spark-") as name,
        progress.phase("publishing"),
    ):
        yield Path(name)
