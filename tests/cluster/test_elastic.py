"""Dynamic allocation and speculation on a standalone cluster, in both exchanges."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from als_spark.cli.sweep import main as sweep
from als_spark.report.progress import ProgressReporter
from als_spark.train.records import IterationRecord
from tests.cluster.documented import TrialCheckout, block, close, needs_asking
from tests.drills.driver import result_of
from tests.drills.executors import make_session
from tests.drills.ratings import draw_ratings, write_csv
from tests.spark.session import make_session as make_local_session

pytestmark = pytest.mark.slow

GRID = ("--ranks", "2,3", "--lambdas", "1,4", "--max-iter", "8", "--tol", "0")
EXCHANGES = ("broadcast", "shuffle")
ELASTIC = {
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.executorIdleTimeout": "2s",
    "spark.dynamicAllocation.maxExecutors": "3",
    "spark.eventLog.enabled": "true",
    "spark.eventLog.compress": "false",
    "spark.eventLog.rolling.enabled": "false",
}
EAGER = {
    "spark.speculation": "true",
    "spark.speculation.interval": "20ms",
    "spark.speculation.minTaskRuntime": "0ms",
    "spark.speculation.multiplier": "0",
    "spark.speculation.quantile": "0.1",
}
"""A second attempt of every task that is not among the first."""
IDLE = "spark.dynamicAllocation.cachedExecutorIdleTimeout"
SHUFFLES = "spark.dynamicAllocation.shuffleTracking.timeout"
"""Without it those with files of a shuffle stay, until the driver's JVM collects its garbage."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialCheckout]:
    needs_asking()
    checkout = TrialCheckout(tmp_path_factory.mktemp("elastic"))
    try:
        yield checkout
    finally:
        checkout.commands("scripts/cluster.sh stop")


def test_the_commands_of_the_page(checkout: TrialCheckout, local: Path) -> None:
    done = checkout.commands(block("elastic/shuffle"))
    assert done.returncode == 0, done.stderr
    wanted = json.loads((local / "sweep" / "results.json").read_text())
    for exchange in EXCHANGES:
        found = json.loads((checkout.root / f"elastic/{exchange}/results.json").read_text())
        close(wanted, found)


class Trial:
    """A sweep on a small cluster, and in local mode."""

    def __init__(self, folder: Path, master: str) -> None:
        self._folder = folder
        self._master = master
        lines = draw_ratings(200, 100, 6000, seed=5).lines()
        self._ratings = write_csv(folder / "ratings.csv", lines)
        session = make_local_session()
        try:
            self.wanted = {exchange: self.run("local", exchange) for exchange in EXCHANGES}
        finally:
            session.stop()

    def run(self, name: str, exchange: str, code: int = 0) -> Any:
        """Sweep; return all that must be the same."""
        output = self._folder / f"{name}-{exchange}"
        command = ["--ratings", str(self._ratings), "--output", str(output), *GRID]
        command += ["--partitions", "3", "--exchange", exchange]
        assert sweep(command) == code
        return None if code else result_of(output)

    def session(self, name: str, settings: Mapping[str, str]) -> SparkSession:
        """Start an application on the cluster, with a log of its events."""
        (self._folder / name).mkdir()
        log = {"spark.eventLog.dir": (self._folder / name).as_uri()}
        return make_session(self._master, {**ELASTIC, **log, **settings})

    def events(self, name: str) -> Counter[str]:
        """Count the events of an application that has ended, and its speculative attempts."""
        counts: Counter[str] = Counter()
        for file in (self._folder / name).iterdir():
            for line in file.read_text(encoding="utf-8").splitlines():
                event = json.loads(line)
                counts[event["Event"]] += 1
                counts["speculative"] += event.get("Task Info", {}).get("Speculative", False)
        return counts


@pytest.fixture(scope="module")
def trial(checkout: TrialCheckout, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    state = checkout.root / ".elastic"
    start = f"scripts/cluster.sh start --state-dir {state} --workers 3 --hosts 3 --memory 1g"
    # The last cluster's page has the same name.
    done = checkout.commands(f"scripts/cluster.sh stop; {start} --python {sys.executable}")
    assert done.returncode == 0, done.stderr
    try:
        yield Trial(tmp_path_factory.mktemp("trial"), done.stdout.strip())
    finally:
        checkout.commands(f"scripts/cluster.sh stop --state-dir {state}")


def test_second_attempts_of_all_tasks(trial: Trial) -> None:
    session = trial.session("eager", EAGER)
    try:
        for exchange in EXCHANGES:
            assert trial.run("eager", exchange) == trial.wanted[exchange]
    finally:
        session.stop()
    assert trial.events("eager")["speculative"] > 20


def test_executors_that_leave_with_what_they_hold(
    trial: Trial,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = ProgressReporter.on_iteration

    def on_iteration(self: ProgressReporter, record: IterationRecord) -> None:
        if record.point == 0 and record.iteration in (3, 5):
            # The driver does something else for a while.
            time.sleep(10)
        real(self, record)

    monkeypatch.setattr(ProgressReporter, "on_iteration", on_iteration)
    session = trial.session("leaving", {IDLE: "3s", SHUFFLES: "3s"})
    try:
        assert trial.run("leaving", "broadcast") == trial.wanted["broadcast"]
        capsys.readouterr()
        trial.run("refused", "shuffle", code=2)
        (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("sweep: ")]
        assert f"executors without a task for 3 s leave ({IDLE}), with the shuffled" in line
        # As an option of the job has it.
        assert "use --exchange broadcast, or" in line
        session.sparkContext.setCheckpointDir(tmp_path.as_uri())
        assert trial.run("leaving", "shuffle") == trial.wanted["shuffle"]
    finally:
        session.stop()
    # All three, some of them more than once.
    assert trial.events("leaving")["SparkListenerExecutorRemoved"] >= 6
