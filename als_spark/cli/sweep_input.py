"""What a sweep reads, and how it is prepared."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import SparkSession

from als_spark.cli.config.sweep import SweepConfig
from als_spark.cli.spark_job import open_ratings
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.read.sources import Source, sample_ratings
from als_spark.spark.read.split import SplitOptions


def open_sources(session: SparkSession, config: SweepConfig) -> tuple[Source, Source | None]:
    """Open the ratings, and those of ``--test``, which may be none.

    Raises
    ------
    UserError
        If one of them cannot be read.
    """
    need_timestamp = config.split == "time" or config.duplicates == "last"
    path = config.ratings
    if path is None and config.table is None:
        path = sample_ratings()
    source = open_ratings(session, config, path, config.table, need_timestamp=need_timestamp)
    test = None
    if config.test is not None:
        test = open_ratings(
            session, config, config.test, need_timestamp=config.duplicates == "last"
        )
    return source, test


def prepare_options(config: SweepConfig, ranks: Sequence[int]) -> PrepareOptions:
    """Return how the ratings are split, checked and packed for models of these ranks."""
    return PrepareOptions(
        split=SplitOptions(
            config.split, config.seed, config.test_fraction, config.validation_fraction
        ),
        bad_rows=config.bad_rows,
        duplicates=config.duplicates,
        cold_start=config.cold_rows,
        dtype=config.dtype,
        # Those with a learnt prior are trained one after the other, or a task each.
        ranks=[max(ranks)] if config.posteriors else ranks,
        placement=config.placement,
        partitions=config.partitions,
        ranking=config.ranking,
        exchange=config.exchange,
        accelerate=config.training.accelerate,
        method=config.kind,
    )
