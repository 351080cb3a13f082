"""The account of a run on a store: what is noted, however the run ends."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from als_spark.cli.config.settings import in_options
from als_spark.errors import ConfigError, StoreLocked
from als_spark.nightly import run_log
from als_spark.nightly.run_log import RunLog, new_record
from als_spark.report.progress import ProgressReporter
from als_spark.store.store import ModelStore, open_store
from tests.pages import read_page, warnings_of

CODES = {
    "published": 0,
    "unchanged": 0,
    "kept": 3,
    "data_check_failed": 4,
    "locked": 5,
    "bad_input": 2,
    "interrupted": 130,
    "failed": 1,
}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return open_store(tmp_path / "store")


@pytest.fixture
def shields() -> list[str]:
    """What has been shielded from signals, begin and end."""
    return []


@pytest.fixture
def make(store: ModelStore, shields: list[str]) -> Any:
    @contextmanager
    def shield() -> Iterator[None]:
        shields.append("on")
        yield
        shields.append("off")

    def log() -> RunLog:
        progress = ProgressReporter(1, logger=logging.getLogger("tests"))
        record = new_record("retrain", {"rank": 3}, {"als_spark": "1"})
        return RunLog(
            store,
            record,
            progress,
            ttl=timedelta(minutes=10),
            exit_codes=CODES,
            shield=shield,
            say=in_options,
        )

    return log


def line_of(store: ModelStore) -> dict[str, Any]:
    """The newest line of the history."""
    return store.history.read_history()[-1]


def page_of(store: ModelStore, run: str) -> Any:
    return read_page(store.files.read(f"runs/{run}/report.html").decode())


def test_a_run_that_ends_well(store: ModelStore, make: Any, shields: list[str]) -> None:
    log = make()
    with log.recorded():
        assert store.history.read_run(log.run)["status"] == "running"
        log.add_warning("something to read")
        log.end("kept", "kept version v1")
        assert shields == []
    line = line_of(store)
    assert (line["outcome"], line["status"], line["exit_code"]) == ("kept", "kept", 3)
    assert log.exit_code == 3
    assert line["config"] == {"rank": 3}
    page = page_of(store, log.run)
    assert "kept version v1" in page.text
    assert warnings_of(page) == ["something to read"]
    assert store.files.exists("history.png")
    assert shields == ["on", "off"] * 2


def test_the_record_and_the_report_say_the_options_of_the_command_line(
    store: ModelStore, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    log = make()
    caplog.set_level(logging.INFO)
    log.add_warning("the limit is `max_decline=`")
    with pytest.raises(ConfigError), log.recorded():
        raise ConfigError('r.csv: choose with `duplicates="mean"` or `columns["user"]`')
    line, page = line_of(store), page_of(store, log.run)
    sentence = "r.csv: choose with --duplicates mean or --user-col"
    assert line["sentence"] == sentence
    assert line["warnings"] == warnings_of(page) == ["the limit is --max-decline"]
    assert sentence in page.text
    assert "warning: the limit is --max-decline" in caplog.text
    assert store.history.read_run(log.run)["sentence"] == sentence


@pytest.mark.parametrize(
    ("error", "outcome", "sentence"),
    [
        (ConfigError("no such\nfile"), "bad_input", "no such file"),
        (RuntimeError("disk full"), "failed", "RuntimeError: disk full"),
        (KeyboardInterrupt(), "interrupted", "stopped by a signal; the store is as it was"),
    ],
)
def test_a_run_that_ends_badly(
    store: ModelStore, make: Any, error: BaseException, outcome: str, sentence: str
) -> None:
    log = make()
    with pytest.raises(type(error)) as raised, log.recorded():
        raise error
    line = line_of(store)
    assert (line["outcome"], line["sentence"]) == (outcome, sentence)
    assert line["exit_code"] == CODES[outcome]
    if outcome == "interrupted":
        assert str(raised.value) == sentence
    else:
        assert raised.value is error
    with store.lock("next"):
        pass


def test_a_locked_store_is_noted_too(store: ModelStore, make: Any) -> None:
    log = make()
    with store.lock("somebody"):
        with pytest.raises(StoreLocked), log.recorded():
            raise AssertionError
        assert store.history.read_run(log.run)["outcome"] == "locked"


def test_how_far_it_had_come_is_noted_at_each_phase(store: ModelStore, make: Any) -> None:
    log = make()
    with log.recorded():
        with log.progress.phase("training"):
            assert store.history.read_run(log.run)["phase"] == "training"
        log.end("unchanged", "nothing new")


def test_damaged_lines_are_passed_over_with_a_warning(store: ModelStore, make: Any) -> None:
    first = make()
    with first.recorded():
        first.end("unchanged", "nothing new")
    good = store.files.read("history.jsonl")
    bad = {**json.loads(good), "run": "20200101T000000Z-0", "data": {"ratings": "many"}}
    store.files.replace("history.jsonl", json.dumps(bad).encode() + b"\n" + good)
    log = make()
    with log.recorded():
        assert [record.run for record in log.past_runs()] == [first.run]
        log.end("kept", "kept")
    (warning,) = log.record.warnings
    assert warning == (
        "history.jsonl: the line of run 20200101T000000Z-0 is passed over (data.ratings is 'many': "
        "Input should be a valid integer): mend or delete it"
    )
    assert warnings_of(page_of(store, log.run)) == [warning]
    # Somebody may mend it: it stays.
    runs = [line["run"] for line in store.history.read_history()]
    assert runs == ["20200101T000000Z-0", first.run, log.run]


def test_pictures_that_fail_are_warnings(
    store: ModelStore, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(run_log, "quality_picture", fails)
    log = make()
    with log.recorded():
        log.end("unchanged", "nothing new")
    assert line_of(store)["warnings"] == [
        "the picture of the history could not be made (MemoryError: no room)"
    ]
    assert line_of(store)["exit_code"] == 0


def test_a_run_that_died_gets_its_report_from_the_next(store: ModelStore, make: Any) -> None:
    dead = make()
    store.history.start_run(dead.run, dead.record.as_dict())
    path = f"runs/{dead.run}/run.json"
    store.files.replace(
        path, json.dumps({**json.loads(store.files.read(path)), "owner": None}).encode()
    )
    log = make()
    with log.recorded():
        log.end("unchanged", "nothing new")
    sentence = "died before it began to work: it was killed, or its machine was lost"
    assert log.record.warnings == (f"run {dead.run} {sentence}",)
    assert sentence in page_of(store, dead.run).text
