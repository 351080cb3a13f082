"""The pictures of a sweep, made to be read at a glance.

Four figures, each with a builder that returns a :class:`matplotlib.figure.Figure` and a ``plot_`` function that saves it:

============================ =================== ==================================================================
builder                      file                what it shows
============================ =================== ==================================================================
:func:`sweep_figure`         ``sweep.png``       the errors against d, one panel per λ, one y scale
:func:`selected_figure`      ``selected.png``    the λ of the best point alone, with the best point's numbers
:func:`heatmap_figure`       ``heatmap.png``     test error (and the error of the choice) over d × λ, in numbers
:func:`convergence_figure`   ``convergence.png`` objective and stopping quantity of every point against iteration
============================ =================== ==================================================================

Errors are in the units of the ratings (MAE) and their square (MSE). λ is the ridge of the objective that the run's
frequency exponent selects; the figures cannot know which one that is, so each takes an ``objective_note`` that says it.

Nothing here touches global state: no pyplot, no rcParams. A saved file carries neither time nor version, so that equal
results give equal bytes. Colours are those of Okabe and Ito (2008) or viridis, and never the only sign: line style,
marker and frames say the same.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

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

DPI = 150
"""Resolution of the saved files, dots per inch."""

_SPLITS: tuple[SplitName, ...] = ("test", "validation", "train")
_METRICS: tuple[Metric, ...] = ("mse", "mae")
_UNITS: dict[Metric, str] = {"mse": "squared rating units", "mae": "rating units"}
_SPLIT_COLOURS: dict[SplitName, str] = {"test": "#D55E00", "validation": "#009E73", "train": "#0072B2"}
_SPLIT_LINES: dict[SplitName, str] = {"test": "-", "validation": "-.", "train": "--"}
_METRIC_MARKERS: dict[Metric, str] = {"mse": "o", "mae": "s"}
_RANK_LINES = ("-", "--", "-.", ":")
_BEST_COLOUR = "#F0E442"
_INK = "#222222"
_FAINT = "#767676"
_FAR_OFF = 5.0  # how many times the usual value a value may be before a linear axis would squeeze the rest
_MAX_COLUMNS = 4


# ---------------------------------------------------------------------------------------------------------- saving


def plot_sweep(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    path: str | Path,
    *,
    objective_note: str = "",
) -> None:
    """Save :func:`sweep_figure` as a PNG file at ``path``; the parameters are those of the builder."""
    save_figure(sweep_figure(points, best, selected_on, objective_note=objective_note), path)


def plot_selected(
    points: Sequence[PointResult],
    best: int,
    selected_on: SplitName,
    path: str | Path,
    *,
    objective_note: str = "",
) -> None:
    """Save :func:`selected_figure` as a PNG file at ``path``; the parameters are those of the builder."""
    save_figure(selected_figure(points, best, selected_on, objective_note=objective_note), path)


def plot_heatmap(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    path: str | Path,
    *,
    objective_note: str = "",
) -> None:
    """Save :func:`heatmap_figure` as a PNG file at ``path``; the parameters are those of the builder."""
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
    """Save :func:`convergence_figure` as a PNG file at ``path``; the parameters are those of the builder."""
    save_figure(
        convergence_figure(points, best, selected_on, tol=tol, objective_note=objective_note), path
    )


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, without time or version in the file: equal figures give equal bytes.

    Parameters
    ----------
    figure : Figure
        What to draw.
    path : str or Path
        Where to write; an existing file is replaced. The picture is drawn in full before the file is opened.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None}, facecolor="white")
    Path(path).write_bytes(buffer.getvalue())


# --------------------------------------------------------------------------------------------------------- figures


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
        The finished points; need not fill the grid. A place of the grid that has no point, or an error that is not
        finite, leaves a gap in the line and a small cross at the foot of the panel.
    best : int or None
        Position in ``points`` of the point to mark; None marks nothing (no point has a finite error).
    selected_on : SplitName
        The part of the ratings that the best point was chosen on.
    objective_note : str
        Which objective λ belongs to, in plain words; stands under the title.

    Returns
    -------
    Figure
        One axes per λ, ascending. The y axis is linear from the data's range, or logarithmic where one point is so far
        off that a linear axis would flatten the others.

    Raises
    ------
    ValueError
        If there are no points.
    """
    grid = _Grid.of(points)
    columns = _columns(len(grid.regs))
    rows = math.ceil(len(grid.regs) / columns)
    panel_width = min(max(1.1 + 0.45 * len(grid.ranks), 2.4), 4.2)
    figure = _new_figure(max(columns * panel_width + 1.0, 7.0), rows * 2.7 + 1.7)
    body = _titled(figure, "Errors against rank d, one panel per ridge λ", _subtitle(points, best, selected_on))
    axes = _panels(body, rows, columns, len(grid.regs))
    series = _series(points)
    scale = _Scale.of(_error_values(points, series), _peaks(points))
    chosen = None if best is None else points[best]
    for place, (panel, reg) in enumerate(zip(axes, grid.regs, strict=True)):
        is_best = chosen is not None and chosen.reg == reg
        _draw_errors(panel, grid, reg, series, scale)
        panel.set_title(
            f"★ λ = {reg:g}" if is_best else f"λ = {reg:g}",
            fontsize=11,
            fontweight="bold" if is_best else "normal",
            color=_INK,
        )
        if chosen is not None and is_best:
            _mark_best(panel, grid, chosen, selected_on)
        panel.tick_params(labelleft=place % columns == 0)
    body.supxlabel("rank d (number of factors)", fontsize=11, color=_INK)
    body.supylabel(_error_axis_label(), fontsize=10.5, color=_INK)
    handles = _legend_handles(series)
    if chosen is not None:
        handles.append(_best_handle(f"best point (smallest {selected_on} MSE)"))
    if _has_gaps(grid, series):
        handles.append(_gap_handle())
    _legend_below(figure, handles, objective_note)
    return figure


