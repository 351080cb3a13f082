"""One model, from sources of ratings to a folder that can be published: for train and retrain."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import EmptySourceError
from als_spark.model.description import learnt_of
from als_spark.model.intervals import IntervalModel
from als_spark.model.large_model import AnyModel
from als_spark.nightly.features import (
    ReadFeatures,
    marked,
    note_placed,
    place_all,
    read_features,
)
from als_spark.nightly.fit_options import FitOptions
from als_spark.nightly.holdout import HoldoutRule, held_out
from als_spark.nightly.run_log import RunNotes
from als_spark.nightly.run_record import (
    DataRecord,
    SamplesRecord,
    SourceRecord,
    Spec,
    TrainingRecord,
    objective_members,
)
from als_spark.nightly.starts import Start
from als_spark.report.overview import run_lines
from als_spark.spark.predict.evaluate import Evaluation, RankingOptions, evaluate_models
from als_spark.spark.prepare.prepare import prepare_typed
from als_spark.spark.prepare.snapshot import open_snapshot
from als_spark.spark.read.bad_rows import refuse_bad_rows
from als_spark.spark.read.facts import DataFacts
from als_spark.spark.read.failures import unreadable_files_are_named
from als_spark.spark.read.ids import refuse_two_forms
from als_spark.spark.read.snapshot import Snapshot
from als_spark.spark.read.sources import Source, SourceOptions
from als_spark.spark.read.split import TRAIN, split_ratings
from als_spark.spark.train.best import model_of
from als_spark.spark.train.posterior import FittedPosterior, fit_posterior
from als_spark.spark.train.run import PreparedRatings, train_grid
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.grid import SweepCollector
from als_spark.train.records import ModelSpec, PointResult
from als_spark.types import Side


class Fitted(NamedTuple):
    """A trained model with the record of its training."""

    model: AnyModel
    """What is measured on the held-out ratings."""
    result: PointResult
    refitted: AnyModel | None = None
    """The same, trained on with all ratings; None where that is not asked for."""
    intervals: IntervalModel | None = None
    """What intervals need, where the method has it."""
    refitted_intervals: IntervalModel | None = None
    """The same of the refitted model."""


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
            snapshot.tables,
        )


class Fitting:
    """The steps of a run from its ratings to a measured model; ``notes`` take what is known.

    What Spark keeps of the ratings is freed with the stack.
    """

    def __init__(
        self, session: SparkSession, options: FitOptions, notes: RunNotes, stack: ExitStack
    ) -> None:
        self._session = session
        self._options = options
        self._notes = notes
        self._stack = stack
        self.features: Mapping[Side, ReadFeatures] = {}
        """What a learnt prior depends on besides the ratings, once it is read."""

    def read_features(self) -> None:
        """Read the features of the options, before anything else: they may be unusable."""
        options = self._options
        self.features = read_features(
            *(self._session, options.features, options.open_source, options.bad_rows, self._notes)
        )

    def read(
        self, sources: Sequence[SourceOptions], integer_ids: Collection[Side] = ()
    ) -> Snapshot:
        """Read sources of ratings, oldest first; all but the first may be empty.

        ``integer_ids`` is as in :func:`~als_spark.spark.prepare.snapshot.open_snapshot`.

        Raises
        ------
        DataError
            If rows are unusable and must not be, or no rating is usable.
        """
        notes = self._notes
        with notes.progress.phase("looking at the ratings"):
            opened = list(self._open(sources))
        labels = tuple(source.label for source in opened)
        read = tuple(line for source in opened for line in source.words)
        for line in read:
            notes.progress.write(line)
        parts = tuple(part for source in opened for part in source.part_records())
        record = SourceRecord(labels[0], labels[1:], read, parts)
        notes.record = replace(notes.record, source=record)
        self._stack.enter_context(unreadable_files_are_named(" + ".join(labels)))
        with notes.progress.phase("reading and checking ratings"):
            snapshot = self._stack.enter_context(
                open_snapshot(
                    *(self._session, opened, self._options.duplicates),
                    integer_ids=integer_ids,
                    split=self._options.split,
                )
            )
        record = replace(record, first_rows=snapshot.first_rows)
        notes.record = replace(notes.record, source=record)
        for part in snapshot.parts[1:]:
            if part.rows == 0:
                notes.add_warning(f"{part.label} has no rows")
        refuse_bad_rows(snapshot.label, snapshot.bad, self._options.bad_rows)
        for warning in warnings_of(snapshot):
            notes.add_warning(warning)
        words = none_relevant(self._options.ranking, snapshot)
        if words is not None:
            notes.add_warning(words)
        if snapshot.n_duplicates:
            notes.progress.write(
                f"{snapshot.n_duplicates:,} repeated ratings of a pair: took the "
                f"{self._options.duplicates}"
            )
        data = DataRecord(
            *(snapshot.n_ratings, snapshot.bad.n, snapshot.n_duplicates, snapshot.changed.n),
            tables=snapshot.tables,
        )
        notes.record = replace(notes.record, data=data)
        return snapshot

    def _open(self, sources: Sequence[SourceOptions]) -> Iterator[Source]:
        first, *later = sources
        yield self._options.open_source(self._session, first)
        for source in later:
            try:
                yield self._options.open_source(self._session, source)
            except EmptySourceError:
                self._notes.add_warning(f"{source.label} is empty")

    def make_ready(self, snapshot: Snapshot, rank: int) -> ReadyRatings:
        """Split and pack a snapshot."""
        progress, prepare = self._notes.progress, self._options.prepare(rank)
        encoded = snapshot.encoded
        latest = None if encoded is None else encoded.latest
        split = split_ratings(snapshot.ratings, prepare.split, latest)
        prepared = self._stack.enter_context(
            prepare_typed(
                *(self._session, split, snapshot.label, prepare),
                phase=progress.phase,
                warn=self._notes.add_warning,
                encoded=encoded,
            )
        )
        summary, notes = prepared.summary, self._notes
        refuse_two_forms(snapshot.label, summary.ids, snapshot.changed)
        for words in summary.odd_ids:
            notes.add_warning(words)
        n_users, n_items = len(summary.users), len(summary.items)
        progress.write(f"{n_users:,} users, {n_items:,} items, {snapshot.n_ratings:,} ratings")
        extremes = snapshot.lowest, snapshot.highest
        for line in run_lines(summary.as_record(), snapshot.first_rows, *extremes):
            progress.write(line)
        assert notes.record.data is not None
        data = replace(
            notes.record.data,
            ratings_per_user=summary.user_degrees,
            ratings_per_item=summary.item_degrees,
            histogram=tuple(bar.as_record() for bar in summary.histogram),
        )
        notes.record = replace(notes.record, data=data)
        return ReadyRatings(snapshot, split, prepared)

    def fit(self, ready: ReadyRatings, spec: Spec, start: Start) -> Fitted:
        """Train one model until the stopping rule, or the cap, ends it.

        Raises
        ------
        SolveError
            If a row's system has no finite solution.
        """
        options, notes, prepared = self._options, self._notes, ready.prepared
        if options.posterior is not None:
            return self._fit_posterior(ready, options.posterior, start)
        # By its training error, which is always finite: one point is the best anyway.
        collector = SweepCollector("train", notes.progress.on_finished)
        specs = [ModelSpec(0, spec.rank, spec.objective)]
        with notes.progress.phase("training"):
            checkpoint = None
            if options.checkpoint is not None:
                checkpoint = options.checkpoint(prepared, specs, notes.progress.write)
            train_grid(
                prepared,
                specs,
                options.training,
                collector,
                starts=None if start.factors is None else [start.factors],
                on_iteration=notes.progress.on_iteration,
                checkpoint=checkpoint,
            )
        outcome = collector.outcome()
        assert outcome is not None
        result = outcome.points[0]
        more = self._description(ready, result, start)
        model = model_of(prepared, outcome.best_factors, spec.objective, more)
        self._note_training(result, start)
        return Fitted(model, result)

    def _fit_posterior(
        self, ready: ReadyRatings, options: PosteriorOptions, start: Start
    ) -> Fitted:
        """Train a model with a learnt prior."""
        progress = self._notes.progress
        placed = place_all(self.features, ready.prepared)
        note_placed(placed, self._notes)
        with progress.phase("training"):
            fitted = fit_posterior(
                ready.prepared, options, progress.on_iteration, start.posterior, placed.tables
            )
        more = {**self._description(ready, fitted.result, start), **fitted.description}
        if placed.record:
            more["features"] = placed.record
        model = model_of(ready.prepared, fitted.factors, fitted.objective, more)
        model, intervals = marked(placed, model, fitted.intervals)
        self._note_training(
            fitted.result, start, learnt_of(fitted.description), samples_record(fitted)
        )
        return Fitted(model, fitted.result, intervals=intervals)

    def _description(
        self, ready: ReadyRatings, result: PointResult, start: Start
    ) -> dict[str, Any]:
        """Return what the description of a model has besides its objective."""
        bound = result.objective
        return {
            "seed": self._options.training.seed,
            "holdout": self._options.holdout.as_record(),
            "fingerprint": ready.snapshot.fingerprint,
            "iterations": result.iterations,
            "converged": result.converged,
            "objective": bound if math.isfinite(bound) else None,
            "start": start.kind,
            "reason": start.reason,
            "warm_runs": start.warm_runs,
        }

    def _note_training(
        self,
        result: PointResult,
        start: Start,
        learnt: Mapping[str, Any] | None = None,
        samples: SamplesRecord | None = None,
    ) -> None:
        """Note how a training has gone."""
        training = TrainingRecord(
            start=start.kind,
            reason=start.reason,
            rank=result.rank,
            **objective_members(result.spec.objective),
            iterations=result.iterations,
            evaluations=result.evaluations,
            converged=result.converged,
            objective=result.objective,
            seconds=round(result.seconds, 3),
            history=tuple((r.iteration, r.objective, r.change) for r in result.history),
            learnt=learnt,
            samples=samples,
        )
        self._notes.record = replace(self._notes.record, training=training)

    def measure(
        self,
        ready: ReadyRatings,
        models: Mapping[str, AnyModel],
        unseen_by: HoldoutRule | None = None,
    ) -> dict[str, Evaluation]:
        """Measure models on the held-out ratings; what is trained on is not recommended.

        ``unseen_by`` takes those only that another rule holds out too.
        """
        with self._notes.progress.phase("evaluating"):
            return evaluate_models(
                self._session,
                held_out(ready.split, unseen_by),
                models,
                self._options.ranking,
                seen=ready.split.where(F.col("split") == TRAIN),
            )


def samples_record(fitted: FittedPosterior) -> SamplesRecord | None:
    """Return what is told of the samples of a training; None of other methods."""
    learnt = fitted.description["posterior"]
    if learnt["method"] != "sample":
        return None
    history = fitted.result.history
    return SamplesRecord(
        burn_in=learnt["burn_in"],
        noise=tuple(record.noise for record in history),
        rmse=tuple((r.iteration, r.rmse) for r in history if math.isfinite(r.rmse)),
    )


def warnings_of(snapshot: Snapshot) -> list[str]:
    """Return what somebody should know of the ratings."""
    unusable = [f"unusable rows left out: {problem}" for problem in snapshot.bad.lines]
    return [*unusable, *snapshot.changed.lines, *snapshot.warnings]


def none_relevant(ranking: RankingOptions, snapshot: Snapshot) -> str | None:
    """Say so if no rating is high enough for the ranking measures, which then have no value."""
    least = ranking.relevant_from
    if least is None or ranking.max_users == 0 or least <= snapshot.highest:
        return None
    return (
        f"`relevant_from={least:g}`: no rating of {snapshot.label} is as high, the highest is "
        f"{snapshot.highest:g}, so there are no ranking measures: give a smaller one"
    )
