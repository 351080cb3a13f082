"""Which folder is that of a fit, when anything is kept, and that one fit at a time keeps it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from als_spark import ALS
from als_spark.ml import checkpoints
from als_spark.ml.checkpoints import (
    FitCheckpoint,
    fit_identity,
    folder_name,
    interval_of,
    kept_fit,
    parent_of,
)
from als_spark.ml.training import options_of
from als_spark.solve.objective import Objective
from als_spark.store.checkpoint import CheckpointFolder
from als_spark.store.files import LocalFiles
from als_spark.store.lock import StoreLock
from als_spark.train.backend import Factors, HeldFactors
from als_spark.train.checkpoint import Interval
from als_spark.train.records import IterationRecord, ModelSpec
from als_spark.train.state import LoopState

SPEC = ModelSpec(0, 3, Objective(0.1, 1.0))
OPTIONS = options_of(ALS(seed=1))
START = Factors(np.ones((4, 3), np.float32), np.ones((2, 3), np.float32))


def name(*, spec: Any = SPEC, options: Any = OPTIONS, start: Any = START, **more: str) -> str:
    of_data = {"ratings": "7-1", "placement": "ratings", **more}
    return folder_name(fit_identity([spec], [options], [start], **of_data))


def test_all_that_decides_a_fit_is_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    another_start = Factors(START.users, START.items + np.float32(1e-7))
    names = [
        name(),
        name(start=None),
        name(start=another_start),
        name(spec=replace(SPEC, rank=4)),
        *(
            name(spec=replace(SPEC, objective=objective))
            for objective in (
                Objective(0.2, 1.0),
                Objective(0.1, 0.5),
                Objective(0.1, 1.0, bias_reg=0.1),
                Objective(0.1, 1.0, nonnegative=True),
                Objective(0.1, 1.0, implicit=True, alpha=1.0),
                Objective(0.1, 1.0, implicit=True, alpha=2.0),
            )
        ),
        *(
            name(options=replace(OPTIONS, **changed))
            for changed in ({"seed": 2}, {"tol": 0.1}, {"max_iter": 11}, {"accelerate": True})
        ),
        name(ratings="7-2"),
        name(placement="grid"),
        folder_name(fit_identity([SPEC] * 2, [OPTIONS] * 2, [START] * 2, "7-1", "ratings")),
    ]
    monkeypatch.setattr("als_spark.__version__", "0.0.0")
    names.append(name())
    assert len(set(names)) == len(names)


def test_the_name_is_the_same_in_every_process() -> None:
    # Written down: a hash of Python's own would differ from run to run.
    identity = {"job": "ALS.fit", "version": "1", "config": {"models": [], "ratings": "7-1"}}
    assert folder_name(identity) == "als_spark-dda80bdda7e15a84df758f6c7ae7fbaa"
    copy = Factors(START.users.copy(), np.asfortranarray(START.items))
    assert name(start=copy) == name()


@pytest.mark.parametrize(
    ("directory", "wanted"),
    [
        ("file:/data/kept/5f0c", (True, "/data/kept")),
        ("file:///data/100%25/5f0c", (True, "/data/100%25")),
        ("/data/kept/5f0c/", (True, "/data/kept")),
        ("file:/5f0c", (True, "/")),
        ("hdfs://name:8020/kept/5f0c", (False, "hdfs://name:8020/kept")),
        ("hdfs://name:8020/5f0c", (False, "hdfs://name:8020")),
    ],
)
def test_beside_what_spark_makes(directory: str, wanted: tuple[bool, str]) -> None:
    assert parent_of(directory) == wanted


@pytest.mark.parametrize(
    ("of_each", "wanted"),
    [
        ([(10, 10)], None),
        ([(10, 11)], 10),
        ([(-1, 50)], None),
        ([(5, 3), (4, 2)], None),
        ([(5, 3), (4, 20)], 4),
        ([(-1, 20), (4, 2)], 4),
    ],
)
def test_interval(of_each: list[tuple[int, int]], wanted: int | None) -> None:
    models = [ALS(checkpointInterval=every, maxIter=most) for every, most in of_each]
    assert interval_of(models) == wanted


@pytest.mark.parametrize(
    ("params", "directory", "placement", "level"),
    [
        ({"seed": 1, "checkpointInterval": 2}, None, "ratings", None),
        ({"seed": 1, "checkpointInterval": -1}, "file:/nowhere/1", "ratings", None),
        ({"seed": 1, "checkpointInterval": 2}, "file:/nowhere/1", "grid", None),
        ({"checkpointInterval": 2}, "file:/nowhere/1", "ratings", logging.WARNING),
        ({"maxIter": 20}, "file:/nowhere/1", "ratings", logging.INFO),
    ],
)
def test_nothing_is_kept(
    caplog: pytest.LogCaptureFixture,
    params: dict[str, Any],
    directory: str | None,
    placement: str,
    level: int | None,
) -> None:
    context = SimpleNamespace(getCheckpointDir=lambda: directory)
    # Without an answer to any other question: nothing is asked of the ratings.
    ratings: Any = SimpleNamespace(sparkSession=SimpleNamespace(sparkContext=context))
    prepared: Any = SimpleNamespace(plan=SimpleNamespace(placement=placement))
    with (
        caplog.at_level(logging.INFO),
        kept_fit(ratings, [ALS(**params)], [SPEC], [OPTIONS], [None], prepared) as kept,
    ):
        assert kept is None
    assert [record.levelno for record in caplog.records] == ([] if level is None else [level])
    assert level is None or "set seed" in caplog.text


class TestOneFitAtATime:
    def test_in_a_process(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        files = LocalFiles(tmp_path / "fit")
        with checkpoints._one_fit(files, "F") as first:
            assert first is not None
            with checkpoints._one_fit(files, "F") as second:
                assert second is None
            with checkpoints._one_fit(LocalFiles(tmp_path / "other"), "G") as other:
                assert other is not None
            first.check()
        assert "F: the same is being fitted in this process" in caplog.text
        assert list(tmp_path.iterdir()) == []
        with checkpoints._one_fit(files, "F") as again:
            assert again is not None

    def test_of_several_processes(
        self,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(checkpoints, "LOCK_TTL", checkpoints.LOCK_TTL / 600)
        monkeypatch.setattr(checkpoints, "_PAUSE", 0.02)
        files = LocalFiles(tmp_path / "fit")
        with StoreLock(files, "F", "another"), checkpoints._one_fit(files, "F") as lock:
            assert lock is None
        assert "locked by run another" in caplog.text
        assert "the fit goes on and keeps nothing" in caplog.text
        # What the other one has is not deleted.
        assert (tmp_path / "fit" / "locks").exists()
        with checkpoints._one_fit(files, "F") as lock:
            assert lock is not None
        assert not (tmp_path / "fit").exists()

    def test_who_has_lost_the_lock_writes_and_deletes_nothing(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        files = LocalFiles(tmp_path / "fit")
        folder = CheckpointFolder(LocalFiles(tmp_path / "fit" / "training"), "F", Interval(1))
        with StoreLock(files, "F", "ALS.fit") as lock:
            kept = FitCheckpoint(folder, lock, "F", alone=True)
            kept.open({"job": "ALS.fit"}, {}, {})
            (tmp_path / "fit" / "locks" / "0000000002.json").write_text("{}")
            kept.remove()
            assert (tmp_path / "fit" / "training" / "checkpoint.json").exists()
        assert "keeps nothing more" in caplog.text


def test_a_folder_that_cannot_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with checkpoints._one_fit(LocalFiles(tmp_path / "file" / "fit"), "F") as lock:
        assert lock is None
    assert "the fit goes on and keeps nothing" in caplog.text


@pytest.mark.parametrize("damaged", [False, True])
def test_a_damaged_state_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: bool
) -> None:
    state = LoopState(
        SPEC, HeldFactors(*START), history=(IterationRecord(0, 3, 0.1, 1, 2.0, 0.5, 0.1),)
    )
    training = LocalFiles(tmp_path / "fit" / "training")
    with StoreLock(LocalFiles(tmp_path / "fit"), "F", "ALS.fit") as lock:
        for opening in range(2):
            folder = CheckpointFolder(training, "F", Interval(1), "it is deleted")
            kept = FitCheckpoint(folder, lock, "F", alone=True)
            kept.open({"job": "ALS.fit"}, {}, {})
            if opening == 0:
                assert kept.running() == []
                kept.keep_states([state])
                (record,) = (tmp_path / "fit").glob("training/states-*/state.json")
                if damaged:
                    record.write_text(record.read_text()[:-20])
    assert [own.iterations for own in kept.running()] == ([] if damaged else [1])
    assert ("it is deleted" in caplog.text) == damaged
    assert ("F: resumed at iteration 1" in caplog.text) != damaged
    assert record.exists() != damaged
