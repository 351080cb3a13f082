"""Errors of the estimator and its model: ours, and those that callers of MLlib catch."""

from __future__ import annotations

from pyspark.errors import IllegalArgumentException, PySparkException, SparkRuntimeException

from als_spark.errors import ConfigError, DataError


class InvalidArgument(ConfigError, IllegalArgumentException):
    """A parameter or a column cannot be used; MLlib's ``IllegalArgumentException`` too."""

    def __init__(self, message: str) -> None:
        PySparkException.__init__(self, message)


class InvalidRatings(DataError, SparkRuntimeException):
    """The ratings cannot be trained on; MLlib's ``SparkRuntimeException`` too."""

    def __init__(self, message: str) -> None:
        PySparkException.__init__(self, message)
