"""Acceleration: fewer iterations, never a higher objective, plain ALS where it does not help."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from als_spark.solve.objective import Objective
from als_spark.train import acceleration
from als_spark.train import loop as training
from als_spark.train.acceleration import HISTORY, Accelerator, Memory, history_length
from als_spark.train.backend import HalfStep, Solved
from als_spark.train.grid import grid_specs
from als_spark.train.local import LocalBackend
from als_spark.train.loop import train_models
from als_spark.train.records import ModelSpec, TrainingOptions
from als_spark.train.state import LoopState
from tests.conftest import Triples, local_backend

PLAIN = TrainingOptions(dtype="float64", tol=1e-3)
FAST = replace(PLAIN, accelerate=True)
NOTHING = Memory(HISTORY)
OTHERS = [
    {},
    {"nonnegative": True},
    {"implicit": True, "alpha": 2.0},
    {"implicit": True, "alpha": 2.0, "nonnegative": True},
]


def train(backend, rank: int, objective: Objective | float, options: TrainingOptions) -> LoopState:
    (model,) = train_models(backend, grid_specs([rank], [objective]), options)
    return model


def iterations_to(model: LoopState, objective: float) -> int:
    return next(r.iteration for r in model.history if r.objective <= objective)


@pytest.fixture(scope="module")
def slow_backend() -> LocalBackend:
    """Ratings on which plain ALS takes long: a low-rank signal of falling strength."""
    rng = np.random.default_rng(7)
    users, items = np.nonzero(rng.random((120, 90)) < 0.25)
    left, right = rng.standard_normal((120, 8)), rng.standard_normal((90, 8))
    signal = (left * 0.7 ** np.arange(8)) @ right.T
    ratings = 3 + signal[users, items] + 0.3 * rng.standard_normal(users.size)
    return local_backend(Triples(users.astype(np.int32), items.astype(np.int32), ratings, 120, 90))


class Recorder:
    """A backend that keeps the labels of its half-steps."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self.labels: list[str] = []
        self.fixed: list = []

    def degrees(self, side, *, positive=False):
        return self._backend.degrees(side, positive=positive)

    def start(self, side, starts):
        return self._backend.start(side, starts)

    def solve(self, side, steps: Sequence[HalfStep], label: str) -> list[Solved]:
        self.labels.append(label)
        self.fixed += [step.fixed for step in steps]
        return self._backend.solve(side, steps, label)

    def errors(self, models, label):
        return self._backend.errors(models, label)


