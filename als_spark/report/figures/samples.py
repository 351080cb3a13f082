"""How the draws of a sampler settled: the convergence picture of ``sample``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from als_spark.report.figures.convergence import MAX_LEGEND_RANKS, rank_style
from als_spark.report.figures.curves import iteration_axis
from als_spark.report.figures.drawing import (
    INK,
    TICK_STEPS,
    Grid,
    best_note,
    legend_beside,
    new_figure,
    new_panels,
    pick_evenly,
    tidy,
    titled,
)
from als_spark.solve.objective import Objective
from als_spark.train.records import (
    DEFAULT_JUDGE,
    IterationRecord,
    Judge,
    ModelSpec,
    PointResult,
)
from als_spark.types import SplitName

__all__ = ["samples_figure", "sampling_figure"]

Drawn = Literal["noise", "rmse"]
_NAMES: tuple[Drawn, ...] = ("noise", "rmse")
_BURN_IN: dict[str, Any] = {"facecolor": "#EEEEEE", "linewidth": 0}


def samples_figure(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    *,
    burn_in: int,
    objective_note: str = "",
    judge: Judge = DEFAULT_JUDGE,
) -> Figure:
    """Draw the noise that each iteration has drawn, and the error of the mean, a line a rank.

    Parameters
    ----------
    points, best, selected_on, objective_note, judge
        As in :func:`als_spark.report.figures.sweep.sweep_figure`; the best point is drawn thicker.
    burn_in : int
        Iterations before those that count; their part is shaded.

    Returns
    -------
    Figure
        One axes, of the noise. Its y axis holds the draws that count and the last half of the
        burn-in: the first draws are far off. The legend has R-hat and effective sample size of each
        line. Where ratings are held out, a second axes below it: RMSE of the mean of the samples so
        far.

    Raises
    ------
    ValueError
        If there are no points.
    """
    note = best_note(points, best, selected_on, judge)
    chosen = None if best is None else points[best]
    return _drawn(points, chosen, burn_in, (note, objective_note))


def sampling_figure(record: Mapping[str, Any]) -> Figure:
    """Draw how one training went: the panels of :func:`samples_figure`.

    Parameters
    ----------
    record : mapping
        Of the training, as the record of a run has it in JSON: ``rank``, ``samples`` with
        ``burn_in``, ``noise`` and ``rmse``, and ``learnt`` with ``r_hat`` and
        ``effective_samples``.
    """
    own, rank, found = record["samples"], int(record["rank"]), record["learnt"]
    errors = dict(own["rmse"])
    history = [
        IterationRecord(
            *(0, rank, None, k, math.nan, math.nan, math.nan),
            noise=math.nan if noise is None else noise,
            rmse=errors.get(k, math.nan),
        )
        for k, noise in enumerate(own["noise"], 1)
    ]
    learnt = {
        name: math.nan if found[name] is None else found[name]
        for name in ("r_hat", "effective_samples")
    }
    n = len(history)
    point = PointResult(
        *(ModelSpec(0, rank, Objective(0.0)), n, n, False, math.nan, math.nan, {}, history),
        learnt=learnt,
    )
    return _drawn([point], point, int(own["burn_in"]), (f"{n} iterations", ""))


def _drawn(
    points: Sequence[PointResult],
    chosen: PointResult | None,
    burn_in: int,
    notes: tuple[str, str],
) -> Figure:
    grid = Grid.of(points)
    measured = any(math.isfinite(record.rmse) for point in points for record in point.history)
    figure = new_figure(9.6, 7.6 if measured else 4.6)
    title = "Noise of every draw, and error of their mean" if measured else "Noise of every draw"
    body = titled(figure, title, *notes)
    panels = new_panels(body, 2 if measured else 1, 1, 2 if measured else 1)
    for panel, name in zip(panels, _NAMES, strict=False):
        _draw(panel, grid, chosen, burn_in, name)
    panels[0].set_ylabel("standard deviation of the noise\n(rating units)", fontsize=10, color=INK)
    if measured:
        label = "held-out RMSE of the mean\nof the samples so far"
        panels[1].set_ylabel(label, fontsize=10, color=INK)
    named = pick_evenly(grid.ranks, MAX_LEGEND_RANKS)
    handles: list[Line2D | Patch] = [_line(grid, point) for point in points if point.rank in named]
    if burn_in:
        handles.append(Patch(**_BURN_IN, label="burn-in: not counted"))
    legend_beside(panels[0], handles, fontsize=10, labelspacing=0.9)
    return figure


def _draw(
    panel: Axes,
    grid: Grid,
    chosen: PointResult | None,
    burn_in: int,
    name: Drawn,
) -> None:
    """Draw a line a rank, on an axis that holds all but the first half of the burn-in."""
    tidy(panel)
    iteration_axis(panel, [len(point.history) for point in grid.at.values()])
    if burn_in:
        panel.axvspan(panel.get_xlim()[0], burn_in + 0.5, **_BURN_IN, zorder=0.5)
    settled: list[float] = []
    for (rank, _), point in grid.at.items():
        pairs = [(record.iteration, getattr(record, name)) for record in point.history]
        known = [(iteration, value) for iteration, value in pairs if math.isfinite(value)]
        settled += [value for iteration, value in known if iteration > burn_in // 2]
        width = 2.2 if point is chosen else 1.2
        style = {**rank_style(grid, rank), "linestyle": "-", "linewidth": width}
        panel.plot([k for k, _ in known], [value for _, value in known], **style)
    if settled:
        low, high = min(settled), max(settled)
        margin = 0.1 * (high - low) or 0.05 * high
        panel.set_ylim(low - margin, high + margin)
    panel.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=TICK_STEPS))
    panel.set_xlabel("iteration", fontsize=11, color=INK)


def _line(grid: Grid, point: PointResult) -> Line2D:
    """Make the entry of a rank in the legend."""
    learnt = point.learnt or {}
    facts = [
        f"{words} {learnt[name]:{form}}"
        for name, words, form in (
            ("r_hat", "R-hat", ".3f"),
            ("effective_samples", "effective draws", ".0f"),
        )
        if math.isfinite(learnt.get(name, math.nan))
    ]
    style = {**rank_style(grid, point.rank), "linestyle": "-", "linewidth": 2.0}
    style["label"] = "\n".join([f"d = {point.rank}", *facts])
    return Line2D([], [], **style)
