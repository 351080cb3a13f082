"""From checked chunks to a placement: one shuffle packs blocks, and the plan says where they go."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from pyspark import RDD, StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import ChangedRatingsError, DataError
from als_spark.model.ids import id_for_message
from als_spark.solve.blocks import build_block
from als_spark.spark.arrow import map_in_arrow, unpickled
from als_spark.spark.planner import Sizes, place_rows, plan, worker_limit
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.prepare.pack import (
    CHUNK_COLUMNS,
    PIECE_SCHEMA,
    Entry,
    HeldOut,
    HeldOutStats,
    Layout,
    PackOptions,
    Repeated,
    SliceStats,
    build_evaluation_parts,
    cut_partition,
    describe_entries,
    merge_partition,
    shuffle_keys,
    train_slices,
)
from als_spark.spark.prepare.ranking import collect_rankings, place_rankings
from als_spark.spark.prepare.routing import Known, pack_alike, place_routed
from als_spark.spark.read.facts import Summary
from als_spark.spark.session import broadcasted, default_partitions, described
from als_spark.spark.train.exchange import SliceNumber, TrainSlice
from als_spark.spark.train.factor_blocks import beside
from als_spark.spark.train.partitioned import PartitionedRankings, PartitionedRatings
from als_spark.spark.train.per_model import PerModel
from als_spark.spark.train.run import Placement
from als_spark.spark.train.shuffle import RoutedRatings
from als_spark.train.local import LocalBackend
from als_spark.train.metrics import (
    EvaluationPart,
    SideStats,
    build_evaluation_part,
    sum_counts,
)
from als_spark.types import (
    SIDES,
    IntArray,
    Side,
    SplitName,
)

_Described = SliceStats | HeldOutStats | Repeated


class WeightedMean(NamedTuple):
    """Mean of the training ratings, and the sum of their weights; each is 1 without weights."""

    value: float
    weight: float


_Placed = tuple[Placement, dict[Side, SideStats], dict[SplitName, int], int, WeightedMean]
"""Ratings in their place, the training ratings of each side, sizes of the parts, repeated pairs,
the mean training rating."""


class Packing:
    """The steps from checked chunks to a placement."""

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
        self._options = options
        self._label = label
        self._ids = {"user": summary.users.ids, "item": summary.items.ids}
        self._n_ratings = summary.n_ratings
        self._counts = {"user": summary.user_counts, "item": summary.item_counts}
        self._n_rows: dict[Side, int] = {side: len(self._ids[side]) for side in SIDES}
        sizes = Sizes(
            n_users=self._n_rows["user"],
            n_items=self._n_rows["item"],
            n_ratings=summary.n_ratings,
            ranks=options.ranks,
            itemsize=np.dtype(options.dtype).itemsize,
            cores=default_partitions(self._context),
        )
        limit = worker_limit(dict(self._context.getConf().getAll()))
        self.plan = plan(
            *(sizes, options.placement, options.partitions, limit),
            exchange=options.exchange,
            ranked=options.ranking is not None,
            accelerated=options.accelerate,
            whole=options.method != "ridge",
        )

    def place(self) -> _Placed:
        """Do what the plan says."""
        if self.plan.placement == "grid":
            return self.collect()
        if "shuffle" in self.plan.exchange.values():
            return self.route()
        return self.distribute()

    def distribute(self) -> _Placed:
        """Leave the blocks on the executors, partitioned by user and by item."""
        with ExitStack() as resources, ExitStack() as temporary:
            with described(self._context, "packing ratings by user and by item"):
                # Spark may run the first half of a shuffle as soon as it is described.
                entries = self._pack(SIDES, resources)
                entries.setName("als_spark: ratings").persist(StorageLevel.MEMORY_AND_DISK_DESER)
                unpersist = temporary.callback(entries.unpersist)
                found = entries.mapPartitions(describe_entries).collect()
            stats, n_ratings, n_duplicates, mean = self._check(found)
            evaluation = ranking = None
            if len(n_ratings) == 1 and n_duplicates == 0:
                # Nothing but slices of training ratings: they stay as they are.
                temporary.pop_all()
                resources.callback(unpersist)
                train: RDD[Any] = entries
            else:
                train, evaluation = self._separate(entries, stats, resources)
                ranking = self._rank(entries, stats, found, resources)
            ratings = PartitionedRatings(
                self._context,
                train,
                _rows_of_slices(found),
                evaluation,
                stats,
                self._positives(found),
                self.plan,
                resources.pop_all(),
                ranking,
            )
        return ratings, stats, n_ratings, n_duplicates, mean

    def route(self) -> _Placed:
        """Leave ratings and factors on the executors, and work out what is sent where."""
        options = self._options
        with ExitStack() as resources, ExitStack() as temporary:
            entries = {}
            for side in SIDES:
                with described(self._context, f"packing ratings by {side}"):
                    entries[side] = self._pack((side,), resources, alike=True)
                    entries[side].persist(StorageLevel.MEMORY_AND_DISK_DESER)
                    temporary.callback(entries[side].unpersist)
            with described(self._context, "packing ratings by user and by item"):
                packed = beside(self._context, [*entries.values()], self.plan.n_blocks)
                found = packed.mapPartitions(describe_entries).collect()
            stats, n_ratings, n_duplicates, mean = self._check(found)
            known = Known(self._block_of(), stats, options.cold_start, options.dtype)
            rows = _rows_of_slices(found)
            sides = place_routed(self._context, entries, rows, known, self.plan, resources)
            ranking = self._rank(entries["user"], stats, found, resources)
            ratings = RoutedRatings(
                *(self._context, sides, stats, self._positives(found)),
                *(self.plan, resources.pop_all(), ranking),
            )
        return ratings, stats, n_ratings, n_duplicates, mean

    def collect(self) -> _Placed:
        """Bring the ratings to the driver, as one block of each side."""
        options = self._options
        with ExitStack() as temporary, described(self._context, "packing ratings"):
            entries = self._pack(("user",), temporary).collect()
        found = list(describe_entries(entries))
        stats, n_ratings, n_duplicates, mean = self._check(found)
        (by_user,) = (entry.ratings for entry in entries if isinstance(entry, TrainSlice))
        users, items, values = by_user.triples()
        by_item = build_block(
            items,
            users,
            values,
            n_rows=self._n_rows["item"],
            n_columns=self._n_rows["user"],
            dtype=options.dtype,
            weights=by_user.rating_weights(),
        )
        stats["item"] = SideStats.of(self._n_rows["item"], [by_item])
        parts = [
            build_evaluation_part(
                *entry, stats=stats, cold_start=options.cold_start, dtype=options.dtype
            )
            for entry in entries
            if isinstance(entry, HeldOut)
        ]
        ranking = None
        if options.ranking is not None:
            ranking = collect_rankings(entries, stats, options.ranking)
        placement = PerModel(self._session, LocalBackend(by_user, by_item, parts, ranking))
        return placement, stats, n_ratings, n_duplicates, mean

    def _block_of(self) -> dict[Side, IntArray]:
        """(n_rows,) block of each row of each side."""
        ranks, n_blocks = self._options.ranks, self.plan.n_blocks
        return {side: place_rows(self._counts[side], ranks, n_blocks) for side in SIDES}

    def _positives(self, found: Iterable[_Described]) -> dict[Side, IntArray]:
        """(n_rows,) training ratings above 0 of each row of each side."""
        slices = [part for part in found if isinstance(part, SliceStats)]
        return {
            side: sum_counts(
                self._n_rows[side],
                ((part.rows, part.positives) for part in slices if part.side == side),
            )
            for side in SIDES
        }

    def _pack(
        self, sides: tuple[Side, ...], resources: ExitStack, *, alike: bool = False
    ) -> RDD[Entry]:
        """Describe the packed ratings: a partition a block, of one side partitioned as factors.

        Its broadcast stays until ``resources`` end: an executor that is lost takes blocks with it,
        which Spark packs again.
        """
        n_blocks = self.plan.n_blocks
        keys: IntArray = np.zeros(len(sides) * n_blocks, np.int32)
        if keys.size > 1 and not alike:
            with described(self._context, f"finding places for {n_blocks} blocks a side"):
                keys = shuffle_keys(self._session, len(sides) * n_blocks)
        layout = resources.enter_context(
            broadcasted(
                self._context, Layout(self._ids["user"], self._ids["item"], self._block_of(), keys)
            )
        )
        pack = PackOptions(
            sides,
            n_blocks,
            self._options.duplicates,
            self._options.dtype,
            self.plan.slice_bytes,
        )
        pieces = map_in_arrow(
            self._chunks.where(F.col("n_ratings") != 0).select(*CHUNK_COLUMNS),
            partial(cut_partition, options=pack, layout=layout),
            PIECE_SCHEMA,
        )
        if alike:
            return pack_alike(pieces, pack, layout)
        placed = unpickled(pieces.repartition(keys.size, "key").select("piece"))
        return placed.mapPartitions(partial(merge_partition, options=pack, layout=layout))

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

    def _rank(
        self,
        entries: RDD[Entry],
        stats: dict[Side, SideStats],
        found: Iterable[_Described],
        resources: ExitStack,
    ) -> PartitionedRankings | None:
        """Gather what rankings are measured by, where they are asked for."""
        rule = self._options.ranking
        if rule is None:
            return None
        shared = [
            part.rows
            for part in found
            if isinstance(part, SliceStats) and part.shared and part.side == "user"
        ]
        rows = np.unique(np.concatenate([np.zeros(0, np.int32), *shared]))
        return place_rankings(self._context, entries, stats, rows, rule, resources)

    def _check(
        self, found: Iterable[_Described]
    ) -> tuple[dict[Side, SideStats], dict[SplitName, int], int, WeightedMean]:
        """Sum up what was packed; stop where it cannot be trained on."""
        found = list(found)
        repeated = [entry for entry in found if isinstance(entry, Repeated)]
        n_duplicates = sum(entry.n_pairs for entry in repeated)
        if n_duplicates and self._options.duplicates == "error":
            users, items = self._ids["user"], self._ids["item"]
            pairs = [pair for entry in repeated for pair in entry.pairs]
            named = sorted(
                (id_for_message(users, row), id_for_message(items, column)) for row, column in pairs
            )
            shown = ", ".join(f"user {user} item {item}" for user, item in named[:3])
            pairs_are = "pair is" if n_duplicates == 1 else "pairs are"
            raise DataError(
                f"{self._label}: {n_duplicates:,} (user, item) {pairs_are} rated more than once, "
                f'such as {shown}: choose with `duplicates="mean"` or `duplicates="last"`'
            )
        slices = [entry for entry in found if isinstance(entry, SliceStats)]
        stats = {
            side: SideStats.join(
                self._n_rows[side],
                ((s.rows, s.degrees, s.sums) for s in slices if s.side == side),
            )
            for side in SIDES
        }
        n_ratings: dict[SplitName, int] = {"train": int(stats["user"].degrees.sum(dtype=np.int64))}
        if n_ratings["train"] == 0:
            raise DataError(
                f"{self._label}: no rating is left to train on after the split: "
                "hold out a smaller share"
            )
        for entry in found:
            if isinstance(entry, HeldOutStats):
                n_ratings[entry.split] = n_ratings.get(entry.split, 0) + entry.n_ratings
        packed = sum(n_ratings.values())
        if n_duplicates == 0 and packed != self._n_ratings:
            raise ChangedRatingsError(f"{self._n_ratings:,} then, {packed:,} now", self._label)
        weighted = [s.weighted for s in slices if s.side == "user" and s.weighted is not None]
        mean = WeightedMean(stats["user"].mean, n_ratings["train"])
        if weighted:
            sums, weights = (math.fsum(values) for values in zip(*weighted, strict=True))
            mean = WeightedMean(sums / weights, weights)
        return stats, n_ratings, n_duplicates, mean


def _rows_of_slices(found: Iterable[_Described]) -> dict[Side, dict[SliceNumber, IntArray]]:
    """Dense rows of each slice of each side, but of shared rows."""
    rows: dict[Side, dict[SliceNumber, IntArray]] = {"user": {}, "item": {}}
    for part in found:
        if isinstance(part, SliceStats) and not part.shared:
            rows[part.side][part.number] = part.rows
    return rows
