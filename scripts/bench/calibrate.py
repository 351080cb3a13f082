"""The constants of the estimates (`als_spark.spark.estimate.rates`), and how well they predict.

First what a machine takes: the kernels by rank, in CPU seconds of one core; an empty Spark job;
bytes a second of broadcasting, collecting, reading and shuffling; memory of an idle worker, and of
a packed rating. Each is printed beside the constant in the code. Then, with the constants of the
code, predicted against measured for some configurations.
"""

from __future__ import annotations

import json
import os
import pickle
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from als_spark.model.ids import IdIndex
from als_spark.solve.blocks import build_block
from als_spark.solve.objective import Objective
from als_spark.solve.posterior import (
    Columns,
    Draw,
    FixedSide,
    Kind,
    PosteriorSolver,
    RowPriors,
)
from als_spark.spark.arrow import CHUNK_ROWS, ids_from_bytes, ids_to_bytes
from als_spark.spark.estimate import rates
from als_spark.spark.estimate.assumed import row_work
from als_spark.spark.planner import MERGE_BYTES
from als_spark.spark.read.ids import merge_ids
from als_spark.train.loop import frobenius_distance
from als_spark.types import ExchangeChoice
from scripts.bench.common import (
    bench_parser,
    bench_session,
    run_child,
    synthetic_frame,
    write_result,
)
from scripts.bench.processes import peaks, reset, resident
from scripts.bench.synthetic import generate

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from als_spark.spark.train.run import PreparedRatings

RANKS = (1, 10, 20, 50, 100, 200)
KERNEL_DATA = ((1_000_000, 70_000, 10_700), (1_500_000, 9_000, 3_000))
"""Ratings, users and items: few and many ratings a row."""
POSTERIOR_RANK = 16
KINDS: tuple[Kind, ...] = ("sample", "variational")
MEGABYTES = 128
"""Of what is sent to and fro."""


def main(argv: list[str] | None = None) -> int:
    """Measure the constants, and compare predictions."""
    parser = bench_parser(__doc__, repeats=3)
    parser.add_argument(
        "--part",
        choices=("constants", "predictions", "both", "ids"),
        default="both",
        metavar="PART",
    )
    options = parser.parse_args(argv)
    if options.part == "ids":
        print(json.dumps(measure_ids()))
        return 0
    result: dict[str, Any] = {"question": "constants of the estimates"}
    if options.part != "predictions":
        # Before anything else has taken memory.
        child = [sys.executable, "-m", "scripts.bench.calibrate", "--part", "ids"]
        ids = run_child(child, {**os.environ})
        with bench_session("calibrate") as session:
            found = measure_spark(session, options.quick, options.repeats)
        driver = measure_driver(options.quick, options.repeats)
        result["constants"] = {**ids, **found, **driver}
        tell_constants(result["constants"])
        result["kernels"] = measure_kernels(options.quick, options.repeats)
        result["posterior"] = measure_posterior(options.quick, options.repeats)
        tell_constants(result["posterior"])
    if options.part != "constants":
        from scripts.bench.predictions import compare

        result["predictions"] = compare(options.quick)
    write_result(options.output, "calibrate", result)
    return 0


