"""Broadcast against shuffle: set-up, an iteration, and the last iterations against the first.

One model at a time, in one session: both sides broadcast, the users' factors shuffled and the
items' broadcast, both shuffled; in turns, the median of several runs each. And a long training with
both shuffled, on few ratings: an iteration must not take longer the more have been before it.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from als_spark.solve.objective import Objective
from als_spark.train.loop import train_models
from als_spark.train.records import ModelSpec, TrainingOptions
from scripts.bench.common import bench_parser, bench_session, synthetic_frame, write_result
from scripts.bench.synthetic import generate

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

REG = 0.1
EXCHANGES: dict[str, Any] = {
    "broadcast": "broadcast",
    "users shuffled": {"user": "broadcast", "item": "shuffle"},
    "shuffle": "shuffle",
}
"""How the fixed factors reach the blocks of both sides, or of each."""


def main(argv: list[str] | None = None) -> int:
    """Run the comparison."""
    parser = bench_parser(__doc__, ratings=10_000_000, ranks="50")
    parser.add_argument("--iterations", type=int, default=6, metavar="N", help="of each run")
    parser.add_argument("--long", type=int, default=1000, metavar="N", help="of the long training")
    options = parser.parse_args(argv)
    if options.quick:
        options.ratings, options.ranks, options.repeats, options.long = 100_000, "5", 1, 6
    rank = int(options.ranks)
    with bench_session("exchange") as session:
        with synthetic_frame(session, generate(min(options.ratings, 1_000_000))) as frame:
            # The JVM and the workers have been warmed up by the same work.
            for exchange in EXCHANGES.values():
                measure(session, frame, rank, 3, exchange)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in EXCHANGES}
        with synthetic_frame(session, generate(options.ratings)) as frame:
            for _ in range(options.repeats):
                for name, exchange in EXCHANGES.items():
                    found = measure(session, frame, rank, options.iterations, exchange)
                    print(f"{name}: {found['setup']:.1f} s, {found['iteration']:.2f}", flush=True)
                    runs[name].append(found)
        with synthetic_frame(session, generate(20_000, 2_000, 500)) as frame:
            seconds = measure(session, frame, 5, options.long, "shuffle")["seconds"]
    rows = {
        name: {key: statistics.median(run[key] for run in found) for key in ("setup", "iteration")}
        for name, found in runs.items()
    }
    tenth = max(options.long // 10, 1)
    first, last = seconds[tenth] - seconds[0], seconds[-1] - seconds[-1 - tenth]
    base = rows["broadcast"]
    for name, row in rows.items():
        print(
            f"{name}: prepared in {row['setup']:.1f} s, {row['iteration']:.2f} s an iteration, "
            f"{row['iteration'] / base['iteration']:.2f} times that of broadcast"
        )
    print(
        f"{options.long:,} iterations: the first {tenth} after the first take {first:.1f} s, the "
        f"last {last:.1f} s, {last / first:.2f} times as long"
    )
    result = {
        "question": "broadcast against shuffle of the fixed factors",
        "ratings": options.ratings,
        "rank": rank,
        "dtype": "float32",
        "runs": runs,
        "exchanges": rows,
        "long": {"iterations": options.long, "first": first, "last": last},
    }
    write_result(options.output, "exchange", result)
    return 0


def measure(
    session: SparkSession, frame: DataFrame, rank: int, n_iterations: int, exchange: Any
) -> dict[str, Any]:
    """Prepare and train once."""
    from als_spark.spark.prepare.options import PrepareOptions
    from als_spark.spark.prepare.prepare import prepare_ratings
    from als_spark.spark.read.columns import source_from_frame
    from als_spark.spark.read.split import SplitOptions

    options = PrepareOptions(
        split=SplitOptions(test_fraction=0.0),
        ranks=[rank],
        placement="ratings",
        exchange=exchange,
    )
    began = time.perf_counter()
    with prepare_ratings(session, source_from_frame(frame), options) as prepared:
        setup = time.perf_counter() - began
        spec = ModelSpec(0, rank, Objective(REG, 1.0))
        training = TrainingOptions(tol=0.0, max_iter=n_iterations)
        (model,) = train_models(prepared.backend, [spec], training)
    seconds = [record.seconds for record in model.history]
    iteration = statistics.median(np.diff(seconds).tolist())
    return {
        "setup": setup,
        "iteration": iteration,
        "objective": model.objective,
        "seconds": seconds,
    }


if __name__ == "__main__":
    raise SystemExit(main())
