"""Weights of ratings in the kernels: against weighted normal equations, and repeated ratings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from als_spark.errors import DataError, SolveError
from als_spark.solve import gram
from als_spark.solve.blocks import RatingBlock, build_block, split_block
from als_spark.solve.objective import Objective
from als_spark.solve.solver import add_sums
from als_spark.train.local import LocalBackend
from als_spark.train.loop import train_models
from als_spark.train.records import ModelSpec, TrainingOptions
from tests import reference
from tests.conftest import Triples, random_triples

RNG = np.random.default_rng(8)
T = random_triples()
WEIGHTS = RNG.lognormal(0, 1.5, T.ratings.size)
COUNTS = RNG.integers(1, 4, T.ratings.size)
FLOAT64 = TrainingOptions(dtype="float64", tol=0.0, max_iter=5)


def block(weights, dtype="float64", triples: Triples = T) -> RatingBlock:
    users, items, ratings, n_users, n_items = triples
    return build_block(
        users, items, ratings, n_rows=n_users, n_columns=n_items, dtype=dtype, weights=weights
    )


def fixed_factors(rank: int, dtype="float64"):
    return np.random.default_rng(4).normal(size=(T.n_items, rank)).astype(dtype)


def backend(triples: Triples, weights=None) -> LocalBackend:
    users, items, ratings, n_users, n_items = triples
    by_user = build_block(users, items, ratings, n_rows=n_users, n_columns=n_items, weights=weights)
    by_item = build_block(items, users, ratings, n_rows=n_items, n_columns=n_users, weights=weights)
    return LocalBackend(by_user, by_item)


class TestAgainstTheTwin:
    @pytest.mark.parametrize("nu", [0.0, 1.0])
    @pytest.mark.parametrize("rank", [1, 4, 12, 40])
    def test_rows(self, rank, nu):
        """Rows in the dual and in the primal form, in small and in large products."""
        fixed = fixed_factors(rank)
        wanted, objective = reference.weighted_rows(
            T.users, T.items, T.ratings, WEIGHTS, fixed, 0.3, nu
        )
        own = block(WEIGHTS)
        found, loss = Objective(0.3, nu).row_solver(fixed).solve(own, side="user")
        for row, factors in zip(own.rows.tolist(), found, strict=True):
            np.testing.assert_allclose(factors, wanted[row], rtol=1e-8, atol=1e-10)
        assert loss == pytest.approx(objective, rel=1e-10)

    def test_float32(self):
        fixed = fixed_factors(4)
        wanted, loss = Objective(0.3).row_solver(fixed).solve(block(WEIGHTS), side="user")
        single = Objective(0.3).row_solver(fixed.astype("float32"))
        found, single_loss = single.solve(block(WEIGHTS, "float32"), side="user")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
        assert single_loss == pytest.approx(loss, rel=1e-4)

    def test_rows_longer_than_the_workspace(self, monkeypatch):
        solver = Objective(0.3).row_solver(fixed_factors(3))
        wanted, loss = solver.solve(block(WEIGHTS), side="user")
        monkeypatch.setattr(gram, "WORKSPACE_BYTES", 5 * 4 * 8)
        found, piece_loss = solver.solve(block(WEIGHTS), side="user")
        np.testing.assert_allclose(found, wanted, rtol=1e-9)
        assert piece_loss == pytest.approx(loss, rel=1e-12)

    def test_shared_rows(self):
        solver = Objective(0.3, 1.0).row_solver(fixed_factors(4))
        whole = block(WEIGHTS)
        wanted, loss = solver.solve(whole, side="user")
        parts = []
        for half in (T.items % 2 == 0, T.items % 2 == 1):
            chosen = T._replace(users=T.users[half], items=T.items[half], ratings=T.ratings[half])
            part = block(WEIGHTS[half], triples=chosen)
            parts.append((part.rows, solver.accumulate(part)))
        rows, sums = add_sums(parts)
        degrees = np.bincount(T.users, minlength=T.n_users)[rows]
        found, found_loss = solver.solve_sums(sums, rows, degrees, side="user")
        np.testing.assert_allclose(found, wanted[np.argsort(whole.rows)], rtol=1e-9)
        assert found_loss == pytest.approx(loss, rel=1e-10)

    def test_retry_in_float64(self):
        """A Gram matrix that underflows float32 is weighted in float64."""
        base = np.random.default_rng(0).standard_normal((6, 3))
        fixed = (base * 1e-25).astype(np.float32)
        ratings, weights = np.arange(1.0, 7.0), np.array([1.0, 9.0, 0.25, 4.0, 1.0, 16.0])
        rows, columns = np.zeros(6, np.int32), np.arange(6)
        sizes = {"n_rows": 1, "n_columns": 6, "dtype": np.float32}
        own = build_block(rows, columns, ratings, weights=weights, **sizes)
        found, loss = Objective(0.0).row_solver(fixed).solve(own, side="user")
        roots = np.sqrt(weights)
        known = roots[:, None] * fixed.astype(np.float64) * 1e25
        wanted, residual, *_ = np.linalg.lstsq(known, roots * ratings)
        np.testing.assert_allclose(found[0] * np.float64(1e-25), wanted, rtol=1e-4)
        assert loss == pytest.approx(float(residual[0]), rel=1e-4)

    def test_too_few_ratings_without_a_ridge(self):
        with pytest.raises(SolveError, match="has no finite solution"):
            Objective(0.0).row_solver(fixed_factors(40)).solve(block(WEIGHTS), side="user")


class TestMeaning:
    @pytest.mark.parametrize("bias_reg", [None, 0.5])
    def test_whole_weights_are_repeated_ratings(self, bias_reg):
        """At ν = 0, where the number of ratings does not matter."""
        repeated = Triples(*(np.repeat(values, COUNTS) for values in T[:3]), T.n_users, T.n_items)
        mean = float(repeated.ratings.mean())
        spec = ModelSpec(0, 4, Objective(0.7, 0.0, bias_reg=bias_reg, mean=mean))
        (wanted,) = train_models(backend(repeated), [spec], FLOAT64)
        (found,) = train_models(backend(T, COUNTS.astype(float)), [spec], FLOAT64)
        np.testing.assert_allclose(found.factors.users, wanted.factors.users, rtol=1e-7, atol=1e-9)
        assert found.objective == pytest.approx(wanted.objective, rel=1e-10)

    def test_weights_of_one_change_nothing(self):
        solver = Objective(0.3, 1.0).row_solver(fixed_factors(4))
        found, loss = solver.solve(block(np.ones(T.ratings.size)), side="user")
        wanted, wanted_loss = solver.solve(block(None), side="user")
        np.testing.assert_array_equal(found, wanted)
        assert loss == pytest.approx(wanted_loss, rel=1e-14)

    def test_a_common_weight_is_a_smaller_ridge(self):
        fixed = fixed_factors(4)
        found, _ = Objective(1.5).row_solver(fixed).solve(block(np.full(400, 5.0)), side="user")
        wanted, _ = Objective(0.3).row_solver(fixed).solve(block(None), side="user")
        np.testing.assert_allclose(found, wanted, rtol=1e-9)

    def test_degrees_count_ratings(self):
        np.testing.assert_array_equal(block(WEIGHTS).degrees, block(None).degrees)

    def test_the_objective_never_rises(self):
        spec = ModelSpec(0, 4, Objective(0.1, 1.0))
        for accelerate in (False, True):
            options = replace(FLOAT64, max_iter=25, accelerate=accelerate)
            (state,) = train_models(backend(T, WEIGHTS), [spec], options)
            objectives = np.array([record.objective for record in state.history])
            assert (objectives[1:] <= objectives[:-1] * (1 + 1e-10)).all()

    def test_errors_count_each_rating_once(self):
        (state,) = train_models(backend(T, WEIGHTS), [ModelSpec(0, 3, Objective(0.1))], FLOAT64)
        (sums,) = backend(T, WEIGHTS).errors([state.factors], "")
        mse, mae = reference.errors(*T[:3], *state.factors)
        assert sums["train"].means().mse == pytest.approx(mse, rel=1e-10)
        assert sums["train"].means().mae == pytest.approx(mae, rel=1e-10)


class TestBlocks:
    def test_places(self):
        own = block(WEIGHTS)
        users, items, _ = own.triples()
        by_pair = {(int(u), int(i)): w for u, i, w in zip(T.users, T.items, WEIGHTS, strict=True)}
        found = own.rating_weights()
        wanted = [by_pair[int(u), int(i)] for u, i in zip(users, items, strict=True)]
        np.testing.assert_array_equal(found, wanted)
        padded = own.indices == own.n_columns
        assert padded.any()
        assert not own.weights[padded].any()

    def test_slices(self):
        own = block(WEIGHTS, "float32")
        slices = list(split_block(own, 600))
        assert len(slices) > 5
        np.testing.assert_array_equal(np.concatenate([s.weights for s in slices]), own.weights)
        assert (
            sum(bucket.weights.size for s in slices for bucket in s.buckets()) == own.weights.size
        )
        unweighted = list(split_block(block(None, "float32"), 600))
        assert len(slices) > len(unweighted)
        assert all(part.weights is None for part in unweighted)

    @pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf, 1e-60, 1e60])
    def test_unusable(self, weight):
        weights = WEIGHTS.copy()
        weights[7] = weight
        with pytest.raises(DataError, match=r"^weight \S+ of a rating: weights are finite fl"):
            block(weights, "float32")
