"""Implicit feedback: against Spark MLlib's ALS and against ``implicit`` (C, OpenMP).

- *Speed*: the same interactions, rank, α and iterations; MLlib in the two dresses of
  ``scripts/bench/mllib.py``, measured as there. ``implicit`` runs its exact solver (Cholesky) on
  all cores, in a process of its own; an iteration is the difference of two fits.
- *Rankings* on MovieLens latest-small: 10% of the ratings, drawn at random, are held out, and every
  rating is an interaction. (The last 10% by time are of some twenty users with earlier ratings: too
  few.) λ and α of each library are chosen by NDCG@10 on 10% of what remains. Everybody is measured
  by one function, items that a user has rated left out.

``implicit`` minimises the same sum with ν = 0, from confidences that are given: ours with exponent
0 stands beside it in the rankings, and ours with exponent 1 beside MLlib.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from als_spark.solve.objective import Objective
from scripts.bench.common import (
    MOVIELENS,
    bench_parser,
    bench_session,
    run_child,
    synthetic_frame,
    write_result,
)
from scripts.bench.mllib import DRESSES, fit_mllib, fit_ours, loaded_blas, measure, say
from scripts.bench.plots import draw_implicit
from scripts.bench.synthetic import Ratings, generate

REG, ALPHA = 0.1, 1.0
PEER_ITERATIONS = 2, 6
TARGETS = {"mllib_pip": 5.0, "mllib_native": 2.5, "implicit": 1.0}
HELD_OUT, TOP, RANK, ITERATIONS = 0.1, 10, 32, 15
# ν = 1 multiplies λ by the number of a row's interactions, some 150 on the average.
REGS = {"exponent 0": (1.0, 10.0, 30.0, 100.0), "exponent 1": (0.01, 0.05, 0.1, 0.3)}
ALPHAS = (0.3, 1.0, 4.0, 16.0)


def main(argv: list[str] | None = None) -> int:
    """Run the comparisons, each in a process of its own."""
    parser = bench_parser(__doc__, ratings=10_000_000, ranks="50")
    parser.add_argument("--dresses", default=",".join(DRESSES), help="pip, native or both")
    parser.add_argument("--iterations", type=int, default=3, help="of MLlib's longer fit")
    parser.add_argument("--data", default=str(MOVIELENS), help="ratings (MovieLens latest-small)")
    parts = (*DRESSES, "implicit", "rankings")
    parser.add_argument("--child", choices=parts, help="measure one part and print it")
    options = parser.parse_args(argv)
    if not Path(options.data).is_file():
        print(f"{options.data} is not there: give ratings with --data", file=sys.stderr)
        return 2
    if options.quick:
        options.ratings, options.ranks, options.repeats = 100_000, "10", 1
    if options.child:
        print(json.dumps(measure_part(options.child, options)))
        return 0
    found = {part: run_part(part, options) for part in (*options.dresses.split(","), *parts[2:])}
    rankings, peer = found.pop("rankings"), found.pop("implicit")
    for dress in found.values():
        for row, theirs in zip(dress["ranks"], peer["ranks"], strict=True):
            row["implicit_over_ours"] = theirs["iteration"] / row["ours"]["iteration"]
            say(f"rank {row['rank']}: {row['mllib_over_ours']}, {row['implicit_over_ours']:.2f}")
    result = {
        "question": "implicit feedback: MLlib's ALS and implicit's against ours",
        "ratings": options.ratings,
        "reg": REG,
        "alpha": ALPHA,
        "targets": TARGETS,
        "dresses": found,
        "implicit": peer,
        "rankings": rankings,
    }
    write_result(options.output, "implicit", result)
    draw_implicit(result, options.output / "implicit.png")
    return 0


def run_part(part: str, options: Any) -> Any:
    """Measure one part in a process of its own, with the BLAS that it is about."""
    command = [sys.executable, "-m", "scripts.bench.implicit", "--child", part]
    for name in ("ratings", "ranks", "repeats", "iterations", "data"):
        command += [f"--{name}", str(getattr(options, name))]
    command += ["--quick"] * options.quick
    submit = os.environ.get("PYSPARK_SUBMIT_ARGS", "pyspark-shell")
    library = DRESSES.get(part, DRESSES["pip"])
    submit = f'--conf "spark.driver.extraJavaOptions={library}" {submit}'
    environment = {"PYSPARK_SUBMIT_ARGS": submit, "OPENBLAS_NUM_THREADS": "1"}
    return run_child(command, os.environ | environment)


def measure_part(part: str, options: Any) -> Any:
    """Measure one part."""
    if part == "rankings":
        return measure_rankings(options)
    ratings = generate(options.ratings)
    if part == "implicit":
        return measure_implicit(ratings, options)
    return measure_dress(part, ratings, options)


def measure_dress(dress: str, ratings: Ratings, options: Any) -> dict[str, Any]:
    """Measure MLlib in one dress, and ours in the same Spark."""
    objective = Objective(REG, exponent=1.0, implicit=True, alpha=ALPHA)
    params = {"implicitPrefs": True, "alpha": ALPHA}
    with bench_session("implicit") as session:

        def both(frame: Any, rank: int) -> dict[str, Callable[[int], Any]]:
            return {
                "ours": lambda n: fit_ours(session, frame, rank, n, objective),
                "mllib": lambda n: fit_mllib(frame, rank, n, REG, **params),
            }

        say(f"{dress}: MLlib's BLAS is {loaded_blas(session)}")
        with synthetic_frame(session, generate(100_000)) as small:
            for fit in both(small, 10).values():
                fit(3)
        rows = []
        with synthetic_frame(session, ratings) as frame:
            for rank in map(int, options.ranks.split(",")):
                row: dict[str, Any] = {"rank": rank}
                for name, fit in both(frame, rank).items():
                    longer = 10 if name == "ours" else options.iterations
                    row[name], _ = measure(fit, longer, options.repeats)
                    say(f"{dress}, rank {rank}, {name}: {row[name]}")
                row["mllib_over_ours"] = {
                    key: row["mllib"][key] / row["ours"][key]
                    for key in ("setup", "iteration", "fit_of_10")
                }
                rows.append(row)
        return {"blas": loaded_blas(session), "spark": session.version, "ranks": rows}


def measure_implicit(ratings: Ratings, options: Any) -> dict[str, Any]:
    """Measure the iterations of ``implicit``."""
    confidences = sparse.csr_matrix(
        (1 + ALPHA * ratings.ratings, (ratings.users, ratings.items)), dtype=np.float32
    )
    short, long = PEER_ITERATIONS
    rows = []
    for rank in map(int, options.ranks.split(",")):
        seconds: dict[int, list[float]] = {short: [], long: []}
        for _ in range(options.repeats):
            for n, taken in seconds.items():
                began = time.perf_counter()
                fit_implicit(confidences, rank, REG, n)
                taken.append(time.perf_counter() - began)
        few, more = (statistics.median(taken) for taken in seconds.values())
        row = {"rank": rank, "iteration": (more - few) / (long - short), "seconds": seconds}
        say(f"implicit, rank {rank}: {row}")
        rows.append(row)
    return {"threads": os.cpu_count(), "ranks": rows}


def fit_implicit(
    confidences: Any, rank: int, reg: float, n_iterations: int, seed: int = 1
) -> tuple[Any, Any]:
    """Fit ``implicit``'s ALS, by Cholesky."""
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=rank,
        regularization=reg,
        alpha=1.0,  # The confidences have ours.
        dtype=np.float32,
        use_native=True,
        use_cg=False,
        iterations=n_iterations,
        num_threads=os.cpu_count() or 1,
        random_state=seed,
    )
    model.fit(confidences, show_progress=False)
    return model.user_factors, model.item_factors


