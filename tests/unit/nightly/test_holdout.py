"""Which ratings a model has not been trained on."""

from __future__ import annotations

from typing import Any

import pytest

from als_spark.errors import DataError
from als_spark.model.factor_model import FactorModel
from als_spark.nightly.holdout import HoldoutRule, unseen_by_both
from tests.conftest import random_model

RULE = HoldoutRule("random", 0.1, 0)


def champion(**holdout: Any) -> FactorModel:
    model = random_model()
    model.description["holdout"] = {**RULE.as_record(), **holdout}
    return model


@pytest.mark.parametrize(
    ("theirs", "covers"),
    [
        ({}, True),
        ({"test_fraction": 0.2}, True),
        ({"test_fraction": 0.05}, False),
        ({"seed": 1}, False),
        ({"split": "time"}, False),
    ],
)
def test_what_holds_out_all_that_another_does(theirs: dict[str, Any], covers: bool) -> None:
    assert RULE._replace(**theirs).covers(RULE) == covers
    if covers:
        assert unseen_by_both(champion(**theirs), "v1", RULE) is None


def test_by_time_the_seed_does_not_matter() -> None:
    rule = HoldoutRule("time", 0.1, 0)
    assert rule._replace(seed=5).covers(rule)
    assert not rule._replace(test_fraction=0.05).covers(rule)
    assert str(rule) == '`split="time"` `test_fraction=0.1`'
    assert str(RULE) == '`split="random"` `test_fraction=0.1` `seed=0`'


@pytest.mark.parametrize("theirs", [{"test_fraction": 0.05}, {"seed": 1}])
def test_what_has_to_be_held_out_besides(theirs: dict[str, Any]) -> None:
    assert unseen_by_both(champion(**theirs), "v1", RULE) == RULE._replace(**theirs)


@pytest.mark.parametrize("theirs", [{"test_fraction": 0.0}, {"split": "time"}])
def test_nothing_is_left_that_neither_has_seen(theirs: dict[str, Any]) -> None:
    words = str(RULE._replace(**theirs))
    with pytest.raises(DataError, match=f"version v1 was trained on ratings .*{words}.*set these"):
        unseen_by_both(champion(**theirs), "v1", RULE)


@pytest.mark.parametrize(
    "holdout",
    [
        None,
        "x",
        {"seed": 1},
        {**RULE.as_record(), "more": 1},
        {**RULE.as_record(), "test_fraction": "0.1"},
        {**RULE.as_record(), "split": "by day"},
    ],
)
def test_a_model_that_does_not_say(holdout: Any) -> None:
    model = random_model()
    if holdout is not None:
        model.description["holdout"] = holdout
    with pytest.raises(DataError, match="its description does not say how"):
        unseen_by_both(model, "v1", RULE)
