"""The estimator in MLlib's place: a notebook user's program with only the import swapped.

- A cross-validation of StringIndexer, ALS and RegressionEvaluator over 12 points in three folds, on
  MovieLens latest-small, with either import, MLlib as pip installs it.
- What the estimator costs: its fit against the same fit through ``prepare_ratings`` and
  ``train_grid``, on synthetic ratings, turn and turn about.
- Quality after the same number of iterations at the same rank and λ, explicit, implicit and
  nonnegative: the objective on the fitted ratings, by one function for both, and the RMSE of
  held-out ones (implicit: of their preference, which is 1).
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyspark.ml
import pyspark.ml.recommendation as mllib
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import StringIndexer
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

import als_spark
from als_spark.solve.objective import Objective
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.prepare.prepare import prepare_ratings
from als_spark.spark.read.columns import source_from_frame
from als_spark.spark.read.split import SplitOptions
from als_spark.spark.train.run import train_grid
from als_spark.train.grid import SweepCollector
from als_spark.train.records import ModelSpec, TrainingOptions
from scripts.bench.common import (
    MOVIELENS,
    bench_parser,
    bench_session,
    by_id,
    objective,
    run_child,
    synthetic_frame,
    write_result,
)
from scripts.bench.mllib import NO_LIBRARY, loaded_blas, say
from scripts.bench.plots import draw_estimator
from scripts.bench.synthetic import Ratings, generate
from tests import reference

REG, ALPHA, ITERATIONS = 0.1, 1.0, 20
OBJECTIVES: dict[str, dict[str, Any]] = {
    "explicit": {},
    "implicit": {"implicitPrefs": True, "alpha": ALPHA},
    "nonnegative": {"nonnegative": True},
}
# As a program that has swapped its imports: a name that we have is taken from us.
PIPELINES = {
    "mllib": pyspark.ml.Pipeline,
    "ours": getattr(als_spark, "Pipeline", pyspark.ml.Pipeline),
}
ESTIMATORS: dict[str, Any] = {"mllib": mllib.ALS, "ours": als_spark.ALS}
TARGETS = {"cross_validation": 8.0, "overhead": 1.1, "objective": 1.005, "rmse": 0.005}


def main(argv: list[str] | None = None) -> int:
    """Run the three comparisons in one process, whose Java finds no native BLAS."""
    parser = bench_parser(__doc__, ratings=2_000_000)
    parser.add_argument("--data", default=str(MOVIELENS), help="ratings (MovieLens latest-small)")
    parser.add_argument("--child", action="store_true", help="measure and print it")
    options = parser.parse_args(argv)
    if not Path(options.data).is_file():
        print(f"{options.data} is not there: give ratings with --data", file=sys.stderr)
        return 2
    if options.child:
        print(json.dumps(measure(options)))
        return 0
    command = [sys.executable, "-m", "scripts.bench.estimator", "--child", "--data", options.data]
    command += ["--ratings", str(options.ratings), "--repeats", str(options.repeats)]
    command += ["--quick"] * options.quick
    submit = os.environ.get("PYSPARK_SUBMIT_ARGS", "pyspark-shell")
    submit = f'--conf "spark.driver.extraJavaOptions={NO_LIBRARY}" {submit}'
    environment = os.environ | {"PYSPARK_SUBMIT_ARGS": submit, "OPENBLAS_NUM_THREADS": "1"}
    result = {
        "question": "als_spark.ALS in the place of MLlib's, with only the import swapped",
        "targets": TARGETS,
        **run_child(command, environment),
    }
    write_result(options.output, "estimator", result)
    draw_estimator(result, options.output / "estimator.png")
    return 0


def measure(options: Any) -> dict[str, Any]:
    """Measure all of it in one Spark."""
    with bench_session("estimator") as session, tempfile.TemporaryDirectory() as folder:
        # Without it, a long fit of MLlib's overflows the JVM's stack.
        session.sparkContext.setCheckpointDir(folder)
        rows = session.read.csv(options.data, header=True, inferSchema=True)
        if options.quick:
            rows = rows.where("userId <= 40")
        rows = rows.cache()
        rows.count()
        return {
            "blas": loaded_blas(session),
            "data": Path(options.data).name,
            "ratings": rows.count(),
            "cross_validation": cross_validations(rows, quick=options.quick),
            "overhead": overhead(session, 100_000 if options.quick else options.ratings, options),
            "quality": [quality(rows, name, 8 if options.quick else 20) for name in OBJECTIVES],
        }


def cross_validations(rows: DataFrame, *, quick: bool) -> dict[str, Any]:
    """Time the program with either import, each after a small one that warms it up."""
    found: dict[str, Any] = {}
    for name in ESTIMATORS:
        if not quick:
            cross_validate(name, rows.limit(2000), quick=True)
        began = time.perf_counter()
        metrics = cross_validate(name, rows, quick=quick)
        found[name] = {"seconds": time.perf_counter() - began, "rmse": metrics}
        say(f"cross-validation, {name}: {found[name]}")
    ratio = found["mllib"]["seconds"] / found["ours"]["seconds"]
    say(f"cross-validation: MLlib's over ours {ratio:.1f}")
    return {
        **found,
        "pipeline": f"{PIPELINES['ours'].__module__}.{PIPELINES['ours'].__name__}",
        "mllib_over_ours": ratio,
    }


def cross_validate(name: str, rows: DataFrame, *, quick: bool) -> list[float]:
    """Run the notebook user's program; return the mean RMSE of each point."""
    indexers = [
        StringIndexer(inputCol=raw, outputCol=column, handleInvalid="skip")
        for raw, column in (("userId", "user"), ("movieId", "item"))
    ]
    als = ESTIMATORS[name](seed=1, coldStartStrategy="drop", maxIter=3 if quick else 10)
    grid = ParamGridBuilder().addGrid(als.rank, [4] if quick else [5, 10, 20])
    grid = grid.addGrid(als.regParam, [0.1, 0.3] if quick else [0.05, 0.1, 0.15, 0.3])
    validator = CrossValidator(
        estimator=PIPELINES[name](stages=[*indexers, als]),
        estimatorParamMaps=grid.build(),
        evaluator=RegressionEvaluator(labelCol="rating"),
        numFolds=2 if quick else 3,
        seed=1,
    )
    return [float(metric) for metric in validator.fit(rows).avgMetrics]


