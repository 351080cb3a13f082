"""One model from its ratings: trained, measured, and published or written."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from pyspark.sql import SparkSession

from als_spark.nightly.fit_options import FitOptions
from als_spark.nightly.fitting import Fitted, Fitting
from als_spark.nightly.publishing import publish
from als_spark.nightly.refit import refit, refit_words
from als_spark.nightly.run_log import RunLog, RunNotes
from als_spark.nightly.run_record import Spec
from als_spark.nightly.starts import cold_start
from als_spark.solve.objective import IMPLICIT_CAVEAT
from als_spark.spark.read.sources import SourceOptions


def train_model(
    session: SparkSession,
    ratings: SourceOptions,
    options: FitOptions,
    spec: Spec,
    notes: RunNotes,
) -> Fitted:
    """Train a model, and measure it if ratings are held out; ``notes`` take what is known."""
    notes.record = replace(notes.record, settings=options.settings(spec))
    if spec.objective.implicit:
        notes.add_warning(IMPLICIT_CAVEAT)
    with ExitStack() as stack:
        fitting = Fitting(session, options, notes, stack)
        fitting.read_features()
        notes.record = replace(notes.record, settings=options.settings(spec, fitting.features))
        ready = fitting.make_ready(fitting.read([ratings]), spec.rank)
        assert notes.record.data is not None
        notes.record = replace(notes.record, data=notes.record.data.with_facts(ready.facts))
        fitted = fitting.fit(ready, spec, cold_start("a model of its own"))
        if ready.prepared.n_ratings.get("test", 0):
            found = fitting.measure(ready, {"model": fitted.model})
            notes.record = replace(notes.record, challenger=dict(found["model"].metrics))
            if options.refit:
                fitted = refit(session, options, notes, stack, ready, fitted, fitting.features)
        elif options.refit:
            notes.add_warning(
                "`refit=`: no rating was held out, so the model has seen all of them already"
            )
    return fitted


def outcome_words(fitted: Fitted, notes: RunNotes) -> str:
    """Say how a training ended."""
    result, metrics = fitted.result, notes.record.challenger or {}
    ended = "converged" if result.converged else "stopped by the cap"
    rmse, n = metrics.get("rmse"), metrics.get("count")
    measured = "" if rmse is None else f", RMSE {rmse:.4f} on {n:,} held-out ratings"
    if rmse is not None and metrics.get("cold"):
        measured += f", {metrics['cold']:,} of them cold"
    posterior = fitted.model.description.get("posterior")
    sampled = posterior is not None and posterior["method"] == "sample"
    if notes.record.refit is not None:
        measured += f"; {refit_words(notes.record.refit, sampled=sampled)}"
    what = result.spec.objective.brief
    if posterior is not None and posterior["method"] != "ridge":
        what = f"{posterior['method']}, noise {posterior['noise_deviation']:.3f}"
        ended = "all samples drawn" if sampled else ended
    return f"d={result.rank}, {what}: {ended} after {result.iterations} iterations{measured}"


def train_into_store(
    session: SparkSession,
    ratings: SourceOptions,
    options: FitOptions,
    spec: Spec,
    keep: int,
    log: RunLog,
) -> str:
    """Train a model and publish it, with the lock held; ``keep`` versions stay.

    Returns what came out, for people.
    """
    log.store.recover()
    based_on, previous = log.store.pointer_number(), log.store.current()
    fitted = train_model(session, ratings, options, spec, log)
    version = publish(log, fitted, based_on, keep)
    log.record = replace(log.record, previous_version=previous)
    words = outcome_words(fitted, log)
    log.end("published", f"published {version}: {words}")
    return words
