"""Whether a tuned rank and λ would have been better than no option but the method.

``bench.sh accuracy --data``: ``variational`` and ``sample`` as they come, beside a grid of ridges
with biases over rank and λ and beside themselves at every rank of the grid, all on the same folds.
The best of a grid is the best on the ratings that are held out, which nobody knows beforehand. The
noise of synthetic ratings is known.
"""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from als_spark.train.bayes.options import PosteriorOptions
from scripts.bench.accuracy import (
    Known,
    Measured,
    by_posterior,
    cut_folds,
    errors_of,
    movielens,
    train_ridge,
    unrated,
)
from scripts.bench.common import write_result
from scripts.bench.synthetic import NOISE, generate

DATA = ("latest-small", "spark", "synthetic")
FULL = 16
"""The largest rank with whole covariances: those of rank 64 would take an hour."""
REGS = (5.0, 10.0, 20.0, 40.0)
"""λ of the ridges, with exponent 0."""
METHODS: tuple[Any, ...] = ("variational", "sample")
ALLOWED, NOISE_ALLOWED = 0.01, 0.03
"""By how much the error may be above the best of the grids, and the noise off the true one."""


def compare(options: Namespace) -> int:
    """Run the comparison on the data of the options."""
    ranks = [2, 4] if options.quick else [int(rank) for rank in options.ranks.split(",")]
    fewer: dict[str, Any] = {"burn_in": 5, "samples": 10} if options.quick else {}
    known = ratings_of(options.data, options.true_rank, quick=options.quick)
    sizes = int(known.users.max()) + 1, int(known.items.max()) + 1
    found: dict[str, list[Measured]] = {}

    def keep(name: str, began: float, measured: Measured) -> None:
        seconds = time.perf_counter() - began
        found.setdefault(name, []).append({**measured, "seconds": seconds})
        print(f"{name}: RMSE {measured['rmse']:.4f}, {seconds:.1f} s", flush=True)

    for train, test in cut_folds(known, options.repeats, by_time=False):
        cold = unrated(train, sizes, test)
        for method in METHODS:
            for rank in (None, *ranks):
                chosen = dict(fewer) if method == "sample" else {}
                if method == "variational" and rank is not None and rank > FULL:
                    chosen["covariance"] = "diagonal"
                began, posterior = time.perf_counter(), PosteriorOptions(method, rank, **chosen)
                name = method if rank is None else f"{method}, rank {rank}"
                keep(name, began, by_posterior(posterior, train, test, sizes))
        for rank in ranks:
            for reg in REGS:
                began = time.perf_counter()
                errors = train_ridge((rank, reg, 0.0), True, train, test, sizes)
                keep(f"ridge, rank {rank}, λ {reg:g}", began, errors_of(errors, cold))
    rows = {
        name: {key: float(np.mean([fold[key] for fold in each])) for key in each[0]}
        for name, each in found.items()
    }
    result = {
        "question": "errors without tuning against the best of a grid",
        "data": options.data,
        "true_rank": options.true_rank if options.data == "synthetic" else None,
        "ratings": int(known.values.size),
        "folds": options.repeats,
        "targets": {"over_best": 1 + ALLOWED, "noise": NOISE_ALLOWED},
        "untuned": {method: against_best(method, rows) for method in METHODS},
        "methods": rows,
    }
    if options.data == "synthetic":
        result["true_noise"] = NOISE
    for method, own in result["untuned"].items():
        print(
            f"{method}: RMSE {own['rmse']:.4f}, {own['over_ridge']:.4f} times that of "
            f"{own['ridge']}, {own['over_own']:.4f} times that of {own['own']}; "
            f"noise {own['noise']:.4f}"
        )
    write_result(options.output, f"accuracy-{options.data}", result)
    return 0


def against_best(method: str, rows: dict[str, Measured]) -> dict[str, Any]:
    """Compare a method without an option with the best ridge, and with itself at its best rank."""

    def best(start: str) -> str:
        return min((name for name in rows if name.startswith(start)), key=lambda k: rows[k]["rmse"])

    ridge, own, rmse = best("ridge"), best(method), rows[method]["rmse"]
    return {
        "rmse": rmse,
        "noise": rows[method]["noise"],
        "seconds": rows[method]["seconds"],
        "ridge": ridge,
        "over_ridge": rmse / rows[ridge]["rmse"],
        "own": own,
        "over_own": rmse / rows[own]["rmse"],
    }


def ratings_of(data: str, true_rank: int, *, quick: bool) -> Known:
    """Read or draw the ratings."""
    if data == "latest-small":
        return movielens()
    if data == "spark":
        import pyspark

        from als_spark.spark.read.sources import SAMPLE

        table = np.genfromtxt(Path(pyspark.__file__).parent / SAMPLE, delimiter="::")
        users, items = (np.unique(table[:, k], return_inverse=True)[1] for k in (0, 1))
        return Known(users, items, table[:, 2], table[:, 3].astype(np.int64))
    n_ratings, n_users, n_items = (5_000, 200, 150) if quick else (1_000_000, 10_000, 3_000)
    drawn = generate(n_ratings, n_users, n_items, rank=true_rank, rounded=False)
    ratings = drawn.ratings.astype(np.float64)
    return Known(drawn.users, drawn.items, ratings, np.arange(n_ratings))
