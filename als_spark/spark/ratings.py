"""From sources of ratings to a backend: checked, split, indexed, packed, placed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from pyspark import RDD, Broadcast, SparkContext, StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.blocks import IntArray, RatingBlock, Side, assign_rows, build_block
from als_spark.config import BadRows, Duplicates, Placement
from als_spark.errors import DataError
from als_spark.local import LocalBackend
from als_spark.metrics import ColdStart, EvaluationPart, SideStats, build_evaluation_part
from als_spark.results import SplitName
from als_spark.spark.encoding import Summary, check_summary, encode_ratings, summarise
from als_spark.spark.packing import (
    Layout,
    PackOptions,
    decode_block,
    decode_duplicates,
    decode_held_out,
    pack_side,
    shuffle_keys,
)
from als_spark.spark.placement import SparkBackend, join_stats
from als_spark.spark.planning import Sizes, choose_blocks, choose_placement, row_costs
from als_spark.spark.session import broadcasted, default_partitions, described
from als_spark.spark.sources import Source
from als_spark.spark.validation import (
    TEST,
    SplitOptions,
    typed_ratings,
    with_fixed_split,
    with_random_split,
    with_time_split,
)
from als_spark.training import DType

Phase = Callable[[str], AbstractContextManager[Any]]
SIDES: tuple[Side, Side] = ("user", "item")


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How ratings are made ready; fields as in :class:`als_spark.config.SweepConfig`.

    ``ranks`` has a rank for every model that will be trained: the blocks are balanced for them.
    """

    split: SplitOptions = field(default_factory=SplitOptions)
    bad_rows: BadRows = "error"
    duplicates: Duplicates = "error"
    cold_start: ColdStart = "mean"
    dtype: DType = "float32"
    ranks: Sequence[int] = (10,)
    placement: Placement = "auto"
    partitions: int | None = None


class PreparedRatings:
    """Ratings that can be trained on, with what is known of them.

    Close it to free the executors' memory.

    Attributes
    ----------
    summary : Summary
        Ids, counts, range; of all usable ratings.
    stats : mapping of side to SideStats
        The training ratings.
    n_ratings : mapping of split name to int
        Sizes of the parts, after duplicates were resolved.
    n_duplicates : int
        Pairs that were rated more than once.
    rejected : DataFrame or None
        The rows that were dropped (columns ``problem`` and ``raw``); None where there are none.
    placement : {"ratings", "grid"}
    n_blocks : int
        Blocks of each side.
    backend : SparkBackend or LocalBackend
        The latter, on the driver, in the grid placement.
    """

    def __init__(
        self,
        summary: Summary,
        stats: Mapping[Side, SideStats],
        n_ratings: Mapping[SplitName, int],
        n_duplicates: int,
        rejected: DataFrame | None,
        backend: SparkBackend | LocalBackend,
        n_blocks: int,
        resources: ExitStack,
    ) -> None:
        self.summary = summary
        self.stats = stats
        self.n_ratings = n_ratings
        self.n_duplicates = n_duplicates
        self.rejected = rejected
        self.backend = backend
        self.n_blocks = n_blocks
        self._resources = resources

    @property
    def placement(self) -> Literal["ratings", "grid"]:
        """What Spark partitions."""
        return "grid" if isinstance(self.backend, LocalBackend) else "ratings"

    def close(self) -> None:
        """Unpersist everything."""
        self._resources.close()

    def __enter__(self) -> PreparedRatings:
        """Return the ratings themselves."""
        return self

    def __exit__(self, *_: object) -> None:
        """Unpersist everything."""
        self.close()


