"""Champion against challenger."""

from __future__ import annotations

import math

import pytest

from als_spark.comparison import LARGER_IS_BETTER, MEASURES, judge


def verdict(challenger, champion, measure="rmse", margin=0.01):
    before = None if champion is None else {measure: champion}
    return judge({measure: challenger}, before, measure, margin)


@pytest.mark.parametrize("measure", [m for m in MEASURES if m not in LARGER_IS_BETTER])
@pytest.mark.parametrize(
    ("challenger", "publish"),
    [(0.5, True), (1.0, True), (1.0099, True), (1.0101, False), (9.0, False)],
)
def test_errors(measure, challenger, publish):
    assert verdict(challenger, 1.0, measure).publish is publish


@pytest.mark.parametrize("measure", LARGER_IS_BETTER)
@pytest.mark.parametrize(
    ("challenger", "publish"),
    [(0.9, True), (0.5, True), (0.4951, True), (0.4949, False), (0.0, False)],
)
def test_rankings(measure, challenger, publish):
    assert verdict(challenger, 0.5, measure).publish is publish


@pytest.mark.parametrize("measure", MEASURES)
def test_without_a_margin_a_tie_is_published(measure):
    assert verdict(0.7, 0.7, measure, 0.0).publish
    assert "(the same)" in verdict(0.7, 0.7, measure, 0.0).sentence


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_challenger_without_a_value_is_never_published(value):
    for champion in (None, 1.0, math.nan):
        found = verdict(value, champion)
        assert not found.publish
        assert "no finite rmse" in found.sentence


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_champion_without_a_value_gives_way(value):
    assert judge({"rmse": 1.0}, {"rmse": value}, "rmse", 0.0).publish


def test_no_champion():
    found = verdict(1.25, None)
    assert found.publish
    assert found.sentence == "rmse 1.2500; there was no champion to compare with"


@pytest.mark.parametrize(
    ("challenger", "champion", "measure", "sentence"),
    [
        (
            0.99,
            1.0,
            "rmse",
            "rmse 0.9900 against the champion's 1.0000 (1.00% better); within the margin of 1.00%",
        ),
        (
            1.1,
            1.0,
            "mae",
            "mae 1.1000 against the champion's 1.0000 (10.00% worse); beyond the margin of 1.00%",
        ),
        (
            0.3,
            0.2,
            "ndcg",
            "ndcg 0.3000 against the champion's 0.2000 (50.00% better); within the margin of 1.00%",
        ),
        (0.1, 0.0, "recall", "inf% better"),
    ],
)
def test_sentences(challenger, champion, measure, sentence):
    assert sentence in verdict(challenger, champion, measure).sentence
