"""From checked chunks of ratings to a backend: packed, counted, placed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from pyspark import RDD, Broadcast, StorageLevel
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import DataError
from als_spark.solve.blocks import assign_rows, build_block
from als_spark.spark.planner import (
    SLICE_BYTES,
    Sizes,
    choose_blocks,
    choose_placement,
    row_costs,
    shared_rows,
)
from als_spark.spark.prepare.encode import Summary
from als_spark.spark.prepare.pack import SHARED_ROW, Layout, PackOptions, pack_ratings, shuffle_keys
from als_spark.spark.prepare.prepared import PreparedRatings, PrepareOptions
from als_spark.spark.prepare.slices import (
    Entry,
    HeldOut,
    HeldOutStats,
    Repeated,
    SliceNumber,
    SliceStats,
    TrainSlice,
    describe_entries,
    train_slices,
)
from als_spark.spark.session import broadcasted, default_partitions, described
from als_spark.spark.train.partitioned import SparkBackend
from als_spark.train.local import LocalBackend
from als_spark.train.metrics import EvaluationPart, SideStats, build_evaluation_part
from als_spark.types import SIDES, ColdStart, DType, IntArray, Side, SplitName


class Assembler:
    """The steps from checked chunks to a backend.

    Parameters
    ----------
    session : SparkSession
    chunks : DataFrame
        From :func:`als_spark.spark.prepare.encode.encode_ratings`, persisted by the caller.
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
            with described(self._context, "packing ratings by user and by item"):
                # Spark may run the first half of a shuffle as soon as it is described.
                entries = self._pack(SIDES, n_blocks, SLICE_BYTES, resources)
                entries.setName("als_spark: ratings").persist(StorageLevel.MEMORY_AND_DISK_DESER)
                unpersist = temporary.callback(entries.unpersist)
                found = entries.mapPartitions(describe_entries).collect()
            repeated = [entry for entry in found if isinstance(entry, Repeated)]
            self._check_duplicates(repeated)
            slices = [entry for entry in found if isinstance(entry, SliceStats)]
            stats = {
                side: SideStats.join(
                    self._n_rows(side),
                    ((s.rows, s.degrees, s.sums) for s in slices if s.side == side),
                )
                for side in SIDES
            }
            n_ratings: dict[SplitName, int] = {
                "train": int(stats["user"].degrees.sum(dtype=np.int64))
            }
            self._check_trainable(n_ratings["train"])
            for entry in found:
                if isinstance(entry, HeldOutStats):
                    n_ratings[entry.split] = n_ratings.get(entry.split, 0) + entry.n_ratings
            evaluation = None
            if len(n_ratings) == 1 and not repeated:
                # Nothing but slices of training ratings: they stay as they are.
                temporary.pop_all()
                resources.callback(unpersist)
                train: RDD[Any] = entries
            else:
                train, evaluation = self._separate(entries, stats, resources)
            rows: dict[Side, dict[SliceNumber, IntArray]] = {"user": {}, "item": {}}
            for s in slices:
                if not s.shared:
                    rows[s.side][s.number] = s.rows
            backend = SparkBackend(self._context, train, n_blocks, rows, evaluation, stats)
            return PreparedRatings(
                self._summary,
                stats,
                n_ratings,
                sum(entry.n_pairs for entry in repeated),
                rejected,
                backend,
                n_blocks,
                resources.pop_all(),
            )

    def _separate(
        self, entries: RDD[Entry], stats: dict[Side, SideStats], resources: ExitStack
    ) -> tuple[RDD[Any], RDD[EvaluationPart]]:
        """Part the training ratings, which every half-step reads, from those held out."""
        shared_stats = resources.enter_context(broadcasted(self._context, stats))
        train = entries.mapPartitions(train_slices).setName("als_spark: training ratings")
        build = partial(
            build_evaluation_parts,
            stats=shared_stats,
            cold_start=self._options.cold_start,
            dtype=self._options.dtype,
        )
        evaluation = entries.mapPartitions(build).setName("als_spark: held-out ratings")
        for rdd in (train, evaluation):
            rdd.persist(StorageLevel.MEMORY_AND_DISK_DESER)
            resources.callback(rdd.unpersist)
        with described(self._context, "placing the blocks"):
            self._context.union([train, evaluation]).count()
        return train, evaluation

    def _local_backend(self, n_blocks: int, rejected: DataFrame | None) -> PreparedRatings:
        n_users, n_items = self._n_rows("user"), self._n_rows("item")
        dtype = self._options.dtype
        with ExitStack() as temporary, described(self._context, "packing ratings"):
            entries = self._pack(("user",), n_blocks, None, temporary).collect()
        repeated = [entry for entry in entries if isinstance(entry, Repeated)]
        self._check_duplicates(repeated)
        train = [entry.ratings for entry in entries if isinstance(entry, TrainSlice)]
        self._check_trainable(len(train))
        (user_block,) = train
        users, items, ratings = user_block.triples()
        item_block = build_block(
            items, users, ratings, n_rows=n_items, n_columns=n_users, dtype=dtype
        )
        stats: dict[Side, SideStats] = {
            "user": SideStats.of(n_users, [user_block]),
            "item": SideStats.of(n_items, [item_block]),
        }
        held_out = [entry for entry in entries if isinstance(entry, HeldOut)]
        n_ratings: dict[SplitName, int] = {"train": user_block.n_ratings}
        n_ratings |= {entry.split: entry.ratings.size for entry in held_out}
        parts = [_evaluation_part(e, stats, self._options.cold_start, dtype) for e in held_out]
        return PreparedRatings(
            self._summary,
            stats,
            n_ratings,
            sum(entry.n_pairs for entry in repeated),
            rejected,
            LocalBackend(user_block, item_block, parts),
            1,
            ExitStack(),
        )

    def _pack(
        self,
        sides: tuple[Side, ...],
        n_blocks: int,
        slice_bytes: int | None,
        resources: ExitStack,
    ) -> RDD[Entry]:
        """Describe the packed ratings.

        Its broadcast stays until ``resources`` end: an executor that is lost takes blocks with it,
        which Spark packs again.
        """
        counts = {"user": self._summary.user_counts, "item": self._summary.item_counts}
        block_of = {side: self._blocks_of(counts[side], n_blocks) for side in SIDES}
        keys: IntArray = np.zeros(1, np.int32)
        if len(sides) * n_blocks > 1:
            with described(self._context, f"finding places for {n_blocks} blocks a side"):
                keys = shuffle_keys(self._session, len(sides) * n_blocks)
        users, items = self._summary.users.ids, self._summary.items.ids
        layout = resources.enter_context(
            broadcasted(self._context, Layout(users, items, block_of, keys))
        )
        pack = PackOptions(
            sides, n_blocks, self._options.duplicates, self._options.dtype, slice_bytes
        )
        return pack_ratings(self._chunks, pack, layout)

    def _blocks_of(self, counts: IntArray, n_blocks: int) -> IntArray:
        costs = row_costs(counts, self._options.ranks)
        shared = shared_rows(costs, n_blocks)
        costs[shared] = 0
        blocks: IntArray = assign_rows(costs, n_blocks)
        blocks[shared] = SHARED_ROW
        return blocks

    def _n_rows(self, side: Side) -> int:
        return len(self._summary.users if side == "user" else self._summary.items)

    def _check_duplicates(self, repeated: Sequence[Repeated]) -> None:
        n_duplicates = sum(entry.n_pairs for entry in repeated)
        if n_duplicates == 0 or self._options.duplicates != "error":
            return
        pairs = [pair for entry in repeated for pair in entry.pairs]
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


def build_evaluation_parts(
    entries: Iterable[Entry],
    *,
    stats: Broadcast[dict[Side, SideStats]],
    cold_start: ColdStart,
    dtype: DType,
) -> Iterator[EvaluationPart]:
    """Build the held-out parts of a partition: runs on an executor."""
    for entry in entries:
        if isinstance(entry, HeldOut):
            yield _evaluation_part(entry, stats.value, cold_start, dtype)


def _evaluation_part(
    held_out: HeldOut, stats: Mapping[Side, SideStats], cold_start: ColdStart, dtype: DType
) -> EvaluationPart:
    return build_evaluation_part(
        held_out.split,
        held_out.users,
        held_out.items,
        held_out.ratings,
        user_stats=stats["user"],
        item_stats=stats["item"],
        cold_start=cold_start,
        dtype=dtype,
    )
