"""The objective: its weights, its penalty, its words, and what files keep of it."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from als_spark.errors import ConfigError
from als_spark.solve.objective import Objective
from tests import reference


class TestMembers:
    def test_the_plain_ridge_is_the_default(self):
        assert Objective(2.0) == Objective(reg=2.0, exponent=0.0)

    @pytest.mark.parametrize("name", ["reg", "exponent"])
    @pytest.mark.parametrize("value", [-0.5, np.nan, np.inf])
    def test_unusable(self, name, value):
        members = {"reg": 1.0, name: value}
        with pytest.raises(ConfigError, match=f"^{name} {value}: use a finite number of at least"):
            Objective(**members)

    @pytest.mark.parametrize("value", [-0.5, np.nan, np.inf])
    def test_unusable_alpha(self, value):
        with pytest.raises(ConfigError, match=f"^alpha {value}: use a finite number of at least"):
            Objective(1.0, implicit=True, alpha=value)

    @pytest.mark.parametrize("name", ["implicit", "nonnegative"])
    def test_switches(self, name):
        with pytest.raises(ConfigError, match=f"^{name} 1: use True or False"):
            Objective(1.0, **{name: 1})

    def test_an_alpha_without_effect(self):
        with pytest.raises(ConfigError, match=r"^alpha 2 has no effect"):
            Objective(1.0, alpha=2.0)
        assert Objective(1.0, implicit=True, alpha=0.0).alpha == 0

    @pytest.mark.parametrize(
        ("members", "note"),
        [
            ({}, "ridge λ·n^0.5·|x|² for a row of n ratings"),
            (
                {"implicit": True, "alpha": 40.0},
                "ridge λ·n^0.5·|x|² for a row of n ratings above 0, implicit feedback with α = 40",
            ),
            (
                {"nonnegative": True},
                "ridge λ·n^0.5·|x|² for a row of n ratings, factors of at least 0",
            ),
        ],
    )
    def test_note(self, members, note):
        assert Objective(0.3, 0.5, **members).note == note

    def test_feasible(self):
        factors = np.array([[-1.0, 2.0]])
        assert Objective(1.0).feasible(factors) is factors
        assert Objective(1.0, nonnegative=True).feasible(factors).tolist() == [[0.0, 2.0]]

    def test_masses(self):
        degrees = np.array([3, 0, 1])
        assert Objective(1.0).masses(degrees, 3).tolist() == [3, 0, 1]
        implicit = Objective(1.0, implicit=True, alpha=2.0)
        assert implicit.masses(degrees, 3).tolist() == [9, 0, 5]

    def test_travels_to_executors(self):
        objective = Objective(0.3, exponent=0.5)
        data = pickle.dumps(objective)
        assert pickle.loads(data) == objective
        assert len(data) < 150


class TestPenalty:
    def test_weights_by_hand(self):
        degrees = np.array([0, 1, 4, 9], np.int32)
        assert Objective(0.5, exponent=0.5).weights(degrees).tolist() == [0, 0.5, 1.0, 1.5]
        # A row without a rating is in no sum, where n⁰ = 1 too.
        assert Objective(0.5).weights(degrees).tolist() == [0, 0.5, 0.5, 0.5]

    @pytest.mark.parametrize("nu", [0.0, 0.5, 1.0])
    def test_twin(self, triples, nu):
        # The last two rows have no rating; they must not count, at ν = 0 either.
        factors = np.random.default_rng(0).random((triples.n_users + 2, 3))
        degrees = np.bincount(triples.users, minlength=triples.n_users + 2)
        expected = reference.ridge(triples.users, factors, 0.7, nu)
        assert Objective(0.7, nu).penalty(factors, degrees) == pytest.approx(expected, rel=1e-12)


class TestRecord:
    def test_keys_of_the_files(self):
        assert Objective(0.1, 1.0).as_record() == {"lambda_reg": 0.1, "exponent": 1.0}
        more = {"implicit": True, "alpha": 1.0, "nonnegative": True}
        assert Objective(0.1, 1.0, **more).as_record() == {
            "lambda_reg": 0.1, "exponent": 1.0, **more
        }  # fmt: skip

    @pytest.mark.parametrize("more", [(), (True, 3.0), (False, 1.0, True), (True, 1.0, True)])
    def test_round_trip(self, more):
        objective = Objective(0.1, 0.3, *more)
        record = json.loads(json.dumps({"rank": 3, **objective.as_record()}))
        assert Objective.from_record(record, "the record") == objective

    def test_whole_numbers(self):
        found = Objective.from_record({"lambda_reg": 2, "exponent": 1}, "the record")
        assert found == Objective(2.0, 1.0)
        assert type(found.reg) is float

    @pytest.mark.parametrize("key", ["lambda_reg", "exponent"])
    @pytest.mark.parametrize("value", [None, "1", True])
    def test_no_number(self, key, value):
        record = {**Objective(0.1, 1.0).as_record(), key: value}
        with pytest.raises(ConfigError, match=f"^model.json has no {key}: give the numbers"):
            Objective.from_record(record, "model.json")

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ({"implicit": 1}, "model.json: implicit 1: use True or False"),
            ({"nonnegative": "yes"}, "model.json: nonnegative 'yes': use True or False"),
            ({"implicit": True, "alpha": -1}, "model.json: alpha -1.0: use a finite number"),
            ({"implicit": True, "alpha": None}, "model.json has no alpha: give the numbers"),
            ({"alpha": 3.0}, "model.json: alpha 3 has no effect on explicit ratings"),
        ],
    )
    def test_unusable_further_keys(self, more, message):
        record = {**Objective(0.1, 1.0).as_record(), **more}
        with pytest.raises(ConfigError, match=f"^{message}"):
            Objective.from_record(record, "model.json")

    def test_unusable_number(self):
        with pytest.raises(ConfigError, match=r"^model\.json: reg -1\.0: use a finite number"):
            Objective.from_record({"lambda_reg": -1, "exponent": 0}, "model.json")


class TestSizes:
    @pytest.mark.parametrize(
        ("objective", "most", "largest", "message"),
        [
            (
                Objective(1e308, 4.0),
                8,
                5.0,
                r"lambda 1e\+308 with exponent 4: .* a row of 8 ratings",
            ),
            (
                Objective(1e140, 4.0),
                1000,
                5.0,
                r"lambda 1e\+140 .* a row of 1,000 ratings is beyond",
            ),
            (Objective(1e-3, 1e5), 2, 5.0, r"lambda 0\.001 with exponent 100000: "),
            (
                Objective(1.0, bias_reg=1e151),
                2,
                5.0,
                r"lambda of the biases 1e\+151 with exponent 0",
            ),
            (
                Objective(1.0, implicit=True, alpha=1e140),
                2,
                1e18,
                r"alpha 1e\+140 with ratings as large as 1e\+18: .*: use a smaller alpha$",
            ),
        ],
    )
    def test_numbers_that_would_overflow(self, objective, most, largest, message):
        with pytest.raises(ConfigError, match=f"^{message}"):
            objective.check_size(most, largest)

    @pytest.mark.parametrize(
        "objective",
        [Objective(0.0, 4.0), Objective(1e100, 4.0), Objective(1.0, implicit=True, alpha=1e100)],
    )
    def test_all_that_jobs_take(self, objective):
        objective.check_size(2**31 - 1, 1e18)
        weights = objective.weights(np.array([2**31 - 1]))
        assert np.isfinite(weights * weights).all()
