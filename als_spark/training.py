"""The alternating least squares loop: start, alternation, stopping, history.

The objective, with Ω the observed (user, item) pairs and n the number of training ratings of a row,

    Σ_Ω (r_ui − u_u·v_i)² + λ (Σ_u n_u^ν |u_u|² + Σ_i n_i^ν |v_i|²)

is minimised over all users with the items fixed, then over all items with the users fixed. ν is the
*frequency exponent* of the regulariser (Rendle et al. 2022, "Revisiting the Performance of iALS on
Item Recommendation Benchmarks"): 0 is the plain λI of the source notebook, 1 is ALS-WR (Zhou et al.
2008, "Large-scale Parallel Collaborative Filtering for the Netflix Prize"), which is what Spark
MLlib minimises. A row without a training rating keeps its start and is in no sum.

Stopping: with c_t = ‖U_t − U_(t−1)‖_F + ‖V_t − V_(t−1)‖_F and c_0 = ∞, at the first t with |c_(t−1)
− c_t| < tol.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from als_spark.backend import Backend, Factors, HalfStep
from als_spark.blocks import FloatArray, IntArray, Side
from als_spark.errors import ConfigError
from als_spark.results import IterationRecord

DType = Literal["float32", "float64"]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model to train.

    Attributes
    ----------
    point : int
        Its position in the grid.
    rank : int
        Number of factors d.
    reg : float
        λ; the objective it belongs to is set by ``TrainingOptions.exponent``.
    """

    point: int
    rank: int
    reg: float


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What all models of a run share.

    Attributes
    ----------
    exponent : float
        Frequency exponent ν: a row of n ratings has the ridge λ n^ν.
    tol : float
        Tolerance of the stopping rule.
    max_iter : int
        Cap on the iterations; a model that it stops is reported as not converged.
    seed : int
        Of the start.
    dtype : {"float32", "float64"}
        Of the factors and of the systems.
    """

    exponent: float = 0.0
    tol: float = 1e-3
    max_iter: int = 1000
    seed: int = 0
    dtype: DType = "float32"


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model as the loop leaves it."""

    spec: ModelSpec
    factors: Factors
    iterations: int
    converged: bool
    objective: float
    seconds: float
    history: Sequence[IterationRecord] = field(repr=False)


OnIteration = Callable[[IterationRecord], None]
OnFinished = Callable[[Sequence[TrainedModel]], None]


def initial_factors(n_users: int, n_items: int, rank: int, seed: int) -> Factors:
    """Draw the start: uniform on [0, 1), float64.

    Row k of a side depends on the seed, the side, the rank and k alone, so nothing depends on how
    the ratings lie.

    Parameters
    ----------
    n_users, n_items, rank : int
        Shape of the factors.
    seed : int
        Any non-negative integer.
    """
    users, items = (
        np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, side]))).random(
            (n, rank)
        )
        for side, n in enumerate((n_users, n_items))
    )
    return Factors(users, items)