class TestTraining:
    @pytest.mark.parametrize(("rank", "reg", "nu"), [(8, 0.5, 0.0), (8, 1.0, 0.0), (5, 0.02, 1.0)])
    def test_the_same_objective_in_half_the_iterations(self, slow_backend, rank, reg, nu):
        objective = Objective(reg, nu)
        plain = train(slow_backend, rank, objective, PLAIN)
        fast = train(slow_backend, rank, objective, replace(FAST, tol=0.0, max_iter=400))
        assert plain.converged
        assert plain.iterations > 20
        assert iterations_to(fast, plain.objective) <= plain.iterations / 2

    @pytest.mark.parametrize("rank", [1, 4, 12])
    @pytest.mark.parametrize("members", OTHERS, ids=str)
    def test_the_objective_never_rises(self, triples, rank, members):
        objective = Objective(0.3, **members)
        model = train(local_backend(triples), rank, objective, replace(FAST, tol=0.0, max_iter=80))
        objectives = [record.objective for record in model.history]
        for before, after in itertools.pairwise(objectives):
            assert after <= before * (1 + 1e-12)
        # Some steps were not taken here: the guard is needed.
        assert model.evaluations >= model.iterations == 80
        assert objective.feasible(model.factors.users) is model.factors.users or (
            min(factors.min() for factors in model.factors) >= 0
        )

    @pytest.mark.parametrize("members", OTHERS[1:], ids=str)
    def test_other_objectives_in_fewer_iterations(self, slow_backend, members):
        objective = Objective(1.0, **members)
        plain = train(slow_backend, 8, objective, replace(PLAIN, tol=3e-3))
        fast = train(slow_backend, 8, objective, replace(FAST, tol=0.0, max_iter=400))
        assert plain.converged
        assert iterations_to(fast, plain.objective) <= 0.8 * plain.iterations

    def test_proposals_are_feasible(self, slow_backend):
        recorder = Recorder(slow_backend)
        objective = Objective(1.0, nonnegative=True)
        train(recorder, 8, objective, replace(FAST, max_iter=30))
        assert len(recorder.fixed) >= 60
        assert all(fixed.min() >= 0 for fixed in recorder.fixed)

    def test_the_stopping_rule_is_the_plain_one(self, slow_backend):
        model = train(slow_backend, 8, 2.0, FAST)
        changes = [np.inf] + [record.change for record in model.history]
        settled = [abs(b - a) < FAST.tol for a, b in itertools.pairwise(changes)]
        assert model.converged
        assert settled.index(True) == model.iterations - 1

    def test_the_result_is_a_fixed_point_of_als(self, slow_backend):
        model = train(slow_backend, 4, 2.0, replace(FAST, tol=1e-9))
        plain = replace(PLAIN, max_iter=1)
        (again,) = train_models(slow_backend, [model.spec], plain, starts=[model.factors])
        np.testing.assert_allclose(again.factors.users, model.factors.users, atol=1e-6)
        np.testing.assert_allclose(again.factors.items, model.factors.items, atol=1e-6)

    def test_several_models_at_once_are_as_each_alone(self, slow_backend):
        specs = [ModelSpec(0, 2, Objective(1.0)), ModelSpec(1, 8, Objective(0.3))]
        recorder = Recorder(slow_backend)
        together = train_models(recorder, specs, FAST)
        assert any("plain step instead" in label for label in recorder.labels)
        for spec, model in zip(specs, together, strict=True):
            (alone,) = train_models(slow_backend, [spec], FAST)
            assert model.evaluations == alone.evaluations
            np.testing.assert_array_equal(model.factors.items, alone.factors.items)

    def test_plain_training_evaluates_once_an_iteration(self, slow_backend):
        model = train(slow_backend, 3, 1.0, PLAIN)
        assert model.evaluations == model.iterations

    def test_where_no_proposal_is_good_it_is_plain_als(self, slow_backend, monkeypatch):
        class Astray(Accelerator):
            def propose(self, began, reached, mean_square):
                return reached + 100.0

        monkeypatch.setattr(training, "Accelerator", Astray)
        options = replace(FAST, max_iter=12)
        model = train(slow_backend, 3, 1.0, options)
        plain = train(slow_backend, 3, 1.0, replace(options, accelerate=False))
        assert model.iterations == plain.iterations == 12
        # One more for each iteration that began at a proposal: all but the first.
        assert model.evaluations == 2 * 12 - 1
        assert [r.objective for r in model.history] == [r.objective for r in plain.history]
        assert [r.change for r in model.history] == [r.change for r in plain.history]
        np.testing.assert_array_equal(model.factors.users, plain.factors.users)

    def test_float32(self, slow_backend, triples):
        backend = local_backend(triples, dtype=np.float32)
        plain = train(backend, 6, 0.5, replace(PLAIN, dtype="float32"))
        fast = train(backend, 6, 0.5, replace(FAST, dtype="float32"))
        assert fast.factors.items.dtype == np.float32
        assert fast.objective <= plain.objective * 1.02


