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

import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from als_spark.results import PointResult, SplitName

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

Metric = Literal["mse", "mae"]
_Color = tuple[float, float, float, float]

_DPI = 150
_INK, _FAINT, _BEST = "#222222", "#767676", "#F0E442"
_RANK_LABEL = "rank d (number of factors)"
_ERROR_LABEL = "mean error\n(MSE: squared rating units,\nMAE: rating units)"

_SERIES: tuple[tuple[SplitName, Metric], ...] = (
    ("test", "mse"),
    ("test", "mae"),
    ("validation", "mse"),
    ("validation", "mae"),
    ("train", "mse"),
    ("train", "mae"),
)
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
    "markeredgecolor": _FAINT,
    "markeredgewidth": 1.5,
    "label": "no result",
}
_TOLERANCE_STYLE: dict[str, Any] = {"color": _INK, "linewidth": 1.2, "linestyle": (0, (1, 1.5))}
# Dashes help while there are few ranks; with more of them the order of the colours reads better.
_RANK_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (2, 1)))
_MAX_DASHED_RANKS = 6
_MAX_LEGEND_RANKS = 8
_MAX_RANK_LABELS = 12
_STEPS = (1, 2, 2.5, 5, 10)  # of ticks


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


def plot_convergence(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    path: str | Path,
    *,
    tol: float,
    objective_note: str = "",
) -> None:
    """Save :func:`convergence_figure` at ``path``; the other parameters are the builder's."""
    figure = convergence_figure(points, best, selected_on, tol=tol, objective_note=objective_note)
    save_figure(figure, path)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG file that holds neither time nor version.

    The picture is drawn in full before the file is opened; an existing file is replaced.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    Path(path).write_bytes(buffer.getvalue())


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
    grid = _Grid.of(points)
    panel_width = min(max(1.1 + 0.45 * len(grid.ranks), 1.6), 4.2)
    rows, columns = _rows_columns(len(grid.regs), max_columns=min(int(12.5 / panel_width), 8))
    figure = _figure(max(columns * panel_width + 1.0, 7.0), rows * 2.6 + 1.9)
    body = _titled(
        figure,
        "Errors against rank d, one panel per ridge λ",
        _best_note(points, best, selected_on),
        objective_note,
    )
    panels = _panels(body, rows, columns, len(grid.regs))
    scale = _Scale.of(grid)
    chosen = None if best is None else points[best]
    for place, (panel, reg) in enumerate(zip(panels, grid.regs, strict=True)):
        _draw_errors(panel, grid, reg, scale)
        _name_panel(panel, reg, chosen)
        if chosen is not None and chosen.reg == reg:
            _mark_best(panel, grid, chosen, selected_on)
        panel.tick_params(labelleft=place % columns == 0)
    body.supxlabel(_RANK_LABEL, fontsize=11, color=_INK)
    body.supylabel(_ERROR_LABEL + scale.note, fontsize=10, color=_INK, multialignment="center")
    handles = [_series_line(*series) for series in grid.series]
    if chosen is not None:
        handles.append(Line2D([], [], **_BEST_STYLE, label=f"best (smallest {selected_on} MSE)"))
    if grid.has_gaps:
        handles.append(Line2D([], [], **_GAP_STYLE))
    _legend_below(figure, handles)
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
    grid = _Grid.of([point for point in points if point.reg == chosen.reg])
    scale = _Scale.of(grid)
    figure = _figure(9.6, 4.9)
    body = _titled(
        figure,
        f"Errors against rank d at the selected ridge λ = {chosen.reg:g}",
        _best_note(points, best, selected_on),
        objective_note,
    )
    (panel,) = _panels(body, 1, 1, 1)
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
        color=_INK,
    )
    panel.set_xlabel(_RANK_LABEL, fontsize=11, color=_INK)
    panel.set_ylabel(_ERROR_LABEL + scale.note, fontsize=10, color=_INK)
    handles = []
    for split, metric in grid.series:
        handles.append(_series_line(split, metric))
        number = _number(_error(chosen, split, metric))
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
    grid = _Grid.of(points)
    splits: list[SplitName] = [selected_on]
    if selected_on != "test" and grid.values([("test", "mse")]):
        splits.append("test")
    values = [value for split in splits for value in grid.values(((split, "mse"),))]
    usual = _usual_top(values)
    norm = _colour_norm([value for value in values if usual is None or value <= usual])
    colours = colormaps["viridis_r"].with_extremes(over="black", bad="#F0F0F0")
    chosen = None if best is None else points[best]
    dense = len(grid.ranks) > 15
    map_width = max((0.52 if dense else 0.82) * len(grid.ranks) + 0.5, 2.6)
    map_height = max(0.5 * len(grid.regs), 1.2)
    figure = _figure(max(len(splits) * (map_width + 0.4) + 1.7, 6.0), map_height + 2.2)
    body = _titled(
        figure,
        f"{' and '.join(splits).capitalize()} error of every model, d × λ",
        _best_note(points, best, selected_on),
        objective_note,
    )
    panels = list(body.subplots(1, len(splits), squeeze=False, sharey=True)[0])
    for panel, split in zip(panels, splits, strict=True):
        image = _draw_map(panel, grid, split, norm, colours, fontsize=8 if dense else 10.5)
        if len(splits) > 1:
            use = "the best is chosen here" if split == selected_on else "not used for the choice"
            panel.set_title(f"{split} MSE ({use})", fontsize=10.5, color=_INK)
        panel.set_xlabel(_RANK_LABEL, fontsize=11, color=_INK)
        if chosen is not None:
            _frame_best(panel, grid, chosen)
    panels[0].set_ylabel("ridge λ", fontsize=11, color=_INK)
    bar = body.colorbar(
        image,
        ax=panels,
        fraction=0.5 / figure.get_figwidth(),
        pad=0.2 / figure.get_figwidth(),
        aspect=map_height / 0.2,
        extend="neither" if usual is None else "max",
    )
    bar.set_label("mean squared error\n(squared rating units)", fontsize=10, color=_INK)
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=_STEPS))
    handles = []
    if chosen is not None:
        handles.append(Line2D([], [], **_FRAME_STYLE, label=f"best (smallest {selected_on} MSE)"))
    _legend_below(figure, handles)
    return figure


