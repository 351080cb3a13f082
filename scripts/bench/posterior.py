"""What the Bayesian methods cost: an iteration against a ridge's, and memory.

The ridge towards zero, the one with biases, ``sample`` (noise of each row) and ``variational`` with
diagonal covariances at one rank, and ``variational`` with full ones against the ridge at a small
rank. First the bare kernels and the driver's part in one process with one thread, then on Spark;
all in turns, medians of iterations, by the wall clock and in seconds of CPU of all processes. Of
Spark also the peak memory of the driver, of the JVM and of the largest Python worker.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np

from als_spark.solve.blocks import build_block
from als_spark.solve.objective import Objective
from als_spark.train.backend import Backend
from als_spark.train.bayes.loop import train_posterior
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.local import LocalBackend
from als_spark.train.loop import train_models
from als_spark.train.metrics import SideStats
from als_spark.train.records import ModelSpec, TrainingOptions
from scripts.bench.common import bench_parser, bench_session, synthetic_frame, write_result
from scripts.bench.plots import draw_posterior
from scripts.bench.processes import cpu_seconds, peaks, reset
from scripts.bench.roofline import by_falling_count
from scripts.bench.synthetic import Ratings, generate

REG = 0.1
SMALL_RANK = 8
TARGETS = {"sample": 1.4, "variational, diagonal": 1.8}
"""Times an iteration of the ridge."""


class Method(NamedTuple):
    """What is trained, and the ridge that it is compared with."""

    rank: int
    ridge: str
    iterations: int
    options: PosteriorOptions | None = None
    biased: bool = False


class Marks(NamedTuple):
    """Seconds of each iteration but the first."""

    wall: list[float]
    cpu: list[float]


def main(argv: list[str] | None = None) -> int:
    """Run the comparison."""
    parser = bench_parser(__doc__, ratings=10_000_000, ranks="50")
    parser.add_argument("--iterations", type=int, default=3, metavar="N", help="of each run")
    options = parser.parse_args(argv)
    if options.quick:
        options.ratings, options.ranks, options.repeats, options.iterations = 200_000, "12", 1, 2
    ratings = generate(options.ratings)
    methods = make_methods(int(options.ranks), options.iterations)
    result = {
        "question": "an iteration of the Bayesian methods against a ridge's",
        "ratings": options.ratings,
        "dtype": "float32",
        "repeats": options.repeats,
        "targets": TARGETS,
        "bare": measure_bare(ratings, methods, options.repeats),
        "spark": measure_spark(ratings, methods, options.repeats),
    }
    write_result(options.output, "posterior", result)
    draw_posterior(result, options.output / "posterior.png")
    return 0


def make_methods(rank: int, n_iterations: int) -> dict[str, Method]:
    """List what is compared."""
    drawn = {"burn_in": 0, "samples": n_iterations}
    given = {"tol": 0.0, "max_iter": n_iterations}
    sample = PosteriorOptions("sample", rank, **drawn)
    diagonal = PosteriorOptions("variational", rank, covariance="diagonal", **given)
    full = PosteriorOptions("variational", SMALL_RANK, covariance="full", **given)
    small = f"ridge, rank {SMALL_RANK}"
    n = n_iterations
    return {
        "ridge": Method(rank, "ridge", n),
        "ridge with biases": Method(rank, "ridge", n, biased=True),
        "sample": Method(rank, "ridge", n, sample),
        "variational, diagonal": Method(rank, "ridge", n, diagonal),
        small: Method(SMALL_RANK, small, n),
        f"variational, full, rank {SMALL_RANK}": Method(SMALL_RANK, small, n, full),
    }


def measure_bare(ratings: Ratings, methods: dict[str, Method], repeats: int) -> dict[str, Any]:
    """Measure iterations in this process."""
    users, items = by_falling_count(ratings.users), by_falling_count(ratings.items)
    sizes = int(users.max()) + 1, int(items.max()) + 1
    blocks = [
        build_block(
            *(rows, columns, ratings.ratings),
            n_rows=n_rows,
            n_columns=n_columns,
            dtype=np.float32,
        )
        for rows, columns, n_rows, n_columns in (
            (users, items, *sizes),
            (items, users, *reversed(sizes)),
        )
    ]
    backend, stats = LocalBackend(*blocks), SideStats.of(sizes[0], blocks[:1])
    return in_turns(backend, stats, methods, repeats, time.process_time)


def measure_spark(ratings: Ratings, methods: dict[str, Method], repeats: int) -> dict[str, Any]:
    """Measure iterations on Spark, in the ratings placement, and peak memory of a training."""
    from als_spark.spark.prepare.options import PrepareOptions
    from als_spark.spark.prepare.prepare import prepare_ratings
    from als_spark.spark.read.columns import source_from_frame
    from als_spark.spark.read.split import SplitOptions

    ranks = [max(method.rank for method in methods.values())]
    prepare = PrepareOptions(
        split=SplitOptions(test_fraction=0.0), ranks=ranks, placement="ratings"
    )
    with (
        bench_session("posterior") as session,
        synthetic_frame(session, ratings) as frame,
        prepare_ratings(session, source_from_frame(frame), prepare) as prepared,
    ):
        stats = prepared.stats["user"]
        # The JVM and the workers have been warmed up by the same work.
        run(prepared.backend, stats, methods["ridge"], time.process_time)
        return in_turns(prepared.backend, stats, methods, repeats, cpu_seconds, memory=True)


def in_turns(
    backend: Backend,
    stats: SideStats,
    methods: dict[str, Method],
    repeats: int,
    cpu: Callable[[], float],
    *,
    memory: bool = False,
) -> dict[str, Any]:
    """Train all methods, one after another, as often as asked for; medians of the iterations."""
    runs: dict[str, list[Marks]] = {name: [] for name in methods}
    rows: dict[str, dict[str, Any]] = {name: {} for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            if memory:
                reset()
            runs[name].append(run(backend, stats, method, cpu))
            if memory:
                for process, peak in peaks()._asdict().items():
                    key = f"{process}_bytes"
                    rows[name][key] = max(peak, rows[name].get(key, 0))
            print(f"{name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    for name, method in methods.items():
        row, own = rows[name], method.options
        for key in Marks._fields:
            row[key] = statistics.median(n for found in runs[name] for n in getattr(found, key))
            row[f"{key}_over_ridge"] = row[key] / rows[method.ridge][key]
        row |= {"rank": method.rank, "runs": [found._asdict() for found in runs[name]]}
        row["solved_row_bytes"] = 4 * (method.rank if own is None else own.columns.total)
        peak = f", driver {row['driver_bytes'] / 1e9:.2f} GB" if memory else ""
        print(
            f"{name}: {row['cpu']:.2f} s of CPU an iteration, {row['cpu_over_ridge']:.2f} times "
            f"the ridge; {row['wall']:.2f} s, {row['wall_over_ridge']:.2f} times{peak}"
        )
    return rows


def run(backend: Backend, stats: SideStats, method: Method, cpu: Callable[[], float]) -> Marks:
    """Train once: seconds of each iteration but the first."""
    wall, used = [], []

    def mark(_: Any) -> None:
        wall.append(time.perf_counter())
        used.append(cpu())

    if method.options is None:
        more = {"bias_reg": REG, "mean": stats.mean} if method.biased else {}
        spec = ModelSpec(0, method.rank, Objective(REG, 1.0, **more))
        training = TrainingOptions(tol=0.0, max_iter=method.iterations)
        train_models(backend, [spec], training, on_iteration=mark)
    else:
        train_posterior(backend, stats, method.options, on_iteration=mark)
    return Marks(np.diff(wall).tolist(), np.diff(used).tolist())


if __name__ == "__main__":
    sys.exit(main())
