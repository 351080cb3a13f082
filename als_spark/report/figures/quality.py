"""One picture: the quality of the models of a store, run after run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import lru_cache
from typing import Any

from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from als_spark.report.figures.drawing import (
    COLOURS,
    FAINT,
    INK,
    Scale,
    format_number,
    legend_below,
    new_figure,
    new_panels,
    png_of,
    tidy,
    titled,
    usual_top,
)
from als_spark.report.format import OUTCOMES, parse_time

__all__ = ["quality_figure", "quality_picture"]

_dates: Any = dates  # it has no types
_CHALLENGER, _CHAMPION, _PUBLISHED = COLOURS[:3]
_LINES: dict[str, dict[str, Any]] = {
    "champion": {"color": _CHAMPION, "linestyle": (0, (5, 1.5)), "linewidth": 1.4},
    "challenger": {"color": _CHALLENGER, "linestyle": "-", "linewidth": 1.4},
}
# What somebody has to look at is dark and filled.
_MARKS: dict[str, dict[str, Any]] = {
    "published": {"marker": "o", "markerfacecolor": _PUBLISHED, "markeredgecolor": "black"},
    "kept": {"marker": "o", "markerfacecolor": "white", "markeredgecolor": _CHALLENGER},
    "unchanged": {"marker": "d", "markerfacecolor": "white", "markeredgecolor": FAINT},
    "rolled_back": {"marker": "<", "markerfacecolor": "white", "markeredgecolor": INK},
    "locked": {"marker": "s", "markerfacecolor": "white", "markeredgecolor": FAINT},
    "data_check_failed": {"marker": "v", "markerfacecolor": "#E69F00", "markeredgecolor": INK},
    "bad_input": {"marker": "^", "markerfacecolor": "#CC79A7", "markeredgecolor": INK},
    "interrupted": {"marker": "X", "markerfacecolor": "white", "markeredgecolor": INK},
    "failed": {"marker": "X", "markerfacecolor": "#222222", "markeredgecolor": "white"},
    "died": {"marker": "P", "markerfacecolor": "#222222", "markeredgecolor": "white"},
}
_OTHER: dict[str, Any] = {"marker": ".", "markerfacecolor": FAINT, "markeredgecolor": FAINT}
_FOOT = 0.12  # of the panel's height
_MAX_SQUARES = 40
_BEYOND: dict[str, Any] = {
    "linestyle": "none",
    "marker": "^",
    "markerfacecolor": INK,
    "markeredgecolor": "none",
    "clip_on": False,
}
_COMPARED = ("published", "kept")


@dataclass(frozen=True, slots=True)
class _Run:
    """What the picture needs of a record."""

    time: float  # in days; NaN if it is not known
    day: str
    outcome: str
    version: str | None
    challenger: float
    champion: float

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> _Run:
        version, time = record.get("version"), parse_time(record.get("started"))
        return cls(
            math.nan if time is None else float(_dates.date2num(time)),
            "" if time is None else f"{time:%Y-%m-%d}",
            # A run that died could not say how it ended.
            str(record.get("outcome") or record.get("status")),
            None if version is None else str(version),
            _rmse(record.get("challenger")),
            _rmse(record.get("champion")),
        )

    @property
    def on_line(self) -> bool:
        """Whether its mark is its challenger's error; others stand at the foot."""
        return self.outcome in _COMPARED and math.isfinite(self.challenger)


