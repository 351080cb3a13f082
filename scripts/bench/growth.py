"""How time and memory grow with the data: 1 to 25 million ratings, in a driver heap of 4 GB.

Of more ratings there are more users and items, too: 100 million need ``--users`` and ``--items``,
which then hold for every size.

Each size runs in a Spark of its own: preparation phase by phase, then iterations of one model in
the ratings placement. Peak memory is that of the driver's JVM, of the driver's Python and of the
largest Python worker, as the system counts them (resident set).
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from scripts.bench.common import (
    bench_parser,
    bench_session,
    peak_memory,
    run_child,
    synthetic_frame,
    write_result,
)
from scripts.bench.mllib import prepared_of
from scripts.bench.plots import draw_growth
from scripts.bench.processes import peaks
from scripts.bench.synthetic import N_ITEMS, N_USERS, generate

HEAP = "4g"
SIZES = (1_000_000, 3_000_000, 10_000_000, 25_000_000)
REG = 0.1


def main(argv: list[str] | None = None) -> int:
    """Measure each size in a process of its own."""
    parser = bench_parser(__doc__, ranks="50", repeats=5)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), metavar="N,...")
    parser.add_argument("--users", type=int, default=N_USERS, metavar="N", help="of every size")
    parser.add_argument("--items", type=int, default=N_ITEMS, metavar="N", help="of every size")
    parser.add_argument("--heap", default=HEAP, metavar="SIZE", help="of the driver's JVM")
    parser.add_argument("--child", type=int, help="measure one size and print it")
    options = parser.parse_args(argv)
    if options.quick:
        options.sizes, options.ranks, options.repeats = "100000,300000", "10", 2
    rank, sides = int(options.ranks), (options.users, options.items)
    if options.child:
        print(json.dumps(measure(options.child, sides, rank, options.repeats)))
        return 0
    rows = []
    for size in options.sizes.split(","):
        command = [
            sys.executable,
            "-m",
            "scripts.bench.growth",
            "--child",
            size,
            "--ranks",
            str(rank),
        ]
        command += ["--repeats", str(options.repeats)]
        command += ["--users", str(options.users), "--items", str(options.items)]
        environment = os.environ | {
            "PYSPARK_SUBMIT_ARGS": f"--driver-memory {options.heap} pyspark-shell",
            "OPENBLAS_NUM_THREADS": "1",
        }
        row = run_child(command, environment)
        rows.append(row)
        print(
            f"{row['ratings']:,} ratings: prepared in {row['setup']:.1f} s, "
            f"{row['iteration']:.2f} s an iteration, ten in {row['fit_of_10']:.1f} s; peak memory "
            + ", ".join(f"{name} {size / 2**30:.2f} GB" for name, size in row["peak"].items()),
            flush=True,
        )
    for before, after in itertools.pairwise(rows):
        print(
            f"{before['ratings']:,} to {after['ratings']:,}: the fit takes "
            f"{after['fit_of_10'] / before['fit_of_10']:.2f} times as long, an iteration "
            f"{after['iteration'] / before['iteration']:.2f} times"
        )
    result = {
        "question": "time and memory by the number of ratings",
        "rank": rank,
        "driver_heap": options.heap,
        "users": options.users,
        "items": options.items,
        "dtype": "float32",
        "sizes": rows,
    }
    write_result(options.output, "growth", result)
    draw_growth(result, options.output / "growth.png")
    return 0


def measure(n_ratings: int, sides: tuple[int, int], rank: int, repeats: int) -> dict[str, Any]:
    """Prepare and train on so many ratings of so many users and items."""
    from als_spark.solve.objective import Objective
    from als_spark.train.loop import train_models
    from als_spark.train.records import ModelSpec, TrainingOptions

    phases: dict[str, float] = {}

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        phases[name] = time.perf_counter() - began

    with bench_session("growth") as session, MemoryWatch() as watch:
        with synthetic_frame(session, generate(1_000_000)) as frame:
            # Whatever the size, the JVM has been warmed up by the same work.
            spec = ModelSpec(0, rank, Objective(REG, 1.0))
            training = TrainingOptions(tol=0.0, max_iter=repeats + 2)
            with prepared_of(session, frame, rank) as prepared:
                train_models(prepared.backend, [spec], training)
        ratings = generate(n_ratings, *sides)
        generated = peak_memory()
        with synthetic_frame(session, ratings) as frame:
            del ratings
            with prepared_of(session, frame, rank, phase=phase) as prepared:
                (model,) = train_models(prepared.backend, [spec], training)
    seconds = [record.seconds for record in model.history]
    iteration = statistics.median(np.diff(seconds)[1:].tolist())
    setup = sum(phases.values())
    return {
        "ratings": n_ratings,
        "phases": phases,
        "setup": setup,
        "iteration": iteration,
        "fit_of_10": setup + 10 * iteration,
        "peak": watch.peak | {"driver_python": peak_memory()},
        # Making the ratings takes more of the driver's Python than training on them.
        "driver_python_after_generating": generated,
    }


class MemoryWatch:
    """Notes the peak resident memory of the JVM and of the Python workers under this process."""

    def __init__(self) -> None:
        self.peak = {"driver_jvm": 0, "largest_worker": 0}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look once more, and end."""
        self._look()
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self._look()

    def _look(self) -> None:
        found = peaks()
        self.peak["driver_jvm"] = max(self.peak["driver_jvm"], found.jvm)
        self.peak["largest_worker"] = max(self.peak["largest_worker"], found.worker)


if __name__ == "__main__":
    sys.exit(main())
