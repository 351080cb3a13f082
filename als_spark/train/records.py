"""Records of a run: one per iteration, one per trained grid point.

One :class:`IterationRecord` feeds the log, the progress bar, the callback, the history and the
plots, so that they can never disagree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from als_spark.types import SplitName


@dataclass(frozen=True, slots=True)
class IterationRecord:
    """What one iteration (all users, then all items) of one model did.

    Attributes
    ----------
    point : int
        Position of the model in the grid.
    rank, reg : int, float
        The model's d and λ.
    iteration : int
        1 for the first iteration.
    objective : float
        Squared training errors plus ridge term after the iteration (see
        :mod:`als_spark.train.loop`).
    change : float
        c_t = ‖U_t − U_(t−1)‖_F + ‖V_t − V_(t−1)‖_F.
    seconds : float
        Seconds since the training of this model began.
    """

    point: int
    rank: int
    reg: float
    iteration: int
    objective: float
    change: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ErrorMeans:
    """Mean errors over one part of the ratings; NaN where the part is empty.

    Attributes
    ----------
    mse, mae : float
        Mean squared and mean absolute error, in squared and plain rating units.
    count : int
        Ratings that the means are over.
    cold : int
        Ratings among the part whose user or item has no training rating.
    """

    mse: float
    mae: float
    count: int
    cold: int = 0

    @property
    def rmse(self) -> float:
        """Root mean squared error, in rating units."""
        return math.sqrt(self.mse) if self.mse >= 0 else math.nan


@dataclass(frozen=True, slots=True)
class PointResult:
    """A trained point of the grid, with its errors and its history.

    Attributes
    ----------
    rank, reg : int, float
        The point: d and λ (of the objective that the run's frequency exponent selects).
    iterations : int
        Iterations done.
    evaluations : int
        Half-steps of the users: one an iteration, and one for each accelerated step not taken.
    converged : bool
        Whether the stopping rule ended the training (False: the cap did).
    objective : float
        Objective at the end.
    seconds : float
        Wall time of this model's training; models that share Spark jobs share the time.
    errors : mapping of split name to ErrorMeans
        ``train`` and, where the split has them, ``validation`` and ``test``.
    history : sequence of IterationRecord
        One record an iteration.
    """

    rank: int
    reg: float
    iterations: int
    evaluations: int
    converged: bool
    objective: float
    seconds: float
    errors: Mapping[SplitName, ErrorMeans]
    history: Sequence[IterationRecord] = field(default=(), repr=False)

    def selection_error(self, selected_on: SplitName) -> float:
        """Mean squared error on the part that the best point is chosen on."""
        return self.errors[selected_on].mse

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
        record.update(
            iterations=self.iterations,
            evaluations=self.evaluations,
            converged=self.converged,
            objective=_finite(self.objective),
            seconds=round(self.seconds, 3),
            best=best,
        )
        return record


def best_point(points: Sequence[PointResult], selected_on: SplitName) -> int:
    """Position of the point with the smallest mean squared error on ``selected_on``.

    Ties go to the smaller rank, then to the larger λ: the simpler model. Points without a finite
    error are passed over.

    Raises
    ------
    ValueError
        If no point has a finite error.
    """
    candidates = [
        (point.selection_error(selected_on), point.rank, -point.reg, position)
        for position, point in enumerate(points)
        if math.isfinite(point.selection_error(selected_on))
    ]
    if not candidates:
        raise ValueError(f"no point has a finite {selected_on} error to choose by")
    return min(candidates)[-1]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
