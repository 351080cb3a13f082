"""The one rule for pairs that were rated more than once, for arrays and for DataFrames.

The ratings of a pair are ordered by the keys of :func:`deciding_keys`, and the last of them stands
for the pair. Under ``last`` its value counts. Under ``mean`` the mean of all ratings of its split
does, summed from the lowest up, so that the order of the input does not matter. Under ``keep`` each
rating counts as one of its own, as in Spark MLlib.

A pair that is held out by one of its ratings is held out: the split comes first. A missing
timestamp is earlier than any other. Of equal times the later source wins, then the higher rating.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pyspark.sql import Column
from pyspark.sql import functions as F

from als_spark.types import Duplicates, DuplicatesOrKeep, FloatArray, IntArray


def deciding_keys(*, by_time: bool = True) -> tuple[str, ...]:
    """Return what orders the ratings of a pair, most significant first.

    Unless all sources have timestamps (``by_time``), the order of the sources comes before them.
    """
    moment = ("timestamp", "origin") if by_time else ("origin", "timestamp")
    return ("split", *moment, "rating")


class Resolved(NamedTuple):
    """One rating of each pair; all of them under ``keep``."""

    kept: IntArray
    """(n_kept,) positions of the ratings that stand for their pairs."""
    ratings: FloatArray
    """(n_kept,) values that count."""
    repeated: IntArray
    """Positions of the first rating of each pair that came more than once."""


def resolve_duplicates(
    rows: IntArray,
    columns: IntArray,
    ratings: FloatArray,
    how: DuplicatesOrKeep,
    keys: Mapping[str, npt.NDArray[Any]],
    *,
    by_time: bool = True,
) -> Resolved:
    """Leave one rating of each (row, column) pair; they lie by row, then by column.

    ``keys`` are the other deciding keys, (n,) or (0,), where there are any: ``split``,
    ``timestamp`` (NaN where missing), ``origin``, and ``weight``, by which equal ratings are
    ordered. ``error`` is treated as ``mean``; the caller
    stops.
    """
    new = np.ones(rows.size, bool)
    new[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    firsts = np.flatnonzero(new)
    if firsts.size == rows.size:
        return Resolved(firsts, ratings, firsts[:0])
    sizes = np.diff(np.append(firsts, rows.size))
    often = np.flatnonzero(sizes > 1)
    # Only the ratings of repeated pairs are ordered; their pairs are numbered among themselves.
    positions = np.flatnonzero(np.repeat(sizes > 1, sizes))
    pair = np.repeat(np.arange(often.size), sizes[often])
    given = {name: values[positions] for name, values in keys.items() if values.size}
    given["rating"] = ratings[positions]
    if "timestamp" in given:
        times = given["timestamp"]
        given["timestamp"] = np.where(np.isnan(times), -np.inf, times)
    names = (*deciding_keys(by_time=by_time), "weight")
    order = np.lexsort([pair, *(given[name] for name in names if name in given)][::-1])
    if how == "keep":
        kept = np.arange(rows.size)
        kept[positions] = positions[order]
        return Resolved(kept, ratings[kept], firsts[often])
    last = order[np.cumsum(sizes[often]) - 1]
    values = given["rating"][last]
    if how != "last":
        values = _means(pair, given["rating"], given.get("split"), last)
    kept, counted = firsts.copy(), ratings[firsts]
    kept[often], counted[often] = positions[last], values
    return Resolved(kept, counted, firsts[often])


def _means(
    pair: IntArray, ratings: FloatArray, splits: IntArray | None, last: IntArray
) -> FloatArray:
    """Mean of the ratings of each pair that are of the split of its last one."""
    if splits is not None:
        counted = np.flatnonzero(splits == splits[last][pair])
        pair, ratings = pair[counted], ratings[counted]
    order = np.lexsort((ratings, pair))
    sums = np.bincount(pair, ratings[order], minlength=last.size)
    means: FloatArray = sums / np.bincount(pair, minlength=last.size)
    return means


def last_of_group(*, by_time: bool) -> Column:
    """Return the last rating of a group by pair, as a struct of the deciding keys.

    The same rule as :func:`resolve_duplicates`, for a DataFrame with the columns ``timestamp``,
    ``origin`` and ``rating``; ratings are not split yet. NULL is smaller than everything.
    """
    return F.max(F.struct(*(k for k in deciding_keys(by_time=by_time) if k != "split")))


def rating_of_group(how: Duplicates, *, by_time: bool) -> Column:
    """Return the value that counts of a group by pair: see :func:`last_of_group`."""
    if how == "last":
        return last_of_group(by_time=by_time)["rating"]
    rising = F.array_sort(F.collect_list("rating"))
    return F.aggregate(rising, F.lit(0.0), lambda total, value: total + value) / F.count("*")
