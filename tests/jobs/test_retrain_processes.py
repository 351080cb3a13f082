"""The nightly job as processes of its own: two at once, SIGTERM, SIGKILL."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import tests.drills.kills
from als_spark.cli.interrupts import Interrupted
from tests.conftest import ROOT
from tests.drills.kills import Aim, Store, kill_one, phase_hit
from tests.drills.processes import SUBMIT, Job
from tests.drills.ratings import draw_ratings
from tests.drills.victim import STEPS, killed_at
from tests.jobs.nightly import SMALL, Lake, fresh_lines
from tests.logs import driver_tracebacks

# Hours of training, of which the first seconds are enough.
ENDLESS = ("--placement", "ratings", "--tol", "0", "--max-iter", "1000000", "--force")

Start = Callable[..., Job]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a retraining that does not outlive the test."""
    started: list[Job] = []

    def begin(lake: Lake, *options: str) -> Job:
        sources = ("--ratings", str(lake.base), "--store", str(lake.path))
        log = tmp_path / f"run-{len(started)}.log"
        started.append(Job(log, "retrain", [*sources, *SMALL, *options]))
        return started[-1]

    yield begin
    for job in started:
        job.kill()


@pytest.fixture
def lake(spark: object, tmp_path: Path) -> Lake:
    """A lake whose store has a version."""
    lake = Lake(tmp_path)
    assert lake.retrain() == 0
    return lake


