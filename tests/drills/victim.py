"""A run that stops for ever at a step of its publishing, with the lock held: it is to be killed.

It publishes a folder as a retraining does, without Spark; ``stopped`` on its standard output says
that the step is reached.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from als_spark.store.files import SCRATCH, LocalFiles
from als_spark.store.history import new_run_id
from als_spark.store.layout import MANIFEST, POINTERS, VERSIONS
from als_spark.store.store import ModelStore, open_store

STEPS = ("staged", "placed", "switched", "parked")
"""Uploaded; in its place, but not current; current; an old version half pruned."""
ROOT = Path(__file__).resolve().parent.parent.parent


class StoppingFiles(LocalFiles):
    """Files of which one step is the last."""

    def __init__(self, root: Path, step: str) -> None:
        super().__init__(root)
        self._step = step

    def create(self, path: str, data: bytes) -> bool:
        """Write a file that must not be there yet."""
        pointer = path.startswith(POINTERS)
        if pointer and self._step == "placed":
            _stop()
        created = super().create(path, data)
        if pointer and self._step == "switched":
            _stop()
        return created

    def rename(self, source: str, target: str) -> None:
        """Move a folder."""
        if target.startswith(VERSIONS) and self._step == "staged":
            _stop()
        super().rename(source, target)
        if source.startswith(VERSIONS) and target.startswith(SCRATCH) and self._step == "parked":
            _stop()


def _stop() -> None:
    print("stopped", flush=True)
    while True:
        time.sleep(60)


@contextmanager
def killed_at(path: Path, step: str) -> Iterator[str]:
    """Let a run publish the current model again and kill it at a step.

    Yields
    ------
    str
        Id of the run, while it hangs there with the lock held; it is killed when the block ends.
    """
    run = new_run_id()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        with open_store(path).open() as current:
            shutil.copytree(current, folder, ignore=shutil.ignore_patterns(MANIFEST))
        victim = subprocess.Popen(
            [sys.executable, "-m", "tests.drills.victim", str(path), step, run, str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert victim.stdout is not None
        try:
            if victim.stdout.readline() != "stopped\n":
                raise RuntimeError(f"the run to be killed has not come to {step!r}")
            yield run
        finally:
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            victim.stdout.close()


def main(argv: list[str] | None = None) -> int:
    """Publish until the step."""
    path, step, run, folder = sys.argv[1:] if argv is None else argv
    if step not in STEPS:
        raise ValueError(f"{step!r} is none of {STEPS}")
    store = ModelStore(StoppingFiles(Path(path), step), path)
    store.history.start_run(run, {"job": "retrain", "warnings": []})
    with store.lock(run) as lock:
        store.recover()
        store.history.note_run(run, {"phase": "publishing"})
        store.publish(Path(folder), run=run, check=lock.check)
        store.prune(1, check=lock.check)
    return 1


if __name__ == "__main__":
    sys.exit(main())