def selected_figure(
    points: Sequence[PointResult],
    best: int,
    selected_on: SplitName,
    *,
    objective_note: str = "",
) -> Figure:
    """Draw the errors against rank d for the λ of the best point alone, with the best point's numbers.

    Parameters
    ----------
    points : sequence of PointResult
        The finished points; those of other λ are left out.
    best : int
        Position in ``points`` of the best point.
    selected_on : SplitName
        The part of the ratings that the best point was chosen on.
    objective_note : str
        Which objective λ belongs to, in plain words; stands at the foot.

    Returns
    -------
    Figure
        One axes; the legend at its side gives each error of the best point in numbers.
    """
    chosen = points[best]
    kept = [point for point in points if point.reg == chosen.reg]
    grid = _Grid.of(kept)
    series = _series(kept)
    figure = _new_figure(9.6, 4.9)
    body = _titled(
        figure,
        f"Errors against rank d at the selected ridge λ = {chosen.reg:g}",
        _subtitle(points, best, selected_on),
    )
    (panel,) = _panels(body, 1, 1, 1)
    _draw_errors(panel, grid, chosen.reg, series, _Scale.of(_error_values(kept, series), _peaks(kept)))
    _mark_best(panel, grid, chosen, selected_on)
    panel.annotate(
        f"best d = {chosen.rank}",
        xy=(grid.column(chosen.rank), 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=10.5,
        fontweight="bold",
        color=_INK,
    )
    panel.set_xlabel("rank d (number of factors)", fontsize=11, color=_INK)
    panel.set_ylabel(_error_axis_label(), fontsize=10.5, color=_INK)
    handles = [
        _series_handle(split, metric, f"{_series_name(split, metric)} = {_number(_error(chosen, split, metric))}")
        for split, metric in series
    ]
    handles.append(_best_handle(f"chosen: smallest {selected_on} MSE"))
    if _has_gaps(grid, series):
        handles.append(_gap_handle())
    stopped = "converged" if chosen.converged else "stopped by the cap"
    legend = panel.legend(
        handles=handles,
        title=f"d = {chosen.rank}, λ = {chosen.reg:g}\n{chosen.iterations} iterations, {stopped}",
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        borderaxespad=0.0,
        frameon=False,
        fontsize=10.5,
        title_fontproperties={"size": 10.5, "weight": "bold"},
        alignment="left",
        handlelength=3.2,
        labelspacing=0.7,
    )
    legend.get_title().set_color(_INK)
    _legend_below(figure, [], objective_note)
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
        The part that the best point was chosen on. If it is not the test part it gets a map of its own, to the left of
        the test map and in the same colours.
    objective_note : str
        Which objective λ belongs to, in plain words; stands at the foot.

    Returns
    -------
    Figure
        One axes per map and one for the colour bar. Dark is a large error; the colour scale is logarithmic where one
        point is far off.

    Raises
    ------
    ValueError
        If there are no points.
    """
    grid = _Grid.of(points)
    splits: list[SplitName] = ["test"] if selected_on == "test" else [selected_on, "test"]
    values = [value for split in splits for point in points if math.isfinite(value := _error(point, split, "mse"))]
    norm = _colour_norm(values, _peaks(points, splits, ("mse",)))
    colours = colormaps["viridis_r"].with_extremes(bad="#EEEEEE")
    chosen = None if best is None else points[best]
    map_width = max(len(grid.ranks) * 0.82 + 0.5, 2.6)
    figure = _new_figure(max(len(splits) * (map_width + 0.4) + 1.7, 6.0), max(len(grid.regs) * 0.5, 1.2) + 2.1)
    title = "Test error of every model, d × λ"
    if len(splits) > 1:
        title = f"{splits[0].capitalize()} and test error of every model, d × λ"
    body = _titled(figure, title, _subtitle(points, best, selected_on))
    axes = list(body.subplots(1, len(splits), squeeze=False, sharey=True)[0])
    for place, (panel, split) in enumerate(zip(axes, splits, strict=True)):
        image = _draw_map(panel, grid, split, norm, colours)
        if len(splits) > 1:
            use = "the best is chosen here" if split == selected_on else "not used for the choice"
            panel.set_title(f"{split} MSE ({use})", fontsize=10.5, color=_INK)
        panel.set_xlabel("rank d (number of factors)", fontsize=11, color=_INK)
        if place == 0:
            panel.set_ylabel("ridge λ", fontsize=11, color=_INK)
        if chosen is not None:
            _frame_best(panel, grid, chosen)
    bar = body.colorbar(image, ax=axes, shrink=1.0, pad=0.03, aspect=18)
    bar.set_label("mean squared error\n(squared rating units)", fontsize=10, color=_INK)
    if isinstance(norm, LogNorm):
        _plain_log_ticks(bar.ax.yaxis, norm.vmin or 1.0, norm.vmax or 1.0)
    bar.outline.set_visible(False)  # type: ignore[operator]  # a Spine, which the stubs call a callable
    handles = []
    if chosen is not None:
        frame = Line2D([], [], linestyle="none", marker="s", markersize=11, markerfacecolor="none", markeredgewidth=2.4)
        frame.set_markeredgecolor("black")
        frame.set_label(f"best point (smallest {selected_on} MSE)")
        handles.append(frame)
    _legend_below(figure, handles, objective_note)
    return figure


def convergence_figure(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    *,
    tol: float,
    objective_note: str = "",
) -> Figure:
    """Draw how every model converged: its objective and its stopping quantity against the iteration.

    Parameters
    ----------
    points : sequence of PointResult
        The finished points with their histories; a point without history draws nothing.
    best : int or None
        Position in ``points`` of the best point, drawn thicker; None stresses nothing.
    selected_on : SplitName
        The part that the best point was chosen on.
    tol : float
        The stopping rule's tolerance: training stops at the first t with ``|c_(t-1) - c_t| < tol``, where
        ``c_t = ‖U_t − U_(t−1)‖_F + ‖V_t − V_(t−1)‖_F``. Drawn as a line where it is positive.
    objective_note : str
        Which objective λ belongs to, in plain words; stands at the foot.

    Returns
    -------
    Figure
        For each λ two axes, one above the other, in the order of λ: first the objective's distance from the lowest
        value that the model reached, as a part of that value; below it ``|c_(t-1) - c_t|``. Both logarithmic. d is told
        by colour and line style; where a line ends, a dot means the stopping rule and a cross the iteration cap.

    Raises
    ------
    ValueError
        If there are no points.
    """
    grid = _Grid.of(points)
    columns = _columns(len(grid.regs))
    blocks = math.ceil(len(grid.regs) / columns)
    figure = _new_figure(max(columns * 3.1 + 1.0, 7.0), blocks * 4.6 + 1.5)
    body = _titled(figure, "How training converged, one column per ridge λ", _subtitle(points, best, selected_on))
    cells = body.subplots(2 * blocks, columns, squeeze=False)
    chosen = None if best is None else points[best]
    curves = {
        (point.rank, point.reg): (_excess(point), _change_steps(point)) for point in grid.at.values()
    }
    objective_limits = _log_limits(value for excess, _ in curves.values() for value in excess[1])
    steps = [value for _, step in curves.values() for value in step[1]]
    step_limits = _log_limits([*steps, tol] if tol > 0 else steps)
    lengths = [max(len(point.history), 1) for point in grid.at.values()]
    for place in range(blocks * columns):
        block, column = divmod(place, columns)
        upper, lower = cells[2 * block, column], cells[2 * block + 1, column]
        if place >= len(grid.regs):
            upper.remove()
            lower.remove()
            continue
        reg = grid.regs[place]
        is_best = chosen is not None and chosen.reg == reg
        for panel, limits in ((upper, objective_limits), (lower, step_limits)):
            _tidy(panel)
            panel.set_yscale("log")
            panel.set_ylim(limits)
            _plain_log_ticks(panel.yaxis, *limits, powers=True)
            _iteration_axis(panel, lengths)
        drawn = [
            _draw_curve(panel, grid, point, curve, stressed=point is chosen)
            for point in grid.row(reg)
            for panel, curve in zip((upper, lower), curves[(point.rank, reg)], strict=True)
        ]
        if not any(drawn):
            upper.text(0.5, 0.5, "fewer than two iterations", transform=upper.transAxes, ha="center", color=_FAINT)
        if tol > 0:
            lower.axhline(tol, color=_INK, linewidth=1.1, linestyle=(0, (1, 1.5)), zorder=1.5)
        upper.set_title(
            f"★ λ = {reg:g}" if is_best else f"λ = {reg:g}",
            fontsize=11,
            fontweight="bold" if is_best else "normal",
            color=_INK,
        )
        upper.tick_params(labelbottom=False, labelleft=column == 0)
        lower.tick_params(labelleft=column == 0)
        if column == 0:
            upper.set_ylabel("objective above its\nlowest value (fraction)", fontsize=10, color=_INK)
            lower.set_ylabel("stopping quantity\n|c(t−1) − c(t)|", fontsize=10, color=_INK)
        lower.set_xlabel("iteration", fontsize=10.5, color=_INK)
    handles = [
        Line2D([], [], color=_rank_colour(grid, rank), linestyle=_rank_line(grid, rank), linewidth=2, label=f"d = {rank}")
        for rank in grid.ranks
    ]
    if tol > 0:
        handles.append(
            Line2D([], [], color=_INK, linewidth=1.1, linestyle=(0, (1, 1.5)), label=f"tolerance {tol:g}")
        )
    if any(point.converged for point in points):
        handles.append(_end_handle(converged=True))
    if not all(point.converged for point in points):
        handles.append(_end_handle(converged=False))
    _legend_below(figure, handles, objective_note)
    return figure


# ------------------------------------------------------------------------------------------------ what is to be drawn


@dataclass(frozen=True)
class _Grid:
    """The points by their place: distinct ranks and λ, ascending, and the point at each place that has one."""

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

    def column(self, rank: int) -> int:
        """Place of a rank on the evenly spaced d axis."""
        return self.ranks.index(rank)

    def row(self, reg: float) -> list[PointResult]:
        """Points of one λ by ascending rank."""
        return [self.at[(rank, reg)] for rank in self.ranks if (rank, reg) in self.at]

    def errors(self, reg: float, split: SplitName, metric: Metric) -> list[float]:
        """One error at every rank; NaN where it is missing or not finite."""
        return [
            _error(self.at[(rank, reg)], split, metric) if (rank, reg) in self.at else math.nan for rank in self.ranks
        ]


def _error(point: PointResult, split: SplitName, metric: Metric) -> float:
    """One mean error of a point; NaN where the split has none or it is not finite."""
    means = point.errors.get(split)
    if means is None:
        return math.nan
    value = means.mse if metric == "mse" else means.mae
    return value if math.isfinite(value) else math.nan


def _series(points: Sequence[PointResult]) -> list[tuple[SplitName, Metric]]:
    """Errors that at least one point has, in the order of the legend."""
    return [
        (split, metric)
        for split in _SPLITS
        for metric in _METRICS
        if any(math.isfinite(_error(point, split, metric)) for point in points)
    ]


def _error_values(points: Sequence[PointResult], series: Sequence[tuple[SplitName, Metric]]) -> list[float]:
    return [
        value
        for point in points
        for split, metric in series
        if math.isfinite(value := _error(point, split, metric))
    ]


def _peaks(
    points: Sequence[PointResult],
    splits: Sequence[SplitName] = _SPLITS,
    metrics: Sequence[Metric] = _METRICS,
) -> list[float]:
    """Largest finite error of each point that has one."""
    peaks = []
    for point in points:
        values = [_error(point, split, metric) for split in splits for metric in metrics]
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            peaks.append(max(finite))
    return peaks


def _is_far_off(peaks: Sequence[float]) -> bool:
    """Whether the largest value would flatten the usual ones on a linear axis."""
    return bool(peaks) and max(peaks) > _FAR_OFF * median_low(peaks)


@dataclass(frozen=True)
class _Scale:
    """The y scale that all error panels of a figure share."""

    kind: Literal["linear", "log", "symlog"]
    low: float
    high: float
    smallest: float

    @classmethod
    def of(cls, values: Sequence[float], peaks: Sequence[float]) -> _Scale:
        """Fit a scale to finite, non-negative values."""
        if not values:
            return cls("linear", 0.0, 1.0, 1.0)
        low, high = min(values), max(values)
        if _is_far_off(peaks):
            smallest = min(value for value in values if value > 0)
            margin = max((high / smallest) ** 0.06, 1.2)
            if low > 0:
                return cls("log", low / margin, high * margin, smallest)
            return cls("symlog", -0.2 * smallest, high * margin, smallest)
        margin = 0.08 * (high - low) if high > low else 0.1 * high or 1.0
        # Where zero is near it is the better foot: the eye then compares heights.
        foot = 0.0 if low < 0.25 * high else low - margin
        return cls("linear", foot - (0.02 * high if foot == 0.0 else 0.0), high + margin, low)

    def apply(self, panel: Axes) -> None:
        if self.kind == "log":
            panel.set_yscale("log")
            _plain_log_ticks(panel.yaxis, self.low, self.high)
        elif self.kind == "symlog":
            panel.set_yscale("symlog", linthresh=self.smallest)
            panel.yaxis.set_minor_locator(NullLocator())
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        else:
            panel.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
        panel.set_ylim(self.low, self.high)


def _excess(point: PointResult) -> tuple[list[int], list[float]]:
    """Iterations, and how far the objective is above the lowest one reached, as a part of it; positive values only."""
    finite = [record for record in point.history if math.isfinite(record.objective)]
    if not finite:
        return [], []
    lowest = min(record.objective for record in finite)
    unit = abs(lowest) or max(abs(record.objective) for record in finite) or 1.0
    kept = [record for record in finite if record.objective > lowest]
    return [record.iteration for record in kept], [(record.objective - lowest) / unit for record in kept]


def _change_steps(point: PointResult) -> tuple[list[int], list[float]]:
    """Iterations and ``|c_(t-1) - c_t|``; positive finite values only (c_0 is infinite, so it begins with t = 2)."""
    iterations, steps = [], []
    for before, after in zip(point.history, point.history[1:], strict=False):
        step = abs(before.change - after.change)
        if after.iteration == before.iteration + 1 and math.isfinite(step) and step > 0:
            iterations.append(after.iteration)
            steps.append(step)
    return iterations, steps


def _log_limits(values: Iterable[float]) -> tuple[float, float]:
    """Limits of a logarithmic axis with a margin; (0.1, 10) where there is nothing to show."""
    kept = list(values)
    if not kept:
        return 0.1, 10.0
    margin = max((max(kept) / min(kept)) ** 0.05, 1.5)
    return min(kept) / margin, max(kept) * margin


# ----------------------------------------------------------------------------------------------------- drawing


def _new_figure(width: float, height: float) -> Figure:
    """A white figure of so many inches on an Agg canvas."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _titled(figure: Figure, title: str, subtitle: str) -> SubFigure:
    """Set title and subtitle, and return the part of the figure below them."""
    figure.suptitle(title, fontsize=14, fontweight="bold", color=_INK)
    body = figure.subfigures(1, 1)
    assert isinstance(body, SubFigure)
    body.suptitle(subtitle, fontsize=10.5, color=_INK)
    return body


def _subtitle(points: Sequence[PointResult], best: int | None, selected_on: SplitName) -> str:
    if best is None:
        return f"no best point: no finite {selected_on} error"
    chosen = points[best]
    return (
        f"★ best: d = {chosen.rank}, λ = {chosen.reg:g}, "
        f"chosen on its {selected_on} MSE of {_number(_error(chosen, selected_on, 'mse'))}"
    )


def _columns(panels: int) -> int:
    """How many panels stand side by side: rows as even as can be."""
    rows = math.ceil(panels / _MAX_COLUMNS)
    return math.ceil(panels / rows)


def _panels(body: SubFigure, rows: int, columns: int, count: int) -> list[Axes]:
    axes: list[Axes] = list(body.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.remove()
    return axes[:count]


def _tidy(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(_FAINT)
    panel.grid(axis="y", which="major", color="#DDDDDD", linewidth=0.7)
    panel.set_axisbelow(True)
    panel.tick_params(which="both", labelsize=9.5, color=_FAINT, labelcolor=_INK)


def _rank_axis(axis: Axis, grid: _Grid) -> None:
    """Evenly spaced ranks, thinned where they would run into each other."""
    room = 12
    step = math.ceil(len(grid.ranks) / room)
    places = range(0, len(grid.ranks), step)
    axis.set_ticks(list(places), [str(grid.ranks[place]) for place in places])
    axis.set_minor_locator(NullLocator())


def _iteration_axis(panel: Axes, lengths: Sequence[int]) -> None:
    longest = max(lengths)
    if _is_far_off(lengths):
        panel.set_xscale("log")
        panel.set_xlim(0.9, longest * 1.3)
        _plain_log_ticks(panel.xaxis, 0.9, longest * 1.3)
    else:
        margin = max(0.04 * longest, 0.5)
        panel.set_xlim(1 - margin, longest + margin)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))


def _plain_log_ticks(axis: Axis, low: float, high: float, *, powers: bool = False) -> None:
    """Few major ticks in plain numbers, no minor ones."""
    decades = math.log10(high / low)
    if decades > 6:
        axis.set_major_locator(LogLocator(base=10, numticks=7))
    elif decades > 1.8:
        axis.set_major_locator(LogLocator(base=10))
    else:
        axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    if powers and decades > 1.8:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{round(math.log10(value))}}}$"))
    else:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _draw_errors(
    panel: Axes, grid: _Grid, reg: float, series: Sequence[tuple[SplitName, Metric]], scale: _Scale
) -> None:
    """Draw the error lines of one λ against the rank."""
    _tidy(panel)
    _rank_axis(panel.xaxis, grid)
    panel.set_xlim(-0.5, len(grid.ranks) - 0.5)
    scale.apply(panel)
    gaps: set[int] = set()
    for split, metric in series:
        values = grid.errors(reg, split, metric)
        gaps.update(place for place, value in enumerate(values) if math.isnan(value))
        line = _series_handle(split, metric, _series_name(split, metric))
        line.set_data(list(range(len(values))), values)
        panel.add_line(line)
    if gaps:
        cross = _gap_handle()
        cross.set_data(sorted(gaps), [0.035] * len(gaps))
        cross.set_transform(panel.get_xaxis_transform())
        panel.add_line(cross)


