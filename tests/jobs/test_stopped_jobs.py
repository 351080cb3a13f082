"""A signal at the begin of any phase of a job, or at an iteration: exit code 130, nothing half."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from als_spark.cli.program import EXIT_DONE, EXIT_INTERRUPTED
from als_spark.report.progress import ProgressReporter
from als_spark.train.records import IterationRecord
from jobs.evaluate import main as evaluate
from jobs.recommend import main as recommend
from jobs.train import main as train
from tests.jobs.nightly import SMALL, Lake

pytestmark = pytest.mark.usefixtures("spark")

QUICK = ("--max-iter", "2", "--force", "--margin", "9")


@pytest.fixture(scope="module")
def published(spark: object, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    assert lake.retrain(*QUICK) == 0
    return lake


@pytest.fixture
def lake(published: Lake, tmp_path: Path) -> Lake:
    return Lake(tmp_path, published.path)


def stop_at(patch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Send SIGTERM when the phase of this number begins; return the phases, as they begin."""
    phases: list[str] = []
    real = ProgressReporter.phase

    def phase(self: ProgressReporter, name: str) -> AbstractContextManager[None]:
        phases.append(name)
        if len(phases) == number + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, name)

    patch.setattr(ProgressReporter, "phase", phase)
    return phases


def stopped_at_each_phase(
    run: Callable[[], int], look: Callable[[], None], capsys: pytest.CaptureFixture[str], name: str
) -> list[str]:
    """Stop a job at each of its phases, and look each time; return the phases."""
    for number in itertools.count():
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            phases = stop_at(patch, number)
            code = run()
        if len(phases) <= number:
            assert code == EXIT_DONE
            return phases
        assert code == EXIT_INTERRUPTED, phases
        assert phases[number:] == phases[number : number + 1], "nothing else is begun"
        output = capsys.readouterr()
        assert f"{name}: stopped" in output.err.splitlines()[-1]
        assert output.out == ""
        look()
    raise AssertionError


@pytest.mark.slow
def test_retrain(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    pointers = lake.pointers()

    def look() -> None:
        record = lake.last()
        assert (record["outcome"], record["exit_code"]) == ("interrupted", 130)
        assert record["sentence"] == "stopped by a signal; the store is as it was"
        assert lake.pointers() == pointers

    phases = stopped_at_each_phase(lambda: lake.retrain(*QUICK), look, capsys, "retrain")
    assert {"starting Spark", "training", "evaluating", "publishing"} <= set(phases)
    assert len(lake.pointers()) == len(pointers) + 1
    assert lake.store.verify() == []


@pytest.mark.slow
def test_retrain_at_an_iteration(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ProgressReporter.on_iteration

    def on_iteration(self: ProgressReporter, record: IterationRecord) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        real(self, record)

    before = lake.pointers()
    monkeypatch.setattr(ProgressReporter, "on_iteration", on_iteration)
    assert lake.retrain(*QUICK) == EXIT_INTERRUPTED
    assert (lake.last()["outcome"], lake.last()["phase"]) == ("interrupted", "training")
    assert lake.pointers() == before


def test_retrain_at_an_iteration_of_its_refit(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    real, phases = ProgressReporter.on_iteration, stop_at(monkeypatch, -2)

    def on_iteration(self: ProgressReporter, record: IterationRecord) -> None:
        if phases[-1] == "refit: training":
            os.kill(os.getpid(), signal.SIGTERM)
        real(self, record)

    before = lake.pointers()
    monkeypatch.setattr(ProgressReporter, "on_iteration", on_iteration)
    assert lake.retrain(*QUICK, "--refit") == EXIT_INTERRUPTED
    record = lake.last()
    assert (record["outcome"], record["phase"]) == ("interrupted", "refit: training")
    assert record["sentence"] == "stopped by a signal; the store is as it was"
    # It had won, which is on record, and yet nothing of it is in the store.
    assert record["comparison"]["champion"]["version"] == before[-1][0]
    assert record["version"] is None
    assert lake.pointers() == before
    assert lake.store.verify() == []


@pytest.mark.parametrize("job", ["train", "evaluate", "recommend"])
@pytest.mark.slow
def test_an_output_folder_stays_as_it_was(
    job: str, lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    ratings, store = ["--ratings", str(lake.base)], ["--store", str(lake.path)]
    run = {
        "train": lambda: train([*ratings, *SMALL, "--max-iter", "2", "--output", str(out)]),
        "evaluate": lambda: evaluate([*ratings, *store, "--output", str(out)]),
        "recommend": lambda: recommend([*store, "--output", str(out), "--files", "1"]),
    }[job]
    before = {path.name for path in tmp_path.iterdir()}

    def look() -> None:
        assert {path.name for path in tmp_path.iterdir()} == before

    phases = stopped_at_each_phase(run, look, capsys, job)
    assert phases[0] == "starting Spark"
    assert out.is_dir()
