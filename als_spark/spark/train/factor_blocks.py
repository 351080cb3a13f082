"""Factors of a side that stay on the executors, in blocks, and how they travel between them.

A factor block has the factors of the rows of a rating block, also of those without training
ratings, and lies in the same partition. Shared rows, of which there are at most as many as blocks,
are in none: the driver has them.

RDDs of blocks have a partition for each, and the same partitioner, so that Spark puts those of the
same block side by side (:func:`beside`) without moving them.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from pyspark import RDD, SparkContext

from als_spark.solve.implicit import gram_of_all
from als_spark.solve.objective import Objective
from als_spark.spark.persisted import free, is_running, persist_without_lineage
from als_spark.spark.planner import PIECE_BYTES
from als_spark.spark.session import described
from als_spark.spark.shared import HasValue, SharedBroadcast
from als_spark.spark.worker import prepare_worker
from als_spark.train.backend import Start
from als_spark.train.start import start_array
from als_spark.types import FloatArray, IntArray, Side

_numbers = itertools.count()


class Place(NamedTuple):
    """The rows of a factor block."""

    block: int
    rows: IntArray
    """(n,) int32 dense rows, rising."""
    degrees: IntArray
    """(n,) int32 training ratings of each."""


class Outgoing(NamedTuple):
    """Which rows a factor block sends to which rating block of the other side."""

    block: int
    rows: Mapping[int, IntArray]
    """By rating block, positions within the factor block."""


class FactorBlock(NamedTuple):
    """The factors of a block's rows, of several models."""

    store: int
    """Number of the :class:`FactorStore` that it is of."""
    rows: IntArray
    """(n,) int32 dense rows, rising."""
    factors: list[FloatArray]
    """(n, columns) of each model."""


class Chunk(NamedTuple):
    """What one factor block sends to one rating block."""

    source: int
    factors: list[FloatArray]
    """(n_rows, columns) of each model."""


class Source(NamedTuple):
    """Where the factors of a model are among factor blocks."""

    store: int
    position: int
    side: Side
    plain_by: Objective | None
    """The objective that makes plain factors of them; None: as they are."""

    def of(self, blocks: Mapping[int, FactorBlock]) -> FloatArray:
        """(n, columns) factors in a block, of those of several stores by their numbers."""
        trained = blocks[self.store].factors[self.position]
        return trained if self.plain_by is None else self.plain_by.plain(trained, self.side)


class FactorStore:
    """Factor blocks of several models, persisted until nothing refers to them any more.

    Parameters
    ----------
    rdd : RDD of FactorBlock, and of whatever else its tasks have to report
        Not persisted yet. Its lineage is cut off as soon as it has been computed, so that it is no
        longer after a thousand iterations than after one: see
        :func:`~als_spark.spark.persisted.persist_without_lineage`.
    number : int
        Of the store: see :func:`new_number`.
    task : SharedBroadcast
        What the tasks of the RDD read. Spark sends a reference to it along with the RDD whenever
        this is read, so it ends with the store.
    """

    def __init__(self, rdd: RDD[Any], number: int, task: SharedBroadcast[Any]) -> None:
        rdd.setName("als_spark: factors")
        persist_without_lineage(rdd)
        self.rdd = rdd
        self.number = number
        self._task = task
        # Not as the interpreter ends: the session has ended by then.
        weakref.finalize(self, _free, rdd, task).atexit = False

    def __repr__(self) -> str:
        """Say which it is."""
        return f"<FactorStore {self.number}>"

    def end_task(self) -> None:
        """Free the executors' memory of what the tasks read, once the RDD is computed."""
        self._task.unpersist()


def new_number() -> int:
    """Return the number of the next store."""
    return next(_numbers)


def _free(rdd: RDD[Any], task: SharedBroadcast[Any]) -> None:
    free(rdd)
    if is_running(rdd.ctx):
        with suppress(Exception):
            task.destroy()


@dataclass(frozen=True, slots=True)
class DistributedFactors:
    """Factors of one side of one model: see :class:`als_spark.train.backend.RemoteFactors`.

    Attributes
    ----------
    store, position
        Where they are.
    side : {"user", "item"}
    n_rows : int
        Rows of the side.
    dtype
    shared_rows : (n_shared,) int
        Shared rows of the side, rising.
    shared : (n_shared, columns)
        Their factors.
    gram : (columns, columns) or None
        Sum of x xᵀ over all rows with training ratings, where it is known.
    plain_by : Objective or None
        See :class:`Source`.
    """

    store: FactorStore
    position: int
    side: Side
    n_rows: int
    dtype: np.dtype[Any]
    shared_rows: IntArray
    shared: FloatArray
    gram: FloatArray | None = None
    plain_by: Objective | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_rows, int(self.shared.shape[1])

    @property
    def source(self) -> Source:
        """Where tasks find them."""
        return Source(self.store.number, self.position, self.side, self.plain_by)

    def plain(self, objective: Objective) -> DistributedFactors:
        """Return factors whose products with the other side's are predictions, of trained ones."""
        if objective.plain(self.shared, self.side) is self.shared:
            return self
        shared = objective.plain(self.shared, self.side)
        return replace(self, plain_by=objective, shared=shared, gram=None)

    def collect(self) -> FloatArray:
        """Return them as an array on the driver."""
        rdd = self.store.rdd
        with described(rdd.ctx, f"collecting the factors of the {self.side}s"):
            found = rdd.mapPartitions(partial(_rows_of_partition, source=self.source)).collect()
        factors = np.empty(self.shape, self.dtype)
        factors[self.shared_rows] = self.shared
        for rows, own in found:
            factors[rows] = own
        return factors

    def pieces(self) -> Iterator[FloatArray]:
        """Bring them to the driver in the order of their rows, one piece at a time."""
        ordered, _ = in_order(self)
        with described(ordered.ctx, f"fetching the factors of the {self.side}s piece by piece"):
            try:
                yield from ordered.toLocalIterator()
            finally:
                drop_shuffle(ordered)


