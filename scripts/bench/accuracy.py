"""How far the errors of explicit ratings fall: ridges, the Bayesian methods, and other libraries.

Five random folds of MovieLens latest-small where it is there, else of synthetic ratings, in one
process; or, with ``--split time``, the last tenth of the ratings by time. The ridges get the point
of a grid over λ and ν that is best on a tenth of each fold's training ratings (by time: the last
tenth of them), and are trained on all of them; the Bayesian methods get nothing. Cold ratings
count, predicted by the prior (of a ridge: by zeros, and by the bias of the other row). Peers (see
peers.py) get the same: settings are chosen by the same part, and cold ratings are predicted as each
does it. Ours train in one process with one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np

from als_spark.solve.blocks import build_block
from als_spark.solve.objective import Objective
from als_spark.train.baseline import fit_biases
from als_spark.train.bayes.loop import train_posterior
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.bayes.spread import spread_of
from als_spark.train.local import LocalBackend
from als_spark.train.loop import train_models
from als_spark.train.metrics import SideStats
from als_spark.train.records import ModelSpec, TrainingOptions
from als_spark.types import SIDES, FloatArray, IntArray
from scripts.bench.common import MOVIELENS, bench_parser, write_result
from scripts.bench.peers import PEERS, Peer, fit_peer, interpreter_of

FOLDS, SEED, FEATURES = 5, 0, 20
LATEST = 0.1
"""Share of the ratings that a split by time holds out."""
RIDGES = [
    (rank, reg, exponent)
    for rank in (8, 16)
    for reg, exponent in ((6, 0.0), (10, 0.0), (15, 0.0), (0.1, 1.0), (0.15, 1.0), (0.2, 1.0))
]
"""d, λ and ν of the grid."""
BIASED = [
    (rank, reg, exponent)
    for rank in (8, 16)
    for reg, exponent in (
        *((10, 0.0), (15, 0.0), (20, 0.0), (30, 0.0)),
        *((0.15, 1.0), (0.2, 1.0), (0.3, 1.0), (0.4, 1.0)),
    )
]
"""The same with biases, which call for more of it."""
TOWARDS_A_MEAN = [16.0, 20.0, 25.0]
"""λ of the ridge whose rows have a mean: the one weight that is tuned."""
COVERAGES = (0.5, 0.9)


class Known(NamedTuple):
    """Ratings of dense users and items."""

    users: IntArray
    items: IntArray
    values: FloatArray
    times: IntArray
    """When they were given."""

    def take(self, chosen: Any) -> Known:
        """Return some of them."""
        return Known(*(column[chosen] for column in self))


Measured = dict[str, float]
Method = Callable[[Known, Known, tuple[int, int]], Measured]


def main(argv: list[str] | None = None) -> int:
    """Run the comparison."""
    parser = bench_parser(__doc__, ranks="4,8,16,32,64", repeats=FOLDS)
    parser.add_argument("--split", choices=["random", "time"], default="random")
    parser.add_argument("--methods", type=named_methods, help="of these alone, commas between")
    parser.add_argument(
        "--data",
        choices=["latest-small", "spark", "synthetic"],
        help="instead: methods without an option, against the best of grids over rank and λ",
    )
    parser.add_argument(
        "--true-rank", type=int, default=8, metavar="D", help="of the synthetic ratings"
    )
    options = parser.parse_args(argv)
    if options.data is not None:
        from scripts.bench.untuned import compare

        return compare(options)
    known = quick_ratings() if options.quick or not MOVIELENS.is_file() else movielens()
    if not MOVIELENS.is_file():
        print(f"{MOVIELENS} is not there: synthetic ratings only", file=sys.stderr)
    sizes = int(known.users.max()) + 1, int(known.items.max()) + 1
    methods = make_methods(quick=options.quick, by_time=options.split == "time")
    by_time = options.split == "time"
    if options.methods is not None:
        methods = {name: methods[name] for name in options.methods if name in methods}
    elif options.quick:
        options.methods = []
    methods |= peer_methods(options.methods, by_time=by_time)
    found: dict[str, list[Measured]] = {name: [] for name in methods}
    folds = cut_folds(known, options.repeats, by_time=options.split == "time")
    cold = [float(np.mean(unrated(train, sizes, test))) for train, test in folds]
    print(f"cold: {', '.join(f'{share:.1%}' for share in cold)} of the ratings held out")
    for fold, (train, test) in enumerate(folds):
        for name, method in methods.items():
            began = time.perf_counter()
            measured = method(train, test, sizes)
            found[name].append({**measured, "seconds": time.perf_counter() - began})
            told = ", ".join(f"{key} {value:.4f}" for key, value in measured.items())
            print(f"fold {fold}, {name}: {told}", flush=True)
    rows = {
        name: {key: float(np.mean([fold[key] for fold in each])) for key in each[0]}
        for name, each in found.items()
    }
    for name, row in rows.items():
        covered = "".join(
            f", {row[f'coverage_{share:g}']:.1%} in the interval of {share:.0%}"
            for share in COVERAGES
            if f"coverage_{share:g}" in row
        )
        chosen = f", {row['fit']:.1f} s without the choice of settings" if "fit" in row else ""
        print(
            f"{name}: RMSE {row['rmse']:.4f} (warm {row['warm']:.4f}), MAE {row['mae']:.4f}, "
            f"{row['seconds']:.1f} s{chosen}{covered}"
        )
    result = {
        "question": "errors on held-out ratings",
        "split": options.split,
        "ratings": int(known.values.size),
        "folds": len(folds),
        "cold": cold,
        "seed": SEED,
        "ridge_grids": {"ridge": RIDGES, "biases": BIASED, "mean": TOWARDS_A_MEAN},
        "methods": rows,
        "each_fold": found,
    }
    write_result(options.output, "accuracy", result)
    return 0


def named_methods(text: str) -> list[str]:
    """Read names of methods.

    Raises
    ------
    argparse.ArgumentTypeError
        If one is none.
    """
    names, known = text.split(","), [*make_methods(quick=False, by_time=False), *PEERS]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r}: use names of {', '.join(known)}")
    return names


def cut_folds(known: Known, n_folds: int, *, by_time: bool) -> list[tuple[Known, Known]]:
    """Cut ratings into those to train on and those held out, as often as is asked for."""
    n = known.values.size
    if by_time:
        last = latest(known)
        return [(known.take(~last), known.take(last))]
    fold_of = np.empty(n, np.int64)
    fold_of[np.random.default_rng(SEED).permutation(n)] = np.arange(n) % FOLDS
    chosen = range(min(n_folds, FOLDS))
    return [(known.take(fold_of != fold), known.take(fold_of == fold)) for fold in chosen]


def latest(known: Known) -> Any:
    """Tell which ratings are the last tenth by time; ties by their order."""
    last = np.zeros(known.times.size, bool)
    last[np.argsort(known.times, kind="stable")[round(known.times.size * (1 - LATEST)) :]] = True
    return last


def make_methods(*, quick: bool, by_time: bool) -> dict[str, Method]:
    """List what is compared."""
    fewer: dict[str, Any] = {"burn_in": 3, "samples": 4, "rank": 3} if quick else {}
    few: dict[str, Any] = {"max_iter": 4, "rank": 3} if quick else {}

    def bayes(**options: Any) -> Method:
        return lambda *problem: by_posterior(PosteriorOptions(**options), *problem)

    def ridge(grid: list[tuple[int, float, float]], biases: bool) -> Method:
        points = grid[2:4] if quick else grid
        return lambda *problem: by_ridge(points, biases, by_time, *problem)

    def towards(n_features: int) -> Method:
        regs = TOWARDS_A_MEAN[:2] if quick else TOWARDS_A_MEAN
        points = [PosteriorOptions("ridge", reg=reg, n_features=n_features, **few) for reg in regs]
        return lambda *problem: by_best(points, by_time, *problem)

    return {
        "biases alone": by_biases,
        "ridge": ridge(RIDGES, False),
        "ridge with biases": ridge(BIASED, True),
        "ridge towards a mean": towards(0),
        "ridge towards a mean, features": towards(FEATURES),
        "variational, shared noise": bayes(noise="shared", **few),
        "variational": bayes(**few),
        "variational, features": bayes(n_features=FEATURES, **few),
        "sample": bayes(method="sample", **fewer),
        "sample, features": bayes(method="sample", n_features=FEATURES, **fewer),
    }


def peer_methods(names: list[str] | None, *, by_time: bool) -> dict[str, Method]:
    """List the peers that are asked for and can be installed; all of them if no names are given."""
    found: dict[str, Method] = {}
    for name, peer in PEERS.items():
        python = interpreter_of(peer) if names is None or name in names else None
        if python is not None:
            found[name] = partial(by_peer, peer, python, by_time)
    return found


def by_peer(
    peer: Peer, python: Path, by_time: bool, train: Known, test: Known, sizes: tuple[int, int]
) -> Measured:
    """Train a peer in a process of its own."""
    inner = inner_part(train, by_time=by_time)
    predicted, found = fit_peer(peer, python, train[:3], test[:3], inner, sizes)
    numbers = {
        key: value for key, value in found["point"].items() if isinstance(value, int | float)
    }
    errors = errors_of(predicted - test.values, unrated(train, sizes, test))
    return {**errors, **numbers, "fit": found["fit"]}


def by_biases(train: Known, test: Known, sizes: tuple[int, int]) -> Measured:
    """Take damped means of users and items alone."""
    backend = backend_of(train, sizes)
    stats = {
        side: SideStats.of(n, [backend.blocks[side]]) for side, n in zip(SIDES, sizes, strict=True)
    }
    users, items = fit_biases(backend, stats, "biases").collect()
    predicted = np.einsum("nd,nd->n", users[test.users], items[test.items])
    return errors_of(predicted - test.values, unrated(train, sizes, test))


def by_best(
    points: list[PosteriorOptions], by_time: bool, train: Known, test: Known, sizes: tuple[int, int]
) -> Measured:
    """Train the point that is best on an inner validation part."""
    inner = inner_part(train, by_time=by_time)
    errors = [
        by_posterior(point, train.take(~inner), train.take(inner), sizes)["rmse"]
        for point in points
    ]
    best = points[int(np.argmin(errors))]
    began = time.perf_counter()
    found = by_posterior(best, train, test, sizes)
    return {**found, "reg": best.objective.reg, "fit": time.perf_counter() - began}


def inner_part(train: Known, *, by_time: bool) -> Any:
    """Tell which training ratings λ is chosen by."""
    if by_time:
        return latest(train)
    return np.random.default_rng(SEED + 1).random(train.values.size) < 0.1


def by_ridge(
    grid: list[tuple[int, float, float]],
    biases: bool,
    by_time: bool,
    train: Known,
    test: Known,
    sizes: tuple[int, int],
) -> Measured:
    """Train the point that is best on an inner validation part."""
    inner = inner_part(train, by_time=by_time)
    fitted, left = train.take(~inner), train.take(inner)
    errors = [np.mean(train_ridge(point, biases, fitted, left, sizes) ** 2) for point in grid]
    best = grid[int(np.argmin(errors))]
    rank, reg, exponent = best
    began = time.perf_counter()
    found = errors_of(train_ridge(best, biases, train, test, sizes), unrated(train, sizes, test))
    seconds = time.perf_counter() - began
    return {**found, "rank": rank, "reg": reg, "exponent": exponent, "fit": seconds}


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
    for factors, rows in ((users, train.users), (items, train.items)):
        # Rows without a rating have their random start, beside biases of zero.
        factors[np.bincount(rows, minlength=factors.shape[0]) == 0, :rank] = 0
    predicted = np.einsum("nd,nd->n", users[test.users], items[test.items])
    return predicted + (0 if biases else mean) - test.values


def unrated(train: Known, sizes: tuple[int, int], test: Known) -> Any:
    """Tell which test ratings are cold."""
    counts = [np.bincount(rows, minlength=n) for rows, n in zip(train[:2], sizes, strict=True)]
    return (counts[0][test.users] == 0) | (counts[1][test.items] == 0)


def by_posterior(
    options: PosteriorOptions, train: Known, test: Known, sizes: tuple[int, int]
) -> Measured:
    """Train by a Bayesian method; all but a ridge have intervals, too."""
    backend = backend_of(train, sizes)
    stats = SideStats.of(sizes[0], [backend.blocks["user"]])
    posterior = train_posterior(backend, stats, options)
    left = posterior.predict(test.users, test.items) - test.values
    found = errors_of(left, unrated(train, sizes, test))
    found |= {"iterations": len(posterior.history), "noise": posterior.noise_deviation}
    if options.method != "ridge":
        means, deviations, noises = spread_of(posterior).predict(test.users, test.items)
        for share in COVERAGES:
            half = NormalDist().inv_cdf(0.5 + share / 2) * np.hypot(deviations, noises)
            found[f"coverage_{share:g}"] = float(np.mean(np.abs(means - test.values) <= half))
    return found


def errors_of(errors: FloatArray, cold: Any) -> Measured:
    """Return RMSE, that of the ratings that are not cold, and MAE."""
    return {
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "warm": float(np.sqrt(np.mean(errors[~cold] ** 2))),
        "mae": float(np.mean(np.abs(errors))),
    }


def backend_of(known: Known, sizes: tuple[int, int]) -> LocalBackend:
    """Pack ratings."""
    users, items, values, _ = known
    by_user = build_block(users, items, values, n_rows=sizes[0], n_columns=sizes[1])
    by_item = build_block(items, users, values, n_rows=sizes[1], n_columns=sizes[0])
    return LocalBackend(by_user, by_item)


def movielens() -> Known:
    """MovieLens latest-small."""
    table = np.genfromtxt(MOVIELENS, delimiter=",", skip_header=1)
    users, items = (np.unique(table[:, k], return_inverse=True)[1] for k in (0, 1))
    return Known(users, items, table[:, 2], table[:, 3].astype(np.int64))


def quick_ratings() -> Known:
    """Synthetic ratings of rank 2, with noise."""
    rng = np.random.default_rng(SEED)
    rated = rng.random((80, 60)) < 0.3
    truth = 3 + rng.normal(size=(80, 2)) @ rng.normal(size=(2, 60)) / 2
    users, items = np.nonzero(rated)
    values = truth[rated] + 0.5 * rng.normal(size=users.size)
    return Known(users, items, values, rng.permutation(users.size))


if __name__ == "__main__":
    sys.exit(main())
