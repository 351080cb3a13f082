"""``jobs/retrain.py``: the nightly job. Check the data, train a challenger, publish it or not."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from als_spark.cli.config.model import DEFAULT_SPEC
from als_spark.cli.config.ratings import NO_OUTPUT
from als_spark.cli.config.retrain import RetrainConfig
from als_spark.cli.interrupts import stop_on_signals
from als_spark.cli.nightly import fit_options, run_log
from als_spark.cli.paths import place_is_usage
from als_spark.cli.plan import plan_model
from als_spark.cli.program import job_main, say
from als_spark.cli.spark_job import all_versions, job_progress, spark_job
from als_spark.cli.spark_paths import check_paths
from als_spark.cli.stored import store_of
from als_spark.errors import ConfigError
from als_spark.files.places import local_path
from als_spark.nightly.method import Choice, Earlier
from als_spark.nightly.retrain import Retrain, RetrainOptions
from als_spark.nightly.run_record import Spec
from als_spark.nightly.tracking import check_tracking
from als_spark.report.progress import ProgressReporter
from als_spark.train.bayes.options import PosteriorOptions


def _run(config: RetrainConfig) -> int:
    if config.plan:
        return plan_model(config, *plan_choice(config))
    if config.mlflow is not None:
        check_tracking(config.mlflow)
    with job_progress("retrain") as progress, ExitStack() as stack:
        stack.enter_context(place_is_usage("--store", config.store))
        session = None
        if local_path(config.store) is None:
            # Only Spark knows the file system that the store is on.
            session = stack.enter_context(spark_job("retrain", progress)).session
        log = run_log(store_of(session, config.store), "retrain", config, progress)
        if session is None:
            # Spark is not there yet, but the run must tell how it ended.
            stack.enter_context(stop_on_signals())
            stack.enter_context(log.recorded())
            session = stack.enter_context(spark_job("retrain", progress)).session
        else:
            stack.enter_context(log.recorded())
        check_paths(session, config)
        # Within the record too, which says what the exit code says.
        stack.enter_context(place_is_usage("--store", config.store))
        log.record = replace(log.record, versions=all_versions(session))
        Retrain(session, retrain_options(config, progress), log).work()
    say(f"{log.record.sentence}\nThe report is runs/{log.run}/report.html in {config.store}.")
    return log.exit_code


def plan_choice(config: RetrainConfig) -> tuple[int, PosteriorOptions | None]:
    """Rank and method of the model that a plan is of: given, of the current version, or default."""
    earlier = None
    if config.store != NO_OUTPUT and local_path(config.store) is not None:
        store = store_of(None, config.store)
        if store.exists() and store.current() is not None:
            earlier = Earlier.of_model(store.load())
    posterior = config.posterior_of(earlier, "the current version")
    if posterior is not None:
        return posterior.n_factors, posterior
    if config.rank is not None:
        return config.rank, None
    if config.store != NO_OUTPUT and local_path(config.store) is None:
        raise ConfigError(
            f"--plan with --store {config.store}: the rank of its current version is not looked "
            "up there: give it with --rank"
        )
    return (DEFAULT_SPEC if earlier is None else earlier.spec).rank, None


def retrain_options(config: RetrainConfig, progress: ProgressReporter) -> RetrainOptions:
    """Turn the configuration into the parameters of a nightly run."""

    def choose(other: Earlier | None, origin: str | None) -> Choice:
        posterior = config.posterior_of(other, origin)
        features = config.features_of(other, origin)
        if posterior is not None:
            progress.write(config.nightly_words(posterior, origin, features))
            return Choice(Spec(posterior.n_factors, posterior.objective), posterior, features)
        spec = config.spec(None if other is None else other.spec)
        progress.write(config.objective_words(spec, origin))
        return Choice(spec)

    by_time = config.split == "time"
    return RetrainOptions(
        sources=(
            config.source(config.ratings, config.table, timestamp=by_time),
            *(config.source(path, timestamp=by_time) for path in config.increments),
        ),
        fit=fit_options(config),
        choose=choose,
        limits=config,
        measure=config.measure,
        margin=config.margin,
        max_decline=config.largest_decline,
        full_every=config.full_every,
        force=config.force,
        keep=config.keep,
    )


main = job_main(RetrainConfig, _run, "stopped before the run began; the store is as it was")