def measure_rankings(options: Any) -> dict[str, Any]:
    """Tune each on an inner part, and measure it on the ratings held out."""
    table = np.genfromtxt(options.data, delimiter=",", skip_header=1)
    table = np.random.default_rng(0).permutation(table)
    users, items = (np.unique(table[:, k], return_inverse=True)[1] for k in (0, 1))
    ratings = Ratings(users.astype(np.int32), items.astype(np.int32), np.float32(table[:, 2]))
    train, test = cut(ratings)
    inner, validation = cut(train)
    shape = users.max() + 1, items.max() + 1
    found: dict[str, Any] = {}
    with bench_session("implicit") as session:
        for name, fit in rankers(session, shape, quick=options.quick).items():
            tried = {
                point: rank_measures(model, inner, validation, shape)
                for point, model in fit(inner, None)
            }
            best = max(tried, key=lambda point: tried[point]["ndcg"])
            ((_, model),) = fit(train, best)
            found[name] = {
                "reg_and_alpha": best,
                "validation": tried[best],
                "test": rank_measures(model, train, test, shape),
            }
            say(f"rankings, {name}: {found[name]}")
    popular = np.bincount(train.items, minlength=shape[1]).astype(float)[:, None]
    everybody = np.ones((shape[0], 1))
    found["popular items"] = {"test": rank_measures((everybody, popular), train, test, shape)}
    return {
        "rank": RANK,
        "top": TOP,
        "iterations": ITERATIONS,
        "held_out": HELD_OUT,
        "measures": found,
    }


