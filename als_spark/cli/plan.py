"""``--plan`` of the jobs that train: what the training needs, from counts alone; nothing trains."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from als_spark.cli.config.model import ModelConfig
from als_spark.cli.config.ratings import FitConfig
from als_spark.cli.config.retrain import RetrainConfig
from als_spark.cli.config.settings import in_options
from als_spark.cli.config.sweep import SweepConfig
from als_spark.cli.program import EXIT_DONE, EXIT_USAGE, say
from als_spark.cli.spark_job import SparkJob, job_progress, open_ratings, spark_job
from als_spark.report.plan import plan_text
from als_spark.report.progress import ProgressReporter, writable
from als_spark.spark.estimate.check import of_session
from als_spark.spark.estimate.estimate import Estimate, estimate_training
from als_spark.spark.estimate.resources import Resources, counted, stated
from als_spark.spark.estimate.work import Workload
from als_spark.spark.planner import Sizes
from als_spark.spark.read.counts import Counts, count_ratings
from als_spark.spark.read.sources import Source, sample_ratings
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.grid import grid_specs
from als_spark.types import ExchangeChoice


class Planned(NamedTuple):
    """What a job would train."""

    ranks: Sequence[int]
    workload: Workload
    exchange: ExchangeChoice
    n_models: int | None = None
    """Where they are trained one by one: how many; ``ranks`` has the largest."""


def plan_sweep(config: SweepConfig) -> int:
    """Print what a sweep needs; return the exit code: 2 if it could only fail."""
    held_out = config.validation_fraction + (0.0 if config.test else config.test_fraction)
    workload = Workload(
        config.kind,
        train_share=1 - held_out,
        rankings=config.ranking is not None,
        accelerated=config.accelerate,
        covariance=config.covariance,
    )
    posteriors = config.posteriors
    if posteriors:
        # The largest of them: they are trained one after the other, or a task each.
        planned = Planned([max(config.ranks)], workload, config.exchange, len(posteriors))
        return _plan(config, planned)
    ranks = [spec.rank for spec in grid_specs(config.ranks, config.objectives)]
    return _plan(config, Planned(ranks, workload, config.exchange))


def plan_model(config: ModelConfig, rank: int, posterior: PosteriorOptions | None) -> int:
    """Print what the training of one model needs; return the exit code: 2 if it could only fail.

    ``posterior`` is what trains with a learnt prior; None: a ridge towards zero.
    """
    method = "ridge" if posterior is None else posterior.method
    forced = posterior is not None and config.placement != "grid"
    exchange: ExchangeChoice = "broadcast" if forced else config.exchange
    workload = Workload(
        method,
        train_share=1 - config.test_fraction,
        accelerated=config.accelerate,
        covariance=None if posterior is None else posterior.covariance,
    )
    return _plan(config, Planned([rank], workload, exchange))


def _plan(config: FitConfig, planned: Planned) -> int:
    with ExitStack() as stack:
        progress = stack.enter_context(job_progress(config.command))
        job: SparkJob | None = None
        if config.counts is None or config.cluster is None:
            job = stack.enter_context(spark_job(config.command, progress))
        counts, origin = _counts(config, job, progress)
        estimate = _estimate(config, planned, counts, _resources(config, job))
    record = _in_options({**estimate.as_record(), "counted": origin})
    if planned.n_models is not None:
        record["one_by_one"] = planned.n_models
    if config.as_json:
        say(json.dumps(record, indent=2, allow_nan=False))
    else:
        say(writable(sys.stdout, plan_text(record)))
    return EXIT_DONE if estimate.trainable else EXIT_USAGE


def _counts(
    config: FitConfig, job: SparkJob | None, progress: ProgressReporter
) -> tuple[Counts, str]:
    """Return the counts, and where they come from."""
    if config.counts is not None:
        return Counts(*counted(config.counts)), "as given"
    assert job is not None
    with progress.phase("looking at the ratings"):
        sources = list(_sources(config, job))
    with progress.phase("counting"):
        found = count_ratings(job.session, sources)
    label = " + ".join(source.label for source in sources)
    return found, f"counted in {label}, users and items to about 1 %"


def _sources(config: FitConfig, job: SparkJob) -> Iterator[Source]:
    path = config.ratings
    if path is None and config.table is None:
        path = sample_ratings()
    more: tuple[str, ...] = ()
    if isinstance(config, SweepConfig) and config.test is not None:
        more = (config.test,)
    if isinstance(config, RetrainConfig):
        more = config.increments
    yield open_ratings(job.session, config, path, config.table, need_timestamp=False)
    for other in more:
        yield open_ratings(job.session, config, other, need_timestamp=False)


def _resources(config: FitConfig, job: SparkJob | None) -> Resources:
    if config.cluster is not None:
        return stated(config.cluster)
    assert job is not None
    return of_session(job.session.sparkContext)


def _estimate(
    config: FitConfig, planned: Planned, counts: Counts, resources: Resources
) -> Estimate:
    sizes = Sizes(
        *counts, planned.ranks, 8 if config.dtype == "float64" else 4, resources.all_cores
    )
    return estimate_training(
        sizes,
        resources,
        workload=planned.workload,
        placement=config.placement,
        partitions=config.partitions,
        exchange=planned.exchange,
    )


def _in_options(record: dict[str, Any]) -> dict[str, Any]:
    """Let findings name options, not parameters."""
    found = [{**one, "words": in_options(one["words"])} for one in record["too_small"]]
    return {**record, "too_small": found}
