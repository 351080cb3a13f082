"""The alternating least squares loop: alternation, stopping, history.

The objective (:mod:`als_spark.solve.objective`) is minimised over all users with the items fixed,
then over all items with the users fixed. A row without a training rating keeps its start and is in
no sum.

Stopping: with c_t = ‖U_t − U_(t−1)‖_F + ‖V_t − V_(t−1)‖_F and c_0 = ∞, at the first t with |c_(t−1)
− c_t| < tol.

With acceleration an iteration begins at item factors that :mod:`als_spark.train.acceleration`
proposes, instead of those that the last one ended with. The objective never rises: where it would,
the users are solved once more, against the latter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from als_spark.solve.linalg import row_dots
from als_spark.train.acceleration import Accelerator
from als_spark.train.backend import (
    AnyFactors,
    Backend,
    Factors,
    HalfStep,
    HeldFactors,
    Measures,
    Solved,
    as_array,
)
from als_spark.train.records import (
    IterationRecord,
    ModelSpec,
    Options,
    TrainingOptions,
    options_of_each,
)
from als_spark.train.state import LoopState, start_states
from als_spark.types import SIDES, FloatArray, IntArray, Side, other_side

OnIteration = Callable[[IterationRecord], None]
OnFinished = Callable[[Sequence[LoopState]], None]
OnStates = Callable[[Sequence[LoopState]], None]


def train_models(
    backend: Backend,
    specs: Sequence[ModelSpec],
    options: Options,
    *,
    starts: Sequence[Factors | None] | None = None,
    on_iteration: OnIteration | None = None,
    on_finished: OnFinished | None = None,
    on_states: OnStates | None = None,
) -> list[LoopState]:
    """Train several models side by side until the stopping rule, or the cap, has ended each.

    Parameters
    ----------
    backend : Backend
        Where the ratings are.
    specs : sequence of ModelSpec
        The models.
    options : TrainingOptions or sequence of TrainingOptions
        Of all models, or of each: a model that has done its iterations drops out.
    starts : sequence of Factors or None, optional
        Starting factors, one a model: see :func:`als_spark.train.state.start_states`.
    on_iteration, on_finished, on_states : callable, optional
        As in :func:`continue_training`.

    Returns
    -------
    list of LoopState
        In the order of ``specs``.

    Raises
    ------
    ConfigError
        If a start has the wrong shape, or there are not options, or a start, for each model.
    SolveError
        If a row's system has no finite solution.
    """
    return continue_training(
        backend,
        start_states(backend, specs, options, starts),
        options,
        on_iteration=on_iteration,
        on_finished=on_finished,
        on_states=on_states,
    )


def continue_training(
    backend: Backend,
    states: Sequence[LoopState],
    options: Options,
    *,
    on_iteration: OnIteration | None = None,
    on_finished: OnFinished | None = None,
    on_states: OnStates | None = None,
) -> list[LoopState]:
    """Train models on from their states; the result is the same as without the interruption.

    Every half-step carries all models that are still running; a model that has stopped drops out.

    Parameters
    ----------
    backend : Backend
        The same ratings as before.
    states : sequence of LoopState
        From :func:`als_spark.train.state.start_states`, or from ``on_states``.
    options : TrainingOptions or sequence of TrainingOptions
        Of all models, or of each; a state says whether its model is accelerated.
    on_iteration : callable, optional
        Called with each :class:`~als_spark.train.records.IterationRecord`.
    on_finished : callable, optional
        Called with the models that stop, once an iteration in which any does; models whose states
        have stopped already are reported first.
    on_states : callable, optional
        Called after each iteration with the states of all models, before ``on_finished``.

    Returns
    -------
    list of LoopState
        In the order of ``states``, all of them; a caller that wants to free memory passes one model
        at a time.

    Raises
    ------
    SolveError
        If a row's system has no finite solution.
    """

    def report(stopped: Sequence[LoopState]) -> None:
        if stopped and on_finished is not None:
            on_finished(stopped)

    states = list(states)
    each = options_of_each(options, len(states))
    before = max((state.seconds for state in states if not state.stopped), default=0.0)
    began = time.perf_counter() - before
    report([state for state in states if state.stopped])
    while running := [k for k, state in enumerate(states) if not state.stopped]:
        stepped = step(backend, [states[k] for k in running], [each[k] for k in running], began)
        for k, state in zip(running, stepped, strict=True):
            states[k] = state
            if on_iteration is not None:
                on_iteration(state.history[-1])
        if on_states is not None:
            on_states(tuple(states))
        report([state for state in stepped if state.stopped])
    return states


def step(
    backend: Backend, states: Sequence[LoopState], each: Sequence[TrainingOptions], began: float
) -> list[LoopState]:
    """Do one iteration of models that are all running.

    ``each`` are the options of each; ``began`` is when the training did.
    """
    iterations = [_Iteration(state, backend) for state in states]
    label = f"ALS iteration {1 + max(state.iterations for state in states)}: "
    _half_step(backend, "user", iterations, label)
    risen = [iteration for iteration in iterations if iteration.reject_if_risen()]
    if risen:
        _half_step(backend, "user", risen, f"{label}plain step instead, ")
    _half_step(backend, "item", iterations, label)
    seconds = time.perf_counter() - began
    return [
        iteration.end(options, seconds) for iteration, options in zip(iterations, each, strict=True)
    ]


def _half_step(backend: Backend, side: Side, iterations: Sequence[_Iteration], label: str) -> None:
    steps = [iteration.half_step(side) for iteration in iterations]
    n_models = "" if len(steps) == 1 else f", {len(steps)} models"
    solved = backend.solve(side, steps, f"{label}{side}s{n_models}")
    for iteration, result in zip(iterations, solved, strict=True):
        iteration.take(side, result)


class _Iteration:
    """One iteration of one model, from its state before to its state after."""

    def __init__(self, state: LoopState, backend: Backend) -> None:
        objective = state.spec.objective
        self._state = state
        self._objective = objective
        self._degrees: dict[Side, IntArray] = {side: backend.degrees(side) for side in SIDES}
        # n of the penalty.
        self._counts: dict[Side, IntArray] = {
            side: backend.degrees(side, positive=objective.implicit) for side in SIDES
        }
        self._began: AnyFactors = state.factors.items if state.proposed is None else state.proposed
        self._evaluations = state.evaluations
        self._solved: dict[Side, AnyFactors] = {}
        self._measured: dict[Side, Measures] = {}
        self._loss = math.nan
        self._accelerator: Accelerator | None = None
        if state.memory is not None:
            self._accelerator = Accelerator(
                self._masses("item"),
                objective.weights(self._counts["item"]),
                state.memory,
            )

    def half_step(self, side: Side) -> HalfStep:
        """Describe the half-step of a side."""
        users, items = self._state.factors
        if side == "user":
            return HalfStep(self._began, users, self._objective, self._degrees["item"])
        return HalfStep(self._solved["user"], items, self._objective, self._degrees["user"])

    def take(self, side: Side, solved: Solved) -> None:
        """Take the result of a half-step."""
        self._loss = solved.loss
        self._solved[side] = solved.factors
        self._measured[side] = solved.measures or self._measure(side, as_array(solved.factors))
        if side == "user":
            self._evaluations += 1

    def reject_if_risen(self) -> bool:
        """Go back to where plain ALS would have begun, if that was better; tell whether so."""
        state = self._state
        if self._accelerator is None or state.proposed is None:
            return False
        penalty = self._objective.penalty(as_array(self._began), self._counts["item"])
        if self._loss + penalty <= state.history[-1].objective:
            return False
        self._accelerator.forget()
        self._began = state.factors.items
        return True

    def end(self, options: TrainingOptions, seconds: float) -> LoopState:
        """Return the state after the items' half-step."""
        state, factors = self._state, HeldFactors(self._solved["user"], self._solved["item"])
        users, items = (self._measured[side] for side in SIDES)
        record = IterationRecord(
            state.spec.point,
            state.spec.rank,
            self._objective.reg,
            state.iterations + 1,
            self._loss + users.penalty,
            users.change + items.change,
            seconds,
            users.penalty + items.penalty,
        )
        previous = state.history[-1].change if state.history else math.inf
        converged = abs(previous - record.change) < options.tol
        stopped = converged or record.iteration >= options.max_iter
        proposed = memory = None
        if self._accelerator is not None and not stopped:
            # Of the entries, each row as much as its errors weigh.
            entries = float(self._masses("user").sum()) * factors.users.shape[1]
            mean_square = users.squares / max(entries, 1.0)
            reached = as_array(factors.items)
            proposed = self._accelerator.propose(as_array(self._began), reached, mean_square)
            proposed = None if proposed is reached else self._objective.feasible(proposed)
            memory = self._accelerator.memory
        return LoopState(
            state.spec,
            factors,
            proposed,
            memory,
            self._evaluations,
            converged,
            stopped,
            (*state.history, record),
        )

    def _measure(self, side: Side, factors: FloatArray) -> Measures:
        """Measure factors that are an array."""
        before = as_array(self._state.factors[SIDES.index(side)])
        squares = math.nan
        if self._accelerator is not None and side == "user":
            squares = float(row_dots(factors, factors) @ self._masses("user"))
        return Measures(
            frobenius_distance(factors, before),
            self._objective.penalty(factors, self._counts[side]),
            squares,
        )

    def _masses(self, side: Side) -> FloatArray:
        n_others = int(np.count_nonzero(self._degrees[other_side(side)]))
        return self._objective.masses(self._degrees[side], n_others)


def frobenius_distance(a: FloatArray, b: FloatArray) -> float:
    """Return ‖a − b‖_F, accumulated in float64."""
    total = 0.0
    # In slices, so that large factors need no float64 copy of their whole difference.
    for first in range(0, a.shape[0], 65536):
        part = slice(first, first + 65536)
        difference = np.subtract(a[part], b[part], dtype=np.float64).reshape(-1)
        total += float(difference @ difference)
    return math.sqrt(total)
