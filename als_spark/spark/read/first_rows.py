"""The first rows of a source as they are understood, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame

from als_spark.spark.read.bad_rows import problem_of

FIRST_ROWS = 5
ROLES = ("user", "item", "rating", "timestamp")

Row = dict[str, Any]
"""Ids, rating, perhaps the timestamp, and ``problem``: what is wrong with it, or None."""


def first_of_frame(typed: DataFrame, roles: Iterable[str]) -> list[Row]:
    """Take the first rows of typed ratings, with the values of some roles."""
    names = [role for role in ROLES if role in roles]
    rows = typed.select(*names, "problem").head(FIRST_ROWS)
    return [_shown(row.asDict()) for row in rows]


def first_of_table(table: pa.Table) -> list[Row]:
    """Take the first rows of what a task encodes: see :mod:`als_spark.spark.prepare.encode`."""
    names = [role for role in ROLES if role in table.column_names]
    return [
        _shown({**{name: row[name] for name in names}, "problem": problem_of(row["bad"])})
        for row in table.slice(0, FIRST_ROWS).select([*names, "bad"]).to_pylist()
    ]


def _shown(row: Mapping[str, Any]) -> Row:
    """Leave out what is no number, as of a row whose problem says so."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
