"""Recommendations by original ids, against lists made by hand and by sorting everything."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from als_spark.errors import ConfigError, DataError
from als_spark.model.factor_model import FactorModel
from als_spark.model.foldin import FoldedRows, extend_model, fold_in
from als_spark.model.ids import IdIndex
from als_spark.model.recommend import (
    plan_recommendations,
    plan_similar_items,
    popular_items,
    recommend,
    similar_items,
)
from als_spark.train.backend import Factors
from als_spark.train.metrics import SideStats
from tests.conftest import random_model
from tests.reference import expected_lists, expected_similar


@pytest.fixture
def model() -> FactorModel:
    """Users 10, 20, 30 and items "a" to "e"; user 30 and item "c" without a training rating."""
    return FactorModel(
        IdIndex(pa.array([10, 20, 30], pa.int64())),
        IdIndex(pa.array(["d", "a", "b", "c", "e"])),
        Factors(
            np.array([[1.0, 2.0], [-0.5, 0.0], [9.0, 9.0]]),
            np.array([[3.0, 1.0], [2.0, -1.0], [0.5, 0.25], [77.0, 77.0], [-3.0, 1.0]]),
        ),
        SideStats(np.array([2, 1, 0], np.int32), np.array([9.0, 1.0, 0.0])),
        SideStats(np.array([2, 3, 2, 0, 1], np.int32), np.array([7.0, 6.0, 3.0, 0.0, 5.0])),
        {"lambda_reg": 0.5, "exponent": 1.0},
    )


def lists(table: pa.Table) -> dict[object, tuple[list[tuple[object, float]], str]]:
    """The answer of each id: (id, score) pairs, and the source."""
    asked = table.column_names[0]
    return {
        row[asked]: ([tuple(entry.values()) for entry in row["recommendations"]], row["source"])
        for row in table.to_pylist()
    }


def test_items_to_users(model):
    table = recommend(model, top=3)
    assert lists(table) == {
        10: ([("d", 5.0), ("b", 1.0), ("a", 0.0)], "model"),
        20: ([("e", 1.5), ("b", -0.25), ("a", -1.0)], "model"),
        30: ([("a", 2.0), ("b", 1.5), ("d", 3.5)], "popular"),
    }
    assert table.schema.types == [
        pa.int64(),
        pa.list_(pa.struct([("item", pa.string()), ("score", pa.float64())])),
        pa.string(),
    ]


def test_users_to_items(model):
    table = recommend(model, ["a", "c", "z", "e"], top=5, side="item")
    # Neither the items without a training rating nor user 30.
    assert lists(table) == {
        "a": ([(10, 0.0), (20, -1.0)], "model"),
        "e": ([(20, 1.5), (10, -1.0)], "model"),
    }
    assert table.column_names == ["item", "recommendations", "source"]


def test_listed_users_come_once_and_unknown_ones_get_the_popular_items(model):
    table = recommend(model, [99, 20, 20, 30, 99], top=1)
    assert lists(table) == {
        20: ([("e", 1.5)], "model"),
        99: ([("a", 2.0)], "popular"),
        30: ([("a", 2.0)], "popular"),
    }
    assert table.num_rows == 3


def test_unknown_users_left_out(model):
    assert lists(recommend(model, [99, 30, 20], top=1, popular=False)) == {
        20: ([("e", 1.5)], "model")
    }


@pytest.mark.parametrize(("side", "ids"), [("user", []), ("item", ["c", "z"])])
def test_nobody_to_answer(model, side, ids):
    table = recommend(model, ids, side=side)
    assert table.num_rows == 0
    assert table.schema == recommend(model, side=side).schema


def test_excluded_pairs(model):
    exclude = ([10, 10, 30, 99, 10, 20, 5], ["d", "d", "a", "a", "z", "c", "a"])
    assert lists(recommend(model, [10, 20, 30, 99], 2, exclude)) == {
        10: ([("b", 1.0), ("a", 0.0)], "model"),
        20: ([("e", 1.5), ("b", -0.25)], "model"),
        30: ([("b", 1.5), ("d", 3.5)], "popular"),
        99: ([("b", 1.5), ("d", 3.5)], "popular"),
    }
    assert lists(recommend(model, ["d"], 2, exclude, side="item")) == {"d": ([(20, -1.5)], "model")}


def test_fewer_than_wanted(model):
    exclude = ([10] * 4, ["a", "b", "d", "e"])
    assert lists(recommend(model, [10, 20], 100, exclude))[10] == ([], "model")
    assert len(lists(recommend(model, [20], 100))[20][0]) == 4


class TestMinRatings:
    """Items "d", "a" and "b" have two training ratings or more, "a" alone has three."""

    def test_rarely_rated_items_are_not_recommended(self, model):
        assert lists(recommend(model, [20, 10, 99], 2, min_ratings=2)) == {
            20: ([("b", -0.25), ("a", -1.0)], "model"),
            10: ([("d", 5.0), ("b", 1.0)], "model"),
            99: ([("a", 2.0), ("b", 1.5)], "popular"),
        }
        excluded = recommend(model, [20, 99], 9, ([20, 99], ["b", "a"]), min_ratings=2)
        assert lists(excluded) == {
            20: ([("a", -1.0), ("d", -1.5)], "model"),
            99: ([("b", 1.5), ("d", 3.5)], "popular"),
        }
        assert plan_recommendations(model, top=9, min_ratings=3).top == 1

    def test_of_items_those_are_users(self, model):
        found = recommend(model, ["a", "e"], side="item", min_ratings=2)
        assert lists(found) == {"a": ([(10, 0.0)], "model"), "e": ([(10, -1.0)], "model")}

    def test_similar_items_to_rarely_rated_ones(self, model):
        every = lists(similar_items(model, ["e", "a", "c"]))
        found = lists(similar_items(model, ["e", "a", "c"], min_ratings=2))
        assert found.keys() == {"e", "a"}
        for item, (pairs, _) in found.items():
            assert pairs == [pair for pair in every[item][0] if pair[0] in ("a", "b", "d")]
        assert len(found["e"][0]) == 3

    def test_one_changes_nothing(self, model):
        assert recommend(model, min_ratings=1).equals(recommend(model))
        assert similar_items(model, min_ratings=1).equals(similar_items(model))

    @pytest.mark.parametrize("ask", [recommend, similar_items])
    def test_more_than_any_has_is_refused(self, model, ask):
        message = (
            "`min_ratings=4`: no item of the model has as many training ratings, the most is 3"
        )
        with pytest.raises(ConfigError, match=message):
            ask(model, min_ratings=4)


def test_more_than_there_are_is_all_of_them(model):
    """The places of an answer are those of the candidates, however many are asked for."""
    huge = 100_000_000
    for side in ("user", "item"):
        assert recommend(model, top=huge, side=side).equals(recommend(model, top=99, side=side))
    assert similar_items(model, top=huge).equals(similar_items(model, top=99))
    assert plan_recommendations(model, top=huge).top == 4
    assert plan_similar_items(model, top=huge).top == 4
    assert plan_recommendations(model, top=3).top == 3


def test_folded_users_come_before_the_model(model):
    folded = fold_in(model, "user", [99, 99, 10], ["a", "b", "e"], [5.0, 1.0, 2.0])
    extended = extend_model(model, folded)
    for ids in ([99, 20, 30, 10], None):
        found = lists(recommend(model, ids, 2, folded=folded))
        assert {user: source for user, (_, source) in found.items()} == {
            99: "fold_in",
            20: "model",
            30: "popular",
            10: "fold_in",
        }
        expected = lists(recommend(extended, [99, 20, 30, 10], 2))
        for user in (99, 20, 10):
            assert found[user][0] == expected[user][0]
    # Folded rows that are not asked for are not answered.
    assert lists(recommend(model, [20], 2, folded=folded)).keys() == {20}


class TestPopularItems:
    def test_by_ratings_then_by_id(self, model):
        assert popular_items(model, 3).to_pylist() == [
            {"item": "a", "score": 2.0},
            {"item": "b", "score": 1.5},
            {"item": "d", "score": 3.5},
        ]

    def test_only_items_with_training_ratings(self, model):
        assert popular_items(model, 99).column("item").to_pylist() == ["a", "b", "d", "e"]

    def test_ties_of_integers_are_not_sorted_as_text(self, model):
        ids = IdIndex(pa.array([10, 9, 100], pa.int64()))
        stats = SideStats(np.ones(3, np.int32), np.ones(3))
        factors = model.factors._replace(items=model.factors.items[:3])
        model = FactorModel(model.users, ids, factors, model.user_stats, stats)
        assert popular_items(model).column("item").to_pylist() == [9, 10, 100]


class TestSimilarItems:
    def test_by_hand(self, model):
        found = lists(similar_items(model, ["d", "c", "z"], 2))
        (entries, source) = found.pop("d")
        assert found == {}
        assert source == "model"
        assert [item for item, _ in entries] == ["b", "a"]
        expected = [1.75 / np.sqrt(10 * 0.3125), 5 / np.sqrt(50)]
        assert [score for _, score in entries] == pytest.approx(expected, rel=1e-14)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_against_the_twin(self, dtype):
        model = random_model(dtype=dtype)
        found = lists(similar_items(model, top=7))
        expected = expected_similar(model.items.ids.to_pylist(), model, 7)
        assert found.keys() == expected.keys()
        for item, entries in expected.items():
            assert [other for other, _ in found[item][0]] == [other for other, _ in entries]
            scores = [score for _, score in found[item][0]]
            assert scores == pytest.approx([score for _, score in entries], rel=1e-12, abs=1e-14)

    def test_a_row_of_zeros(self, model):
        model.factors.items[0] = 0.0
        assert [score for _, score in lists(similar_items(model, ["d"]))["d"][0]] == [0.0] * 3


@pytest.mark.parametrize("side", ["user", "item"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_the_twin(side, dtype):
    model = random_model(dtype=dtype)
    rng = np.random.default_rng(5)
    users = rng.choice(model.users.ids.to_numpy(zero_copy_only=False), 300)
    items = rng.choice(model.items.ids.to_numpy(zero_copy_only=False), 300)
    seen = set(zip(users.tolist(), items.tolist(), strict=True))
    found = lists(recommend(model, None, 6, (users, items), side=side, popular=False))
    expected = expected_lists(model, side, 6, seen)
    assert found.keys() == expected.keys()
    for asked, entries in expected.items():
        assert [other for other, _ in found[asked][0]] == [other for other, _ in entries]
        scores = [score for _, score in found[asked][0]]
        assert scores == pytest.approx([score for _, score in entries], rel=1e-12, abs=1e-13)


class TestErrors:
    @pytest.mark.parametrize("function", [recommend, similar_items])
    def test_nothing_wanted(self, model, function):
        with pytest.raises(ConfigError, match="top=0: not usable: ask for at least one recomm"):
            function(model, None, 0)

    def test_no_popular_items_wanted(self, model):
        with pytest.raises(ConfigError, match="top=-1: not usable"):
            popular_items(model, -1)

    def test_exclude_is_no_list_of_pairs(self, model):
        with pytest.raises(ConfigError, match="2 users and 1 items to exclude given: a pair needs"):
            recommend(model, exclude=([1, 2], ["a"]))

    def test_folded_rows_of_the_other_side(self, model):
        folded = FoldedRows("item", model.items, model.factors.items, model.item_stats, n_unknown=0)
        with pytest.raises(ConfigError, match="folded items given to recommend to users: fold in"):
            recommend(model, folded=folded)

    def test_ids_of_another_kind(self, model):
        with pytest.raises(DataError, match="user id 'x': the ids of this model are integers"):
            recommend(model, ["10", "x"])

    @pytest.mark.parametrize("side", ["user", "item"])
    def test_a_missing_id(self, model, side):
        ids = pa.array([None], pa.int64() if side == "user" else pa.string())
        with pytest.raises(DataError, match=rf"a {side} id is missing \(null\): leave it out"):
            recommend(model, ids, side=side)
