"""The ratings of a run from several sources, a later one winning: read once, counted.

A pair that was rated more than once is resolved here, before anything is split or packed, so that
training, held-out ratings and data checks speak of the same ratings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, NamedTuple

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from als_spark.errors import DataError
from als_spark.spark.casts import try_cast
from als_spark.spark.read.bad_rows import BadRowCounts, count_rows
from als_spark.spark.read.columns import typed_ratings, union_typed
from als_spark.spark.read.duplicates import last_of_group, rating_of_group
from als_spark.spark.read.facts import PartFacts, Summary, TableVersion
from als_spark.spark.read.first_rows import first_of_frame
from als_spark.spark.read.ids import ChangedIds, example_of
from als_spark.spark.read.sources import Source
from als_spark.spark.read.split import LatestTimes
from als_spark.spark.session import default_partitions, described
from als_spark.types import SIDES, Duplicates, Side

_ORIGIN = "als_spark_origin"
PARTITION_ROWS = 1_000_000
"""Ratings of a partition, where there are more partitions than cores."""
OTHER_UNITS = 500.0
"""Ratio of the latest timestamps of two sources from which on their units are in doubt."""


class Encoded(NamedTuple):
    """Ratings that are encoded already (see :mod:`als_spark.spark.prepare.encode`)."""

    chunks: DataFrame
    """Persisted; split, if the ratings will be."""
    summary: Summary
    latest: LatestTimes | None = None
    """Where they are split by time."""

    def without(self, column: str) -> Encoded:
        """Return them without their ``splits``, or ``timestamps``."""
        return self._replace(chunks=self.chunks.withColumn(column, F.lit(bytearray())))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The usable ratings of a run, one of each pair.

    ``ratings`` are typed as :func:`als_spark.spark.prepare.prepare.prepare_typed` takes them, and
    persisted. ``parts`` has each source as read, ``bad`` the unusable rows of all, ``changed`` the
    ids of usable rows that are not as they were written, ``warnings`` what is doubtful about which
    rating of a pair is the last; ``n_duplicates`` usable rows gave way to another one of their
    pair; ``first_rows`` are the first of all (see :mod:`als_spark.spark.read.first_rows`). The rest
    is as in :class:`als_spark.spark.read.facts.DataFacts`. ``encoded`` are the same ratings, where
    they came without rows of Spark's.
    """

    ratings: DataFrame
    label: str
    parts: list[PartFacts]
    bad: BadRowCounts
    changed: ChangedIds
    warnings: list[str]
    n_ratings: int
    n_duplicates: int
    lowest: float
    highest: float
    mean: float
    spread: float
    fingerprint: str
    tables: tuple[TableVersion, ...] = ()
    first_rows: tuple[Mapping[str, Any], ...] = ()
    encoded: Encoded | None = None


