"""The Bayesian methods on Spark: the same at any partitioning, shared rows and all."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import ConfigError
from als_spark.train.bayes.loop import train_posterior
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.local import LocalBackend
from tests.spark.train.test_shuffle_on_spark import frame, prepared_as

__all__ = ["frame"]

METHODS = (
    # With features of two items that have no rating.
    PosteriorOptions(rank=2, n_features=2, tol=0, max_iter=2, dtype="float64"),
    PosteriorOptions("sample", rank=2, burn_in=1, samples=2, dtype="float64"),
)


def test_partitions_make_no_difference(spark: SparkSession, frame: DataFrame) -> None:
    with prepared_as(spark, frame, "auto", 1, placement="grid") as prepared:
        assert isinstance(prepared.backend, LocalBackend)
        n_items = len(prepared.summary.items) + 2
        given = {"item": np.random.default_rng(0).normal(size=(n_items, 3))}
        expected = [
            train_posterior(prepared.backend, prepared.stats["user"], options, features=features)
            for options, features in zip(METHODS, (given, None), strict=True)
        ]
    assert expected[0].items.shape[0] == n_items
    for partitions in (1, 3, 8):
        with prepared_as(spark, frame, "broadcast", partitions) as prepared:
            known = prepared.backend, prepared.stats["user"]
            for options, one, features in zip(METHODS, expected, (given, None), strict=True):
                other = train_posterior(*known, options, features=features)
                np.testing.assert_allclose(other.users, one.users, rtol=1e-9, atol=1e-9)
                np.testing.assert_allclose(other.items, one.items, rtol=1e-9, atol=1e-9)
                bounds = [[record.bound for record in model.history] for model in (one, other)]
                np.testing.assert_allclose(bounds[1], bounds[0], rtol=1e-10)


def test_shuffled_factors_are_refused(spark: SparkSession, frame: DataFrame) -> None:
    with (
        prepared_as(spark, frame, "shuffle", 3) as prepared,
        pytest.raises(ConfigError, match=r'a Bayesian method with `exchange="shuffle"`'),
    ):
        train_posterior(prepared.backend, prepared.stats["user"], METHODS[0])
