"""Against cmfrec's ALS (C, OpenMP), exact and by conjugate gradients: iterations alone.

The same ratings, rank and λ with frequency exponent 1 (cmfrec's ``scale_lam``), float32, all
cores. An iteration is the difference of two fits of different lengths, for all alike; ours run on
Spark. Objectives are computed by one function for all, after the longer fit.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import Any

import numpy as np
from scipy import sparse

from scripts.bench.common import (
    bench_parser,
    bench_session,
    objective,
    rmse,
    synthetic_frame,
    write_result,
)
from scripts.bench.plots import draw_seconds
from scripts.bench.synthetic import Ratings, generate

REG = 0.1
SHORT, LONG = 2, 8


def main(argv: list[str] | None = None) -> int:
    """Run the comparison."""
    parser = bench_parser(__doc__, ratings=10_000_000, ranks="50")
    options = parser.parse_args(argv)
    if options.quick:
        options.ratings, options.ranks, options.repeats = 300_000, "10", 1
    ratings = generate(options.ratings)
    rows = []
    for rank in map(int, options.ranks.split(",")):
        row: dict[str, Any] = {"rank": rank, "ours": measure_ours(ratings, rank, options.repeats)}
        for name, use_cg in (("exact", False), ("cg", True)):
            row[name] = measure_cmfrec(ratings, rank, use_cg, options.repeats)
            row[f"{name}_over_ours"] = row[name]["iteration"] / row["ours"]["iteration"]
            print(
                f"rank {rank}: cmfrec {name} {row[name]['iteration']:.2f} s an iteration, ours "
                f"{row['ours']['iteration']:.2f} s: {row[f'{name}_over_ours']:.2f} times; "
                f"objectives {row[name]['objective']:.6g} and {row['ours']['objective']:.6g}",
                flush=True,
            )
        rows.append(row)
    result = {
        "question": "cmfrec's ALS against ours, iterations alone",
        "ratings": options.ratings,
        "reg": REG,
        "exponent": 1.0,
        "iterations": [SHORT, LONG],
        "repeats": options.repeats,
        "threads": os.cpu_count(),
        "ranks": rows,
    }
    write_result(options.output, "cmfrec", result)
    draw_seconds(
        rows,
        {
            "ours": "als_spark (exact)",
            "exact": "cmfrec, exact",
            "cg": "cmfrec, conjugate gradients",
        },
        "iteration",
        f"One iteration on {options.ratings:,} ratings",
        options.output / "cmfrec.png",
    )
    return 0


def summarise(
    ratings: Ratings, users: Any, items: Any, short: list[float], long: list[float]
) -> dict[str, Any]:
    """Put the times of the fits and the quality of the last one together."""
    iteration = (statistics.median(long) - statistics.median(short)) / (LONG - SHORT)
    return {
        "iteration": iteration,
        "seconds": {str(SHORT): short, str(LONG): long},
        "objective": objective(ratings, users, items, REG),
        "rmse": rmse(ratings, users, items),
    }


def measure_ours(ratings: Ratings, rank: int, repeats: int) -> dict[str, Any]:
    """Fit on Spark."""
    from scripts.bench.mllib import fit_ours

    with bench_session("cmfrec") as session, synthetic_frame(session, ratings) as frame:
        # The first warms up the JVM.
        fit_ours(session, frame, rank, SHORT)
        short = [fit_ours(session, frame, rank, SHORT).seconds for _ in range(repeats)]
        fits = [fit_ours(session, frame, rank, LONG) for _ in range(repeats)]
    return summarise(ratings, fits[-1].users, fits[-1].items, short, [f.seconds for f in fits])


def measure_cmfrec(ratings: Ratings, rank: int, use_cg: bool, repeats: int) -> dict[str, Any]:
    """Fit with cmfrec: no biases, no centring, no final Cholesky, so that the objective is ours."""
    import cmfrec

    matrix = sparse.coo_matrix((ratings.ratings, (ratings.users, ratings.items)))

    def fit(n: int) -> tuple[float, Any]:
        model = cmfrec.CMF(
            k=rank,
            lambda_=REG,
            method="als",
            use_cg=use_cg,
            finalize_chol=False,
            user_bias=False,
            item_bias=False,
            center=False,
            scale_lam=True,
            niter=n,
            use_float=True,
            precompute_for_predictions=False,
            nthreads=os.cpu_count(),
            random_state=1,
            verbose=False,
        )
        began = time.perf_counter()
        model.fit(matrix)
        return time.perf_counter() - began, model

    short = [fit(SHORT)[0] for _ in range(repeats)]
    long = [fit(LONG) for _ in range(repeats)]
    model = long[-1][1]
    return summarise(
        ratings, np.asarray(model.A_), np.asarray(model.B_), short, [seconds for seconds, _ in long]
    )


if __name__ == "__main__":
    sys.exit(main())
