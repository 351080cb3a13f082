"""Ratings held out by time, and what lists and predictions are worth on them: for ``lists``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from als_spark.model.factor_model import FactorModel
from als_spark.model.recommend import recommend
from als_spark.train.ranking import measures_of_hits

TOP = 10
RESAMPLES = 10_000


class Rated(NamedTuple):
    """Ratings by the ids of their file, with their times; each (n,)."""

    users: Any
    items: Any
    ratings: Any
    times: Any

    def where(self, kept: Any) -> Rated:
        """Take some of them: by a mask or by positions."""
        return Rated(*(column[kept] for column in self))


def read_rated(path: str, *, quick: bool) -> Rated:
    """Read MovieLens' csv; of ``quick``, the ratings of some hundred users."""
    table = np.genfromtxt(path, delimiter=",", skip_header=1)
    rated = Rated(
        table[:, 0].astype(np.int64),
        table[:, 1].astype(np.int64),
        table[:, 2],
        table[:, 3].astype(np.int64),
    )
    return rated.where(rated.users <= 120) if quick else rated


def cut_by_time(rated: Rated, share: float) -> tuple[Rated, Rated]:
    """Hold out the last ratings of all; those of one second stay together, on the earlier side."""
    last = np.sort(rated.times)[round((1 - share) * rated.times.size) - 1]
    return rated.where(rated.times <= last), rated.where(rated.times > last)


def cut_by_user(rated: Rated, share: float) -> tuple[Rated, Rated]:
    """Hold out the last ratings of each user, at least one; of one second, the larger ids."""
    rated = rated.where(np.lexsort((rated.items, rated.times, rated.users)))
    _, first, counts = np.unique(rated.users, return_index=True, return_counts=True)
    places = np.arange(rated.users.size) - np.repeat(first, counts)
    kept = np.repeat(counts - np.maximum(1, np.round(share * counts)), counts)
    return rated.where(places < kept), rated.where(places >= kept)


CUTS = {"by time": cut_by_time, "by user": cut_by_user}


def write_csv(rated: Rated, path: Path) -> str:
    """Write ratings as MovieLens does; return the path."""
    lines = (
        f"{user},{item},{rating:g},{time}" for user, item, rating, time in zip(*rated, strict=True)
    )
    path.write_text("\n".join(["userId,movieId,rating,timestamp", *lines, ""]))
    return str(path)


class Lists(NamedTuple):
    """The first items of some users."""

    users: Any
    """(n,) ids, rising"""
    items: Any
    """(n, TOP) ids, best first; -1 where a list is shorter"""


def lists_of_scores(scores: Any, user_ids: Any, item_ids: Any, train: Rated) -> Lists:
    """Take the items of the largest scores, those that a user has rated in training left out.

    Parameters
    ----------
    scores : (n_users, n_items)
        They are modified. Equal ones go to the smaller item.
    user_ids, item_ids : (n_users,), (n_items,)
        Rising; the items are those of the training.
    """
    asked = np.isin(train.users, user_ids)
    rows = np.searchsorted(user_ids, train.users[asked])
    scores[rows, np.searchsorted(item_ids, train.items[asked])] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    left = np.isfinite(np.take_along_axis(scores, best, axis=1))
    return Lists(user_ids, np.where(left, item_ids[best], -1))


def popular_lists(user_ids: Any, train: Rated) -> Lists:
    """Give everybody the items with the most training ratings that they have not rated."""
    item_ids, counts = np.unique(train.items, return_counts=True)
    scores = np.tile(counts.astype(float), (user_ids.size, 1))
    return lists_of_scores(scores, user_ids, item_ids, train)


def ndcg_of_users(lists: Lists, held_out: Rated) -> Any:
    """(n_users,) NDCG of each user's list; every held-out rating of the user is relevant."""
    n_relevant = np.array([np.count_nonzero(held_out.users == user) for user in lists.users])
    wanted = set(zip(held_out.users.tolist(), held_out.items.tolist(), strict=True))
    hits = np.array(
        [
            [(user, item) in wanted for item in items]
            for user, items in zip(lists.users.tolist(), lists.items.tolist(), strict=True)
        ]
    )
    return measures_of_hits(hits, n_relevant, TOP).ndcg


def paired(ours: Any, theirs: Any) -> dict[str, float]:
    """Mean of the differences, and its 95 % interval by a bootstrap over users.

    Parameters
    ----------
    ours, theirs : (n,)
        What the same users have.
    """
    differences = np.asarray(ours) - np.asarray(theirs)
    draws = np.random.default_rng(0).integers(0, differences.size, (RESAMPLES, differences.size))
    means = differences[draws].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"difference": float(differences.mean()), "low": float(low), "high": float(high)}


def squared_errors(model: FactorModel, held_out: Rated) -> Any:
    """(n,) Squared errors of a model; unknown users and items are predicted by means."""
    predicted = model.predict(held_out.users.tolist(), held_out.items.tolist())
    return (predicted - held_out.ratings) ** 2


def compare_errors(before: Any, after: Any, users: Any) -> dict[str, Any]:
    """RMSEs of two models, and their difference with its interval by a bootstrap over users.

    Parameters
    ----------
    before, after : (n,)
        Squared errors of the same ratings.
    users : (n,)
        Whose ratings they are.
    """
    rows = np.unique(users, return_inverse=True)[1]
    sums = [np.bincount(rows, weights=errors) for errors in (before, after)]
    counts = np.bincount(rows)
    draws = np.random.default_rng(0).integers(0, counts.size, (RESAMPLES, counts.size))
    drawn = [np.sqrt(each[draws].sum(axis=1) / counts[draws].sum(axis=1)) for each in sums]
    low, high = np.quantile(drawn[1] - drawn[0], [0.025, 0.975])
    rmses = [float(np.sqrt(errors.mean())) for errors in (before, after)]
    difference = {"difference": rmses[1] - rmses[0], "low": float(low), "high": float(high)}
    return {"before": rmses[0], "after": rmses[1], "after_minus_before": difference}


def lists_of_table(table: pa.Table, users: Any) -> Lists:
    """Take the lists out of what ``recommend`` gives."""
    rows = {row["user"]: row["recommendations"] for row in table.to_pylist()}
    items = np.full((users.size, TOP), -1, np.int64)
    for k, user in enumerate(users.tolist()):
        best = [entry["item"] for entry in rows[user]]
        items[k, : len(best)] = best
    return Lists(users, items)


def lists_of_model(model: FactorModel, users: Any, known: Rated) -> Lists:
    """Recommend as the job does, in this process."""
    seen = known.users.tolist(), known.items.tolist()
    return lists_of_table(recommend(model, users.tolist(), TOP, seen), users)
