"""How often each rating comes: counted in whatever pass reads the ratings, and drawn as bars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from als_spark.types import FloatArray, IntArray

BARS = 20
"""Bars of a histogram, at most."""
MAX_VALUES = 1000
"""Different ratings that are counted apart; of more, three digits count."""
_LAST_BIT = 1 << 42
"""Of the 52 stored ones of a number, the last that counts where there are very many numbers."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram: ``count`` ratings from ``low`` to below ``high``.

    The last bar has those that are ``high`` too; a bar of a single value has it twice.
    """

    low: float
    high: float
    count: int

    def as_record(self) -> tuple[float, float, int]:
        """Return the bar as JSON has it."""
        return self.low, self.high, self.count


def merge_counts(counts: Iterable[tuple[Any, IntArray]]) -> tuple[Any, IntArray]:
    """Add up counts of values; the values come out rising."""
    values, numbers = zip(*counts, strict=True)
    merged, places = np.unique(np.concatenate(values), return_inverse=True)
    summed = np.zeros(merged.size, np.int64)
    np.add.at(summed, places, np.concatenate(numbers))
    return merged, summed


def few_values(values: FloatArray, counts: IntArray) -> tuple[FloatArray, IntArray]:
    """Put values together that agree in three digits, if there are more than a thousand."""
    if values.size <= MAX_VALUES:
        return values, counts
    sizes = np.abs(values)
    digits = 10.0 ** (np.floor(np.log10(np.where(sizes > 0, sizes, 1.0))) - 2)
    rounded = pa.table({"value": np.round(values / digits) * digits, "n": counts})
    # By hashes first: these are far fewer, and sorting is slow.
    summed = rounded.group_by("value").aggregate([("n", "sum")])
    return merge_counts([(summed.column("value").to_numpy(), summed.column("n_sum").to_numpy())])


def histogram(
    values: FloatArray, counts: IntArray, lowest: float, highest: float
) -> tuple[Bar, ...]:
    """Draw the bars: one for each value, if these are few; else of one width, or of one ratio.

    Of one ratio where half of the ratings would lie in the first of the others.
    """
    if values.size <= BARS:
        return tuple(Bar(float(v), float(v), int(n)) for v, n in zip(values, counts, strict=True))
    edges = np.linspace(lowest, highest, BARS + 1)
    if lowest > 0 and 2 * counts[values < edges[1]].sum() > counts.sum():
        edges = np.geomspace(lowest, highest, BARS + 1)
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, BARS - 1)
    heights = np.bincount(places, weights=counts, minlength=BARS)
    return tuple(
        Bar(float(low), float(high), int(n))
        for low, high, n in zip(edges[:-1], edges[1:], heights, strict=True)
    )


def pack_counts(values: npt.NDArray[Any], counts: IntArray) -> bytes:
    """Serialise values of eight bytes and their counts."""
    return values.tobytes() + counts.astype(np.int64).tobytes()


def unpack_counts(data: bytes, dtype: Any) -> tuple[npt.NDArray[Any], IntArray]:
    """Read what :func:`pack_counts` wrote."""
    half = len(data) // 2
    return np.frombuffer(data[:half], dtype), np.frombuffer(data[half:], np.int64)


def count_encoded(values: npt.NDArray[Any], levels: FloatArray) -> tuple[FloatArray, IntArray]:
    """Count what :func:`als_spark.spark.arrow.encode_values` returns, by rising value.

    Of ratings without levels, which are many, eleven binary digits count: three decimal ones, and
    whole numbers up to 2,048 stay what they are.
    """
    if not levels.size:
        rounded = (values.view(np.int64) + (_LAST_BIT >> 1)) & -_LAST_BIT
        return few_values(*value_counts(pa.array(rounded.view(np.float64))))
    counts = np.bincount(values, minlength=levels.size)
    order = np.argsort(levels)
    return levels[order], counts[order]


def bars_of(pieces: Iterable[bytes], lowest: float, highest: float) -> tuple[Bar, ...]:
    """Draw the bars of what several tasks have packed; none of no ratings."""
    counted = [unpack_counts(data, np.float64) for data in pieces if data]
    if not counted:
        return ()
    return histogram(*few_values(*merge_counts(counted)), lowest, highest)


def value_counts(column: pa.ChunkedArray) -> tuple[Any, IntArray]:
    """Count the values of a column; they come out rising."""
    counted = pc.value_counts(column)
    values = counted.field("values").to_numpy(zero_copy_only=False)
    counts = counted.field("counts").to_numpy(zero_copy_only=False)
    order = np.argsort(values)
    return values[order], counts[order]
