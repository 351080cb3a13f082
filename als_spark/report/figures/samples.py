"""How the draws of a sampler settled: the convergence picture of a sweep by ``sample``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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
from als_spark.train.records import DEFAULT_JUDGE, Judge, PointResult
from als_spark.types import SplitName

__all__ = ["samples_figure"]

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
    """Draw the noise that each iteration has drawn, a line a rank.

    Parameters
    ----------
    points, best, selected_on, objective_note, judge
        As in :func:`als_spark.report.figures.sweep.sweep_figure`; the best point is drawn thicker.
    burn_in : int
        Iterations before those that count; their part is shaded.

    Returns
    -------
    Figure
        One axes. Its y axis holds the draws that count and the last half of the burn-in: the first
        draws are far off. The legend has R-hat and effective sample size of each line.

    Raises
    ------
    ValueError
        If there are no points.
    """
    grid = Grid.of(points)
    figure = new_figure(9.6, 4.6)
    body = titled(
        figure,
        "Noise of every draw",
        best_note(points, best, selected_on, judge),
        objective_note,
    )
    (panel,) = new_panels(body, 1, 1, 1)
    tidy(panel)
    iteration_axis(panel, [len(point.history) for point in points])
    if burn_in:
        panel.axvspan(panel.get_xlim()[0], burn_in + 0.5, **_BURN_IN, zorder=0.5)
    settled: list[float] = []
    chosen = None if best is None else points[best]
    for (rank, _), point in grid.at.items():
        known = [(r.iteration, r.noise) for r in point.history if math.isfinite(r.noise)]
        settled += [noise for iteration, noise in known if iteration > burn_in // 2]
        width = 2.2 if point is chosen else 1.2
        style = {**rank_style(grid, rank), "linestyle": "-", "linewidth": width}
        panel.plot([k for k, _ in known], [noise for _, noise in known], **style)
    if settled:
        low, high = min(settled), max(settled)
        margin = 0.1 * (high - low) or 0.05 * high
        panel.set_ylim(low - margin, high + margin)
    panel.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=TICK_STEPS))
    panel.set_xlabel("iteration", fontsize=11, color=INK)
    panel.set_ylabel("standard deviation of the noise\n(rating units)", fontsize=10, color=INK)
    named = pick_evenly(grid.ranks, MAX_LEGEND_RANKS)
    handles: list[Line2D | Patch] = [_line(grid, point) for point in points if point.rank in named]
    if burn_in:
        handles.append(Patch(**_BURN_IN, label="burn-in: not counted"))
    legend_beside(panel, handles, fontsize=10, labelspacing=0.9)
    return figure


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
