"""Runs that are killed: at a random moment by SIGKILL, and at every operation in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from als_spark.store.files import LocalFiles
from als_spark.store.store import ModelStore, open_store
from tests.conftest import ROOT
from tests.store_tools import Clock, make_folder, value_of

ROUNDS = 110


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return [make_folder(root / str(k), k, n_items=2 + k) for k in range(1, 5)]


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.kill_drill", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_the_drill(tmp_path, models):
    root, stop = tmp_path / "store", tmp_path / "stop"
    open_store(root).publish(models[0], run="first")
    reader = start("read", root, stop)
    killer = start("kill", root, ROUNDS, *models)
    try:
        killed, errors = killer.communicate(timeout=300)
        assert killer.returncode == 0, errors
        stop.touch()
        loaded, errors = reader.communicate(timeout=120)
        assert reader.returncode == 0, errors
    finally:
        for process in (killer, reader):
            process.kill()
            process.communicate()
    rounds = [line.split() for line in killed.splitlines()]
    assert len(rounds) == ROUNDS
    # The drill drilled: writers were hit in all sorts of moments, and there was much to read.
    assert sum("staging" in line[3:] for line in rounds) > ROUNDS // 20
    # (How many get through between two kills goes by the load of the machine.)
    assert int(rounds[-1][2]) > ROUNDS // 20
    count, different = map(int, loaded.split())
    assert count > 20
    assert different == 4
    store = open_store(root)
    assert store.verify() == []
    assert [p.number for p in store.pointers()] == list(range(1, store.pointer_number() + 1))


class Killed(BaseException):
    """The process is no more."""


class MortalFiles(LocalFiles):
    """Files of a process that dies at its n-th operation, before or after it is done."""

    def __init__(self, root: Path, last: int, after: bool) -> None:
        super().__init__(root)
        self.count = 0
        self._last = last
        self._after = after

    def _step(self, method, *arguments):
        self.count += 1
        if self.count > self._last or (self.count == self._last and not self._after):
            raise Killed
        result = method(*arguments)
        if self.count == self._last:
            raise Killed
        return result

    def create(self, path, data):
        return self._step(super().create, path, data)

    def replace(self, path, data):
        self._step(super().replace, path, data)

    def rename(self, source, target):
        self._step(super().rename, source, target)

    def remove(self, path):
        self._step(super().remove, path)

    def remove_ours(self, folder, ours):
        return self._step(super().remove_ours, folder, ours)

    def upload(self, local_folder, path):
        self._step(super().upload, local_folder, path)


def night(store: ModelStore, model: Path, run: str) -> None:
    """One run: what jobs do, in their order."""
    with store.lock(run) as lock:
        store.history.start_run(run, {})
        store.recover()
        store.publish(model, run=run, expected=store.pointer_number(), check=lock.check)
        store.rollback(run=run, check=lock.check)
        store.prune(1, check=lock.check)
        store.history.finish_run(run, "done", {}, {"report.html": b""})
        store.history.gather(running=[run])


# After the last of them nothing is left to die of.
STEPS = 60


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_death_at_every_operation(tmp_path, models, after, monkeypatch):
    # The process dies, not the machine.
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    survived = 0
    for last in range(1, STEPS):
        root, clock = tmp_path / str(last), Clock()
        store = ModelStore(LocalFiles(root), "STORE", clock=clock)
        old = [store.publish(models[k], run=f"old-{k}") for k in range(3)]
        store.rollback(old[1], run="old")
        clock.forward(days=1)
        mortal = MortalFiles(root, last, after)
        try:
            night(ModelStore(mortal, "STORE", clock=clock), models[3], "mortal")
            survived += 1
        except Killed:
            pass
        # Readers have the one from before (2), the new one (4), or the one rolled back to (3).
        assert value_of(store.load()) in (2, 4, 3)
        clock.forward(days=1)
        with store.lock("next") as lock:
            store.recover()
            assert store.recover() == []
            assert store.verify() == []
            assert all(info.complete and info.published for info in store.versions())
            new = store.publish(models[0], run="next", check=lock.check)
            store.history.gather(running=["next"])
        assert store.current() == new
        assert value_of(store.load()) == 1
        assert {path.name for path in root.iterdir()} <= {
            *("store.json", "versions", "pointers", "locks", "staging", "pruning", "readers"),
            *("runs", "history.jsonl"),
        }
        if survived:
            break
    assert 10 < last < STEPS - 1
