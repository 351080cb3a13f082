"""Champion against challenger."""

from __future__ import annotations

import math

import pytest

from als_spark.nightly.comparison import LARGER_IS_BETTER, MEASURES, Ancestor, judge, worsening


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
    ("challenger", "champion", "measure", "words"),
    [
        (0.99, 1.0, "rmse", "(1.00% better)"),
        (0.5, 1.0, "mae", "(50.00% better)"),
        (1.0, 1.0, "mse", "(the same)"),
        (1.005, 1.0, "rmse", "(0.50% worse); within the margin of 1.00%"),
        (1.1, 1.0, "mae", "(10.00% worse); beyond the margin of 1.00%"),
        # What differs is written with as many digits as show it.
        (1.01001, 1.0, "mae", "(1.001% worse); beyond the margin of 1.000%"),
        (1.00999, 1.0, "mae", "(0.999% worse); within the margin of 1.000%"),
        (0.999999, 1.0, "rmse", "(0.0001% better)"),
        (0.3, 0.2, "ndcg", "(50.00% better)"),
        (0.199, 0.2, "ndcg", "(0.50% worse); within the margin of 1.00%"),
        (0.1, 0.2, "recall", "(50.00% worse); beyond the margin of 1.00%"),
        (0.1, 0.0, "recall", "(better)"),
        (0.1, 0.0, "rmse", "(worse); beyond the margin of 1.00%"),
    ],
)
def test_sentences(challenger, champion, measure, words):
    found = verdict(challenger, champion, measure).sentence
    assert found == f"{measure} {challenger:.4f} against the champion's {champion:.4f} {words}"


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("margin", [0.0, 0.00001, 0.01, 2.0])
def test_sentence_and_verdict_say_the_same(measure, margin):
    for challenger in (0.0, 0.3, 0.4949, 0.4999999, 0.5, 0.5000001, 0.5051, 0.9):
        found = verdict(challenger, 0.5, measure, margin)
        better = challenger > 0.5 if measure in LARGER_IS_BETTER else challenger < 0.5
        assert ("better" in found.sentence) is better
        assert ("worse" in found.sentence) is (not better and challenger != 0.5)
        assert ("within" in found.sentence) is (found.publish and "worse" in found.sentence)
        assert ("beyond" in found.sentence) is (not found.publish)


@pytest.mark.parametrize(
    ("measure", "challenger", "champion"), [("rmse", 1.009, 1.0), ("recall", 0.5, 0.5045)]
)
def test_small_steps_down_do_not_add_up(measure, challenger, champion):
    def decide(*worsenings, max_decline=0.03):
        ancestors = [Ancestor(f"v{k}", k, w) for k, w in enumerate(worsenings, 1)]
        return judge(
            {measure: challenger},
            {measure: champion},
            measure,
            0.01,
            ancestors=ancestors,
            max_decline=max_decline,
        )

    assert decide().publish
    assert decide(1.01, 1.02).publish
    found = decide(1.01, 1.025, 1.0)
    assert not found.publish
    assert (
        "within the margin of 1.00%, but with the 2 before it the step makes 3.4" in found.sentence
    )
    assert "since version v2, beyond the 3.00% of `max_decline=`" in found.sentence
    assert decide(1.01, 1.025, 1.0, max_decline=0.04).publish
    # What the champion has gained on its way does not count against the challenger.
    assert decide(0.9, 0.8, max_decline=0.0).publish


def test_a_better_challenger_is_welcome_however_far_the_champion_has_come_down():
    ancestors = [Ancestor("v1", 1, 1.05)]
    for challenger, publish in ((0.999, True), (1.0, True), (1.001, False)):
        found = judge(
            {"mae": challenger}, {"mae": 1.0}, "mae", 0.01, ancestors=ancestors, max_decline=0.03
        )
        assert found.publish is publish


@pytest.mark.parametrize("values", [(None, 1.0), (1.0, None), (1.0, 0.0), (math.nan, 1.0)])
def test_worsening_of_nothing(values):
    now, before = ({"rmse": value, "ndcg": value} for value in values)
    assert worsening(now, before, "rmse") is None
    assert worsening(now, before, "ndcg") is None
