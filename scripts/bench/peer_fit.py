"""Train one peer on the ratings of a folder; run by the interpreter of that peer's environment.

``peer_fit.py NAME FOLDER``: ``problem.npz`` has the ratings, ``points.json`` the settings to choose
from. The best of them on the inner part is trained on all training ratings; ``predicted.npy`` then
has the predictions of the test pairs, ``found.json`` the settings and the seconds. It imports
nothing of this project, which the environments of peers do not have.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SEED = 0


class Ratings(NamedTuple):
    """Ratings of dense users and items."""

    users: Any
    items: Any
    values: Any

    def take(self, chosen: Any) -> Ratings:
        """Return some of them."""
        return Ratings(*(column[chosen] for column in self))


Point = dict[str, Any]
Fit = Callable[[Point, Ratings, Ratings, tuple[int, int]], Any]
"""Predicts the pairs of the second ratings from the first."""


def main(name: str, folder: Path) -> None:
    """Tune, train, predict."""
    with np.load(folder / "problem.npz") as arrays:
        train = Ratings(arrays["users"], arrays["items"], arrays["values"])
        test = Ratings(arrays["test_users"], arrays["test_items"], arrays["test_values"])
        inner, sizes = arrays["inner"], tuple(arrays["sizes"].tolist())
    points, fit = json.loads((folder / "points.json").read_text()), FITS[name]
    began = time.perf_counter()
    best = points[0]
    if len(points) > 1:
        fitted, left = train.take(~inner), train.take(inner)
        errors = [np.mean((fit(p, fitted, left, sizes) - left.values) ** 2) for p in points]
        best = points[int(np.argmin(errors))]
    tuned = time.perf_counter()
    # The values of the test ratings stay here.
    pairs = test._replace(values=np.zeros(test.users.size))
    np.save(folder / "predicted.npy", np.asarray(fit(best, train, pairs, sizes), np.float64))
    found = {"point": best, "fit": time.perf_counter() - tuned, "tuning": tuned - began}
    (folder / "found.json").write_text(json.dumps(found))


def by_surprise(point: Point, train: Ratings, test: Ratings, _: tuple[int, int]) -> Any:
    """Surprise's algorithms, which keep predictions within the scale of the ratings."""
    import pandas as pd
    import surprise

    options = dict(point)
    made = getattr(surprise, options.pop("algorithm"))
    if "sim_options" not in options:
        options["random_state"] = SEED
    else:
        options["verbose"] = False
    scale = surprise.Reader(rating_scale=(float(train.values.min()), float(train.values.max())))
    frame = pd.DataFrame({"user": train.users, "item": train.items, "rating": train.values})
    known = surprise.Dataset.load_from_df(frame, scale).build_full_trainset()
    model = made(**options).fit(known)
    return [
        model.predict(user, item).est
        for user, item in zip(test.users.tolist(), test.items.tolist(), strict=True)
    ]


def by_lenskit(point: Point, train: Ratings, test: Ratings, _: tuple[int, int]) -> Any:
    """LensKit's BiasedMF; users and items that it does not know by its biases."""
    import pandas as pd
    from lenskit.als import BiasedMFScorer
    from lenskit.basic import BiasScorer
    from lenskit.data import ItemList, RecQuery, from_interactions_df
    from lenskit.training import TrainingOptions

    columns = {"user_id": train.users, "item_id": train.items, "rating": train.values}
    known = from_interactions_df(pd.DataFrame(columns))
    scorers = BiasedMFScorer(**point), BiasScorer(damping=5.0)
    for scorer in scorers:
        scorer.train(known, TrainingOptions(rng=SEED))
    predicted = np.empty(test.users.size)
    order = np.argsort(test.users, kind="stable")
    for places in np.split(order, np.flatnonzero(np.diff(test.users[order])) + 1):
        query = RecQuery(user_id=test.users[places[0]])
        items = ItemList(item_ids=test.items[places])
        own, other = (scorer(query, items).scores("numpy") for scorer in scorers)
        predicted[places] = np.where(np.isnan(own), other, own)
    return predicted


def by_myfm(point: Point, train: Ratings, test: Ratings, sizes: tuple[int, int]) -> Any:
    """Gibbs sampler of myFM: the user and the item of a rating, and what both are rated with."""
    from myfm import MyFMRegressor, RelationBlock
    from scipy import sparse

    options = dict(point)
    rank, implicit = options.pop("rank"), options.pop("implicit")
    rated = sparse.csr_matrix((np.ones(train.users.size), (train.users, train.items)), shape=sizes)
    tables, counts = [], []
    for matrix in (rated, rated.T.tocsr()):
        parts = [sparse.identity(matrix.shape[0], format="csr")]
        if implicit:
            # As SVD++ has them: 1 / sqrt(n) for each of the n items of a user, or users of an item.
            roots = 1 / np.sqrt(np.maximum(np.diff(matrix.indptr), 1))
            parts.append(sparse.diags(roots) @ matrix)
        tables.append(sparse.hstack(parts, format="csr"))
        counts += [part.shape[1] for part in parts]

    def blocks(known: Ratings) -> list[Any]:
        pairs = zip(known[:2], tables, strict=True)
        return [RelationBlock(rows.astype(np.int64), table) for rows, table in pairs]

    model = MyFMRegressor(rank=rank, random_seed=SEED)
    nothing = [sparse.csr_matrix((known.users.size, 0)) for known in (train, test)]
    model.fit(nothing[0], train.values, X_rel=blocks(train), group_shapes=counts, **options)
    return model.predict(nothing[1], X_rel=blocks(test))


def by_mllib(point: Point, train: Ratings, test: Ratings, _: tuple[int, int]) -> Any:
    """MLlib's ALS; pairs of which it does not know both by the mean of the ratings."""
    import pandas as pd
    from pyspark.ml.recommendation import ALS
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.shuffle.partitions", "4").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    # Without it 20 iterations make a plan too deep for the stacks of the JVM.
    session.sparkContext.setCheckpointDir(tempfile.mkdtemp(dir=sys.argv[2]))

    def frame(known: Ratings) -> Any:
        columns = {"user": known.users, "item": known.items, "rating": known.values}
        return session.createDataFrame(pd.DataFrame(columns).reset_index())

    model = ALS(seed=SEED, maxIter=20, **point).fit(frame(train))
    found = model.transform(frame(test)).select("index", "prediction").toPandas()
    predicted = found.sort_values("index")["prediction"].to_numpy(np.float64)
    return np.where(np.isnan(predicted), train.values.mean(), predicted)


FITS: dict[str, Fit] = {
    "surprise": by_surprise,
    "lenskit": by_lenskit,
    "myfm": by_myfm,
    "mllib": by_mllib,
}

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
