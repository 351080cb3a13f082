"""What a fit did, iteration by iteration, as a model tells it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from als_spark.train.state import LoopState


@dataclass(frozen=True, slots=True)
class ALSIteration:
    """One iteration: all users, then all items.

    Attributes
    ----------
    iteration : int
        From 1.
    objective : float
        What is minimised, penalty included, after the iteration.
    rmse : float
        Root mean squared error over the ratings of the fit, in rating units: √(Σ w e² / Σ w), w
        being the weights where there is a ``weightCol``, else 1. NaN with implicit preferences,
        which are not what the ratings are.
    change : float
        c_t = ‖U_t − U_(t−1)‖_F + ‖V_t − V_(t−1)‖_F, what ``tol`` is about.
    seconds : float
        From the beginning of the training to the end of the iteration.
    """

    iteration: int
    objective: float
    rmse: float
    change: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ALSTrainingSummary:
    """What the fit of a model did; a model that was loaded has none.

    Attributes
    ----------
    numRatings : int
        Ratings that were trained on.
    converged : bool
        Whether ``tol`` has ended the training.
    iterations : tuple of ALSIteration
        One an iteration, in this order; none with ``maxIter=0``.
    parameters : mapping
        What the estimator was told that decides what is fitted, by name.
    """

    numRatings: int
    converged: bool
    iterations: tuple[ALSIteration, ...]
    parameters: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        trained: LoopState,
        n_ratings: int,
        parameters: Mapping[str, Any],
        *,
        implicit: bool = False,
        weight: float | None = None,
    ) -> ALSTrainingSummary:
        """Read it from the history of a training; ``weight`` is that of all ratings, if not 1 each.

        The squared errors are what the objective has besides the penalty, so they cost no pass over
        the ratings; in 32-bit floats they are exact to some millionths of the squared ratings.
        """
        total = n_ratings if weight is None else weight
        return cls(
            n_ratings,
            trained.converged,
            tuple(
                ALSIteration(
                    record.iteration,
                    record.objective,
                    math.nan
                    if implicit
                    else math.sqrt(max(record.objective - record.penalty, 0.0) / total),
                    record.change,
                    record.seconds,
                )
                for record in trained.history
            ),
            parameters,
        )

    @property
    def totalIterations(self) -> int:
        """Iterations done."""
        return len(self.iterations)

    @property
    def objectiveHistory(self) -> list[float]:
        """Objective after each iteration."""
        return [entry.objective for entry in self.iterations]

    @property
    def objective(self) -> float:
        """Objective at the end; NaN without an iteration."""
        return self.iterations[-1].objective if self.iterations else math.nan

    @property
    def rmse(self) -> float:
        """Root mean squared error over the ratings of the fit at the end; NaN as there."""
        return self.iterations[-1].rmse if self.iterations else math.nan

    @property
    def seconds(self) -> float:
        """Seconds of the training, without reading and packing the ratings."""
        return self.iterations[-1].seconds if self.iterations else 0.0

    def __repr__(self) -> str:
        """Return one line."""
        rmse = "" if math.isnan(self.rmse) else f", rmse={self.rmse:.6g}"
        return (
            f"ALSTrainingSummary: iterations={self.totalIterations}, converged={self.converged}, "
            f"objective={self.objective:.6g}{rmse}, numRatings={self.numRatings}, "
            f"seconds={self.seconds:.3g}"
        )


class HasSummary:
    """What a model tells of its fit."""

    _summary: ALSTrainingSummary | None = None

    @property
    def hasSummary(self) -> bool:
        """Whether the model was fitted in this process, and so has a ``summary``."""
        return self._summary is not None

    @property
    def summary(self) -> ALSTrainingSummary:
        """What the fit did.

        Raises
        ------
        RuntimeError
            If the model was loaded: files have no summary.
        """
        if self._summary is None:
            raise RuntimeError(f"No training summary available for this {type(self).__name__}")
        return self._summary

    def _repr_html_(self) -> str:
        """Return what a notebook shows: sizes, parameters and the learning curve."""
        return show_model(self)


def show_model(model: Any) -> str:
    """Write an ``ALSModel`` as HTML: sizes, parameters and the learning curve."""
    # Where models predict, on executors, there is no Jinja2.
    from als_spark.report.pages.fitted import model_view

    users, items = model.side_ids
    facts: dict[str, Any] = {"users": len(users), "items": len(items), "rank": model.rank}
    parameters = {param.name: value for param, value in model.extractParamMap().items()}
    objectives: list[float] = []
    if model.hasSummary:
        summary: ALSTrainingSummary = model.summary
        facts |= {
            "ratings": summary.numRatings,
            "iterations": summary.totalIterations,
            "converged": summary.converged,
            "RMSE of the fit": summary.rmse,
            "seconds": summary.seconds,
        }
        # A seed is no quantity.
        parameters |= {**summary.parameters, "seed": str(summary.parameters["seed"])}
        objectives = summary.objectiveHistory
    return model_view(f"ALSModel {model.uid}", facts, parameters, objectives)
