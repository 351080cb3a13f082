"""A start and fourteen nights in one session: every outcome, and a whole store after each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from als_spark.store.store import open_store
from jobs.retrain import main
from scripts.drills.nights import NIGHTS, nights
from scripts.drills.ratings import draw_ratings
from scripts.drills.victim import killed_at
from tests.pages import read_page, warnings_of

SMALL = ("--rank", "3", "--lambda", "2", "--max-iter", "400", "--margin", "0.05", "--keep", "3")


def new_line(store: Path, known: set[str]) -> dict[str, Any]:
    """The only line of the history that is new and was written by a run that came to its end."""
    lines = (json.loads(line) for line in (store / "history.jsonl").read_text().splitlines())
    new = [line for line in lines if line["run"] not in known]
    known |= {line["run"] for line in new}
    (record,) = [line for line in new if line["status"] not in ("died", "locked")]
    assert isinstance(record, dict)
    return record


@pytest.mark.usefixtures("spark")
def test_a_fortnight(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
        else:
            assert current == before, when
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
        assert (path / "runs" / record["run"] / "report.html").exists() == (
            record["status"] != "died"
        )
    assert (path / "history.png").read_bytes().startswith(b"\x89PNG")
