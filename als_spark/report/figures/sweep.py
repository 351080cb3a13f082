"""The pictures of a sweep, made to be read at a glance.

Four figures, each with a builder that returns a :class:`matplotlib.figure.Figure`, and a ``plot_``
function that saves it as PNG:

====================== =================== =====================================================
builder                file                what it shows
====================== =================== =====================================================
``sweep_figure``       ``sweep.png``       the errors against d, one panel per λ, one y scale
``selected_figure``    ``selected.png``    the λ of the best point alone, with its numbers
``heatmap_figure``     ``heatmap.png``     test error (and choosing error) over d × λ, in numbers
``convergence_figure`` ``convergence.png`` objective and stopping quantity against the iteration
====================== =================== =====================================================

Errors are in rating units (MAE) or their square (MSE). λ is the ridge of the objective that the
run's frequency exponent selects: Σ n^ν |row|² is multiplied by it. The figures cannot know ν, so
each takes an ``objective_note`` that says it.

Nothing here touches global state: no pyplot, no rcParams. A saved file carries neither time nor
version, so that equal results give equal bytes. Colours are Okabe and Ito's (2008) or perceptually
uniform maps, and never the only sign: line style, marker and frame say the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from als_spark.report.figures.convergence import convergence_figure, plot_convergence
from als_spark.report.figures.drawing import (
    FAINT,
    INK,
    TICK_STEPS,
    Grid,
    Metric,
    Scale,
    best_note,
    error_of,
    format_number,
    legend_below,
    name_panel,
    new_figure,
    new_panels,
    rows_columns,
    save_figure,
    thinned,
    tidy,
    titled,
    usual_top,
)
from als_spark.train.records import PointResult
from als_spark.types import SplitName

__all__ = [
    "convergence_figure",
    "heatmap_figure",
    "plot_convergence",
    "plot_heatmap",
    "plot_selected",
    "plot_sweep",
    "save_figure",
    "selected_figure",
    "sweep_figure",
]

_BEST = "#F0E442"
_RANK_LABEL = "rank d (number of factors)"
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
_FRAME_STYLE: dict[str, Any] = {
    "linestyle": "none",
    "marker": "s",
    "markersize": 11,
    "markerfacecolor": "none",
    "markeredgecolor": "black",
    "markeredgewidth": 2.4,
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


def plot_sweep(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    path: str | Path,
    *,
    objective_note: str = "",
) -> None:
    """Save :func:`sweep_figure` at ``path``; the other parameters are the builder's."""
    save_figure(sweep_figure(points, best, selected_on, objective_note=objective_note), path)


def plot_selected(
    points: Sequence[PointResult],
    best: int,
    selected_on: SplitName,
    path: str | Path,
    *,
    objective_note: str = "",
) -> None:
    """Save :func:`selected_figure` at ``path``; the other parameters are the builder's."""
    save_figure(selected_figure(points, best, selected_on, objective_note=objective_note), path)


def plot_heatmap(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    path: str | Path,
    *,
    objective_note: str = "",
) -> None:
    """Save :func:`heatmap_figure` at ``path``; the other parameters are the builder's."""
    save_figure(heatmap_figure(points, best, selected_on, objective_note=objective_note), path)


