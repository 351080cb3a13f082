"""Rows that a model knows by their features alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from als_spark.errors import ConfigError, DataError
from als_spark.model.baselines import popular_model
from als_spark.model.export import serving_vectors
from als_spark.model.factor_model import FactorModel
from als_spark.model.featured import with_featured
from als_spark.model.files import DESCRIPTION_FILE, load_large, load_model, save_model
from als_spark.model.foldin import extend_model, fold_in
from als_spark.model.ids import IdIndex
from als_spark.model.intervals import IntervalModel, load_intervals, save_intervals
from als_spark.model.recommend import popular_items, recommend, similar_items
from als_spark.model.risk import Risk
from als_spark.train.backend import Factors
from als_spark.train.bayes.spread import Moments
from als_spark.train.metrics import SideStats

USERS = np.array([[1.0, 2.0], [-0.5, 0.0], [9.0, 9.0]])
ITEMS = np.array([[3.0, 1.0], [2.0, -1.0], [77.0, 77.0], [0.5, 0.5], [4.0, 1.0]])


@pytest.fixture
def model() -> FactorModel:
    """Items "a" and "b" are rated, "c" is not known, "d" and the new "e" are by their features."""
    trained = FactorModel(
        IdIndex(pa.array([10, 20, 30], pa.int64())),
        IdIndex(pa.array(["a", "b", "c", "d"])),
        Factors(USERS, ITEMS),
        SideStats(np.array([2, 1, 0], np.int32), np.array([9.0, 1.0, 0.0])),
        SideStats(np.array([2, 1, 0, 0], np.int32), np.array([7.0, 3.0, 0.0, 0.0])),
        {"lambda_reg": 0.5, "exponent": 1.0},
    )
    there = np.array([True, False, False, True, True])
    return with_featured(trained, {"item": (pa.array(["e"]), there)})


def test_their_factors_predict(model):
    assert model.item_stats.known.tolist() == [True, True, False, True, True]
    assert model.item_stats.n_by_features == 2
    found = model.predict([10, 20, 10, 10], ["d", "e", "c", "nobody"])
    # 10's mean training rating is 4.5.
    np.testing.assert_allclose(found, [1.5, -2.0, 4.5, 4.5])
    assert np.isnan(model.predict([10, 30], ["c", "e"], "nan")).all()
    # A user of whom nothing is known, and an item without a rating: the mean of all.
    assert model.predict([30], ["e"])[0] == pytest.approx(10 / 3)


def test_they_are_recommended_unless_ratings_are_asked_for(model):
    def items(min_ratings):
        table = recommend(model, [10], top=9, min_ratings=min_ratings)
        return [entry["item"] for entry in table.to_pylist()[0]["recommendations"]]

    assert items(1) == ["e", "a", "d", "b"]
    assert items(2) == ["a"]
    rows = popular_items(model, top=9).to_pylist()
    assert [row["item"] for row in rows] == ["a", "b", "d", "e"]
    # No mean of their own.
    assert [row["score"] for row in rows] == pytest.approx([3.5, 3.0, 10 / 3, 10 / 3])
    assert popular_model(model).factors.items[:, 0].tolist() == [0, -1, 0, -2, -3]
    assert "e" in similar_items(model, ["e"], top=2).column(0).to_pylist()
    assert serving_vectors(model, "item", "inner-product").ids.to_pylist() == ["a", "b", "d", "e"]
    of_items = recommend(model, ["c", "e"], top=1, side="item").to_pylist()
    assert [row["item"] for row in of_items] == ["e"]


def test_files_keep_them(model, tmp_path):
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.items.ids.to_pylist() == ["a", "b", "d", "e", "c"]
    assert loaded.item_stats.by_features.tolist() == [False, False, True, True, False]
    assert loaded.user_stats.by_features is None
    pairs = [10, 20, 20, 10], ["d", "e", "b", "c"]
    np.testing.assert_allclose(loaded.predict(*pairs), model.predict(*pairs))
    description = json.loads((tmp_path / DESCRIPTION_FILE).read_text())
    assert (description["n_items"], description["n_featured_items"]) == (4, 2)
    far = load_large(tmp_path, {"item": "elsewhere"})
    assert far.item_stats.known.tolist() == loaded.item_stats.known.tolist()
    (tmp_path / DESCRIPTION_FILE).write_text(json.dumps({**description, "n_featured_items": 1}))
    with pytest.raises(DataError, match=r"holds 2 items without ratings, model.json speaks of 1"):
        load_model(tmp_path)
    # A model that is saved again without them says nothing of them.
    plain = replace(loaded, item_stats=replace(loaded.item_stats, by_features=None))
    save_model(plain, tmp_path / "plain")
    assert load_model(tmp_path / "plain").item_stats.n_by_features == 0


def test_new_users_may_have_rated_them(model):
    folded = fold_in(model, "user", [40, 40, 40], ["a", "e", "c"], [4.0, 2.0, 1.0])
    assert folded.n_unknown == 1
    rows = ITEMS[[0, 4]]
    by_hand = np.linalg.solve(rows.T @ rows + 0.5 * 2 * np.eye(2), rows.T @ [4.0, 2.0])
    np.testing.assert_allclose(folded.factors[0], by_hand)
    rated = extend_model(model, fold_in(model, "item", ["e", "e"], [10, 20], [4.0, 2.0]))
    assert rated.item_stats.by_features.tolist() == [False, False, False, True, False]
    assert rated.item_stats.degrees.tolist() == [2, 1, 0, 0, 2]


def test_intervals_are_found_by_id_however_rows_lie(model, tmp_path):
    """A saved model has the rows without ratings last."""
    rng = np.random.default_rng(0)
    sizes = (3, 5)
    moments = Moments(
        *(3.0, 2.0),
        (rng.normal(size=(3, 2)), rng.normal(size=(5, 2))),
        tuple(np.tile([1.0, 0.1, 1.0], (n, 1)) for n in sizes),
        tuple(rng.random(n) + 0.5 for n in sizes),
    )
    save_model(model, tmp_path)
    save_intervals(IntervalModel(model.users, model.items, moments), tmp_path)
    loaded, intervals = load_model(tmp_path), load_intervals(tmp_path)
    assert not loaded.items.ids.equals(intervals.items.ids)
    table = recommend(loaded, [10], top=9, risk=Risk("averse", intervals, 0.8))
    found = table.to_pylist()[0]["recommendations"]
    assert {entry["item"] for entry in found} == {"a", "b", "d", "e"}
    for entry in found:
        lower = intervals.predict([10], [entry["item"]], 0.8).lower[0]
        assert entry["score"] == pytest.approx(lower)
    other = IntervalModel(model.users, IdIndex(pa.array(list("abcdx"))), moments)
    with pytest.raises(ConfigError, match="have not the same items"):
        recommend(loaded, [10], risk=Risk("averse", other))
