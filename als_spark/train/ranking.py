"""Ranking measures: how well a model's best items match the held-out ratings that are relevant.

For each user with a relevant held-out rating, all items with training ratings are scored, the
user's own training items are left out, and the ``top`` best are compared with the relevant ones.
Relevance is binary. The measures are those of pyspark's ``RankingEvaluator``: with k = ``top``, the
n relevant items of a user, and hits h_i (1 where place i has a relevant item, else 0)

- NDCG = Σ_{i ≤ k} h_i / log2(i + 1), divided by the same sum with all h_i = 1 up to min(k, n)
  (Järvelin and Kekäläinen 2002);
- recall = Σ_{i ≤ k} h_i / n, precision = Σ_{i ≤ k} h_i / k;
- MAP = Σ_{i ≤ k} h_i (h_1 + … + h_i) / i, divided by min(k, n);

each the mean over the users. Equal scores go to the item with the smaller row (rows are numbered by
falling number of ratings). A relevant item without training ratings cannot be recommended, and
counts as missed. Users without training ratings are not ranked: the model does not know them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from als_spark.errors import DataError
from als_spark.solve.topk import Seen, top_items
from als_spark.train.backend import FactorPair, Factors, as_array
from als_spark.train.records import RankingMeans
from als_spark.types import FloatArray, IntArray, SplitName

MEAN_SLACK = 1e-6
"""The default threshold lies below the mean by this share of it, so that ratings that are all the
same are all relevant, whatever rounding does to their mean."""
CHUNK_PLACES = 1 << 21
"""Recommendations that are compared with the relevant items at a time."""


@dataclass(frozen=True, slots=True)
class RankingRule:
    """What the ranking measures are over.

    Attributes
    ----------
    top : int
        Places k of each user's ranking that count.
    relevant_from : float, optional
        Held-out ratings from here on are relevant; the mean of the training ratings if not given.
    max_users : int
        Users of each part that are ranked, at most; which ones, a hash of the seed and their row
        decides.
    seed : int
        Of the choice of users.
    """

    top: int = 10
    relevant_from: float | None = None
    max_users: int = 20_000
    seed: int = 0

    def threshold(self, mean: float) -> float:
        """Return the smallest relevant rating, where the training ratings have this mean."""
        if self.relevant_from is not None:
            return self.relevant_from
        return mean - MEAN_SLACK * abs(mean)

    def choose(self, users: IntArray) -> IntArray:
        """Choose among the rows of users: those with the smallest hashes, by rising row."""
        if users.size > self.max_users:
            users = users[np.argsort(_hashes(users, self.seed), kind="stable")[: self.max_users]]
        return np.sort(users)


def _hashes(rows: IntArray, seed: int) -> IntArray:
    """Hash rows with a seed: SplitMix64 (Steele, Lea and Flood 2014), one to one for each seed."""
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    start = np.uint64((seed * 0xD1B54A32D192ED03) & mask)
    mixed = (rows.astype(np.uint64) ^ start) * np.uint64(golden)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


class Lists(NamedTuple):
    """Items of each of n users by any number: (n + 1,) offsets from 0, and the items."""

    offsets: IntArray
    items: FloatArray


class Pairs(NamedTuple):
    """Pairs of users and items, by dense row."""

    users: IntArray
    items: IntArray

    @staticmethod
    def join(parts: Iterable[Pairs]) -> Pairs:
        """Put pairs of several parts together."""
        none = np.zeros(0, np.int32)
        users, items = zip((none, none), *parts, strict=True)
        return Pairs(np.concatenate(users), np.concatenate(items))

    def of(self, users: IntArray) -> Pairs:
        """Keep those of some users, whose rows rise."""
        if users.size == 0:
            return Pairs(self.users[:0], self.items[:0])
        places = np.minimum(np.searchsorted(users, self.users), users.size - 1)
        kept = users[places] == self.users
        return Pairs(self.users[kept], self.items[kept])


def relevant_pairs(
    users: IntArray,
    items: IntArray,
    ratings: FloatArray,
    *,
    user_degrees: IntArray,
    relevant_from: float,
) -> Pairs:
    """Keep the relevant ones of held-out ratings, of users with training ratings.

    Parameters
    ----------
    users, items : (n,) int
        Dense rows.
    ratings : (n,) float64
        As they were read: rounded to float32, a rating of just ``relevant_from`` may fall below.
    user_degrees : (n_users,) int
        Training ratings of each user.
    relevant_from : float
    """
    kept = (ratings >= relevant_from) & (user_degrees[users] > 0)
    return Pairs(users[kept], items[kept])


@dataclass(frozen=True, slots=True)
class RankingPart:
    """Some users of a part of the ratings, with all that their rankings are measured by.

    Items go by their place among the trained ones, those with training ratings; −1 is any other.

    Attributes
    ----------
    split : {"validation", "test"}
    users : (n,) int
        Dense rows, rising.
    seen : Seen
        The items of each user's training ratings.
    relevant : Seen
        The relevant held-out items of each user: at least one, each once.
    """

    split: SplitName
    users: IntArray
    seen: Seen
    relevant: Seen

    def sums(self, model: Factors, top: int) -> RankingSums:
        """Sum the measures of a model, whose items are the trained ones.

        NaN where a factor is not finite.
        """
        height = max(CHUNK_PLACES // max(min(top, model.items.shape[0]), 1), 1)
        chunks = (slice(k, k + height) for k in range(0, self.users.size, height))
        try:
            return RankingSums.join(self._chunk_sums(model, top, chunk) for chunk in chunks)
        except DataError:
            nan = math.nan
            return RankingSums(nan, nan, nan, nan, self.users.size, np.zeros(0, np.int32))

    def _chunk_sums(self, model: Factors, top: int, chunk: slice) -> RankingSums:
        """Sum the measures over neighbouring users: see the module's formulas."""
        n_items = model.items.shape[0]
        seen, relevant = _lists_of(self.seen, chunk), _lists_of(self.relevant, chunk)
        # There are no more places than items.
        found = top_items(model.users[self.users[chunk]], model.items, min(top, n_items), seen)
        n_relevant = np.diff(relevant.indptr)
        owners = np.repeat(np.arange(n_relevant.size), n_relevant)
        wanted = (owners * n_items + relevant.indices)[relevant.indices >= 0]
        keys = np.arange(n_relevant.size)[:, None] * n_items + found.rows
        hits = np.isin(keys, wanted) & (found.rows >= 0)

        ndcg, recall, precision, at_hits = map(math.fsum, measures_of_hits(hits, n_relevant, top))
        items = np.unique(found.rows[found.rows >= 0])
        return RankingSums(ndcg, recall, precision, at_hits, n_relevant.size, items)


