"""What the history says to the next run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from als_spark.nightly.checks import Check
from als_spark.nightly.comparison import Ancestor
from als_spark.nightly.past_runs import (
    MEMORY,
    ancestors_of,
    kept_by,
    last_passed,
    last_published,
    most_lately,
    warm_trainings,
)
from als_spark.nightly.run_record import (
    Comparison,
    DataRecord,
    Metrics,
    RunRecord,
    StartKind,
    TrainingRecord,
    TrainingSettings,
    VersionMetrics,
)
from als_spark.spark.read.facts import DataFacts

DATA = DataFacts(3, 2, 2, 1.0, 5.0, 3.0, 1.5, "3-ab")
SETTINGS = TrainingSettings(3, 0.1, 0.0, "random", 0.1, 0, 1e-3, 100, "float32", False)


def training(start: StartKind, rank: int) -> TrainingRecord:
    return TrainingRecord(start, "why", rank, 0.1, 0.0, 5, 5, True, 1.0, 0.1)


def run(outcome: str, start: StartKind | None = None, rank: int = 3, **more: Any) -> RunRecord:
    made = None if start is None else training(start, rank)
    return RunRecord("r", outcome=outcome, training=made, **more)


def ready(outcome: str, n: int, **more: Any) -> RunRecord:
    data = DataRecord(0).with_facts(replace(DATA, ratings=n))
    return run(outcome, data=data, settings=replace(SETTINGS, rank=n), **more)


def rank_of(record: RunRecord | None) -> int:
    assert record is not None
    assert record.settings is not None
    return record.settings.rank


def check(passed: bool) -> Check:
    return Check("ratings", "1", "at least 2", "", passed, "max_shrink")


def comparison(challenger: Metrics, champion: VersionMetrics | None, **more: Any) -> Comparison:
    return Comparison(
        **{"measure": "rmse", "margin": 0.1, **more},
        holdout=1,
        challenger=challenger,
        champion=champion,
        verdict="",
    )


@pytest.mark.parametrize("outcome", ["published", "kept", "unchanged"])
def test_the_last_that_passed(outcome: str) -> None:
    others = ("data_check_failed", "bad_input", "failed", "interrupted", "died", "locked")
    records = [ready("published", 1), ready(outcome, 2), *(ready(name, 9) for name in others)]
    facts, record = last_passed(records)
    assert facts is not None
    assert (facts.ratings, rank_of(record)) == (2, 2)


@pytest.mark.parametrize("outcome", ["died", "interrupted", "failed"])
def test_one_that_published_before_it_ended_has_passed(outcome: str) -> None:
    facts, record = last_passed([ready("published", 1), ready(outcome, 2, version="v2")])
    assert facts is not None
    assert (facts.ratings, rank_of(record)) == (2, 2)


def test_records_without_their_data_are_passed_over() -> None:
    records = [ready("published", 1), run("published"), run("kept", data=DataRecord(3))]
    facts, _ = last_passed(records)
    assert facts is not None
    assert facts.ratings == 1
    assert last_passed(records[1:]) == (None, None)
    assert last_passed([]) == (None, None)


def test_the_most_of_the_last_runs() -> None:
    assert most_lately([]) == {"ratings": 0, "users": 0, "items": 0}
    records = [ready("published", 9), ready("kept", 5), ready("data_check_failed", 99)]
    assert most_lately(records) == {"ratings": 9, "users": 2, "items": 2}
    # Somebody has looked, and said that fewer is right.
    forced = ready("published", 4, checks=(check(True), check(False)))
    passed = ready("unchanged", 3, checks=(check(True),))
    assert most_lately([*records, forced, passed])["ratings"] == 4
    assert most_lately([*records, passed])["ratings"] == 9
    assert most_lately([*records, *[passed] * MEMORY])["ratings"] == 3


def test_by_what_a_challenger_was_kept_out() -> None:
    kept = run("kept", comparison=comparison({}, {}, measure="mae", margin=0.01, max_decline=0.03))
    published = run("published", comparison=comparison({}, {}, margin=1.0), version="v")
    assert kept_by([published, kept, run("unchanged"), run("failed")]) == ("mae", 0.01, 0.03)
    assert kept_by([kept, published]) is None
    # The account of one that had published is all there is of it.
    assert kept_by([kept, run("died", version="v")]) is None
    assert kept_by([run("kept")]) is None
    assert kept_by([]) is None


def test_the_version_that_was_published_last() -> None:
    records = [run("published", version="v1"), run("published", version="v2"), run("rolled_back")]
    assert last_published([*records, run("unchanged"), run("kept")]) == "v2"
    # One that died behind its publishing counts too.
    assert last_published([*records, run("died", version="v3")]) == "v3"
    assert last_published([run("kept")]) is None


def step(version: str, before: str, challenger: float, champion: float) -> RunRecord:
    """A run that published a version after another."""
    found = comparison(
        {"rmse": challenger, "recall": 0.5},
        {"rmse": champion, "recall": 0.25, "version": before},
    )
    return run("published", version=version, comparison=found)


def test_what_a_version_has_followed() -> None:
    first = run("published", version="v1", comparison=comparison({"rmse": 1.0}, None))
    records = [first, step("v2", "v1", 1.1, 1.0), step("v3", "v2", 0.9, 1.2), run("kept")]
    found = ancestors_of(records, "v3", "rmse")
    assert [(a.version, a.steps) for a in found] == [("v2", 1), ("v1", 2)]
    assert [a.worsening for a in found] == pytest.approx([0.75, 0.825])
    # Twice the recall is half as bad.
    assert [a.worsening for a in ancestors_of(records, "v3", "recall")] == [0.5, 0.25]
    # Rolled back: what came after is no matter.
    assert [a.version for a in ancestors_of(records, "v2", "rmse")] == ["v1"]
    assert ancestors_of(records, "v1", "rmse") == []
    assert ancestors_of(records, "v9", "rmse") == []
    assert ancestors_of(records, "v3", "ndcg") == []
    # Published without a comparison, as jobs/train.py does: the count begins anew.
    trained = run("published", version="v3")
    assert ancestors_of([*records, trained, step("v4", "v3", 1.0, 1.0)], "v4", "rmse") == [
        Ancestor("v3", 1, 1.0)
    ]


def test_what_is_long_ago_is_forgotten() -> None:
    records = [step(f"v{n + 1}", f"v{n}", 1.01, 1.0) for n in range(MEMORY + 5)]
    found = ancestors_of(records, f"v{MEMORY + 5}", "rmse")
    assert len(found) == MEMORY
    assert found[-1] == Ancestor("v5", MEMORY, pytest.approx(1.01**MEMORY))


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