def train_models(
    backend: Backend,
    specs: Sequence[ModelSpec],
    options: TrainingOptions,
    *,
    starts: Sequence[Factors] | None = None,
    on_iteration: OnIteration | None = None,
    on_finished: OnFinished | None = None,
) -> list[TrainedModel]:
    """Train several models side by side until the stopping rule, or the cap, has ended each.

    Every half-step carries all models that are still running; a model that has stopped drops out.

    Parameters
    ----------
    backend : Backend
        Where the ratings are.
    specs : sequence of ModelSpec
        The models.
    options : TrainingOptions
        What they share.
    starts : sequence of Factors, optional
        Starting factors, one a model, (n_users, rank) and (n_items, rank); drawn by
        :func:`initial_factors` if not given.
    on_iteration : callable, optional
        Called with each :class:`~als_spark.results.IterationRecord`.
    on_finished : callable, optional
        Called with the models that stop, once an iteration in which any does. The list that is
        returned keeps them all; a caller that wants to free memory passes one spec at a time.

    Returns
    -------
    list of TrainedModel
        In the order of ``specs``.

    Raises
    ------
    ConfigError
        If a start has the wrong shape, or there is not one for each model.
    SolveError
        If a row's system has no finite solution.
    """
    if starts is not None and len(starts) != len(specs):
        raise ConfigError(
            f"{len(starts)} starts given for {len(specs)} models: give one for each model"
        )
    began = time.perf_counter()
    degrees = {"user": backend.degrees("user"), "item": backend.degrees("item")}
    sizes = (degrees["user"].size, degrees["item"].size)
    running = [
        _Run(spec, _start(spec, sizes, options, starts[k] if starts is not None else None))
        for k, spec in enumerate(specs)
    ]
    everyone = list(running)
    iteration = 0
    while running:
        iteration += 1
        losses = [math.nan] * len(running)
        changes = [0.0] * len(running)
        for side in ("user", "item"):
            steps = [run.half_step(side, options.exponent) for run in running]
            label = f"ALS iteration {iteration}: {side}s" + _models(len(running))
            for k, solved in enumerate(backend.solve(side, steps, label)):
                changes[k] += frobenius_distance(solved.factors, steps[k].current)
                losses[k] = solved.loss
                running[k].factors[side] = solved.factors
        seconds = time.perf_counter() - began
        finished = []
        for run, loss, change in zip(running, losses, changes, strict=True):
            objective = loss + ridge_term(
                run.factors["user"], degrees["user"], run.spec.reg, options.exponent
            )
            spec = run.spec
            record = IterationRecord(
                spec.point, spec.rank, spec.reg, iteration, objective, change, seconds
            )
            if on_iteration is not None:
                on_iteration(record)
            if run.advance(record, options):
                finished.append(run)
        if finished and on_finished is not None:
            on_finished([run.result() for run in finished])
        running = [run for run in running if not run.stopped]
    return [run.result() for run in everyone]


def frobenius_distance(a: FloatArray, b: FloatArray) -> float:
    """Return ‖a − b‖_F, accumulated in float64."""
    total = 0.0
    # In slices, so that large factors need no float64 copy of their whole difference.
    for first in range(0, a.shape[0], 65536):
        part = slice(first, first + 65536)
        difference = np.subtract(a[part], b[part], dtype=np.float64).reshape(-1)
        total += float(difference @ difference)
    return math.sqrt(total)


def ridge_term(factors: FloatArray, degrees: IntArray, reg: float, exponent: float) -> float:
    """λ Σ n^ν |x|² over the rows with a training rating, in float64."""
    squares = np.einsum("nd,nd->n", factors, factors, dtype=np.float64)
    weights = np.zeros(degrees.size)
    rated = degrees > 0
    weights[rated] = degrees[rated].astype(np.float64) ** exponent
    return reg * float(weights @ squares)


class _Run:
    """The state of one model in the loop."""

    def __init__(self, spec: ModelSpec, start: Factors) -> None:
        self.spec = spec
        self.factors: dict[Side, FloatArray] = {"user": start.users, "item": start.items}
        self.history: list[IterationRecord] = []
        self.stopped = False
        self.converged = False

    def half_step(self, side: Side, exponent: float) -> HalfStep:
        other: Side = "item" if side == "user" else "user"
        return HalfStep(self.factors[other], self.factors[side], self.spec.reg, exponent)

    def advance(self, record: IterationRecord, options: TrainingOptions) -> bool:
        """Note an iteration and tell whether it was the last."""
        previous = self.history[-1].change if self.history else math.inf
        self.history.append(record)
        self.converged = abs(previous - record.change) < options.tol
        self.stopped = self.converged or record.iteration >= options.max_iter
        return self.stopped

    def result(self) -> TrainedModel:
        last = self.history[-1]
        return TrainedModel(
            self.spec,
            Factors(self.factors["user"], self.factors["item"]),
            last.iteration,
            self.converged,
            last.objective,
            last.seconds,
            tuple(self.history),
        )


def _start(
    spec: ModelSpec, sizes: tuple[int, int], options: TrainingOptions, given: Factors | None
) -> Factors:
    start = given if given is not None else initial_factors(*sizes, spec.rank, options.seed)
    expected = ((sizes[0], spec.rank), (sizes[1], spec.rank))
    if (start.users.shape, start.items.shape) != expected:
        raise ConfigError(
            f"starting factors of shapes {start.users.shape} and {start.items.shape} given, "
            f"{expected[0]} and {expected[1]} needed: one row for each user and each item"
        )
    return Factors(*(side.astype(options.dtype) for side in start))


def _models(n: int) -> str:
    return "" if n == 1 else f", {n} models"
