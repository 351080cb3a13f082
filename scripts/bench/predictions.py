"""Predicted against measured: seconds an iteration, and memory, of some configurations."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from als_spark.solve.objective import Objective
from als_spark.spark.estimate.check import of_session
from als_spark.spark.estimate.estimate import Estimate, estimate_plan
from als_spark.spark.estimate.rates import DRIVER_BASE
from als_spark.spark.estimate.words import show_bytes
from als_spark.spark.estimate.work import Workload
from als_spark.train.records import ModelSpec, TrainingOptions
from als_spark.types import DType, PlacementChoice
from scripts.bench.common import bench_session, synthetic_frame
from scripts.bench.processes import peaks, reset, resident
from scripts.bench.synthetic import generate

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ITERATIONS = 6
MIXED = {"user": "broadcast", "item": "shuffle"}


class Case(NamedTuple):
    """What is trained."""

    ratings: int
    ranks: tuple[int, ...]
    exchange: Any = "broadcast"
    placement: PlacementChoice = "ratings"
    dtype: DType = "float32"

    def __str__(self) -> str:
        """Name it."""
        ranks = ", ".join(map(str, self.ranks))
        how = "users shuffled" if isinstance(self.exchange, dict) else self.exchange
        how = "grid" if self.placement == "grid" else how
        return f"{self.ratings / 1e6:g} M, d = {ranks}, {how}, {self.dtype}"


CASES = (
    Case(1_000_000, (10,)),
    Case(1_000_000, (50,)),
    Case(1_000_000, (50,), "shuffle"),
    Case(1_000_000, (10, 10, 20, 20), "auto", "grid"),
    Case(3_000_000, (10,)),
    Case(3_000_000, (50,)),
    Case(3_000_000, (50,), MIXED),
    Case(3_000_000, (50,), "shuffle"),
    Case(3_000_000, (50,), dtype="float64"),
    Case(3_000_000, (10, 20, 50)),
)


class Kept:
    """A collector that only counts iterations: see :class:`als_spark.train.grid.Collector`."""

    needs_errors = False

    def __init__(self) -> None:
        self.iterations: list[int] = []

    def add(self, trained: Any, *_: Any) -> None:
        """Take a model."""
        self.iterations.append(len(trained.history))


def compare(quick: bool) -> list[dict[str, Any]]:
    """Train each case, and set the estimate beside what was measured."""
    rows = []
    with bench_session("predictions") as session:
        cases = [case._replace(ratings=case.ratings // 20) for case in CASES] if quick else CASES
        for case in (cases[0], *cases):
            with synthetic_frame(session, generate(case.ratings)) as frame:
                row = measure(session, frame, case)
            # The first warms up.
            rows.append(row)
    for row in rows[1:]:
        print(
            f"{row['case']}: "
            + "; ".join(
                f"{name} {shown(name, predicted)}, measured {shown(name, measured)}"
                for name, (predicted, measured) in row["figures"].items()
            ),
            flush=True,
        )
    return rows[1:]


def shown(name: str, value: float) -> str:
    """Write seconds or bytes."""
    return f"{value:.2f} s" if name == "iteration" else show_bytes(value)


def measure(session: SparkSession, frame: DataFrame, case: Case) -> dict[str, Any]:
    """Prepare and train once."""
    from als_spark.spark.prepare.options import PrepareOptions
    from als_spark.spark.prepare.prepare import prepare_ratings
    from als_spark.spark.read.columns import source_from_frame
    from als_spark.spark.read.split import SplitOptions

    options = PrepareOptions(
        split=SplitOptions(test_fraction=0.0),
        ranks=case.ranks,
        placement=case.placement,
        exchange=case.exchange,
        dtype=case.dtype,
    )
    reset()
    before = resident()
    with prepare_ratings(session, source_from_frame(frame), options) as prepared:
        packing = peaks().worker
        reset()
        estimate = estimate_plan(prepared.plan, of_session(session.sparkContext), Workload())
        iteration = train(prepared, case)
        found = peaks()
        heap = live_heap(session)
    return {
        "case": str(case),
        "figures": figures(estimate, iteration, packing, found, before, heap),
    }


def figures(
    estimate: Estimate, iteration: float, packing: int, found: Any, before: int, heap: int
) -> dict[str, tuple[float, float]]:
    """Return predicted and measured."""
    memory = estimate.memory
    jvm = memory["driver JVM"].parts
    kept = ("Spark itself", "ratings by user and by item", "factor blocks")
    shared = memory.get("shared by the workers")
    training = memory["Python worker, training"].total + (0 if shared is None else shared.total)
    return {
        "iteration": (estimate.iteration, iteration),
        "worker, packing": (memory["Python worker, packing"].total, packing),
        "worker, training": (training, found.worker),
        # The rest is of whatever this process has done before.
        "driver Python": (memory["driver Python"].total, found.driver - before + DRIVER_BASE),
        "JVM, live": (sum(jvm.get(name, 0) for name in kept), heap),
    }


def train(prepared: Any, case: Case) -> float:
    """Return the seconds of an iteration of all models."""
    specs = [ModelSpec(k, rank, Objective(0.1, 1.0)) for k, rank in enumerate(case.ranks)]
    options = TrainingOptions(tol=0.0, max_iter=ITERATIONS, dtype=case.dtype)
    seen: list[tuple[int, float]] = []
    began = time.perf_counter()
    prepared.placement.train(
        specs,
        options,
        Kept(),
        on_iteration=lambda record: seen.append((record.iteration, time.perf_counter())),
    )
    if case.placement == "grid":
        return (time.perf_counter() - began) / ITERATIONS
    last = [max(moment for k, moment in seen if k == i) for i in sorted({k for k, _ in seen})]
    return statistics.median(np.diff(last).tolist())


def live_heap(session: SparkSession) -> int:
    """Bytes of the JVM's heap that are in use after garbage has been collected."""
    java: Any = session.sparkContext._jvm
    java.java.lang.System.gc()
    runtime = java.java.lang.Runtime.getRuntime()
    return int(runtime.totalMemory() - runtime.freeMemory())
