"""Against Spark MLlib's ALS: the same ratings, rank, iterations and λ, from DataFrame to factors.

Set-up (packing) and iterations are measured apart, for both sides alike: a fit of one iteration
and a fit of three; half of the difference is an iteration, and the fit of ten is their sum. Both
minimise the objective with frequency exponent 1, computed here for both by one function.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import numpy as np
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame, SparkSession

from als_spark.spark.prepared import PrepareOptions
from als_spark.spark.ratings import prepare_ratings, source_from_frame
from als_spark.spark.session import quiet_spark, start_session
from als_spark.spark.sweep import train_grid
from als_spark.spark.validation import SplitOptions
from als_spark.sweep import SweepCollector, grid_specs
from als_spark.training import TrainingOptions, ridge_term
from scripts.bench.common import write_result
from scripts.bench.synthetic import Ratings, generate, write_parquet

REG, EXPONENT = 0.1, 1.0


class Fit(NamedTuple):
    """A fit, its seconds, and the factors to judge it by."""

    seconds: float
    users: Any
    items: Any


def main(argv: list[str] | None = None) -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", default="10,50")
    parser.add_argument("--ratings", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a million ratings, rank 10")
    parser.add_argument("--output", type=Path, default=Path("results/bench"))
    options = parser.parse_args(argv)
    n_ratings = 1_000_000 if options.quick else options.ratings
    ranks = [10] if options.quick else [int(rank) for rank in options.ranks.split(",")]
    session = start_session("als_spark bench mllib")
    quiet_spark(session)
    ratings = generate(n_ratings)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(ratings, Path(folder) / "ratings")
        frame = session.read.parquet(f"file://{folder}/ratings")
        frame.count()
        fitters: dict[str, Callable[[int, int], Fit]] = {
            "ours": lambda rank, n: fit_ours(session, frame, rank, n),
            "mllib": lambda rank, n: fit_mllib(frame, rank, n),
        }
        for rank in ranks:
            row: dict[str, Any] = {"rank": rank}
            for name, fit in fitters.items():
                row[name] = measure(fit, rank, options.repeats, ratings)
                print(f"rank {rank}, {name}: {row[name]}", file=sys.stderr)
            row["mllib_over_ours"] = {
                key: row["mllib"][key] / row["ours"][key]
                for key in ("setup", "iteration", "fit_of_10")
            }
            print(f"rank {rank}: {row['mllib_over_ours']}")
            rows.append(row)
    write_result(
        options.output,
        "mllib",
        {
            "question": "MLlib's ALS against ours, from DataFrame to factors",
            "spark": session.version,
            "master": session.sparkContext.master,
            "ratings": n_ratings,
            "reg": REG,
            "exponent": EXPONENT,
            "repeats": options.repeats,
            "ranks": rows,
        },
    )
    session.stop()
    return 0


def measure(
    fit: Callable[[int, int], Fit], rank: int, repeats: int, ratings: Ratings
) -> dict[str, Any]:
    """Measure set-up and iteration by fits of one and of three iterations, after one to warm up."""
    fit(rank, 1)
    one = [fit(rank, 1) for _ in range(repeats)]
    three = [fit(rank, 3) for _ in range(repeats)]
    first = statistics.median(f.seconds for f in one)
    third = statistics.median(f.seconds for f in three)
    iteration = (third - first) / 2
    return {
        "setup": first - iteration,
        "iteration": iteration,
        "fit_of_10": first + 9 * iteration,
        "objective_after_3": objective(ratings, three[-1].users, three[-1].items),
    }


def fit_ours(session: SparkSession, frame: DataFrame, rank: int, n_iterations: int) -> Fit:
    """Fit with the ratings placement, whatever the size."""
    began = time.perf_counter()
    options = PrepareOptions(
        split=SplitOptions(test_fraction=0.0), ranks=[rank], placement="ratings"
    )
    training = TrainingOptions(exponent=EXPONENT, tol=0.0, max_iter=n_iterations)
    collector = SweepCollector("train")
    with prepare_ratings(session, source_from_frame(frame), options) as prepared:
        train_grid(session, prepared, grid_specs([rank], [REG]), training, collector)
        seconds = time.perf_counter() - began
        outcome = collector.outcome()
        assert outcome is not None
        users = by_id(prepared.summary.users.ids.to_numpy(), outcome.best_factors.users)
        items = by_id(prepared.summary.items.ids.to_numpy(), outcome.best_factors.items)
    return Fit(seconds, users, items)


def fit_mllib(frame: DataFrame, rank: int, n_iterations: int) -> Fit:
    """Fit with MLlib at its defaults (ten blocks a side)."""
    began = time.perf_counter()
    als = ALS(
        rank=rank,
        maxIter=n_iterations,
        regParam=REG,
        userCol="user",
        itemCol="item",
        ratingCol="rating",
        seed=1,
    )
    model = als.fit(frame)
    model.userFactors.count()
    model.itemFactors.count()
    seconds = time.perf_counter() - began
    sides = []
    for factors in (model.userFactors, model.itemFactors):
        rows = factors.collect()
        ids = np.array([row.id for row in rows])
        sides.append(by_id(ids, np.array([row.features for row in rows], np.float32)))
    return Fit(seconds, *sides)


def by_id(ids: Any, factors: Any) -> Any:
    """Spread factors so that row k is the one of id k."""
    spread = np.zeros((int(ids.max()) + 1, factors.shape[1]), factors.dtype)
    spread[ids] = factors
    return spread


def objective(ratings: Ratings, users: Any, items: Any) -> float:
    """Σ (r − u·v)² + λ Σ n |x|², in float64."""
    total = 0.0
    for first in range(0, ratings.users.size, 1 << 20):
        part = slice(first, first + (1 << 20))
        predicted = np.einsum("nd,nd->n", users[ratings.users[part]], items[ratings.items[part]])
        errors = ratings.ratings[part].astype(np.float64) - predicted
        total += float(errors @ errors)
    for rows, factors in ((ratings.users, users), (ratings.items, items)):
        degrees = np.bincount(rows, minlength=factors.shape[0])
        total += ridge_term(factors, degrees, REG, EXPONENT)
    return total


if __name__ == "__main__":
    sys.exit(main())