class UserMeasures(NamedTuple):
    """(n,) float64 measures of each user: see the module's formulas."""

    ndcg: FloatArray
    recall: FloatArray
    precision: FloatArray
    map: FloatArray


def measures_of_hits(hits: npt.NDArray[np.bool_], n_relevant: IntArray, top: int) -> UserMeasures:
    """Measure the lists of some users.

    Parameters
    ----------
    hits : (n, places) bool
        Whether the item in each place is relevant; there are at most ``top`` places.
    n_relevant : (n,) int
        Relevant items of each user, at least one.
    top : int
        k.
    """
    places = np.arange(1, hits.shape[1] + 1)
    ideal = np.minimum(n_relevant, top)
    gains = np.cumsum(1 / np.log2(np.arange(2, 2 + ideal.max(initial=0))))
    n_hits = hits.sum(axis=1)
    precision_at_hits = (hits * np.cumsum(hits, axis=1) / places).sum(axis=1)
    return UserMeasures(
        (hits / np.log2(1 + places)).sum(axis=1) / gains[ideal - 1],
        n_hits / n_relevant,
        n_hits / top,
        precision_at_hits / ideal,
    )


def hits_of_lists(found: Lists, relevant: Lists, n_places: int) -> npt.NDArray[np.bool_]:
    """(n, n_places) Whether the item in each place of each user's list is among the relevant ones.

    Lists are shorter than ``n_places`` or as long.
    """
    codes = np.unique(np.concatenate([found.items, relevant.items]), return_inverse=True)[1]
    lengths = np.diff(found.offsets)
    owners = np.repeat(np.arange(lengths.size), lengths)
    wanted_by = np.repeat(np.arange(lengths.size), np.diff(relevant.offsets))
    n_codes = codes.size + 1
    keys = owners * n_codes + codes[: found.items.size]
    wanted = wanted_by * n_codes + codes[found.items.size :]
    hits = np.zeros((lengths.size, n_places), bool)
    places = np.arange(owners.size) - np.repeat(found.offsets[:-1], lengths)
    hits[owners, places] = np.isin(keys, wanted)
    return hits


def build_ranking_part(
    split: SplitName, users: IntArray, rated: Pairs, relevant: Pairs, places: IntArray
) -> RankingPart:
    """Gather what the rankings of some users are measured by.

    Parameters
    ----------
    split : {"validation", "test"}
    users : (n,) int
        Dense rows, rising; each has a relevant pair.
    rated, relevant : Pairs
        Training ratings and relevant held-out ones; pairs of other users are passed over.
    places : (n_items,) int
        Place of each item among the trained ones, −1 for any other: see :meth:`Ranker.places`.
    """
    relevant = relevant.of(users)
    pairs = np.unique(np.stack(relevant), axis=1)
    return RankingPart(
        split,
        users,
        _lists(users, rated.of(users), places),
        _lists(users, Pairs(pairs[0], pairs[1]), places),
    )


