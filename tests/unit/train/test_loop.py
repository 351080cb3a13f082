"""The loop against the notebook's twin, and its rules one by one; in one process."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from als_spark.errors import ConfigError, SolveError
from als_spark.solve.objective import Objective
from als_spark.train.backend import Factors, HalfStep, Solved
from als_spark.train.grid import grid_specs
from als_spark.train.local import LocalBackend
from als_spark.train.loop import frobenius_distance, train_models
from als_spark.train.records import IterationRecord, ModelSpec, TrainingOptions
from als_spark.train.start import initial_factors, start_array
from als_spark.train.state import LoopState
from tests import reference
from tests.conftest import Triples, local_backend, random_triples

FLOAT64 = TrainingOptions(dtype="float64")


def train_one(
    backend, rank: int = 3, objective: Objective | float = 1.0, options=FLOAT64, **more
) -> LoopState:
    (model,) = train_models(backend, grid_specs([rank], [objective]), options, **more)
    return model


def twin_of(
    triples: Triples, rank: int, objective: Objective, options: TrainingOptions
) -> reference.Fit:
    start = initial_factors(triples.n_users, triples.n_items, rank, options.seed)
    return reference.notebook_als(
        *triples[:3],
        start,
        objective.reg,
        nu=objective.exponent,
        tol=options.tol,
        max_iter=options.max_iter,
    )


class TestAgainstTheNotebook:
    @pytest.mark.parametrize(
        ("nu", "rank", "reg"), [(0.0, 1, 1.0), (0.0, 5, 2.0), (0.5, 3, 0.5), (1.0, 12, 0.3)]
    )
    def test_whole_training(self, triples, nu, rank, reg):
        options, objective = replace(FLOAT64, tol=1e-2), Objective(reg, nu)
        model = train_one(local_backend(triples), rank, objective, options)
        twin = twin_of(triples, rank, objective, options)
        assert model.converged
        assert twin.converged
        assert model.iterations == twin.iterations > 3
        np.testing.assert_allclose(model.factors.users, twin.users, rtol=0, atol=1e-8)
        np.testing.assert_allclose(model.factors.items, twin.items, rtol=0, atol=1e-8)
        assert model.objective == pytest.approx(twin.objective, rel=1e-10)

    @pytest.mark.parametrize("nu", [0.0, 0.5, 1.0])
    def test_every_record(self, triples, nu):
        options = replace(FLOAT64, tol=0.0, max_iter=15)
        model = train_one(local_backend(triples), 4, Objective(0.5, nu), options)
        now: tuple = initial_factors(triples.n_users, triples.n_items, 4, options.seed)
        objectives = []
        for record in model.history:
            twin = reference.notebook_als(*triples[:3], now[:2], 0.5, nu=nu, max_iter=1)
            change = sum(np.linalg.norm(new - old) for new, old in zip(twin, now, strict=False))
            assert record.objective == pytest.approx(twin.objective, rel=1e-10)
            assert record.change == pytest.approx(float(change), rel=1e-8)
            objectives.append(record.objective)
            now = twin[:2]
        assert len(objectives) == 15
        for before, after in itertools.pairwise(objectives):
            assert after <= before * (1 + 1e-10)
        assert objectives[-1] < 0.96 * objectives[0]

    def test_a_rating_of_zero_is_a_rating(self, triples):
        triples = triples._replace(ratings=np.where(triples.ratings < 3, 0.0, triples.ratings))
        options, objective = replace(FLOAT64, max_iter=3), Objective(0.2, exponent=1.0)
        model = train_one(local_backend(triples), 3, objective, options)
        twin = twin_of(triples, 3, objective, options)
        np.testing.assert_allclose(model.factors.items, twin.items, rtol=0, atol=1e-8)
        assert model.objective == pytest.approx(twin.objective, rel=1e-10)

    def test_float32_reaches_the_same_objective(self, triples):
        backend = local_backend(triples, dtype=np.float32)
        options = TrainingOptions(tol=0.0, max_iter=30)
        model = train_one(backend, 4, 1.0, options)
        assert model.factors.users.dtype == model.factors.items.dtype == np.float32
        twin = twin_of(triples, 4, Objective(1.0), options)
        assert model.objective == pytest.approx(twin.objective, rel=1e-4)

    def test_real_ratings(self, movielens):
        users, items, ratings = np.loadtxt(
            movielens, delimiter=",", skiprows=1, usecols=(0, 1, 2), max_rows=2500, unpack=True
        )
        users = np.unique(users, return_inverse=True)[1]
        items = np.unique(items, return_inverse=True)[1]
        triples = Triples(
            users.astype(np.int32), items.astype(np.int32), ratings, users.max() + 1,
            items.max() + 1,
        )  # fmt: skip
        options = replace(FLOAT64, max_iter=3)
        model = train_one(local_backend(triples), 5, 2.0, options)
        twin = twin_of(triples, 5, Objective(2.0), options)
        np.testing.assert_allclose(model.factors.users, twin.users, rtol=0, atol=1e-8)
        assert model.objective == pytest.approx(twin.objective, rel=1e-10)


class ScriptedBackend:
    """One user and one item, rank 1; moves the factors as far as a script says.

    The script gives each model's c_t: the user side moves by a quarter, the item side by the rest.
    """

    def __init__(self, *scripts: Sequence[float]) -> None:
        self._scripts = scripts
        self.calls: list[tuple[str, int, str]] = []
        self._taken: dict[str, int] = {"user": 0, "item": 0}

    def degrees(self, side, *, positive=False):
        return np.ones(1, np.int32)

    def start(self, side, starts):
        return [start_array(start, 1, side) for start in starts]

    def solve(self, side, steps: Sequence[HalfStep], label: str) -> list[Solved]:
        self.calls.append((side, len(steps), label))
        t = self._taken[side]
        self._taken[side] += 1
        share = 0.25 if side == "user" else 0.75
        # A model is recognised by its λ, 1 for the first script.
        return [
            Solved(step.current + share * self._scripts[int(step.objective.reg) - 1][t], 100.0)
            for step in steps
        ]

    def errors(self, models, label):
        raise AssertionError("the loop asks for no errors")


def run_script(*changes: float, tol: float = 0.5, max_iter: int = 1000) -> LoopState:
    options = TrainingOptions(tol=tol, max_iter=max_iter, dtype="float64")
    start = Factors(np.zeros((1, 1)), np.zeros((1, 1)))
    return train_one(ScriptedBackend(changes), 1, 1.0, options, starts=[start])


class TestStopping:
    """At the first t with |c_(t−1) − c_t| < tol, c_0 = ∞, or at the cap."""

    def test_first_small_difference(self):
        model = run_script(8.0, 4.0, 3.0, 2.75, 2.75)
        assert (model.iterations, model.converged) == (4, True)
        assert [record.change for record in model.history] == [8.0, 4.0, 3.0, 2.75]

    def test_a_difference_of_tol_goes_on(self):
        model = run_script(8.0, 7.5, 7.25)
        assert model.iterations == 3

    def test_changes_may_rise(self):
        # −3 is no small difference, +0.25 is one.
        model = run_script(2.0, 5.0, 5.25)
        assert (model.iterations, model.converged) == (3, True)

    def test_never_at_the_first_iteration(self):
        # c_1 = 0 is as far from c_0 = ∞ as any.
        model = run_script(0.0, 0.0)
        assert (model.iterations, model.converged) == (2, True)

    def test_the_size_of_the_change_does_not_matter(self):
        assert run_script(100.0, 100.25).iterations == 2

    def test_cap(self):
        model = run_script(8.0, 4.0, 2.0, 1.0, max_iter=3)
        assert (model.iterations, model.converged) == (3, False)

    def test_the_rule_at_the_cap_counts_as_converged(self):
        model = run_script(8.0, 4.0, 3.75, max_iter=3)
        assert (model.iterations, model.converged) == (3, True)

    def test_tol_zero_never_converges(self):
        model = run_script(*[1.0] * 6, tol=0.0, max_iter=6)
        assert (model.iterations, model.converged) == (6, False)

    def test_default_tolerance_and_cap(self):
        assert (TrainingOptions().tol, TrainingOptions().max_iter) == (1e-3, 1000)


class TestSideBySide:
    SPECS = (
        ModelSpec(0, 1, Objective(6.0)),
        ModelSpec(1, 4, Objective(1.0)),
        ModelSpec(2, 12, Objective(2.0)),
        ModelSpec(3, 4, Objective(4.0)),
    )

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_same_bits_as_alone(self, triples, dtype):
        backend = local_backend(triples, dtype=dtype)
        options = TrainingOptions(tol=0.05, dtype=dtype)
        together = train_models(backend, self.SPECS, options)
        assert len({model.iterations for model in together}) > 1
        for spec, model in zip(self.SPECS, together, strict=True):
            (alone,) = train_models(backend, [spec], options)
            assert model.spec == spec
            np.testing.assert_array_equal(model.factors.users, alone.factors.users)
            np.testing.assert_array_equal(model.factors.items, alone.factors.items)
            for one, other in zip(model.history, alone.history, strict=True):
                assert replace(one, seconds=0.0) == replace(other, seconds=0.0)

    def test_stopped_models_drop_out(self):
        backend = ScriptedBackend([2.0, 1.0, 1.0], [2.0, 1.0, 0.0, 0.0])
        options = TrainingOptions(tol=0.5, dtype="float64")
        specs = [ModelSpec(7, 1, Objective(1.0)), ModelSpec(9, 1, Objective(2.0))]
        records: list[IterationRecord] = []
        finished: list[list[int]] = []
        models = train_models(
            backend,
            specs,
            options,
            on_iteration=records.append,
            on_finished=lambda some: finished.append([model.spec.point for model in some]),
        )
        assert backend.calls == [
            ("user", 2, "ALS iteration 1: users, 2 models"),
            ("item", 2, "ALS iteration 1: items, 2 models"),
            ("user", 2, "ALS iteration 2: users, 2 models"),
            ("item", 2, "ALS iteration 2: items, 2 models"),
            ("user", 2, "ALS iteration 3: users, 2 models"),
            ("item", 2, "ALS iteration 3: items, 2 models"),
            ("user", 1, "ALS iteration 4: users"),
            ("item", 1, "ALS iteration 4: items"),
        ]
        assert [model.iterations for model in models] == [3, 4]
        assert finished == [[7], [9]]
        in_order = [(7, 1), (9, 1), (7, 2), (9, 2), (7, 3), (9, 3), (9, 4)]
        assert [(record.point, record.iteration) for record in records] == in_order
        assert [r for r in records if r.point == 9] == list(models[1].history)

    def test_models_that_stop_together_are_reported_together(self):
        backend = ScriptedBackend([1.0, 1.0], [1.0, 1.0])
        finished = []
        models = train_models(
            backend,
            [ModelSpec(0, 1, Objective(1.0)), ModelSpec(1, 1, Objective(2.0))],
            TrainingOptions(dtype="float64"),
            on_finished=finished.append,
        )
        (together,) = finished
        assert [model.spec for model in together] == [model.spec for model in models]

    def test_options_of_each(self, triples):
        backend = local_backend(triples)
        each = [
            replace(FLOAT64, max_iter=2, seed=1, tol=0.0),
            replace(FLOAT64, tol=0.05, accelerate=True),
            replace(FLOAT64, max_iter=0, seed=2, accelerate=True),
            replace(FLOAT64, max_iter=5, tol=0.0),
        ]
        finished: list[int] = []
        together = train_models(
            backend,
            self.SPECS,
            each,
            on_finished=lambda some: finished.extend(model.spec.point for model in some),
        )
        assert [model.iterations for model in together][::2] == [2, 0]
        assert together[3].iterations == 5
        assert together[1].converged
        assert finished == [2, 0, 3, 1]
        for spec, options, model in zip(self.SPECS, each, together, strict=True):
            (alone,) = train_models(backend, [spec], options)
            assert (model.iterations, model.evaluations) == (alone.iterations, alone.evaluations)
            np.testing.assert_array_equal(model.factors.items, alone.factors.items)

    @pytest.mark.parametrize("n", [0, 3])
    def test_options_for_each_model(self, triples, n):
        with pytest.raises(ConfigError, match=f"{n} options given for 4 models: give one for each"):
            train_models(local_backend(triples), self.SPECS, [FLOAT64] * n)

    def test_no_iteration_is_the_start(self, triples):
        model = train_one(local_backend(triples), options=replace(FLOAT64, max_iter=0))
        start = initial_factors(triples.n_users, triples.n_items, 3, FLOAT64.seed)
        np.testing.assert_array_equal(model.factors.users, start.users)
        assert (model.stopped, model.converged, model.memory) == (True, False, None)
        assert math.isnan(model.objective)

    def test_no_models(self, triples):
        assert train_models(local_backend(triples), [], FLOAT64) == []


class TestRecords:
    def test_fields(self, triples):
        seen: list[IterationRecord] = []
        (model,) = train_models(
            local_backend(triples),
            [ModelSpec(5, 2, Objective(1.5))],
            replace(FLOAT64, max_iter=4),
            on_iteration=seen.append,
        )
        assert tuple(seen) == model.history
        assert {(record.point, record.rank, record.reg) for record in seen} == {(5, 2, 1.5)}
        assert [record.iteration for record in seen] == [1, 2, 3, 4]
        seconds = [record.seconds for record in seen]
        assert seconds == sorted(seconds)
        assert seconds[0] > 0
        assert (model.objective, model.seconds) == (seen[-1].objective, seen[-1].seconds)


class TestRows:
    def test_rows_without_ratings_keep_their_start(self, triples):
        triples = triples._replace(n_users=triples.n_users + 2, n_items=triples.n_items + 3)
        model = train_one(local_backend(triples), 3, 1.0)
        start = initial_factors(triples.n_users, triples.n_items, 3, FLOAT64.seed)
        for rows, trained, drawn in (
            (triples.users, model.factors.users, start.users),
            (triples.items, model.factors.items, start.items),
        ):
            unrated = np.setdiff1d(np.arange(drawn.shape[0]), rows)
            assert unrated.size > 0
            np.testing.assert_array_equal(trained[unrated], drawn[unrated])
            rated = np.unique(rows)
            assert (trained[rated] != drawn[rated]).all()

    def test_rows_without_ratings_are_in_no_sum(self, triples):
        larger = triples._replace(n_users=triples.n_users + 5, n_items=triples.n_items + 7)
        options = replace(FLOAT64, max_iter=6)
        model = train_one(local_backend(triples), 3, 1.0, options)
        other = train_one(local_backend(larger), 3, 1.0, options)
        np.testing.assert_array_equal(other.factors.users[: triples.n_users], model.factors.users)
        for one, same in zip(model.history, other.history, strict=True):
            assert same.objective == pytest.approx(one.objective, rel=1e-14)
            assert same.change == pytest.approx(one.change, rel=1e-14)

    def test_large_lambda_draws_everything_to_zero(self, triples):
        model = train_one(local_backend(triples), 3, 1e9)
        assert np.abs(model.factors.users[np.unique(triples.users)]).max() < 1e-6
        assert model.objective == pytest.approx(float(triples.ratings @ triples.ratings), rel=1e-6)

    def test_order_of_the_ratings_does_not_matter(self, triples):
        shuffle = np.random.default_rng(0).permutation(triples.users.size)
        shuffled = triples._replace(
            users=triples.users[shuffle],
            items=triples.items[shuffle],
            ratings=triples.ratings[shuffle],
        )
        one = train_one(local_backend(triples))
        other = train_one(local_backend(shuffled))
        np.testing.assert_array_equal(one.factors.items, other.factors.items)

    def test_exact_rank_data_is_recovered(self):
        rng = np.random.default_rng(0)
        left, right = rng.random((50, 3)) + 0.2, rng.random((40, 3)) + 0.2
        observed = rng.random((50, 40)) < 0.5
        users, items = (part.astype(np.int32) for part in np.nonzero(observed))
        ratings = (left @ right.T)[observed]
        triples = Triples(users, items, ratings, 50, 40)
        model = train_one(local_backend(triples), 3, 1e-7, replace(FLOAT64, tol=1e-7))
        squares = (left @ right.T - model.factors.users @ model.factors.items.T) ** 2
        assert math.sqrt(squares[observed].mean()) < 1e-3
        # The ratings that were not seen as well: the data have one completion of rank 3.
        assert math.sqrt(squares[~observed].mean()) < 1e-3

    def test_a_row_that_cannot_be_solved(self, triples):
        # Items that are all alike determine nothing without a ridge.
        start = Factors(np.ones((triples.n_users, 3)), np.ones((triples.n_items, 3)))
        with pytest.raises(SolveError, match="lambda=0: use a larger lambda"):
            train_one(local_backend(triples), 3, 0.0, starts=[start])


class TestStart:
    def test_given(self, triples):
        rng = np.random.default_rng(8)
        start = Factors(rng.random((triples.n_users, 2)), rng.random((triples.n_items, 2)))
        for side in start:
            side.flags.writeable = False
        options = replace(FLOAT64, max_iter=3)
        model = train_one(local_backend(triples), 2, 1.0, options, starts=[start])
        twin = reference.notebook_als(*triples[:3], start, 1.0, max_iter=3)
        np.testing.assert_allclose(model.factors.items, twin.items, rtol=0, atol=1e-8)

    def test_some_given(self, triples):
        backend, specs = local_backend(triples), grid_specs([3, 3], [1.0])
        given = initial_factors(triples.n_users, triples.n_items, 3, 9)
        options = replace(FLOAT64, max_iter=1)
        mine, usual = train_models(backend, specs, options, starts=[given, None])
        for model, seed in ((mine, 9), (usual, FLOAT64.seed)):
            wanted = train_one(backend, options=replace(options, seed=seed))
            np.testing.assert_array_equal(model.factors.users, wanted.factors.users)

    def test_a_start_is_brought_to_the_dtype(self, triples):
        start = Factors(np.ones((triples.n_users, 2)), np.ones((triples.n_items, 2)))
        backend = local_backend(triples, dtype=np.float32)
        model = train_one(backend, 2, 1.0, TrainingOptions(max_iter=1), starts=[start])
        assert model.factors.users.dtype == np.float32

    @pytest.mark.parametrize(
        ("users", "items"), [((39, 2), (30, 2)), ((40, 2), (29, 2)), ((40, 3), (30, 3))]
    )
    def test_wrong_shape(self, triples, users, items):
        start = Factors(np.ones(users), np.ones(items))
        message = r"shapes .* given, \(40, 2\) and \(30, 2\) needed"
        with pytest.raises(ConfigError, match=message):
            train_one(local_backend(triples), 2, 1.0, starts=[start])

    @pytest.mark.parametrize("n", [0, 1, 3])
    def test_a_start_for_each_model(self, triples, n):
        start = initial_factors(triples.n_users, triples.n_items, 2, 0)
        specs = [ModelSpec(0, 2, Objective(1.0)), ModelSpec(1, 2, Objective(2.0))]
        with pytest.raises(ConfigError, match=f"{n} starts given for 2 models"):
            train_models(local_backend(triples), specs, FLOAT64, starts=[start] * n)

    def test_the_seed_decides(self, triples):
        backend = local_backend(triples)
        options = replace(FLOAT64, max_iter=2)
        one, same, other = (
            train_one(backend, options=replace(options, seed=seed)).factors.users
            for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(one, same)
        assert np.abs(one - other).max() > 0.01


class TestImplicit:
    """Implicit feedback, against the dense twin; nonnegative factors, against what must hold."""

    @pytest.mark.parametrize(("nu", "alpha"), [(0.0, 1.0), (1.0, 5.0)])
    def test_every_record(self, triples, nu, alpha):
        # Ratings of 0 and below; rows that have no other, and rows without any.
        triples = triples._replace(ratings=triples.ratings - 3, n_users=42, n_items=33)
        objective = Objective(0.5, nu, implicit=True, alpha=alpha)
        model = train_one(local_backend(triples), 4, objective, replace(FLOAT64, max_iter=8))
        users, items = start = initial_factors(42, 33, 4, FLOAT64.seed)
        for record in model.history:
            pairs, values = (triples.users, triples.items), (triples.ratings,)
            users = reference.implicit_rows(*pairs, *values, items, users, 0.5, nu, alpha)
            items = reference.implicit_rows(*pairs[::-1], *values, users, items, 0.5, nu, alpha)
            wanted = reference.implicit_objective(*pairs, *values, users, items, 0.5, nu, alpha)
            assert record.objective == pytest.approx(wanted, rel=1e-10)
        np.testing.assert_allclose(model.factors.items, items, rtol=0, atol=1e-8)
        np.testing.assert_array_equal(model.factors.items[30:], start.items[30:])
        only_below = (backend_counts(triples.users, triples.ratings, 42) == 0) & (
            np.bincount(triples.users, minlength=42) > 0
        )
        assert only_below.any()
        assert (model.factors.users[only_below] == 0).all()

    @pytest.mark.parametrize("more", [{}, {"implicit": True, "alpha": 2.0}])
    def test_nonnegative(self, triples, more):
        backend = local_backend(triples)
        options = replace(FLOAT64, tol=0.0, max_iter=15)
        free = train_one(backend, 6, Objective(0.2, 1.0, **more), options)
        bound = train_one(backend, 6, Objective(0.2, 1.0, nonnegative=True, **more), options)
        objectives = [record.objective for record in bound.history]
        for before, after in itertools.pairwise(objectives):
            assert after <= before * (1 + 1e-10)
        assert min(factors.min() for factors in bound.factors) == 0
        assert min(factors.min() for factors in free.factors) < 0
        users, items = bound.factors
        if more:
            wanted = reference.implicit_objective(*triples[:3], users, items, 0.2, 1.0, 2.0)
        else:
            wanted = reference.objective(*triples[:3], users, items, 0.2, 1.0)
        assert bound.objective == pytest.approx(wanted, rel=1e-10)


def backend_counts(rows, ratings, n):
    return np.bincount(rows[ratings > 0], minlength=n)


class TestFrobeniusDistance:
    def test_by_hand(self):
        a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [3.0, 3.0]])
        assert frobenius_distance(a, b) == pytest.approx(math.sqrt(5), rel=1e-15)

    def test_more_rows_than_a_slice(self):
        n = 2 * 65536 + 3
        rng = np.random.default_rng(0)
        a, b = rng.random((n, 2)), rng.random((n, 2))
        assert frobenius_distance(a, b) == pytest.approx(float(np.linalg.norm(a - b)), rel=1e-12)

    def test_float32_is_summed_in_float64(self):
        a = np.array([[4096.0], [1.0]], np.float32)
        assert frobenius_distance(a, np.zeros_like(a)) ** 2 == pytest.approx(2**24 + 1, rel=1e-15)

    def test_no_rows(self):
        assert frobenius_distance(np.zeros((0, 2)), np.zeros((0, 2))) == 0.0


class TestLocalBackend:
    def test_half_step_and_degrees(self, triples):
        backend = local_backend(triples)
        rng = np.random.default_rng(0)
        fixed, current = rng.random((30, 3)), rng.random((40, 3))
        kept = current.copy()
        (solved,) = backend.solve(
            "user", [HalfStep(fixed, current, Objective(0.5, exponent=1.0))], ""
        )
        expected = reference.solve_rows(*triples[:3], fixed, current, 0.5, 1.0)
        np.testing.assert_allclose(solved.factors, expected, rtol=0, atol=1e-10)
        np.testing.assert_array_equal(current, kept)
        assert (backend.n_users, backend.n_items) == (40, 30)
        for side, rows, n in (("user", triples.users, 40), ("item", triples.items, 30)):
            np.testing.assert_array_equal(backend.degrees(side), np.bincount(rows, minlength=n))

    def test_counts_of_ratings_above_zero(self, triples):
        ratings = triples.ratings - 3
        backend = local_backend(triples._replace(ratings=ratings))
        for side, rows, n in (("user", triples.users, 40), ("item", triples.items, 30)):
            wanted = np.bincount(rows[ratings > 0], minlength=n)
            np.testing.assert_array_equal(backend.degrees(side, positive=True), wanted)
            assert wanted.sum() < backend.degrees(side).sum()

    def test_errors_of_several_models(self, triples):
        test = random_triples(n_ratings=60, seed=9)
        backend = local_backend(triples, test, cold_start="initial")
        models = [initial_factors(40, 30, rank, 0) for rank in (1, 4)]
        found = backend.errors(models, "")
        for model, sums in zip(models, found, strict=True):
            for split, part in (("train", triples), ("test", test)):
                means = sums[split].means()
                expected = reference.errors(*part[:3], *model)
                assert (means.mse, means.mae) == pytest.approx(expected, rel=1e-10)

    def test_parts_of_a_split_add_up(self, triples):
        whole = local_backend(triples, triples)
        blocks = whole.blocks["user"], whole.blocks["item"]
        twice = LocalBackend(*blocks, [*whole.evaluation, *whole.evaluation])
        model = initial_factors(40, 30, 2, 0)
        (once,), (doubled,) = whole.errors([model], ""), twice.errors([model], "")
        assert doubled["test"].count == 2 * once["test"].count
        assert doubled["test"].squared == pytest.approx(2 * once["test"].squared, rel=1e-14)
        assert set(once) == {"train", "test"}
