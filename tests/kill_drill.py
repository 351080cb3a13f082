"""The writer, its killer and a reader of the kill drill; run as programs by the unit tests.

The killer forks writers rather than starting them, since a start takes as long as some twenty
rounds; it runs in a process of its own, with no other threads, because a fork takes none along.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from als_spark.store.store import open_store
from tests.store_tools import value_of


def write_for_ever(root: Path, models: list[Path], seed: int) -> NoReturn:
    """Do what nightly runs do, again and again."""
    rng = random.Random(seed)
    store = open_store(root)
    while True:
        run = f"writer-{seed}"
        with store.lock(run) as lock:
            store.history.start_run(run, {"seed": seed})
            store.recover()
            number = store.pointer_number()
            store.publish(rng.choice(models), run=run, expected=number, check=lock.check)
            if rng.random() < 0.3:
                store.rollback(run=run, check=lock.check)
            if rng.random() < 0.4:
                store.prune(3, check=lock.check)
            store.history.finish_run(run, "published", {}, {"report.html": b"<p>"})
            store.history.gather(running=[run])


def kill(root: Path, models: list[Path], rounds: int) -> None:
    """Kill a writer at a random moment, look whether all is well, and again."""
    rng = random.Random(5)
    # How long a publish takes here, as the last one told: a round is some ten, with its history.
    took = 0.005
    for round_ in range(rounds):
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                write_for_ever(root, models, round_)
            os._exit(1)
        time.sleep(rng.uniform(1, 24) * took)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the writer had ended by itself"
        store = open_store(root)
        run = f"killer-{round_:03}"
        with store.lock(run) as lock:
            leftovers = store.recover()
            # The reader writes its leases all the while; nothing else may be left.
            left = [path for path in store.recover() if not path.endswith((".tmp", ".json"))]
            assert not left, left
            problems = store.verify()
            assert not problems, problems
            assert all(info.complete and info.published for info in store.versions())
            number = store.pointer_number()
            begun = time.monotonic()
            store.publish(models[round_ % 4], run=run, expected=number, check=lock.check)
            took = time.monotonic() - begun
            assert store.pointer_number() == number + 1
            store.history.gather(running=[run])
            died = [r for r in store.history.read_history() if r["status"] == "died"]
        kinds = sorted({path.partition("/")[0] for path in leftovers})
        print(f"round {round_} {len(died)} {' '.join(kinds)}", flush=True)


def read(root: Path, stop: Path) -> None:
    """Load the current model until told to stop; say how often, and how many different ones."""
    store = open_store(root)
    count, seen = 0, set()
    while not stop.exists():
        if store.pointer_number():
            value = value_of(store.load())
            count += 1
            seen.add(value)
    print(count, len(seen))


if __name__ == "__main__":
    # A process that is killed loses nothing that it has written; only a machine does.
    os.fsync = lambda handle: None  # type: ignore[assignment]
    work, store_root, *rest = sys.argv[1:]
    if work == "read":
        read(Path(store_root), Path(rest[0]))
    else:
        kill(Path(store_root), [Path(folder) for folder in rest[1:]], int(rest[0]))
