"""A trained model's predictions."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from als_spark.errors import ConfigError
from als_spark.model.factor_model import FactorModel
from als_spark.model.ids import IdIndex
from als_spark.train.backend import Factors
from als_spark.train.metrics import SideStats


@pytest.fixture
def model() -> FactorModel:
    """Users 10, 20, 30 and items "a", "b", "c"; user 30 and item "c" without a training rating."""
    return FactorModel(
        IdIndex(pa.array([10, 20, 30], pa.int64())),
        IdIndex(pa.array(["a", "b", "c"])),
        Factors(
            np.array([[1.0, 2.0], [0.5, 0.0], [9.0, 9.0]], np.float32),
            np.array([[3.0, 1.0], [2.0, -1.0], [7.0, 7.0]], np.float32),
        ),
        SideStats(np.array([2, 1, 0], np.int32), np.array([9.0, 1.0, 0.0])),
        SideStats(np.array([2, 1, 0], np.int32), np.array([7.0, 3.0, 0.0])),
        {"lambda_reg": 0.5},
    )


def test_known_pairs_are_products_of_factors(model):
    predicted = model.predict([10, 10, 20, 20], ["a", "b", "a", "b"])
    assert predicted.tolist() == [5.0, 0.0, 1.5, 1.0]
    assert predicted.dtype == np.float64


@pytest.mark.parametrize("user", [30, 99], ids=["unrated", "unknown"])
@pytest.mark.parametrize("item", ["c", "z"], ids=["unrated", "unknown"])
class TestColdStart:
    def test_item(self, model, user, item):
        assert model.predict([10, 20], [item, item]).tolist() == [4.5, 1.0]

    def test_user(self, model, user, item):
        assert model.predict([user, user], ["a", "b"]).tolist() == [3.5, 3.0]

    def test_both(self, model, user, item):
        # The mean of all three training ratings.
        assert model.predict([user], [item])[0] == pytest.approx(10 / 3, rel=1e-15)

    def test_nan(self, model, user, item):
        predicted = model.predict([10, 10, user, user], ["a", item, "b", item], cold_start="nan")
        assert predicted[0] == 5.0
        assert all(math.isnan(value) for value in predicted[1:])


def test_ids_of_other_forms(model):
    users = pa.array(["20", "10"])
    assert model.predict(users, np.array(["b", "a"])).tolist() == [1.0, 5.0]


def test_no_pairs(model):
    assert model.predict([], []).size == 0


def test_lists_of_different_lengths(model):
    with pytest.raises(ConfigError, match="2 users and 1 items given: a prediction needs one"):
        model.predict([10, 20], ["a"])


def test_rank_and_description(model):
    assert model.rank == 2
    assert model.description == {"lambda_reg": 0.5}


def test_factors_are_not_modified(model):
    for side in model.factors:
        side.flags.writeable = False
    model.predict([10, 99], ["a", "z"])


def test_sides(model):
    assert model.side("user") == (model.users, model.factors.users, model.user_stats)
    assert model.side("item") == (model.items, model.factors.items, model.item_stats)
