"""Against Spark MLlib's ALS: the same ratings, rank, iterations and λ, from DataFrame to factors.

Set-up (packing) and iterations are measured apart, for both sides alike: a fit of one iteration
and one of a few; the difference gives an iteration, and the fit of ten is their sum. Both minimise
the objective with frequency exponent 1, computed here for both by one function.

MLlib stands in two dresses, each in a Spark of its own beside fits of ours: as pip installs it,
and with a native BLAS (Debian: libopenblas0-pthread and liblapack3), one BLAS thread. The Java
property that names the native library keeps the first from finding one that is installed.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from als_spark.solve.objective import Objective
from scripts.bench.common import (
    bench_parser,
    bench_session,
    by_id,
    objective,
    rmse,
    run_child,
    synthetic_frame,
    write_result,
)
from scripts.bench.plots import draw_ratios
from scripts.bench.synthetic import Ratings, generate

REG, EXPONENT = 0.1, 1.0
NO_LIBRARY = " ".join(
    f"-Ddev.ludovic.netlib.{part}.nativeLib=lib{part}-is-not-wanted.so"
    for part in ("blas", "lapack", "arpack")
)
DRESSES = {"pip": NO_LIBRARY, "native": "-Dals_spark.bench=native"}
COLD = ("ours", "mllib")
SHORT_SECONDS = 30
"""Fits that take longer than this are not repeated."""


class Fit(NamedTuple):
    """A fit, its seconds, and the factors to judge it by."""

    seconds: float
    users: Any
    items: Any


def main(argv: list[str] | None = None) -> int:
    """Run the comparison, each dress in a process of its own."""
    parser = bench_parser(__doc__, ratings=10_000_000, ranks="10,50,100,200")
    parser.add_argument("--dresses", default=",".join(DRESSES), help="pip, native or both")
    parser.add_argument(
        "--iterations", type=int, default=3, help="of the longer fit (2 above rank 100)"
    )
    parser.add_argument("--exchange", default="broadcast", help="of ours: broadcast or shuffle")
    parser.add_argument(
        "--sooner",
        type=int,
        metavar="N",
        help="measure only the time to the objective that MLlib has after N iterations",
    )
    parser.add_argument("--child", choices=DRESSES, help="measure one dress and print it")
    parser.add_argument(
        "--cold", choices=("ours", "mllib"), help="of a child: the first fit of a fresh Spark only"
    )
    options = parser.parse_args(argv)
    if options.quick:
        options.ratings, options.ranks, options.repeats = 300_000, "10", 1
    if options.cold:
        print(json.dumps(measure_cold(options.cold, options)))
        return 0
    if options.child:
        print(json.dumps(measure_dress(options.child, options)))
        return 0
    dresses = {}
    for dress in options.dresses.split(","):
        command = [sys.executable, "-m", "scripts.bench.mllib", "--child", dress]
        for name in ("ratings", "ranks", "repeats", "iterations", "exchange"):
            command += [f"--{name}", str(getattr(options, name))]
        if options.sooner:
            command += ["--sooner", str(options.sooner)]
        submit = os.environ.get("PYSPARK_SUBMIT_ARGS", "pyspark-shell")
        submit = f'--conf "spark.driver.extraJavaOptions={DRESSES[dress]}" {submit}'
        environment = os.environ | {"PYSPARK_SUBMIT_ARGS": submit, "OPENBLAS_NUM_THREADS": "1"}
        dresses[dress] = run_child(command, environment)
        if not options.sooner:
            cold = {name: run_child([*command, "--cold", name], environment) for name in COLD}
            dresses[dress] |= {"cold": cold}
    result = {
        "question": "MLlib's ALS against ours, from DataFrame to factors",
        "ratings": options.ratings,
        "reg": REG,
        "exponent": EXPONENT,
        "exchange": options.exchange,
        "repeats": options.repeats,
        "not_repeated_above_seconds": SHORT_SECONDS,
        "dresses": dresses,
    }
    if options.sooner:
        write_result(options.output, "mllib_objective", result)
        return 0
    write_result(options.output, "mllib", result)
    draw_ratios(result, options.output / "mllib.png")
    return 0


def measure_cold(which: str, options: Any) -> dict[str, Any]:
    """Fit one iteration of the first rank in a Spark that has done nothing else."""
    rank = int(options.ranks.split(",")[0])
    ratings = generate(options.ratings)
    with bench_session("mllib") as session, synthetic_frame(session, ratings) as frame:
        if which == "ours":
            fit = fit_ours(session, frame, rank, 1, exchange=options.exchange)
        else:
            fit = fit_mllib(frame, rank, 1)
    say(f"cold, rank {rank}, one iteration, {which}: {fit.seconds:.1f} s")
    return {"rank": rank, "seconds_of_one_iteration": fit.seconds}


def measure_dress(dress: str, options: Any) -> dict[str, Any]:
    """Measure MLlib in one dress, and ours in the same Spark."""
    ratings = generate(options.ratings)
    with bench_session("mllib") as session, synthetic_frame(session, ratings) as frame:
        loaded = loaded_blas(session)
        say(f"{dress}: MLlib's BLAS is {loaded}")
        warm_up(session)
        if options.sooner:
            ranks = [int(rank) for rank in options.ranks.split(",")]
            with tempfile.TemporaryDirectory() as folder:
                # Without one its plans grow from iteration to iteration, and some 20 are too many.
                session.sparkContext.setCheckpointDir(folder)
                found = [measure_sooner(session, frame, ratings, rank, options) for rank in ranks]
            return {"blas": loaded, "ranks": found}
        rows = []
        for rank in map(int, options.ranks.split(",")):
            n = options.iterations if rank <= 100 else min(options.iterations, 2)
            fitters: dict[str, Callable[[int], Fit]] = {
                "ours": lambda k, rank=rank: fit_ours(
                    session, frame, rank, k, exchange=options.exchange
                ),
                "mllib": lambda k, rank=rank: fit_mllib(frame, rank, k),
            }
            row: dict[str, Any] = {"rank": rank, "iterations_of_the_longer_fit": n}
            for name, fit in fitters.items():
                # Ten of ours are soon done, so their fit is measured itself.
                longer = 10 if name == "ours" else n
                row[name], last = measure(fit, longer, options.repeats)
                row[name] |= judge(ratings, last if longer == n else fit(n))
                say(f"{dress}, rank {rank}, {name}: {row[name]}")
            row["mllib_over_ours"] = {
                key: row["mllib"][key] / row["ours"][key]
                for key in ("setup", "iteration", "fit_of_10", "objective")
            }
            say(f"{dress}, rank {rank}: {row['mllib_over_ours']}")
            rows.append(row)
        return {
            "blas": loaded,
            "master": session.sparkContext.master,
            "spark": session.version,
            "heap_gb": session.sparkContext._jvm.java.lang.Runtime.getRuntime().maxMemory() / 2**30,  # type: ignore[union-attr]
            "ranks": rows,
        }


def loaded_blas(session: Any) -> str:
    """Name the BLAS that MLlib computes with: its native one, where it has found one."""
    jvm = session.sparkContext._jvm
    try:
        return str(jvm.dev.ludovic.netlib.blas.NativeBLAS.getInstance().getClass().getName())
    except Exception as error:
        if "native" not in str(error).lower():
            raise
        return str(jvm.dev.ludovic.netlib.blas.JavaBLAS.getInstance().getClass().getName())


def warm_up(session: Any) -> None:
    """Let the JVM compile both on small data, so that no fit that counts pays for it."""
    with synthetic_frame(session, generate(300_000)) as frame:
        for _ in range(2):
            fit_ours(session, frame, 10, 3)
            fit_mllib(frame, 10, 3)


def judge(ratings: Ratings, fit: Fit) -> dict[str, float]:
    """Objective and training error of a fit."""
    return {
        "objective": objective(ratings, fit.users, fit.items, REG),
        "rmse": rmse(ratings, fit.users, fit.items),
    }


def measure(fit: Callable[[int], Fit], n: int, repeats: int) -> tuple[dict[str, Any], Fit]:
    """Measure set-up and iteration by fits of one and of n iterations; return the last of n too."""
    short, long = [fit(1)], [fit(n)]
    for fits, k in ((short, 1), (long, n)):
        while len(fits) < repeats and fits[0].seconds < SHORT_SECONDS:
            fits.append(fit(k))
    one, more = (statistics.median(f.seconds for f in fits) for fits in (short, long))
    iteration = (more - one) / (n - 1)
    measured = {
        "setup": one - iteration,
        "iteration": iteration,
        "fit_of_10": one + 9 * iteration,
        "seconds": {"1": [f.seconds for f in short], str(n): [f.seconds for f in long]},
    }
    return measured, long[-1]


def measure_sooner(
    session: Any, frame: Any, ratings: Ratings, rank: int, options: Any
) -> dict[str, Any]:
    """Time fits of ours, plain and accelerated, until MLlib's objective after some iterations."""
    theirs = fit_mllib(frame, rank, options.sooner)
    target = judge(ratings, theirs)["objective"]
    row: dict[str, Any] = {"rank": rank, "mllib_seconds": theirs.seconds, "objective": target}
    for name, accelerate in (("plain", False), ("accelerated", True)):
        fits = [
            seconds_to(session, frame, rank, target, options.sooner, accelerate=accelerate)
            for _ in range(options.repeats)
        ]
        seconds = statistics.median(fit[0] for fit in fits)
        row[name] = {
            "seconds": seconds,
            "iterations": fits[0][1],
            "mllib_over_ours": theirs.seconds / seconds,
        }
    say(f"rank {rank}, to the objective of {options.sooner} iterations of MLlib's: {row}")
    return row


