"""One picture: whether predictions, and intervals, are what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from als_spark.report.figures.drawing import COLOURS, FAINT, INK, new_figure, tidy, titled

__all__ = ["calibration_figure"]

Records = Sequence[Mapping[str, Any]]


def calibration_figure(by_prediction: Records, intervals: Records, *, note: str = "") -> Figure:
    """Draw what was observed against what was predicted.

    Parameters
    ----------
    by_prediction : sequence of mappings
        ``predicted`` and ``observed``, the means of each tenth of the held-out ratings.
    intervals : sequence of mappings
        ``coverage`` of intervals, and the share ``observed`` of the ratings within them; empty
        where the model has none.
    note : str
        On which ratings; stands under the title.

    Returns
    -------
    Figure
        An axes of the tenths, and one of the intervals if there are some: marks near the diagonal
        are as they should be.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    if not by_prediction:
        raise ValueError("no predictions to draw")
    count = 2 if intervals else 1
    figure = new_figure(max(4.6 * count, 5.2), 4.6)
    body = titled(figure, "Observed against predicted", note)
    panels: list[Axes] = list(body.subplots(1, count, squeeze=False).flat)
    pairs = [(part["predicted"], part["observed"]) for part in by_prediction]
    _draw(panels[0], pairs, COLOURS[1])
    panels[0].set_title("ratings, in tenths by prediction", fontsize=11, color=INK)
    panels[0].set_xlabel("mean prediction (rating units)", fontsize=10.5, color=INK)
    panels[0].set_ylabel("mean rating (rating units)", fontsize=10.5, color=INK)
    for panel in panels[1:]:
        _draw(panel, [(part["coverage"], part["observed"]) for part in intervals], COLOURS[2])
        panel.set_title("intervals", fontsize=11, color=INK)
        panel.set_xlabel("coverage", fontsize=10.5, color=INK)
        panel.set_ylabel("ratings within", fontsize=10.5, color=INK)
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1)
        panel.xaxis.set_major_formatter(PercentFormatter(1.0))
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


def _draw(panel: Axes, pairs: Sequence[tuple[float, float]], colour: str) -> None:
    """Draw marks beside the diagonal on which they should be, both axes on one scale."""
    tidy(panel)
    values = [value for pair in pairs for value in pair]
    margin = 0.06 * (max(values) - min(values)) or 0.5
    ends = min(values) - margin, max(values) + margin
    panel.axline((ends[0], ends[0]), slope=1, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    panel.plot(
        *zip(*pairs, strict=True), marker="o", linestyle="none", color=colour, markersize=6.5
    )
    panel.set_xlim(*ends)
    panel.set_ylim(*ends)
    panel.set_aspect("equal")
