"""The report of a retraining: new data, its checks, the training, and which model serves now."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from als_spark.report.format import MEASURES, MISSING, OUTCOMES, number, percent, show
from als_spark.report.pages.page import Picture, Table, render
from als_spark.report.pages.views import (
    Facts,
    degree_facts,
    drop_missing,
    feature_facts,
    first_rows_table,
    get_list,
    get_mapping,
    histogram_table,
    learnt_facts,
    run_view,
    source_facts,
    tables_words,
)

__all__ = ["RETRAIN_PICTURES", "retrain_page"]

RETRAIN_PICTURES: Mapping[str, tuple[str, str, str]] = {
    "learning.png": (
        "Training",
        "Lines of objective and change of the factors against the iteration",
        "How the challenger's training went.",
    ),
    "samples.png": (
        "Training",
        "Lines of the noise of every draw, and of the error of their mean, against the iteration",
        "How the challenger's samples settled; the error is that on held-out ratings.",
    ),
    "breakdown.png": (
        "Comparison",
        "Errors by the number of training ratings of user and item",
        "Whom the models predict well: errors by activity of the user and popularity of the item.",
    ),
    "quality.png": (
        "History",
        "Errors of challenger and champion over the runs of the model store",
        "The runs so far, each on the ratings that it held out.",
    ),
}
"""Pictures by file name: the section each belongs to, its alternative text and its caption."""


def retrain_page(record: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Write the report of one retraining as one HTML file.

    Parameters
    ----------
    record : mapping
        The run's record, JSON-ready: ``run``, ``started``, ``finished``, ``outcome``,
        ``exit_code``, ``sentence``, ``source``, ``data``, ``checks``, ``training``,
        ``comparison``, ``refit``, ``version``, ``previous_version``, ``warnings``, ``config``,
        ``versions`` and ``seconds``. Any may be missing or null, as after a run that ended early.
    pictures : mapping of str to bytes
        PNG files by name. Those of :data:`RETRAIN_PICTURES` get their place and words, any other
        is shown under its name.

    Returns
    -------
    str
        The page.
    """
    outcome = record.get("outcome")
    label, tone = OUTCOMES.get(str(outcome), (show(outcome), "bad"))
    comparison = get_mapping(record, "comparison")
    return render(
        "retrain.html.jinja",
        **run_view(record),
        outcome="no outcome recorded" if outcome is None else label,
        tone=tone,
        sentence=record.get("sentence") or "",
        notes=list(_warnings(record)),
        run=drop_missing(
            [
                ("published version", record.get("version")),
                ("version before", record.get("previous_version")),
                ("exit code", record.get("exit_code")),
            ]
        ),
        data=_data_facts(record),
        first_rows=first_rows_table(get_list(get_mapping(record, "source"), "first_rows")),
        histogram=histogram_table(get_mapping(record, "data")),
        checks=_checks_table(_checks(record)),
        training=_training_facts(
            get_mapping(record, "training"), get_mapping(record, "settings").get("method")
        )
        + feature_facts(get_mapping(record, "features")),
        comparison=drop_missing(
            [
                ("verdict", comparison.get("verdict")),
                ("decided by", _label(comparison.get("measure"))),
                ("margin", comparison.get("margin")),
                ("largest decline over versions", comparison.get("max_decline")),
                ("ratings held out", comparison.get("holdout")),
            ]
        ),
        measures=_measures_table(comparison),
        refit=_refit_facts(get_mapping(record, "refit")),
        drawn=_place_pictures(pictures),
    )


def _place_pictures(pictures: Mapping[str, bytes]) -> dict[str, list[Picture]]:
    """Return the pictures by the heading of their section."""
    placed: dict[str, list[Picture]] = {heading: [] for heading, _, _ in RETRAIN_PICTURES.values()}
    for name, (heading, alt, caption) in RETRAIN_PICTURES.items():
        if name in pictures:
            placed[heading].append(Picture(pictures[name], alt, caption))
    others = sorted(pictures.keys() - RETRAIN_PICTURES.keys())
    placed["Other pictures"] = [Picture(pictures[name], name, name) for name in others]
    return placed


def _warnings(record: Mapping[str, Any]) -> Iterator[Any]:
    """Repeat the run's own warnings, then say what the numbers alone would hide."""
    yield from get_list(record, "warnings")
    failed = [check for check in _checks(record) if not check.get("passed")]
    if failed:
        names = ", ".join(show(check.get("name")) for check in failed)
        yield f"Data checks that failed: {names}."
    if get_mapping(record, "settings").get("method") == "sample":
        return
    training = get_mapping(record, "training")
    if training.get("converged") is False:
        yield (
            f"Training was stopped by the cap after {show(training.get('iterations'))} iterations, "
            "before the stopping rule was met."
        )
    refit = get_mapping(record, "refit")
    if refit.get("converged") is False:
        yield (
            f"The refit was stopped by the cap after {show(refit.get('iterations'))} iterations, "
            "before the stopping rule was met."
        )


