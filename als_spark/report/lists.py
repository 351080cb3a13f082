"""Ranking measures of a model and of the popular items, by what users are answered from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from als_spark.report.format import MEASURES, number

__all__ = ["baseline_warnings", "list_headers", "list_rows"]

_NAMES = ("ndcg", "recall", "precision", "map")
_WHO = {
    "model": "users that the model knows",
    "fold_in": "users that are folded in",
    "popular": "users that it does not know",
}


def list_headers(top: int) -> list[str]:
    """Return the headers of :func:`list_rows`."""
    return ["lists", "users", *(f"{MEASURES[name][0]}@{top}" for name in _NAMES)]


def list_rows(record: Mapping[str, Any], missing: str) -> Iterator[list[str]]:
    """Lay out the measures of all users and of each source, of the model and the popular items.

    Parameters
    ----------
    record : mapping
        Of an evaluation: ``metrics``, ``by_source``, ``baselines``.
    missing : str
        What stands where there is no value.
    """
    by_source = record["by_source"]
    if not by_source:
        return
    popular = (record.get("baselines") or {}).get("popular")
    n_users = sum(measures["users"] for measures in by_source.values())
    yield _row("the model's, all users", n_users, record["metrics"], missing)
    for source, measures in by_source.items():
        yield _row(f"the model's, {_WHO[source]}", measures["users"], measures, missing)
    if popular is not None:
        yield _row("popular items, all users", n_users, popular, missing)
        for source, measures in popular["by_source"].items():
            yield _row(f"popular items, {_WHO[source]}", measures["users"], measures, missing)


def baseline_warnings(record: Mapping[str, Any]) -> Iterator[str]:
    """Say where the model does worse than a baseline: ``record`` has ``model`` and ``source`` too.

    Lists are compared over the users that are answered from factors: to the others the model
    recommends the popular items itself. They are compared only where what users have seen is left
    out.
    """
    metrics, baselines = record["metrics"], record["baselines"]
    biases = baselines.get("biases")
    if biases is not None and _above(metrics["rmse"], biases["rmse"]):
        yield (
            f"the model predicts worse than the biases alone (RMSE {number(metrics['rmse'])}, "
            f"theirs {number(biases['rmse'])}): train it with another λ or rank; the sweep finds "
            "them"
        )
    if record["source"]["exclude_seen"] is None:
        # What a model ranks highest is often what it was trained on.
        return
    remedy = (
        "choose another λ, α or rank by sweep --judge ndcg"
        if record["model"].get("implicit") is True
        else "for lists train with --implicit, or choose a model by sweep --judge ndcg; recommend "
        "--min-ratings leaves rarely rated items out"
    )
    others = baselines.get("popular", {}).get("by_source", {})
    for source, measures in record["by_source"].items():
        if source == "popular" or source not in others:
            continue
        own, theirs = measures["ndcg"], others[source]["ndcg"]
        if _above(theirs, own):
            yield (
                f"the popular items make better lists than the model for the {_WHO[source]} "
                f"(NDCG {number(theirs)}, the model's {number(own)}): {remedy}"
            )


def _above(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one > other


def _row(words: str, n_users: int, measures: Mapping[str, Any], missing: str) -> list[str]:
    return [words, f"{n_users:,}", *(number(measures.get(name), missing) for name in _NAMES)]
