"""Columns of features: what each becomes, and whether it is of use.

A column without a value, or with one alone, is left out, as are values of fewer than
:data:`LEAST_ROWS` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, Literal, NamedTuple

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from als_spark.spark.read.bad_rows import noun

Kind = Literal["number", "category", "list"]

LEAST_ROWS = 5
"""Rows that a value of a category has to have."""
MOST_VALUES = 200
"""Values of a column that become features: those of most rows."""


class FeatureColumn(NamedTuple):
    """A column of features that is used."""

    name: str
    kind: Kind
    values: tuple[str, ...] = ()
    """Of a category or a list: those that become a feature, by falling number of rows."""
    n_missing: int = 0
    """Rows without a value."""
    n_rare: int = 0
    """Different values that are left out, for few rows have them."""

    @property
    def n_features(self) -> int:
        """Numbers that it becomes."""
        return 1 if self.kind == "number" else len(self.values)

    @property
    def words(self) -> str:
        """Say what becomes of it."""
        what = str(self.kind)
        if self.kind != "number":
            what += f", {len(self.values):,} values"
            what += f" and {self.n_rare:,} rare ones left out" if self.n_rare else ""
        missing = f", missing in {self.n_missing:,} {noun(self.n_missing)}"
        return f"{self.name} ({what}{missing if self.n_missing else ''})"

    def as_record(self) -> dict[str, Any]:
        """Return the column as the files of a run have it."""
        found: dict[str, Any] = {"name": self.name, "kind": self.kind}
        if self.kind != "number":
            found |= {"values": len(self.values), "rare_values": self.n_rare}
        return {**found, "missing": self.n_missing}


def of_use(
    usable: DataFrame, n_rows: int, columns: Sequence[tuple[str, Kind]]
) -> tuple[list[FeatureColumn], dict[str, str]]:
    """Tell which columns are of use, and why the others are not, in two passes.

    The values of the columns are in ``f0``, ``f1`` and so on.
    """
    if not columns:
        return [], {}
    sums = []
    for k, (_, kind) in enumerate(columns):
        column = F.col(f"f{k}")
        extremes = (F.min(column), F.max(column)) if kind == "number" else (F.lit(0.0), F.lit(0.0))
        sums += [F.count(column), *extremes]
    row = usable.agg(*(total.alias(f"s{k}") for k, total in enumerate(sums))).collect()[0]
    found = _values(usable, [kind for _, kind in columns])
    used: list[FeatureColumn] = []
    left_out: dict[str, str] = {}
    for k, (name, kind) in enumerate(columns):
        n, lowest, highest = row[3 * k : 3 * k + 3]
        rows = found.get(k, [])
        values = tuple(entry["value"] for entry in rows if entry["value"] is not None)
        n_rare = sum(entry["n"] for entry in rows if entry["value"] is None)
        if n == 0:
            left_out[name] = "no row has a value"
        elif kind == "number" and lowest == highest:
            left_out[name] = f"the same number, {lowest:g}, in all rows that have one"
        elif kind != "number" and not values:
            left_out[name] = f"no value of at least {LEAST_ROWS} rows"
        elif len(values) == 1 and next(entry["n"] for entry in rows) == n_rows:
            left_out[name] = f"the same value, {values[0]!r}, in all rows"
        else:
            used.append(FeatureColumn(name, kind, values, n_rows - n, n_rare))
    return used, left_out


def _values(usable: DataFrame, kinds: Sequence[Kind]) -> dict[int, list[Row]]:
    """Count the values of categories and lists, in one pass.

    By column: rows of ``value`` and ``n``, most frequent first, then by value; one more with a null
    value has the number of those that are left out.
    """
    parts = [_marked(k, kind) for k, kind in enumerate(kinds) if kind != "number"]
    if not parts:
        return {}
    empty = F.array().cast("array<struct<k:int,value:string>>")
    every = reduce(F.concat, (F.coalesce(part, empty) for part in parts))
    counts = (
        usable.select(F.explode(every).alias("own"))
        .groupBy("own.k", "own.value")
        .agg(F.count("*").alias("n"))
        .where(F.col("value").isNotNull())
    )
    frequent = F.col("n") >= LEAST_ROWS
    rows = (
        counts.groupBy("k", F.when(frequent, F.col("value")).alias("value"))
        .agg(F.when(F.first(frequent), F.max("n")).otherwise(F.count("*")).alias("n"))
        .collect()
    )
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row.k, []).append(row)
    return {k: _cut(own) for k, own in found.items()}


def _marked(k: int, kind: Kind) -> Column:
    """Return the values of a row in a column, each with the number of the column."""
    values = F.array(F.col(f"f{k}")) if kind == "category" else F.col(f"f{k}")
    return F.transform(values, lambda value: F.struct(F.lit(k).alias("k"), value.alias("value")))


def _cut(rows: Sequence[Row]) -> list[Row]:
    """Order the values of a column, and put what is beyond the most to those left out."""
    named = [row for row in rows if row.value is not None]
    named.sort(key=lambda row: (-row.n, row.value))
    n_rare = sum(row.n for row in rows if row.value is None) + len(named[MOST_VALUES:])
    return [*named[:MOST_VALUES], *([Row(value=None, n=n_rare)] if n_rare else [])]
