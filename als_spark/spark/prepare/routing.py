"""From packed ratings to rating blocks whose fixed factors are sent to them, in rows they need.

Worked out once: what each block needs (:class:`als_spark.solve.routing.Needs`), its columns in the
compact numbering, and what each factor block has to send to whom.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from pyspark import RDD, Broadcast, SparkContext, StorageLevel
from pyspark.sql import DataFrame

from als_spark.solve.routing import SHARED_ROW, Needs, rows_of_block
from als_spark.spark.arrow import unpickled
from als_spark.spark.planner import Plan
from als_spark.spark.prepare.pack import (
    Entry,
    HeldOut,
    Layout,
    PackOptions,
    Piece,
    merge_partition,
)
from als_spark.spark.session import broadcasted, described
from als_spark.spark.train.exchange import SliceNumber, TrainSlice
from als_spark.spark.train.factor_blocks import Outgoing, Place, beside, sent_to
from als_spark.spark.train.routed_blocks import RoutedSide
from als_spark.spark.worker import prepare_worker
from als_spark.train.metrics import EvaluationPart, SideStats, build_evaluation_part
from als_spark.types import SIDES, ColdStart, DType, IntArray, Side, other_side


class Known(NamedTuple):
    """What the tasks know of all ratings."""

    block_of: Mapping[Side, IntArray]
    """(n_rows,) block of each row of a side, ``SHARED_ROW`` for a shared one."""
    stats: Mapping[Side, SideStats]
    """Of the training ratings."""
    cold_start: ColdStart
    dtype: DType


def pack_alike(pieces: DataFrame, options: PackOptions, layout: Broadcast[Layout]) -> RDD[Entry]:
    """Merge the pieces of the blocks of one side, partitioned as factor blocks are."""
    placed = sent_to(unpickled(pieces.select("piece")).map(_by_target), options.n_blocks)
    merge = partial(_merge_pairs, options=options, layout=layout)
    return placed.mapPartitions(merge, preservesPartitioning=True)


def _by_target(piece: Piece) -> tuple[int, Piece]:
    return piece.target, piece


def _merge_pairs(
    pairs: Iterable[tuple[int, Piece]], *, options: PackOptions, layout: Broadcast[Layout]
) -> Iterator[Entry]:
    return merge_partition((piece for _, piece in pairs), options=options, layout=layout)


def place_routed(
    context: SparkContext,
    entries: Mapping[Side, RDD[Entry]],
    rows: Mapping[Side, Mapping[SliceNumber, IntArray]],
    known: Known,
    plan: Plan,
    resources: ExitStack,
) -> dict[Side, RoutedSide]:
    """Place the ratings of both sides, persisted until the resources end.

    Parameters
    ----------
    context : SparkContext
    entries : mapping of side to RDD of entries
        From :func:`pack_alike`.
    rows : mapping
        The dense rows of each slice of each side, but of shared rows.
    known : Known
    plan : Plan
        Says which side's factors stay.
    resources : ExitStack
    """
    n_blocks = plan.n_blocks
    shared = resources.enter_context(broadcasted(context, known))

    def keep(rdd: RDD[Any], name: str) -> RDD[Any]:
        rdd.setName(f"als_spark: {name}").persist(StorageLevel.MEMORY_AND_DISK_DESER)
        resources.callback(rdd.unpersist)
        return rdd

    stays = {side: plan.exchange[other_side(side)] == "shuffle" for side in SIDES}
    numbers = context.parallelize([(block, None) for block in range(n_blocks)], n_blocks)
    blocks = sent_to(numbers, n_blocks)
    needs: dict[Side, RDD[Any]] = {}
    n_needed = dict.fromkeys(SIDES, 0)
    for side in SIDES:
        if stays[other_side(side)]:
            find = partial(needs_of_partition, side=side, known=shared)
            found = entries[side].mapPartitions(find, preservesPartitioning=True)
            needs[side] = keep(found, f"rows that blocks of {side}s need")
            with described(context, f"finding what the blocks of {side}s need"):
                n_needed[side] = max(needs[side].map(_n_columns).collect())
    placed = {}
    for side in SIDES:
        parts = [needs[side], entries[side]] if side in needs else [entries[side]]
        build = partial(ratings_of_partition, known=shared)
        ratings = beside(context, parts, n_blocks).mapPartitions(build, preservesPartitioning=True)
        places = outgoing = None
        if stays[side]:
            locate = partial(place_of_partition, side=side, known=shared)
            located = blocks.mapPartitions(locate, preservesPartitioning=True)
            places = keep(located, f"rows of factor blocks of {side}s")
            asked = needs[other_side(side)].mapPartitionsWithIndex(requests_of_partition)
            answer = partial(outgoing_of_partition, side=side, known=shared)
            answered = sent_to(asked, n_blocks).mapPartitionsWithIndex(
                answer, preservesPartitioning=True
            )
            outgoing = keep(answered, f"rows of {side}s to send")
        placed[side] = RoutedSide(
            keep(ratings, f"ratings by {side}"),
            rows[side],
            needs.get(side),
            n_needed[side],
            places,
            outgoing,
            rows_of_block(known.block_of[side], SHARED_ROW),
        )
        with described(context, f"placing the blocks of {side}s"):
            routed = [rdd for rdd in (ratings, places, outgoing) if rdd is not None]
            beside(context, routed, n_blocks).count()
    return placed


def _n_columns(needs: Needs) -> int:
    return int(needs.columns.size)


def needs_of_partition(
    entries: Iterable[Entry], *, side: Side, known: Broadcast[Known]
) -> Iterator[Needs]:
    """Find what the ratings of a block need, held-out ones too: runs on an executor."""
    prepare_worker()
    columns = (
        entry.ratings.indices if isinstance(entry, TrainSlice) else entry.items
        for entry in entries
        if isinstance(entry, TrainSlice | HeldOut)
    )
    yield Needs.of(columns, known.value.block_of[other_side(side)])


def ratings_of_partition(
    parts: Iterable[Needs | Entry], *, known: Broadcast[Known]
) -> Iterator[TrainSlice | EvaluationPart]:
    """Make the slices and held-out parts of a block, compact if its needs come first.

    Runs on an executor.
    """
    prepare_worker()
    _, stats, cold_start, dtype = known.value
    needs: Needs | None = None
    for part in parts:
        if isinstance(part, Needs):
            needs = part
        elif isinstance(part, TrainSlice):
            yield part if needs is None else part._replace(ratings=needs.compact(part.ratings))
        elif isinstance(part, HeldOut):
            held = build_evaluation_part(*part, stats=stats, cold_start=cold_start, dtype=dtype)
            yield held if needs is None else replace(held, block=needs.compact(held.block))


def place_of_partition(
    blocks: Iterable[tuple[int, None]], *, side: Side, known: Broadcast[Known]
) -> Iterator[Place]:
    """Find the rows of a factor block: runs on an executor."""
    block_of, degrees = known.value.block_of[side], known.value.stats[side].degrees
    for block, _ in blocks:
        rows = rows_of_block(block_of, block)
        yield Place(block, rows, degrees[rows])


def requests_of_partition(
    index: int, needs: Iterable[Needs]
) -> Iterator[tuple[int, tuple[int, IntArray]]]:
    """Ask each factor block for the rows that a rating block needs: runs on an executor."""
    for need in needs:
        for source, places in need.sources.items():
            yield source, (index, need.columns[places])


def outgoing_of_partition(
    index: int,
    requests: Iterable[tuple[int, tuple[int, IntArray]]],
    *,
    side: Side,
    known: Broadcast[Known],
) -> Iterator[Outgoing]:
    """Find the rows that a factor block sends, among its own: runs on an executor."""
    own = rows_of_block(known.value.block_of[side], index)
    found = {target: np.searchsorted(own, rows).astype(np.int32) for _, (target, rows) in requests}
    yield Outgoing(index, dict(sorted(found.items())))
