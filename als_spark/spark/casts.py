"""Casts that give null where a value cannot be had."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F


def try_cast(expression: str, kind: str) -> Column:
    """Cast an expression of SQL, such as a quoted name, to a type; null where that fails.

    ``try_cast`` is no method of a column in every supported PySpark.
    """
    return F.expr(f"try_cast({expression} as {kind})")
