"""A start and fourteen nights in one session: every outcome, and a whole store after each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

import tests.drills.fortnight
from als_spark.cli.interrupts import Interrupted
from als_spark.store.store import open_store
from jobs.retrain import main
from tests.drills.fortnight import cold_iterations, problems_of
from tests.drills.nights import NIGHTS, nights
from tests.drills.ratings import draw_ratings
from tests.drills.victim import killed_at
from tests.pages import read_page, warnings_of

SMALL = ("--rank", "3", "--lambda", "2", "--exponent", "0", "--max-iter", "400")
SMALL += ("--margin", "0.05", "--keep", "3")
SMALL += ("--ranking-users", "0")


def new_line(store: Path, known: set[str]) -> dict[str, Any]:
    """The only line of the history that is new and was written by a run that came to its end."""
    lines = (json.loads(line) for line in (store / "history.jsonl").read_text().splitlines())
    new = [line for line in lines if line["run"] not in known]
    known |= {line["run"] for line in new}
    (record,) = [line for line in new if line["status"] not in ("died", "locked")]
    assert isinstance(record, dict)
    return record


@pytest.mark.slow
def test_a_fortnight(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "store"
    store = open_store(path)
    outcomes, published = [], []
    known: set[str] = set()
    for night in nights(tmp_path, draw_ratings(80, 60, 2400)):
        when = f"day {night.day}, {night.came}"
        before = store.current()
        if night.exit_code is None:
            with killed_at(path, "placed"):
                # Readers are not disturbed, and other runs kept out.
                assert store.load().description["warm_runs"] == len(published) - 1
                assert main([*night.options, *SMALL, "--store", str(path)]) == 5
                assert "is locked by run" in capsys.readouterr().err
            assert store.current() == before
            assert store.verify() == []
            outcomes += ["locked", "died"]
            continue
        code = main([*SMALL, *night.options, "--store", str(path)])
        assert code == night.exit_code, when
        said = capsys.readouterr().out
        record = new_line(path, known)
        outcomes.append(record["outcome"])
        assert record["outcome"] == record["status"] == night.outcome, when
        assert record["exit_code"] == code
        assert record["sentence"] in said
        if night.warning:
            assert any(night.warning in warning for warning in record["warnings"]), when
        else:
            assert record["warnings"] == [], when
        page = read_page((path / "runs" / record["run"] / "report.html").read_text())
        assert set(record["warnings"]) <= set(warnings_of(page))
        assert (record["training"] or {}).get("start") == night.start, when
        current = store.current()
        if night.outcome == "published":
            published.append(current)
            assert record["version"] == current
            assert record["previous_version"] == before
            last = (night, record)
        else:
            assert current == before, when
        # The drill on real ratings has the same opinion.
        assert problems_of(path, night, code, record) == []
        assert store.verify() == []
        assert store.load().description["lambda_reg"] == 2
        assert store.files.names("staging") == []
        assert [info.name for info in store.versions()] == published[-3:]
    assert outcomes.count("published") == len(set(published)) == 9
    assert outcomes.count("unchanged") == 3
    assert outcomes.count("data_check_failed") == 2
    assert night.day == NIGHTS
    history = store.history.read_history()
    # A run that was killed or locked out gets its line from the next one; ids sort by time.
    assert sorted(record["status"] for record in history) == sorted(outcomes)
    assert len(list((path / "runs").iterdir())) == len(history)
    for record in history:
        assert (path / "runs" / record["run"] / "report.html").exists()
    assert (path / "history.png").read_bytes().startswith(b"\x89PNG")
    night, record = last
    wrong = replace(night, outcome="kept", exit_code=3, start="cold", warning="no such words")
    outcome, start, warning = problems_of(path, wrong, 0, record)
    assert "published with exit code 0, not kept with 3: published 2" in outcome
    assert start.endswith("warm start, not cold")
    assert warning.endswith("no warning says 'no such words'")
    cold = cold_iterations(spark, path, night, record, SMALL)
    assert cold is None or cold > record["training"]["iterations"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file or directory"),
        ("userId,movieId,rating,timestamp\n1,2,many,4\n", "'many'"),
        ("", "at least 1,000 ratings"),
        ("userId,movieId,rating\n1,2,3\n", "1 rows of 3 columns"),
        ("userId,movieId,rating,timestamp\n1,2,3,4\n", "at least 1,000 ratings"),
    ],
)
def test_other_data_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, says: str
) -> None:
    path = tmp_path / "ratings.csv"
    if content is not None:
        path.write_text(content)
    assert tests.drills.fortnight.main(["--data", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fortnight: {path}: ")
    assert says in line


def test_whoever_stops_a_night_stops_the_drill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tests.drills.fortnight, "retrain", lambda _: 130)
    (night, *_) = nights(tmp_path, draw_ratings(20, 20, 100))
    with pytest.raises(Interrupted):
        tests.drills.fortnight.run_night(tmp_path / "store", night, ())
