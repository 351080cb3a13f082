"""What the history says to the next run."""

from __future__ import annotations

from typing import Any

import pytest

from als_spark.checks import DataFacts
from als_spark.cli.past_runs import kept_by, last_passed, warm_trainings

DATA = DataFacts(3, 2, 2, 1.0, 5.0, 3.0, 1.5, "3-ab")


def run(outcome: str, start: str | None = None, rank: int = 3, **more: Any) -> dict[str, Any]:
    training = None if start is None else {"start": start, "rank": rank}
    return {"outcome": outcome, "training": training, **more}


def ready(outcome: str, n: int, **more: Any) -> dict[str, Any]:
    return run(outcome, data={**DATA.as_record(), "ratings": n}, settings={"rank": n}, **more)


@pytest.mark.parametrize("outcome", ["published", "kept", "unchanged"])
def test_the_last_that_passed(outcome: str) -> None:
    others = ("data_check_failed", "bad_input", "failed", "interrupted", "died", "locked")
    records = [ready("published", 1), ready(outcome, 2), *(ready(name, 9) for name in others)]
    facts, record = last_passed(records)
    assert facts is not None
    assert (facts.ratings, record["settings"]) == (2, {"rank": 2})


@pytest.mark.parametrize("outcome", ["died", "interrupted", "failed"])
def test_one_that_published_before_it_ended_has_passed(outcome: str) -> None:
    facts, record = last_passed([ready("published", 1), ready(outcome, 2, version="v2")])
    assert facts is not None
    assert (facts.ratings, record["settings"]) == (2, {"rank": 2})


def test_records_without_their_data_are_passed_over() -> None:
    records = [ready("published", 1), run("published"), run("kept", data={"ratings": 3})]
    facts, _ = last_passed(records)
    assert facts is not None
    assert facts.ratings == 1
    assert last_passed(records[1:]) == (None, {})
    assert last_passed([]) == (None, {})


def test_by_what_a_challenger_was_kept_out() -> None:
    kept = run("kept", comparison={"measure": "mae", "margin": 0.01})
    published = run("published", comparison={"measure": "rmse", "margin": 1.0}, version="v")
    assert kept_by([published, kept, run("unchanged"), run("failed")]) == ("mae", 0.01)
    assert kept_by([kept, published]) is None
    # The account of one that had published is all there is of it.
    assert kept_by([kept, run("died", version="v")]) is None
    assert kept_by([run("kept")]) is None
    assert kept_by([]) is None


def test_trainings_since_the_last_from_the_usual_start() -> None:
    cold, warm, kept = run("published", "cold"), run("published", "warm"), run("kept", "warm")
    assert warm_trainings([], 3) is None
    assert warm_trainings([warm, warm], 3) is None
    assert warm_trainings([cold], 3) == 0
    # One that was not published starts at the same model: it counts all the same.
    assert warm_trainings([cold, warm, kept, kept], 3) == 3
    assert warm_trainings([cold, warm, run("unchanged"), run("failed", "warm")], 3) == 1
    assert warm_trainings([cold, warm, run("died", "warm", version="v")], 3) == 2
    # A model that was trained in full and lost: the next may start warm again.
    assert warm_trainings([cold, warm, run("kept", "cold")], 3) == 0
    # A trial of another rank is no training of this one.
    assert warm_trainings([cold, warm, run("kept", "cold", rank=1)], 3) == 1
    assert warm_trainings([cold, warm, run("kept", "cold", rank=1)], 1) == 0