def overhead(session: SparkSession, n_ratings: int, options: Any) -> dict[str, Any]:
    """Time a fit through the estimator and the same one through prepare and train, in turns."""
    rank, n_iterations = 20, 3 if options.quick else 10
    with synthetic_frame(session, generate(n_ratings)) as frame:
        fits: dict[str, Callable[[], Any]] = {
            "direct": lambda: fit_directly(session, frame, rank, n_iterations),
            "estimator": lambda: als_spark.ALS(
                rank=rank, maxIter=n_iterations, regParam=REG, seed=1
            ).fit(frame),
        }
        seconds: dict[str, list[float]] = {name: [] for name in fits}
        for turn in range(1 + options.repeats):
            for name, fit in fits.items():
                began = time.perf_counter()
                fit()
                if turn:  # The first warms Spark up.
                    seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    ratio = medians["estimator"] / medians["direct"]
    say(f"a fit of {n_ratings:,} ratings: {medians}, estimator over direct {ratio:.3f}")
    return {
        "ratings": n_ratings,
        "rank": rank,
        "iterations": n_iterations,
        "seconds": seconds,
        "estimator_over_direct": ratio,
    }


def fit_directly(session: SparkSession, frame: DataFrame, rank: int, n_iterations: int) -> None:
    """Fit as the estimator does, by the functions that it is made of."""
    options = PrepareOptions(
        split=SplitOptions(test_fraction=0.0), duplicates="keep", dtype="float32", ranks=[rank]
    )
    spec = ModelSpec(0, rank, Objective(REG, exponent=1.0))
    training = TrainingOptions(tol=0.0, max_iter=n_iterations, seed=1, dtype="float32")
    with prepare_ratings(session, source_from_frame(frame), options) as prepared:
        train_grid(prepared, [spec], training, SweepCollector("train"))


def quality(rows: DataFrame, name: str, rank: int) -> dict[str, Any]:
    """Objective and held-out RMSE of both, after the same iterations."""
    ratings = rows.select(F.col("userId").alias("user"), F.col("movieId").alias("item"), "rating")
    test = F.pmod(F.hash("user", "item", F.lit(7)), F.lit(5)) == 0
    train, held_out = ratings.where(~test).cache(), ratings.where(test)
    fitted = np.array([tuple(row) for row in train.collect()])
    found: dict[str, Any] = {}
    for which, cls in ESTIMATORS.items():
        als = cls(rank=rank, maxIter=ITERATIONS, regParam=REG, seed=1, coldStartStrategy="drop")
        model = als.setParams(**OBJECTIVES[name]).fit(train)
        label = F.lit(1.0) if name == "implicit" else F.col("rating")
        predicted = model.transform(held_out).withColumn("label", label)
        found[which] = {
            "objective": objective_of(fitted, model, name),
            "rmse": RegressionEvaluator(labelCol="label").evaluate(predicted),
        }
    train.unpersist()
    row = {
        "name": name,
        "rank": rank,
        "iterations": ITERATIONS,
        "reg": REG,
        **found,
        "objective_ours_over_mllib": found["ours"]["objective"] / found["mllib"]["objective"],
        "rmse_ours_minus_mllib": found["ours"]["rmse"] - found["mllib"]["rmse"],
    }
    say(f"quality: {row}")
    return row


def objective_of(fitted: Any, model: Any, name: str) -> float:
    """Return what both minimise, of a model's factors, in float64."""
    sides = []
    for frame in (model.userFactors, model.itemFactors):
        found = frame.collect()
        ids = np.array([row.id for row in found])
        sides.append(by_id(ids, np.array([row.features for row in found], np.float64)))
    users, items = (fitted[:, k].astype(np.int64) for k in (0, 1))
    if name != "implicit":
        return objective(Ratings(users, items, fitted[:, 2]), *sides, REG)
    (user_ids, users), (item_ids, items) = (
        np.unique(ids, return_inverse=True) for ids in (users, items)
    )
    factors = sides[0][user_ids], sides[1][item_ids]
    return reference.implicit_objective(users, items, fitted[:, 2], *factors, REG, 1.0, ALPHA)


if __name__ == "__main__":
    sys.exit(main())
