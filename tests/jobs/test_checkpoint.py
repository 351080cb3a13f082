"""A sweep and a training that are lost after some iterations, and the same command again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from als_spark.model.files import load_model
from als_spark.report.progress import ProgressReporter
from als_spark.train.records import IterationRecord
from jobs.sweep import main as sweep
from jobs.train import main as train
from tests.drills.driver import result_of
from tests.drills.ratings import draw_ratings, write_csv

pytestmark = pytest.mark.usefixtures("spark")

GRID = ("--ranks", "2,3", "--lambdas", "1,4", "--max-iter", "6", "--tol", "0")


class Lost(BaseException):
    """The machine is gone: no exception that anybody handles."""


def lose(job: Callable[[Sequence[str]], int], command: Sequence[str], n_iterations: int) -> None:
    """Run a job that is lost after so many iterations."""
    real, heard = ProgressReporter.on_iteration, []

    def on_iteration(self: ProgressReporter, record: IterationRecord) -> None:
        heard.append(record)
        if len(heard) == n_iterations:
            raise Lost
        real(self, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProgressReporter, "on_iteration", on_iteration)
        with pytest.raises(Lost):
            job(command)


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "ratings.csv", draw_ratings(60, 40, 900).lines())


def run_json(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


@pytest.mark.parametrize(
    ("more", "n", "words"),
    [
        (("--placement", "ratings"), 17, "resumed at iteration 4 of d=2 λ=1 and 3 more; 0 of 4"),
        pytest.param(
            *(("--exchange", "shuffle", "--implicit"), 17),
            "resumed at iteration 4 of d=2 λ=1 and 3",
            marks=pytest.mark.slow,
        ),
        pytest.param(("--placement", "grid"), 7, "resumed: ", marks=pytest.mark.slow),
    ],
)
def test_a_sweep_continues(
    tmp_path: Path,
    ratings: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    n: int,
    words: str,
) -> None:
    kept = tmp_path / "kept"
    command = ["--ratings", str(ratings), *GRID, *more, "--checkpoint", str(kept)]
    command += ["--checkpoint-every", "2", "--partitions", "2"]
    assert sweep([*command, "--output", str(tmp_path / "undisturbed")]) == 0
    assert not kept.exists()
    command += ["--output", str(tmp_path / "out")]
    lose(sweep, command, n)
    assert not (tmp_path / "out").exists()
    before = sorted(kept.rglob("*"))
    capsys.readouterr()
    # Another configuration, and other ratings.
    assert sweep([*command, "--tol", "0.1"]) == 2
    assert '"tol": 0.0, and has "tol": 0.1: give --restart' in capsys.readouterr().err
    text = ratings.read_text()
    lines = text.splitlines(keepends=True)
    ratings.write_text("".join([lines[0], *lines[2:]]))
    assert sweep(command) == 2
    assert "the ratings had " in capsys.readouterr().err
    ratings.write_text(text)
    assert sorted(kept.rglob("*")) == before
    assert sweep(command) == 0
    (told,) = run_json(tmp_path / "out")["resumed"]
    assert told.startswith(words)
    assert result_of(tmp_path / "out") == result_of(tmp_path / "undisturbed")
    assert not kept.exists()


@pytest.mark.slow
def test_a_training_continues_or_begins_anew(
    tmp_path: Path, ratings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    command = ["--ratings", str(ratings), "--rank", "3", "--lambda", "1", "--max-iter", "6"]
    command += ["--tol", "0", "--placement", "ratings", "--checkpoint", str(kept)]
    command += ["--checkpoint-every", "2", "--ranking-users", "0", "--output", str(tmp_path / "o")]
    assert train(command) == 0
    first = load_model(tmp_path / "o").factors
    lose(train, command, 5)
    (record,) = kept.glob("states-00000002/state.json")
    record.write_text(record.read_text()[:-20])
    capsys.readouterr()
    assert train(command) == 2
    assert f"{record}: damaged" in capsys.readouterr().err
    assert kept.exists()
    assert train([*command, "--restart"]) == 0
    assert not kept.exists()
    for one, other in zip(first, load_model(tmp_path / "o").factors, strict=True):
        assert one.tobytes() == other.tobytes()
