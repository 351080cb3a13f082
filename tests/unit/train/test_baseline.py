"""The bias-only baseline against its slow twin."""

from __future__ import annotations

import numpy as np
import pytest

from als_spark.train.baseline import ITEM_DAMPING, USER_DAMPING, bias_factors, fit_biases
from als_spark.train.local import LocalBackend
from als_spark.train.metrics import SideStats
from als_spark.types import SIDES
from tests import reference
from tests.conftest import Triples, local_backend, random_triples

DAMPING = (USER_DAMPING, ITEM_DAMPING)


def stats_of(backend: LocalBackend) -> dict[str, SideStats]:
    counts = {"user": backend.n_users, "item": backend.n_items}
    return {side: SideStats.of(n, [backend.blocks[side]]) for side, n in counts.items()}  # type: ignore[index]


def fitted(backend: LocalBackend) -> np.ndarray:
    factors = fit_biases(backend, stats_of(backend), "")  # type: ignore[arg-type]
    return factors.users @ factors.items.T


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_every_pair_is_predicted_as_by_the_slow_twin(dtype: str, tolerance: float) -> None:
    # Some users and items have no training rating.
    train = random_triples(60, 50, 300)
    assert len(np.unique(train.users)) < 60
    wanted = reference.damped_biases(*train[:3], (60, 50), DAMPING)
    np.testing.assert_allclose(fitted(local_backend(train, dtype=dtype)), wanted, rtol=tolerance)


def test_without_ratings_the_counts_and_sums_do(triples: Triples) -> None:
    stats = stats_of(local_backend(triples))
    mean = stats["user"].mean
    users, items = (bias_factors(stats[side], side, mean) for side in SIDES)
    shape = triples.n_users, triples.n_items
    wanted = reference.damped_biases(*triples[:3], shape, DAMPING, alone=True)
    np.testing.assert_allclose(users @ items.T, wanted, rtol=1e-10)


def test_no_one_and_nothing_known_is_the_mean() -> None:
    train = Triples(np.array([0, 0]), np.array([0, 1]), np.array([1.0, 4.0]), 2, 3)
    assert fitted(local_backend(train))[1, 2] == pytest.approx(2.5)


def test_its_errors_are_measured_on_the_same_held_out_ratings(triples: Triples) -> None:
    test = random_triples(n_ratings=90, seed=5)
    backend = local_backend(triples, test)
    biases = fit_biases(backend, stats_of(backend), "")  # type: ignore[arg-type]
    (sums,) = backend.errors([biases], "")
    known = np.isin(test.users, triples.users) & np.isin(test.items, triples.items)
    predicted = reference.damped_biases(*triples[:3], (40, 30), DAMPING)[test.users, test.items]
    errors = (test.ratings - predicted)[known]
    cold = backend.evaluation[0].constant
    assert sums["test"].squared == pytest.approx(float(errors @ errors) + cold.squared, rel=1e-9)
    assert (sums["test"].count, sums["test"].cold) == (90, int((~known).sum()))