def _mark_best(panel: Axes, grid: _Grid, chosen: PointResult, selected_on: SplitName) -> None:
    place = grid.column(chosen.rank)
    panel.axvspan(place - 0.22, place + 0.22, color=_BEST_COLOUR, alpha=0.28, linewidth=0, zorder=0.5)
    star = _best_handle("best")
    star.set_data([place], [_error(chosen, selected_on, "mse")])
    star.set_zorder(5)
    panel.add_line(star)


def _series_name(split: SplitName, metric: Metric) -> str:
    return f"{split} {metric.upper()}"


def _series_handle(split: SplitName, metric: Metric, label: str) -> Line2D:
    colour = _SPLIT_COLOURS[split]
    return Line2D(
        [],
        [],
        color=colour,
        linestyle=_SPLIT_LINES[split],
        linewidth=2.0 if metric == "mse" else 1.4,
        marker=_METRIC_MARKERS[metric],
        markersize=6,
        markerfacecolor=colour if metric == "mse" else "white",
        markeredgecolor=colour,
        markeredgewidth=1.4,
        zorder=3,
        label=label,
    )


def _legend_handles(series: Sequence[tuple[SplitName, Metric]]) -> list[Line2D]:
    return [_series_handle(split, metric, _series_name(split, metric)) for split, metric in series]