@pytest.mark.slow
def test_of_two_that_start_together_one_runs(start: Start, tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    jobs = [start(lake), start(lake)]
    codes = [job.wait(300) for job in jobs]
    assert sorted(codes) == [0, 5], [job.log for job in jobs]
    winner, loser = (jobs[codes.index(code)] for code in (0, 5))
    assert "published" in winner.log
    (line,) = [line for line in loser.log.splitlines() if "is locked by run" in line]
    assert line.startswith("retrain: ")
    assert f"process {winner.pid}) since" in line
    assert driver_tracebacks(winner.log + loser.log) == []
    assert sorted(record["status"] for record in lake.history()) == ["locked", "published"]
    assert len(lake.pointers()) == 1
    assert lake.store.verify() == []


@pytest.mark.parametrize(
    ("phase", "mounted"),
    [
        pytest.param("starting Spark ...", False, marks=pytest.mark.slow),
        pytest.param("iteration 1, ", False, marks=pytest.mark.slow),
        ("iteration 1, ", True),
    ],
)
@pytest.mark.slow
def test_sigterm(
    start: Start, lake: Lake, phase: str, mounted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, current = lake.pointers(), lake.store.current()
    options = ["--increments", lake.file("today.csv", fresh_lines()), *ENDLESS]
    if mounted:
        # On a file system that only Spark knows.
        mount = f"spark.hadoop.fs.viewfs.mounttable.night.link./lake=file://{lake.folder}"
        monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", f"--conf {mount} {SUBMIT}")
        options += ["--store", "viewfs://night/lake/store"]
    job = start(lake, *options)
    assert job.wait_until(lambda: phase in job.log, 300), job.log
    job.terminate()
    assert job.wait(120) == 130, job.log
    assert driver_tracebacks(job.log) == []
    assert "retrain: stopped by a signal; the store is as it was\n" in job.log
    record = lake.last()
    assert (record["status"], record["outcome"]) == ("interrupted", "interrupted")
    assert record["exit_code"] == 130
    assert record["sentence"] == "stopped by a signal; the store is as it was"
    assert "stopped by a signal" in lake.report()
    assert (lake.pointers(), lake.store.current()) == (before, current)
    assert lake.store.verify() == []
    assert lake.store.files.names("staging") == []
    # The lock was given back: the next run need not find out that its owner is gone.
    locks = [json.loads(path.read_text()) for path in (lake.path / "locks").glob("*.json")]
    assert [lock["released"] is not None for lock in locks] == [True]


@pytest.mark.parametrize(
    "step",
    [step if step == "switched" else pytest.param(step, marks=pytest.mark.slow) for step in STEPS],
)
def test_killed_at_a_step_of_the_publishing(lake: Lake, step: str) -> None:
    old = lake.store.current()
    with killed_at(lake.path, step) as run:
        pass
    switched = step in ("switched", "parked")
    current = lake.store.current()
    assert (current != old) == switched
    assert lake.store.load().rank == 3
    assert lake.store.verify() == []
    # Nothing new, but the remains go.
    assert lake.retrain() == 0
    record = lake.last()
    assert record["outcome"] == "unchanged"
    there = {"switched": 2}.get(step, 1)
    assert len(lake.store.versions()) == there
    assert lake.store.current() == current
    died, *more = record["warnings"]
    after = f"; before that, it published {current}" if switched else ""
    assert died == (
        f"run {run} died while publishing: it was killed, or its machine was lost{after}"
    )
    assert len(more) == (step != "switched")
    assert all(text.startswith("removed what a killed run had left: ") for text in more)
    assert "died while publishing" in lake.report(run)
    for folder in ("staging", "pruning", "readers"):
        assert lake.store.files.names(folder) == []
    (dead,) = [r for r in lake.history() if r["run"] == run]
    assert (dead["status"], dead["outcome"]) == ("died", "died")
    assert dead.get("version") == (current if switched else None)


class Ended:
    """A run that was over before its kill."""

    log = "Traceback"

    def __init__(self, code: int) -> None:
        self._code = code

    def ended(self) -> bool:
        return True

    def wait(self) -> int:
        return self._code

    def wait_until(self, condition: object) -> bool:
        return False


@pytest.mark.parametrize("code", [0, 1])
def test_a_run_that_fails_by_itself_is_not_one_that_was_too_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(tests.drills.kills, "start", lambda *_: Ended(code))
    store, rng = Store(tmp_path / "store"), np.random.default_rng(0)
    found = kill_one(tmp_path, store, draw_ratings(5, 5, 9), Aim(rng, {}), rng, 3, None)
    assert found == (None, None)
    assert store.problems == (["the run before kill 3: exit code 1: Traceback"] if code else [])


class Endless(Ended):
    """A run that goes on until it is killed."""

    def __init__(self) -> None:
        self.killed = False

    def wait_until(self, condition: object) -> bool:
        raise KeyboardInterrupt

    def kill(self) -> None:
        self.killed = True


def test_a_drill_that_is_stopped_leaves_no_run_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, rng = Endless(), np.random.default_rng(0)
    monkeypatch.setattr(tests.drills.kills, "start", lambda *_: job)
    store = Store(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        kill_one(tmp_path, store, draw_ratings(5, 5, 9), Aim(rng, {}), rng, 1, None)
    assert job.killed


class StoppedReader:
    """A reader that has seen nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        self.stopped = False

    def terminate(self) -> None:
        self.stopped = True

    def communicate(self, timeout: float) -> tuple[str, None]:
        assert self.stopped
        return json.dumps({"loads": 7, "failures": [], "digests": [], "slowest": 0.5}), None


@pytest.mark.parametrize("kills", [0, 2])
def test_a_drill_that_is_stopped_tells_what_it_has_seen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kills: int,
) -> None:
    hits = iter(["training"] * kills)

    def kill(*_: object) -> tuple[None, str]:
        for hit in hits:
            return None, hit
        raise Interrupted

    monkeypatch.setattr(tests.drills.kills, "first_run", lambda *_: {})
    monkeypatch.setattr(tests.drills.kills, "kill_one", kill)
    monkeypatch.setattr(tests.drills.kills.subprocess, "Popen", StoppedReader)
    figures = tmp_path / "figures.json"
    assert tests.drills.kills.main(["--output", str(figures)]) == 130
    said = capsys.readouterr()
    assert said.err == ("" if kills else "kills: stopped before the first kill\n")
    assert ("(seed 0), stopped early: 100 were asked for:\n" in said.out) == (kills > 0)
    assert figures.exists() == (kills > 0)
    if kills:
        result = json.loads(figures.read_text())
        assert (result["kills"], result["hit"], result["stopped"]) == (2, {"training": 2}, True)
        assert result["reader"]["loads"] == 7


LOG = """\
05:03:54 starting Spark ...
05:03:59 starting Spark: 5.0 s
26/11/25 05:03:57 WARN Utils: Your hostname
05:04:00 120 users, 80 items, 3,000 ratings
05:04:01 training ...
05:04:01 0/1 points done, 1 running, d=4 λ=2 iteration 1, change 29
05:04:04 d=4 λ=2: 10 iterations (the cap: not converged), objective 2427.54, 2.7 s
"""


@pytest.mark.parametrize(
    ("log", "switched", "hit"),
    [
        ("WARNING: Using incubator modules\n", False, "before the first phase"),
        (LOG[:30], False, "starting Spark"),
        (LOG[:60], False, "after starting Spark"),
        (LOG, False, "training"),
        (f"{LOG}05:04:06 publishing ...\n", False, "publishing"),
        (f"{LOG}05:04:06 publishing ...\n", True, "pruning"),
        (f"{LOG}05:04:06 publishing: 0.1 s\n", True, "finishing"),
    ],
)
def test_the_phase_that_was_hit_is_read_from_the_log(
    tmp_path: Path, log: str, switched: bool, hit: str
) -> None:
    store = Store(tmp_path)
    if switched:
        (tmp_path / "pointers").mkdir()
        (tmp_path / "pointers" / "0000000001.json").write_text("{}")
    assert phase_hit(log, store, 0) == hit


def test_a_drill_that_is_not_known() -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "drill.sh", "fire"], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "usage: scripts/drill.sh DRILL" in line
    assert "fortnight kills" in line
