"""How far the errors of explicit ratings fall: ridge, ridge with biases, and the Bayesian methods.

Five random folds of MovieLens latest-small where it is there, else of synthetic ratings, in one
process. The ridges get the point of a grid over λ and ν that is best on a tenth of each fold's
training ratings, and are trained on all of them; the Bayesian methods get nothing. Cold ratings
count, predicted by the prior (of a ridge: by zeros beside the mean).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np

from als_spark.solve.blocks import build_block
from als_spark.solve.objective import Objective
from als_spark.train.bayes.loop import train_posterior
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.bayes.spread import Moments
from als_spark.train.local import LocalBackend
from als_spark.train.loop import train_models
from als_spark.train.metrics import SideStats
from als_spark.train.records import ModelSpec, TrainingOptions
from als_spark.types import FloatArray, IntArray
from scripts.bench.common import MOVIELENS, bench_parser, write_result

FOLDS, SEED, FEATURES = 5, 0, 20
RIDGES = [
    (rank, reg, exponent)
    for rank in (8, 16)
    for reg, exponent in ((6, 0.0), (10, 0.0), (15, 0.0), (0.1, 1.0), (0.15, 1.0), (0.2, 1.0))
]
"""d, λ and ν of the grid."""
COVERAGES = (0.5, 0.9)


class Known(NamedTuple):
    """Ratings of dense users and items."""

    users: IntArray
    items: IntArray
    values: FloatArray

    def take(self, chosen: Any) -> Known:
        """Return some of them."""
        return Known(*(column[chosen] for column in self))


Measured = dict[str, float]
Method = Callable[[Known, Known, tuple[int, int]], Measured]


def main(argv: list[str] | None = None) -> int:
    """Run the comparison."""
    parser = bench_parser(__doc__, repeats=FOLDS)
    options = parser.parse_args(argv)
    known = quick_ratings() if options.quick or not MOVIELENS.is_file() else movielens()
    if not MOVIELENS.is_file():
        print(f"{MOVIELENS} is not there: synthetic ratings only", file=sys.stderr)
    sizes = int(known.users.max()) + 1, int(known.items.max()) + 1
    fold_of = np.empty(known.values.size, np.int64)
    order = np.random.default_rng(SEED).permutation(known.values.size)
    fold_of[order] = np.arange(known.values.size) % FOLDS
    methods = make_methods(quick=options.quick)
    found: dict[str, list[Measured]] = {name: [] for name in methods}
    for fold in range(min(options.repeats, FOLDS)):
        train, test = known.take(fold_of != fold), known.take(fold_of == fold)
        for name, method in methods.items():
            began = time.perf_counter()
            measured = method(train, test, sizes)
            found[name].append({**measured, "seconds": time.perf_counter() - began})
            print(f"fold {fold}, {name}: RMSE {measured['rmse']:.4f}", flush=True)
    rows = {
        name: {key: float(np.mean([fold[key] for fold in folds])) for key in folds[0]}
        for name, folds in found.items()
    }
    for name, row in rows.items():
        print(f"{name}: RMSE {row['rmse']:.4f}, MAE {row['mae']:.4f}, {row['seconds']:.1f} s")
    result = {
        "question": "errors on held-out ratings of random folds",
        "ratings": int(known.values.size),
        "folds": min(options.repeats, FOLDS),
        "seed": SEED,
        "ridge_grid": RIDGES,
        "methods": rows,
        "each_fold": found,
    }
    write_result(options.output, "accuracy", result)
    return 0


def make_methods(*, quick: bool) -> dict[str, Method]:
    """List what is compared."""
    fewer: dict[str, Any] = {"burn_in": 3, "samples": 4, "rank": 3} if quick else {}
    few: dict[str, Any] = {"max_iter": 4, "rank": 3} if quick else {}

    def bayes(**options: Any) -> Method:
        return lambda *problem: by_posterior(PosteriorOptions(**options), *problem)

    grid = RIDGES[2:4] if quick else RIDGES
    return {
        "ridge": lambda *problem: by_ridge(grid, False, *problem),
        "ridge with biases": lambda *problem: by_ridge(grid, True, *problem),
        "variational, shared noise": bayes(noise="shared", **few),
        "variational": bayes(**few),
        "variational, features": bayes(n_features=FEATURES, **few),
        "sample": bayes(method="sample", **fewer),
        "sample, features": bayes(method="sample", n_features=FEATURES, **fewer),
    }


def by_ridge(
    grid: list[tuple[int, float, float]],
    biases: bool,
    train: Known,
    test: Known,
    sizes: tuple[int, int],
) -> Measured:
    """Train the point that is best on an inner validation part."""
    inner = np.random.default_rng(SEED + 1).random(train.values.size) < 0.1
    errors = [
        errors_of(train_ridge(point, biases, train.take(~inner), train.take(inner), sizes))["rmse"]
        for point in grid
    ]
    best = grid[int(np.argmin(errors))]
    rank, reg, exponent = best
    found = errors_of(train_ridge(best, biases, train, test, sizes))
    return {**found, "rank": rank, "reg": reg, "exponent": exponent}


def train_ridge(
    point: tuple[int, float, float],
    biases: bool,
    train: Known,
    test: Known,
    sizes: tuple[int, int],
) -> FloatArray:
    """Train one point: its errors on the test ratings; μ is taken off where there are no biases."""
    rank, reg, exponent = point
    mean = float(train.values.mean())
    centred = train if biases else train._replace(values=train.values - mean)
    more = {"bias_reg": reg, "mean": mean} if biases else {}
    objective = Objective(reg, exponent, **more)
    # As many iterations as are best here: the more, the closer to the training ratings.
    options = TrainingOptions(max_iter=20, tol=0)
    (model,) = train_models(backend_of(centred, sizes), [ModelSpec(0, rank, objective)], options)
    users, items = model.plain_factors.collect()
    predicted = np.einsum("nd,nd->n", users[test.users], items[test.items])
    cold = unrated(train, sizes, test)
    predicted = np.where(cold, mean if biases else 0.0, predicted) + (0 if biases else mean)
    return predicted - test.values


def unrated(train: Known, sizes: tuple[int, int], test: Known) -> Any:
    """Tell which test ratings are cold."""
    counts = [np.bincount(rows, minlength=n) for rows, n in zip(train[:2], sizes, strict=True)]
    return (counts[0][test.users] == 0) | (counts[1][test.items] == 0)


def by_posterior(
    options: PosteriorOptions, train: Known, test: Known, sizes: tuple[int, int]
) -> Measured:
    """Train by a Bayesian method; a variational one has intervals, too."""
    backend = backend_of(train, sizes)
    stats = SideStats.of(sizes[0], [backend.blocks["user"]])
    posterior = train_posterior(backend, stats, options)
    found = errors_of(posterior.predict(test.users, test.items) - test.values)
    found |= {"iterations": len(posterior.history), "noise": posterior.noise_deviation}
    if options.method == "variational":
        means, deviations, noises = Moments.of(posterior).predict(test.users, test.items)
        for share in COVERAGES:
            half = NormalDist().inv_cdf(0.5 + share / 2) * np.hypot(deviations, noises)
            found[f"coverage_{share:g}"] = float(np.mean(np.abs(means - test.values) <= half))
    return found


def errors_of(errors: FloatArray) -> Measured:
    """Return RMSE and MAE."""
    return {"rmse": float(np.sqrt(np.mean(errors**2))), "mae": float(np.mean(np.abs(errors)))}


def backend_of(known: Known, sizes: tuple[int, int]) -> LocalBackend:
    """Pack ratings."""
    users, items, values = known
    by_user = build_block(users, items, values, n_rows=sizes[0], n_columns=sizes[1])
    by_item = build_block(items, users, values, n_rows=sizes[1], n_columns=sizes[0])
    return LocalBackend(by_user, by_item)


def movielens() -> Known:
    """MovieLens latest-small."""
    table = np.genfromtxt(MOVIELENS, delimiter=",", skip_header=1)
    users, items = (np.unique(table[:, k], return_inverse=True)[1] for k in (0, 1))
    return Known(users, items, table[:, 2])


def quick_ratings() -> Known:
    """Synthetic ratings of rank 2, with noise."""
    rng = np.random.default_rng(SEED)
    rated = rng.random((80, 60)) < 0.3
    truth = 3 + rng.normal(size=(80, 2)) @ rng.normal(size=(2, 60)) / 2
    users, items = np.nonzero(rated)
    return Known(users, items, truth[rated] + 0.5 * rng.normal(size=users.size))


if __name__ == "__main__":
    sys.exit(main())
