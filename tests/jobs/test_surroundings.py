"""What jobs meet: a locale of ASCII, folders for temporary files, keys in addresses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from als_spark.cli import train as train_job
from als_spark.store.store import open_store
from jobs import evaluate, retrain, store, sweep, train
from tests.conftest import ROOT
from tests.drills.ratings import write_csv
from tests.jobs.nightly import BASE, SMALL
from tests.spark.session import QUICK_START

BIN = Path(sys.executable).parent
SPARK = ["--master", "local[1]", "--conf", "spark.ui.enabled=false"]


def run(folder: Path, *command: str | Path, **more: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program as cron does: without a locale."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SPARK_", "PYSPARK_", "ALS_SPARK_", "PYTHON", "LC_"))
        and key not in ("LANG", "LANGUAGE")
    }
    environment |= {**QUICK_START, "PYSPARK_PYTHON": sys.executable, **more}
    environment["ALS_SPARK_SUBMIT_ARGS"] = " ".join(SPARK)
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
        timeout=600,
    )


def messages(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """The lines that are the job's own and no log."""
    lines = (done.stdout + done.stderr).decode().splitlines()
    return [line for line in lines if line.startswith(("train: ", "sweep: "))]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    (folder / "évaluations").mkdir()
    write_csv(folder / "évaluations" / "été.csv", BASE.lines())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"}])
def test_names_reach_python_and_the_jvm_alike(desk: Path, settings: dict[str, str]) -> None:
    argv = ("train", "--ratings", "évaluations", "--output", "modèles", *SMALL, "--max-iter", "3")
    done = run(desk, BIN / "als-spark", *argv, **settings)
    assert done.returncode == 0, done.stderr.decode()
    assert sorted(path.name for path in desk.iterdir()) == ["modèles", "évaluations"]
    assert rb"The model is in mod\xe8les." in done.stdout
    assert b"1,000 ratings" in done.stderr or b"ratings: " in done.stderr


@pytest.mark.slow
def test_what_spark_submit_has_lost_is_refused(desk: Path) -> None:
    argv = (ROOT / "jobs" / "train.py", "--ratings", "évaluations", "--store", "modèles")
    before = sorted(desk.rglob("*"))
    done = run(desk, BIN / "spark-submit", *SPARK, *argv)
    assert sorted(desk.rglob("*")) == before
    assert done.returncode == 2
    (line,) = messages(done)
    assert line.startswith("train: ??valuations: spark-submit has replaced characters")
    assert line.endswith("does not have: set LC_ALL=C.UTF-8")


@pytest.mark.slow
def test_folders_for_temporary_files(desk: Path) -> None:
    settings = {"SPARK_LOCAL_DIRS": "/proc/als_spark"}
    done = run(desk, BIN / "als-spark", "sweep", "--output", "out", **settings)
    assert done.returncode == 2
    (line,) = messages(done)
    assert line.startswith("sweep: SPARK_LOCAL_DIRS /proc/als_spark: /proc is not writable (")
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_no_key_reaches_what_is_written_or_shown(
    spark: SparkSession,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every path of every job has a key in it, as the addresses of object stores may have."""
    key = "AKEYTHATNOBODYSEES"

    def named(name: str) -> str:
        return str(tmp_path / f"{name}?X-Amz-Signature={key}")

    ratings = named("ratings.csv")
    write_csv(Path(ratings), BASE.lines())
    twice = ["--duplicates", "last", "--bad-rows", "drop"]
    models, out = named("models"), named("out")
    short = ["--max-iter", "3"]
    argv = ["--store", models, *SMALL, *short]
    assert retrain.main(["--ratings", ratings, *argv]) == 0
    assert retrain.main(["--ratings", named("none"), *argv]) == 2
    assert store.main(["list", "--store", models]) == 0
    assert store.main(["rollback", "--store", models, "--to", "none"]) == 2
    grid = ["--ranks", "2", "--lambdas", "1", *short]
    assert sweep.main(["--ratings", ratings, "--output", out, *grid, *twice]) == 0
    assert evaluate.main(["--ratings", ratings, "--store", models, "--output", named("e")]) == 0
    assert evaluate.main(["--ratings", ratings, "--model", out, "--output", named("e")]) == 2

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"s3a://KEY:{key}@box is away")

    monkeypatch.setattr(train_job, "train_into_store", fail)
    assert train.main(["--ratings", ratings, "--store", models, *SMALL, *short]) == 1

    told = "".join(capfd.readouterr())
    assert "X-Amz-Signature=***" in told
    assert "s3a://***@box is away" in told
    assert key not in told
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != Path(ratings)]
    assert {"history.jsonl", "run.json", "report.html", "results.json", "metrics.json"} <= {
        path.name for path in files
    }
    assert [path for path in files if key.encode() in path.read_bytes()] == []
    assert any(b"s3a://***@box" in path.read_bytes() for path in files)
    records = (Path(models) / "history.jsonl").read_text()
    assert "X-Amz-Signature=***" in records
    assert open_store(models).current() is not None