def seconds_to(
    session: Any, frame: Any, rank: int, target: float, n_iterations: int, *, accelerate: bool
) -> tuple[float, int]:
    """Seconds and iterations from the DataFrame to an objective; infinite if it is not reached."""
    from als_spark.train.loop import train_models
    from als_spark.train.records import ModelSpec, TrainingOptions

    began = time.perf_counter()
    with prepared_of(session, frame, rank) as prepared:
        spec = ModelSpec(0, rank, Objective(REG, EXPONENT))
        training = TrainingOptions(tol=0.0, max_iter=n_iterations, accelerate=accelerate)
        set_up = time.perf_counter() - began
        (model,) = train_models(prepared.backend, [spec], training)
    for record in model.history:
        if record.objective <= target:
            return set_up + record.seconds, record.iteration
    return float("inf"), n_iterations


def prepared_of(
    session: Any, frame: Any, rank: int, exchange: Any = "broadcast", **more: Any
) -> Any:
    """Prepare ratings in the ratings placement, whatever their number."""
    from als_spark.spark.prepare.options import PrepareOptions
    from als_spark.spark.prepare.prepare import prepare_ratings
    from als_spark.spark.read.columns import source_from_frame
    from als_spark.spark.read.split import SplitOptions

    options = PrepareOptions(
        split=SplitOptions(test_fraction=0.0), ranks=[rank], placement="ratings", exchange=exchange
    )
    return prepare_ratings(session, source_from_frame(frame), options, **more)