def cut(ratings: Ratings) -> tuple[Ratings, Ratings]:
    """Hold the last ratings out; their order is random."""
    n = round((1 - HELD_OUT) * ratings.users.size)
    first, last = ([column[part] for column in ratings] for part in (slice(n), slice(n, None)))
    return Ratings(*first), Ratings(*last)


def rankers(session: Any, shape: tuple[int, int], *, quick: bool) -> dict[str, Any]:
    """Return what fits one library's models: of all its points, or of the one that is given."""
    from pyspark.ml.recommendation import ALS as MLlibALS

    import als_spark

    def by_estimator(cls: Any, exponent: str, **params: Any) -> Any:
        def fit(ratings: Ratings, point: Any) -> list[Any]:
            frame = session.createDataFrame(
                list(zip(*(column.tolist() for column in ratings), strict=True)),
                "user int, item int, rating float",
            ).cache()
            points = [point] if point else grid(exponent, quick)
            als = cls(rank=RANK, maxIter=ITERATIONS, implicitPrefs=True, seed=1, **params)
            maps = [{als.regParam: reg, als.alpha: alpha} for reg, alpha in points]
            models = als.fit(frame, maps)
            frame.unpersist()
            return list(zip(points, (spread(model, shape) for model in models), strict=True))

        return fit

    def implicit(ratings: Ratings, point: Any) -> list[Any]:
        def one(reg: float, alpha: float) -> Any:
            values = 1 + alpha * ratings.ratings
            matrix = sparse.csr_matrix((values, (ratings.users, ratings.items)), shape)
            return fit_implicit(matrix, RANK, reg, ITERATIONS)

        points = [point] if point else grid("exponent 0", quick)
        return [(point, one(*point)) for point in points]

    return {
        "als_spark, exponent 1": by_estimator(als_spark.ALS, "exponent 1"),
        "als_spark, exponent 0": by_estimator(als_spark.ALS, "exponent 0", regExponent=0.0),
        "MLlib": by_estimator(MLlibALS, "exponent 1"),
        "implicit": implicit,
    }


def grid(exponent: str, quick: bool) -> list[tuple[float, float]]:
    """Pairs of λ and α."""
    points = [(reg, alpha) for reg in REGS[exponent] for alpha in ALPHAS]
    return points[5:7] if quick else points


def spread(model: Any, shape: tuple[int, int]) -> tuple[Any, Any]:
    """Return an estimator's factors by id; zeros for ids that it has not seen."""
    sides = []
    for frame, n in zip((model.userFactors, model.itemFactors), shape, strict=True):
        factors = np.zeros((n, RANK))
        for row in frame.collect():
            factors[row.id] = row.features
        sides.append(factors)
    return sides[0], sides[1]


def rank_measures(
    model: tuple[Any, Any], train: Ratings, held_out: Ratings, shape: tuple[int, int]
) -> dict[str, float]:
    """NDCG, recall and MAP at 10 of users with ratings in both parts, means over these users."""
    seen, relevant = np.zeros(shape, bool), np.zeros(shape, bool)
    seen[train.users, train.items] = True
    relevant[held_out.users, held_out.items] = True
    known = seen.any(axis=1) & relevant.any(axis=1)
    scores = model[0][known] @ model[1].T
    # What nobody has rated in training cannot be recommended, what a user has rated is not.
    scores[seen[known] | ~seen.any(axis=0)] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    hits = np.take_along_axis(relevant[known], best, axis=1)
    n_relevant = relevant[known].sum(axis=1)
    discounts = 1 / np.log2(np.arange(2, TOP + 2))
    ideal = np.minimum(n_relevant, TOP)
    precisions = np.cumsum(hits, axis=1) / np.arange(1, TOP + 1)
    return {
        "users": int(known.sum()),
        "ndcg": float((hits @ discounts / np.cumsum(discounts)[ideal - 1]).mean()),
        "recall": float((hits.sum(axis=1) / n_relevant).mean()),
        "map": float(((hits * precisions).sum(axis=1) / ideal).mean()),
    }


if __name__ == "__main__":
    sys.exit(main())
