"""The pictures of a sweep: errors against the rank, and all four of a sweep at once.

Errors are in rating units (MAE) or their square (MSE). λ is the ridge of the objective that the
run's frequency exponent selects: Σ n^ν |row|² is multiplied by it. The figures cannot know ν, so
each takes an ``objective_note`` that says it. Colours are Okabe and Ito's (2008) or perceptually
uniform maps, and never the only sign: line style, marker and frame say the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from als_spark.report.figures.convergence import StopRule, convergence_figure
from als_spark.report.figures.drawing import (
    FAINT,
    INK,
    RANK_LABEL,
    Grid,
    Metric,
    Scale,
    best_note,
    error_of,
    format_number,
    legend_below,
    legend_beside,
    name_panel,
    new_figure,
    new_panels,
    pick_evenly,
    png_of,
    rows_columns,
    tidy,
    titled,
)
from als_spark.report.figures.heatmap import heatmap_figure
from als_spark.report.figures.samples import samples_figure
from als_spark.train.records import DEFAULT_JUDGE, Judge, PointResult
from als_spark.types import SplitName

__all__ = ["selected_figure", "sweep_figure", "sweep_pictures"]

_BEST = "#F0E442"
_ERROR_LABEL = "mean error\n(MSE: squared rating units,\nMAE: rating units)"
_SPLIT_STYLE: dict[SplitName, dict[str, Any]] = {
    "test": {"color": "#D55E00", "linestyle": "-"},
    "validation": {"color": "#009E73", "linestyle": "-."},
    "train": {"color": "#0072B2", "linestyle": "--"},
}
_METRIC_STYLE: dict[Metric, dict[str, Any]] = {
    "mse": {"marker": "o", "linewidth": 2.0},
    "mae": {"marker": "s", "linewidth": 1.4, "markerfacecolor": "white"},
}
_BEST_STYLE: dict[str, Any] = {
    "linestyle": "none",
    "marker": "*",
    "markersize": 17,
    "markerfacecolor": _BEST,
    "markeredgecolor": "black",
    "markeredgewidth": 1.1,
}
_GAP_STYLE: dict[str, Any] = {
    "linestyle": "none",
    "marker": "x",
    "markersize": 6,
    "markeredgecolor": FAINT,
    "markeredgewidth": 1.5,
    "label": "no result",
}
_MAX_RANK_LABELS = 12


def sweep_pictures(
    points: Sequence[PointResult],
    best: int,
    selected_on: SplitName,
    *,
    tol: float,
    objective_note: str = "",
    judge: Judge = DEFAULT_JUDGE,
    stop: StopRule = "change",
    burn_in: int = 0,
) -> dict[str, bytes]:
    """Draw all pictures of a sweep as PNG, by file name; the parameters are the builders'.

    Where λ is learnt there is nothing over d × λ to draw: one picture of the errors is all of them.
    """
    drawn = (points, best, selected_on)
    words: dict[str, Any] = {"objective_note": objective_note, "judge": judge}
    if points[best].learnt is not None:
        sampled = points[best].ended_by_rule is None
        figures = {
            "sweep.png": selected_figure(*drawn, **words),
            "convergence.png": samples_figure(*drawn, burn_in=burn_in, **words)
            if sampled
            else convergence_figure(*drawn, tol=tol, stop=stop, **words),
        }
        return {name: png_of(figure) for name, figure in figures.items()}
    figures = {
        "sweep.png": sweep_figure(*drawn, **words),
        "selected.png": selected_figure(*drawn, **words),
        "heatmap.png": heatmap_figure(*drawn, **words),
        "convergence.png": convergence_figure(*drawn, tol=tol, stop=stop, **words),
    }
    return {name: png_of(figure) for name, figure in figures.items()}


def sweep_figure(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    *,
    objective_note: str = "",
    judge: Judge = DEFAULT_JUDGE,
) -> Figure:
    """Draw the errors against rank d, one panel per ridge λ, all on one y scale.

    Parameters
    ----------
    points : sequence of PointResult
        The finished points; they need not fill the grid. Where the grid has no point, or an error
        is not finite, the line has a gap and a small cross stands at the foot of the panel.
    best : int or None
        Position in ``points`` of the point to mark; None marks nothing.
    selected_on : SplitName
        The part of the ratings that the best point was chosen on.
    objective_note : str
        Which objective λ belongs to, in plain words; stands under the title.
    judge : Judge
        What the best point was chosen by. Of a ranking measure the star stands at the point's MSE.

    Returns
    -------
    Figure
        One axes per λ, ascending. The y axis is linear over the data's range. Where some points
        are far off the others, it is linear over the usual values and logarithmic above them, and
        its label says so.

    Raises
    ------
    ValueError
        If there are no points.
    """
    grid = Grid.of(points)
    panel_width = min(max(1.1 + 0.45 * len(grid.ranks), 1.6), 4.2)
    rows, columns = rows_columns(len(grid.regs), max_columns=min(int(12.5 / panel_width), 8))
    figure = new_figure(max(columns * panel_width + 1.0, 7.0), rows * 2.6 + 1.9)
    body = titled(
        figure,
        "Errors against rank d, one panel per ridge λ",
        best_note(points, best, selected_on, judge),
        objective_note,
    )
    panels = new_panels(body, rows, columns, len(grid.regs))
    scale = Scale.of(grid)
    chosen = None if best is None else points[best]
    for place, (panel, reg) in enumerate(zip(panels, grid.regs, strict=True)):
        _draw_errors(panel, grid, reg, scale)
        name_panel(panel, reg, chosen)
        if chosen is not None and chosen.reg == reg:
            _mark_best(panel, grid, chosen, selected_on, judge)
        panel.tick_params(labelleft=place % columns == 0)
    body.supxlabel(RANK_LABEL, fontsize=11, color=INK)
    body.supylabel(_ERROR_LABEL + scale.note, fontsize=10, color=INK, multialignment="center")
    handles = [_series_line(*series) for series in grid.series]
    if chosen is not None:
        handles.append(Line2D([], [], **_BEST_STYLE, label=f"best ({judge.aim(selected_on)})"))
    if grid.has_gaps:
        handles.append(Line2D([], [], **_GAP_STYLE))
    legend_below(figure, handles)
    return figure


def selected_figure(
    points: Sequence[PointResult],
    best: int,
    selected_on: SplitName,
    *,
    objective_note: str = "",
    judge: Judge = DEFAULT_JUDGE,
) -> Figure:
    """Draw the errors against rank d for the λ of the best point alone, or a learnt one.

    Parameters
    ----------
    points, best, selected_on, objective_note, judge
        As in :func:`sweep_figure`; points of other λ are left out, and there must be a best one.

    Returns
    -------
    Figure
        One axes; the legend at its side gives the best point's numbers.
    """
    chosen = points[best]
    grid = Grid.of([point for point in points if point.reg == chosen.reg])
    scale = Scale.of(grid)
    figure = new_figure(9.6, 4.9)
    body = titled(
        figure,
        "Errors against rank d"
        + ("" if chosen.reg is None else f" at the selected ridge λ = {chosen.reg:g}"),
        best_note(points, best, selected_on, judge),
        objective_note,
    )
    (panel,) = new_panels(body, 1, 1, 1)
    _draw_errors(panel, grid, chosen.reg, scale)
    _mark_best(panel, grid, chosen, selected_on, judge)
    panel.annotate(
        f"best d = {chosen.rank}",
        xy=(grid.ranks.index(chosen.rank), 1.0),
        xycoords=panel.get_xaxis_transform(),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=10.5,
        fontweight="bold",
        color=INK,
    )
    panel.set_xlabel(RANK_LABEL, fontsize=11, color=INK)
    panel.set_ylabel(_ERROR_LABEL + scale.note, fontsize=10, color=INK)
    handles = []
    for split, metric in grid.series:
        handles.append(_series_line(split, metric))
        number = format_number(error_of(chosen, split, metric))
        handles[-1].set_label(f"{split} {metric.upper()} = {number}")
    handles.append(Line2D([], [], **_BEST_STYLE, label=f"chosen: {judge.aim(selected_on)}"))
    if grid.has_gaps:
        handles.append(Line2D([], [], **_GAP_STYLE))
    legend_beside(
        panel,
        handles,
        title="\n".join([chosen.place, *_facts_of(chosen)]),
        title_fontproperties={"size": 10.5, "weight": "bold"},
        fontsize=10.5,
        handlelength=3.2,
        labelspacing=0.8,
    )
    return figure


def _facts_of(chosen: PointResult) -> list[str]:
    """Say how the training of a point has ended, and what it has learnt."""
    ends = {True: ", converged", False: ", stopped by the cap", None: ""}
    facts = [f"{chosen.iterations} iterations{ends[chosen.ended_by_rule]}"]
    learnt = chosen.learnt or {}
    if "noise_deviation" in learnt:
        facts.append(f"learnt noise {format_number(learnt['noise_deviation'])}")
    return facts


def _draw_errors(panel: Axes, grid: Grid, reg: float | None, scale: Scale) -> None:
    """Draw the error lines of one λ over evenly spaced ranks."""
    tidy(panel)
    margin = max(0.5, 0.03 * len(grid.ranks))
    panel.set_xlim(-margin, len(grid.ranks) - 1 + margin)
    shown = pick_evenly(grid.ranks, _MAX_RANK_LABELS)
    panel.set_xticks([grid.ranks.index(rank) for rank in shown], [str(rank) for rank in shown])
    scale.apply(panel)
    gaps: set[int] = set()
    for split, metric in grid.series:
        values = grid.errors(reg, split, metric)
        gaps.update(place for place, value in enumerate(values) if math.isnan(value))
        line = _series_line(split, metric, dense=len(values) > 15)
        line.set_data(range(len(values)), values)
        panel.add_line(line)
    if gaps:
        feet = [0.035] * len(gaps)
        at_foot = panel.get_xaxis_transform()
        panel.add_line(Line2D(sorted(gaps), feet, transform=at_foot, **_GAP_STYLE))


def _series_line(split: SplitName, metric: Metric, *, dense: bool = False) -> Line2D:
    return Line2D(
        [],
        [],
        **_SPLIT_STYLE[split],
        **_METRIC_STYLE[metric],
        markersize=3 if dense else 6,
        markeredgewidth=1.0 if dense else 1.4,
        zorder=3,
        label=f"{split} {metric.upper()}",
    )


def _mark_best(
    panel: Axes, grid: Grid, chosen: PointResult, selected_on: SplitName, judge: Judge
) -> None:
    place = grid.ranks.index(chosen.rank)
    half = 0.055 * min(len(grid.ranks), 4)
    panel.axvspan(place - half, place + half, color=_BEST, alpha=0.28, linewidth=0, zorder=0.5)
    error = error_of(chosen, selected_on, "mae" if judge.measure == "mae" else "mse")
    panel.add_line(Line2D([place], [error], **_BEST_STYLE, label="best", zorder=5, clip_on=False))
