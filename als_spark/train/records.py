"""What is to be trained, and what training leaves: iterations, errors, results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from als_spark.errors import ConfigError
from als_spark.solve.objective import Objective
from als_spark.types import DType, SplitName

Measure = Literal["mse", "rmse", "mae", "ndcg", "recall", "precision", "map"]
"""What the best point of a grid may be chosen by."""
RANKING_MEASURES: tuple[Measure, ...] = ("ndcg", "recall", "precision", "map")
"""Of these the largest is best; the others are errors."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model to train.

    Attributes
    ----------
    point : int
        Its position in the grid.
    rank : int
        Number of factors d.
    objective : Objective
        What its factors minimise.
    """

    point: int
    rank: int
    objective: Objective


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How a model is trained; most runs have the same for all models.

    Attributes
    ----------
    tol : float
        Tolerance of the stopping rule (see :mod:`als_spark.train.loop`).
    max_iter : int
        Cap on the iterations; a model that it stops is reported as not converged. 0: the start.
    seed : int
        Of the start.
    dtype : {"float32", "float64"}
        Of the factors and of the systems.
    accelerate : bool
        Whether iterations begin at extrapolated item factors (see
        :mod:`als_spark.train.acceleration`).
    """

    tol: float = 1e-3
    max_iter: int = 1000
    seed: int = 0
    dtype: DType = "float32"
    accelerate: bool = False


Options = TrainingOptions | Sequence[TrainingOptions]
"""The options of all models of a run, or of each of them."""


def options_of_each(options: Options, n_models: int) -> list[TrainingOptions]:
    """Return the options of each model.

    Raises
    ------
    ConfigError
        If there are several, but not one for each model.
    """
    if isinstance(options, TrainingOptions):
        return [options] * n_models
    if len(options) != n_models:
        raise ConfigError(
            f"{len(options)} options given for {n_models} models: give one for each model"
        )
    return list(options)


@dataclass(frozen=True, slots=True)
class IterationRecord:
    """What one iteration (all users, then all items) of one model did.

    One record feeds log, progress bar, callback, history and plots. ``iteration`` counts from 1;
    ``objective`` has the squared training errors plus the penalty; ``change`` is c_t = ‖U_t −
    U_(t−1)‖_F + ‖V_t − V_(t−1)‖_F; ``seconds`` count from the beginning of the model's training;
    ``penalty`` is that of both sides' factors, NaN where a file of an earlier version lacks it.

    Of a method that learns its prior (see :mod:`als_spark.train.bayes`) ``reg`` is None and
    ``noise`` the standard deviation of the noise; ``objective`` is minus the bound, ``change`` the
    share by which it grew, and NaN or ∞ where there is none. A ridge towards a mean has a λ, no
    noise, and such a change. ``rmse`` is that of the held-out ratings (the validation ones where
    there are some), where it was measured: of ``sample``, predicted by the mean of the samples so
    far, some ten times. NaN elsewhere.
    """

    point: int
    rank: int
    reg: float | None
    iteration: int
    objective: float
    change: float
    seconds: float
    penalty: float = math.nan
    noise: float = math.nan
    rmse: float = math.nan


@dataclass(frozen=True, slots=True)
class ErrorMeans:
    """Mean errors over one part of the ratings; NaN where the part is empty.

    ``mse`` and ``mae`` are in squared and plain rating units, over ``count`` ratings; ``cold`` ones
    among the part have a user or an item without a training rating.
    """

    mse: float
    mae: float
    count: int
    cold: int = 0

    @property
    def rmse(self) -> float:
        """Root mean squared error, in rating units."""
        return math.sqrt(self.mse) if self.mse >= 0 else math.nan

    def as_record(self) -> dict[str, float | int | None]:
        """Return the JSON record; an error that is not finite is null."""
        errors = {name: _finite(getattr(self, name)) for name in ("mse", "mae", "rmse")}
        return {**errors, "count": self.count, "cold": self.cold}


@dataclass(frozen=True, slots=True)
class RankingMeans:
    """Ranking measures over one part of the ratings: see :mod:`als_spark.train.ranking`.

    ``ndcg``, ``recall``, ``precision`` and ``map`` are means over ``users`` users at k = ``top``,
    NaN for a model that is not finite; held-out ratings from ``relevant_from`` on are relevant.
    ``coverage`` is the share of the items with training ratings that anybody is recommended.
    """

    ndcg: float
    recall: float
    precision: float
    map: float
    coverage: float
    users: int
    top: int
    relevant_from: float

    def as_record(self) -> dict[str, Any]:
        """Return the JSON record; a measure that is not finite is null."""
        return {name: _finite(getattr(self, name)) for name in RANKING_MEASURES} | {
            "coverage": _finite(self.coverage),
            "users": self.users,
        }


