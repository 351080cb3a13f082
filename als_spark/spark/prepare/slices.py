"""What the partitions of the packed ratings hold, and what the driver is told of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from als_spark.solve.blocks import RatingBlock
from als_spark.train.metrics import row_sums
from als_spark.types import FloatArray, IntArray, Side, SplitName

SliceNumber = tuple[int, int]
"""Block, and position of the slice in it."""


class TrainSlice(NamedTuple):
    """A slice of the training ratings of a block."""

    side: Side
    number: SliceNumber
    shared: bool
    """Whether its rows are shared rows, of which other blocks have ratings too."""
    ratings: RatingBlock


class HeldOut(NamedTuple):
    """Held-out ratings of the users of a block."""

    split: SplitName
    users: IntArray
    items: IntArray
    ratings: FloatArray


class Repeated(NamedTuple):
    """How many pairs of a block were rated more than once, with the first few (user, item)."""

    n_pairs: int
    pairs: list[tuple[int, int]]


Entry = TrainSlice | HeldOut | Repeated


class SliceStats(NamedTuple):
    """What the driver needs to know of a slice."""

    side: Side
    number: SliceNumber
    shared: bool
    rows: IntArray
    degrees: IntArray
    sums: FloatArray


class HeldOutStats(NamedTuple):
    """How many ratings of a block are held out."""

    split: SplitName
    n_ratings: int


def describe_entries(entries: Iterable[Entry]) -> Iterator[SliceStats | HeldOutStats | Repeated]:
    """Describe the entries of a partition for the driver: runs on an executor."""
    for entry in entries:
        if isinstance(entry, TrainSlice):
            block = entry.ratings
            yield SliceStats(
                *entry[:3], rows=block.rows, degrees=block.degrees, sums=row_sums(block)
            )
        elif isinstance(entry, HeldOut):
            yield HeldOutStats(entry.split, entry.ratings.size)
        else:
            yield entry


def train_slices(entries: Iterable[Entry]) -> Iterator[TrainSlice]:
    """Pass on the training ratings of a partition: runs on an executor."""
    for entry in entries:
        if isinstance(entry, TrainSlice):
            yield entry
