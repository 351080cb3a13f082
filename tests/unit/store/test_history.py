"""Records of the runs of a store."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from als_spark.errors import DataError
from als_spark.store.files import LocalFiles
from als_spark.store.history import RunHistory, new_run_id
from als_spark.store.layout import stamp
from tests.store_tools import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def files(tmp_path):
    return LocalFiles(tmp_path / "store")


@pytest.fixture
def history(files, clock):
    return RunHistory(files, "STORE", clock=clock)


def change_owner(files, run, **changes):
    """Make a run another process's."""
    path = f"runs/{run}/run.json"
    record = json.loads(files.read(path))
    record["owner"].update(changes)
    files.replace(path, json.dumps(record).encode())


DEAD = {"started": 1}
ELSEWHERE = {"boot": "another"}


def test_run_ids():
    ids = {new_run_id() for _ in range(20)}
    assert len(ids) == 20
    start = datetime(2026, 11, 25, 3, 4, 5, 67_000, tzinfo=UTC)
    assert new_run_id(start).startswith("20261125T030405Z-067")
    assert new_run_id(start) < new_run_id(start.replace(microsecond=68_000))
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-\d{3}[0-9a-f]{6}", run) for run in ids)


def test_a_run(history, files, clock, tmp_path):
    history.start_run("a", {"job": "train", "seed": 1})
    record = history.read_run("a")
    assert {k: record[k] for k in ("run", "status", "job", "started")} == {
        "run": "a",
        "status": "running",
        "job": "train",
        "started": "2026-11-25T03:40:55.000+00:00",
    }
    assert history.read_history() == []
    clock.forward(minutes=5)
    (tmp_path / "plot.png").write_bytes(b"png")
    attachments = {"report.html": b"<p>", "plots/plot.png": tmp_path / "plot.png"}
    history.finish_run("a", "published", {"seed": 2, "version": "v"}, attachments)
    assert files.read("runs/a/report.html") == b"<p>"
    assert files.read("runs/a/plots/plot.png") == b"png"
    assert history.gather() == ["a"]
    assert history.gather() == []
    (line,) = history.read_history()
    assert {**line, "attachments": ["plots/plot.png"]} == history.read_run("a")
    assert line["finished"] == "2026-11-25T03:45:55.000+00:00"
    assert (line["status"], line["seed"], line["job"], line["version"]) == (
        "published",
        2,
        "train",
        "v",
    )
    assert json.loads(files.read("store.json"))["format"] == "als_spark.store/1"


def test_a_run_whose_start_was_not_noted(history):
    history.finish_run("a", "failed", {"error": "no space"})
    history.gather()
    assert history.read_history()[0]["error"] == "no space"


def test_those_without_a_lock_are_gathered_too_in_their_order(history):
    for run in ("c", "a", "b"):
        history.start_run(run, {})
        history.finish_run(run, "locked", {})
    history.start_run("d", {})
    assert history.gather(running=["d"]) == ["a", "b", "c"]
    assert [record["run"] for record in history.read_history()] == ["a", "b", "c"]
    assert history.read_run("d")["status"] == "running"


class TestDied:
    def test_the_process_is_gone(self, history, files):
        history.start_run("a", {"seed": 1})
        assert history.gather() == []
        change_owner(files, "a", **DEAD)
        assert history.gather(running=["a"]) == []
        assert history.gather() == ["a"]
        (line,) = history.read_history()
        assert (line["status"], line["outcome"], line["seed"]) == ("died", "died", 1)
        assert line["sentence"] == (
            "died before it began to work: it was killed, or its machine was lost"
        )
        assert history.read_run("a")["status"] == "died"
        assert history.gather() == []

    def test_how_far_it_had_come(self, history, files):
        history.start_run("a", {"seed": 1})
        history.note_run("a", {"phase": "training", "data": {"ratings": 3}})
        history.note_run("a", {"phase": "publishing"})
        assert history.gather() == []
        change_owner(files, "a", **DEAD)
        history.gather(published={"a": "v1", "b": "v2"})
        (line,) = history.read_history()
        assert line["sentence"] == (
            "died while publishing: it was killed, or its machine was lost; before that, it "
            "published v1"
        )
        assert (line["seed"], line["data"], line["version"]) == (1, {"ratings": 3}, "v1")

    def test_elsewhere_after_an_hour_of_silence(self, history, files, clock):
        history.start_run("a", {})
        change_owner(files, "a", **ELSEWHERE)
        clock.forward(minutes=59)
        assert history.gather() == []
        clock.forward(minutes=1)
        assert history.gather() == ["a"]

    def test_given_up_too_soon(self, history, files, clock):
        history.start_run("a", {})
        change_owner(files, "a", **ELSEWHERE)
        clock.forward(hours=2)
        history.gather(published={"a": "v1"})
        history.finish_run("a", "kept", {"phase": "evaluating"})
        assert history.gather() == ["a"]
        (line,) = history.read_history()
        assert line["status"] == "kept"
        assert line.keys().isdisjoint({"noticed", "outcome", "sentence", "version"})

    @pytest.mark.parametrize(
        "record", [{"status": "running"}, {"status": "running", "owner": {}, "started": 3}]
    )
    def test_records_that_do_not_say_whose(self, history, files, record):
        files.create("runs/a/run.json", json.dumps(record).encode())
        assert history.gather() == ["a"]
        assert history.read_history()[0]["status"] == "died"