def quality_picture(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw :func:`quality_figure` as PNG; the same runs once more cost nothing."""
    return _picture(_runs_of(records))


@lru_cache(maxsize=1)
def _picture(runs: tuple[_Run, ...]) -> bytes:
    return png_of(_figure(runs))


def quality_figure(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the RMSE of challenger and champion over the runs of a model store.

    Parameters
    ----------
    records : sequence of mappings
        The store's history, a record each run: ``started`` (ISO 8601), ``outcome``, ``version``,
        ``challenger`` and ``champion`` (mappings with ``rmse``, or null). Any key may be missing.

    Returns
    -------
    Figure
        One axes with both lines, and a mark on the challenger's for each run that published it or
        kept the champion; marks of all other runs stand in a band at the foot. The x axis is the
        time of the run, or the order of the runs where their times crowd or one is missing.

    Raises
    ------
    ValueError
        If there are no records.
    """
    return _figure(_runs_of(records))


def _runs_of(records: Sequence[Mapping[str, Any]]) -> tuple[_Run, ...]:
    """Return the runs in the order of their times, where all have one."""
    if not records:
        raise ValueError("no runs to draw: the history is empty")
    runs = [_Run.of(record) for record in records]
    if all(math.isfinite(run.time) for run in runs):
        runs.sort(key=lambda run: run.time)
    return tuple(runs)


def _figure(runs: Sequence[_Run]) -> Figure:
    timed = all(math.isfinite(run.time) for run in runs)
    times = [run.time for run in runs]
    by_time = timed and _well_spread(times)
    places = times if by_time else [float(place) for place in range(1, len(runs) + 1)]
    figure = new_figure(8.0, 4.1)
    body = titled(figure, "Quality of the model, run after run", _latest(runs))
    (panel,) = new_panels(body, 1, 1, 1)
    tidy(panel)
    values = [v for run in runs for v in (run.challenger, run.champion) if math.isfinite(v)]
    # A run that went wrong must not flatten all others; the scale ends where the usual errors do.
    usual = usual_top(values)
    scale = Scale.fitted([v for v in values if usual is None or v <= usual], [])
    scale.apply(panel)
    if not all(run.on_line for run in runs):
        _make_foot(panel, scale)
    label = "RMSE on the ratings\nthat the run held out\n(rating units)"
    panel.set_ylabel(label, fontsize=9.5, color=INK)
    if not values:
        panel.set_yticks([])
        where: dict[str, Any] = {"transform": panel.transAxes, "ha": "center"}
        panel.text(0.5, 0.5, "no run has been measured yet", **where, fontsize=11, color=FAINT)
    size = 7.5 if len(runs) <= 40 else 5 if len(runs) <= 120 else 2.5
    handles = []
    for name in _LINES:
        errors = [getattr(run, name) for run in runs]
        if any(map(math.isfinite, errors)):
            handles.append(_draw_line(panel, name, places, errors))
    foot = panel.get_ylim()[0] + 0.5 * (scale.low - panel.get_ylim()[0])
    for outcome in sorted({run.outcome for run in runs}, key=_order):
        handles.append(_mark(outcome, 7.5))
        chosen = [(at, run) for at, run in zip(places, runs, strict=True) if run.outcome == outcome]
        mark = _mark(outcome, size)
        mark.set_data(
            [at for at, _ in chosen],
            [min(run.challenger, scale.high) if run.on_line else foot for _, run in chosen],
        )
        panel.add_line(mark)
    beyond = [
        place
        for place, run in zip(places, runs, strict=True)
        if run.challenger > scale.high or run.champion > scale.high
    ]
    if beyond:
        label = f"beyond the scale (up to {format_number(max(values))})"
        arrow = Line2D([], [], **_BEYOND, markersize=6, label=label)
        handles.append(arrow)
        tops = Line2D(beyond, [1.04] * len(beyond), **_BEYOND, markersize=6)
        tops.set_transform(panel.get_xaxis_transform())
        panel.add_line(tops)
    _style_x_axis(panel, places, by_time=by_time)
    legend_below(figure, handles, paired=False)
    return figure


def _rmse(measures: Any) -> float:
    value = measures.get("rmse") if isinstance(measures, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else math.nan


def _well_spread(times: Sequence[float]) -> bool:
    """Whether ascending times can be told apart on an axis of their own.

    Half of the runs must have a quarter of the mean distance to the run before; runs of one
    afternoon beside those of other months would lie on one spot.
    """
    gaps = sorted(after - before for before, after in itertools.pairwise(times))
    return bool(gaps) and gaps[len(gaps) // 2] >= 0.25 * sum(gaps) / len(gaps) > 0


def _latest(runs: Sequence[_Run]) -> str:
    """Say which run published last, and the errors that it was published on."""
    published = [run for run in runs if run.outcome == "published"]
    if not published:
        return f"{len(runs)} run{'' if len(runs) == 1 else 's'}, nothing published"
    last = published[-1]
    words = "last published" if last.version is None else f"last published: {last.version}"
    if last.day:
        words += f" on {last.day}"
    if math.isfinite(last.challenger):
        words += f", RMSE {format_number(last.challenger)}"
        if math.isfinite(last.champion):
            words += f" (the champion before: {format_number(last.champion)})"
    return words


def _order(outcome: str) -> tuple[int, str]:
    known = list(OUTCOMES)
    return known.index(outcome) if outcome in known else len(known), outcome


def _mark(outcome: str, size: float) -> Line2D:
    label = OUTCOMES[outcome][0] if outcome in OUTCOMES else outcome
    style = _MARKS.get(outcome, _OTHER)
    return Line2D(
        [],
        [],
        linestyle="none",
        **style,
        markersize=size,
        markeredgewidth=0.5 if size < 5 else 1.1,
        label=label,
        zorder=4,
        clip_on=False,
    )


def _draw_line(panel: Axes, name: str, places: Sequence[float], values: Sequence[float]) -> Line2D:
    """Draw a line through the runs that have a value; return its entry in the legend."""
    kept = [(at, value) for at, value in zip(places, values, strict=True) if math.isfinite(value)]
    # The challenger's runs have marks of their own.
    marked = name == "champion" and len(kept) <= _MAX_SQUARES
    style = _LINES[name] | ({"marker": "s", "markersize": 3.5} if marked else {})
    panel.add_line(Line2D([at for at, _ in kept], [v for _, v in kept], **style, label=name))
    return Line2D([], [], **style, label=name)


def _make_foot(panel: Axes, scale: Scale) -> None:
    """Keep a band at the foot of the panel for the runs that compared nothing."""
    bottom = scale.low - (scale.high - scale.low) * _FOOT / (1 - _FOOT)
    panel.set_yticks([tick for tick in panel.get_yticks() if scale.low <= tick <= scale.high])
    panel.set_ylim(bottom, scale.high)
    panel.axhspan(bottom, scale.low, color="#F0F0F0", linewidth=0, zorder=0.5)
    panel.set_yticks([0.5 * (bottom + scale.low)], ["not compared"], minor=True)
    panel.tick_params(axis="y", which="minor", length=0, labelsize=8.5)


def _style_x_axis(panel: Axes, places: Sequence[float], *, by_time: bool) -> None:
    margin = 0.04 * (places[-1] - places[0]) or 0.5
    panel.set_xlim(places[0] - margin, places[-1] + margin)
    if by_time:
        locator = _dates.AutoDateLocator(tz=UTC, minticks=3, maxticks=7)
        panel.xaxis.set_major_locator(locator)
        panel.xaxis.set_major_formatter(_dates.ConciseDateFormatter(locator, tz=UTC))
        panel.set_xlabel("start of the run (UTC)", fontsize=10.5, color=INK)
    else:
        ticks = MaxNLocator(nbins=8, integer=True)
        # Left alone, the locator would put fractions around a lone run.
        panel.xaxis.set_major_locator(FixedLocator([1]) if len(places) == 1 else ticks)
        panel.set_xlabel("run, in their order", fontsize=10.5, color=INK)
