"""From sources of ratings to a placement that trains on them: checked, split, packed, placed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import ConfigError
from als_spark.spark.estimate.check import check_plan, of_session
from als_spark.spark.estimate.work import Workload
from als_spark.spark.prepare.encode import (
    NO_EXTRAS,
    Extras,
    check_summary,
    encode_files,
    encode_ratings,
    summarise,
)
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.prepare.place import Packing
from als_spark.spark.prepare.time_split import split_chunks
from als_spark.spark.read.clean_files import CleanFiles, NotClean, Rules, find_clean_files
from als_spark.spark.read.clean_text import find_clean_text
from als_spark.spark.read.columns import (
    LARGEST_RATING,
    check_source,
    typed_ratings,
    union_typed,
)
from als_spark.spark.read.facts import Summary
from als_spark.spark.read.failures import workers_are_explained
from als_spark.spark.read.snapshot import Encoded
from als_spark.spark.read.sources import Source
from als_spark.spark.read.split import TEST, TRAIN, SplitOptions, split_ratings, with_fixed_split
from als_spark.spark.session import default_partitions, described
from als_spark.spark.train.run import PreparedRatings
from als_spark.types import SIDES

Phase = Callable[[str], AbstractContextManager[Any]]
SummaryCheck = Callable[[Summary], None]
"""Stops on ratings that cannot be trained on."""
_LOG = logging.getLogger(__name__)


def prepare_ratings(
    session: SparkSession,
    source: Source,
    options: PrepareOptions,
    *,
    test_source: Source | None = None,
    phase: Phase = lambda _: nullcontext(),
    warn: Callable[[str], None] = _LOG.warning,
) -> PreparedRatings:
    """Read, check, split and pack ratings.

    Parameters
    ----------
    session : SparkSession
    source : Source
        The ratings; from :func:`als_spark.spark.read.sources.read_source` or
        :func:`als_spark.spark.read.columns.source_from_frame`.
    options : PrepareOptions
    test_source : Source, optional
        Ratings to test on; nothing is then held out of ``source`` for testing.
    phase : callable, optional
        Gives a context manager for each phase of the work, by name.
    warn : callable, optional
        Takes what the cluster may be too small for; by default it is logged.

    Raises
    ------
    ConfigError
        If ``source`` is none, or the training could only run out of memory.
    DataError
        If the ratings cannot be trained on.
    """
    check_source(source)
    label = source.label if test_source is None else f"{source.label} + {test_source.label}"
    split = options.split
    if test_source is not None:
        split = SplitOptions(split.strategy, split.seed, 0.0, split.validation_fraction)
    with_times = options.duplicates == "last"
    held_out = split.held_out > 0
    timed = with_times or (held_out and split.strategy == "time")
    files, extras = None, NO_EXTRAS
    with phase("splitting ratings"):
        ratings = typed_ratings(source, need_timestamp=timed)
        if test_source is not None:
            test = with_fixed_split(typed_ratings(test_source, need_timestamp=with_times), TEST)
            ours = split_ratings(ratings, split) if held_out else with_fixed_split(ratings, TRAIN)
            ratings = union_typed([ours, test])
        else:
            files = clean_files_of(session, source, timed=timed)
            extras = Extras(split if held_out else None)
    return prepare_typed(
        *(session, ratings, label, options),
        phase=phase,
        warn=warn,
        files=files,
        extras=extras,
    )


def prepare_typed(
    session: SparkSession,
    ratings: DataFrame,
    label: str,
    options: PrepareOptions,
    *,
    phase: Phase = lambda _: nullcontext(),
    check: SummaryCheck | None = None,
    warn: Callable[[str], None] = _LOG.warning,
    files: CleanFiles | None = None,
    extras: Extras = NO_EXTRAS,
    encoded: Encoded | None = None,
) -> PreparedRatings:
    """Check and pack ratings that are typed and, where some are held out, split.

    The ratings come from :func:`als_spark.spark.read.columns.typed_ratings`, with the column
    ``split`` (see :func:`als_spark.spark.read.split.split_ratings`) unless all of them are to be
    trained on, and perhaps a column ``weight`` of numbers above 0, which needs ``duplicates`` to be
    ``keep``; ``label`` names them in messages. ``check`` takes the place of
    :func:`als_spark.spark.prepare.encode.check_summary`. ``files`` are those of the same ratings,
    where the tasks can read them, and ``extras`` what they find out of them; ``encoded`` are the
    same ratings encoded, where they are. The rest is as in :func:`prepare_ratings`.
    """
    context = session.sparkContext
    if "weight" in ratings.columns and options.duplicates != "keep":
        raise ConfigError(
            f'{label}: duplicates="{options.duplicates}" with weights is not usable: ratings of a '
            'pair have weights of their own, so use "keep"'
        )
    with ExitStack() as temporary:
        with phase("checking and numbering ratings"):
            words = f"checking and counting ratings of {label}"
            # The first pass in Python.
            with described(context, words), workers_are_explained():
                with_times = options.duplicates == "last"
                if encoded is None:
                    encoded = _encoded(
                        session, ratings, files, extras, temporary, with_times=with_times
                    )
                elif not with_times:
                    encoded = encoded.without("timestamps")
            chunks, summary = encoded.chunks, encoded.summary
            if check is None:
                check_summary(summary, label, options.bad_rows)
            else:
                check(summary)
        rejected = None
        if summary.bad.n:
            rejected = ratings.where(F.col("problem").isNotNull()).select("problem", "raw")
        with phase("packing ratings into blocks"):
            packing = Packing(session, chunks, summary, options, label)
            weighted = "weight" in ratings.columns
            check_plan(packing.plan, of_session(context), _work(options, weighted), warn)
            placement, stats, n_ratings, n_duplicates, mean = packing.place()
    return PreparedRatings(
        summary, stats, n_ratings, n_duplicates, rejected, packing.plan, placement, *mean
    )


def clean_files_of(
    session: SparkSession, source: Source, *, timed: bool = False
) -> CleanFiles | None:
    """Find the files that the tasks can read themselves, if a source is such.

    The timestamps are read only where the ratings are to be ``timed``.
    """
    if source.others:
        return None
    roles = (*SIDES, "rating", "timestamp") if timed else (*SIDES, "rating")
    columns = {role: source.columns[role] for role in roles}
    rules, n_tasks = Rules(LARGEST_RATING), default_partitions(session.sparkContext)
    if source.lines is None:
        return find_clean_files(source.frame, columns, rules, n_tasks)
    return find_clean_text(source.frame, source.lines, columns, source.null_words, rules, n_tasks)


def _encoded(
    session: SparkSession,
    ratings: DataFrame,
    files: CleanFiles | None,
    extras: Extras,
    temporary: ExitStack,
    *,
    with_times: bool,
) -> Encoded:
    """Encode ratings, by the tasks alone where that is possible; the chunks are persisted."""
    if files is not None:
        with ExitStack() as tried:
            chunks = encode_files(session, files, extras).persist(StorageLevel.MEMORY_AND_DISK)
            tried.callback(chunks.unpersist)
            try:
                encoded = Encoded(chunks, summarise(chunks))
            except NotClean as reason:
                _LOG.info("Spark reads the ratings: %s", reason)
            else:
                _LOG.info("the tasks have read the files themselves")
                if extras.by_time is None:
                    temporary.push(tried.pop_all())
                    return encoded
                encoded = split_chunks(encoded, extras.by_time)
                temporary.callback(encoded.chunks.unpersist)
                return encoded if with_times else encoded.without("timestamps")
    else:
        _LOG.info("Spark reads the ratings: they are not plain numbers in local files")
    if extras.split is not None:
        ratings = split_ratings(ratings, extras.split)
    if not with_times:
        ratings = ratings.drop("timestamp")
    chunks = encode_ratings(ratings).persist(StorageLevel.MEMORY_AND_DISK)
    temporary.callback(chunks.unpersist)
    return Encoded(chunks, summarise(chunks))


def _work(options: PrepareOptions, weighted: bool) -> Workload:
    """Return what is going to be trained, as estimates see it."""
    return Workload(
        options.method,
        train_share=1 - options.split.held_out,
        rankings=options.ranking is not None,
        weights=weighted,
        accelerated=options.accelerate,
        covariance=options.covariance,
    )
