"""A training whose factors fit neither the driver's heap nor a Python worker: does it end, and how.

The same training, in a process of its own each: with the users' factors shuffled, with all factors
broadcast, and broadcast without such limits, which must come to the same objective. The limits are
those that Spark sets: the driver's heap, which in local mode is that of the tasks too, and the
memory of a Python worker. The model is saved as well, which brings the users' factors to a file
piece by piece.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.bench.common import bench_parser, bench_session, peak_memory, write_result

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

HEAP, WORKER = "512m", "700m"
"""Limits of the driver's JVM and of each Python worker."""
USERS, ITEMS, EACH = 1_000_000, 2_000, 3
"""Users, items, and ratings of each user."""
BLOCKS = 16
_FAILURES = ("OutOfMemoryError", "MemoryError", "SparkException")
AMPLE = "6g"
"""Heap of the run without limits."""
EXCHANGES: dict[str, Any] = {
    "users shuffled": {"user": "broadcast", "item": "shuffle"},
    "broadcast": "broadcast",
    "broadcast without limits": "broadcast",
}


def main(argv: list[str] | None = None) -> int:
    """Run both."""
    parser = bench_parser(__doc__, ranks="100", repeats=1)
    parser.add_argument("--users", type=int, default=USERS, metavar="N")
    parser.add_argument("--iterations", type=int, default=2, metavar="N")
    parser.add_argument("--child", choices=EXCHANGES, help="run one and print it")
    options = parser.parse_args(argv)
    if options.quick:
        options.users, options.ranks, options.iterations = 20_000, "5", 1
    rank = int(options.ranks)
    if options.child:
        with bench_session("limits") as session:
            found = measure(session, options.users, rank, options.iterations, options.child)
        print(json.dumps(found))
        return 0
    factors = options.users * rank * 4
    print(
        f"{options.users:,} users at rank {rank}: {factors / 2**20:,.0f} MB of factors; driver "
        f"heap {HEAP}, Python workers {WORKER} each"
    )
    rows = {name: run(options, name) for name in EXCHANGES}
    for name, row in rows.items():
        words = f"ends after {row['seconds']:.0f} s" if row["ended"] else f"fails: {row['why']}"
        print(f"{name}: {words}", flush=True)
    limits = {"driver_heap": HEAP, "worker": WORKER, "user_factor_bytes": factors}
    sizes = {"users": options.users, "items": ITEMS, "ratings": options.users * EACH, "rank": rank}
    write_result(options.output, "limits", {**sizes, **limits, "exchanges": rows})
    return 0


def run(options: Any, exchange: str) -> dict[str, Any]:
    """Run one in a process with the limits; tell how it has ended."""
    command = [sys.executable, "-m", "scripts.bench.limits", "--child", exchange]
    command += ["--users", str(options.users), "--ranks", options.ranks]
    command += ["--iterations", str(options.iterations)]
    limits = f"--driver-memory {HEAP} --conf spark.executor.pyspark.memory={WORKER}"
    if "without" in exchange:
        limits = f"--driver-memory {AMPLE}"
    environment = os.environ | {
        "PYSPARK_SUBMIT_ARGS": f"{limits} pyspark-shell",
        "OPENBLAS_NUM_THREADS": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return {"ended": True, **json.loads(done.stdout.splitlines()[-1])}
    # The calls of a stack trace say nothing of their own.
    lines = [line for line in done.stderr.splitlines() if not line.lstrip().startswith("at ")]
    told = [line for line in lines if any(word in line for word in _FAILURES)]
    why = (told or lines or ["killed"])[0].strip()
    return {"ended": False, "why": why, "exit_code": done.returncode}


def measure(
    session: SparkSession, n_users: int, rank: int, n_iterations: int, exchange: str
) -> dict[str, Any]:
    """Prepare, train and save once."""
    from als_spark.model.files import FACTOR_FILES, save_model
    from als_spark.solve.objective import Objective
    from als_spark.spark.prepare.options import PrepareOptions
    from als_spark.spark.prepare.prepare import prepare_ratings
    from als_spark.spark.read.columns import source_from_frame
    from als_spark.spark.read.split import SplitOptions
    from als_spark.spark.train.best import best_model
    from als_spark.spark.train.run import train_grid
    from als_spark.train.grid import SweepCollector, grid_specs
    from als_spark.train.records import TrainingOptions

    options = PrepareOptions(
        split=SplitOptions(test_fraction=0.0),
        ranks=[rank],
        partitions=BLOCKS,
        placement="ratings",
        duplicates="keep",
        exchange=EXCHANGES[exchange],
    )
    seconds = {}
    began = time.perf_counter()
    source = source_from_frame(ratings(session, n_users))
    with prepare_ratings(session, source, options) as prepared:
        seconds["setup"] = time.perf_counter() - began
        collector = SweepCollector("train")
        training = TrainingOptions(tol=0.0, max_iter=n_iterations)
        train_grid(prepared, grid_specs([rank], [Objective(0.1, 1.0)]), training, collector)
        outcome = collector.outcome()
        assert outcome is not None
        (point,) = outcome.points
        seconds["training"] = point.seconds
    with tempfile.TemporaryDirectory() as folder:
        before = time.perf_counter()
        save_model(best_model(prepared, collector), Path(folder))
        seconds["saving"] = time.perf_counter() - before
        size = (Path(folder) / FACTOR_FILES["user"]).stat().st_size
    return {
        "seconds": time.perf_counter() - began,
        "parts": seconds,
        "objective": point.objective,
        "train_mse": point.errors["train"].mse,
        "user_file_bytes": size,
        "driver_python_bytes": peak_memory(),
    }


def ratings(session: SparkSession, n_users: int) -> DataFrame:
    """Make ratings on the executors: each user has some items, all different."""
    from pyspark.sql import functions as F

    step = ITEMS // EACH
    user, turn = F.col("id") % n_users, F.floor(F.col("id") / n_users)
    noise = F.pmod(F.xxhash64("id"), F.lit(step))
    return session.range(n_users * EACH, numPartitions=BLOCKS).select(
        user.alias("user"),
        (turn * step + noise).alias("item"),
        (1.0 + F.pmod(user * 7 + noise, F.lit(5))).cast("double").alias("rating"),
    )


if __name__ == "__main__":
    raise SystemExit(main())
