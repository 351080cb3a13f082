"""What is known of the ratings of a run, for checks, records and reports."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from als_spark.model.ids import IdIndex
from als_spark.spark.read.bad_rows import BadRowCounts
from als_spark.spark.read.degrees import Degrees
from als_spark.spark.read.histogram import Bar
from als_spark.spark.read.ids import ChangedIds, odd_ids
from als_spark.spark.read.moments import NO_MOMENTS, Moments
from als_spark.types import SIDES, IntArray, Side


@dataclass(frozen=True, slots=True)
class TableVersion:
    """The one version of a table that a run has read.

    ``label`` is the source's; ``kind`` whose table it is, such as Delta; ``version`` Delta's number
    or the id of Iceberg's snapshot; ``committed`` when it was written, in UTC, ISO 8601.
    """

    label: str
    kind: str
    version: str
    committed: str

    def __str__(self) -> str:
        """Name the version, without the table."""
        noun = "snapshot" if self.kind == "Iceberg" else "version"
        return f"{self.kind}, {noun} {self.version} of {self.committed}"


@dataclass(frozen=True, slots=True)
class PartFacts:
    """One source of a run's ratings: the base, or an increment.

    ``rows`` and ``bad_rows`` are as read; range, mean and latest timestamp (in seconds as read) are
    of the usable ratings, NaN where there are none.
    """

    label: str
    rows: int
    bad_rows: int
    lowest: float
    highest: float
    mean: float
    latest: float = math.nan

    @property
    def bad_share(self) -> float:
        """Share of the rows that cannot be used."""
        return self.bad_rows / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class DataFacts:
    """All ratings of a run, after the unusable rows and the duplicates are gone.

    The spread is the standard deviation. The fingerprint is the same for the same ratings, in
    whatever order, files and partitions they come. ``tables`` has the versions of the tables that
    they were read from, if any: a new version may well hold the same ratings.
    """

    ratings: int
    users: int
    items: int
    lowest: float
    highest: float
    mean: float
    spread: float
    fingerprint: str
    tables: tuple[TableVersion, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """Return the facts as JSON has them."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Summary:
    """What the one pass over the ratings that are prepared has found.

    Number and range of the usable ratings; all ids among them, by falling number of ratings, then
    by rising id, so that the rows that are used most lie together; the (n,) int64 usable ratings of
    each id; the unusable rows; the ids that are not as they were written; the histogram of the
    usable ratings; the first rows of all (see :mod:`als_spark.spark.read.first_rows`); and, where
    tasks have read files themselves and were to find them, mean, spread and fingerprint.
    """

    n_ratings: int
    users: IdIndex
    items: IdIndex
    user_counts: IntArray
    item_counts: IntArray
    lowest: float
    highest: float
    bad: BadRowCounts
    changed: ChangedIds = field(default_factory=ChangedIds)
    histogram: tuple[Bar, ...] = ()
    first_rows: tuple[Mapping[str, Any], ...] = ()
    moments: Moments = NO_MOMENTS

    def __repr__(self) -> str:
        """Say how many ratings there are, of whom."""
        return (
            f"<Summary: {self.n_ratings:,} ratings of {len(self.users):,} users and "
            f"{len(self.items):,} items>"
        )

    @property
    def ids(self) -> dict[Side, pa.Array]:
        """The ids of each side."""
        return {"user": self.users.ids, "item": self.items.ids}

    @property
    def fingerprint(self) -> str:
        """Tell these ratings from others by their number, range, ids, and the count of each id.

        It is the same in whatever order, files and partitions the ratings come, and costs no pass
        over them: but of the rating of each pair it knows the range alone. Another one than that of
        :class:`DataFacts`.
        """
        digest = hashlib.sha256(np.array([self.lowest, self.highest]).tobytes())
        sides = (self.users, self.user_counts), (self.items, self.item_counts)
        for index, counts in sides:
            texts = index.ids.cast(pa.large_string())
            digest.update(pc.binary_length(texts).to_numpy(zero_copy_only=False).tobytes())
            digest.update("".join(texts.to_pylist()).encode())
            digest.update(counts.astype(np.int64).tobytes())
        return f"{self.n_ratings}-{digest.hexdigest()[:16]}"

    @property
    def odd_ids(self) -> list[str]:
        """Why ids that are mostly whole numbers are read as text, where they are."""
        found = (odd_ids(self.ids[side], side) for side in SIDES)
        return [words for words in found if words is not None]

    def as_record(self) -> dict[str, Any]:
        """Return how often each rating comes, and how many users and items have, as JSON has it."""
        return {
            "ratings_per_user": self.user_degrees.as_record(),
            "ratings_per_item": self.item_degrees.as_record(),
            "histogram": [bar.as_record() for bar in self.histogram],
        }

    @property
    def user_degrees(self) -> Degrees:
        """How many ratings the users have."""
        return Degrees.of_counts(self.user_counts)

    @property
    def item_degrees(self) -> Degrees:
        """How many ratings the items have."""
        return Degrees.of_counts(self.item_counts)
