"""What the models of a sweep are judged by over d × λ, as coloured cells with numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

from als_spark.report.figures.drawing import (
    INK,
    RANK_LABEL,
    TICK_STEPS,
    Grid,
    best_note,
    format_number,
    legend_below,
    new_figure,
    titled,
    usual_top,
)
from als_spark.train.records import DEFAULT_JUDGE, Judge, PointResult
from als_spark.types import SplitName

__all__ = ["heatmap_figure"]

_FRAME_STYLE: dict[str, Any] = {
    "linestyle": "none",
    "marker": "s",
    "markersize": 11,
    "markerfacecolor": "none",
    "markeredgecolor": "black",
    "markeredgewidth": 2.4,
}
_BAR_LABELS = {
    "mse": "mean squared error\n(squared rating units)",
    "rmse": "root mean squared error\n(rating units)",
    "mae": "mean absolute error\n(rating units)",
}


def heatmap_figure(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    *,
    objective_note: str = "",
    judge: Judge = DEFAULT_JUDGE,
) -> Figure:
    """Draw the judged measure over rank d × ridge λ as coloured cells with numbers.

    Parameters
    ----------
    points, best, objective_note, judge
        As in :func:`als_spark.report.figures.sweep.sweep_figure`. A cell without a finite value is
        hatched; the best one is framed.
    selected_on : SplitName
        The part that the best point was chosen on. If it is not the test part, it gets a map of
        its own, left of the test map and in the same colours.

    Returns
    -------
    Figure
        One axes per map, then one for the colour bar. Dark is bad: a large error, or a small
        ranking measure. Errors that are far off the others are black, above the end of the bar.

    Raises
    ------
    ValueError
        If there are no points.
    """
    grid = Grid.of(points)
    splits: list[SplitName] = [selected_on]
    if selected_on != "test" and _finite_values(grid, "test", judge):
        splits.append("test")
    values = [value for split in splits for value in _finite_values(grid, split, judge)]
    usual = None if judge.is_ranking else usual_top(values)
    norm = _colour_norm([value for value in values if usual is None or value <= usual])
    map_name = "viridis" if judge.is_ranking else "viridis_r"
    colours = colormaps[map_name].with_extremes(over="black", bad="#F0F0F0")
    chosen = None if best is None else points[best]
    dense = len(grid.ranks) > 15
    map_width = max((0.52 if dense else 0.82) * len(grid.ranks) + 0.5, 2.6)
    map_height = max(0.5 * len(grid.regs), 1.2)
    figure = new_figure(max(len(splits) * (map_width + 0.4) + 1.7, 6.0), map_height + 2.2)
    body = titled(
        figure,
        f"{' and '.join(splits).capitalize()} {judge.kind} of every model, d × λ",
        best_note(points, best, selected_on, judge),
        objective_note,
    )
    panels = list(body.subplots(1, len(splits), squeeze=False, sharey=True)[0])
    for panel, split in zip(panels, splits, strict=True):
        image = _draw_map(panel, grid, split, judge, norm, colours, fontsize=8 if dense else 10.5)
        if len(splits) > 1:
            use = "the best is chosen here" if split == selected_on else "not used for the choice"
            panel.set_title(f"{split} {judge.label} ({use})", fontsize=10.5, color=INK)
        panel.set_xlabel(RANK_LABEL, fontsize=11, color=INK)
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
    bar.set_label(_BAR_LABELS.get(judge.measure, judge.label), fontsize=10, color=INK)
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=TICK_STEPS))
    handles = []
    if chosen is not None:
        handles.append(Line2D([], [], **_FRAME_STYLE, label=f"best ({judge.aim(selected_on)})"))
    legend_below(figure, handles)
    return figure


def _finite_values(grid: Grid, split: SplitName, judge: Judge) -> list[float]:
    values = (value for reg in grid.regs for value in grid.judged(reg, split, judge))
    return [value for value in values if math.isfinite(value)]


def _colour_norm(values: Sequence[float]) -> Normalize:
    """Colour scale over the values; one value alone gets the middle."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return Normalize(low, high) if low < high else Normalize(0.9 * low - 1e-9, 1.1 * high + 1e-9)


def _draw_map(
    panel: Axes,
    grid: Grid,
    split: SplitName,
    judge: Judge,
    norm: Normalize,
    colours: Colormap,
    *,
    fontsize: float,
) -> AxesImage:
    """Draw one measure over d × λ: a coloured cell and its number, or a hatched cell."""
    values = np.array([grid.judged(reg, split, judge) for reg in grid.regs])
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