@dataclass(frozen=True, slots=True)
class Judge:
    """The measure that the best point is chosen by.

    ``top`` is k of a ranking measure. Of errors the smallest is best, of the others the largest.
    """

    measure: Measure = "mse"
    top: int = 10

    @property
    def is_ranking(self) -> bool:
        """Whether it is a ranking measure, of which the largest is best."""
        return self.measure in RANKING_MEASURES

    @property
    def label(self) -> str:
        """Name the measure for a person: ``MSE``, ``NDCG@10``."""
        if self.measure in ("recall", "precision"):
            return f"{self.measure}@{self.top}"
        name = self.measure.upper()
        return f"{name}@{self.top}" if self.is_ranking else name

    @property
    def kind(self) -> str:
        """Name the kind of number that it is: ``error``, or a ranking measure by its label."""
        return self.label if self.is_ranking else "error"

    def aim(self, split: SplitName) -> str:
        """Say what is looked for on a part of the ratings: ``smallest test MSE``."""
        return f"{'largest' if self.is_ranking else 'smallest'} {split} {self.label}"

    def value(self, point: PointResult, split: SplitName) -> float:
        """Return the measure of a point; NaN where there is none."""
        means = point.rankings.get(split) if self.is_ranking else point.errors.get(split)
        return math.nan if means is None else float(getattr(means, self.measure))


DEFAULT_JUDGE = Judge()


@dataclass(frozen=True, slots=True)
class PointResult:
    """A trained point of the grid, with its errors and its history.

    Attributes
    ----------
    spec : ModelSpec
        The point: its rank d and its objective, with λ.
    iterations, evaluations, converged, objective, seconds, history
        As in :class:`als_spark.train.state.LoopState`, at the end of the training. ``converged`` is
        False of samples, which no rule ends: see :attr:`ended_by_rule`.
    errors : mapping of split name to ErrorMeans
        ``train`` and, where the split has them, ``validation`` and ``test``.
    rankings : mapping of split name to RankingMeans
        Of the held-out parts, where they were asked for.
    learnt : mapping of str to float, optional
        What a method has learnt in place of λ: ``noise_deviation``, and of samples ``r_hat`` and
        ``effective_samples``; None: λ was given.
    """

    spec: ModelSpec
    iterations: int
    evaluations: int
    converged: bool
    objective: float
    seconds: float
    errors: Mapping[SplitName, ErrorMeans]
    history: Sequence[IterationRecord] = field(default=(), repr=False)
    rankings: Mapping[SplitName, RankingMeans] = field(default_factory=dict)
    learnt: Mapping[str, float] | None = None

    @property
    def rank(self) -> int:
        """Number of factors d."""
        return self.spec.rank

    @property
    def reg(self) -> float | None:
        """λ of the point's objective; None where it was learnt."""
        return self.spec.objective.reg if self.learnt is None else None

    @property
    def ended_by_rule(self) -> bool | None:
        """Whether the stopping rule has ended the training; None of samples: all were drawn."""
        return None if "r_hat" in (self.learnt or {}) else self.converged

    @property
    def place(self) -> str:
        """Where the point is in the grid, for a person: ``d = 8, λ = 2``, or ``d = 8``."""
        return f"d = {self.rank}" + ("" if self.reg is None else f", λ = {self.reg:g}")

    def as_record(self, *, best: bool = False) -> dict[str, Any]:
        """Return the flat JSON record of ``results.json``; a mean over no rating is null."""
        record: dict[str, Any] = {"d": self.rank, "lambda_reg": self.reg}
        for name, prefix in (("train", "train"), ("validation", "val"), ("test", "test")):
            means = self.errors.get(name)  # type: ignore[call-overload]
            if means is None:
                if name != "test":
                    continue
                # Readers of results.json rely on these keys.
                means = ErrorMeans(math.nan, math.nan, 0)
            record[f"{prefix}_mse"] = _finite(means.mse)
            record[f"{prefix}_mae"] = _finite(means.mae)
            record[f"{prefix}_rmse"] = _finite(means.rmse)
            if name != "train":
                record[f"n_{prefix}"] = means.count
                record[f"n_{prefix}_cold"] = means.cold
            if name in self.rankings:
                measures = self.rankings[name].as_record()  # type: ignore[index]
                record[f"n_{prefix}_users"] = measures.pop("users")
                record |= {f"{prefix}_{measure}": value for measure, value in measures.items()}
        record.update(
            iterations=self.iterations,
            evaluations=self.evaluations,
            converged=self.ended_by_rule,
            objective=_finite(self.objective),
            seconds=round(self.seconds, 3),
            best=best,
        )
        for name, value in (self.learnt or {}).items():
            record[name] = _finite(value)
        return record


def best_point(
    points: Sequence[PointResult], selected_on: SplitName, judge: Judge = DEFAULT_JUDGE
) -> int:
    """Position of the point that the judge finds best on ``selected_on``.

    Ties go to the smaller rank, then to the larger λ: the simpler model. Points without a finite
    measure are passed over; ValueError if that leaves none.
    """
    sign = -1 if judge.is_ranking else 1
    candidates = [
        (sign * value, point.rank, -(point.reg or 0.0), position)
        for position, point in enumerate(points)
        if math.isfinite(value := judge.value(point, selected_on))
    ]
    if not candidates:
        raise ValueError(f"no point has a finite {selected_on} {judge.kind} to choose by")
    return min(candidates)[-1]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
