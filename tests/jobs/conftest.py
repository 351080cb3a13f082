"""The one Spark session of the jobs' tests: ``main(argv)`` uses it and leaves it running."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from tests.spark.session import QUICK_START, make_session

for key, value in QUICK_START.items():
    os.environ.setdefault(key, value)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A session of two local cores."""
    session = make_session()
    yield session
    session.stop()
