"""A training that is interrupted, its states taken apart and put together, and continued."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from als_spark.solve.objective import Objective
from als_spark.train.grid import grid_specs
from als_spark.train.loop import continue_training, train_models
from als_spark.train.records import ModelSpec, TrainingOptions
from als_spark.train.state import LoopState, from_parts, start_states
from tests.conftest import local_backend

SPECS = [
    ModelSpec(3, 1, Objective(6.0)),
    ModelSpec(5, 4, Objective(0.1, exponent=1.0)),
    ModelSpec(8, 7, Objective(0.5, exponent=0.5)),
]


class Stopped(Exception):
    """The machine is switched off."""


def states_after(backend, options: TrainingOptions, n_iterations: int) -> Sequence[LoopState]:
    """Train until the machine is switched off after so many iterations."""
    kept: list[Sequence[LoopState]] = []

    def keep(states: Sequence[LoopState]) -> None:
        kept.append(states)
        if len(kept) == n_iterations:
            raise Stopped

    with pytest.raises(Stopped):
        train_models(backend, SPECS, options, on_states=keep)
    return kept[-1]


def through_files(state: LoopState, folder: Path) -> LoopState:
    """Write a state as text and arrays, without pickling, and read it again."""
    text = json.dumps(state.as_record(), allow_nan=False)
    np.savez(folder / "state.npz", **state.as_arrays())
    with np.load(folder / "state.npz", allow_pickle=False) as arrays:
        return from_parts(json.loads(text), dict(arrays))


def assert_same_bits(one: LoopState, other: LoopState) -> None:
    for a, b in zip(one.factors, other.factors, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert (one.spec, one.iterations, one.evaluations, one.converged, one.objective) == (
        *(other.spec, other.iterations, other.evaluations, other.converged, other.objective),
    )
    for a, b in zip(one.history, other.history, strict=True):
        assert replace(a, seconds=0.0) == replace(b, seconds=0.0)


@pytest.mark.parametrize("accelerate", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
class TestResume:
    def options(self, dtype, accelerate) -> TrainingOptions:
        return TrainingOptions(tol=0.02, max_iter=25, dtype=dtype, accelerate=accelerate)

    @pytest.mark.parametrize("n", [1, 2, 6, 13])
    def test_same_bits_as_undisturbed(self, triples, tmp_path, dtype, accelerate, n):
        options, backend = self.options(dtype, accelerate), local_backend(triples, dtype=dtype)
        undisturbed = train_models(backend, SPECS, options)
        assert len({model.iterations for model in undisturbed}) > 1
        states = states_after(backend, options, n)
        again = [through_files(state, tmp_path) for state in states]
        resumed = continue_training(backend, again, options)
        for one, other in zip(undisturbed, resumed, strict=True):
            assert_same_bits(one, other)

    def test_interrupted_after_every_iteration(self, triples, tmp_path, dtype, accelerate):
        options, backend = self.options(dtype, accelerate), local_backend(triples, dtype=dtype)
        states: Sequence[LoopState] = start_states(backend, SPECS, options)
        while not all(state.stopped for state in states):
            kept: list[Sequence[LoopState]] = []

            def keep(reached: Sequence[LoopState], kept=kept) -> None:
                kept.append(reached)
                raise Stopped

            states = [through_files(state, tmp_path) for state in states]
            with pytest.raises(Stopped):
                continue_training(backend, states, options, on_states=keep)
            states = kept[0]
        resumed = continue_training(backend, states, options)
        for one, other in zip(train_models(backend, SPECS, options), resumed, strict=True):
            assert_same_bits(one, other)


class TestStates:
    OPTIONS = TrainingOptions(tol=0.0, max_iter=4, dtype="float64", accelerate=True)

    def test_before_the_first_iteration(self, triples, tmp_path):
        for state in start_states(local_backend(triples), SPECS, self.OPTIONS):
            assert (state.iterations, state.seconds, state.stopped) == (0, 0.0, False)
            again = through_files(state, tmp_path)
            assert (again.spec, again.memory, again.history) == (state.spec, state.memory, ())
            np.testing.assert_array_equal(again.factors.users, state.factors.users)

    def test_an_accelerated_state_is_put_together_whole(self, triples, tmp_path):
        state = states_after(local_backend(triples), self.OPTIONS, 3)[2]
        assert state.proposed is not None
        assert state.memory is not None
        assert state.memory.last is not None
        assert state.memory.pairs
        again = through_files(state, tmp_path)
        assert again.history == state.history
        assert again.as_record() == state.as_record()
        for name, array in state.as_arrays().items():
            np.testing.assert_array_equal(again.as_arrays()[name], array)
        assert again.as_arrays().keys() == state.as_arrays().keys()

    def test_a_history_without_penalties(self, triples):
        # As version 0.1.0 has it.
        (state, *_) = states_after(local_backend(triples), self.OPTIONS, 2)
        record = state.as_record()
        record["history"] = [numbers[:3] for numbers in record["history"]]
        again = from_parts(record, state.as_arrays())
        assert [r.objective for r in again.history] == [r.objective for r in state.history]
        assert all(math.isnan(r.penalty) for r in again.history)
        assert again.as_record() == record

    def test_plain_training_keeps_only_the_factors(self, triples):
        plain = replace(self.OPTIONS, accelerate=False)
        for state in states_after(local_backend(triples), plain, 3):
            assert state.as_arrays().keys() == {"users", "items"}

    def test_seconds_go_on(self, triples):
        backend = local_backend(triples)
        states = [
            replace(
                state,
                history=tuple(replace(r, seconds=1000.0 + r.iteration) for r in state.history),
            )
            for state in states_after(backend, self.OPTIONS, 2)
        ]
        for model in continue_training(backend, states, self.OPTIONS):
            assert [record.iteration for record in model.history] == [1, 2, 3, 4]
            assert 1002 < model.history[2].seconds < model.seconds < 1100

    def test_models_that_have_stopped_are_reported_first(self, triples):
        backend, options = local_backend(triples), replace(self.OPTIONS, tol=0.02, max_iter=25)
        first, last = sorted({model.iterations for model in train_models(backend, SPECS, options)})[
            :: len(SPECS) - 1
        ]
        assert first < last
        told: list[list[int]] = []
        states = states_after(backend, options, first)
        stopped = [state.spec.point for state in states if state.stopped]
        records: list[int] = []
        continue_training(
            backend,
            states,
            options,
            on_finished=lambda models: told.append([model.spec.point for model in models]),
            on_iteration=lambda record: records.append(record.point),
        )
        assert told[0] == stopped != []
        assert sorted(point for points in told for point in points) == [
            spec.point for spec in SPECS
        ]
        assert not set(records) & set(stopped)

    def test_nothing_left_to_do(self, triples):
        backend = local_backend(triples)
        specs = grid_specs([2], [1.0])
        kept: list[Sequence[LoopState]] = []
        (model,) = train_models(backend, specs, self.OPTIONS, on_states=kept.append)
        assert [state.iterations for (state,) in kept] == [1, 2, 3, 4]
        (again,) = continue_training(backend, kept[-1], self.OPTIONS)
        assert_same_bits(again, model)
        assert again.seconds == model.seconds
