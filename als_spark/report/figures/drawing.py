"""What the figures of a sweep share: the grid of points, the scale of errors, the canvas.

Nothing here touches global state: no pyplot, no rcParams.
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
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from als_spark.train.records import DEFAULT_JUDGE, Judge, PointResult
from als_spark.types import SplitName

Metric = Literal["mse", "mae"]

INK, FAINT = "#222222", "#767676"
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")  # of series that have no order
RANK_LABEL = "rank d (number of factors)"
TICK_STEPS = (1, 2, 2.5, 5, 10)  # what ticks may be apart, times a power of ten

_DPI = 150
_SERIES: tuple[tuple[SplitName, Metric], ...] = (
    ("test", "mse"),
    ("test", "mae"),
    ("validation", "mse"),
    ("validation", "mae"),
    ("train", "mse"),
    ("train", "mae"),
)


@dataclass(frozen=True)
class Grid:
    """Points by place: distinct ranks and λ, ascending, and the point that each place has.

    Where λ is learnt the one λ is None.
    """

    ranks: tuple[int, ...]
    regs: tuple[float | None, ...]
    at: dict[tuple[int, float | None], PointResult]

    @classmethod
    def of(cls, points: Sequence[PointResult]) -> Grid:
        """Sort points into their places; ValueError if there are none."""
        if not points:
            raise ValueError("no points to draw: the sweep has finished none")
        return cls(
            ranks=tuple(sorted({point.rank for point in points})),
            regs=tuple(sorted({point.reg for point in points}, key=lambda reg: reg or 0.0)),
            at={(point.rank, point.reg): point for point in points},
        )

    def errors(self, reg: float | None, split: SplitName, metric: Metric) -> list[float]:
        """One error at every rank; NaN where it is missing or not finite."""
        points = (self.at.get((rank, reg)) for rank in self.ranks)
        return [math.nan if point is None else error_of(point, split, metric) for point in points]

    def judged(self, reg: float | None, split: SplitName, judge: Judge) -> list[float]:
        """Return the measure of a judge at every rank; NaN where it is missing or not finite."""
        points = (self.at.get((rank, reg)) for rank in self.ranks)
        return [math.nan if p is None else judged_value(p, split, judge) for p in points]

    def values(self, series: Iterable[tuple[SplitName, Metric]]) -> list[float]:
        """Every finite error of these series."""
        errors = [error_of(point, *key) for point in self.at.values() for key in series]
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


def error_of(point: PointResult, split: SplitName, metric: Metric) -> float:
    """One mean error of a point; NaN where the split has none or it is not finite."""
    means = point.errors.get(split)
    if means is None:
        return math.nan
    value = means.mse if metric == "mse" else means.mae
    return value if math.isfinite(value) else math.nan


def judged_value(point: PointResult, split: SplitName, judge: Judge) -> float:
    """Return the measure of a judge; NaN where it is missing or not finite."""
    value = judge.value(point, split)
    return value if math.isfinite(value) else math.nan


def format_number(value: float) -> str:
    """Format a number for a cell, with about four digits."""
    if math.isnan(value):
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e4:
        return f"{value:.1e}"
    return f"{value:.{3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0}f}"


def usual_top(values: Sequence[float]) -> float | None:
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
class Scale:
    """The y scale that all error panels of a figure share.

    Linear from ``low`` to ``high``; with a ``bend``, linear up to it and logarithmic above.
    """

    low: float
    high: float
    bend: float | None = None

    @classmethod
    def of(cls, grid: Grid) -> Scale:
        """Fit the scale to every finite error of a grid."""
        peaks = (Grid((), (), {key: point}) for key, point in grid.at.items())
        tops = [max(found) for one in peaks if (found := one.values(grid.series))]
        return cls.fitted(grid.values(grid.series), tops)

    @classmethod
    def fitted(cls, values: Sequence[float], tops: Sequence[float]) -> Scale:
        """Fit the scale to finite errors; ``tops``, those that tell the usual from the far off."""
        if not values:
            return cls(0.0, 1.0)
        low, high = min(values), max(values)
        usual = usual_top(tops)
        if usual is not None:
            bend = float(MaxNLocator(nbins=4, steps=TICK_STEPS).tick_values(0, usual)[-1])
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
        locator = MaxNLocator(nbins=6, steps=TICK_STEPS)
        if self.bend is None:
            panel.yaxis.set_major_locator(locator)
        else:
            decades = math.log10(self.high / self.bend)
            # The usual values keep two thirds of the height.
            panel.set_yscale("symlog", linthresh=self.bend, linscale=2 * decades)
            usual = MaxNLocator(nbins=4, steps=TICK_STEPS).tick_values(0, self.bend)
            clear = self.bend * 10 ** (0.2 * decades)  # of the label of the bend
            shown = [tick for tick in usual if tick <= self.bend]
            shown += [t for t in _ticks_above(self.bend, decades) if clear < t <= self.high]
            panel.set_yticks(shown, [f"{tick:g}" for tick in shown])
            panel.yaxis.set_minor_locator(NullLocator())
            panel.axhline(self.bend, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        panel.set_ylim(self.low, self.high)


def _ticks_above(bend: float, decades: float) -> list[float]:
    """Place a few ticks on the logarithmic part of the scale: powers of ten, if it has some."""
    if decades < 1:
        locator = MaxNLocator(nbins=3, steps=TICK_STEPS)
        return [float(tick) for tick in locator.tick_values(bend, bend * 10**decades)]
    first = math.floor(math.log10(bend))
    powers = range(first, first + math.ceil(decades) + 2, math.ceil(decades / 4))
    return [10.0**power for power in powers]


def new_figure(width: float, height: float) -> Figure:
    """Make a white figure of so many inches on an Agg canvas."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG file that holds neither time nor version.

    The picture is drawn in full before the file is opened; an existing file is replaced.
    """
    Path(path).write_bytes(png_of(figure))


def png_of(figure: Figure) -> bytes:
    """Draw a figure as a PNG picture that holds neither time nor version."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def titled(figure: Figure, title: str, *notes: str) -> SubFigure:
    """Set the title and, smaller, the notes under it; return the part of the figure below.

    Both are shown as they are: what stands between two ``$`` of a path is no formula.
    """
    figure.suptitle(title, fontsize=14, fontweight="bold", color=INK, parse_math=False)
    body = figure.subfigures(1, 1)
    assert isinstance(body, SubFigure)
    width = int(figure.get_figwidth() * 12)
    lines = [line for note in notes for line in textwrap.wrap(note, width)]
    text = "\n".join(lines)
    body.suptitle(text, fontsize=10.5, color=INK, linespacing=1.4, parse_math=False)
    return body