def test_a_run_of_a_clock_that_was_ahead_is_not_the_newest_for_years(history, clock):
    runs = [f"{stamp(clock() + timedelta(days=day))}-{day:09}" for day in range(6)]
    history.finish_run(runs[0], "published", {})
    history.gather()
    ahead = f"{stamp(clock() + timedelta(days=3650))}-000"
    history.finish_run(ahead, "published", {})
    history.gather()
    for run in (runs[1], runs[2], runs[4]):
        clock.forward(days=1)
        history.finish_run(run, "published", {})
        history.gather()
    # One that is noticed late still has its place.
    clock.forward(days=2)
    history.finish_run(runs[3], "died", {})
    history.gather()
    assert [record["run"] for record in history.read_history()] == [
        *(runs[0], ahead, runs[1], runs[2], runs[3], runs[4])
    ]


def test_broken_lines_are_skipped(history, files, caplog):
    history.finish_run("b", "done", {})
    history.gather()
    good = files.read("history.jsonl")
    files.replace(
        "history.jsonl", b'{"run": "a"}\n{"run": \n\xff\n[]\n{"x": 1}\n{"run": 5}\n' + good
    )
    assert [record["run"] for record in history.read_history()] == ["a", "b"]
    assert [text.partition(" is ")[0] for text in caplog.messages] == [
        f"STORE/history.jsonl: line {number}" for number in range(2, 7)
    ]
    history.finish_run("c", "done", {})
    history.gather()
    lines = files.read("history.jsonl").decode().splitlines()
    assert [json.loads(line)["run"] for line in lines] == ["a", "b", "c"]


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff"])
def test_damaged_records_are_left_out(history, files, content):
    history.start_run("a", {})
    files.replace("runs/a/run.json", content)
    assert history.read_run("a") is None
    assert history.gather() == []
    history.finish_run("a", "done", {})
    assert history.gather() == ["a"]


def test_a_line_break_of_unicode_in_a_record(history, files):
    history.finish_run("a", "done", {"text": "one\u2028two\x85\nthree"})
    history.gather()
    assert history.read_history()[0]["text"] == "one\u2028two\x85\nthree"


def test_old_folders_go_and_lines_stay(history, files):
    for k in range(6):
        history.finish_run(f"run-{k}", "done", {}, {"report.html": b""})
    history.start_run("run-2b", {})
    # Not by a run: each begins with its record.
    files.create("runs/run-1b/report.html", b"")
    assert len(history.gather(keep=3)) == 6
    assert files.names("runs") == ["run-1b", "run-2b", "run-3", "run-4", "run-5"]
    assert len(history.read_history()) == 6
    history.finish_run("run-6", "done", {})
    assert history.gather(keep=100) == ["run-6"]
    assert len(history.read_history()) == 7
    assert len(files.names("runs")) == 6


def test_files_of_others_in_the_folder_of_a_run_stay(history, files, caplog):
    for k in range(4):
        history.finish_run(f"run-{k}", "done", {}, {"report.html": b"", "plots/p.png": b""})
    files.create("runs/run-1/notes.txt", b"mine")
    history.gather(keep=1)
    assert files.names("runs") == ["run-1", "run-3"]
    assert files.read("runs/run-1/notes.txt") == b"mine"
    assert "runs/run-1/notes.txt is not the store's" in caplog.text


def test_ninety_are_kept(history, files):
    for k in range(92):
        files.create(f"runs/{k:03}/run.json", f'{{"run": "{k:03}", "status": "done"}}'.encode())
    history.gather()
    assert files.names("runs")[0] == "002"


def test_nan_is_no_json(history):
    with pytest.raises(DataError, match=r"^rmse is nan: the numbers that it comes from"):
        history.finish_run("a", "done", {"rmse": float("nan")})
    assert history.read_run("a") is None
