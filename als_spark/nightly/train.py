"""One model from its ratings: trained, measured, and published or written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from pyspark.sql import SparkSession

from als_spark.nightly.fitting import (
    FitOptions,
    Fitted,
    OpenSource,
    ReadOptions,
    cold_start,
    fit,
    make_ready,
    measure,
    publishing,
    read_ratings,
    training_record,
    write_version,
)
from als_spark.nightly.run_log import RunLog
from als_spark.nightly.run_record import DataRecord, RunRecord, SourceRecord, Spec
from als_spark.report.progress import ProgressReporter
from als_spark.spark.read.sources import SourceOptions


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What decides the training of one model; ``open_source`` reads where its ratings are."""

    ratings: SourceOptions
    open_source: OpenSource
    reading: ReadOptions
    fit: FitOptions
    spec: Spec


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model with the record of its run, which has its held-out errors."""

    fitted: Fitted
    record: RunRecord

    @property
    def sentence(self) -> str:
        """What came out, for people."""
        result, metrics = self.fitted.result, self.record.challenger or {}
        objective = result.spec.objective
        ended = "converged" if result.converged else "stopped by the cap"
        rmse, n = metrics.get("rmse"), metrics.get("count")
        measured = "" if rmse is None else f", RMSE {rmse:.4f} on {n:,} held-out ratings"
        return (
            f"d={result.rank}, lambda={objective.reg:g}, exponent={objective.exponent:g}: "
            f"{ended} after {result.iterations} iterations{measured}"
        )

    def write(self, folder: Path) -> None:
        """Write the model with all that is kept of it."""
        write_version(folder, self.fitted, self.record)


def train_model(
    session: SparkSession,
    options: TrainOptions,
    progress: ProgressReporter,
    record: Callable[[], RunRecord],
    warn: Callable[[str], None],
) -> Trained:
    """Train a model, and measure it if ratings are held out.

    Parameters
    ----------
    session : SparkSession
    options : TrainOptions
    progress : ProgressReporter
    record : callable
        Returns what is known of the run so far.
    warn : callable
        Takes what somebody should know of the ratings.
    """
    with progress.phase("looking at the ratings"):
        source = options.open_source(session, options.ratings)
    with ExitStack() as stack:
        snapshot = read_ratings(session, [source], options.reading, progress, warn, stack)
        ready = make_ready(session, snapshot, options.spec.rank, options.fit, progress, stack)
        with progress.phase("training"):
            start = cold_start("a model of its own")
            fitted = fit(ready.prepared, options.spec, options.fit, start, progress)
        metrics = None
        if ready.prepared.n_ratings.get("test", 0):
            with progress.phase("evaluating"):
                found = measure(session, ready, {"model": fitted.model}, options.fit.ranking)
            metrics = dict(found["model"].metrics)
        data = DataRecord(snapshot.n_ratings, snapshot.bad.n, snapshot.n_duplicates)
        known = replace(
            record(),
            source=SourceRecord(snapshot.label),
            data=data.with_facts(ready.facts),
            settings=options.fit.settings(options.spec),
            training=training_record(fitted),
            challenger=metrics,
        )
    return Trained(fitted, known)


def train_into_store(
    session: SparkSession, options: TrainOptions, keep: int, log: RunLog
) -> Trained:
    """Train a model and publish it, with the lock held; ``keep`` versions stay."""
    store, check = log.store, log.lock.check
    store.recover()
    based_on, previous = store.pointer_number(), store.current()
    trained = train_model(session, options, log.progress, lambda: log.record, log.add_warning)
    log.record = trained.record
    with publishing(log.progress) as folder:
        trained.write(folder)
        version = store.publish(folder, run=log.run, expected=based_on, check=check)
        store.prune(keep, check=check)
    log.record = replace(log.record, version=version, previous_version=previous)
    log.end("published", f"published {version}: {trained.sentence}")
    return trained