def prepare_ratings(
    session: SparkSession,
    source: Source,
    options: PrepareOptions,
    *,
    test_source: Source | None = None,
    phase: Phase = lambda _: nullcontext(),
) -> PreparedRatings:
    """Read, check, split and pack ratings.

    Parameters
    ----------
    session : SparkSession
    source : Source
        The ratings; from :func:`als_spark.spark.sources.read_source` or :func:`source_from_frame`.
    options : PrepareOptions
    test_source : Source, optional
        Ratings to test on; nothing is then held out of ``source`` for testing.
    phase : callable, optional
        Gives a context manager for each phase of the work, by name.

    Raises
    ------
    DataError
        If the ratings cannot be trained on.
    """
    context = session.sparkContext
    label = source.label if test_source is None else f"{source.label} + {test_source.label}"
    with ExitStack() as failing:
        with phase("reading and checking ratings"):
            ratings = _split_ratings(context, source, test_source, options)
            chunks = encode_ratings(ratings).persist(StorageLevel.MEMORY_AND_DISK)
            failing.callback(chunks.unpersist)
            with described(context, f"checking and counting ratings of {label}"):
                summary = summarise(chunks)
            check_summary(summary, label, drop_bad_rows=options.bad_rows == "drop")
        rejected = None
        if summary.n_bad:
            rejected = ratings.where(F.col("problem").isNotNull()).select("problem", "raw")
        with phase("packing ratings into blocks"):
            packer = _Packer(session, chunks, summary, options, label)
            prepared = packer.pack(rejected)
    return prepared


def source_from_frame(
    frame: DataFrame,
    user: str = "user",
    item: str = "item",
    rating: str = "rating",
    timestamp: str | None = None,
) -> Source:
    """Take a DataFrame as a source of ratings.

    Parameters
    ----------
    frame : DataFrame
    user, item, rating, timestamp : str
        Names of its columns.

    Raises
    ------
    DataError
        If a column is not there.
    """
    columns = {"user": user, "item": item, "rating": rating}
    if timestamp is not None:
        columns["timestamp"] = timestamp
    for role, name in columns.items():
        if name not in frame.columns:
            raise DataError(
                f"the DataFrame has no {role} column {name!r}: "
                f"its columns are {', '.join(frame.columns)}"
            )
    return Source(frame, columns, "the DataFrame", from_files=False)


def _split_ratings(
    context: SparkContext, source: Source, test_source: Source | None, options: PrepareOptions
) -> DataFrame:
    by_time = options.split.strategy == "time"
    need_timestamp = by_time or options.duplicates == "last"
    ratings = typed_ratings(source, need_timestamp=need_timestamp)
    split = options.split
    if test_source is not None:
        split = SplitOptions(split.strategy, split.seed, 0.0, split.validation_fraction)
    if by_time:
        with described(context, "finding the times to split at"):
            ratings = with_time_split(ratings, split)
    else:
        ratings = with_random_split(ratings, split)
    if options.duplicates != "last":
        # Needed to split by, not to resolve duplicates by: the pieces stay smaller without.
        ratings = ratings.withColumn("timestamp", F.lit(None).cast("double"))
    if test_source is None:
        return ratings
    test = with_fixed_split(
        typed_ratings(test_source, need_timestamp=options.duplicates == "last"), TEST
    )
    # Integers here and text there are compared as text, and become integers again if all are.
    for column in ("user", "item"):
        if ratings.schema[column].dataType != test.schema[column].dataType:
            ratings = ratings.withColumn(column, F.col(column).cast("string"))
            test = test.withColumn(column, F.col(column).cast("string"))
    return ratings.unionByName(test)