def measure_kernels(quick: bool, repeats: int) -> list[dict[str, Any]]:
    """Fit the CPU seconds of a rating and of a row, of each rank and type."""
    blocks = []
    for n_ratings, n_users, n_items in ((100_000, 7_000, 2_000),) if quick else KERNEL_DATA:
        data = generate(n_ratings, n_users, n_items)
        users, items = (data.users, n_users), (data.items, n_items)
        blocks += [
            build_block(
                *(rows, columns, data.ratings), n_rows=n_rows, n_columns=n_columns, dtype=dtype
            )
            for (rows, n_rows), (columns, n_columns) in ((users, items), (items, users))
            for dtype in ("float32", "float64")
        ]
    found = []
    for dtype in ("float32", "float64"):
        for rank in RANKS[:3] if quick else RANKS:
            equations, seconds = [], []
            for block in blocks:
                if str(block.ratings.dtype) != dtype:
                    continue
                fixed = np.random.default_rng(0).normal(size=(block.n_columns, rank)).astype(dtype)
                solver = Objective(0.1, 1.0).row_solver(fixed)
                taken = best_of(lambda s=solver, b=block: s.solve(b, side="user"), repeats)  # type: ignore[misc]
                equations.append(row_work(block.degrees, rank))
                seconds.append(taken)
            # The least squares of relative errors.
            system = np.array(equations) / np.array(seconds)[:, None]
            a_rating, a_row = nonnegative_fit(system)
            known = rates.seconds_of(rank, dtype)
            found.append(
                {"dtype": dtype, "rank": rank, "rating": a_rating, "row": a_row, "seconds": seconds}
            )
            print(
                f"{dtype}, rank {rank}: {a_rating * 1e9:.1f} ns a rating (code: "
                f"{known.rating * 1e9:.1f}), {a_row * 1e6:.2f} µs a row ({known.row * 1e6:.2f}); "
                "fit over measured "
                + ", ".join(f"{value:.2f}" for value in system @ [a_rating, a_row]),
                flush=True,
            )
    return found


def measure_posterior(quick: bool, repeats: int) -> dict[str, float]:
    """Measure what the rows of Bayesian methods take more than those of a ridge."""
    n_ratings, n_users, n_items = (100_000, 700, 300) if quick else (1_500_000, 9_000, 3_000)
    data = generate(n_ratings, n_users, n_items)
    block = build_block(
        *(data.users, data.items, data.ratings),
        n_rows=n_users,
        n_columns=n_items,
        dtype="float32",
    )
    taken = {}
    for kind in KINDS:
        columns = Columns(POSTERIOR_RANK + 1, kind)
        table = np.random.default_rng(0).normal(0.1, 0.01, (n_items, columns.total))
        if columns.n_covariances:
            columns.packed(table)[:] = columns.pack(0.01 * np.eye(columns.size)[None])
        fixed = FixedSide.of(table, columns, np.ones(n_items), 3.0, "float32")
        ones, means = np.ones(n_users), np.zeros((n_users, columns.size))
        priors = RowPriors(means, np.eye(columns.size), ones, ones)
        solver = PosteriorSolver(columns, fixed, priors, Draw(0, 1))
        taken[kind] = best_of(lambda s=solver: s.solve(block, side="user"), repeats)  # type: ignore[misc]
    ratings, rows = row_work(block.degrees, POSTERIOR_RANK + 1)
    ridge = rates.seconds_of(POSTERIOR_RANK + 1, "float32").rating
    more = max(taken["sample"] - ratings * ridge, 0.0)
    exact = rates.seconds_of(POSTERIOR_RANK + 1, "float64").row
    n_covariances = Columns(POSTERIOR_RANK + 1, "variational").n_covariances
    return {
        "POSTERIOR_ROWS": more / rows / exact,
        "COVARIANCE_SECONDS": (taken["variational"] - taken["sample"]) / n_ratings / n_covariances,
    }


def measure_driver(quick: bool, repeats: int) -> dict[str, float]:
    """Measure what the driver does with solved rows: as the loop and the exchange do it."""
    n_rows, rank = (20_000 if quick else 500_000), 50
    rng = np.random.default_rng(0)
    before = rng.normal(size=(n_rows, rank)).astype(np.float32)
    solved = before[rng.permutation(n_rows)]
    places = np.array_split(rng.permutation(n_rows), 32)
    parts = [solved[rows] for rows in places]
    degrees = np.full(n_rows, 10, np.int32)
    objective = Objective(0.1, 1.0)

    def take() -> None:
        objective.row_solver(before)
        factors = before.copy()
        for rows, part in zip(places, parts, strict=True):
            factors[rows] = part
        objective.penalty(factors, degrees)
        frobenius_distance(factors, before)

    return {"SUM_RATE": before.nbytes / best_of(take, repeats)}