def _data_facts(record: Mapping[str, Any]) -> Facts:
    data = get_mapping(record, "data")
    pairs = [
        ("ratings", data.get("ratings")),
        ("users", data.get("users")),
        ("items", data.get("items")),
        ("lowest rating", data.get("lowest")),
        ("highest rating", data.get("highest")),
        ("mean rating", _format_fully(data.get("mean"))),
        ("standard deviation", _format_fully(data.get("spread"))),
        *degree_facts(data),
        ("tables", tables_words(data)),
        ("unusable rows", data.get("bad_rows")),
        ("duplicates", data.get("duplicates")),
        ("ids written with decimals", data.get("changed_ids") or None),
        ("new users", data.get("new_users")),
        ("new items", data.get("new_items")),
        ("share of unknown users or items", percent(data.get("unknown_share"))),
    ]
    return source_facts(record.get("source")) + drop_missing(pairs)


def _checks(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [check for check in get_list(record, "checks") if isinstance(check, Mapping)]


def _checks_table(checks: Sequence[Mapping[str, Any]]) -> Table:
    keys = ("name", "value", "limit", "previous")
    rows = [
        (*map(check.get, keys), "passed" if check.get("passed") else "failed") for check in checks
    ]
    return Table(
        ("check", "value", "limit", "run before", "result"),
        rows,
        right=range(1, 4),
        marked={place: "bad" for place, check in enumerate(checks) if not check.get("passed")},
    )


def _training_facts(training: Mapping[str, Any], method: Any) -> Facts:
    """Tell of a training; methods that learn the prior have no λ."""
    learnt = method in ("variational", "sample")
    samples = get_mapping(training, "samples")
    return drop_missing(
        [
            ("start", training.get("start")),
            ("because", training.get("reason")),
            ("method", method if training else None),
            ("rank d", training.get("rank")),
            ("ridge λ", None if learnt else training.get("lambda_reg")),
            ("exponent ν of the counts", None if learnt else training.get("exponent")),
            ("α of implicit feedback", training.get("alpha")),
            ("factors", "nonnegative" if training.get("nonnegative") else None),
            ("iterations", training.get("iterations")),
            ("ended", "all samples drawn" if samples else _ended(training)),
            ("objective", _format_fully(training.get("objective"))),
            *learnt_facts(get_mapping(training, "learnt")),
        ]
    )


def _refit_facts(refit: Mapping[str, Any]) -> Facts:
    """Tell of training the winner on with all ratings; nothing where that was not done."""
    return drop_missing(
        [
            ("trained on", refit.get("ratings")),
            ("of these held out before", refit.get("held_out_before")),
            ("start", "the factors of the challenger" if refit else None),
            ("iterations", refit.get("iterations")),
            ("ended", _ended(refit)),
            ("objective", _format_fully(refit.get("objective"))),
            ("measures on this page", refit.get("measured")),
        ]
    )


def _ended(training: Mapping[str, Any]) -> str | None:
    converged = training.get("converged")
    return None if converged is None else "by the stopping rule" if converged else "by the cap"


def _measures_table(comparison: Mapping[str, Any]) -> Table:
    champion = get_mapping(comparison, "champion")
    challenger = get_mapping(comparison, "challenger")
    names = [name for name in MEASURES if name in champion or name in challenger]
    rows = []
    for name in names:
        ours, theirs = _value(challenger, name), _value(champion, name)
        rows.append((_label(name), number(theirs), number(ours), *_difference(name, ours, theirs)))
    decided_by = comparison.get("measure")
    return Table(
        (
            "measure",
            _model("champion", champion.get("version")),
            _model("challenger", challenger.get("version")),
            "difference",
            "challenger is",
        ),
        rows,
        right=range(1, 4),
        marked={place: "neutral" for place, name in enumerate(names) if name == decided_by},
        caption="On the same held-out ratings; the deciding measure is highlighted.",
    )


def _difference(name: str, ours: float, theirs: float) -> tuple[str, str]:
    """Challenger less champion, and what that means for the measure."""
    difference = ours - theirs
    if not math.isfinite(difference):
        return MISSING, MISSING
    if difference == 0:
        return number(0.0), "equal"
    more_is_better = MEASURES[name][1]
    return f"{difference:+.4f}", "better" if (difference > 0) == more_is_better else "worse"


def _value(model: Mapping[str, Any], name: str) -> float:
    value = model.get(name)
    return math.nan if value is None else float(value)


def _label(name: Any) -> Any:
    return MEASURES[name][0] if name in MEASURES else name


def _model(role: str, version: Any) -> str:
    return role if version is None else f"{role} ({version})"


def _format_fully(value: Any) -> Any:
    """Write a number in full where its digits matter."""
    return f"{value:,.6g}" if isinstance(value, float) and math.isfinite(value) else value