class _Packer:
    """The steps from checked chunks to a backend."""

    def __init__(
        self,
        session: SparkSession,
        chunks: DataFrame,
        summary: Summary,
        options: PrepareOptions,
        label: str,
    ) -> None:
        self._session = session
        self._context = session.sparkContext
        self._chunks = chunks
        self._summary = summary
        self._options = options
        self._label = label
        self._sizes = Sizes(
            n_users=len(summary.users),
            n_items=len(summary.items),
            n_ratings=summary.n_ratings,
            ranks=options.ranks,
            itemsize=np.dtype(options.dtype).itemsize,
            cores=default_partitions(self._context),
        )

    def pack(self, rejected: DataFrame | None) -> PreparedRatings:
        placement = self._options.placement
        if placement == "auto":
            placement = choose_placement(self._sizes)
        n_blocks = 1 if placement == "grid" else self._n_blocks()
        build = self._local_backend if placement == "grid" else self._spark_backend
        return build(n_blocks, rejected)

    def _n_blocks(self) -> int:
        if self._options.partitions is not None:
            return self._options.partitions
        return choose_blocks(self._sizes)

    def _spark_backend(self, n_blocks: int, rejected: DataFrame | None) -> PreparedRatings:
        with ExitStack() as resources, ExitStack() as temporary:
            with described(self._context, f"placing {n_blocks} blocks a side"):
                keys = shuffle_keys(self._session, n_blocks)
            frames: dict[Side, DataFrame] = {}
            records: dict[Side, list[Any]] = {}
            for side in SIDES:
                frames[side] = self._pack_side(side, n_blocks, keys, resources, temporary)
                with described(self._context, f"packing ratings by {side}"):
                    records[side] = (
                        frames[side]
                        .withColumn("n_held_out", F.length("ratings") / 8)
                        .drop("indices", "ratings", "bucket_rows", "bucket_widths")
                        .collect()
                    )
                if side == "user":
                    self._check_duplicates(records[side])
            trained = {
                side: [r for r in rows if r.part == "train"] for side, rows in records.items()
            }
            self._check_trainable(sum(len(r.rows) for r in trained["user"]))
            stats = {
                side: join_stats(
                    self._n_rows(side),
                    (
                        (
                            np.frombuffer(r.rows, np.int32),
                            np.frombuffer(r.degrees, np.int32),
                            np.frombuffer(r.sums, np.float64),
                        )
                        for r in trained[side]
                    ),
                )
                for side in SIDES
            }
            n_ratings: dict[SplitName, int] = {
                "train": int(stats["user"].degrees.sum(dtype=np.int64))
            }
            for record in records["user"]:
                if record.part != "train":
                    held = n_ratings.get(record.part, 0)
                    n_ratings[record.part] = held + int(record.n_held_out)
            shared_stats = resources.enter_context(broadcasted(self._context, stats))
            blocks, evaluation = self._place(frames, shared_stats, resources)
            rows = {
                side: {r.block: np.frombuffer(r.rows, np.int32) for r in trained[side]}
                for side in SIDES
            }
            backend = SparkBackend(self._context, blocks, rows, evaluation, stats)
            return PreparedRatings(
                self._summary,
                stats,
                n_ratings,
                _n_duplicates(records["user"]),
                rejected,
                backend,
                n_blocks,
                resources.pop_all(),
            )

    def _place(
        self,
        frames: Mapping[Side, DataFrame],
        stats: Broadcast[dict[Side, SideStats]],
        resources: ExitStack,
    ) -> tuple[dict[Side, RDD[tuple[int, RatingBlock]]], RDD[EvaluationPart]]:
        """Decode the packed DataFrames once, into what the half-steps read at every turn."""
        blocks = {}
        for side, frame in frames.items():
            decode = partial(
                decode_blocks,
                n_columns=self._n_rows("item" if side == "user" else "user"),
                dtype=self._options.dtype,
            )
            packed = frame.where(F.col("part") == "train").rdd.mapPartitions(decode)
            blocks[side] = packed.setName(f"als_spark: ratings by {side}")
        build = partial(
            build_evaluation_parts,
            stats=stats,
            cold_start=self._options.cold_start,
            dtype=self._options.dtype,
        )
        held_out = frames["user"].where(F.col("part") != "train").rdd.mapPartitions(build)
        evaluation = held_out.setName("als_spark: held-out ratings")
        for side in SIDES:
            blocks[side].persist(StorageLevel.MEMORY_AND_DISK)
            resources.callback(blocks[side].unpersist)
        evaluation.persist(StorageLevel.MEMORY_AND_DISK)
        resources.callback(evaluation.unpersist)
        with described(self._context, "placing the blocks"):
            self._context.union([*blocks.values(), evaluation]).count()
        return blocks, evaluation

    def _local_backend(self, n_blocks: int, rejected: DataFrame | None) -> PreparedRatings:
        with ExitStack() as temporary:
            keys = np.zeros(1, np.int32)
            frame = self._pack_side("user", n_blocks, keys, temporary, temporary)
            with described(self._context, "packing ratings"):
                records = frame.collect()
        self._check_duplicates(records)
        train = [r for r in records if r.part == "train"]
        self._check_trainable(len(train))
        n_users, n_items = self._n_rows("user"), self._n_rows("item")
        dtype = self._options.dtype
        user_block = decode_block(train[0], n_items, dtype)
        users, items, ratings = user_block.triples()
        item_block = build_block(
            items, users, ratings, n_rows=n_items, n_columns=n_users, dtype=dtype
        )
        stats: dict[Side, SideStats] = {
            "user": SideStats.of(n_users, [user_block]),
            "item": SideStats.of(n_items, [item_block]),
        }
        parts = [
            _evaluation_part(record, stats, self._options.cold_start, dtype)
            for record in records
            if record.part != "train"
        ]
        n_ratings: dict[SplitName, int] = {"train": user_block.n_ratings}
        for record in records:
            if record.part != "train":
                n_ratings[record.part] = len(record.ratings) // 8
        return PreparedRatings(
            self._summary,
            stats,
            n_ratings,
            _n_duplicates(records),
            rejected,
            LocalBackend(user_block, item_block, parts),
            1,
            ExitStack(),
        )

    def _pack_side(
        self,
        side: Side,
        n_blocks: int,
        keys: IntArray,
        resources: ExitStack,
        temporary: ExitStack,
    ) -> DataFrame:
        """Pack a side into a DataFrame, persisted until ``temporary`` ends.

        Its broadcast stays until ``resources`` end: an executor that is lost takes blocks with it,
        which Spark packs again.
        """
        counts = {"user": self._summary.user_counts, "item": self._summary.item_counts}[side]
        block_of = assign_rows(row_costs(counts, self._options.ranks), n_blocks)
        layout = resources.enter_context(
            broadcasted(
                self._context,
                Layout(self._summary.users.ids, self._summary.items.ids, block_of, keys),
            )
        )
        pack = PackOptions(
            side=side,
            n_rows=self._n_rows(side),
            n_columns=self._n_rows("item" if side == "user" else "user"),
            duplicates=self._options.duplicates,
            dtype=self._options.dtype,
        )
        frame = pack_side(self._chunks, pack, layout, n_blocks)
        frame.persist(StorageLevel.MEMORY_AND_DISK)
        temporary.callback(frame.unpersist)
        return frame

    def _n_rows(self, side: Side) -> int:
        return len(self._summary.users if side == "user" else self._summary.items)

    def _check_duplicates(self, records: Sequence[Any]) -> None:
        n_duplicates = _n_duplicates(records)
        if n_duplicates == 0 or self._options.duplicates != "error":
            return
        pairs = [pair for r in records if r.n_duplicates for pair in decode_duplicates(r)]
        users, items = self._summary.users.ids, self._summary.items.ids
        named = sorted((users[row].as_py(), items[column].as_py()) for row, column in pairs)[:3]
        shown = ", ".join(f"user {user} item {item}" for user, item in named)
        pairs_are = "pair is" if n_duplicates == 1 else "pairs are"
        raise DataError(
            f"{self._label}: {n_duplicates:,} (user, item) {pairs_are} rated more than once, "
            f"such as {shown}: choose with --duplicates mean or --duplicates last"
        )

    def _check_trainable(self, n_train: int) -> None:
        if n_train == 0:
            raise DataError(
                f"{self._label}: no rating is left to train on after the split: "
                "hold out a smaller share"
            )


def decode_blocks(
    records: Iterable[Any], *, n_columns: int, dtype: str
) -> Iterator[tuple[int, RatingBlock]]:
    """Decode the training blocks of a partition: the function that runs on an executor."""
    for record in records:
        yield record.block, decode_block(record, n_columns, dtype)


def build_evaluation_parts(
    records: Iterable[Any],
    *,
    stats: Broadcast[dict[Side, SideStats]],
    cold_start: ColdStart,
    dtype: DType,
) -> Iterator[EvaluationPart]:
    """Build the held-out parts of a partition: the function that runs on an executor."""
    for record in records:
        yield _evaluation_part(record, stats.value, cold_start, dtype)


def _evaluation_part(
    record: Any, stats: Mapping[Side, SideStats], cold_start: ColdStart, dtype: DType
) -> EvaluationPart:
    users, items, ratings = decode_held_out(record)
    return build_evaluation_part(
        record.part,
        users,
        items,
        ratings,
        user_stats=stats["user"],
        item_stats=stats["item"],
        cold_start=cold_start,
        dtype=dtype,
    )


def _n_duplicates(records: Sequence[Any]) -> int:
    return sum(record.n_duplicates or 0 for record in records)