def best_note(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    judge: Judge = DEFAULT_JUDGE,
) -> str:
    """Say in one line which point is the best, and by which number."""
    if best is None:
        return f"no best point: no finite {selected_on} {judge.kind}"
    chosen = points[best]
    value = format_number(judged_value(chosen, selected_on, judge))
    return f"★ best: {chosen.place}, chosen on its {selected_on} {judge.label} of {value}"


def rows_columns(panels: int, *, max_columns: int) -> tuple[int, int]:
    """Rows and columns for so many panels, the rows as even as can be."""
    rows = math.ceil(panels / max_columns)
    return rows, math.ceil(panels / rows)


def new_panels(body: SubFigure, rows: int, columns: int, count: int) -> list[Axes]:
    """Make so many axes in rows and columns; places at the end of the last row stay empty."""
    panels: list[Axes] = list(body.subplots(rows, columns, squeeze=False).flat)
    for spare in panels[count:]:
        spare.remove()
    return panels[:count]


def name_panel(panel: Axes, reg: float | None, chosen: PointResult | None) -> None:
    """Title a panel with its λ, if it has one; star and bold for the one of the best point."""
    if reg is None:
        return
    is_best = chosen is not None and chosen.reg == reg
    name = f"★ λ = {reg:g}" if is_best else f"λ = {reg:g}"
    weight = "bold" if is_best else "normal"
    panel.set_title(name, fontsize=11, fontweight=weight, color=INK)


def tidy(panel: Axes) -> None:
    """Give a panel the look of all: no frame at the top and right, faint horizontal lines."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(FAINT)
    panel.grid(axis="y", which="major", color="#DDDDDD", linewidth=0.7)
    panel.set_axisbelow(True)
    panel.tick_params(which="both", labelsize=9.5, color=FAINT, labelcolor=INK)


def pick_evenly(ranks: Sequence[int], most: int) -> list[int]:
    """At most so many of the ranks, evenly, the first and the last among them."""
    places = np.linspace(0, len(ranks) - 1, min(most, len(ranks))).round().astype(int)
    return [ranks[place] for place in places]


def legend_beside(
    panel: Axes, handles: Sequence[Line2D] | Sequence[Line2D | Patch], **style: Any
) -> None:
    """Put a legend at the right side of a panel; ``style`` is as of ``Axes.legend``."""
    panel.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        borderaxespad=0.0,
        frameon=False,
        alignment="left",
        **style,
    )


def legend_below(figure: Figure, handles: Sequence[Line2D], *, paired: bool = True) -> None:
    """Put a legend at the foot of the figure, in columns; of an even height if entries pair up."""
    if handles:
        columns = min(math.ceil(len(handles) / 2), int(figure.get_figwidth() / 2))
        rows = math.ceil(len(handles) / columns)
        rows += rows % 2 if paired else 0  # the MSE and the MAE of a split keep together
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=math.ceil(len(handles) / rows),
            frameon=False,
            fontsize=10,
            handlelength=3.0,
        )
