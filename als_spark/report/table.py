"""The table of results that a sweep prints at its end, and the cells that its report shares."""

from __future__ import annotations

from collections.abc import Sequence

from als_spark.report.format import MISSING, number
from als_spark.train.records import PointResult
from als_spark.types import SplitName

__all__ = ["error_cells", "results_table", "splits_of"]

_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def results_table(points: Sequence[PointResult], best: int | None, selected_on: SplitName) -> str:
    """Set the points out as a fixed-width text table, the best one marked, with a caption.

    Plain ASCII, so that any terminal and log can show it; within 100 columns for numbers of usual
    size.

    Parameters
    ----------
    points : sequence of PointResult
        The finished points, one row each, in this order. Their λ (``lambda``) belongs to the
        objective that the run's frequency exponent selects.
    best : int or None
        Position in ``points`` of the row to mark with ``*``; None marks none.
    selected_on : SplitName
        The part of the ratings that the best point was chosen on.

    Returns
    -------
    str
        Lines without a line break at the end. Mean squared errors are in squared rating units, mean
        absolute errors in rating units; a value that is missing or not finite is ``-``. The
        validation columns are there if a point has such errors.
    """
    splits = splits_of(points)
    cells = [_header(splits), *(_row(point, splits) for point in points)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [_join(row, widths) for row in cells]
    marks = [" ", *("*" if place == best else " " for place in range(len(points)))]
    table = [_group_line(splits, widths), *map(" ".join, zip(marks, lines, strict=True))]
    table.insert(2, "-" * max(map(len, table)))
    return "\n".join([*(line.rstrip() for line in table), "", *_caption(points, best, selected_on)])


def splits_of(points: Sequence[PointResult]) -> list[SplitName]:
    """Return the parts of the ratings that a point has errors on, train first and test last."""
    return [name for name in _SPLITS if any(name in point.errors for point in points)]


def error_cells(
    point: PointResult, splits: Sequence[SplitName], missing: str = MISSING
) -> list[str]:
    """Write the mean squared and the mean absolute error of a point on each of some parts."""
    cells = []
    for split in splits:
        means = point.errors.get(split)
        values = (None, None) if means is None else (means.mse, means.mae)
        cells += [number(value, missing) for value in values]
    return cells


def _header(splits: Sequence[SplitName]) -> list[str]:
    errors = [name for _ in splits for name in ("MSE", "MAE")]
    return ["d", "lambda", *errors, "iterations", "converged", "seconds"]


def _row(point: PointResult, splits: Sequence[SplitName]) -> list[str]:
    return [
        str(point.rank),
        f"{point.reg:g}",
        *error_cells(point, splits, "-"),
        str(point.iterations),
        "yes" if point.converged else "cap",
        f"{point.seconds:.1f}",
    ]


def _join(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))


def _group_line(splits: Sequence[SplitName], widths: Sequence[int]) -> str:
    """Name each pair of error columns above them, the name centred over a rule."""
    line = " " * (2 + widths[0] + 2 + widths[1])
    for place, split in enumerate(splits):
        pair = widths[2 + 2 * place] + 2 + widths[3 + 2 * place]
        line += "  " + f" {split} ".center(pair, "-")
    return line


def _caption(points: Sequence[PointResult], best: int | None, selected_on: SplitName) -> list[str]:
    lines = []
    if best is None:
        lines.append(f"No best point: no point has a finite {selected_on} error.")
    else:
        chosen = points[best]
        place = f"d={chosen.rank}, lambda={chosen.reg:g}"
        lines.append(f"* best: {place}, the smallest {selected_on} MSE.")
        if selected_on == "validation":
            lines.append(
                "  The test ratings had no part in the choice: its test error is untouched."
            )
        else:
            lines += [
                f"  Its {selected_on} error is optimistic: the {selected_on} ratings chose it.",
                "  For an untouched test error choose on other ratings: --validation-fraction 0.1",
            ]
    if not all(point.converged for point in points):
        lines.append("cap: stopped by the cap on iterations, before the stopping rule was met.")
    lines.append("MSE in squared rating units, MAE in rating units.")
    return lines
