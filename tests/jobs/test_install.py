"""The wheel, installed where there is no source tree: the console command and its files."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import als_spark
from als_spark.__main__ import COMMANDS
from tests.conftest import ROOT

BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("install")
    source, wheels, target = folder / "source", folder / "wheels", folder / "target"
    # Built from a copy: setuptools writes into the tree that it builds.
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "als_spark", source / "als_spark", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD, str(wheels)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (wheel,) = wheels.iterdir()
    assert wheel.name == f"als_spark-{als_spark.__version__}-py3-none-any.whl"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if importlib.util.find_spec("pip") is None:
        pip = ["uv", "pip", "install", "--quiet", "--python", sys.executable]
    subprocess.run(
        [*pip, "--no-deps", "--no-index", "--target", str(target), str(wheel)],
        check=True,
        capture_output=True,
    )
    shutil.rmtree(source)
    return target


def run(target: Path, *command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SPARK_", "PYSPARK_", "ALS_SPARK_", "PYTHON"))
    }
    environment |= {"PYTHONPATH": str(target), "ALS_SPARK_SUBMIT_ARGS": "--master 'local[1]'"}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_the_files_of_the_package_are_there(installed: Path) -> None:
    package = installed / "als_spark"
    for path in (ROOT / "als_spark").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            copy = package / path.relative_to(ROOT / "als_spark")
            assert copy.read_bytes() == path.read_bytes(), path
            assert os.access(copy, os.X_OK) == os.access(path, os.X_OK), path


@pytest.mark.parametrize(
    "words",
    [pytest.param(["python", "-m", "als_spark"], marks=pytest.mark.slow), ["als-spark"]],
    ids=" ".join,
)
def test_version_help_and_mistakes(installed: Path, tmp_path: Path, words: list[str]) -> None:
    command = (
        [sys.executable, *words[1:]] if words[0] == "python" else [f"{installed}/bin/{words[0]}"]
    )
    done = run(installed, *command, "--version", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"als-spark {als_spark.__version__}\n",
        "",
    )
    alone = run(installed, *command, folder=tmp_path)
    assert alone.stdout == run(installed, *command, "--help", folder=tmp_path).stdout
    assert all(f"\n  {name} " in alone.stdout for name in COMMANDS)
    done = run(installed, *command, "burn", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("als-spark: burn: no such command: use one of inspect, sweep")
    done = run(installed, *command, "sweep", "--help", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{installed}/als_spark/conf/sweep.toml" in "".join(done.stdout.split())
    done = run(installed, *command, "sweep", folder=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "sweep: --output is missing: give a folder for the results\n",
    )


def test_every_job_is_a_command() -> None:
    jobs = {path.stem for path in (ROOT / "jobs").glob("[!_]*.py")}
    # spark-submit puts jobs/ first on the path: a module `inspect` there would hide Python's.
    assert "inspect" not in jobs
    assert set(COMMANDS) == {name.removesuffix("_ratings") for name in jobs}


@pytest.mark.slow
def test_a_sweep_of_the_sample(installed: Path, tmp_path: Path) -> None:
    options = ["--ranks", "2", "--lambdas", "1", "--max-iter", "2", "--output", "x"]
    done = run(installed, f"{installed}/bin/als-spark", "sweep", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Results, plots and the best model are in x" in done.stdout
    (record,) = json.loads((tmp_path / "x" / "results.json").read_text())
    assert (record["d"], record["lambda_reg"], record["iterations"]) == (2, 1, 2)
    # Nothing from Spark, Java or PySpark's workers between the lines of the job.
    assert all(line[2:3] == ":" for line in done.stderr.splitlines()), done.stderr
