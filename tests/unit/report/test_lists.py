"""Lists of a model beside the popular items, from the record of an evaluation."""

from __future__ import annotations

from typing import Any

import pytest

from als_spark.report.lists import baseline_warnings, list_headers, list_rows


def measures(ndcg: float | None, users: int | None = None) -> dict[str, Any]:
    found = {"ndcg": ndcg, "recall": 0.25, "precision": 0.125, "map": 0.0625}
    return found if users is None else {**found, "users": users}


def record(
    model: float, popular: float, rmse: float = 0.9, biases: float = 1.0, **more: Any
) -> dict[str, Any]:
    return {
        "model": more,
        "source": {"exclude_seen": "train.csv"},
        "metrics": {"rmse": rmse, **measures(0.2)},
        "by_source": {"model": measures(model, 1200), "popular": measures(0.3, 40)},
        "baselines": {
            "biases": {"rmse": biases},
            "popular": {
                **measures(0.15),
                "by_source": {"model": measures(popular, 1200), "popular": measures(0.3, 40)},
            },
        },
    }


def test_a_row_for_all_users_and_for_each_source() -> None:
    headers, rows = list_headers(5), list(list_rows(record(0.05, 0.125), "-"))
    assert headers == ["lists", "users", "NDCG@5", "Recall@5", "Precision@5", "MAP@5"]
    assert {len(row) for row in rows} == {len(headers)}
    assert [row[:3] for row in rows] == [
        ["the model's, all users", "1,240", "0.2000"],
        ["the model's, users that the model knows", "1,200", "0.0500"],
        ["the model's, users that it does not know", "40", "0.3000"],
        ["popular items, all users", "1,240", "0.1500"],
        ["popular items, users that the model knows", "1,200", "0.1250"],
        ["popular items, users that it does not know", "40", "0.3000"],
    ]


def test_without_rankings_there_are_no_rows() -> None:
    assert list(list_rows({"by_source": {}}, "-")) == []


def test_a_record_without_baselines() -> None:
    one = {**record(0.05, 0.1), "baselines": None}
    assert len(list(list_rows(one, "-"))) == 3


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (record(0.1, 0.1, 0.9, 0.9), []),
        (record(0.2, 0.1), []),
        (record(0.05, 0.125), ["better lists than the model for the users that the model knows"]),
        (record(0.05, 0.125), ["lists train with --implicit"]),
        (record(0.05, 0.125, implicit=True), ["choose another λ, α or rank by sweep --judge"]),
        (record(0.2, 0.1, 1.25, 1.0), ["biases alone (RMSE 1.2500, theirs 1.0000)"]),
        (record(0.05, 0.125, 1.25, 1.0), ["biases alone", "(NDCG 0.1250, the model's 0.0500)"]),
    ],
)
def test_what_a_baseline_does_better_is_said(found: dict[str, Any], said: list[str]) -> None:
    warnings = list(baseline_warnings(found))
    assert len(warnings) == len(said)
    for warning, words in zip(warnings, said, strict=True):
        assert words in warning


def test_what_was_not_measured_is_not_compared() -> None:
    found = record(0.05, 0.125, biases=0.5)
    found["metrics"]["rmse"] = None
    found["baselines"] = {}
    assert list(baseline_warnings(found)) == []
    found = record(0.05, 0.125)
    found["baselines"]["popular"]["by_source"] = {}
    assert list(baseline_warnings(found)) == []


def test_lists_that_hold_what_was_seen_are_not_compared() -> None:
    found = record(0.05, 0.125, 1.25, 1.0)
    found["source"]["exclude_seen"] = None
    (warning,) = baseline_warnings(found)
    assert "biases alone" in warning
