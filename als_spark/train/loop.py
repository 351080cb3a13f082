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

With acceleration an iteration begins at item factors that :mod:`als_spark.train.acceleration`
proposes, instead of those that the last one ended with. The objective never rises: where it would,
the users are solved once more, against the latter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from als_spark.errors import ConfigError
from als_spark.solve.rows import ridge_weights, row_dots
from als_spark.train.acceleration import Accelerator, history_length
from als_spark.train.backend import Backend, Factors, HalfStep, Solved
from als_spark.train.records import IterationRecord
from als_spark.types import DType, FloatArray, IntArray, Side


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
    accelerate : bool
        Whether iterations begin at extrapolated item factors (see
        :mod:`als_spark.train.acceleration`).
    """

    exponent: float = 0.0
    tol: float = 1e-3
    max_iter: int = 1000
    seed: int = 0
    dtype: DType = "float32"
    accelerate: bool = False


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model as the loop leaves it.

    ``evaluations`` counts the half-steps of the users: one an iteration, and one more for each
    accelerated step that was not taken.
    """

    spec: ModelSpec
    factors: Factors
    iterations: int
    evaluations: int
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
        Called with each :class:`~als_spark.train.records.IterationRecord`.
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
    degrees: dict[Side, IntArray] = {
        "user": backend.degrees("user"),
        "item": backend.degrees("item"),
    }
    sizes = (degrees["user"].size, degrees["item"].size)
    history = history_length(
        sizes[1], [spec.rank for spec in specs], np.dtype(options.dtype).itemsize
    )
    running = [
        _Run(
            spec,
            _start(spec, sizes, options, starts[k] if starts is not None else None),
            degrees,
            options,
            history,
        )
        for k, spec in enumerate(specs)
    ]
    everyone = list(running)
    iteration = 0
    while running:
        iteration += 1
        label = f"ALS iteration {iteration}: "
        _half_step(backend, "user", running, label)
        risen = [run for run in running if run.reject_if_risen()]
        if risen:
            _half_step(backend, "user", risen, f"{label}plain step instead, ")
        _half_step(backend, "item", running, label)
        seconds = time.perf_counter() - began
        finished = []
        for run in running:
            record = run.record(iteration, seconds)
            if on_iteration is not None:
                on_iteration(record)
            if run.advance(record):
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
    return float(ridge_weights(degrees, reg, exponent) @ row_dots(factors, factors))


def _half_step(backend: Backend, side: Side, runs: Sequence[_Run], label: str) -> None:
    steps = [run.half_step(side) for run in runs]
    solved = backend.solve(side, steps, f"{label}{side}s{_models(len(runs))}")
    for run, result in zip(runs, solved, strict=True):
        run.take(side, result)


class _Run:
    """The state of one model in the loop.

    ``factors`` are those that the last half-step of each side has given; ``began`` are the item
    factors at which the iteration began, the same as ``factors["item"]`` unless accelerated.
    """

    def __init__(
        self,
        spec: ModelSpec,
        start: Factors,
        degrees: Mapping[Side, IntArray],
        options: TrainingOptions,
        history: int,
    ) -> None:
        self.spec = spec
        self.factors: dict[Side, FloatArray] = {"user": start.users, "item": start.items}
        self.history: list[IterationRecord] = []
        self.evaluations = 0
        self.stopped = False
        self.converged = False
        self._degrees = degrees
        self._options = options
        self._began = start.items
        # The users before this iteration: a step that is not taken is measured from them again.
        self._users_before = start.users
        self._changes: dict[Side, float] = {"user": math.nan, "item": math.nan}
        self._loss = math.nan
        self._accelerator: Accelerator | None = None
        if options.accelerate:
            self._accelerator = Accelerator(degrees["item"], spec.reg, options.exponent, history)

    def half_step(self, side: Side) -> HalfStep:
        if side == "user":
            return HalfStep(self._began, self._users_before, self.spec.reg, self._options.exponent)
        return HalfStep(
            self.factors["user"], self.factors["item"], self.spec.reg, self._options.exponent
        )

    def take(self, side: Side, solved: Solved) -> None:
        """Take the result of a half-step."""
        before = self._users_before if side == "user" else self.factors["item"]
        self._changes[side] = frobenius_distance(solved.factors, before)
        self._loss = solved.loss
        self.factors[side] = solved.factors
        if side == "user":
            self.evaluations += 1

    def reject_if_risen(self) -> bool:
        """Go back to where plain ALS would have begun, if that was better; tell whether so."""
        if self._accelerator is None or self._began is self.factors["item"]:
            return False
        if self._loss + self._ridge("item", self._began) <= self.history[-1].objective:
            return False
        self._accelerator.forget()
        self._began = self.factors["item"]
        return True

    def record(self, iteration: int, seconds: float) -> IterationRecord:
        """Describe the iteration that the items' half-step has ended."""
        return IterationRecord(
            self.spec.point,
            self.spec.rank,
            self.spec.reg,
            iteration,
            self._loss + self._ridge("user", self.factors["user"]),
            self._changes["user"] + self._changes["item"],
            seconds,
        )

    def advance(self, record: IterationRecord) -> bool:
        """Note an iteration and tell whether it was the last."""
        previous = self.history[-1].change if self.history else math.inf
        self.history.append(record)
        self.converged = abs(previous - record.change) < self._options.tol
        self.stopped = self.converged or record.iteration >= self._options.max_iter
        self._users_before = self.factors["user"]
        if self._accelerator is None or self.stopped:
            self._began = self.factors["item"]
        else:
            self._began = self._accelerator.propose(
                self._began,
                self.factors["item"],
                _mean_square(self.factors["user"], self._degrees["user"]),
            )
        return self.stopped

    def result(self) -> TrainedModel:
        last = self.history[-1]
        return TrainedModel(
            self.spec,
            Factors(self.factors["user"], self.factors["item"]),
            last.iteration,
            self.evaluations,
            self.converged,
            last.objective,
            last.seconds,
            tuple(self.history),
        )

    def _ridge(self, side: Side, factors: FloatArray) -> float:
        return ridge_term(factors, self._degrees[side], self.spec.reg, self._options.exponent)


def _mean_square(factors: FloatArray, degrees: IntArray) -> float:
    """Mean square of the entries, each row counted as often as it has ratings."""
    counts = degrees.astype(np.float64)
    entries = float(counts.sum()) * int(factors.shape[1])
    squares = float(row_dots(factors, factors) @ counts)
    return squares / max(entries, 1.0)


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