def sweep_figure(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    *,
    objective_note: str = "",
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
        best_note(points, best, selected_on),
        objective_note,
    )
    panels = new_panels(body, rows, columns, len(grid.regs))
    scale = Scale.of(grid)
    chosen = None if best is None else points[best]
    for place, (panel, reg) in enumerate(zip(panels, grid.regs, strict=True)):
        _draw_errors(panel, grid, reg, scale)
        name_panel(panel, reg, chosen)
        if chosen is not None and chosen.reg == reg:
            _mark_best(panel, grid, chosen, selected_on)
        panel.tick_params(labelleft=place % columns == 0)
    body.supxlabel(_RANK_LABEL, fontsize=11, color=INK)
    body.supylabel(_ERROR_LABEL + scale.note, fontsize=10, color=INK, multialignment="center")
    handles = [_series_line(*series) for series in grid.series]
    if chosen is not None:
        handles.append(Line2D([], [], **_BEST_STYLE, label=f"best (smallest {selected_on} MSE)"))
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
) -> Figure:
    """Draw the errors against rank d for the λ of the best point alone, with its numbers.

    Parameters
    ----------
    points : sequence of PointResult
        The finished points; those of other λ are left out.
    best : int
        Position in ``points`` of the best point.
    selected_on : SplitName
        The part of the ratings that the best point was chosen on.
    objective_note : str
        Which objective λ belongs to, in plain words; stands under the title.

    Returns
    -------
    Figure
        One axes; the legend at its side gives the best point's errors in numbers.
    """
    chosen = points[best]
    grid = Grid.of([point for point in points if point.reg == chosen.reg])
    scale = Scale.of(grid)
    figure = new_figure(9.6, 4.9)
    body = titled(
        figure,
        f"Errors against rank d at the selected ridge λ = {chosen.reg:g}",
        best_note(points, best, selected_on),
        objective_note,
    )
    (panel,) = new_panels(body, 1, 1, 1)
    _draw_errors(panel, grid, chosen.reg, scale)
    _mark_best(panel, grid, chosen, selected_on)
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
    panel.set_xlabel(_RANK_LABEL, fontsize=11, color=INK)
    panel.set_ylabel(_ERROR_LABEL + scale.note, fontsize=10, color=INK)
    handles = []
    for split, metric in grid.series:
        handles.append(_series_line(split, metric))
        number = format_number(error_of(chosen, split, metric))
        handles[-1].set_label(f"{split} {metric.upper()} = {number}")
    handles.append(Line2D([], [], **_BEST_STYLE, label=f"chosen: smallest {selected_on} MSE"))
    if grid.has_gaps:
        handles.append(Line2D([], [], **_GAP_STYLE))
    end = "converged" if chosen.converged else "stopped by the cap"
    panel.legend(
        handles=handles,
        title=f"d = {chosen.rank}, λ = {chosen.reg:g}\n{chosen.iterations} iterations, {end}",
        title_fontproperties={"size": 10.5, "weight": "bold"},
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        borderaxespad=0.0,
        frameon=False,
        fontsize=10.5,
        alignment="left",
        handlelength=3.2,
        labelspacing=0.8,
    )
    return figure


def heatmap_figure(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    *,
    objective_note: str = "",
) -> Figure:
    """Draw the mean squared error over rank d × ridge λ as coloured cells with numbers.

    Parameters
    ----------
    points : sequence of PointResult
        The finished points; a cell without a finite error is hatched.
    best : int or None
        Position in ``points`` of the point to frame; None frames nothing.
    selected_on : SplitName
        The part that the best point was chosen on. If it is not the test part, it gets a map of
        its own, left of the test map and in the same colours.
    objective_note : str
        Which objective λ belongs to, in plain words; stands under the title.

    Returns
    -------
    Figure
        One axes per map, then one for the colour bar. Dark is a large error; points that are far
        off the others are black, above the end of the colour bar.

    Raises
    ------
    ValueError
        If there are no points.
    """
    grid = Grid.of(points)
    splits: list[SplitName] = [selected_on]
    if selected_on != "test" and grid.values([("test", "mse")]):
        splits.append("test")
    values = [value for split in splits for value in grid.values(((split, "mse"),))]
    usual = usual_top(values)
    norm = _colour_norm([value for value in values if usual is None or value <= usual])
    colours = colormaps["viridis_r"].with_extremes(over="black", bad="#F0F0F0")
    chosen = None if best is None else points[best]
    dense = len(grid.ranks) > 15
    map_width = max((0.52 if dense else 0.82) * len(grid.ranks) + 0.5, 2.6)
    map_height = max(0.5 * len(grid.regs), 1.2)
    figure = new_figure(max(len(splits) * (map_width + 0.4) + 1.7, 6.0), map_height + 2.2)
    body = titled(
        figure,
        f"{' and '.join(splits).capitalize()} error of every model, d × λ",
        best_note(points, best, selected_on),
        objective_note,
    )
    panels = list(body.subplots(1, len(splits), squeeze=False, sharey=True)[0])
    for panel, split in zip(panels, splits, strict=True):
        image = _draw_map(panel, grid, split, norm, colours, fontsize=8 if dense else 10.5)
        if len(splits) > 1:
            use = "the best is chosen here" if split == selected_on else "not used for the choice"
            panel.set_title(f"{split} MSE ({use})", fontsize=10.5, color=INK)
        panel.set_xlabel(_RANK_LABEL, fontsize=11, color=INK)
        if chosen is not None:
            _frame_best(panel, grid, chosen)
    panels[0].set_ylabel("ridge λ", fontsize=11, color=INK)
    bar = body.colorbar(
        image,
        ax=panels,
        fraction=0.5 / figure.get_figwidth(),
        pad=0.2 / figure.get_figwidth(),
        aspect=map_height / 0.2,
        extend="neither" if usual is None else "max",
    )
    bar.set_label("mean squared error\n(squared rating units)", fontsize=10, color=INK)
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=TICK_STEPS))
    handles = []
    if chosen is not None:
        handles.append(Line2D([], [], **_FRAME_STYLE, label=f"best (smallest {selected_on} MSE)"))
    legend_below(figure, handles)
    return figure