def measure_ids() -> dict[str, float]:
    """Measure the memory of ids: on the driver, which merges those of all chunks, and in workers.

    In a process of its own, which has no memory that it would use again.
    """
    rng = np.random.default_rng(0)
    n_ids, n_chunks, size = 2_000_000, 8, 1_000_000
    chunks = [
        (ids_to_bytes(pa.array(rng.choice(n_ids, size, replace=False))), bytes(8 * size))
        for _ in range(n_chunks)
    ]
    reset()
    before = resident()
    merge_ids([(ids_from_bytes(a), np.frombuffer(b, np.int64)) for a, b in chunks])
    # What comes is there, too: an id and a count.
    merging = (resident(name="VmHWM") - before) / (n_chunks * size) + 16
    n_rows = 5_000_000
    places = pickle.dumps((pa.array(rng.permutation(n_rows)), np.zeros(n_rows, np.int32)))
    reset()
    before = resident()
    ids, _ = pickle.loads(places)
    IdIndex(ids).rows_of(ids[:10_000])
    looking = (resident(name="VmHWM") - before) / n_rows
    return {"CHUNK_ID_BYTES": merging, "PLACE_BYTES": looking}


def nonnegative_fit(system: Any) -> tuple[float, float]:
    """Fit two numbers of at least 0 to equations whose right-hand sides are 1."""
    from scipy.optimize import nnls

    scale = system.max(axis=0)
    solution, _ = nnls(system / scale, np.ones(system.shape[0]))
    first, second = (solution / scale).tolist()
    return first, second


