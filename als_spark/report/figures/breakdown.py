"""One picture: whom a model predicts well, by the activity of users and popularity of items."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from als_spark.report.figures.drawing import (
    COLOURS,
    FAINT,
    INK,
    Scale,
    legend_below,
    new_figure,
    tidy,
    titled,
)

__all__ = ["Bin", "Bins", "bins_of", "breakdown_figure"]

_MARKERS = "osD^"
_LONG_LABELS = 40  # characters side by side under a panel
_GAP: dict[str, Any] = {"marker": "x", "linestyle": "none", "color": FAINT, "markersize": 6}


@dataclass(frozen=True, slots=True)
class Bin:
    """The errors over some of the held-out ratings.

    Attributes
    ----------
    label : str
        Which: of users, or items, of so many training ratings; ``6–20``.
    count : int
        Held-out ratings.
    mse, mae : float
        Mean squared and mean absolute error, in squared and plain rating units; NaN if it has no
        rating.
    """

    label: str
    count: int
    mse: float
    mae: float

    @property
    def rmse(self) -> float:
        """Root mean squared error, in rating units; NaN if it has none."""
        return math.sqrt(self.mse) if 0 <= self.mse < math.inf else math.nan


Bins = Sequence[Bin] | Mapping[str, Sequence[Bin]]
"""The bins of one model, or those of several by the name of the model."""


def bins_of(records: Sequence[Mapping[str, Any]] | None) -> list[Bin]:
    """Read bins from JSON records of ``label``, ``count``, ``mse`` and ``mae``; null is NaN."""
    return [
        Bin(
            str(record.get("label")),
            record.get("count") or 0,
            math.nan if record.get("mse") is None else float(record["mse"]),
            math.nan if record.get("mae") is None else float(record["mae"]),
        )
        for record in records or ()
    ]


def breakdown_figure(by_user: Bins, by_item: Bins, *, note: str = "") -> Figure:
    """Draw the error by user activity and by item popularity.

    Parameters
    ----------
    by_user, by_item : sequence of Bin, or mapping of str to such
        Bins by the number of training ratings of the user, and of the item; several models by
        name. A side without bins is left out.
    note : str
        On which ratings; stands under the title.

    Returns
    -------
    Figure
        For each side two axes, one above the other: the RMSE of each bin, a mark for each model,
        and the number of held-out ratings in the bin (of the first model, if they differ). All
        RMSEs have one scale. A bin without ratings has a small cross at the foot.

    Raises
    ------
    ValueError
        If no side has bins, or the models have different ones.
    """
    sides: list[tuple[Mapping[str, Sequence[Bin]], str, str]] = []
    for bins, title, label in (
        (by_user, "by activity of the user", "training ratings of the user"),
        (by_item, "by popularity of the item", "training ratings of the item"),
    ):
        models = bins if isinstance(bins, Mapping) else {"": bins}
        labels = {tuple(one.label for one in found) for found in models.values()}
        if len(labels) > 1:
            raise ValueError(f"the models have different bins {title}: {sorted(labels)}")
        if any(models.values()):
            sides.append((models, title, label))
    if not sides:
        raise ValueError("no bins to draw")
    figure = new_figure(max(4.9 * len(sides), 6.0), 4.9)
    body = titled(figure, "Errors by how much there is to go by", note)
    panels = body.subplots(
        2, len(sides), squeeze=False, sharex="col", sharey="row", height_ratios=(3, 1)
    )
    every = [one for models, _, _ in sides for bins in models.values() for one in bins]
    rmses = [one.rmse for one in every if math.isfinite(one.rmse)]
    scale = Scale.fitted(rmses, rmses)
    highest = max(one.count for one in every)
    names = list(dict.fromkeys(name for models, _, _ in sides for name in models))
    styles = {name: _style(place, name) for place, name in enumerate(names)}
    for (models, title, label), (upper, lower) in zip(sides, panels.T, strict=True):
        upper.set_title(title, fontsize=11, color=INK)
        tidy(upper)
        scale.apply(upper)
        for place, (name, bins) in enumerate(models.items()):
            shift = 0.16 * (place - (len(models) - 1) / 2)
            _draw_errors(upper, bins, shift, styles[name])
        _draw_counts(lower, next(iter(models.values())), highest)
        lower.set_xlabel(label, fontsize=10.5, color=INK)
        upper.tick_params(labelbottom=False)
    panels[0, 0].set_ylabel("RMSE\n(rating units)" + scale.note, fontsize=10, color=INK)
    panels[1, 0].set_ylabel("held-out\nratings", fontsize=10, color=INK)
    handles = [Line2D([], [], **styles[name]) for name in names if name]
    if len(rmses) < len(every):
        handles.append(Line2D([], [], **_GAP, label="no ratings"))
    legend_below(figure, handles)
    return figure


def _style(place: int, name: str) -> dict[str, Any]:
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "linestyle": (0, (1, 2)),
        "linewidth": 1.2,
        "markersize": 7,
        "label": name or "RMSE",
    }


def _draw_errors(panel: Axes, bins: Sequence[Bin], shift: float, style: dict[str, Any]) -> None:
    places = [place + shift for place in range(len(bins))]
    panel.plot(places, [one.rmse for one in bins], **style, zorder=3)
    gaps = [at for at, one in zip(places, bins, strict=True) if not math.isfinite(one.rmse)]
    if gaps:
        feet = [0.04] * len(gaps)
        panel.plot(gaps, feet, transform=panel.get_xaxis_transform(), **_GAP, label="no ratings")


def _draw_counts(panel: Axes, bins: Sequence[Bin], highest: int) -> None:
    """Draw the number of ratings of each bin as a bar with its number."""
    tidy(panel)
    panel.grid(visible=False)
    panel.spines["left"].set_visible(False)
    panel.set_yticks([])
    panel.bar(range(len(bins)), [one.count for one in bins], width=0.6, color="#BBBBBB")
    for place, one in enumerate(bins):
        panel.annotate(
            _abbreviate_count(one.count),
            (place, one.count),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8.5,
            color=INK,
        )
    panel.set_ylim(0, 1.35 * max(highest, 1))  # with room for the number of the highest bar
    panel.set_xlim(-0.6, len(bins) - 0.4)
    slanted = sum(len(one.label) + 2 for one in bins) > _LONG_LABELS
    panel.set_xticks(
        range(len(bins)),
        [one.label for one in bins],
        rotation=35 if slanted else 0,
        ha="right" if slanted else "center",
    )


def _abbreviate_count(count: int) -> str:
    """Write a count in few characters: 950, 1.2k, 12k, 3.4M."""
    if count < 1000:
        return str(count)
    value, unit = (count / 1000, "k") if count < 999_500 else (count / 1e6, "M")
    return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