def _best_handle(label: str) -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="none",
        marker="*",
        markersize=17,
        markerfacecolor=_BEST_COLOUR,
        markeredgecolor="black",
        markeredgewidth=1.1,
        label=label,
    )


def _gap_handle() -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="none",
        marker="x",
        markersize=6,
        markeredgecolor=_FAINT,
        markeredgewidth=1.5,
        label="no result",
    )


def _end_handle(*, converged: bool) -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="none",
        marker="o" if converged else "X",
        markersize=5 if converged else 9,
        markerfacecolor=_FAINT,
        markeredgecolor="white",
        markeredgewidth=0.8,
        label="ended by the stopping rule" if converged else "stopped by the iteration cap",
    )


def _legend_below(figure: Figure, handles: list[Line2D], objective_note: str) -> None:
    """Legend in rows at the foot of the figure, and under it the note on the objective."""
    if not handles and not objective_note:
        return
    columns = max(1, int(figure.get_figwidth() / 2.1))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(columns, len(handles) or 1),
        frameon=False,
        fontsize=10,
        handlelength=3.0,
        title=objective_note or None,
        title_fontsize=9.5,
    ).get_title().set_color(_INK)


def _has_gaps(grid: _Grid, series: Sequence[tuple[SplitName, Metric]]) -> bool:
    return any(
        math.isnan(value)
        for reg in grid.regs
        for split, metric in series
        for value in grid.errors(reg, split, metric)
    )


