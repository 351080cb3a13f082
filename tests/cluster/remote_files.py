"""The store on a real file system; test_yarn.py and test_s3.py run this in a process of its own.

The folder is ``ALS_SPARK_TEST_ROOT``; what Spark needs for it is in ``PYSPARK_SUBMIT_ARGS``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from als_spark.errors import ConfigError
from als_spark.spark.store_files import ObjectFiles, files_at
from als_spark.store import leases, lock
from als_spark.store.owner import this_process
from als_spark.store.store import ModelStore
from tests.cluster.dying_files import Killed, dying_files
from tests.files_contract import ExclusiveFilesContract
from tests.store_tools import make_folder, value_of

ROOT = os.environ["ALS_SPARK_TEST_ROOT"]
DEAD = replace(this_process(), pid=2**22 + 1)
"""No Linux has a process of this number."""
STEP = int(os.environ.get("ALS_SPARK_TEST_STEP", "1"))
"""Requests from one kill to the next."""


@pytest.fixture
def root(tmp_path) -> str:
    return f"{ROOT}/{tmp_path.name}"


class TestFiles(ExclusiveFilesContract):
    writing = 0.5

    @property
    def scratch(self) -> tuple[str, ...]:
        return () if ROOT.startswith("s3a:") else ("staging",)

    @pytest.fixture
    def files(self, spark, root):
        return files_at(spark, f"{root}/new/store")


@pytest.mark.skipif(not ROOT.startswith("s3a:"), reason="only S3 may lack what a store needs")
def test_s3_without_conditional_writes(spark, root, tmp_path):
    written = ModelStore(files_at(spark, f"{root}/store"), "there")
    written.publish(make_folder(tmp_path / "1", 1), run="r")
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    switches = ("fs.s3a.create.conditional.enabled", "fs.s3a.impl.disable.cache")
    hadoop.set(switches[0], "false")
    hadoop.set(switches[1], "true")
    try:
        files = files_at(spark, f"{root}/store")
        assert isinstance(files, ObjectFiles)
        store = ModelStore(files, "there")
        assert value_of(store.load()) == 1
        assert files.names("readers") == []
        with pytest.raises(ConfigError, match="needs an S3 with conditional writes"):
            store.publish(make_folder(tmp_path / "2", 2), run="r")
        with pytest.raises(ConfigError, match="two runs could publish at once"), store.lock("r"):
            raise AssertionError("unreachable")
    finally:
        for switch in switches:
            hadoop.unset(switch)
    assert value_of(written.load()) == 1


def a_night(store: ModelStore, folder: Any, run: str) -> None:
    """Do what nightly runs do."""
    with store.lock(run) as held:
        store.history.start_run(run, {})
        store.recover()
        number = store.pointer_number()
        store.publish(folder, run=run, expected=number, check=held.check)
        store.rollback(run=run, check=held.check)
        store.prune(2, check=held.check)
        store.history.finish_run(run, "published", {}, {"report.html": b"<p>"})
        store.history.gather(running=[run])


def reading(spark: Any, root: str, stop: threading.Event, seen: list[int]) -> Iterator[None]:
    store = ModelStore(files_at(spark, root), "there")
    # Not all the time: the server has the nights to serve too.
    while not stop.wait(0.3):
        seen.append(value_of(store.load()))
        yield


def test_a_night_killed_before_each_of_its_requests(spark, root, tmp_path, monkeypatch):
    root += "/store"
    models = [make_folder(tmp_path / str(k), k) for k in (1, 2, 3, 4)]
    store = ModelStore(files_at(spark, root), "there")
    for k in (0, 1, 2):
        store.publish(models[k], run=f"first-{k}")
    stop, seen, failed = threading.Event(), [], []

    def read() -> None:
        try:
            for _ in reading(spark, root, stop, seen):
                pass
        except BaseException as error:
            failed.append(error)
            raise

    reader = threading.Thread(target=read)
    reader.start()
    kills = 0
    try:
        for last in range(0, 1000, STEP):
            files, tree = dying_files(spark, root, last)
            with monkeypatch.context() as patch:
                for module in (lock, leases):
                    patch.setattr(module, "this_process", lambda: DEAD)
                # What it would do at its end is not done either: the tree is dead.
                with suppress(Killed, OSError):
                    a_night(ModelStore(files, "there"), models[last % 4], f"run-{last}")
            if not tree.dead:
                break
            kills += 1
            # The next run finds a store that works, whole.
            run = f"next-{last}"
            with store.lock(run) as held:
                store.recover()
                left = [path for path in store.recover() if not path.endswith((".tmp", ".json"))]
                assert not left, (last, left)
                assert not store.verify(), last
                assert all(info.complete and info.published for info in store.versions()), last
                if last % 5 == 0:
                    store.publish(models[last % 4], run=run, check=held.check)
            assert not failed, (last, failed)
    finally:
        stop.set()
        reader.join()
    assert not failed
    # Every one of these requests of a night has been the first that did not come.
    assert kills > 40 // STEP
    assert len(seen) > 10
    print(f"{kills} kills, {len(seen)} readings")
