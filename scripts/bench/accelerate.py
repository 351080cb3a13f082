"""Plain against accelerated training, in one process: iterations and time to the same objective.

Plain ALS trains until its stopping rule ends it; accelerated training runs until it has reached
that objective. On MovieLens latest-small (d in {20, 50}, the default four λ, exponent 0) where it
is there, and on synthetic ratings (exponent 1).
"""

from __future__ import annotations

import os
import statistics
import sys
from dataclasses import replace
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np

from als_spark.solve.blocks import build_block
from als_spark.solve.objective import Objective
from als_spark.train.local import LocalBackend
from als_spark.train.loop import train_models
from als_spark.train.records import IterationRecord, ModelSpec, TrainingOptions
from als_spark.train.state import LoopState
from scripts.bench.common import MOVIELENS, bench_parser, write_result
from scripts.bench.plots import draw_accelerated
from scripts.bench.synthetic import Ratings, generate


class Reached(Exception):
    """The objective is reached."""


def main(argv: list[str] | None = None) -> int:
    """Run the comparison."""
    parser = bench_parser(__doc__, ratings=1_000_000, ranks="20,50")
    parser.add_argument("--dtype", default="float64", choices=("float32", "float64"))
    options = parser.parse_args(argv)
    ranks = [int(rank) for rank in ("5" if options.quick else options.ranks).split(",")]
    training = TrainingOptions(dtype=options.dtype)
    problems: list[tuple[str, LocalBackend, TrainingOptions, list[float]]] = []
    if MOVIELENS.is_file():
        problems.append(
            (
                "MovieLens latest-small",
                backend_of(movielens(), options.dtype),
                [Objective(reg) for reg in ([4] if options.quick else [1, 2, 4, 6])],
            )
        )
    else:
        print(f"{MOVIELENS} is not there: synthetic ratings only", file=sys.stderr)
    n_synthetic = 30_000 if options.quick else options.ratings
    problems.append(
        (
            f"synthetic, {n_synthetic:,}",
            backend_of(generate(n_synthetic, 20_000, 5_000), options.dtype),
            [Objective(0.05, exponent=1.0)],
        )
    )
    rows = []
    for name, backend, objectives in problems:
        for rank in ranks:
            for objective in objectives:
                spec = ModelSpec(0, rank, objective)
                row = compare(backend, spec, training, options.repeats)
                rows.append({"ratings": name, "exponent": objective.exponent, **row})
                print(
                    f"{name}, d={rank} λ={objective.reg:g}: "
                    f"plain {row['plain']['iterations']} iterations, "
                    f"accelerated {row['accelerated']['iterations']} "
                    f"({row['accelerated']['evaluations']} evaluations), "
                    f"{row['iterations_ratio']:.2f} times fewer, {row['seconds_ratio']:.2f} times "
                    "faster",
                    flush=True,
                )
    result = {
        "question": "plain against accelerated training, to the objective at which plain stops",
        "dtype": options.dtype,
        "threads": 1,
        "repeats": options.repeats,
        "points": rows,
    }
    write_result(options.output, "accelerate", result)
    draw_accelerated(rows, options.output / "accelerate.png")
    return 0


def compare(
    backend: LocalBackend, spec: ModelSpec, options: TrainingOptions, repeats: int
) -> dict[str, Any]:
    """Train plainly until the rule stops it, then accelerated to the same objective."""
    plain: list[LoopState] = []
    fast: list[dict[str, Any]] = []
    while len(plain) < repeats:
        (model,) = train_models(backend, [spec], options)
        plain.append(model)
        fast.append(run_to(backend, spec, replace(options, accelerate=True), model.objective))
        if plain[0].seconds > 60:
            break
    (to_the_end,) = train_models(
        backend, [spec], replace(options, accelerate=True, max_iter=plain[0].iterations)
    )
    seconds = statistics.median(model.seconds for model in plain)
    fast_seconds = statistics.median(run["seconds"] for run in fast)
    return {
        "rank": spec.rank,
        "reg": spec.objective.reg,
        "plain": {
            "iterations": plain[0].iterations,
            "seconds": seconds,
            "objective": plain[0].objective,
        },
        "accelerated": {**fast[0], "seconds": fast_seconds},
        "accelerated_objective_after_as_many_iterations": to_the_end.objective,
        "iterations_ratio": plain[0].iterations / fast[0]["iterations"],
        "seconds_ratio": seconds / fast_seconds,
    }


def run_to(
    backend: LocalBackend, spec: ModelSpec, options: TrainingOptions, objective: float
) -> dict[str, Any]:
    """Train until the objective is reached, whatever the stopping rule says."""
    counter = CountingBackend(backend)
    last: list[IterationRecord] = []

    def look(record: IterationRecord) -> None:
        if record.objective <= objective:
            last.append(record)
            raise Reached

    try:
        train_models(counter, [spec], replace(options, tol=0.0), on_iteration=look)
    except Reached:
        return {
            "iterations": last[0].iteration,
            "evaluations": counter.evaluations,
            "seconds": last[0].seconds,
            "objective": last[0].objective,
        }
    raise RuntimeError(f"d={spec.rank} λ={spec.objective.reg:g}: {objective} was not reached")


class CountingBackend:
    """A backend that counts the half-steps of the users."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self.evaluations = 0

    def __getattr__(self, name: str) -> Any:
        """Pass on what is not counted."""
        return getattr(self._backend, name)

    def solve(self, side: Any, steps: Any, label: str) -> Any:
        """Count and pass on."""
        self.evaluations += side == "user"
        return self._backend.solve(side, steps, label)


def movielens() -> Ratings:
    """Eight tenths of MovieLens latest-small."""
    table = np.genfromtxt(MOVIELENS, delimiter=",", skip_header=1)
    users = np.unique(table[:, 0], return_inverse=True)[1].astype(np.int32)
    items = np.unique(table[:, 1], return_inverse=True)[1].astype(np.int32)
    train = np.random.default_rng(1).random(users.size) < 0.8
    return Ratings(users[train], items[train], table[train, 2].astype(np.float32))


def backend_of(ratings: Ratings, dtype: str) -> LocalBackend:
    """Pack ratings for one process."""
    users, items, values = ratings
    n_users, n_items = int(users.max()) + 1, int(items.max()) + 1
    return LocalBackend(
        build_block(users, items, values, n_rows=n_users, n_columns=n_items, dtype=dtype),
        build_block(items, users, values, n_rows=n_items, n_columns=n_users, dtype=dtype),
    )


if __name__ == "__main__":
    sys.exit(main())
