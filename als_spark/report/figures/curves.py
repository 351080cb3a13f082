"""Axes and marks of pictures that follow a training from iteration to iteration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from als_spark.report.figures.drawing import FAINT, tidy

__all__ = ["draw_curve", "end_markers", "iteration_axis", "log_axes", "log_limits"]


def log_limits(values: Sequence[float]) -> tuple[float, float]:
    """Limits of a logarithmic axis around positive values, with a margin."""
    if not values:
        return 0.1, 10.0
    margin = max((max(values) / min(values)) ** 0.05, 1.5)
    return min(values) / margin, max(values) * margin


def log_axes(panel: Axes, limits: tuple[float, float], lengths: Sequence[int]) -> None:
    """Set a logarithmic y axis and an iteration axis that holds the longest history."""
    tidy(panel)
    panel.set_yscale("log")
    panel.set_ylim(limits)
    _decade_ticks(panel.yaxis, limits)
    iteration_axis(panel, lengths)


def iteration_axis(panel: Axes, lengths: Sequence[int]) -> None:
    """Set an iteration axis that holds the longest history, logarithmic if others are far shorter.

    Parameters
    ----------
    panel : Axes
        Where to.
    lengths : sequence of int
        Iterations of each history that is drawn, or of all those of a figure whose panels are to
        agree; at least one.
    """
    longest = max(*lengths, 1)
    if longest > 10 * sorted(lengths)[(len(lengths) - 1) // 2] > 0:
        panel.set_xscale("log")
        panel.set_xlim(0.8, longest * 1.4)
        _decade_ticks(panel.xaxis, (0.8, longest * 1.4))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        margin = 0.04 * longest + 0.2
        panel.set_xlim(1 - margin, longest + margin)
        ticks = MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10])
        # Left alone, the locator would put fractions around a lone iteration.
        panel.xaxis.set_major_locator(FixedLocator([1]) if longest == 1 else ticks)


def _decade_ticks(axis: Axis, limits: tuple[float, float]) -> None:
    """Set few ticks on a logarithmic axis: decades, or 1, 2, 5 if it spans fewer than 1.5."""
    narrow = math.log10(limits[1] / limits[0]) < 1.5
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=7))
    axis.set_minor_locator(NullLocator())
    if narrow:
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def draw_curve(
    panel: Axes,
    curve: tuple[Sequence[int], Sequence[float]],
    style: Mapping[str, Any],
    *,
    converged: bool,
) -> None:
    """Draw a line over the iterations and the sign of how it ended; of no iteration, nothing.

    Parameters
    ----------
    panel : Axes
        Where to.
    curve : pair of sequences
        Iterations and values.
    style : mapping of str to Any
        The line's properties, ``color`` and ``label`` among them.
    converged : bool
        Whether the stopping rule ended it (False: the cap).
    """
    iterations, values = curve
    if not iterations:
        return
    panel.plot(iterations, values, **style)
    end = _end_marker(converged)
    end.set_data(iterations[-1:], values[-1:])
    end.set_markerfacecolor(style["color"])
    end.set_zorder(4)
    panel.add_line(end)


def end_markers(ends: Iterable[bool]) -> list[Line2D]:
    """Make the entries of a legend for how trainings ended, converged or not, one for each way."""
    found = set(ends)
    return [_end_marker(converged) for converged in (True, False) if converged in found]


def _end_marker(converged: bool) -> Line2D:
    """Make the sign of how a training ended: a dot for the stopping rule, a cross for the cap."""
    return Line2D(
        [],
        [],
        linestyle="none",
        marker="o" if converged else "X",
        markersize=6 if converged else 9,
        markerfacecolor=FAINT,
        markeredgecolor="white",
        markeredgewidth=0.8,
        label="ended by the stopping rule" if converged else "stopped by the iteration cap",
    )