def _draw_errors(panel: Axes, grid: Grid, reg: float, scale: Scale) -> None:
    """Draw the error lines of one λ over evenly spaced ranks."""
    tidy(panel)
    margin = max(0.5, 0.03 * len(grid.ranks))
    panel.set_xlim(-margin, len(grid.ranks) - 1 + margin)
    shown = thinned(grid.ranks, _MAX_RANK_LABELS)
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


def _mark_best(panel: Axes, grid: Grid, chosen: PointResult, selected_on: SplitName) -> None:
    place = grid.ranks.index(chosen.rank)
    half = 0.055 * min(len(grid.ranks), 4)
    panel.axvspan(place - half, place + half, color=_BEST, alpha=0.28, linewidth=0, zorder=0.5)
    error = error_of(chosen, selected_on, "mse")
    panel.add_line(Line2D([place], [error], **_BEST_STYLE, label="best", zorder=5, clip_on=False))


def _colour_norm(values: Sequence[float]) -> Normalize:
    """Colour scale over the values; one value alone gets the middle."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return Normalize(low, high) if low < high else Normalize(0.9 * low - 1e-9, 1.1 * high + 1e-9)


def _draw_map(
    panel: Axes,
    grid: Grid,
    split: SplitName,
    norm: Normalize,
    colours: Colormap,
    *,
    fontsize: float,
) -> AxesImage:
    """Draw one error over d × λ: a coloured cell and its number, or a hatched cell."""
    values = np.array([grid.errors(reg, split, "mse") for reg in grid.regs])
    masked = np.ma.masked_invalid(values)
    image = panel.imshow(masked, cmap=colours, norm=norm, origin="lower", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if math.isnan(value):
            cell = (column - 0.5, row - 0.5)
            hatching: dict[str, Any] = {"hatch": "////", "edgecolor": "#BBBBBB", "linewidth": 0}
            panel.add_patch(Rectangle(cell, 1, 1, fill=False, **hatching))
        else:
            ink = _legible_on(colours(float(norm(value))))
            centred: dict[str, Any] = {"ha": "center", "va": "center"}
            panel.text(column, row, format_number(value), fontsize=fontsize, color=ink, **centred)
    panel.set_xticks(range(len(grid.ranks)), [str(rank) for rank in grid.ranks])
    panel.set_yticks(range(len(grid.regs)), [f"{reg:g}" for reg in grid.regs])
    panel.set_xticks(np.arange(1, len(grid.ranks)) - 0.5, minor=True)
    panel.set_yticks(np.arange(1, len(grid.regs)) - 0.5, minor=True)
    panel.grid(which="minor", color="white", linewidth=1.5)
    panel.tick_params(which="both", length=0, labelsize=10, labelcolor=INK)
    panel.spines[:].set_visible(False)
    return image


def _frame_best(panel: Axes, grid: Grid, chosen: PointResult) -> None:
    """Frame the best cell in black on white, which no colour of a cell swallows."""
    cell = (grid.ranks.index(chosen.rank) - 0.5, grid.regs.index(chosen.reg) - 0.5)
    for colour, width in (("white", 6.5), ("black", 3.0)):
        line: dict[str, Any] = {
            "edgecolor": colour,
            "linewidth": width,
            "zorder": 4,
            "clip_on": False,
        }
        panel.add_patch(Rectangle(cell, 1, 1, fill=False, **line))


def _legible_on(background: tuple[float, float, float, float]) -> str:
    """Black or white, whichever stands out more on a colour (WCAG 2 relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"