def in_order(model: DistributedFactors) -> tuple[RDD[FloatArray], int]:
    """Put the factors of a side in the order of its rows, on the executors.

    Returns
    -------
    RDD of (height, columns) arrays, int
        One array a partition, of the rows from the partition's number times the height on; and the
        height. The RDD shuffles factors once: :func:`drop_shuffle` frees that.
    """
    n_rows, columns = model.shape
    height = max(PIECE_BYTES // max(columns * model.dtype.itemsize, 1), 1)
    n_pieces = max(-(-n_rows // height), 1)
    cut = partial(cut_by_rows, source=model.source, height=height)
    placed = sent_to(model.store.rdd.mapPartitions(cut), n_pieces)
    fill = partial(
        fill_piece,
        shape=(height, n_rows),
        shared=(model.shared_rows, model.shared.astype(model.dtype, copy=False)),
    )
    return placed.mapPartitionsWithIndex(fill), height


def cut_by_rows(
    parts: Iterable[Any], *, source: Source, height: int
) -> Iterator[tuple[int, tuple[IntArray, FloatArray]]]:
    """Cut the factors of a block by the pieces that their rows belong to: runs on an executor."""
    prepare_worker()
    for rows, own in _rows_of_partition(parts, source=source):
        pieces = rows // height
        # Rows rise.
        starts = np.flatnonzero(np.diff(pieces, prepend=-1))
        for begin, end in itertools.pairwise([*starts.tolist(), rows.size]):
            yield int(pieces[begin]), (rows[begin:end], own[begin:end])


def fill_piece(
    number: int,
    parts: Iterable[tuple[int, tuple[IntArray, FloatArray]]],
    *,
    shape: tuple[int, int],
    shared: tuple[IntArray, FloatArray],
) -> Iterator[FloatArray]:
    """Put the rows of a piece together: runs on an executor."""
    prepare_worker()
    height, n_rows = shape
    first = number * height
    rows, factors = shared
    piece = np.empty((min(height, n_rows - first), factors.shape[1]), factors.dtype)
    here = (rows >= first) & (rows < first + height)
    piece[rows[here] - first] = factors[here]
    for _, (own, values) in parts:
        piece[own - first] = values
    yield piece


def _rows_of_partition(
    parts: Iterable[Any], *, source: Source
) -> Iterator[tuple[IntArray, FloatArray]]:
    for part in parts:
        if isinstance(part, FactorBlock):
            yield part.rows, source.of({part.store: part})


def block_number(key: int) -> int:
    """Partition of a block: the one function by which all RDDs of blocks are partitioned."""
    return key


def beside(context: SparkContext, rdds: Sequence[RDD[Any]], n_blocks: int) -> RDD[Any]:
    """Put what RDDs have of each block one behind the other, in the order of the RDDs."""
    joined = context.union(list(rdds)) if len(rdds) > 1 else rdds[0]
    if joined.getNumPartitions() != n_blocks:
        raise RuntimeError("RDDs of blocks that are not partitioned alike")
    return joined


def sent_to(pairs: RDD[tuple[int, Any]], n_blocks: int) -> RDD[tuple[int, Any]]:
    """Send pairs of a block's number and anything to the partition of the block."""
    placed = pairs.partitionBy(n_blocks, block_number)
    # Pickled lists of whatever length, as all others: Spark joins them as they are.
    return RDD(placed._jrdd, placed.ctx, placed.ctx.serializer)


def drop_shuffle(rdd: RDD[Any]) -> None:
    """Delete the files of the shuffle that an RDD of :func:`sent_to` came from."""
    rdd._jrdd.rdd().cleanShuffleDependencies(False)


def distinct_stores(models: Iterable[DistributedFactors]) -> list[FactorStore]:
    """Return the stores that models are in, each once."""
    return list({model.store.number: model.store for model in models}.values())


def send_partition(
    parts: Iterable[Outgoing | FactorBlock | Any], *, models: Sequence[Source]
) -> Iterator[tuple[int, Chunk]]:
    """Send the rows of a factor block to the rating blocks that need them: runs on an executor."""
    prepare_worker()
    blocks: dict[int, FactorBlock] = {}
    outgoing = None
    for part in parts:
        if isinstance(part, Outgoing):
            outgoing = part
        elif isinstance(part, FactorBlock):
            blocks[part.store] = part
    assert outgoing is not None
    factors = [model.of(blocks) for model in models]
    for target, rows in outgoing.rows.items():
        yield target, Chunk(outgoing.block, [own[rows] for own in factors])


def start_partition(
    places: Iterable[Place], *, starts: HasValue[list[Start]], side: Side, store: int
) -> Iterator[FactorBlock]:
    """Make the starting factors of a block: runs on an executor."""
    prepare_worker()
    every = starts.value
    for place in places:
        factors = [start_array(start, 0, side, place.rows) for start in every]
        yield FactorBlock(store, place.rows, factors)


def gram_partition(
    parts: Iterable[Place | FactorBlock | Any], *, model: Source
) -> Iterator[tuple[int, FloatArray]]:
    """Sum x xᵀ over the rows of a block with training ratings: runs on an executor."""
    prepare_worker()
    place: Place | None = None
    for part in parts:
        if isinstance(part, Place):
            place = part
        elif isinstance(part, FactorBlock):
            assert place is not None
            yield place.block, gram_of_all(model.of({part.store: part}), place.degrees)
