"""From checked chunks of ratings to a backend: packed, counted, placed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from pyspark import RDD, Broadcast, StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.blocks import IntArray, RatingBlock, Side, assign_rows, build_block
from als_spark.errors import DataError
from als_spark.local import LocalBackend
from als_spark.metrics import ColdStart, EvaluationPart, SideStats, build_evaluation_part
from als_spark.results import SplitName
from als_spark.spark.encoding import Summary
from als_spark.spark.packing import (
    Layout,
    PackOptions,
    decode_block,
    decode_duplicates,
    decode_held_out,
    pack_side,
    shuffle_keys,
)
from als_spark.spark.placement import SparkBackend
from als_spark.spark.planning import Sizes, choose_blocks, choose_placement, row_costs
from als_spark.spark.prepared import PreparedRatings, PrepareOptions
from als_spark.spark.session import broadcasted, default_partitions, described
from als_spark.training import DType

SIDES: tuple[Side, Side] = ("user", "item")


class Assembler:
    """The steps from checked chunks to a backend.

    Parameters
    ----------
    session : SparkSession
    chunks : DataFrame
        From :func:`als_spark.spark.encoding.encode_ratings`, persisted by the caller.
    summary : Summary
        Of the chunks.
    options : PrepareOptions
    label : str
        Names the source, for messages.
    """

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

    def assemble(self, rejected: DataFrame | None) -> PreparedRatings:
        """Pack and place the ratings; ``rejected`` are the rows that were dropped."""
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
                side: SideStats.join(
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
