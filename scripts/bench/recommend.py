"""Against Spark MLlib's recommendForAllUsers: the best items of every user, from the same factors.

One iteration of MLlib's ALS, on ratings that leave no user and no item out, gives factors; MLlib
and ours recommend from these, each to a full materialisation of the result (Spark's ``noop``
format). Ours is also timed through the estimator's model, while it leaves out every rated pair,
which MLlib does not offer, and its core alone, in one process. The two results are compared: every
score, to 1e-4.

Beside it stands ``transform``: the predictions of random pairs by MLlib's model and by the
estimator's, in both of its ways, by broadcast factors and by joins.

MLlib stands in the two dresses of ``scripts/bench/mllib.py``, each in a Spark of its own.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from scripts.bench.common import (
    bench_parser,
    bench_session,
    run_child,
    synthetic_frame,
    write_result,
)
from scripts.bench.mllib import DRESSES, SHORT_SECONDS, loaded_blas, say
from scripts.bench.plots import draw_recommended
from scripts.bench.synthetic import N_ITEMS, N_USERS, Ratings, generate

TOLERANCE = 1e-4
"""Largest difference of two scores of one place, which are about 1 to 5: MLlib's are float32."""


def main(argv: list[str] | None = None) -> int:
    """Run the comparison, each dress in a process of its own."""
    parser = bench_parser(__doc__, ratings=1_000_000, ranks="50")
    parser.add_argument("--top", type=int, default=10, metavar="N")
    parser.add_argument("--pairs", type=int, default=10_000_000, metavar="N")
    parser.add_argument("--dresses", default=",".join(DRESSES), help="pip, native or both")
    parser.add_argument("--child", choices=DRESSES, help="measure one dress and print it")
    options = parser.parse_args(argv)
    if options.quick:
        options.ratings, options.ranks, options.repeats = 10_000, "10", 1
        options.pairs = 20_000
    if options.child:
        print(json.dumps(measure_dress(options.child, options)))
        return 0
    dresses = {}
    for dress in options.dresses.split(","):
        command = [sys.executable, "-m", "scripts.bench.recommend", "--child", dress]
        for name in ("ratings", "ranks", "repeats", "top", "pairs"):
            command += [f"--{name}", str(getattr(options, name))]
        command += ["--quick"] if options.quick else []
        submit = os.environ.get("PYSPARK_SUBMIT_ARGS", "pyspark-shell")
        submit = f'--conf "spark.driver.extraJavaOptions={DRESSES[dress]}" {submit}'
        environment = os.environ | {"PYSPARK_SUBMIT_ARGS": submit, "OPENBLAS_NUM_THREADS": "1"}
        dresses[dress] = run_child(command, environment)
    users, items = sizes(options.quick)
    result = {
        "question": "MLlib's recommendForAllUsers against ours, from the same factors",
        "users": users,
        "items": items,
        "top": options.top,
        "ratings_left_out": options.ratings,
        "pairs": options.pairs,
        "repeats": options.repeats,
        "not_repeated_above_seconds": SHORT_SECONDS,
        "dresses": dresses,
    }
    write_result(options.output, "recommend", result)
    draw_recommended(result, options.output / "recommend.png")
    return 0


def sizes(quick: bool) -> tuple[int, int]:
    """Users and items."""
    return (1000, 300) if quick else (N_USERS, N_ITEMS)


def measure_dress(dress: str, options: Any) -> dict[str, Any]:
    """Measure MLlib in one dress, and ours in the same Spark."""
    n_users, n_items = sizes(options.quick)
    ratings = cover(generate(options.ratings, n_users, n_items), n_users, n_items)
    with bench_session("recommend") as session, synthetic_frame(session, ratings) as frame:
        loaded = loaded_blas(session)
        say(f"{dress}: MLlib's BLAS is {loaded}")
        if not options.quick:
            warm_up(session, options.top)
        rows = [
            measure_rank(session, frame, ratings, rank, options)
            for rank in map(int, options.ranks.split(","))
        ]
        return {
            "blas": loaded,
            "master": session.sparkContext.master,
            "spark": session.version,
            "ranks": rows,
        }


def measure_rank(
    session: Any, frame: Any, ratings: Ratings, rank: int, options: Any
) -> dict[str, Any]:
    """Measure one rank, and compare the results."""
    from als_spark import ALSModel
    from als_spark.solve.topk import top_items
    from als_spark.spark.predict.recommend import recommend_for_all

    fitted = fit_mllib(frame, rank)
    model = as_model(fitted, ratings)
    estimated = ALSModel.fromFactorModel(session, model)

    def mllib() -> None:
        materialise(fitted.recommendForAllUsers(options.top))

    def ours(seen: Any = None) -> None:
        with recommend_for_all(session, model, top=options.top, seen=seen) as found:
            materialise(found)

    def estimator(seen: Any = None) -> None:
        materialise(estimated.recommendForAllUsers(options.top, excludeSeen=seen))

    seconds = {
        "estimator": repeated(estimator, options.repeats),
        "estimator_without_rated": repeated(lambda: estimator(frame), options.repeats),
        "ours": repeated(ours, options.repeats),
        "ours_without_rated": repeated(lambda: ours(frame), options.repeats),
        "mllib": repeated(mllib, options.repeats),
        "core": repeated(lambda: top_items(*model.factors, options.top), options.repeats),
    }
    row: dict[str, Any] = {
        "rank": rank,
        "seconds": {name: statistics.median(taken) for name, taken in seconds.items()},
        "all_seconds": seconds,
    }
    row["mllib_over_ours"] = row["seconds"]["mllib"] / row["seconds"]["ours"]
    row["mllib_over_estimator"] = row["seconds"]["mllib"] / row["seconds"]["estimator"]
    row["transform"] = measure_transform(session, fitted, estimated, options)
    with recommend_for_all(session, model, top=options.top) as found:
        row["agreement"] = compare(found, fitted.recommendForAllUsers(options.top))
    say(f"rank {rank}: {row}")
    return row


