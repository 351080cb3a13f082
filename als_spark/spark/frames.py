"""What is given in the place of a Spark DataFrame."""

from __future__ import annotations

from typing import Any

from als_spark.errors import ConfigError

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


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"
