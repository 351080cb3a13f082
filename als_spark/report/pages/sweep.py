"""The report of a sweep: what ran on what data, which model is best, and what to be wary of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from als_spark.report.advice import edges, next_command, warn_unsettled
from als_spark.report.baseline import (
    Biases,
    Popular,
    biases_note,
    is_beaten,
    popular_note,
    warn_above_biases,
    warn_below_popular,
)
from als_spark.report.format import MISSING, duration, number, show
from als_spark.report.pages.page import Picture, Table, render
from als_spark.report.pages.views import (
    Facts,
    column_facts,
    degree_facts,
    drop_missing,
    first_rows_table,
    get_list,
    get_mapping,
    histogram_table,
    run_view,
    tables_words,
)
from als_spark.report.table import Layout, error_cells, ranked_splits, splits_of
from als_spark.train.records import (
    DEFAULT_JUDGE,
    RANKING_MEASURES,
    Judge,
    Measure,
    PointResult,
    RankingMeans,
)
from als_spark.types import SplitName

__all__ = ["SWEEP_PICTURES", "sweep_page"]

SWEEP_PICTURES: Mapping[str, tuple[str, str]] = {
    "sweep.png": (
        "Lines of train and test errors against the rank, a panel for each λ",
        "The errors of every model. Where train falls and test rises, the model overfits.",
    ),
    "selected.png": (
        "Lines of the errors against the rank at the selected λ",
        "The errors at the λ of the best model.",
    ),
    "heatmap.png": (
        "Coloured cells with the mean squared error of every rank and λ",
        "The error that the best model was chosen by, and that on the test ratings.",
    ),
    "convergence.png": (
        "Lines of objective and stopping quantity against the iteration",
        "How every model converged: its objective and its stopping quantity.",
    ),
}
"""The pictures of a sweep, in the order of the page: alternative text and caption of each."""

_LEARNT_PICTURES: Mapping[str, tuple[str, str]] = {
    "sweep.png": (
        "Lines of train and test errors against the rank",
        "The errors of every model.",
    ),
    "bound": (
        "Lines of bound and stopping quantity against the iteration",
        "How every model converged: its bound, and what the bound still grew by.",
    ),
    "samples": (
        "Lines of the noise of every draw against the iteration",
        "The noise that every iteration has drawn: level where the draws have settled.",
    ),
}
"""The same where λ is learnt; ``bound`` and ``samples`` are convergence.png."""
_COLD: Mapping[str, str] = {
    "prior": "are predicted by the prior means of their rows here, and by means of users and items "
    "in the saved model (--cold-start mean measures that)",
    "mean": "are predicted by a mean: of the user, else of the item, else of all",
    "drop": "are left out of the errors",
    "initial": "are predicted from the random start",
}


def sweep_page(
    points: Sequence[PointResult],
    best: int,
    selected_on: SplitName,
    run: Mapping[str, Any],
    pictures: Mapping[str, bytes],
    *,
    objective_note: str = "",
    judge: Judge = DEFAULT_JUDGE,
    popular: Popular = MappingProxyType({}),
    biases: Biases = MappingProxyType({}),
) -> str:
    """Write the report of a sweep, whole or cut short, as one HTML file.

    Parameters
    ----------
    points : sequence of PointResult
        The finished points.
    best : int
        Position of the best among them.
    selected_on : SplitName
        The part of the ratings that it was chosen on.
    run : mapping
        The record of ``run.json``.
    pictures : mapping of str to bytes
        PNG files by name: those of :data:`SWEEP_PICTURES`, as far as they are there.
    objective_note : str
        Which objective λ belongs to, or what is learnt, in plain words.
    judge : Judge
        What the best point was chosen by.
    popular : mapping of split name to RankingMeans
        What the popular items have, where rankings were measured.
    biases : mapping of split name to ErrorMeans
        What the biases alone have, where ratings are explicit.

    Returns
    -------
    str
        The page.
    """
    chosen = points[best]
    complete = run.get("status") == "complete"
    asked = get_mapping(run, "points").get("asked", len(points))
    value = number(judge.value(chosen, selected_on))
    model = f"rank {chosen.place}"
    sentence = f"The best of {len(points)} models: {model}, {selected_on} {judge.label} {value}."
    if not complete:
        sentence = f"Stopped after {len(points)} of {asked} models. " + sentence
    drawn = [name for name in SWEEP_PICTURES if name in pictures]
    return render(
        "sweep.html.jinja",
        **run_view(run),
        outcome="complete" if complete else "interrupted",
        tone="good" if complete else "neutral",
        sentence=sentence,
        notes=list(_warnings(points, best, selected_on, run, judge, popular, biases)),
        data=_data_facts(run),
        first_rows=first_rows_table(get_list(run, "first_rows")),
        histogram=histogram_table(get_mapping(run, "data")),
        results=_results_table(points, best, judge.aim(selected_on), biases),
        rankings=_rankings_tables(points, best, judge, popular),
        objective_note=objective_note,
        is_learnt=chosen.reg is None,
        drawn=[Picture(pictures[name], *_picture_words(name, judge, chosen)) for name in drawn],
    )


def _data_facts(run: Mapping[str, Any]) -> Facts:
    data = get_mapping(run, "data")
    ratings = [f"{count:,} {part}" for part, count in get_mapping(data, "ratings").items()]
    columns = [f"{role}: {name}" for role, name in get_mapping(run, "columns").items() if name]
    extremes = [data.get("lowest_rating"), data.get("highest_rating")]
    return drop_missing(
        [
            ("source", run.get("source")),
            ("read", "; ".join(map(show, get_list(run, "read")))),
            ("columns", ", ".join(columns)),
            *column_facts(run),
            ("tables", tables_words(run)),
            ("ratings", ", ".join(ratings)),
            ("users", data.get("users")),
            ("items", data.get("items")),
            ("lowest, highest rating", [] if None in extremes else extremes),
            *degree_facts(data),
            ("pairs rated more than once", data.get("duplicate_pairs")),
            ("ids written with decimals", sum(get_mapping(data, "changed_ids").values()) or None),
            ("rows dropped", sum(get_mapping(data, "bad_rows_dropped").values())),
            ("Spark master", run.get("spark_master")),
            ("placement", run.get("placement")),
        ]
    )


def _picture_words(name: str, judge: Judge, chosen: PointResult) -> tuple[str, str]:
    if chosen.reg is None:
        kind = "samples" if chosen.ended_by_rule is None else "bound"
        return _LEARNT_PICTURES[kind if name == "convergence.png" else name]
    if name == "heatmap.png" and judge.measure != "mse":
        return (
            f"Coloured cells with the {judge.label} of every rank and λ",
            f"The {judge.label} that the best model was chosen by, and that on the test ratings.",
        )
    return SWEEP_PICTURES[name]


def _results_table(points: Sequence[PointResult], best: int, aim: str, biases: Biases) -> Table:
    splits, measures = splits_of(points), ("rmse", "mse", "mae")
    errors = [f"{split} {name.upper()}" for split in splits for name in measures]
    layout = Layout.of(points)
    grid, ended = _grid_headers(layout), ["ended by"] if layout.ruled else []
    headers = ["", *grid, *errors, *layout.learnt.values(), "iterations", *ended, "time"]
    rows = [
        [
            "★ best" if place == best else " ",
            *_grid_cells(point),
            *error_cells(point.errors, splits, measures),
            *layout.cells(point),
            point.iterations,
            *(["stopping rule" if point.converged else "cap"] if layout.ruled else []),
            duration(point.seconds),
        ]
        for place, point in enumerate(points)
    ]
    right = {k for k, header in enumerate(headers) if k and header not in ended}
    caption = f"Chosen: the {aim}."
    if biases:
        cells = error_cells(biases, splits, measures)
        missing = [MISSING] * (len(headers) - 1 - len(grid) - len(cells))
        rows.append(["biases alone", *[MISSING] * len(grid), *cells, *missing])
        caption += f" {biases_note(biases)}"
    return Table(headers, rows, right=right, marked={best: "good"}, caption=caption)


def _grid_headers(layout: Layout) -> list[str]:
    return ["d", "λ"] if layout.given else ["d"]


def _grid_cells(point: PointResult) -> list[str]:
    return [str(point.rank), *([] if point.reg is None else [f"{point.reg:g}"])]


def _rankings_tables(
    points: Sequence[PointResult], best: int, judge: Judge, popular: Popular
) -> list[Table]:
    """Lay out the ranking measures of all models and of the popular items, a table a part.

    Side by side, those of two parts are wider than a page.
    """
    measures = [Judge(measure, judge.top).label for measure in RANKING_MEASURES]
    grid = _grid_headers(Layout.of(points))
    headers = ["", *grid, *measures, "coverage"]
    tables = []
    for split in ranked_splits(points):
        rows = [
            [
                "★ best" if place == best else " ",
                *_grid_cells(point),
                *_ranking_cells(point.rankings.get(split)),
            ]
            for place, point in enumerate(points)
        ]
        missing = [MISSING] * len(grid)
        rows.append(["popular items", *missing, *_ranking_cells(popular.get(split))])
        own = {split: popular[split]} if split in popular else {}
        caption = f"On the {split} ratings. {popular_note(judge, own)}" if own else ""
        right = set(range(1, len(headers)))
        tables.append(Table(headers, rows, right=right, marked={best: "good"}, caption=caption))
    return tables


def _ranking_cells(means: RankingMeans | None) -> list[str]:
    names: tuple[Measure | str, ...] = (*RANKING_MEASURES, "coverage")
    return [number(None if means is None else getattr(means, name)) for name in names]


def _warnings(
    points: Sequence[PointResult],
    best: int,
    selected_on: SplitName,
    run: Mapping[str, Any],
    judge: Judge,
    popular: Popular,
    biases: Biases,
) -> Iterator[str]:
    """Say what a reader of the numbers alone would miss."""
    chosen = points[best]
    config, data = get_mapping(run, "config"), get_mapping(run, "data")
    asked = get_mapping(run, "points").get("asked", len(points))
    if len(points) < asked:
        yield (
            f"The run was stopped: {asked - len(points)} of {asked} models are missing, and one "
            "of them may be better."
        )
    refit = get_mapping(run, "refit")
    if refit:
        ended = "" if refit.get("converged") else ", where the cap on iterations stopped it"
        yield (
            f"The best model was refitted on all {show(refit.get('ratings'))} ratings{ended}. The "
            "errors on this page are those of the models before."
        )
    capped = [p.place for p in points if p.ended_by_rule is False]
    if capped:
        were = "was" if len(capped) == 1 else "were"
        yield (
            f"{len(capped)} of {len(points)} models {were} stopped by the cap on iterations "
            f"(--max-iter {config.get('max_iter', MISSING)}), before the stopping rule was met: "
            f"{_name_some(capped)}."
        )
    for words in (
        warn_unsettled(points),
        warn_above_biases(points, best, selected_on, judge, biases),
    ):
        if words is not None:
            yield words
    if run.get("status") == "complete":
        # Of a grid that was not finished nobody knows where its best point lies.
        beaten = is_beaten(chosen, selected_on, judge, popular, biases)
        yield from _open_edges(chosen, run, judge, beaten=beaten)
    if selected_on != "validation":
        yield (
            f"The {selected_on} ratings chose the best model, so its {selected_on} {judge.kind} is "
            f"a little too good to be true. For an untouched test {judge.kind} choose on other "
            "ratings: --validation-fraction 0.1"
        )
    below = warn_below_popular(points, best, selected_on, judge, popular)
    if below is not None:
        yield below
    useless = sum(not math.isfinite(judge.value(p, selected_on)) for p in points)
    if useless:
        have = "has" if useless == 1 else "have"
        yield (
            f"{useless} of {len(points)} models {have} no finite {selected_on} {judge.kind} and "
            "could not be chosen."
        )
    means = chosen.errors[selected_on]
    if means.cold:
        cold_start = str(config.get("cold_start"))
        total = means.count + (means.cold if cold_start == "drop" else 0)
        yield (
            f"{means.cold:,} of {total:,} {selected_on} ratings are of users or items without "
            f"training ratings; they {_COLD.get(cold_start, 'are counted apart')}."
        )
    for problem, count in get_mapping(data, "bad_rows_dropped").items():
        yield f"{count:,} rows were dropped: {problem}. They are in the folder rejected/."
    yield from get_list(data, "warnings")
    if data.get("duplicate_pairs"):
        yield (
            f"{data['duplicate_pairs']:,} pairs were rated more than once; of each the "
            f"{show(config.get('duplicates'))} was taken."
        )


def method_of(config: Mapping[str, Any]) -> str | None:
    """Return the method of a sweep's configuration; None: ridges towards zero."""
    method = config.get("method") or "ridge"
    return str(method) if method != "ridge" or config.get("implicit_features") else None


def _name_some(places: Sequence[str], most: int = 6) -> str:
    """Name a few of many."""
    more = len(places) - most
    return "; ".join(places[:most]) + (f"; and {more} more" if more > 0 else "")


def _open_edges(
    chosen: PointResult, run: Mapping[str, Any], judge: Judge, *, beaten: bool
) -> Iterator[str]:
    """Say where the best point lies on an edge of the grid, and what to try next."""
    config, data = get_mapping(run, "config"), get_mapping(run, "data")
    grid = get_list(config, "ranks"), get_list(config, "lambdas")
    most = min((data[side] for side in ("users", "items") if data.get(side)), default=None)
    yield from edges(chosen, *grid, most=most)
    following = next_command(
        chosen,
        *grid,
        beaten=beaten,
        for_lists=judge.is_ranking,
        most=most,
        method=method_of(config),
        n_features=config.get("implicit_features") or 0,
    )
    if following is not None:
        yield following
