"""How the models of a sweep converged: the fourth picture of a sweep."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from als_spark.report.figures.curves import draw_curve, end_markers, log_axes, log_limits
from als_spark.report.figures.drawing import (
    INK,
    Grid,
    best_note,
    legend_below,
    name_panel,
    new_figure,
    pick_evenly,
    rows_columns,
    titled,
)
from als_spark.train.records import DEFAULT_JUDGE, Judge, PointResult
from als_spark.types import SplitName

__all__ = ["StopRule", "convergence_figure", "rank_style"]

StopRule = Literal["change", "objective", "bound"]
"""What ends a training: the change of the factors settles, the objective no longer falls, or the
bound no longer grows."""
_CurveOf = Callable[[PointResult], tuple[list[int], list[float]]]

_TOLERANCE_STYLE: dict[str, Any] = {"color": INK, "linewidth": 1.2, "linestyle": (0, (1, 1.5))}
# Dashes help while there are few ranks; with more of them the order of the colours reads better.
_RANK_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (2, 1)))
_MAX_DASHED_RANKS = 6
_USUAL: dict[str, Any] = {"linewidth": 1.6, "zorder": 2}
_STRESSED: dict[str, Any] = {"linewidth": 2.8, "zorder": 3}
MAX_LEGEND_RANKS = 8


def convergence_figure(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    *,
    tol: float,
    objective_note: str = "",
    judge: Judge = DEFAULT_JUDGE,
    stop: StopRule = "change",
) -> Figure:
    """Draw how every model converged: objective and stopping quantity against the iteration.

    Parameters
    ----------
    points, best, selected_on, objective_note, judge
        As in :func:`als_spark.report.figures.sweep.sweep_figure`. A point without history draws
        nothing; the best one is drawn thicker.
    tol : float
        Tolerance of the stopping rule: training stops at the first t with
        ``|c_(t-1) - c_t| < tol``, where ``c_t = ‖U_t - U_(t-1)‖_F + ‖V_t - V_(t-1)‖_F``. Drawn as
        a line if it is positive.
    stop : {"change", "objective", "bound"}
        The stopping rule: that one, or the share by which an iteration lowers the objective or
        raises the bound is below ``tol``.

    Returns
    -------
    Figure
        For each λ two axes, one above the other: the objective's distance from the lowest value
        that the model reached, as a part of that value (or the bound's from the highest), and what
        is compared with ``tol``. Both are logarithmic. Where a line ends, a dot means the stopping
        rule, a cross the iteration cap.

    Raises
    ------
    ValueError
        If there are no points.
    """
    grid = Grid.of(points)
    blocks, columns = rows_columns(len(grid.regs), max_columns=4)
    figure = new_figure(max(columns * 3.1 + 1.0, 7.0), blocks * 4.6 + 1.9)
    body = titled(
        figure,
        "How training converged" + ("" if None in grid.regs else ", one column per ridge λ"),
        best_note(points, best, selected_on, judge),
        objective_note,
    )
    chosen = None if best is None else points[best]
    # Panels come row by row: a block's upper row shows the objective, its lower row the steps.
    panels = body.subplots(2 * blocks, columns, squeeze=False)
    for spare in range(len(grid.regs), blocks * columns):
        for row in (0, 1):
            panels[2 * (spare // columns) + row, spare % columns].remove()
    lengths = [len(point.history) for point in points]
    for row, (curve_of, label) in enumerate(_ROWS[stop]):
        curves = {place: curve_of(point) for place, point in grid.at.items()}
        lines = [tol] if tol > 0 and row == 1 else []
        limits = log_limits([*(value for _, values in curves.values() for value in values), *lines])
        for place, reg in enumerate(grid.regs):
            panel = panels[2 * (place // columns) + row, place % columns]
            log_axes(panel, limits, lengths)
            for line in lines:
                panel.axhline(line, **_TOLERANCE_STYLE, zorder=1.5)
            for rank in grid.ranks:
                if (rank, reg) in curves:
                    point = grid.at[rank, reg]
                    style = rank_style(grid, rank)
                    style |= _STRESSED if point is chosen else _USUAL
                    draw_curve(panel, curves[rank, reg], style, converged=point.converged)
            if row == 0:
                name_panel(panel, reg, chosen)
            else:
                panel.set_xlabel("iteration", fontsize=10.5, color=INK)
            if place % columns == 0:
                panel.set_ylabel(label, fontsize=10, color=INK)
            panel.tick_params(labelbottom=row == 1, labelleft=place % columns == 0)
    handles = [
        Line2D([], [], **rank_style(grid, rank), linewidth=2.0)
        for rank in pick_evenly(grid.ranks, MAX_LEGEND_RANKS)
    ]
    if tol > 0:
        handles.append(Line2D([], [], **_TOLERANCE_STYLE, label=f"tolerance {tol:g}"))
    handles += end_markers(point.converged for point in points)
    legend_below(figure, handles)
    return figure


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


def _shares(point: PointResult) -> tuple[list[int], list[float]]:
    """Return iterations and the share by which each changed the objective, where positive."""
    kept = [record for record in point.history if 0 < record.change < math.inf]
    return [record.iteration for record in kept], [record.change for record in kept]


_OBJECTIVE = _excess, "objective above its\nlowest value (fraction)"
_ROWS: Mapping[StopRule, Sequence[tuple[_CurveOf, str]]] = {
    "change": (_OBJECTIVE, (_steps, "stopping quantity\n|c(t−1) − c(t)|")),
    "objective": (_OBJECTIVE, (_shares, "fall of the objective\nin an iteration (fraction)")),
    "bound": (
        (_excess, "bound below its\nhighest value (fraction)"),
        (_shares, "growth of the bound\nin an iteration (fraction)"),
    ),
}


def rank_style(grid: Grid, rank: int) -> dict[str, Any]:
    """Name and colour of a rank, from dark to light with d; dashes where there are few ranks."""
    place = grid.ranks.index(rank)
    colour = colormaps["plasma"](0.8 * place / max(len(grid.ranks) - 1, 1))
    few = len(grid.ranks) <= _MAX_DASHED_RANKS
    dashes = _RANK_DASHES[place % len(_RANK_DASHES)] if few else "-"
    return {"color": colour, "linestyle": dashes, "label": f"d = {rank}"}
