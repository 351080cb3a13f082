"""What is given in the place of a Spark DataFrame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyspark.sql import DataFrame

from als_spark.errors import ConfigError, DataError

_REMEDIES = {
    "pandas": "spark.createDataFrame(frame)",
    "polars": "spark.createDataFrame(frame.to_pandas())",
    "pyarrow": "spark.createDataFrame(table.to_pandas())",
    "numpy": 'spark.createDataFrame(array.tolist(), ["user", "item", "rating"])',
    "pyspark.pandas": "frame.to_spark()",
}
"""How to make a DataFrame of those of other packages."""


def check_frame(frame: Any, taker: str) -> None:
    """Refuse what is no Spark DataFrame, and say how to make one of it.

    Parameters
    ----------
    frame : object
        What was given.
    taker : str
        What it was given to, for the message.

    Raises
    ------
    ConfigError
    """
    kind = type(frame)
    module = kind.__module__
    if hasattr(frame, "sparkSession") and hasattr(frame, "schema"):
        return
    package = "pyspark.pandas" if module.startswith("pyspark.pandas") else module.partition(".")[0]
    remedy = _REMEDIES.get(package)
    name = kind.__name__ if module == "builtins" else f"{package}.{kind.__name__}"
    made = f"make one with {remedy}" if remedy else "give one, such as spark.createDataFrame makes"
    raise ConfigError(f"{taker} takes a Spark DataFrame, not {_article(name)} {name}: {made}")


def check_named(frame: DataFrame, columns: Mapping[str, str]) -> None:
    """Refuse a DataFrame without one of the columns, which are named by their roles.

    Raises
    ------
    DataError
    """
    for role, name in columns.items():
        if name not in frame.columns:
            raise DataError(
                f"the DataFrame has no {role} column {name!r}: its columns are "
                f"{', '.join(frame.columns)}"
            )


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"