def _lists(users: IntArray, pairs: Pairs, places: IntArray) -> Seen:
    """List the items of each user."""
    owners = np.searchsorted(users, pairs.users)
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=users.size)
    return Seen(np.concatenate([[0], np.cumsum(counts)]), places[pairs.items[order]])


def _lists_of(lists: Seen, chunk: slice) -> Seen:
    """Take the lists of neighbouring users."""
    indptr = lists.indptr[chunk.start : chunk.stop + 1]
    return Seen(indptr - indptr[0], lists.indices[indptr[0] : indptr[-1]])


@dataclass(frozen=True, slots=True)
class RankingSums:
    """Sums of the measures over ``users`` users; ``items`` are the places of all recommended ones.

    Sums of disjoint parts add up; exactly rounded, so that their order does not matter.
    """

    ndcg: float
    recall: float
    precision: float
    map: float
    users: int
    items: IntArray

    @staticmethod
    def join(parts: Iterable[RankingSums]) -> RankingSums:
        """Add up the sums of some parts."""
        sums = list(parts)
        return RankingSums(
            math.fsum(part.ndcg for part in sums),
            math.fsum(part.recall for part in sums),
            math.fsum(part.precision for part in sums),
            math.fsum(part.map for part in sums),
            sum(part.users for part in sums),
            np.unique(np.concatenate([np.zeros(0, np.int32), *(part.items for part in sums)])),
        )


@dataclass(frozen=True, slots=True)
class Ranker:
    """What all rankings of a run share.

    Attributes
    ----------
    top : int
        k of the measures.
    relevant_from : float
        The smallest relevant rating.
    item_degrees : (n_items,) int
        Training ratings of each item.
    """

    top: int
    relevant_from: float
    item_degrees: IntArray

    @property
    def trained(self) -> IntArray:
        """Rows of the items that have training ratings: the candidates of every ranking."""
        return np.flatnonzero(self.item_degrees)

    @property
    def places(self) -> IntArray:
        """(n_items,) place of each item among the trained ones, −1 for any other."""
        places = np.full(self.item_degrees.size, -1, np.int32)
        places[self.trained] = np.arange(self.trained.size)
        return places

    def candidates(self, models: Sequence[FactorPair]) -> list[Factors]:
        """Leave the items without training ratings out of models."""
        trained = self.trained
        return [Factors(as_array(users), as_array(items)[trained]) for users, items in models]

    def means(
        self, parts: Iterable[tuple[SplitName, Sequence[RankingSums]]], n_models: int
    ) -> list[Mapping[SplitName, RankingMeans]]:
        """Average what the parts of each split have summed for each model."""
        by_split: dict[SplitName, list[Sequence[RankingSums]]] = {}
        for split, sums in parts:
            by_split.setdefault(split, []).append(sums)
        return [
            {
                split: self._means_of(RankingSums.join(one[k] for one in sums))
                for split, sums in by_split.items()
            }
            for k in range(n_models)
        ]

    def _means_of(self, sums: RankingSums) -> RankingMeans:
        n = sums.users
        return RankingMeans(
            ndcg=sums.ndcg / n,
            recall=sums.recall / n,
            precision=sums.precision / n,
            map=sums.map / n,
            coverage=sums.items.size / self.trained.size,
            users=n,
            top=self.top,
            relevant_from=self.relevant_from,
        )


def popularity(n_users: int, item_degrees: IntArray) -> Factors:
    """Return a baseline as a model of rank 1: the score of an item is its training ratings."""
    # One number, however many users there are.
    ones = np.broadcast_to(np.ones((1, 1)), (n_users, 1))
    return Factors(ones, item_degrees[:, None].astype(np.float64))


def sum_rankings(
    parts: Iterable[RankingPart], models: Sequence[Factors], top: int
) -> Iterator[tuple[SplitName, list[RankingSums]]]:
    """Sum the measures of every model, of the trained items alone, over some parts."""
    for part in parts:
        yield part.split, [part.sums(model, top) for model in models]


class LocalRankings(NamedTuple):
    """Ranking parts held by this process."""

    ranker: Ranker
    parts: Sequence[RankingPart]

    def measure(self, models: Sequence[FactorPair]) -> list[Mapping[SplitName, RankingMeans]]:
        """Measure models on all parts."""
        candidates = self.ranker.candidates(models)
        return self.ranker.means(sum_rankings(self.parts, candidates, self.ranker.top), len(models))