class TestAccelerator:
    def quadratic(self, n: int = 40):
        """A linear fixed-point map towards 0 whose residual is a preconditioned gradient."""
        rng = np.random.default_rng(0)
        basis, _ = np.linalg.qr(rng.standard_normal((n, n)))
        matrix = basis @ np.diag(np.linspace(0.02, 1.0, n)) @ basis.T
        return lambda v: v - matrix @ v

    def test_far_faster_than_the_fixed_point_map(self):
        step = self.quadratic()
        start = np.random.default_rng(1).standard_normal((40, 1))
        accelerator = Accelerator(np.ones(40), np.ones(40), NOTHING)
        plain = fast = start
        for _ in range(60):
            plain = step(plain)
            fast = accelerator.propose(fast, step(fast), 1.0)
        assert np.linalg.norm(fast) < 1e-3 * np.linalg.norm(plain)

    def test_the_first_proposal_is_the_plain_iterate(self):
        accelerator = Accelerator(np.ones(3), np.ones(3), NOTHING)
        reached = np.ones((3, 2))
        assert accelerator.propose(np.zeros((3, 2)), reached, 1.0) is reached

    def test_forgotten_pairs_leave_the_plain_iterate(self):
        accelerator = Accelerator(np.ones(40), np.ones(40), NOTHING)
        step = self.quadratic()
        v = np.ones((40, 1))
        for _ in range(4):
            v = accelerator.propose(v, step(v), 1.0)
        accelerator.forget()
        # The same point again: no step, so no new pair either.
        accelerator.memory = accelerator.memory._replace(last=None)
        reached = step(v)
        assert accelerator.propose(v, reached, 1.0) is reached

    def test_rows_without_ratings_do_not_count(self):
        degrees = np.array([1.0] * 39 + [0])
        step = self.quadratic(39)
        accelerator = Accelerator(degrees, degrees, NOTHING)
        shorter = Accelerator(degrees[:39], degrees[:39], NOTHING)
        v = np.random.default_rng(2).standard_normal((40, 1))
        for _ in range(6):
            reached = np.concatenate([step(v[:39]), v[39:]])
            proposed = accelerator.propose(v, reached, 1.0)
            np.testing.assert_allclose(
                proposed[:39], shorter.propose(v[:39], step(v[:39]), 1.0), rtol=1e-10
            )
            assert proposed[39] == v[39]
            v = proposed

    def test_as_many_pairs_as_the_limit(self):
        step = self.quadratic()
        accelerator = Accelerator(np.ones(40), np.ones(40), Memory(2))
        v = np.random.default_rng(3).standard_normal((40, 1))
        counts = []
        for _ in range(5):
            v = accelerator.propose(v, step(v), 1.0)
            counts.append(len(accelerator.memory.pairs))
        assert counts == [0, 1, 2, 2, 2]

    def test_memory_is_all_that_it_knows(self):
        step = self.quadratic()
        ones = np.ones(40)
        lasting = Accelerator(ones, ones, NOTHING)
        memory = NOTHING
        v = w = np.random.default_rng(4).standard_normal((40, 1))
        for k in range(8):
            fresh = Accelerator(ones, ones, memory)
            if k == 5:
                lasting.forget()
                fresh.forget()
            v, w = lasting.propose(v, step(v), 1.0), fresh.propose(w, step(w), 1.0)
            memory = fresh.memory
            np.testing.assert_array_equal(v, w)

    def test_arguments_are_not_modified(self):
        accelerator = Accelerator(np.ones(40), np.ones(40), NOTHING)
        step = self.quadratic()
        v = np.ones((40, 1))
        for _ in range(5):
            reached = step(v)
            for array in (v, reached):
                array.flags.writeable = False
            v = accelerator.propose(v, reached, 1.0)


class TestHistoryLength:
    def test_small_models_keep_all(self):
        assert history_length(10_000, [1, 5, 20, 50], 8) == HISTORY

    def test_bounded_by_the_bytes(self, monkeypatch):
        monkeypatch.setattr(acceleration, "HISTORY_BYTES", 5 * 2 * 100 * 10 * 4)
        assert history_length(100, [10], 4) == HISTORY
        assert history_length(100, [10, 10], 4) == 2
        assert history_length(100, [10] * 5, 4) == 1
        assert history_length(10**6, [10] * 5, 4) == 1
