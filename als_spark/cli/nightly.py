"""What the command line turns into the parameters of a training or a nightly run."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import als_spark
from als_spark.cli.config.model import ModelConfig
from als_spark.cli.config.settings import config_record, in_options
from als_spark.cli.interrupts import signals_ignored
from als_spark.cli.program import (
    EXIT_DATA_CHECK,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_KEPT,
    EXIT_LOCKED,
    EXIT_USAGE,
)
from als_spark.cli.spark_job import open_source
from als_spark.nightly.fit_options import FitOptions
from als_spark.nightly.holdout import HoldoutRule
from als_spark.nightly.run_log import Outcome, RunLog, Tracking, new_record
from als_spark.report.progress import ProgressReporter
from als_spark.spark.predict.evaluate import RankingOptions
from als_spark.store.store import ModelStore

EXIT_CODES: dict[Outcome, int] = {
    "published": EXIT_DONE,
    "unchanged": EXIT_DONE,
    "kept": EXIT_KEPT,
    "data_check_failed": EXIT_DATA_CHECK,
    "locked": EXIT_LOCKED,
    "bad_input": EXIT_USAGE,
    "interrupted": EXIT_INTERRUPTED,
    "failed": EXIT_FAILED,
}
"""What a process tells the scheduler of how its run on a store has ended."""


def run_log(store: ModelStore, job: str, config: ModelConfig, progress: ProgressReporter) -> RunLog:
    """Return the account of a run that begins now."""
    tracking = None
    if config.mlflow is not None:
        tracking = Tracking(config.mlflow, config.mlflow_experiment)
    record = new_record(job, config_record(config), {"als_spark": als_spark.__version__})
    return RunLog(
        store,
        record,
        progress,
        ttl=timedelta(minutes=config.lock_minutes),
        exit_codes=EXIT_CODES,
        shield=signals_ignored,
        say=in_options,
        tracking=tracking,
    )


def fit_options(config: ModelConfig) -> FitOptions:
    """Say how ratings are read, and how a model is trained and measured."""
    return FitOptions(
        partial(open_source, config),
        config.bad_rows,
        config.duplicates,
        HoldoutRule(config.split, config.test_fraction, config.seed),
        config.training,
        RankingOptions(config.top, config.relevant_from, config.ranking_users),
        config.placement,
        config.partitions,
        config.refit,
        "broadcast" if config.posterior and config.placement != "grid" else config.exchange,
        config.posterior,
        features=config.feature_sources,
    )