def convergence_figure(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    *,
    tol: float,
    objective_note: str = "",
) -> Figure:
    """Draw how every model converged: objective and stopping quantity against the iteration.

    Parameters
    ----------
    points : sequence of PointResult
        The finished points with their histories; a point without history draws nothing.
    best : int or None
        Position in ``points`` of the best point, drawn thicker; None stresses nothing.
    selected_on : SplitName
        The part that the best point was chosen on.
    tol : float
        Tolerance of the stopping rule: training stops at the first t with
        ``|c_(t-1) - c_t| < tol``, where ``c_t = ‖U_t - U_(t-1)‖_F + ‖V_t - V_(t-1)‖_F``. Drawn as
        a line if it is positive.
    objective_note : str
        Which objective λ belongs to, in plain words; stands under the title.

    Returns
    -------
    Figure
        For each λ two axes, one above the other: the objective's distance from the lowest value
        that the model reached, as a part of that value, and ``|c_(t-1) - c_t|``. Both are
        logarithmic. Where a line ends, a dot means the stopping rule, a cross the iteration cap.

    Raises
    ------
    ValueError
        If there are no points.
    """
    grid = _Grid.of(points)
    blocks, columns = _rows_columns(len(grid.regs), max_columns=4)
    figure = _figure(max(columns * 3.1 + 1.0, 7.0), blocks * 4.6 + 1.9)
    body = _titled(
        figure,
        "How training converged, one column per ridge λ",
        _best_note(points, best, selected_on),
        objective_note,
    )
    chosen = None if best is None else points[best]
    # Panels come row by row: a block's upper row shows the objective, its lower row the steps.
    panels = body.subplots(2 * blocks, columns, squeeze=False)
    for spare in range(len(grid.regs), blocks * columns):
        for row in (0, 1):
            panels[2 * (spare // columns) + row, spare % columns].remove()
    lengths = [len(point.history) for point in points]
    for row, curve_of, label in (
        (0, _excess, "objective above its\nlowest value (fraction)"),
        (1, _steps, "stopping quantity\n|c(t-1) - c(t)|".replace("-", "−")),
    ):
        curves = {place: curve_of(point) for place, point in grid.at.items()}
        lines = [tol] if tol > 0 and row == 1 else []
        limits = _log_limits(
            [*(value for _, values in curves.values() for value in values), *lines]
        )
        for place, reg in enumerate(grid.regs):
            panel = panels[2 * (place // columns) + row, place % columns]
            _log_axes(panel, limits, lengths)
            for line in lines:
                panel.axhline(line, **_TOLERANCE_STYLE, zorder=1.5)
            for rank in grid.ranks:
                if (rank, reg) in curves:
                    point = grid.at[rank, reg]
                    _draw_curve(panel, grid, point, curves[rank, reg], stressed=point is chosen)
            if row == 0:
                _name_panel(panel, reg, chosen)
            else:
                panel.set_xlabel("iteration", fontsize=10.5, color=_INK)
            if place % columns == 0:
                panel.set_ylabel(label, fontsize=10, color=_INK)
            panel.tick_params(labelbottom=row == 1, labelleft=place % columns == 0)
    handles = [
        Line2D([], [], **_rank_style(grid, rank), linewidth=2.0, label=f"d = {rank}")
        for rank in _thinned(grid.ranks, _MAX_LEGEND_RANKS)
    ]
    if tol > 0:
        handles.append(Line2D([], [], **_TOLERANCE_STYLE, label=f"tolerance {tol:g}"))
    handles += [
        _end_marker(state) for state in (True, False) if state in {p.converged for p in points}
    ]
    _legend_below(figure, handles)
    return figure


@dataclass(frozen=True)
class _Grid:
    """Points by place: distinct ranks and λ, ascending, and the point that each place has."""

    ranks: tuple[int, ...]
    regs: tuple[float, ...]
    at: dict[tuple[int, float], PointResult]

    @classmethod
    def of(cls, points: Sequence[PointResult]) -> _Grid:
        if not points:
            raise ValueError("no points to draw: the sweep has finished none")
        return cls(
            ranks=tuple(sorted({point.rank for point in points})),
            regs=tuple(sorted({point.reg for point in points})),
            at={(point.rank, point.reg): point for point in points},
        )

    def errors(self, reg: float, split: SplitName, metric: Metric) -> list[float]:
        """One error at every rank; NaN where it is missing or not finite."""
        points = (self.at.get((rank, reg)) for rank in self.ranks)
        return [math.nan if point is None else _error(point, split, metric) for point in points]

    def values(self, series: Iterable[tuple[SplitName, Metric]]) -> list[float]:
        """Every finite error of these series."""
        errors = [_error(point, *key) for point in self.at.values() for key in series]
        return [value for value in errors if math.isfinite(value)]

    @property
    def series(self) -> list[tuple[SplitName, Metric]]:
        """The errors that at least one point has, in the order of the legend."""
        return [key for key in _SERIES if self.values([key])]

    @property
    def has_gaps(self) -> bool:
        """Whether a panel lacks a value of a series that others have."""
        places = len(self.ranks) * len(self.regs)
        return any(len(self.values([key])) < places for key in self.series)


def _error(point: PointResult, split: SplitName, metric: Metric) -> float:
    """One mean error of a point; NaN where the split has none or it is not finite."""
    means = point.errors.get(split)
    if means is None:
        return math.nan
    value = means.mse if metric == "mse" else means.mae
    return value if math.isfinite(value) else math.nan


def _usual_top(values: Sequence[float]) -> float | None:
    """Largest of the usual values if some others are far above them, else None.

    Usual is up to three times the lower quartile: errors of sensible models stay within that, and a
    quartile holds even if half of the models go wrong.
    """
    if not values:
        return None
    quartile = sorted(values)[(len(values) - 1) // 4]
    usual = max(value for value in values if value <= 3 * quartile)
    return usual if max(values) > 2 * usual else None


@dataclass(frozen=True)
class _Scale:
    """The y scale that all error panels of a figure share.

    Linear from ``low`` to ``high``; with a ``bend``, linear up to it and logarithmic above.
    """

    low: float
    high: float
    bend: float | None = None

    @classmethod
    def of(cls, grid: _Grid) -> _Scale:
        values = grid.values(grid.series)
        if not values:
            return cls(0.0, 1.0)
        low, high = min(values), max(values)
        peaks = (_Grid((), (), {key: point}) for key, point in grid.at.items())
        usual = _usual_top([max(found) for one in peaks if (found := one.values(grid.series))])
        if usual is not None:
            bend = float(MaxNLocator(nbins=4, steps=_STEPS).tick_values(0, usual)[-1])
            return cls(-0.03 * bend, high * (high / bend) ** 0.24, bend)
        margin = 0.08 * (high - low) or 0.1 * high or 1.0
        # Where zero is near it is the better foot: the eye then compares heights.
        if low < 0.25 * high:
            return cls(-0.03 * high, high + margin)
        return cls(low - margin, high + margin)

    @property
    def note(self) -> str:
        """What the axis label has to add."""
        return "" if self.bend is None else f"\nlinear to {self.bend:g}, logarithmic above"

    def apply(self, panel: Axes) -> None:
        """Set scale, limits and ticks of a panel."""
        locator = MaxNLocator(nbins=6, steps=_STEPS)
        if self.bend is None:
            panel.yaxis.set_major_locator(locator)
        else:
            decades = math.log10(self.high / self.bend)
            # The usual values keep two thirds of the height.
            panel.set_yscale("symlog", linthresh=self.bend, linscale=2 * decades)
            usual = MaxNLocator(nbins=4, steps=_STEPS).tick_values(0, self.bend)
            clear = self.bend * 10 ** (0.2 * decades)  # of the label of the bend
            shown = [tick for tick in usual if tick <= self.bend]
            shown += [t for t in _ticks_above(self.bend, decades) if clear < t <= self.high]
            panel.set_yticks(shown, [f"{tick:g}" for tick in shown])
            panel.yaxis.set_minor_locator(NullLocator())
            panel.axhline(self.bend, color=_FAINT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        panel.set_ylim(self.low, self.high)


def _ticks_above(bend: float, decades: float) -> list[float]:
    """Place a few ticks on the logarithmic part of the scale: powers of ten, if it has some."""
    if decades < 1:
        locator = MaxNLocator(nbins=3, steps=_STEPS)
        return [float(tick) for tick in locator.tick_values(bend, bend * 10**decades)]
    first = math.floor(math.log10(bend))
    powers = range(first, first + math.ceil(decades) + 2, math.ceil(decades / 4))
    return [10.0**power for power in powers]


def _excess(point: PointResult) -> tuple[list[int], list[float]]:
    """Return iterations and (objective - lowest) / lowest, where positive and finite."""
    finite = [record for record in point.history if math.isfinite(record.objective)]
    lowest = min((record.objective for record in finite), default=0.0)
    unit = abs(lowest) or max((record.objective for record in finite), default=0.0) or 1.0
    kept = [record for record in finite if record.objective > lowest]
    return [r.iteration for r in kept], [(r.objective - lowest) / unit for r in kept]


def _steps(point: PointResult) -> tuple[list[int], list[float]]:
    """Return iterations and ``|c_(t-1) - c_t|``, where positive and finite (from t = 2 on)."""
    pairs = zip(point.history, point.history[1:], strict=False)
    steps = [(now.iteration, abs(before.change - now.change)) for before, now in pairs]
    kept = [(iteration, step) for iteration, step in steps if 0 < step < math.inf]
    return [iteration for iteration, _ in kept], [step for _, step in kept]


def _log_limits(values: Sequence[float]) -> tuple[float, float]:
    """Limits of a logarithmic axis around values, with a margin."""
    if not values:
        return 0.1, 10.0
    margin = max((max(values) / min(values)) ** 0.05, 1.5)
    return min(values) / margin, max(values) * margin


def _figure(width: float, height: float) -> Figure:
    """Make a white figure of so many inches on an Agg canvas."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _titled(figure: Figure, title: str, *notes: str) -> SubFigure:
    """Set the title and, smaller, the notes under it; return the part of the figure below."""
    figure.suptitle(title, fontsize=14, fontweight="bold", color=_INK)
    body = figure.subfigures(1, 1)
    assert isinstance(body, SubFigure)
    width = int(figure.get_figwidth() * 12)
    lines = [line for note in notes for line in textwrap.wrap(note, width)]
    body.suptitle("\n".join(lines), fontsize=10.5, color=_INK, linespacing=1.4)
    return body


def _best_note(points: Sequence[PointResult], best: int | None, selected_on: SplitName) -> str:
    if best is None:
        return f"no best point: no finite {selected_on} error"
    chosen = points[best]
    error = _number(_error(chosen, selected_on, "mse"))
    place = f"d = {chosen.rank}, λ = {chosen.reg:g}"
    return f"★ best: {place}, chosen on its {selected_on} MSE of {error}"


def _rows_columns(panels: int, *, max_columns: int) -> tuple[int, int]:
    """Rows and columns for so many panels, the rows as even as can be."""
    rows = math.ceil(panels / max_columns)
    return rows, math.ceil(panels / rows)


def _panels(body: SubFigure, rows: int, columns: int, count: int) -> list[Axes]:
    panels: list[Axes] = list(body.subplots(rows, columns, squeeze=False).flat)
    for spare in panels[count:]:
        spare.remove()
    return panels[:count]


def _thinned(ranks: Sequence[int], most: int) -> list[int]:
    """At most so many of the ranks, evenly, the first and the last among them."""
    places = np.linspace(0, len(ranks) - 1, min(most, len(ranks))).round().astype(int)
    return [ranks[place] for place in places]


def _tidy(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(_FAINT)
    panel.grid(axis="y", which="major", color="#DDDDDD", linewidth=0.7)
    panel.set_axisbelow(True)
    panel.tick_params(which="both", labelsize=9.5, color=_FAINT, labelcolor=_INK)


def _name_panel(panel: Axes, reg: float, chosen: PointResult | None) -> None:
    """Title a panel with its λ; star and bold for the one of the best point."""
    is_best = chosen is not None and chosen.reg == reg
    name = f"★ λ = {reg:g}" if is_best else f"λ = {reg:g}"
    weight = "bold" if is_best else "normal"
    panel.set_title(name, fontsize=11, fontweight=weight, color=_INK)


def _log_axes(panel: Axes, limits: tuple[float, float], lengths: Sequence[int]) -> None:
    """Set a logarithmic y axis and an iteration axis that holds the longest history."""
    _tidy(panel)
    panel.set_yscale("log")
    panel.set_ylim(limits)
    _decade_ticks(panel.yaxis, limits)
    longest = max(*lengths, 1)
    if longest > 10 * sorted(lengths)[(len(lengths) - 1) // 2] > 0:
        panel.set_xscale("log")
        panel.set_xlim(0.8, longest * 1.4)
        _decade_ticks(panel.xaxis, (0.8, longest * 1.4))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        margin = 0.04 * longest + 0.2
        panel.set_xlim(1 - margin, longest + margin)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))


def _decade_ticks(axis: Axis, limits: tuple[float, float]) -> None:
    """Set few ticks on a logarithmic axis: decades, or 1, 2, 5 if it spans fewer than 1.5."""
    narrow = math.log10(limits[1] / limits[0]) < 1.5
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=7))
    axis.set_minor_locator(NullLocator())
    if narrow:
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _draw_errors(panel: Axes, grid: _Grid, reg: float, scale: _Scale) -> None:
    """Draw the error lines of one λ over evenly spaced ranks."""
    _tidy(panel)
    margin = max(0.5, 0.03 * len(grid.ranks))
    panel.set_xlim(-margin, len(grid.ranks) - 1 + margin)
    shown = _thinned(grid.ranks, _MAX_RANK_LABELS)
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


def _mark_best(panel: Axes, grid: _Grid, chosen: PointResult, selected_on: SplitName) -> None:
    place = grid.ranks.index(chosen.rank)
    half = 0.055 * min(len(grid.ranks), 4)
    panel.axvspan(place - half, place + half, color=_BEST, alpha=0.28, linewidth=0, zorder=0.5)
    error = _error(chosen, selected_on, "mse")
    panel.add_line(Line2D([place], [error], **_BEST_STYLE, label="best", zorder=5, clip_on=False))


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


def _legend_below(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Put a legend at the foot of the figure, in columns of two or four entries."""
    if handles:
        columns = min(math.ceil(len(handles) / 2), int(figure.get_figwidth() / 2))
        rows = math.ceil(len(handles) / columns)
        rows += rows % 2  # the MSE and the MAE of a split keep together
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=math.ceil(len(handles) / rows),
            frameon=False,
            fontsize=10,
            handlelength=3.0,
        )


def _colour_norm(values: Sequence[float]) -> Normalize:
    """Colour scale over the values; one value alone gets the middle."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return Normalize(low, high) if low < high else Normalize(0.9 * low - 1e-9, 1.1 * high + 1e-9)


def _draw_map(
    panel: Axes,
    grid: _Grid,
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
            panel.text(column, row, _number(value), fontsize=fontsize, color=ink, **centred)
    panel.set_xticks(range(len(grid.ranks)), [str(rank) for rank in grid.ranks])
    panel.set_yticks(range(len(grid.regs)), [f"{reg:g}" for reg in grid.regs])
    panel.set_xticks(np.arange(1, len(grid.ranks)) - 0.5, minor=True)
    panel.set_yticks(np.arange(1, len(grid.regs)) - 0.5, minor=True)
    panel.grid(which="minor", color="white", linewidth=1.5)
    panel.tick_params(which="both", length=0, labelsize=10, labelcolor=_INK)
    panel.spines[:].set_visible(False)
    return image


def _frame_best(panel: Axes, grid: _Grid, chosen: PointResult) -> None:
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


def _legible_on(background: _Color) -> str:
    """Black or white, whichever stands out more on a colour (WCAG 2 relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


def _draw_curve(
    panel: Axes,
    grid: _Grid,
    point: PointResult,
    curve: tuple[list[int], list[float]],
    *,
    stressed: bool,
) -> None:
    """Draw one line of a convergence panel and the sign of how it ended."""
    iterations, values = curve
    if not iterations:
        return
    style = _rank_style(grid, point.rank)
    width, zorder = (2.8, 3) if stressed else (1.6, 2)
    panel.plot(
        iterations, values, **style, linewidth=width, zorder=zorder, label=f"d = {point.rank}"
    )
    end = _end_marker(point.converged)
    end.set_data(iterations[-1:], values[-1:])
    end.set_markerfacecolor(style["color"])
    end.set_zorder(4)
    panel.add_line(end)


def _rank_style(grid: _Grid, rank: int) -> dict[str, Any]:
    """Colour of a rank, in the order of d from dark to light; dashes where there are few ranks."""
    place = grid.ranks.index(rank)
    colour = colormaps["plasma"](0.8 * place / max(len(grid.ranks) - 1, 1))
    few = len(grid.ranks) <= _MAX_DASHED_RANKS
    return {"color": colour, "linestyle": _RANK_DASHES[place % len(_RANK_DASHES)] if few else "-"}


def _end_marker(converged: bool) -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="none",
        marker="o" if converged else "X",
        markersize=6 if converged else 9,
        markerfacecolor=_FAINT,
        markeredgecolor="white",
        markeredgewidth=0.8,
        label="ended by the stopping rule" if converged else "stopped by the iteration cap",
    )


def _number(value: float) -> str:
    """Format a number for a cell, with about four digits."""
    if math.isnan(value):
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.1e}"
    return f"{value:.{3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0}f}"
