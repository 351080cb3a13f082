"""What a half-step spends its time on, and what Spark adds to it.

The bare kernel runs without Spark, a process a core side by side, each on its own block of either
side, which is what the tasks of an iteration do. Its time is parted by timers around the matrix
products, the factorisations and the gathering of the fixed rows; the products are run once more
alone, on memory that lies ready, to see what they take at best. Beside it stand iterations of the
same model on Spark, on the same ratings.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np

from als_spark.solve import equations, gram, linalg
from als_spark.solve import rows as row_solvers
from als_spark.solve.blocks import RatingBlock, assign_rows, build_block
from als_spark.solve.objective import Objective
from als_spark.spark.planner import row_costs
from als_spark.train.loop import train_models
from als_spark.train.records import ModelSpec, TrainingOptions
from als_spark.train.start import initial_factors
from als_spark.types import SIDES
from scripts.bench.common import bench_parser, bench_session, synthetic_frame, write_result
from scripts.bench.mllib import prepared_of
from scripts.bench.plots import draw_shares
from scripts.bench.synthetic import Ratings, generate

REG, EXPONENT = 0.1, 1.0
TIMED = {
    "products": (gram.multiply, gram.multiply_dual),
    "factorisations": (linalg.solve_spd_stack,),
    "gathering": (gram.gather,),
}
CALLERS = (gram, row_solvers, equations)
"""Modules of the ridge that call them by names of their own."""


def main(argv: list[str] | None = None) -> int:
    """Measure."""
    parser = bench_parser(__doc__, ratings=10_000_000, ranks="50,100", repeats=5)
    options = parser.parse_args(argv)
    n_ratings = 1_000_000 if options.quick else options.ratings
    ranks = [int(rank) for rank in ("10" if options.quick else options.ranks).split(",")]
    ratings = generate(n_ratings)
    rows = []
    for rank in ranks:
        bare = measure_bare(ratings, rank, options.repeats)
        spark = measure_spark(ratings, rank, options.repeats)
        again = measure_bare(ratings, rank, options.repeats)
        # Before and after Spark's: the machine may have become slower or faster in between.
        iteration = statistics.median([*bare["iterations"], *again["iterations"]])
        row = {
            "rank": rank,
            "bare_iteration": iteration,
            "spark_iteration": statistics.median(spark),
            "spark_over_bare": statistics.median(spark) / iteration,
            "shares": bare["shares"],
            "products_alone": bare["products_alone"],
            "bare_iterations": [*bare["iterations"], *again["iterations"]],
            "spark_iterations": spark,
        }
        rows.append(row)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in bare["shares"].items())
        print(
            f"rank {rank}: bare {iteration:.2f} s an iteration, on Spark "
            f"{row['spark_iteration']:.2f} s ({row['spark_over_bare']:.2f} times); "
            f"one process alone: {shares}; the products on ready memory would take "
            f"{bare['products_alone']:.0%}"
        )
    result = {
        "question": "what a half-step spends its time on, and what Spark adds",
        "ratings": n_ratings,
        "repeats": options.repeats,
        "processes": os.cpu_count(),
        "dtype": "float32",
        "ranks": rows,
    }
    write_result(options.output, "roofline", result)
    draw_shares(rows, options.output / "roofline.png")
    return 0


def measure_bare(ratings: Ratings, rank: int, repeats: int) -> dict[str, Any]:
    """Time iterations of one process a core side by side, and part the time of one alone."""
    n_processes = os.cpu_count() or 1
    users, items = by_falling_count(ratings.users), by_falling_count(ratings.items)
    sides = []
    for rows, columns in ((users, items), (items, users)):
        costs = row_costs(np.bincount(rows), [rank])
        sides.append((rows, columns, assign_rows(costs, n_processes)[rows]))
    context = mp.get_context("fork")
    barrier = context.Barrier(n_processes + 1)
    results = context.Queue()
    processes = []
    for k in range(n_processes):
        blocks = [
            build_block(
                rows[block_of == k],
                columns[block_of == k],
                ratings.ratings[block_of == k],
                n_rows=int(rows.max()) + 1,
                n_columns=int(columns.max()) + 1,
                dtype=np.float32,
            )
            for rows, columns, block_of in sides
        ]
        work = context.Process(
            target=iterate, args=(blocks, rank, repeats, barrier, results, k == 0)
        )
        work.start()
        processes.append(work)
    iterations = []
    for _ in range(repeats + 1):
        barrier.wait()
        began = time.perf_counter()
        # A half-step ends with its slowest process.
        barrier.wait()
        barrier.wait()
        iterations.append(time.perf_counter() - began)
    parts = results.get()
    for work in processes:
        work.join()
    if isinstance(parts, Exception):
        raise parts
    return {"iterations": iterations[1:], **parts}


def iterate(
    blocks: list[RatingBlock], rank: int, repeats: int, barrier: Any, results: Any, profile: bool
) -> None:
    """Run in a process: half-steps in step with the others, and then, in one, a profile alone."""
    objective = Objective(REG, EXPONENT)
    users, items = initial_factors(blocks[1].n_columns, blocks[0].n_columns, rank, 0)
    fixed = [items.astype(np.float32), users.astype(np.float32)]
    for _ in range(repeats + 1):
        barrier.wait()
        for side, block, factors in zip(SIDES, blocks, fixed, strict=True):
            objective.row_solver(factors).solve(block, side=side)
            barrier.wait()
    if profile:
        # Whoever waits for them would wait for ever.
        try:
            results.put(profile_kernel(blocks, fixed))
        except Exception as error:
            results.put(error)
            raise


def profile_kernel(blocks: list[RatingBlock], fixed: list[Any]) -> dict[str, Any]:
    """Part the time of an iteration by what it is spent on."""
    objective = Objective(REG, EXPONENT)
    seconds = dict.fromkeys(TIMED, 0.0)
    shapes: list[tuple[Callable[..., Any], tuple[int, ...]]] = []

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = time.perf_counter()
            result = function(*args)
            seconds[part] += time.perf_counter() - began
            if part == "products":
                shapes.append((function, args[0].shape))
            return result

        return call

    for part, functions in TIMED.items():
        for function in functions:
            call = timed(part, function)
            for module in CALLERS:
                if hasattr(module, function.__name__):
                    setattr(module, function.__name__, call)
    began = time.perf_counter()
    for side, block, factors in zip(SIDES, blocks, fixed, strict=True):
        objective.row_solver(factors).solve(block, side=side)
    total = time.perf_counter() - began
    shares = {part: taken / total for part, taken in seconds.items()}
    shares["rest"] = 1 - sum(shares.values())
    return {"shares": shares, "products_alone": products_alone(shapes) / total}


def products_alone(shapes: list[tuple[Callable[..., Any], tuple[int, ...]]]) -> float:
    """Seconds that the products of given shapes take on memory that lies ready in the caches."""
    total = 0.0
    for function, (n, width, columns) in shapes:
        known = np.ones((n, width, columns), np.float32)
        args = [known]
        if function.__name__ == "multiply":
            args.append(np.empty((n, columns, columns - 1), np.float32))
        function(*args)
        began = time.perf_counter()
        function(*args)
        total += time.perf_counter() - began
    return total


def measure_spark(ratings: Ratings, rank: int, repeats: int) -> list[float]:
    """Seconds of each iteration on Spark, in the ratings placement."""
    with (
        bench_session("roofline") as session,
        synthetic_frame(session, ratings) as frame,
        prepared_of(session, frame, rank) as prepared,
    ):
        spec = ModelSpec(0, rank, Objective(REG, EXPONENT))
        training = TrainingOptions(tol=0.0, max_iter=2 * repeats + 2)
        (model,) = train_models(prepared.backend, [spec], training)
    seconds = [record.seconds for record in model.history]
    # The first iterations warm up the JVM.
    return np.diff(seconds)[1:].tolist()


def by_falling_count(ids: Any) -> Any:
    """Give ids numbers by falling count, as the preparation on Spark does."""
    counts = np.bincount(ids)
    order = np.argsort(-counts, kind="stable")
    numbers = np.empty(counts.size, np.int32)
    numbers[order] = np.arange(counts.size, dtype=np.int32)
    return numbers[ids]


if __name__ == "__main__":
    sys.exit(main())
