"""The commands of docs/clusters.md in a checkout, and their results beside those of local mode."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from als_spark.cli import recommend, retrain, sweep
from als_spark.model.files import load_model
from tests.drills.processes import SUBMIT
from tests.drills.ratings import draw_ratings, write_csv
from tests.jobs.checkout import PYSPARK, ROOT, Checkout
from tests.pages_of_docs import code_blocks, job_commands

PAGE = ROOT / "docs" / "clusters.md"
JOBS = {"sweep": sweep.main, "retrain": retrain.main, "recommend": recommend.main}
RATINGS = draw_ratings(60, 40, 1200, seed=3)


def block(word: str) -> str:
    """The one block of commands in which a word stands."""
    (found,) = [text for text in code_blocks(PAGE, "bash") if word in text]
    return found


class TrialCheckout(Checkout):
    """A checkout with its own Spark and Maven on PATH, and ratings.csv."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # Nothing that Spark is told may have a blank: it splits at them.
        self.root = self.root.rename(folder / "checkout")
        self.venv = self.root / ".venv"
        self.env |= {
            "SPARK_HOME": str(PYSPARK),
            "PATH": f"{self.bin}{os.pathsep}{PYSPARK / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        self.ratings = write_csv(self.root / "ratings.csv", RATINGS.lines())

    def commands(self, text: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run commands at the root, as a person would; stop at the first that fails."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.root,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )


def run_there(checkout: TrialCheckout, file: str, root: str, step: int, **env: str) -> None:
    """Run tests on a file system in a process of their own.

    ``step`` is the number of requests from one kill to the next; ``ALS_SPARK_TEST_STEP`` wins.
    """
    done = subprocess.run(
        [sys.executable, *["-m", "pytest", "-n", "0", "-q", f"tests/cluster/{file}"]],
        cwd=ROOT,
        env=checkout.env
        | {
            "ALS_SPARK_TEST_STEP": os.environ.get("ALS_SPARK_TEST_STEP", str(step)),
            "ALS_SPARK_TEST_ROOT": root,
            "PYSPARK_SUBMIT_ARGS": SUBMIT,
        }
        | env,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def needs_asking() -> None:
    """Skip where nobody has asked for clusters, which take gigabytes."""
    if "ALS_SPARK_TEST_CLUSTERS" not in os.environ:
        pytest.skip("ALS_SPARK_TEST_CLUSTERS is not set: trials of clusters are left out")


def needs_clusters() -> None:
    """Skip where nobody has asked for clusters, or Maven is not there."""
    needs_asking()
    if shutil.which("mvn") is None:
        pytest.skip("needs Maven (mvn) for the jars of Hadoop")


def in_local_mode(folder: Path) -> None:
    """Do in a folder what the page's commands do on a cluster, in this process."""
    ratings = write_csv(folder / "ratings.csv", RATINGS.lines())
    places = {"ratings.csv": ratings, "sweep": folder / "sweep", "top": folder / "top"}
    places["models"] = folder / "models"
    wanted = [(job, words) for job, words in job_commands(PAGE) if "client" in " ".join(words)]
    assert [job for job, _ in wanted] == list(JOBS)
    for job, words in wanted:
        options = [
            str(places[word.rpartition("/")[2]]) if "://" in word else word for word in words
        ]
        assert JOBS[job](options) == 0


def assert_same(local: Path, other: Path) -> None:
    """Compare all numbers of two runs of the page's commands."""
    close(*(_json(folder / "sweep" / "results.json") for folder in (local, other)))
    assert_same_factors(local / "sweep" / "best_model", other / "sweep" / "best_model")
    versions = [
        [path for path in (folder / "models" / "versions").iterdir() if path.is_dir()]
        for folder in (local, other)
    ]
    assert [len(found) for found in versions] == [1, 1]
    assert_same_factors(versions[0][0], versions[1][0])
    top = [_rows(folder / "top") for folder in (local, other)]
    assert len(top[0]) == 60
    close(*top)


def assert_same_factors(one: Path, two: Path) -> None:
    for mine, theirs in zip(load_model(one).factors, load_model(two).factors, strict=True):
        assert mine.dtype == np.float64
        np.testing.assert_allclose(theirs, mine, rtol=1e-9, atol=1e-9 * np.abs(mine).max())


def close(one: Any, two: Any, place: str = "") -> None:
    """Compare two documents, their times apart, and numbers to 1e-9."""
    if isinstance(one, dict):
        assert one.keys() == two.keys(), place
        for key in one.keys() - {"seconds"}:
            close(one[key], two[key], f"{place}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(two), place
        for number, (mine, theirs) in enumerate(zip(one, two, strict=True)):
            close(mine, theirs, f"{place}[{number}]")
    elif isinstance(one, float):
        assert two == pytest.approx(one, rel=1e-9, abs=1e-12), place
    else:
        assert one == two, place


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _rows(folder: Path) -> list[Any]:
    files = sorted(folder.glob("part-*.json"))
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return sorted(rows, key=lambda row: row["user"])
