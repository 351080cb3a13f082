"""Ratings that most tests of the estimator fit; a file with others has a fixture of its own."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession

from tests.spark.ml.ratings import Ratings, some_ratings


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    return some_ratings()


@pytest.fixture(scope="module")
def frame(spark: SparkSession, ratings: Ratings) -> DataFrame:
    return ratings.frame(spark).cache()