def measure_transform(
    session: Any, fitted: Any, estimated: Any, options: Any
) -> dict[str, dict[str, float] | float]:
    """Measure the predictions of random pairs, which are in memory."""
    from als_spark.ml import predict

    n_users, n_items = sizes(options.quick)
    pairs = session.range(options.pairs).selectExpr(
        f"cast(pmod(xxhash64(id), {n_users}) as int) user",
        f"cast(pmod(xxhash64(id, 1), {n_items}) as int) item",
    )
    pairs = pairs.persist()
    pairs.count()
    limit = predict.BROADCAST_BYTES

    def run(model: Any, bytes_broadcast: int = limit) -> list[float]:
        predict.BROADCAST_BYTES = bytes_broadcast
        try:
            return repeated(lambda: materialise(model.transform(pairs)), options.repeats)
        finally:
            predict.BROADCAST_BYTES = limit

    seconds = {
        "arrow": statistics.median(run(estimated)),
        "joins": statistics.median(run(estimated, 0)),
        "mllib": statistics.median(run(fitted)),
    }
    pairs.unpersist()
    return {"seconds": seconds, "mllib_over_arrow": seconds["mllib"] / seconds["arrow"]}


def cover(ratings: Ratings, n_users: int, n_items: int) -> Ratings:
    """Add a rating for each user and each item that has none."""
    users = np.setdiff1d(np.arange(n_users), ratings.users)
    items = np.setdiff1d(np.arange(n_items), ratings.items)
    n = users.size + items.size
    # The partner is any: those without a rating cannot be in a pair that is there already.
    return Ratings(
        np.concatenate([ratings.users, users, ratings.users[: items.size]]).astype(np.int32),
        np.concatenate([ratings.items, ratings.items[: users.size], items]).astype(np.int32),
        np.concatenate([ratings.ratings, np.full(n, 3.0)]).astype(np.float32),
    )


def warm_up(session: Any, top: int) -> None:
    """Let the JVM compile both on small data, so that no run that counts pays for it."""
    from als_spark.spark.predict.recommend import recommend_for_all

    ratings = cover(generate(30_000, 3000, 700), 3000, 700)
    with synthetic_frame(session, ratings) as frame:
        fitted = fit_mllib(frame, 10)
        model = as_model(fitted, ratings)
        for _ in range(2):
            materialise(fitted.recommendForAllUsers(top))
            with recommend_for_all(session, model, top=top, seen=frame) as found:
                materialise(found)


def fit_mllib(frame: Any, rank: int) -> Any:
    """Fit one iteration of MLlib's ALS; its factors are in memory afterwards."""
    from pyspark.ml.recommendation import ALS

    columns = {"userCol": "user", "itemCol": "item", "ratingCol": "rating"}
    fitted = ALS(rank=rank, maxIter=1, regParam=0.1, seed=1, **columns).fit(frame)
    for factors in (fitted.userFactors, fitted.itemFactors):
        factors.persist().count()
    return fitted


def as_model(fitted: Any, ratings: Ratings) -> Any:
    """Make a model of ours from MLlib's factors."""
    from als_spark.model.factor_model import FactorModel
    from als_spark.model.ids import IdIndex
    from als_spark.train.backend import Factors
    from als_spark.train.metrics import SideStats

    ids, factors, stats = [], [], []
    for part, rows in ((fitted.userFactors, ratings.users), (fitted.itemFactors, ratings.items)):
        found = part.orderBy("id").collect()
        own = np.array([row.id for row in found])
        ids.append(IdIndex(pa.array(own, pa.int64())))
        factors.append(np.array([row.features for row in found], np.float32))
        counts = np.bincount(rows, minlength=own[-1] + 1)[own]
        sums = np.bincount(rows, ratings.ratings, minlength=own[-1] + 1)[own]
        stats.append(SideStats(counts.astype(np.int32), sums))
    return FactorModel(*ids, Factors(*factors), *stats)


def materialise(frame: Any) -> None:
    """Compute every row and column of a DataFrame, and throw them away."""
    frame.write.format("noop").mode("overwrite").save()


def repeated(work: Callable[[], None], repeats: int) -> list[float]:
    """Seconds of each of a few runs; a long one is not repeated."""
    seconds: list[float] = []
    while len(seconds) < repeats and (not seconds or seconds[0] < SHORT_SECONDS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def compare(ours: Any, mllib: Any) -> dict[str, Any]:
    """Compare the two results, place by place.

    Raises
    ------
    RuntimeError
        If they differ by more than MLlib's rounding.
    """
    lists = []
    for frame, score in ((ours, "score"), (mllib, "rating")):
        columns = ("user", "recommendations.item", f"recommendations.{score}")
        found = frame.select(*columns).orderBy("user").collect()
        users, items, scores = (np.array(column) for column in zip(*found, strict=True))
        lists.append((users, items, scores.astype(np.float64)))
    (users, items, scores), (their_users, their_items, their_scores) = lists
    if not np.array_equal(users, their_users) or scores.shape != their_scores.shape:
        raise RuntimeError("the two results do not answer the same users")
    worst = float(np.abs(scores - their_scores).max())
    if worst > TOLERANCE:
        raise RuntimeError(f"the scores of the two results differ by up to {worst:g}")
    return {
        "users": int(users.size),
        "largest_difference_of_scores": worst,
        "share_of_equal_items": float((items == their_items).mean()),
    }


if __name__ == "__main__":
    sys.exit(main())
