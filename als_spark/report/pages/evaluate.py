"""The report of an evaluation: how well one model predicts ratings that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from als_spark.report.figures.breakdown import bins_of, breakdown_figure
from als_spark.report.figures.drawing import png_of
from als_spark.report.format import MEASURES, number, show
from als_spark.report.pages.page import Page, Section
from als_spark.report.pages.sections import (
    add_bins,
    add_run,
    listed,
    part_of,
    run_line,
    source_facts,
    spelled,
    stated,
)

__all__ = ["evaluate_page"]

_MEANINGS: Mapping[str, str] = {
    "rmse": "root of the mean squared error, in rating units",
    "mae": "mean absolute error, in rating units",
    "mse": "mean squared error, in squared rating units",
    "ndcg": "how high the relevant items stand among the first {k}, the first counting most",
    "recall": "share of a user's relevant items that are among the first {k}",
    "precision": "share of the first {k} items that are relevant",
    "map": "mean precision at the places of the relevant items, among the first {k}",
    "coverage": "share of all items that anyone is recommended",
}


def evaluate_page(record: Mapping[str, Any], breakdown: bytes | None = None) -> str:
    """Write the report of one evaluation as one HTML file.

    Parameters
    ----------
    record : mapping
        The run's record, JSON-ready: ``model``, ``source``, ``data``, ``metrics``, ``by_user`` and
        ``by_item`` (lists of bins: ``label``, ``count``, ``mse``, ``mae``), ``warnings``,
        ``config``, ``versions`` and ``seconds``. Any may be missing or null, as after a run that
        ended early.
    breakdown : bytes, optional
        The PNG picture of the bins, if the run has drawn it; drawn here if not given.

    Returns
    -------
    str
        The page.
    """
    model, metrics = part_of(record, "model"), part_of(record, "metrics")
    measured = [name for name in MEASURES if metrics.get(name) is not None]
    found = [f"{MEASURES[name][0]} {number(metrics[name])}" for name in measured[:1]]
    count = part_of(record, "data").get("ratings")
    over = f" over {show(count)} ratings" if isinstance(count, int) else ""
    page = Page(
        "Evaluation of a model",
        "evaluated" if measured else "not evaluated",
        "good" if measured else "bad",
        f"{found[0]}{over}." if measured else "The run ended before anything was measured.",
        subtitle=run_line(record),
    )
    page.section("Take note").warnings(map(str, listed(record, "warnings")))
    page.section("Model").facts(stated([(spelled(key), value) for key, value in model.items()]))
    rest = part_of(record, "data").items()
    page.section("Data").facts(
        [
            *source_facts(record.get("source")),
            *stated([(spelled(key), value) for key, value in rest]),
        ]
    )
    _add_metrics(page.section("Measures"), metrics)
    _add_breakdown(page.section("Who is predicted well"), record, breakdown)
    add_run(page, record)
    return page.html()


def _add_metrics(section: Section, metrics: Mapping[str, Any]) -> None:
    k = metrics.get("k")
    first = "ranked" if k is None else str(k)
    rows = [
        (
            label if k is None or not _is_ranking(name) else f"{label}@{k}",
            number(metrics[name]),
            "higher" if more else "lower",
            _MEANINGS[name].format(k=first),
        )
        for name, (label, more) in MEASURES.items()
        if name in metrics
    ]
    section.table(("measure", "value", "better", "meaning"), rows, right={1})
    if metrics.get("relevant_from") is not None:
        section.paragraph(f"Relevant is a rating of at least {show(metrics['relevant_from'])}.")


def _is_ranking(name: str) -> bool:
    return name not in ("rmse", "mae", "mse")


def _add_breakdown(section: Section, record: Mapping[str, Any], picture: bytes | None) -> None:
    by_user, by_item = listed(record, "by_user"), listed(record, "by_item")
    if picture is None and (by_user or by_item):
        picture = png_of(breakdown_figure(bins_of(by_user), bins_of(by_item)))
    if picture is not None:
        alt = "Errors by the number of training ratings of user and item"
        caption = "Errors by activity of the user and popularity of the item."
        section.picture(picture, alt, caption)
    add_bins(section, "By activity of the user", by_user)
    add_bins(section, "By popularity of the item", by_item)
