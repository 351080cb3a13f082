"""One model, from prepared ratings to a folder that can be published: for train and retrain."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.cli.config.batch import ModelConfig, Spec
from als_spark.cli.config.sweep import objective_note
from als_spark.cli.holdout import HoldoutRule, held_out
from als_spark.model.factor_model import FactorModel
from als_spark.model.files import save_model, write_json
from als_spark.report.progress import ProgressReporter
from als_spark.spark.predict.evaluate import Evaluation, RankingOptions, evaluate_models
from als_spark.spark.prepare.prepare import prepare_typed, split_ratings
from als_spark.spark.prepare.prepared import PreparedRatings, PrepareOptions
from als_spark.spark.read.facts import DataFacts
from als_spark.spark.read.snapshot import Snapshot
from als_spark.spark.read.validation import TRAIN, SplitOptions
from als_spark.spark.train.run import train_grid
from als_spark.train.backend import Factors
from als_spark.train.grid import SweepCollector
from als_spark.train.loop import ModelSpec, initial_factors
from als_spark.train.records import PointResult

VERSION_FILES = ("metrics.json", "fingerprint.json", "config.json", "versions.json")
"""What a version holds besides its model."""


class Start(NamedTuple):
    """Where a training starts."""

    kind: Literal["warm", "cold"]
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


def make_ready(
    session: SparkSession,
    snapshot: Snapshot,
    rank: int,
    config: ModelConfig,
    progress: ProgressReporter,
    stack: ExitStack,
) -> ReadyRatings:
    """Split and pack a snapshot; what Spark keeps of it is freed with the stack."""
    options = PrepareOptions(
        split=SplitOptions(config.split, config.seed, config.test_fraction),
        dtype=config.dtype,
        ranks=[rank],
        placement=config.placement,
        partitions=config.partitions,
    )
    split = split_ratings(session.sparkContext, snapshot.ratings, options.split)
    prepared = stack.enter_context(
        prepare_typed(session, split, snapshot.label, options, phase=progress.phase)
    )
    n_users, n_items = len(prepared.summary.users), len(prepared.summary.items)
    progress.write(f"{n_users:,} users, {n_items:,} items, {snapshot.n_ratings:,} ratings")
    return ReadyRatings(snapshot, split, prepared)


def measure(
    session: SparkSession,
    ready: ReadyRatings,
    models: Mapping[str, FactorModel],
    config: ModelConfig,
    unseen_by: HoldoutRule | None = None,
) -> dict[str, Evaluation]:
    """Measure models on the held-out ratings; what is trained on is not recommended.

    ``unseen_by`` takes those only that another rule holds out too.
    """
    return evaluate_models(
        session,
        held_out(ready.split, unseen_by),
        models,
        RankingOptions(config.top, config.relevant_from, config.ranking_users),
        seen=ready.split.where(F.col("split") == TRAIN),
    )


def training_record(fitted: Fitted) -> dict[str, Any]:
    """Return what reports and history tell of a training."""
    result, description = fitted.result, fitted.model.description
    return {
        **{name: description[name] for name in ("start", "reason", "exponent")},
        "rank": result.rank,
        "lambda": result.reg,
        "iterations": result.iterations,
        "evaluations": result.evaluations,
        "converged": result.converged,
        "objective": result.objective,
        "seconds": round(result.seconds, 3),
        "history": [[r.iteration, r.objective, r.change] for r in result.history],
    }


def training_settings(config: ModelConfig, spec: Spec) -> dict[str, Any]:
    """Return all that decides what is trained from a snapshot of given fingerprint."""
    names = ("tol", "max_iter", "dtype", "accelerate")
    return {
        **spec._asdict(),
        **HoldoutRule.of(config).as_record(),
        **{name: getattr(config, name) for name in names},
    }


def fit(
    session: SparkSession,
    prepared: PreparedRatings,
    spec: Spec,
    config: ModelConfig,
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
        session,
        prepared,
        [ModelSpec(0, spec.rank, spec.reg)],
        config.training_with(spec.exponent),
        collector,
        starts=None if start.factors is None else [start.factors],
        on_iteration=progress.on_iteration,
    )
    outcome = collector.outcome()
    assert outcome is not None
    result = outcome.points[0]
    description = {
        "lambda_reg": spec.reg,
        "exponent": spec.exponent,
        "objective_of_lambda": objective_note(spec.exponent),
        "seed": config.seed,
        "holdout": HoldoutRule.of(config).as_record(),
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
    """Start from a trained model's factors; ids that it does not know start as always.

    Parameters
    ----------
    prepared : PreparedRatings
        Says which row belongs to which id.
    champion : FactorModel
        Of the rank that is to be trained.
    name : str
        What to call it.
    seed : int
        Of the usual start.
    warm_runs : int
        As in :class:`Start`.
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


def write_version(
    folder: Path,
    model: FactorModel,
    *,
    metrics: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    config: Mapping[str, Any],
    versions: Mapping[str, Any],
) -> None:
    """Write a model with all that a version of a store keeps of it (see :data:`VERSION_FILES`)."""
    save_model(model, folder)
    for name, content in zip(VERSION_FILES, (metrics, fingerprint, config, versions), strict=True):
        write_json(folder / name, dict(content))