def best_of(work: Callable[[], Any], repeats: int) -> float:
    """Return the fewest CPU seconds of some runs."""
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def measure_spark(session: SparkSession, quick: bool, repeats: int) -> dict[str, float]:
    """Measure jobs, traffic and memory."""
    from als_spark.spark.session import default_partitions
    from als_spark.spark.shared import shared
    from als_spark.spark.train.factor_blocks import sent_to

    context = session.sparkContext
    cores = default_partitions(context)
    own = resident()
    small = measure_small(session, quick)
    worker = peaks().worker
    array = np.random.default_rng(0).random((4 if quick else MEGABYTES) * 2**17)

    def job(n_tasks: int) -> float:
        tasks = context.parallelize(range(n_tasks), n_tasks).mapPartitions(count_only)
        return timed(tasks.collect, 5 * repeats)

    for _ in range(3):
        job(cores)
    few, many = job(cores), job(16 * cores)
    task = (many - few) / 15

    def broadcast() -> None:
        with shared(context, [array]) as handle:
            touch = partial_touch(handle)
            context.parallelize(range(cores), cores).mapPartitions(touch).collect()

    def collect() -> None:
        part = array.nbytes // cores // 8
        context.parallelize(range(cores), cores).mapPartitions(send_back(part)).collect()

    slices = context.parallelize(range(cores), cores).mapPartitions(
        send_back(array.size // cores, pieces=array.nbytes // cores >> 21 or 1)
    )
    slices.persist().count()
    n_bytes = array.nbytes

    def shuffle() -> None:
        pairs = context.parallelize(range(cores), cores).mapPartitions(
            pairs_to(cores, array.size // cores**2)
        )
        sent_to(pairs, cores).mapPartitions(count_only).collect()

    found = {
        **small,
        "TASK_SECONDS": task,
        "BROADCAST_RATE": n_bytes / max(timed(broadcast, repeats) - few, 1e-6),
        "COLLECT_RATE": n_bytes / max(timed(collect, repeats) - few, 1e-6),
        "PIPE_RATE": n_bytes
        / cores
        / max(timed(lambda: slices.mapPartitions(count_only).collect(), repeats) - few, 1e-6),
        "SHUFFLE_RATE": n_bytes / cores / max(timed(shuffle, repeats) - 2 * few, 1e-6),
        "WORKER_BASE": float(worker),
        "DRIVER_BASE": float(own),
    }
    slices.unpersist()
    return {**found, **measure_packing(session, 100_000 if quick else 3_000_000)}


def measure_small(session: SparkSession, quick: bool) -> dict[str, float]:
    """Measure half-steps that cost hardly more than their Spark jobs, with either exchange."""
    from als_spark.train.loop import train_models
    from als_spark.train.records import ModelSpec, TrainingOptions

    data = generate(5_000, 700, 200)
    options = TrainingOptions(tol=0.0, max_iter=6 if quick else 40)
    found = {}
    with synthetic_frame(session, data) as frame:
        for exchange in ("broadcast", "shuffle"):
            with prepared_ratings(session, frame, exchange) as prepared:
                spec = ModelSpec(0, 2, Objective(0.1, 1.0))
                (model,) = train_models(prepared.backend, [spec], options)
            seconds = np.diff([record.seconds for record in model.history])
            found[exchange] = statistics.median(seconds.tolist()) / 2
    return {"JOB_SECONDS": found["broadcast"], "SHUFFLE_JOB_SECONDS": found["shuffle"]}


def prepared_ratings(
    session: SparkSession, frame: DataFrame, exchange: ExchangeChoice = "auto", **more: Any
) -> PreparedRatings:
    """Prepare ratings as training has them."""
    from als_spark.spark.prepare.options import PrepareOptions
    from als_spark.spark.prepare.prepare import prepare_ratings
    from als_spark.spark.read.columns import source_from_frame
    from als_spark.spark.read.split import SplitOptions

    options = PrepareOptions(
        split=SplitOptions(test_fraction=0.0), ranks=[10], placement="ratings", exchange=exchange
    )
    return prepare_ratings(session, source_from_frame(frame), options, **more)


def timed(work: Callable[[], Any], repeats: int) -> float:
    """Return the median of the seconds of some runs."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def measure_packing(session: SparkSession, n_ratings: int) -> dict[str, float]:
    """Measure what a packed rating takes of the JVM, and a rating that is packed of a worker."""
    context = session.sparkContext
    found: list[int] = []

    @contextmanager
    def phase(_: str) -> Iterator[None]:
        reset()
        yield
        found.append(peaks().worker)

    with synthetic_frame(session, generate(n_ratings)) as frame:
        n_parts = frame.rdd.getNumPartitions()
        with prepared_ratings(session, frame, phase=phase) as prepared:
            java: Any = context._jsc
            stored = sum(
                info.memSize() + info.diskSize()
                for info in java.sc().getRDDStorageInfo()
                if str(info.name()).startswith("als_spark")
            )
            n_blocks = prepared.plan.n_blocks
    # Of splitting, numbering, packing: splitting reads nothing.
    numbering, packing = found[-2:]
    places = rates.PLACE_BYTES * sum(map(len, (prepared.summary.users, prepared.summary.items)))
    return {
        "JVM_RATING": stored / n_ratings / 2 - 8,
        "NUMBER_BYTES": (numbering - rates.WORKER_BASE) / min(n_ratings / n_parts, CHUNK_ROWS),
        "MERGE_BYTES": (packing - rates.WORKER_BASE - places) / (n_ratings / n_blocks),
    }


def tell_constants(found: dict[str, float]) -> None:
    """Print what was measured beside what the code has."""
    for name, value in found.items():
        known = MERGE_BYTES if name == "MERGE_BYTES" else getattr(rates, name)
        print(f"{name}: {value:.4g} (code: {known:.4g})")


def partial_touch(handle: Any) -> Callable[[Iterable[int]], Iterator[float]]:
    """Return what reads all of a broadcast array, once, as padding it does."""

    def touch(tasks: Iterable[int]) -> Iterator[float]:
        (array,) = handle.value
        for _ in tasks:
            yield float(array.copy()[-1])

    return touch


def send_back(size: int, pieces: int = 16) -> Callable[[Iterable[int]], Iterator[Any]]:
    """Return what makes arrays of so many numbers in all."""

    def send(tasks: Iterable[int]) -> Iterator[Any]:
        for _ in tasks:
            for _ in range(pieces):
                yield np.random.default_rng(0).random(size // pieces)

    return send


def pairs_to(n_blocks: int, size: int) -> Callable[[Iterable[int]], Iterator[Any]]:
    """Return what sends each block an array."""

    def send(tasks: Iterable[int]) -> Iterator[Any]:
        for _ in tasks:
            for block in range(n_blocks):
                yield block, np.random.default_rng(0).random(size)

    return send


def count_only(parts: Iterable[Any]) -> Iterator[int]:
    """Count what comes: runs on an executor."""
    yield sum(1 for _ in parts)


if __name__ == "__main__":
    raise SystemExit(main())
