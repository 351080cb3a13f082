"""The one Spark session of the jobs' tests: ``main(argv)`` uses it and leaves it running."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from tests.spark.session import QUICK_JVM, make_session

# For the Sparks that jobs start as processes of their own.
os.environ.setdefault("SPARK_SUBMIT_OPTS", QUICK_JVM)
os.environ.setdefault("SPARK_LAUNCHER_OPTS", QUICK_JVM)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A session of two local cores."""
    session = make_session()
    yield session
    session.stop()