def fit_ours(
    session: Any,
    frame: Any,
    rank: int,
    n_iterations: int,
    objective: Objective | None = None,
    exchange: Any = "broadcast",
) -> Fit:
    """Fit with the ratings placement, whatever the size."""
    from als_spark.train.loop import train_models
    from als_spark.train.records import ModelSpec, TrainingOptions

    began = time.perf_counter()
    spec = ModelSpec(0, rank, objective or Objective(REG, EXPONENT))
    training = TrainingOptions(tol=0.0, max_iter=n_iterations)
    with prepared_of(session, frame, rank, exchange) as prepared:
        (model,) = train_models(prepared.backend, [spec], training)
        seconds = time.perf_counter() - began
        factors = model.factors.collect()
        users = by_id(prepared.summary.users.ids.to_numpy(), factors.users)
        items = by_id(prepared.summary.items.ids.to_numpy(), factors.items)
    return Fit(seconds, users, items)


def fit_mllib(frame: Any, rank: int, n_iterations: int, reg: float = REG, **params: Any) -> Fit:
    """Fit with MLlib at its defaults (ten blocks a side), and further parameters of its ALS."""
    from pyspark.ml.recommendation import ALS

    began = time.perf_counter()
    als = ALS(
        rank=rank,
        maxIter=n_iterations,
        regParam=reg,
        userCol="user",
        itemCol="item",
        ratingCol="rating",
        seed=1,
        **params,
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
        factors.unpersist()
    return Fit(seconds, *sides)


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
