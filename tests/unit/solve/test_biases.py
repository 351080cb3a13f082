"""Biases in the ridge solves: against a twin that solves for them row by row."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from als_spark.errors import ConfigError
from als_spark.solve.blocks import build_block
from als_spark.solve.objective import Objective
from als_spark.solve.solver import add_sums
from als_spark.train.grid import SweepCollector, run_grid
from als_spark.train.loop import train_models
from als_spark.train.records import ModelSpec, TrainingOptions
from als_spark.train.start import initial_factors
from als_spark.train.state import from_parts, start_states
from als_spark.types import SIDES
from tests import reference
from tests.conftest import local_backend, random_triples

FLOAT64 = TrainingOptions(dtype="float64", tol=0.0, max_iter=6)
GRID = [(0.0, 3, 2.0, 2.0), (1.0, 5, 0.3, 0.1), (0.5, 1, 0.2, 4.0)]
"""ν, rank, λ and λ_b."""


def biased(triples, reg: float, bias_reg: float, nu: float) -> Objective:
    return Objective(reg, nu, bias_reg=bias_reg, mean=float(triples.ratings.mean()))


def trained(triples, rank: int, objective: Objective, options=FLOAT64):
    (state,) = train_models(local_backend(triples), [ModelSpec(0, rank, objective)], options)
    return state


class TestAgainstTheTwin:
    @pytest.mark.parametrize(("nu", "rank", "reg", "bias_reg"), GRID)
    def test_whole_training(self, triples, nu, rank, reg, bias_reg):
        state = trained(triples, rank, biased(triples, reg, bias_reg, nu))
        start = initial_factors(triples.n_users, triples.n_items, rank, FLOAT64.seed)
        twin = reference.biased_als(
            *triples[:3], start, reg, bias_reg, nu=nu, n_iterations=FLOAT64.max_iter
        )
        scale = np.sqrt(reg / bias_reg)
        for own, factors, biases in zip(state.factors, twin[:2], twin[2:], strict=True):
            np.testing.assert_allclose(own[:, :-1], factors, rtol=0, atol=1e-8)
            np.testing.assert_allclose(scale * own[:, -1], biases, rtol=0, atol=1e-8)
        expected = reference.biased_objective(*triples[:3], twin, reg, bias_reg, nu)
        assert state.objective == pytest.approx(expected, rel=1e-10)
        assert state.spec.rank == rank

    @pytest.mark.parametrize(("nu", "rank", "reg", "bias_reg"), GRID)
    def test_plain_factors_predict(self, triples, nu, rank, reg, bias_reg):
        state = trained(triples, rank, biased(triples, reg, bias_reg, nu))
        start = initial_factors(triples.n_users, triples.n_items, rank, FLOAT64.seed)
        twin = reference.biased_als(
            *triples[:3], start, reg, bias_reg, nu=nu, n_iterations=FLOAT64.max_iter
        )
        expected = triples.ratings.mean() + twin.users @ twin.items.T
        expected += twin.user_biases[:, None] + twin.item_biases
        plain = state.plain_factors
        assert plain.users.shape == (triples.n_users, rank + 2)
        np.testing.assert_allclose(plain.users @ plain.items.T, expected, rtol=0, atol=1e-8)

    def test_the_objective_never_rises(self, triples):
        objective = biased(triples, 0.1, 0.02, 1.0)
        history = trained(triples, 4, objective, replace(FLOAT64, max_iter=40)).history
        for before, after in itertools.pairwise(record.objective for record in history):
            assert after <= before * (1 + 1e-10)

    def test_shared_rows(self, triples):
        """Rows whose ratings lie in two blocks have the solutions of rows in one."""
        users, items, ratings, n_users, n_items = triples
        objective = biased(triples, 0.5, 0.3, 1.0)
        fixed = np.random.default_rng(3).normal(size=(n_items, 4))
        solver = objective.row_solver(fixed)
        sizes = {"n_rows": n_users, "n_columns": n_items}
        whole = build_block(users, items, ratings, **sizes)
        expected, loss = solver.solve(whole, side="user")
        parts = []
        for half in (items % 2 == 0, items % 2 == 1):
            block = build_block(users[half], items[half], ratings[half], **sizes)
            parts.append((block.rows, solver.accumulate(block)))
        rows, sums = add_sums(parts)
        degrees = np.bincount(users, minlength=n_users)[rows]
        found, found_loss = solver.solve_sums(sums, rows, degrees, side="user")
        np.testing.assert_allclose(found, expected[np.argsort(whole.rows)], rtol=1e-9, atol=1e-12)
        assert found_loss == pytest.approx(loss, rel=1e-10)

    def test_ratings_of_a_block_stay(self, triples):
        block = local_backend(triples).blocks["user"]
        before = block.ratings.copy()
        fixed = np.ones((triples.n_items, 3))
        biased(triples, 1.0, 1.0, 0.0).row_solver(fixed).solve(block, side="user")
        np.testing.assert_array_equal(block.ratings, before)

    def test_float32(self, triples):
        objective = biased(triples, 0.1, 0.1, 1.0)
        exact = trained(triples, 4, objective)
        single = trained(triples, 4, objective, replace(FLOAT64, dtype="float32"))
        assert single.plain_factors.users.dtype == np.float32
        assert single.objective == pytest.approx(exact.objective, rel=1e-4)


class TestModels:
    def test_large_ridges_leave_the_mean(self, triples):
        state = trained(triples, 2, biased(triples, 1e9, 1e9, 0.0))
        plain = state.plain_factors
        mean = triples.ratings.mean()
        np.testing.assert_allclose(plain.users @ plain.items.T, mean, rtol=0, atol=1e-5)

    def test_additive_ratings_need_no_factors(self):
        """Ratings that are a sum of two effects are learnt by the biases alone."""
        rng = np.random.default_rng(1)
        triples = random_triples()
        effects = rng.normal(size=triples.n_users)[triples.users]
        effects += rng.normal(size=triples.n_items)[triples.items]
        triples = triples._replace(ratings=3 + effects)
        objective = biased(triples, 100.0, 1e-6, 0.0)
        state = trained(triples, 2, objective, replace(FLOAT64, max_iter=300))
        users, items = state.plain_factors
        predicted = np.einsum("nd,nd->n", users[triples.users], items[triples.items])
        assert np.abs(predicted - triples.ratings).max() < 1e-2
        without = trained(triples, 2, Objective(100.0), replace(FLOAT64, max_iter=300))
        assert without.objective > 100 * state.objective

    def test_acceleration(self, triples):
        objective = biased(triples, 0.05, 0.01, 1.0)
        plain = trained(triples, 4, objective, replace(FLOAT64, max_iter=300))
        fast = trained(triples, 4, objective, replace(FLOAT64, max_iter=75, accelerate=True))
        assert fast.objective <= plain.objective * (1 + 1e-3)
        for before, after in itertools.pairwise(record.objective for record in fast.history):
            assert after <= before * (1 + 1e-10)

    def test_errors_of_a_grid_are_those_of_the_predictions(self, triples):
        collector = SweepCollector("train")
        specs = [
            ModelSpec(0, 3, biased(triples, 0.1, 0.1, 1.0)),
            ModelSpec(1, 3, Objective(0.1, 1.0)),
        ]
        run_grid(local_backend(triples), specs, FLOAT64, collector)
        outcome = collector.outcome()
        assert outcome is not None
        for point, spec in zip(outcome.points, specs, strict=True):
            (state,) = train_models(local_backend(triples), [spec], FLOAT64)
            mse, mae = reference.errors(*triples[:3], *state.plain_factors)
            assert point.errors["train"].mse == pytest.approx(mse, rel=1e-9)
            assert point.errors["train"].mae == pytest.approx(mae, rel=1e-9)
            assert point.rank == 3
            if point.spec.point == outcome.points[outcome.best].spec.point:
                best = outcome.best_factors
                np.testing.assert_array_equal(best.users, state.plain_factors.users)

    def test_plain_factors_and_back(self, triples):
        objective = biased(triples, 0.3, 0.1, 1.0)
        state = trained(triples, 3, objective)
        for side, own, plain in zip(SIDES, state.factors, state.plain_factors, strict=True):
            np.testing.assert_allclose(objective.trained(plain, side), own, rtol=1e-12, atol=1e-14)

    def test_without_biases_factors_are_plain(self, triples):
        state = trained(triples, 3, Objective(0.3))
        assert state.plain_factors.users is state.factors.users

    def test_start(self, triples):
        spec = ModelSpec(0, 3, biased(triples, 0.3, 0.1, 1.0))
        (state,) = start_states(local_backend(triples), [spec], FLOAT64)
        drawn = initial_factors(triples.n_users, triples.n_items, 3, FLOAT64.seed)
        for own, expected in zip(state.factors, drawn, strict=True):
            np.testing.assert_array_equal(own[:, :-1], expected)
            assert not own[:, -1].any()

    def test_state_round_trip(self, triples):
        state = trained(triples, 3, biased(triples, 0.3, 0.1, 1.0))
        again = from_parts(state.as_record(), state.as_arrays())
        assert again.spec == state.spec
        np.testing.assert_array_equal(again.plain_factors.items, state.plain_factors.items)


class TestMembers:
    @pytest.mark.parametrize(
        "members",
        [
            {"reg": 0.0},
            {"bias_reg": 0.0},
            {"bias_reg": -1.0},
            {"bias_reg": np.inf},
            {"bias_reg": np.nan},
        ],
    )
    def test_ridges_must_be_above_zero(self, members):
        ((name, value),) = members.items()
        with pytest.raises(ConfigError, match=f"^{name} {value}: with biases, use a finite"):
            Objective(**{"reg": 1.0, "bias_reg": 1.0, **members})

    def test_the_mean_must_be_finite(self):
        with pytest.raises(ConfigError, match=r"^mean nan: use the mean of the training ratings"):
            Objective(1.0, bias_reg=1.0, mean=np.nan)

    def test_records(self):
        objective = Objective(0.1, 1.0, bias_reg=0.2, mean=3.5)
        record = objective.as_record()
        assert record == {"lambda_reg": 0.1, "exponent": 1.0, "bias_reg": 0.2, "mean": 3.5}
        assert Objective.from_record(record, "the record") == objective

    def test_a_record_without_a_mean(self):
        record = {"lambda_reg": 0.1, "exponent": 1.0, "bias_reg": 0.2}
        with pytest.raises(ConfigError, match=r"^the record has no mean: give the numbers"):
            Objective.from_record(record, "the record")

    def test_note(self):
        note = Objective(0.1, 1.0, bias_reg=0.2).note
        assert note.startswith("ridge λ·n·|x|² for a row of n ratings (exponent 1")
        assert note.endswith("; biases with λ 0.2")
