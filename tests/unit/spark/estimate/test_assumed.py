"""What is assumed of ratings, against ratings that are drawn so."""

from __future__ import annotations

import numpy as np
import pytest

from als_spark.spark.estimate.assumed import SPREAD, degrees_of, distinct, row_work, side_work


@pytest.mark.parametrize("n_draws", [300, 20_000, 1_000_000])
def test_distinct_rows_are_those_of_a_draw(n_draws):
    rng = np.random.default_rng(0)
    n_rows = 5000
    chances = rng.lognormal(0.0, SPREAD, n_rows)
    drawn = rng.choice(n_rows, n_draws, p=chances / chances.sum())
    assert distinct(n_rows, n_draws) == pytest.approx(np.unique(drawn).size, rel=0.03)


def test_distinct_rows_at_the_ends():
    assert distinct(0, 100) == 0
    assert distinct(100, 0) == 0
    assert distinct(100, 1e9) == pytest.approx(100)
    # Of a few draws nearly all are different.
    assert distinct(10**8, 1000) == pytest.approx(1000, rel=0.01)


def test_rows_have_the_ratings_that_there_are():
    degrees = degrees_of(1000, 50_000)
    assert degrees.mean() == pytest.approx(50)
    logs = np.log(degrees)
    assert logs.std() == pytest.approx(SPREAD, rel=0.05)
    assert degrees_of(0, 0).tolist() == [0] * degrees.size


def test_short_rows_cost_less():
    full = row_work(np.array([100, 100]), 10)
    assert full == (200, 2)
    # By as many equations as ratings.
    assert row_work(np.array([5]), 10) == (2.5, 0.5)
    assert row_work(np.array([0]), 10) == (0, 0)


@pytest.mark.parametrize("rank", [1, 20, 200])
def test_the_work_of_a_side_is_that_of_its_rows(rank):
    n_rows, mean = 20_000, 40
    logs = np.random.default_rng(1).normal(0.0, SPREAD, n_rows)
    degrees = np.exp(logs) * mean / np.exp(logs).mean()
    found, exact = side_work(n_rows, n_rows * mean, rank), row_work(degrees, rank)
    assert found == pytest.approx(exact, rel=0.05)
