"""One picture: how one training went, or two of the same ratings, from start to stop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from als_spark.report.figures.curves import (
    draw_curve,
    end_markers,
    iteration_axis,
    log_axes,
    log_limits,
)
from als_spark.report.figures.drawing import (
    COLOURS,
    INK,
    Scale,
    legend_below,
    new_figure,
    new_panels,
    tidy,
    titled,
)
from als_spark.train.records import IterationRecord

__all__ = ["Start", "Training", "learning_figure", "training_of"]

Start = Literal["warm", "cold"]

_DASHES: dict[Start, Any] = {"warm": "-", "cold": (0, (5, 1.5))}


@dataclass(frozen=True, slots=True)
class Training:
    """A training to draw.

    Attributes
    ----------
    label : str
        Which one, for the legend: ``challenger``. May be empty.
    start : {"warm", "cold"}
        From the factors of an earlier model, or from random ones.
    history : sequence of IterationRecord
        One record an iteration.
    converged : bool
        Whether the stopping rule ended it (False: the cap on iterations did).
    """

    label: str
    start: Start
    history: Sequence[IterationRecord]
    converged: bool

    @property
    def name(self) -> str:
        """What the legend calls it."""
        return f"{self.label} ({self.start} start)" if self.label else f"{self.start} start"


def training_of(record: Mapping[str, Any], label: str = "") -> Training:
    """Read a training from the JSON record of a retraining.

    Parameters
    ----------
    record : mapping
        ``start``, ``rank``, ``lambda_reg``, ``converged``, and ``history``: a list of iteration,
        objective and change (null where it was not finite) for each iteration.
    label : str
        See :class:`Training`.
    """
    rank, reg = record.get("rank") or 0, record.get("lambda_reg") or 0.0
    history = [
        IterationRecord(0, rank, reg, iteration, _number(objective), _number(change), math.nan)
        for iteration, objective, change in record.get("history") or ()
    ]
    start: Start = "warm" if record.get("start") == "warm" else "cold"
    return Training(label, start, history, bool(record.get("converged")))


def learning_figure(trainings: Sequence[Training], *, objective_note: str = "") -> Figure:
    """Draw objective and change of the factors against the iteration.

    Parameters
    ----------
    trainings : sequence of Training
        One, or more to compare. Objectives compare only if they are over the same ratings.
    objective_note : str
        Which objective λ belongs to, in plain words; stands under the title.

    Returns
    -------
    Figure
        Two axes: the objective, and the change ``c_t = ‖U_t - U_(t-1)‖_F + ‖V_t - V_(t-1)‖_F`` on a
        logarithmic scale. A warm start is a full line, a cold one is dashed. Where a line ends, a
        dot means the stopping rule, a cross the iteration cap. Values that are not finite, and
        changes of zero, are left out.

    Raises
    ------
    ValueError
        If there is no training.
    """
    if not trainings:
        raise ValueError("no training to draw")
    figure = new_figure(9.0, 3.9)
    counts = (f"{training.name}: {_iterations(training)}" for training in trainings)
    body = titled(figure, "How training went", "; ".join(counts), objective_note)
    left, right = new_panels(body, 1, 2, 2)
    lengths = [len(training.history) for training in trainings]
    objectives = [
        [(r.iteration, r.objective) for r in training.history if math.isfinite(r.objective)]
        for training in trainings
    ]
    changes = [
        [(r.iteration, r.change) for r in training.history if 0 < r.change < math.inf]
        for training in trainings
    ]
    values = [value for curve in objectives for _, value in curve]
    tidy(left)
    scale = Scale.fitted(values, values)
    scale.apply(left)
    iteration_axis(left, lengths)
    log_axes(right, log_limits([value for curve in changes for _, value in curve]), lengths)
    handles = []
    for place, training in enumerate(trainings):
        style = _style(place, training)
        handles.append(Line2D([], [], **style))
        for panel, curve in ((left, objectives[place]), (right, changes[place])):
            split = [iteration for iteration, _ in curve], [value for _, value in curve]
            draw_curve(panel, split, style, converged=training.converged)
    left.set_ylabel("objective\n(squared errors + ridge)" + scale.note, fontsize=10, color=INK)
    right.set_ylabel("change of the factors c(t)", fontsize=10, color=INK)
    for panel in (left, right):
        panel.set_xlabel("iteration", fontsize=10.5, color=INK)
    handles += end_markers(training.converged for training in trainings)
    legend_below(figure, handles)
    return figure


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _iterations(training: Training) -> str:
    count = len(training.history)
    return f"{count} iteration{'' if count == 1 else 's'}"


def _style(place: int, training: Training) -> dict[str, Any]:
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": _DASHES[training.start],
        "linewidth": 2.0,
        "label": training.name,
    }