@contextmanager
def read_snapshot(
    session: SparkSession,
    sources: Sequence[Source],
    duplicates: Duplicates,
    *,
    integer_ids: Collection[Side] = (),
) -> Iterator[Snapshot]:
    """Read sources of ratings, oldest first; what Spark keeps is freed when the block ends.

    Of a pair that was rated more than once, ``duplicates`` says whether to stop, or the rule of
    :mod:`als_spark.spark.read.duplicates`, by time where all sources have timestamps.
    ``integer_ids`` must be integers, as those of a model are: text is unusable.

    Raises
    ------
    DataError
        If no rating is usable, or a pair is rated twice that must not be.
    """
    by_time = all(source.timed for source in sources)
    frames = [_integers_only(typed, integer_ids) for typed in _typed_with_origin(sources)]
    label = " + ".join(source.label for source in sources)
    context = session.sparkContext
    with ExitStack() as kept:
        rows = union_typed(frames).persist(StorageLevel.MEMORY_AND_DISK)
        kept.callback(rows.unpersist)
        with described(context, f"reading {label}"):
            parts, changed = _count_parts(rows, sources)
            # Of what has just been kept.
            first = first_of_frame(rows, sources[0].columns)
        bad = BadRowCounts({}, {})
        if any(part.bad_rows for part in parts):
            with described(context, "looking at unusable rows"):
                bad = count_rows(rows.where(F.col("problem").isNotNull()))[1]
        n_usable = sum(part.rows - part.bad_rows for part in parts)
        if n_usable == 0:
            raise DataError(f"{label}: no usable ratings: {bad if bad.n else 'it is empty'}")
        n_partitions = max(default_partitions(context), n_usable // PARTITION_ROWS)
        resolved = _resolved(rows, duplicates, n_partitions, by_time=by_time)
        # Ids as text: whether a file or a table of integers holds them makes no difference.
        ids = (F.col("user").cast("string"), F.col("item").cast("string"))
        row_hash = F.xxhash64(*ids, F.col("rating"), "timestamp")
        ratings = resolved.persist(StorageLevel.MEMORY_AND_DISK)
        kept.callback(ratings.unpersist)
        with described(context, f"resolving and fingerprinting {label}"):
            n, lowest, highest, mean, spread, repeated, n_ambiguous, digest = ratings.agg(
                F.count("*"),
                F.min("rating"),
                F.max("rating"),
                F.avg("rating"),
                F.stddev_pop("rating"),
                F.count(F.when(F.col("copies") > 1, 1)),
                F.count(F.when(F.col("copies") > F.col("origins"), 1)),
                F.sum(row_hash.cast("decimal(38,0)")),
            ).head()  # type: ignore[misc]
        if repeated and duplicates == "error":
            raise DataError(
                f"{label}: {repeated:,} pairs are rated more than once: choose with "
                '`duplicates="mean"` or `duplicates="last"`'
            )
        yield Snapshot(
            ratings.drop("copies", "origins"),
            label,
            parts,
            bad,
            changed,
            doubts_of(parts, sources, n_ambiguous) if duplicates == "last" else [],
            n,
            n_usable - n,
            lowest,
            highest,
            mean,
            spread,
            f"{n}-{int(digest) % 2**64:016x}",
            versions_of(sources),
            tuple(first),
        )


def _typed_with_origin(sources: Sequence[Source]) -> list[DataFrame]:
    """Type the ratings of all sources, with the number of their source in the column ``origin``.

    Sources of one shape are typed together, as a base and its increments mostly are: Spark plans
    each typing anew, which takes longer than reading a night's ratings.
    """
    shapes: dict[object, list[tuple[int, Source]]] = {}
    parts = [
        (position, replace(part, others=()))
        for position, source in enumerate(sources)
        for part in source.parts
    ]
    for position, part in parts:
        columns = tuple(sorted(part.columns.items()))
        shape = (part.frame.schema.simpleString(), columns, part.from_files, part.is_text)
        shapes.setdefault((*shape, part.encoding, part.null_words), []).append((position, part))
    typed = []
    for alike in shapes.values():
        frames = [source.frame.withColumn(_ORIGIN, F.lit(position)) for position, source in alike]
        together = replace(alike[0][1], frame=reduce(DataFrame.union, frames))
        timed = "timestamp" in together.columns
        ratings = typed_ratings(together, need_timestamp=timed, keep=[_ORIGIN])
        typed.append(ratings.withColumnRenamed(_ORIGIN, "origin"))
    return typed


def _integers_only(typed: DataFrame, sides: Collection[Side]) -> DataFrame:
    """Make text a problem where ids must be integers."""
    for side in sides:
        if not isinstance(typed.schema[side].dataType, StringType):
            continue
        # The usual form, and 64 bits: as als_spark.model.ids.fits_int64 has it.
        whole = F.col(side).rlike("^(0|-?[1-9][0-9]{0,18})$")
        whole &= try_cast(side, "bigint").isNotNull()
        words = f"{side} is text, where the current version has whole numbers"
        shown = [F.concat(F.lit(f"{name}="), F.col(name)) for name in ("user", "item", "rating")]
        typed = typed.withColumn(
            "raw", F.coalesce("raw", F.when(~whole, F.concat_ws(", ", *shown)))
        ).withColumn("problem", F.coalesce("problem", F.when(~whole, F.lit(words))))
    return typed


def versions_of(sources: Sequence[Source]) -> tuple[TableVersion, ...]:
    """Return the versions of the tables among some sources, each once."""
    return tuple(dict.fromkeys(source.version for source in sources if source.version is not None))


def doubts_of(parts: Sequence[PartFacts], sources: Sequence[Source], n_ambiguous: int) -> list[str]:
    """Say where "the last" rating of a pair is not told by its time."""
    untimed = [source.label for source in sources if not source.timed]
    doubts = []
    timed = sorted((part.latest, part.label) for part in parts if part.latest > 0)
    if timed and timed[-1][0] > OTHER_UNITS * timed[0][0]:
        doubts.append(
            f"the latest timestamp in {timed[-1][1]} is {timed[-1][0]:.6g}, in {timed[0][1]} "
            f"{timed[0][0]:.6g}: if one is in milliseconds, its ratings win or lose against all "
            "others"
        )
    if 0 < len(untimed) < len(parts):
        doubts.append(
            f"no timestamps in {', '.join(untimed)}: of a pair that is rated in several sources "
            "the later source counts, whatever the times of the others"
        )
    if n_ambiguous and untimed:
        doubts.append(
            f"{n_ambiguous:,} pairs are rated more than once within a source, and not all sources "
            "have timestamps: where there are none, the highest rating was taken"
        )
    return doubts


def _resolved(
    rows: DataFrame, duplicates: Duplicates, n_partitions: int, *, by_time: bool
) -> DataFrame:
    """Leave one row of each pair of the usable ones, in the form of typed ratings."""
    usable = rows.where(F.col("problem").isNull())
    # As many partitions as there is work for: what is kept is read by Python tasks.
    by_pair = usable.repartition(n_partitions, "user", "item").groupBy("user", "item")
    return by_pair.agg(
        rating_of_group(duplicates, by_time=by_time).alias("rating"),
        last_of_group(by_time=by_time)["timestamp"].alias("timestamp"),
        F.count("*").alias("copies"),
        (F.lit(None).cast("int") if by_time else F.size(F.collect_set("origin"))).alias("origins"),
    ).select(
        *("user", "item", "rating", "timestamp", "copies", "origins"),
        F.lit(None).cast("string").alias("problem"),
        F.lit(None).cast("string").alias("raw"),
    )


def _count_parts(rows: DataFrame, sources: Sequence[Source]) -> tuple[list[PartFacts], ChangedIds]:
    usable = F.when(F.col("problem").isNull(), F.col("rating"))
    changed = [
        F.when(F.col("problem").isNull() & F.col("changed").contains(side), F.col("changed"))
        for side in SIDES
    ]
    counted = (
        rows.groupBy("origin")
        .agg(
            *(F.count("*"), F.count("problem"), F.min(usable), F.max(usable), F.avg(usable)),
            F.max(F.when(F.col("problem").isNull(), F.col("timestamp"))),
            *(call(column) for column in changed for call in (F.count, F.min)),
        )
        .collect()
    )
    found = {row[0]: tuple(row)[1:] for row in counted}
    parts, ids = [], []
    for position, source in enumerate(sources):
        n, n_bad, *figures = found.get(position, (0, 0, *[None] * 8))
        numbers = (float("nan") if value is None else float(value) for value in figures[:4])
        parts.append(PartFacts(source.label, n, n_bad, *numbers))
        for side, count, example in zip(SIDES, figures[4::2], figures[5::2], strict=True):
            if count:
                ids.append((side, int(count), example_of(example, side)))
    return parts, ChangedIds.of(ids)
