"""The report of an evaluation: how well one model predicts ratings that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from als_spark.report.figures.breakdown import bins_of, breakdown_figure
from als_spark.report.figures.calibration import calibration_figure
from als_spark.report.figures.drawing import png_of
from als_spark.report.format import MEASURES, MISSING, number, percent, show
from als_spark.report.lists import list_headers, list_rows
from als_spark.report.pages.page import Picture, Table, render
from als_spark.report.pages.views import (
    Facts,
    bins_table,
    drop_missing,
    get_list,
    get_mapping,
    humanise_keys,
    learnt_facts,
    run_view,
    source_facts,
)

__all__ = ["calibration_picture", "evaluate_page"]

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
_BREAKDOWN = (
    "Errors by the number of training ratings of user and item",
    "Errors by activity of the user and popularity of the item.",
)


_CALIBRATION = (
    "Mean rating against mean prediction, and ratings within intervals against their coverage",
    "Where predictions, and intervals, are what they say, the marks are on the line.",
)


def calibration_picture(record: Mapping[str, Any], note: str = "") -> bytes | None:
    """Draw the calibration of a record as PNG, if it has one."""
    parts = _calibration(record)
    return png_of(calibration_figure(*parts, note=note)) if parts[0] else None


def evaluate_page(
    record: Mapping[str, Any],
    breakdown: bytes | None = None,
    calibration: bytes | None = None,
) -> str:
    """Write the report of one evaluation as one HTML file.

    Parameters
    ----------
    record : mapping
        The run's record, JSON-ready: ``model``, ``source``, ``data``, ``metrics``, ``by_user`` and
        ``by_item`` (lists of bins: ``label``, ``count``, ``mse``, ``mae``), ``by_source`` and
        ``baselines`` (see :class:`als_spark.spark.predict.evaluate.Evaluation`), ``warnings``,
        ``calibration``, ``config``, ``versions`` and ``seconds``. Any may be missing or null, as
        after a run that ended early.
    breakdown, calibration : bytes, optional
        The PNG pictures of the bins, and of the calibration, if the run has drawn them; drawn here
        if not given.

    Returns
    -------
    str
        The page.
    """
    metrics = get_mapping(record, "metrics")
    measured = [name for name in MEASURES if metrics.get(name) is not None]
    sentence = "The run ended before anything was measured."
    if measured:
        count = get_mapping(record, "data").get("ratings")
        over = f" over {show(count)} ratings" if isinstance(count, int) else ""
        sentence = f"{MEASURES[measured[0]][0]} {number(metrics[measured[0]])}{over}."
    by_user, by_item = get_list(record, "by_user"), get_list(record, "by_item")
    if breakdown is None and (by_user or by_item):
        breakdown = png_of(breakdown_figure(bins_of(by_user), bins_of(by_item)))
    calibration = calibration or calibration_picture(record)
    return render(
        "evaluate.html.jinja",
        **run_view(record),
        outcome="evaluated" if measured else "not evaluated",
        tone="good" if measured else "bad",
        sentence=sentence,
        notes=get_list(record, "warnings"),
        model=_model_facts(get_mapping(record, "model")),
        data=source_facts(record.get("source")) + humanise_keys(get_mapping(record, "data")),
        measures=_measures(metrics),
        lists=_lists(record),
        biases=get_mapping(get_mapping(record, "baselines"), "biases"),
        relevant_from=metrics.get("relevant_from"),
        drawn=[] if breakdown is None else [Picture(breakdown, *_BREAKDOWN)],
        calibrated=[] if calibration is None else [Picture(calibration, *_CALIBRATION)],
        tenths=_tenths(record),
        intervals=_intervals(record),
        by_user=bins_table("By activity of the user", by_user),
        by_item=bins_table("By popularity of the item", by_item),
    )


def _calibration(record: Mapping[str, Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return the tenths and the intervals of a record."""
    found = get_mapping(record, "calibration")
    return get_list(found, "by_prediction"), get_list(found, "intervals")


def _tenths(record: Mapping[str, Any]) -> Table:
    rows = [
        (place, part["count"], number(part["predicted"]), number(part["observed"]))
        for place, part in enumerate(_calibration(record)[0], 1)
    ]
    headers = ("tenth by prediction", "held-out ratings", "mean prediction", "mean rating")
    return Table(headers, rows, right=range(4), caption="Predictions")


def _intervals(record: Mapping[str, Any]) -> Table:
    rows = [
        (percent(part["coverage"]), percent(part["observed"])) for part in _calibration(record)[1]
    ]
    return Table(("coverage", "ratings within"), rows, right=range(2), caption="Intervals")


def _model_facts(model: Mapping[str, Any]) -> Facts:
    """Return what the model is; beside its λ stands the objective that it belongs to."""
    rest = dict(model)
    learnt = rest.pop("learnt", None)
    ridge = [("ridge λ", rest.pop("lambda_reg", None)), ("exponent", rest.pop("exponent", None))]
    words = ("objective", rest.pop("objective_of_lambda", None))
    if isinstance(learnt, Mapping):
        return [*humanise_keys(rest), *learnt_facts(learnt)]
    return [*humanise_keys(rest), *drop_missing([*ridge, words])]


def _lists(record: Mapping[str, Any]) -> Table | None:
    """Lay out the ranking measures by what users are answered from, where there are any."""
    if not get_mapping(record, "by_source"):
        return None
    headers = list_headers(record["metrics"]["k"])
    return Table(headers, list(list_rows(record, MISSING)), right=range(1, len(headers)))


def _measures(metrics: Mapping[str, Any]) -> Table:
    k = metrics.get("k")
    first = "ranked" if k is None else str(k)
    rows = [
        (
            label if k is None or name in ("rmse", "mae", "mse") else f"{label}@{k}",
            number(metrics[name]),
            "higher" if more else "lower",
            _MEANINGS[name].format(k=first),
        )
        for name, (label, more) in MEASURES.items()
        if name in metrics
    ]
    return Table(("measure", "value", "better", "meaning"), rows, right={1})
