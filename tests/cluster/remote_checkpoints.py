"""Checkpoints on a real file system; test_yarn.py and test_s3.py run this in its own process.

See remote_files.py.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import pytest

from als_spark.spark.store_files import files_at
from als_spark.store.checkpoint import RECORD, CheckpointFolder
from als_spark.store.files import Files
from als_spark.train.checkpoint import Interval
from als_spark.train.records import TrainingOptions
from jobs.sweep import main as sweep
from tests.cluster.dying_files import Killed, dying_files
from tests.conftest import local_backend, random_triples
from tests.drills.driver import result_of
from tests.drills.fit import fit_all, frame_of
from tests.drills.processes import Job
from tests.drills.ratings import draw_ratings, write_csv
from tests.unit.store.test_checkpoint import DATA, IDENTITY_OF, PLAN, assert_same, run

ROOT = os.environ["ALS_SPARK_TEST_ROOT"]
STEP = int(os.environ.get("ALS_SPARK_TEST_STEP", "1"))
"""Requests from one kill to the next."""
GRID = ("--ranks", "2,3", "--lambdas", "1,4", "--max-iter", "30", "--tol", "0")


@pytest.fixture
def root(tmp_path) -> str:
    return f"{ROOT}/{tmp_path.parent.name}/{tmp_path.name}"


@pytest.fixture(scope="module")
def ratings(tmp_path_factory) -> str:
    """Of this machine, whatever the default file system is."""
    lines = draw_ratings(200, 100, 6000, seed=5).lines()
    return write_csv(tmp_path_factory.mktemp("ratings") / "ratings.csv", lines).as_uri()


def opened(files: Files) -> CheckpointFolder:
    folder = CheckpointFolder(files, "--checkpoint there", Interval(3))
    folder.check(IDENTITY_OF)
    folder.begin(IDENTITY_OF, DATA, PLAN)
    return folder


def test_killed_before_each_of_its_requests(spark, root):
    backend, options = local_backend(random_triples()), TrainingOptions(tol=0.0, max_iter=8)
    undisturbed = run(backend, options)
    kills = resumed = 0
    for last in range(0, 1000, STEP):
        place = f"{root}/{last}"
        files, tree = dying_files(spark, place, last)
        with suppress(Killed):
            folder = opened(files)
            run(backend, options, folder)
            folder.remove()
        if not tree.dead:
            break
        kills += 1
        folder = opened(files_at(spark, place))
        resumed += bool(folder.running() or folder.n_finished)
        assert_same(undisturbed, run(backend, options, folder))
        folder.remove()
        assert files_at(spark, root).names("") == [], last
    # Every one of these requests has been the first that did not come.
    assert kills > 40 // STEP
    assert resumed > kills // 2
    print(f"{kills} kills, {resumed} resumed")


def kill_at(job: Job, kept: Callable[[], list[str]], before: Sequence[str] = ()) -> None:
    """Kill a process with its JVM once it has kept something new."""
    assert job.wait_until(lambda: not set(kept()) <= set(before)), job.log
    job.kill()


def states(files: Files, folder: str = "") -> list[str]:
    """List the states that are there, whole."""
    inside = f"{folder}/" if folder else ""
    names = [name for name in files.names(folder) if name.startswith("states-")]
    return [name for name in names if files.exists(f"{inside}{name}/{RECORD}")]


@pytest.mark.parametrize("exchange", ["broadcast", "shuffle"])
def test_a_killed_sweep_continues(spark, root, tmp_path, ratings, exchange):
    command = ["--ratings", ratings, *GRID, "--exchange", exchange, "--partitions", "2"]
    command += ["--checkpoint", f"{root}/kept", "--checkpoint-every", "2"]
    assert sweep([*command, "--output", str(tmp_path / "undisturbed")]) == 0
    parent = files_at(spark, root)
    assert parent.names("") == []
    command += ["--output", str(tmp_path / "out")]
    files = files_at(spark, f"{root}/kept")
    for number in range(2):
        before = states(files)
        job = Job(tmp_path / f"{number}.log", "sweep", command)
        kill_at(job, partial(states, files), before)
        assert ("resumed at iteration" in job.log) == (number > 0)
    assert not (tmp_path / "out").exists()
    assert sweep(command) == 0
    (told,) = json.loads((tmp_path / "out" / "run.json").read_text())["resumed"]
    assert told.startswith("resumed at iteration")
    assert result_of(tmp_path / "out") == result_of(tmp_path / "undisturbed")
    assert parent.names("") == []


def test_killed_fits_continue(spark, root, tmp_path, ratings, caplog):
    frame = frame_of(spark, ratings)
    wanted = fit_all(frame)
    files = files_at(spark, root)

    def kept() -> list[str]:
        return [name for name in files.names("") if name.startswith("als_spark-")]

    words = [ratings, root, str(tmp_path / "out.json")]
    job = Job(tmp_path / "fit.log", "tests.drills.fit", words)
    kill_at(job, lambda: [state for name in kept() for state in states(files, f"{name}/training")])
    context = spark.sparkContext
    context.setCheckpointDir(root)
    caplog.set_level(logging.WARNING)
    try:
        assert fit_all(frame) == wanted
    finally:
        context._jsc.sc().setCheckpointDir(None)
    assert "resumed at iteration" in caplog.text
    assert kept() == []
