"""The record of a run: what is written is read, what 0.1.0 wrote too, and damage is told."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from als_spark.nightly.checks import Check
from als_spark.nightly.past_runs import (
    ancestors_of,
    kept_by,
    last_passed,
    most_lately,
    warm_trainings,
)
from als_spark.nightly.run_record import (
    Comparison,
    DataRecord,
    RefitRecord,
    RunRecord,
    SamplesRecord,
    SourceRecord,
    Spec,
    TrainingRecord,
    TrainingSettings,
    read_records,
    rounded_seconds,
)
from als_spark.report.figures.learning import training_of
from als_spark.report.figures.quality import quality_picture
from als_spark.report.pages.retrain import retrain_page
from als_spark.solve.objective import Objective
from als_spark.spark.read.degrees import Degrees
from als_spark.spark.read.facts import DataFacts, TableVersion
from tests.pages import read_page, warnings_of

TABLE = TableVersion("lake.ratings", "Iceberg", "5566233751516845505", "2026-11-25T03:00:00+00:00")
FACTS = DataFacts(1000, 60, 40, 0.5, 5.0, 3.25, 1.1, "1000-ab", (TABLE,))
OLD_LINES = Path(__file__).with_name("history-0.1.0.jsonl")
"""Written by 0.1.0: a first model of train, then nights that end in every common way."""


def full_record() -> RunRecord:
    """A record with a value in every field."""
    metrics = {"rmse": 0.9, "mae": 0.7, "count": 100, "ndcg": None}
    return RunRecord(
        run="20261125T034055Z-000abc",
        job="retrain",
        started="2026-11-25T03:40:55+00:00",
        config={"rank": 3, "lambda_reg": 2.0, "increments": ["a.csv"], "mlflow": None},
        versions={"als_spark": "0.1.0"},
        phase="publishing",
        source=SourceRecord("ratings.csv", ("a.csv",)),
        settings=TrainingSettings(3, 2.0, 0.0, "random", 0.1, 0, 1e-3, 300, "float32", False),
        data=replace(
            DataRecord(1000, 2, 3, new_users=1, new_items=2, unknown_share=0.1).with_facts(FACTS),
            ratings_per_user=Degrees.of_counts(np.array([16, 17])),
            ratings_per_item=Degrees.of_counts(np.array([25])),
        ),
        checks=(Check("ratings", "1,000", "900 to 2,000", "990", True, "max_shrink"),),
        training=TrainingRecord(
            *("warm", "99% of the rows start at version v1", 3, 2.0, 0.0),
            *(7, 8, True, 12.5, 0.25),
            history=((1, 20.0, 3.0), (2, 12.5, 0.1)),
            learnt={"noise_deviation": 0.7, "freedom": {"user": 5.0}},
        ),
        features={"item": {"source": "films.csv", "columns": [{"name": "year"}]}},
        challenger=metrics,
        champion={"rmse": 1.0, "count": 100},
        comparison=Comparison(
            measure="rmse",
            margin=0.01,
            max_decline=0.03,
            holdout=100,
            challenger=metrics,
            champion={"rmse": 1.0, "count": 100, "version": "v1"},
            verdict="rmse 0.9 against the champion's 1.0",
        ),
        refit=RefitRecord(1000, 100, 3, 4, True, 13.5, 0.125),
        version="v2",
        previous_version="v1",
        outcome="published",
        exit_code=0,
        sentence="published v2: rmse 0.9 against the champion's 1.0",
        warnings=("a.csv has no rows",),
        finished="2026-11-25T03:45:55+00:00",
        seconds={"training": 0.25, "total": 3.0},
    )


class TestRoundTrip:
    def test_what_is_written_is_read(self) -> None:
        record = full_record()
        text = json.dumps(record.as_dict(), allow_nan=False)
        assert RunRecord.read(json.loads(text)) == record
        assert RunRecord.read(RunRecord("a").as_dict()) == RunRecord("a")

    def test_only_what_is_on_of_an_objective_has_a_key(self) -> None:
        keys = {"implicit", "alpha", "nonnegative"}
        plain = full_record()
        assert plain.settings is not None
        assert plain.training is not None
        for more, kept in (
            ({}, set()),
            ({"implicit": True}, {"implicit", "alpha"}),
            ({"nonnegative": True}, {"nonnegative"}),
            ({"implicit": True, "alpha": 9.0, "nonnegative": True}, keys),
        ):
            settings = replace(plain.settings, **more)  # type: ignore[arg-type]
            training = replace(plain.training, **more)  # type: ignore[arg-type]
            record = replace(plain, settings=settings, training=training)
            found = record.as_dict()
            assert keys & found["settings"].keys() == keys & found["training"].keys() == kept
            assert RunRecord.read(found) == record
            assert settings.spec == Spec(3, Objective(2.0, **more))

    def test_a_refit_that_is_off_has_no_key(self) -> None:
        plain = full_record()
        assert plain.settings is not None
        assert "refit" not in plain.as_dict()["settings"]
        on = replace(plain, settings=replace(plain.settings, refit=True))
        assert on.as_dict()["settings"]["refit"] is True
        assert RunRecord.read(on.as_dict()) == on
        assert on.settings != plain.settings

    def test_features_are_the_same_wherever_they_lie(self) -> None:
        plain = full_record().settings
        assert plain is not None
        own = {"path": "/lake/films.csv", "chosen": ["year"], "fingerprint": "ab"}
        settings = replace(plain, features={"item": own})
        assert settings.same_as(replace(plain, features={"item": {**own, "path": "elsewhere"}}))
        assert not settings.same_as(replace(plain, features={"item": {**own, "fingerprint": "c"}}))
        assert not settings.same_as(replace(plain, features={"user": own}))
        for other in (plain, None, replace(settings, rank=4)):
            assert not settings.same_as(other)
        assert plain.same_as(plain)
        record = replace(full_record(), settings=settings)
        assert RunRecord.read(record.as_dict()) == record
        assert "features" not in full_record().as_dict()["settings"]

    def test_lambda_has_one_name_in_files(self) -> None:
        found = full_record().as_dict()
        assert found["training"]["lambda_reg"] == found["settings"]["lambda_reg"] == 2.0
        assert set(names_in(found)).isdisjoint({"lambda", "reg"})

    def test_numbers_that_json_does_not_have_become_null(self) -> None:
        record = full_record()
        assert record.training is not None
        bad = replace(
            record,
            challenger={"rmse": math.nan},
            training=replace(record.training, objective=math.inf, history=((1, math.nan, 2.0),)),
        )
        found = bad.as_dict()
        assert found["challenger"] == {"rmse": None}
        assert found["training"]["objective"] is None
        assert found["training"]["history"] == [[1, None, 2.0]]
        assert RunRecord.read(found).challenger == {"rmse": None}

    def test_the_line_of_a_run_is_without_its_curve(self) -> None:
        record = full_record()
        assert record.brief.training is not None
        assert record.brief.training.history == ()
        assert replace(record.brief, training=record.training) == record
        assert RunRecord("a").brief == RunRecord("a")

    def test_what_is_told_of_samples(self) -> None:
        record = full_record()
        assert record.training is not None
        assert "samples" not in record.as_dict()["training"]
        samples = SamplesRecord(1, (0.9, math.nan), ((2, 0.8),))
        sampled = replace(record, training=replace(record.training, samples=samples))
        found = sampled.as_dict()
        assert found["training"]["samples"] == {
            "burn_in": 1,
            "noise": [0.9, None],
            "rmse": [[2, 0.8]],
        }
        assert RunRecord.read(found).as_dict() == found
        brief = sampled.brief.training
        assert brief is not None
        assert brief.samples == replace(samples, noise=())

    def test_keys_of_the_store_and_of_later_versions_are_passed_over(self) -> None:
        more = {"status": "published", "owner": {"pid": 3}, "noticed": "x", "of_a_later_day": [1]}
        assert RunRecord.read({**full_record().as_dict(), **more}) == full_record()

    def test_the_files_of_a_version(self) -> None:
        record = full_record()
        assert record.version_files == {
            "metrics.json": {
                "held_out": record.challenger,
                "champion": record.champion,
                "verdict": "rmse 0.9 against the champion's 1.0",
                "refit": {
                    "ratings": 1000,
                    "held_out_before": 100,
                    "iterations": 3,
                    "evaluations": 4,
                    "converged": True,
                    "objective": 13.5,
                    "seconds": 0.125,
                    "measured": "before the refit",
                },
            },
            "fingerprint.json": FACTS.as_record(),
            "config.json": record.config,
            "versions.json": record.versions,
        }
        trained = replace(record, comparison=None, challenger=None, refit=None)
        assert trained.version_files["metrics.json"] == {"held_out": None}

    def test_facts_that_are_not_whole(self) -> None:
        data = full_record().data
        assert data is not None
        assert data.facts == FACTS
        for name in FACTS.as_record():
            if name != "ratings":
                assert replace(data, **{name: None}).facts is None

    def test_seconds_are_rounded(self) -> None:
        assert rounded_seconds({"a": 1.23456}, 2.34567) == {"a": 1.235, "total": 2.346}


def names_in(value: Any) -> Iterator[str]:
    """Every key, at any depth."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield key
            yield from names_in(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from names_in(entry)


OPAQUE = ("config", "versions", "features", "learnt")
"""What is only shown: any JSON object will do."""
MAY_BE_NULL = {
    *("job", "started", "phase", "source", "settings", "data", "training", "features", "learnt"),
    *("challenger", "champion", "comparison", "refit", "version", "previous_version", "outcome"),
    *("exit_code", "sentence", "finished", "users", "items", "lowest", "highest", "mean", "spread"),
    *("fingerprint", "new_users", "new_items", "unknown_share", "objective", "max_decline"),
    *("rmse", "mae", "count", "ndcg", "ratings_per_user", "ratings_per_item"),
}
WRONG: dict[type, tuple[Any, ...]] = {
    str: (True, 7, [], ["text"], {}),
    bool: (None, 1, "true", [], {}),
    int: (True, "7", [7], {}),
    float: (True, "7", [7], {}),
    list: (None, True, 7, "text", {}),
    dict: (True, 7, "text", []),
    type(None): (True, "7", [], {}),
}
"""What must not stand in the place of a value of a type; null has :data:`MAY_BE_NULL`."""


def places_of(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in a record, of lists and objects too."""
    if place:
        yield place
    if isinstance(value, dict) and place[-1:] not in [(name,) for name in OPAQUE]:
        for key, entry in value.items():
            yield from places_of(entry, (*place, key))
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from places_of(entry, (*place, number))


def value_at(record: dict[str, Any], place: tuple[Any, ...]) -> Any:
    found: Any = record
    for key in place:
        found = found[key]
    return found


def damages() -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every field of a record, with each value that must not stand there."""
    record = full_record().as_dict()
    for place in places_of(record):
        old, key = value_at(record, place), place[-1]
        in_curve = "history" in place and key in (1, 2)
        # The champion's metrics have the version among them.
        may_be_null = (key in MAY_BE_NULL and place[:2] != ("comparison", "champion")) or in_curve
        may_be_null = may_be_null or (place[0] == "comparison" and key in ("rmse", "count"))
        may_be_null = may_be_null or place == ("comparison", "champion")
        yield from ((place, value) for value in WRONG[type(old)])
        if old is not None and not may_be_null and None not in WRONG[type(old)]:
            yield place, None


class TestDamage:
    @pytest.mark.parametrize(
        ("place", "value"),
        [
            pytest.param(*case, id=f"{'.'.join(map(str, case[0]))}={case[1]!r}")
            for case in damages()
        ],
    )
    def test_a_value_of_another_type(self, place: tuple[Any, ...], value: Any) -> None:
        record = copy.deepcopy(full_record().as_dict())
        value_at(record, place[:-1])[place[-1]] = value
        good = full_record().as_dict()
        records, (problem,) = read_records([good, record, good])
        assert records == [full_record()] * 2
        assert problem.startswith(
            f"history.jsonl: the line of run {record['run']} is passed over ("
        )
        assert ".".join(str(key) for key in place if isinstance(key, str)).split(".")[0] in problem
        assert problem.endswith("): mend or delete it")
        assert "\n" not in problem

    def test_the_walk_reaches_every_field(self) -> None:
        places = {place for place, _ in damages()}
        assert {place[0] for place in places} == set(full_record().as_dict())
        assert ("comparison", "champion", "version") in places
        assert ("training", "history", 1, 0) in places
        assert len(list(damages())) > 300

    @pytest.mark.parametrize("key", ["rank", "lambda_reg", "start", "exponent"])
    def test_a_field_that_is_missing(self, key: str) -> None:
        record = full_record().as_dict()
        del record["training"][key]
        with pytest.raises(ValueError, match=rf"^training\.{key}: Field required$"):
            RunRecord.read(record)

    @pytest.mark.parametrize("part", ["training", "settings"])
    @pytest.mark.parametrize("key", ["lambda_reg", "exponent"])
    def test_an_objective_that_is_none(self, part: str, key: str) -> None:
        record = full_record().as_dict()
        record[part][key] = -1.0
        with pytest.raises(ValueError, match=rf"^{part}\.{key} is -1\.0: "):
            RunRecord.read(record)

    @pytest.mark.parametrize("number", [math.nan, math.inf, 1e400])
    def test_numbers_that_json_does_not_have(self, number: float) -> None:
        # Python's json reads NaN and Infinity, which other programs may have written.
        record = full_record().as_dict()
        record["data"]["mean"] = number
        with pytest.raises(ValueError, match=r"data\.mean"):
            RunRecord.read(record)

    @pytest.mark.parametrize("text", ["\ud800", "a\x00b"])
    def test_text_that_is_none(self, text: str) -> None:
        record = {**full_record().as_dict(), "sentence": text}
        records, problems = read_records([record])
        assert len(records) + len(problems) == 1


def without_nulls(value: Any) -> Any:
    """Leave out what a record does not say: nulls and empty lists and objects, at any depth."""
    if isinstance(value, dict):
        kept = {key: without_nulls(entry) for key, entry in value.items()}
        return {key: entry for key, entry in kept.items() if entry not in (None, [], {})}
    return [without_nulls(entry) for entry in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def old_lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in OLD_LINES.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def old(old_lines: list[dict[str, Any]]) -> list[RunRecord]:
    records, problems = read_records(old_lines)
    assert problems == []
    return records


class TestLinesOfTheFirstRelease:
    def test_they_are_what_that_release_wrote(self, old_lines: list[dict[str, Any]]) -> None:
        assert all("lambda" in line["training"] for line in old_lines if line["training"])
        assert all("lambda_reg" not in json.dumps(line) for line in old_lines)
        outcomes = [line["outcome"] for line in old_lines]
        assert outcomes == [
            *("published", "unchanged", "published", "kept", "data_check_failed"),
            *("bad_input", "died", "unchanged"),
        ]

    def test_every_line_loads_with_all_it_says(
        self, old: list[RunRecord], old_lines: list[dict[str, Any]]
    ) -> None:
        for record, line in zip(old, old_lines, strict=True):
            found = without_nulls(record.as_dict())
            # Keys of the store, and one that training has too.
            more = {"status", "owner", "noticed", "iterations"}
            told = without_nulls({k: v for k, v in line.items() if k not in more})
            for part in ("training", "settings"):
                if part in told:
                    told[part]["lambda_reg"] = told[part].pop(
                        {"training": "lambda"}.get(part, "reg")
                    )
            assert found == told
        training, settings = old[2].training, old[2].settings
        assert training is not None
        assert settings is not None
        assert training.reg == old_lines[2]["training"]["lambda"] == 2.0
        assert settings.spec == Spec(3, Objective(2.0, exponent=0.0))

    def test_what_they_say_to_the_next_run(
        self, old: list[RunRecord], old_lines: list[dict[str, Any]]
    ) -> None:
        facts, last = last_passed(old)
        assert facts is not None
        assert last == old[-1]
        assert facts.fingerprint == old_lines[-1]["data"]["fingerprint"]
        assert most_lately(old[:3])["ratings"] == 1200
        # The fourth was forced through a failed check.
        assert most_lately(old[:4])["ratings"] == 1000
        assert kept_by(old[:4]) == ("rmse", 0.0, 0.0)
        assert kept_by(old) is None
        first, second = old_lines[0]["version"], old_lines[2]["version"]
        (ancestor,) = ancestors_of(old[:3], second, "rmse")
        comparison = old_lines[2]["comparison"]
        worse = comparison["challenger"]["rmse"] / comparison["champion"]["rmse"]
        assert (ancestor.version, ancestor.worsening) == (first, pytest.approx(worse))
        assert warm_trainings(old[:3], 3) == 1

    def test_their_reports(self, old: list[RunRecord]) -> None:
        for record in old:
            page = read_page(retrain_page(record.as_dict(), {}))
            assert str(record.sentence) in page.text
            assert set(record.warnings) <= set(warnings_of(page))
        training = read_page(retrain_page(old[2].as_dict(), {})).text
        assert "ridge λ" in training
        assert quality_picture([record.as_dict() for record in old]).startswith(b"\x89PNG")

    def test_the_curve_of_a_record(self) -> None:
        curve = training_of(full_record().as_dict()["training"])
        assert [(r.iteration, r.reg) for r in curve.history] == [(1, 2.0), (2, 2.0)]
