"""Mean, spread, latest time and fingerprint of ratings, in parts that can be merged.

Without Spark: the same figures as :mod:`als_spark.spark.read.snapshot` has of typed rows.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from als_spark.spark.read.row_hash import FIRST_SEED, PairTexts, hash_doubles
from als_spark.types import FloatArray

_LAYOUT = "<qdddQ"


class Moments(NamedTuple):
    """What is known of some ratings; NaN where there are none."""

    n: int
    mean: float
    squares: float
    """Sum of the squared distances from the mean."""
    latest: float
    """Timestamp in seconds; NaN without timestamps."""
    digest: int
    """Sum of the hashes of the ratings, modulo 2^64: whatever their order, it is the same."""

    @staticmethod
    def of(pairs: PairTexts, ratings: FloatArray, timestamps: FloatArray) -> Moments:
        """Take the ratings of some pairs; timestamps (n,), or (0,) where there are none."""
        n = ratings.size
        if not n:
            return NO_MOMENTS
        mean = float(ratings.mean())
        digest, squares = 0, []
        # In blocks, so that what is in between takes no memory.
        for rows, hashed in pairs.hash(np.array([FIRST_SEED], np.uint64)):
            hashed = hash_doubles(ratings[rows], hashed)
            if timestamps.size:
                hashed = hash_doubles(timestamps[rows], hashed)
            digest += int(hashed.sum(dtype=np.uint64))
            squares.append(float(np.square(ratings[rows] - mean).sum()))
        latest = float(timestamps.max()) if timestamps.size else math.nan
        return Moments(n, mean, math.fsum(squares), latest, digest % 2**64)

    @staticmethod
    def merge(parts: Iterable[Moments]) -> Moments:
        """Put the figures of disjoint ratings together."""
        there = [part for part in parts if part.n]
        if not there:
            return NO_MOMENTS
        n = sum(part.n for part in there)
        mean = math.fsum(part.n * part.mean for part in there) / n
        squares = math.fsum(part.squares + part.n * (part.mean - mean) ** 2 for part in there)
        timed = [part.latest for part in there if not math.isnan(part.latest)]
        digest = sum(part.digest for part in there) % 2**64
        return Moments(n, mean, squares, max(timed, default=math.nan), digest)

    @property
    def spread(self) -> float:
        """Standard deviation."""
        return math.sqrt(self.squares / self.n) if self.n else math.nan

    @property
    def fingerprint(self) -> str:
        """As :class:`als_spark.spark.read.facts.DataFacts` has it."""
        return f"{self.n}-{self.digest:016x}"

    def to_bytes(self) -> bytes:
        """Return the bytes in which a task sends it."""
        return struct.pack(_LAYOUT, *self)

    @staticmethod
    def from_bytes(data: bytes) -> Moments:
        """Read them back."""
        return Moments(*struct.unpack(_LAYOUT, data))


NO_MOMENTS = Moments(0, math.nan, 0.0, math.nan, 0)
"""Of no ratings."""
