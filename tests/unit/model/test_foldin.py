"""Folding in, against the half-step that it stands for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from als_spark.errors import ConfigError, DataError, SolveError
from als_spark.model.factor_model import FactorModel
from als_spark.model.foldin import extend_model, fold_in
from als_spark.model.ids import IdIndex
from als_spark.solve.objective import Objective
from als_spark.train.backend import Factors, HalfStep
from als_spark.train.metrics import SideStats
from tests.conftest import Triples, local_backend, random_triples
from tests.reference import implicit_rows, least_squares_row

RANK = 6


def make_model(
    t: Triples, *, dtype=np.float64, exponent: float = 1.0, reg: float = 0.4
) -> FactorModel:
    """A model with random factors and the true statistics: user u is 100 + u, item i is "i<i>"."""
    rng = np.random.default_rng(1)
    backend = local_backend(t)
    sums = [
        np.bincount(t.users, t.ratings, t.n_users),
        np.bincount(t.items, t.ratings, t.n_items),
    ]
    return FactorModel(
        IdIndex(pa.array(np.arange(t.n_users) + 100)),
        IdIndex(pa.array([f"i{k}" for k in range(t.n_items)])),
        Factors(*(rng.normal(size=(n, RANK)).astype(dtype) for n in (t.n_users, t.n_items))),
        SideStats(backend.degrees("user"), sums[0]),
        SideStats(backend.degrees("item"), sums[1]),
        {"lambda_reg": reg, "exponent": exponent},
    )


def test_implicit_feedback_is_folded_in_over_trained_rows_only():
    t = random_triples()
    # Three more items than anybody has rated: they keep a start, which must count nowhere.
    model = make_model(t._replace(n_items=t.n_items + 3))
    members = {"implicit": True, "alpha": 4.0}
    model = dataclasses.replace(model, description={**model.description, **members})
    ratings = t.ratings - 2
    ratings[t.users == t.users[0]] = -1.0
    folded = fold_in(model, "user", t.users + 100, [f"i{k}" for k in t.items], ratings)
    wanted = implicit_rows(
        t.users, t.items, ratings, model.factors.items, model.factors.users, 0.4, 1.0, 4.0
    )
    at = model.users.rows_of(folded.ids.ids)
    np.testing.assert_allclose(folded.factors, wanted[at], rtol=0, atol=1e-10)
    assert (folded.factors[at == t.users[0]] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 0.5])
class TestIsAHalfStep:
    def test_of_the_users(self, exponent, dtype):
        self.check("user", exponent, dtype)

    def test_of_the_items(self, exponent, dtype):
        self.check("item", exponent, dtype)

    def check(self, side, exponent, dtype) -> None:
        t = random_triples()
        model = make_model(t, exponent=exponent, dtype=dtype)
        fixed = model.factors.items if side == "user" else model.factors.users
        current = model.side(side).factors
        (solved,) = local_backend(t, dtype=dtype).solve(
            side, [HalfStep(fixed, current, Objective(0.4, exponent))], ""
        )
        ids = {"user": t.users + 100, "item": [f"i{k}" for k in t.items]}
        rows, columns = (ids["user"], ids["item"])[:: 1 if side == "user" else -1]
        folded = fold_in(model, side, rows, columns, t.ratings)
        at = model.side(side).ids.rows_of(folded.ids.ids)
        assert folded.factors.dtype == dtype
        tolerance = 1e-9 if dtype == np.float64 else 1e-3
        expected = solved.factors[at]
        np.testing.assert_allclose(folded.factors, expected, tolerance, 1e-5 * tolerance)
        stats = model.side(side).stats
        assert set(at) == set(np.flatnonzero(stats.degrees))
        np.testing.assert_array_equal(folded.stats.degrees, stats.degrees[at])
        np.testing.assert_allclose(folded.stats.sums, stats.sums[at], rtol=1e-14)
        assert (folded.side, folded.n_unknown) == (side, 0)


@pytest.fixture
def model(triples) -> FactorModel:
    return make_model(triples)


def rated(model: FactorModel, n: int) -> list[str]:
    """Some items with training ratings."""
    return [f"i{k}" for k in np.flatnonzero(model.item_stats.degrees)[:n]]


def test_new_rows_against_least_squares(model):
    items = rated(model, 5)
    folded = fold_in(model, "user", [7, 3, 7, 7], [items[k] for k in (0, 1, 2, 3)], [5, 3, 1, 2.5])
    assert folded.ids.ids.to_pylist() == [3, 7]
    rows = model.items.rows_of(items)
    for k, (chosen, ratings) in enumerate([([1], [3.0]), ([0, 2, 3], [5.0, 1.0, 2.5])]):
        known = model.factors.items[rows[chosen]]
        expected = least_squares_row(known, np.array(ratings), 0.4 * len(chosen))
        np.testing.assert_allclose(folded.factors[k], expected, rtol=1e-9)


def test_what_the_other_side_does_not_know_is_left_out_and_counted(model):
    # Item rows without a training rating hold a random start only.
    stats = dataclasses.replace(model.item_stats, degrees=model.item_stats.degrees.copy())
    stats.degrees[4] = 0
    model = dataclasses.replace(model, item_stats=stats)
    item = rated(model, 1)[0]
    folded = fold_in(model, "user", [1, 1, 1, 2], [item, "i4", "new", "new"], [3.0, 1, 1, 1])
    alone = fold_in(model, "user", [1], [item], [3.0])
    assert folded.n_unknown == 3
    assert folded.ids.ids.to_pylist() == [1]
    np.testing.assert_array_equal(folded.factors, alone.factors)
    assert folded.stats.degrees.tolist() == [1]


def test_nothing_to_fold_in(model):
    folded = fold_in(model, "user", [], [], [])
    assert folded.factors.shape == (0, RANK)
    assert len(extend_model(model, folded).users) == len(model.users)


class TestExtendedModel:
    @pytest.mark.parametrize("side", ["user", "item"])
    def test_new_rows_are_appended_and_known_ones_replaced(self, model, side):
        known = model.side(side).ids.ids[3].as_py()
        new = 5000 if side == "user" else "new"
        other_side = "item" if side == "user" else "user"
        others = model.side(other_side)
        other = others.ids.ids.filter(pa.array(others.stats.degrees > 0))[:2].to_pylist()
        columns = [other[0], other[1], other[1]]
        folded = fold_in(model, side, [new, known, new], columns, [5.0, 2, 1])
        extended = extend_model(model, folded)
        before, after = model.side(side), extended.side(side)
        n = len(before.ids)
        assert after.ids.ids.to_pylist() == [*before.ids.ids.to_pylist(), new]
        rows = folded.ids.rows_of([known, new])
        np.testing.assert_array_equal(after.factors[[3, n]], folded.factors[rows])
        assert after.stats.degrees[[3, n]].tolist() == [1, 2]
        assert after.stats.sums[[3, n]].tolist() == [2.0, 6.0]
        rest = np.delete(np.arange(n), 3)
        np.testing.assert_array_equal(after.factors[rest], before.factors[rest])
        np.testing.assert_array_equal(after.stats.degrees[rest], before.stats.degrees[rest])
        for kept, own in zip(extended.side(other_side), others, strict=True):
            assert kept is own
        pair = ([new], [other[0]]) if side == "user" else ([other[0]], [new])
        row = others.ids.rows_of([other[0]])[0]
        expected = folded.factors[rows[1]] @ others.factors[row]
        assert extended.predict(*pair)[0] == pytest.approx(expected, rel=1e-12)

    def test_the_model_stays_as_it_was(self, model):
        for array in (*model.factors, model.user_stats.degrees, model.user_stats.sums):
            array.flags.writeable = False
        extend_model(model, fold_in(model, "user", [100, 1], rated(model, 2), [1.0, 2.0]))


class TestErrors:
    def test_lists_of_different_lengths(self, model):
        with pytest.raises(ConfigError, match="1 user ids, 2 ids of what they rated and 3 ratings"):
            fold_in(model, "user", [1], ["i1", "i2"], [1.0, 2.0, 3.0])

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_rating_that_is_not_finite(self, model, value):
        with pytest.raises(DataError, match="a rating to fold in is not finite: leave it out"):
            fold_in(model, "user", [1], ["i1"], [value])

    def test_a_pair_that_comes_twice(self, model):
        item = rated(model, 1)[0]
        with pytest.raises(DataError, match="user 8 has rated the same twice: give one rating"):
            fold_in(model, "user", [3, 8, 8], [item] * 3, [1.0, 2.0, 2.0])

    @pytest.mark.parametrize("key", ["lambda_reg", "exponent"])
    def test_a_model_without_its_ridge(self, model, key):
        model.description.pop(key)
        with pytest.raises(ConfigError, match=f"the model's description has no {key}: give"):
            fold_in(model, "user", [1], ["i1"], [1.0])

    def test_ids_of_another_kind(self, model):
        with pytest.raises(DataError, match="user id 'anna': the ids of this model are integers"):
            fold_in(model, "user", ["anna"], ["i1"], [1.0])

    def test_a_system_without_a_solution(self, triples):
        model = make_model(triples, reg=0.0)
        with pytest.raises(SolveError, match="the ridge system of user 77 has no finite solution"):
            fold_in(model, "user", [77], rated(model, 1), [1.0])