def _error_axis_label() -> str:
    return f"mean error\n(MSE: {_UNITS['mse']}, MAE: {_UNITS['mae']})"


def _number(value: float) -> str:
    """A number short enough for a cell: about four significant digits."""
    if math.isnan(value):
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        digits = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
        return f"{value:.{digits}f}"
    return f"{value:.1e}"


def _colour_norm(values: Sequence[float], peaks: Sequence[float]) -> Normalize:
    """Colour scale over the values: logarithmic where one point is far off."""
    if not values:
        return Normalize(0.0, 1.0)
    low, high = min(values), max(values)
    if _is_far_off(peaks) and low > 0:
        return LogNorm(low, high)
    if low == high:
        return Normalize(low - 0.5 * abs(low) - 0.5, high + 0.5 * abs(high) + 0.5)
    return Normalize(low, high)


def _draw_map(
    panel: Axes, grid: _Grid, split: SplitName, norm: Normalize, colours: Colormap
) -> AxesImage:
    """Draw one error over d × λ: a coloured cell and its number, or a hatched cell."""
    values = np.array([grid.errors(reg, split, "mse") for reg in grid.regs])
    image = panel.imshow(
        np.ma.masked_invalid(values), cmap=colours, norm=norm, origin="lower", aspect="auto"
    )
    for (row, column), value in np.ndenumerate(values):
        if math.isnan(value):
            panel.add_patch(
                Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", edgecolor="#BBBBBB", linewidth=0)
            )
            continue
        panel.text(
            column,
            row,
            _number(float(value)),
            ha="center",
            va="center",
            fontsize=10,
            color=_legible_on(colours(float(norm(value)))),
        )
    panel.set_xticks(range(len(grid.ranks)), [str(rank) for rank in grid.ranks])
    panel.set_yticks(range(len(grid.regs)), [f"{reg:g}" for reg in grid.regs])
    panel.set_xticks(np.arange(1, len(grid.ranks)) - 0.5, minor=True)
    panel.set_yticks(np.arange(1, len(grid.regs)) - 0.5, minor=True)
    panel.grid(which="minor", color="white", linewidth=1.5)
    panel.tick_params(which="both", length=0, labelsize=10, labelcolor=_INK)
    panel.spines[:].set_visible(False)
    return image


