"""What comes before the iterations: set-up of ours against Spark MLlib's, from Parquet files.

From the DataFrame to blocks that are ready and numbered, before the first half-step. MLlib's is its
ALS of no iterations, at its defaults (ten blocks a side), which ends in the factors it starts from.
Ours is ``prepare_ratings`` with every rating to train on, and with the jobs' default split; each of
the two also with rows that come through Spark, as they do where tasks cannot read the files
themselves.

All ways in turns in one Spark, medians, by the wall clock and in seconds of CPU of all processes.
Then each once in a Spark of its own: what the first set-up takes, and the peak memory of the JVM
and of the largest Python worker.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from scripts.bench.common import (
    bench_parser,
    bench_session,
    run_child,
    synthetic_frame,
    write_result,
)
from scripts.bench.plots import draw_seconds
from scripts.bench.processes import cpu_seconds, peaks
from scripts.bench.synthetic import generate

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

UNITS = ("seconds", "cpu_seconds")
Way = Callable[["SparkSession", "DataFrame", int], None]


def main(argv: list[str] | None = None) -> int:
    """Run the comparison."""
    parser = bench_parser(__doc__, ratings=10_000_000, ranks="10,50")
    parser.add_argument("--child", choices=WAYS, help="measure one way, once, and print it")
    options = parser.parse_args(argv)
    if options.quick:
        options.ratings, options.ranks, options.repeats = 300_000, "10", 1
    ranks = [int(rank) for rank in options.ranks.split(",")]
    if options.child:
        print(json.dumps(measure_alone(options.child, options.ratings, ranks[0])))
        return 0
    rows = measure_in_turns(options.ratings, ranks, options.repeats)
    result = {
        "question": "MLlib's set-up against ours, from Parquet files to blocks",
        "ratings": options.ratings,
        "repeats": options.repeats,
        "targets": {"over_mllib": 0.4, "over_rows": 0.5},
        "ranks": rows,
        "alone": [_alone(name, options) for name in WAYS],
    }
    write_result(options.output, "setup", result)
    title = f"Set-up for {options.ratings:,} ratings"
    draw_seconds(rows, NAMES, "seconds", title, options.output / "setup.png")
    return 0


def measure_in_turns(n_ratings: int, ranks: list[int], repeats: int) -> list[dict[str, Any]]:
    """Measure all ways, one after another, as often as asked for."""
    with bench_session("setup") as session:
        with synthetic_frame(session, generate(min(n_ratings, 300_000))) as frame:
            # The JVM and the workers have been warmed up by the same work.
            for way in [*WAYS.values()] * 2:
                way(session, frame, ranks[0])
        with synthetic_frame(session, generate(n_ratings)) as frame:
            return [_measure_rank(session, frame, rank, repeats) for rank in ranks]


def _measure_rank(
    session: SparkSession, frame: DataFrame, rank: int, repeats: int
) -> dict[str, Any]:
    runs: dict[str, dict[str, list[float]]] = {name: {k: [] for k in UNITS} for name in WAYS}
    for _ in range(repeats):
        for name, way in WAYS.items():
            began, used = time.perf_counter(), cpu_seconds()
            way(session, frame, rank)
            runs[name]["seconds"].append(time.perf_counter() - began)
            runs[name]["cpu_seconds"].append(cpu_seconds() - used)
            shown = ", ".join(f"{found[-1]:.1f}" for found in runs[name].values())
            print(f"rank {rank}, {name}: {shown}", file=sys.stderr, flush=True)
    row: dict[str, Any] = {"rank": rank}
    medians = {
        name: {unit: statistics.median(found) for unit, found in by_unit.items()}
        for name, by_unit in runs.items()
    }
    for name, found in medians.items():
        row[name] = {**found, "over_mllib": _over(found, medians["mllib"]), "runs": runs[name]}
    for name in ("ours", "split"):
        row[name]["over_rows"] = _over(medians[name], medians[f"{name}, rows"])
    return row


def _over(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {unit: one[unit] / other[unit] for unit in UNITS}


def _alone(name: str, options: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "scripts.bench.setup", "--child", name]
    command += ["--ratings", str(options.ratings), "--ranks", options.ranks]
    return {"way": name, **run_child(command, {**os.environ})}


def measure_alone(name: str, n_ratings: int, rank: int) -> dict[str, float]:
    """Measure one way in a Spark that has done nothing else."""
    ratings = generate(n_ratings)
    with bench_session("setup") as session, synthetic_frame(session, ratings) as frame:
        began = time.perf_counter()
        WAYS[name](session, frame, rank)
        seconds, found = time.perf_counter() - began, peaks()
    return {"seconds": seconds, "jvm_bytes": found.jvm, "worker_bytes": found.worker}


def set_up_ours(
    session: SparkSession, frame: DataFrame, rank: int, test_fraction: float, *, rows: bool
) -> None:
    """Prepare ratings; where ``rows``, none of the tasks reads a file itself."""
    from als_spark.spark.prepare.options import PrepareOptions
    from als_spark.spark.prepare.prepare import prepare_ratings
    from als_spark.spark.read.columns import source_from_frame
    from als_spark.spark.read.split import SplitOptions

    options = PrepareOptions(
        split=SplitOptions(test_fraction=test_fraction), ranks=[rank], placement="ratings"
    )
    with _through_spark(rows), prepare_ratings(session, source_from_frame(frame), options):
        pass


@contextmanager
def _through_spark(wanted: bool) -> Iterator[None]:
    from als_spark.spark.prepare import prepare

    find = prepare.find_clean_files
    if wanted:
        prepare.find_clean_files = lambda *_, **__: None
    try:
        yield
    finally:
        prepare.find_clean_files = find


def set_up_mllib(_: SparkSession, frame: DataFrame, rank: int) -> None:
    """Let MLlib make its blocks."""
    from pyspark.ml.recommendation import ALS

    als = ALS(rank=rank, maxIter=0, userCol="user", itemCol="item", ratingCol="rating", seed=1)
    model = als.fit(frame)
    for factors in (model.userFactors, model.itemFactors):
        factors.unpersist()


WAYS: dict[str, Way] = {
    "mllib": set_up_mllib,
    "ours": partial(set_up_ours, test_fraction=0.0, rows=False),
    "ours, rows": partial(set_up_ours, test_fraction=0.0, rows=True),
    "split": partial(set_up_ours, test_fraction=0.2, rows=False),
    "split, rows": partial(set_up_ours, test_fraction=0.2, rows=True),
}

NAMES = {
    "mllib": "MLlib",
    "ours": "als_spark",
    "ours, rows": "through Spark",
    "split": "a share held out",
    "split, rows": "held out, through Spark",
}

if __name__ == "__main__":
    sys.exit(main())
