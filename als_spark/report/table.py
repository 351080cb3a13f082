"""The table of results that a sweep prints at its end, and the cells that its report shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from als_spark.report.advice import warn_unsettled
from als_spark.report.baseline import (
    Biases,
    Popular,
    biases_note,
    popular_note,
    shown_ranking,
    warn_above_biases,
    warn_below_popular,
)
from als_spark.report.format import MISSING, number
from als_spark.train.records import DEFAULT_JUDGE, ErrorMeans, Judge, PointResult
from als_spark.types import SplitName

__all__ = ["Layout", "error_cells", "ranked_splits", "results_table", "splits_of"]

_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def results_table(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    *,
    judge: Judge = DEFAULT_JUDGE,
    popular: Popular = MappingProxyType({}),
    biases: Biases = MappingProxyType({}),
) -> str:
    """Set the points out as a fixed-width text table, the best one marked, with a caption.

    Plain ASCII, so that any terminal and log can show it; within 100 columns for numbers of usual
    size. A ranking measure adds a column of about ten for each held-out part that has it.

    Parameters
    ----------
    points : sequence of PointResult
        The finished points, one row each, in this order. Their λ (``lambda``) belongs to the
        objective that the run's frequency exponent selects. Where it is learnt the learnt noise
        stands in its place, behind the errors.
    best : int or None
        Position in ``points`` of the row to mark with ``*``; None marks none.
    selected_on : SplitName
        The part of the ratings that the best point was chosen on.
    judge : Judge
        What it was chosen by. Of the ranking measures that of the judge is shown, else NDCG.
    popular : mapping of split name to RankingMeans
        What the popular items have; the caption says it, and warns of models below.
    biases : mapping of split name to ErrorMeans
        What the biases alone have; the same.

    Returns
    -------
    str
        Lines without a line break at the end. Both errors are in rating units; a value that is
        missing or not finite is ``-``. The validation columns are there if a point has such errors.
    """
    splits = splits_of(points)
    ranked, shown = ranked_splits(points), shown_ranking(judge)
    groups = [["RMSE", "MAE", *([shown.label] if split in ranked else [])] for split in splits]
    layout = Layout.of(points)
    cells = [_header(groups, layout), *(_row(p, splits, ranked, shown, layout) for p in points)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [_join(row, widths) for row in cells]
    marks = [" ", *("*" if place == best else " " for place in range(len(points)))]
    first = 2 if layout.given else 1
    table = [
        _group_line(splits, groups, widths, first),
        *map(" ".join, zip(marks, lines, strict=True)),
    ]
    table.insert(2, "-" * max(map(len, table)))
    caption = _caption(points, best, selected_on, judge)
    if popular:
        caption.append(popular_note(judge, popular))
        warning = warn_below_popular(points, best, selected_on, judge, popular)
        caption += [] if warning is None else [f"Warning: {warning}"]
    if biases:
        caption.append(biases_note(biases))
        warning = warn_above_biases(points, best, selected_on, judge, biases)
        caption += [] if warning is None else [f"Warning: {warning}"]
    caption += _learnt_caption(points, layout)
    return "\n".join([*(line.rstrip() for line in table), "", *caption])


class Layout(NamedTuple):
    """Which columns a table of points has."""

    given: bool
    """λ: it was not learnt."""
    learnt: Mapping[str, str]
    """What was learnt in its place: name in the record, header."""
    ruled: bool
    """How trainings ended: a stopping rule may have ended them."""

    @classmethod
    def of(cls, points: Sequence[PointResult]) -> Layout:
        """Look at points of one method."""
        found = points[0].learnt if points else None
        learnt = {name: words for name, words in _LEARNT.items() if name in (found or {})}
        return cls(found is None, learnt, all(point.ended_by_rule is not None for point in points))

    def cells(self, point: PointResult, missing: str = MISSING) -> list[str]:
        """Write what a point has learnt."""
        learnt = point.learnt or {}
        return [number(learnt.get(name), missing) for name in self.learnt]


_LEARNT = {"noise_deviation": "noise", "r_hat": "R-hat"}


def splits_of(points: Sequence[PointResult]) -> list[SplitName]:
    """Return the parts of the ratings that a point has errors on, train first and test last."""
    return [name for name in _SPLITS if any(name in point.errors for point in points)]


def ranked_splits(points: Sequence[PointResult]) -> list[SplitName]:
    """Return the parts of the ratings that a point has ranking measures on, test last."""
    return [name for name in _SPLITS if any(name in point.rankings for point in points)]


def error_cells(
    errors: Mapping[SplitName, ErrorMeans],
    splits: Sequence[SplitName],
    measures: Sequence[str],
    missing: str = MISSING,
) -> list[str]:
    """Write some measures of the errors on each of some parts."""
    return [
        number(None if (means := errors.get(split)) is None else getattr(means, name), missing)
        for split in splits
        for name in measures
    ]


def _header(groups: Sequence[Sequence[str]], layout: Layout) -> list[str]:
    measures = [name for group in groups for name in group]
    ended = ["converged"] if layout.ruled else []
    place = ["d", "lambda"] if layout.given else ["d"]
    return [*place, *measures, *layout.learnt.values(), "iterations", *ended, "seconds"]


def _row(
    point: PointResult,
    splits: Sequence[SplitName],
    ranked: Sequence[SplitName],
    shown: Judge,
    layout: Layout,
) -> list[str]:
    cells: list[str] = []
    for split in splits:
        cells += error_cells(point.errors, [split], ("rmse", "mae"), "-")
        if split in ranked:
            cells.append(number(shown.value(point, split), "-"))
    return [
        str(point.rank),
        *([] if point.reg is None else [f"{point.reg:g}"]),
        *cells,
        *layout.cells(point, "-"),
        str(point.iterations),
        *(["yes" if point.ended_by_rule else "cap"] if layout.ruled else []),
        f"{point.seconds:.1f}",
    ]


def _join(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))


def _group_line(
    splits: Sequence[SplitName], groups: Sequence[Sequence[str]], widths: Sequence[int], first: int
) -> str:
    """Name each group of columns above them, from ``first`` on, the name centred over a rule."""
    line = " " * (2 * first + sum(widths[:first]))
    for split, group in zip(splits, groups, strict=True):
        own = widths[first : first + len(group)]
        line += "  " + f" {split} ".center(sum(own) + 2 * (len(own) - 1), "-")
        first += len(group)
    return line


def _caption(
    points: Sequence[PointResult], best: int | None, selected_on: SplitName, judge: Judge
) -> list[str]:
    lines = []
    if best is None:
        lines.append(f"No best point: no point has a finite {selected_on} {judge.kind}.")
    else:
        chosen = points[best]
        place = f"d={chosen.rank}"
        place += "" if chosen.reg is None else f", lambda={chosen.reg:g}"
        aim = judge.aim(selected_on)
        if judge.measure == "mse":
            # The table has no column of it.
            aim += f" ({number(judge.value(chosen, selected_on), '-')})"
        lines.append(f"* best: {place}, the {aim}.")
        if selected_on == "validation":
            lines.append(
                f"  The test ratings had no part in the choice: its test {judge.kind} is untouched."
            )
        else:
            kind, other = judge.kind, "--validation-fraction 0.1"
            lines += [
                f"  Its {selected_on} {kind} is optimistic: the {selected_on} ratings chose it.",
                f"  For an untouched test {kind} choose on other ratings: {other}",
            ]
    if any(point.ended_by_rule is False for point in points):
        lines.append("cap: stopped by the cap on iterations, before the stopping rule was met.")
    lines.append("RMSE and MAE in rating units.")
    return lines


def _learnt_caption(points: Sequence[PointResult], layout: Layout) -> list[str]:
    """Say what the columns of what was learnt are, and warn of draws that have not settled."""
    lines = []
    if "noise_deviation" in layout.learnt:
        lines.append("noise: the learnt standard deviation of a rating's noise, in rating units.")
    if "r_hat" in layout.learnt:
        lines.append("R-hat: of the draws of the noise; near 1 where they have settled.")
    warning = warn_unsettled(points)
    return lines if warning is None else [*lines, f"Warning: {warning}"]