def _frame_best(panel: Axes, grid: _Grid, chosen: PointResult) -> None:
    """Frame the best cell in black inside white, which no cell colour swallows."""
    column, row = grid.column(chosen.rank), grid.regs.index(chosen.reg)
    for colour, width in (("white", 6.5), ("black", 3.0)):
        panel.add_patch(
            Rectangle(
                (column - 0.5, row - 0.5),
                1,
                1,
                fill=False,
                edgecolor=colour,
                linewidth=width,
                zorder=4,
                clip_on=False,
            )
        )


def _legible_on(background: tuple[float, float, float, float]) -> str:
    """Black or white, whichever stands out more on a colour (WCAG relative luminance)."""
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
) -> bool:
    """Draw one line with the sign of how it ended; whether there was anything to draw."""
    iterations, values = curve
    if not iterations:
        return False
    colour = _rank_colour(grid, point.rank)
    panel.plot(
        iterations,
        values,
        color=colour,
        linestyle=_rank_line(grid, point.rank),
        linewidth=2.6 if stressed else 1.5,
        label=f"d = {point.rank}",
        zorder=3 if stressed else 2,
    )
    end = _end_handle(converged=point.converged)
    end.set_data([iterations[-1]], [values[-1]])
    end.set_markerfacecolor(colour)
    end.set_zorder(4)
    panel.add_line(end)
    return True


def _rank_colour(grid: _Grid, rank: int) -> tuple[float, float, float, float]:
    """Colour of a rank: viridis in the order of d, without its palest end."""
    return colormaps["viridis"](0.88 * grid.column(rank) / max(len(grid.ranks) - 1, 1))


def _rank_line(grid: _Grid, rank: int) -> str:
    return _RANK_LINES[grid.column(rank) % len(_RANK_LINES)]
