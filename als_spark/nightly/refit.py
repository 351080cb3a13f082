"""The winner, trained on with all ratings: what was held out to measure it is knowledge too."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from pyspark.sql import SparkSession

from als_spark.model.intervals import IntervalModel
from als_spark.model.large_model import AnyModel
from als_spark.nightly.features import ReadFeatures, marked, place_all
from als_spark.nightly.fit_options import FitOptions
from als_spark.nightly.fitting import Fitted, ReadyRatings
from als_spark.nightly.method import posterior_start, ridge_rows, ridge_start
from als_spark.nightly.run_log import RunNotes
from als_spark.nightly.run_record import RefitRecord
from als_spark.nightly.starts import known_factors
from als_spark.solve.objective import Objective
from als_spark.spark.prepare.prepare import prepare_typed
from als_spark.spark.prepare.row_features import PlacedSides
from als_spark.spark.train.best import model_of
from als_spark.spark.train.posterior import fit_posterior
from als_spark.spark.train.run import PreparedRatings, train_grid
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.grid import SweepCollector
from als_spark.train.loop import OnIteration
from als_spark.train.records import ModelSpec, PointResult, TrainingOptions
from als_spark.types import Side

PHASE = "refit: "
"""Before the names of its phases."""


def refit(
    session: SparkSession,
    options: FitOptions,
    notes: RunNotes,
    stack: ExitStack,
    ready: ReadyRatings,
    fitted: Fitted,
    features: Mapping[Side, ReadFeatures],
) -> Fitted:
    """Train a model on with all ratings of its run; ``notes`` take what is known.

    The ratings are packed a second time, without a split; those packed before are freed first.
    The model stays as it is, with its measures: see :attr:`Fitted.refitted`.

    Raises
    ------
    SolveError
        If a row's system has no finite solution.
    """
    progress, snapshot = notes.progress, ready.snapshot
    held_out = ready.prepared.n_ratings.get("test", 0)
    rank = fitted.model.rank if options.posterior is None else options.posterior.n_factors
    ready.prepared.close()
    prepared = stack.enter_context(
        prepare_typed(
            session,
            snapshot.ratings,
            snapshot.label,
            options.prepare(rank),
            phase=lambda name: progress.phase(f"{PHASE}{name}"),
            warn=notes.add_warning,
            encoded=None if snapshot.encoded is None else snapshot.encoded.without("splits"),
        )
    )
    intervals = None
    with progress.phase(f"{PHASE}training"):
        if options.posterior is None:
            model, record = refit_model(
                prepared,
                fitted.model,
                fitted.result.spec.objective,
                options.training,
                held_out=held_out,
                on_iteration=progress.on_iteration,
            )
        else:
            model, record, intervals = refit_posterior(
                *(prepared, fitted.model, fitted.intervals, options.posterior),
                held_out=held_out,
                on_iteration=progress.on_iteration,
                placed=place_all(features, prepared),
            )
    notes.record = replace(notes.record, refit=record)
    sampled = options.posterior is not None and options.posterior.method == "sample"
    progress.write(refit_words(record, sampled=sampled))
    holdout = options.holdout._replace(test_fraction=0.0).as_record()
    description = {**model.description, "holdout": holdout}
    return fitted._replace(
        refitted=replace(model, description=description), refitted_intervals=intervals
    )


def refit_posterior(
    prepared: PreparedRatings,
    model: AnyModel,
    intervals: IntervalModel | None,
    options: PosteriorOptions,
    *,
    held_out: int,
    on_iteration: OnIteration,
    placed: PlacedSides | None = None,
) -> tuple[AnyModel, RefitRecord, IntervalModel | None]:
    """Train a model with a learnt prior on all ratings: see :func:`refit_model`.

    A variational one goes on from its own posterior, a ridge from its own rows; samples are drawn
    anew, by the same seed.
    """
    start = None
    if intervals is not None and options.method == "variational":
        start, _ = posterior_start(prepared, intervals, model)
    elif (known := ridge_rows(model)) is not None:
        start, _ = ridge_start(prepared, known, model)
    placed = placed or PlacedSides({}, {})
    found = fit_posterior(prepared, options, on_iteration, start, placed.tables)
    record = _refit_record(prepared, found.result, held_out)
    more = {**model.description, **found.description, "refit": record.as_dict()}
    if placed.record:
        more["features"] = placed.record
    model = model_of(prepared, found.factors, found.objective, more)
    model, intervals = marked(placed, model, found.intervals)
    return model, record, intervals


def _refit_record(prepared: PreparedRatings, result: PointResult, held_out: int) -> RefitRecord:
    return RefitRecord(
        ratings=prepared.n_ratings["train"],
        held_out_before=held_out,
        iterations=result.iterations,
        evaluations=result.evaluations,
        converged=result.converged,
        objective=result.objective,
        seconds=round(result.seconds, 3),
    )


def refit_model(
    prepared: PreparedRatings,
    model: AnyModel,
    objective: Objective,
    training: TrainingOptions,
    *,
    held_out: int,
    on_iteration: OnIteration | None = None,
) -> tuple[AnyModel, RefitRecord]:
    """Train a model on, from its own factors, with ratings of which none is held out.

    Its description says so; what that tells of measures and of the training stays, and is of the
    model before the refit. ``held_out`` is the number of ratings that it had not seen.
    """
    start, _ = known_factors(prepared, model, training.seed)
    collector = SweepCollector("train")
    train_grid(
        prepared,
        [ModelSpec(0, model.rank, objective)],
        training,
        collector,
        starts=[start],
        on_iteration=on_iteration,
    )
    outcome = collector.outcome()
    assert outcome is not None
    (result,) = outcome.points
    record = _refit_record(prepared, result, held_out)
    more = {**model.description, "refit": record.as_dict()}
    return model_of(prepared, outcome.best_factors, objective, more), record


def refit_words(record: RefitRecord, *, sampled: bool = False) -> str:
    """Say how a refit ended; one that is ``sampled`` has no end of its own."""
    ended = "converged" if record.converged else "stopped by the cap"
    ended = "all samples drawn" if sampled else ended
    plural = "" if record.iterations == 1 else "s"
    return (
        f"refitted on all {record.ratings:,} ratings: {ended} after {record.iterations} "
        f"iteration{plural}; the measures are those before the refit"
    )
