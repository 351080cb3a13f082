"""The Bayesian methods on Spark: the same at any partitioning, shared rows and all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import ConfigError
from als_spark.spark.read.split import SplitOptions
from als_spark.spark.train.posterior import PosteriorGrid
from als_spark.train.bayes.loop import train_posterior
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.grid import SweepCollector
from als_spark.train.local import LocalBackend
from als_spark.train.records import IterationRecord
from tests.spark.train.test_shuffle_on_spark import frame, prepared_as

__all__ = ["frame"]

METHODS = (
    # With features of two items that have no rating.
    PosteriorOptions(rank=2, n_features=2, tol=0, max_iter=2, dtype="float64"),
    PosteriorOptions("sample", rank=2, burn_in=1, samples=2, dtype="float64"),
)


@pytest.mark.slow
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
                assert (other.draws is None) == (one.draws is None)
                if one.draws is not None and other.draws is not None:
                    for k in (0, 1):
                        np.testing.assert_allclose(
                            # As far as float32 tells.
                            *(other.draws.rows[k], one.draws.rows[k]),
                            rtol=1e-6,
                            atol=1e-6,
                        )
                        np.testing.assert_allclose(
                            other.draws.scales[k], one.draws.scales[k], rtol=1e-9
                        )


@pytest.mark.slow
def test_a_sweep_is_the_same_at_any_placement(spark: SparkSession, frame: DataFrame) -> None:
    """Whole models in tasks, and half-steps over blocks; cold rows by their priors."""
    found, split = [], SplitOptions(test_fraction=0.3)
    for placement in ("grid", "ratings"):
        more = {"placement": placement, "split": split, "cold_start": "initial"}
        with prepared_as(spark, frame, "auto", 3, method="sample", **more) as prepared:
            assert isinstance(prepared.backend, LocalBackend) == (placement == "grid")
            told: list[IterationRecord] = []
            collector = SweepCollector("test")
            grid = PosteriorGrid(prepared, [METHODS[1], replace(METHODS[1], rank=1)], collector)
            grid.train(told.append)
            outcome = collector.outcome()
            assert outcome is not None
            assert sorted((one.point, one.iteration) for one in told) == [
                (point, iteration) for point in (0, 1) for iteration in (1, 2, 3)
            ]
            found.append([(point.errors, point.learnt) for point in outcome.points])
            for point, trained in enumerate(outcome.points):
                running = [one.rmse for one in told if one.point == point]
                assert np.isnan(running[0])
                assert running[2] == pytest.approx(trained.errors["test"].rmse, rel=1e-6)
    for (errors, learnt), (others, same) in zip(*found, strict=True):
        assert errors["test"].cold == others["test"].cold > 0
        for split_name, own in errors.items():
            assert own.count == others[split_name].count
            assert own.mse == pytest.approx(others[split_name].mse, rel=1e-9)
            assert own.mae == pytest.approx(others[split_name].mae, rel=1e-9)
        assert learnt["noise_deviation"] == pytest.approx(same["noise_deviation"], rel=1e-9)


def test_shuffled_factors_are_refused(spark: SparkSession, frame: DataFrame) -> None:
    with (
        prepared_as(spark, frame, "shuffle", 3) as prepared,
        pytest.raises(ConfigError, match=r'a Bayesian method with `exchange="shuffle"`'),
    ):
        train_posterior(prepared.backend, prepared.stats["user"], METHODS[0])
