"""From packed ratings to what rankings are measured by, where the ratings are.

Which users are ranked is decided on the driver, from the rows of all users with relevant held-out
ratings; each block then gathers the training items and the relevant items of its own ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import numpy as np
from pyspark import RDD, Broadcast, SparkContext, StorageLevel

from als_spark.spark.prepare.pack import Entry, HeldOut
from als_spark.spark.session import broadcasted, described
from als_spark.spark.train.exchange import TrainSlice
from als_spark.spark.train.partitioned import PartitionedRankings
from als_spark.train.metrics import SideStats
from als_spark.train.ranking import (
    LocalRankings,
    Pairs,
    Ranker,
    RankingPart,
    RankingRule,
    build_ranking_part,
    relevant_pairs,
)
from als_spark.types import IntArray, Side, SplitName

UsersBySplit = dict[SplitName, IntArray]
"""Rows of users of each held-out part, rising."""


class Relevance(NamedTuple):
    """Which held-out ratings are relevant: see :func:`als_spark.train.ranking.relevant_pairs`."""

    user_degrees: IntArray
    relevant_from: float

    def pairs(self, held: HeldOut) -> Pairs:
        """Keep the relevant pairs of held-out ratings."""
        return relevant_pairs(*held[1:], **self._asdict())


class RankedPairs(NamedTuple):
    """All pairs of some blocks that the rankings of chosen users need."""

    rated: Pairs
    relevant: Mapping[SplitName, Pairs]

    @staticmethod
    def join(parts: Iterable[RankedPairs]) -> RankedPairs:
        """Put the pairs of several blocks together."""
        found = list(parts)
        splits = sorted({split for part in found for split in part.relevant})
        return RankedPairs(
            Pairs.join(part.rated for part in found),
            {
                split: Pairs.join(p.relevant[split] for p in found if split in p.relevant)
                for split in splits
            },
        )

    def parts(self, users: UsersBySplit, places: IntArray) -> Iterator[RankingPart]:
        """Build the parts of the chosen users that have relevant pairs here."""
        for split, relevant in self.relevant.items():
            here = np.intersect1d(users[split], relevant.users)
            if here.size:
                yield build_ranking_part(split, here, self.rated, relevant, places)


def collect_rankings(
    entries: Iterable[Entry], stats: Mapping[Side, SideStats], rule: RankingRule
) -> LocalRankings:
    """Gather what rankings are measured by from all entries, in this process."""
    entries = list(entries)
    relevance, ranker = _relevance(stats, rule)
    chosen = _choose(users_with_relevant(entries, relevance), rule)
    parts = pairs_of(entries, chosen, relevance).parts(chosen, ranker.places)
    return LocalRankings(ranker, list(parts))


def place_rankings(
    context: SparkContext,
    entries: RDD[Entry],
    stats: Mapping[Side, SideStats],
    shared_users: IntArray,
    rule: RankingRule,
    resources: ExitStack,
) -> PartitionedRankings:
    """Gather what rankings are measured by on the executors, persisted until the resources end.

    The ratings of the rows ``shared_users`` are in all blocks: their parts come to the driver.
    """
    relevance, ranker = _relevance(stats, rule)
    shared_relevance = resources.enter_context(broadcasted(context, relevance))
    with described(context, "choosing the users to rank"):
        find = partial(users_of_partition, relevance=shared_relevance)
        chosen = _choose(entries.mapPartitions(find).collect(), rule)
    whole = {split: np.setdiff1d(rows, shared_users) for split, rows in chosen.items()}
    split_up = {split: np.intersect1d(rows, shared_users) for split, rows in chosen.items()}
    shared: list[RankingPart] = []
    if any(rows.size for rows in split_up.values()):
        with (
            described(context, "gathering the users in all blocks to rank"),
            broadcasted(context, split_up) as users,
        ):
            gather = partial(pairs_of_partition, users=users, relevance=shared_relevance)
            found = entries.mapPartitions(gather).collect()
        shared += RankedPairs.join(found).parts(split_up, ranker.places)
    users = resources.enter_context(broadcasted(context, whole))
    places = resources.enter_context(broadcasted(context, ranker.places))
    build = partial(parts_of_partition, users=users, relevance=shared_relevance, places=places)
    parts = entries.mapPartitions(build, preservesPartitioning=True)
    parts.setName("als_spark: rankings")
    parts.persist(StorageLevel.MEMORY_AND_DISK_DESER)
    resources.callback(parts.unpersist)
    with described(context, "gathering the users to rank"):
        parts.count()
    return PartitionedRankings(ranker, parts, shared)


def _relevance(stats: Mapping[Side, SideStats], rule: RankingRule) -> tuple[Relevance, Ranker]:
    relevant_from = rule.threshold(stats["user"].mean)
    ranker = Ranker(rule.top, relevant_from, stats["item"].degrees)
    return Relevance(stats["user"].degrees, relevant_from), ranker


def _choose(found: Iterable[tuple[SplitName, IntArray]], rule: RankingRule) -> UsersBySplit:
    """Choose the users of each part to rank; a shared row may be found in several blocks."""
    by_split: dict[SplitName, list[IntArray]] = {}
    for split, rows in found:
        by_split.setdefault(split, []).append(rows)
    return {split: rule.choose(np.unique(np.concatenate(by_split[split]))) for split in by_split}


def users_with_relevant(
    entries: Iterable[Entry], relevance: Relevance
) -> Iterator[tuple[SplitName, IntArray]]:
    """Find the users that have relevant held-out ratings among some entries."""
    for entry in entries:
        if isinstance(entry, HeldOut):
            yield entry.split, np.unique(relevance.pairs(entry).users)


def pairs_of(entries: Iterable[Entry], users: UsersBySplit, relevance: Relevance) -> RankedPairs:
    """Gather the pairs of chosen users from some entries."""
    anyone = np.unique(np.concatenate([np.zeros(0, np.int32), *users.values()]))
    rated: list[Pairs] = []
    relevant: dict[SplitName, list[Pairs]] = {}
    for entry in entries:
        if isinstance(entry, HeldOut):
            pairs = relevance.pairs(entry).of(users[entry.split])
            relevant.setdefault(entry.split, []).append(pairs)
        elif isinstance(entry, TrainSlice) and entry.side == "user":
            rated.append(Pairs(*entry.ratings.triples()[:2]).of(anyone))
    return RankedPairs(
        Pairs.join(rated), {split: Pairs.join(pairs) for split, pairs in relevant.items()}
    )


def users_of_partition(
    entries: Iterable[Entry], *, relevance: Broadcast[Relevance]
) -> Iterator[tuple[SplitName, IntArray]]:
    """Find the users with relevant ratings of a partition: runs on an executor."""
    yield from users_with_relevant(entries, relevance.value)


def pairs_of_partition(
    entries: Iterable[Entry], *, users: Broadcast[UsersBySplit], relevance: Broadcast[Relevance]
) -> Iterator[RankedPairs]:
    """Gather the pairs of chosen users from a partition: runs on an executor."""
    yield pairs_of(entries, users.value, relevance.value)


def parts_of_partition(
    entries: Iterable[Entry],
    *,
    users: Broadcast[UsersBySplit],
    relevance: Broadcast[Relevance],
    places: Broadcast[IntArray],
) -> Iterator[RankingPart]:
    """Build the ranking parts of a partition: runs on an executor."""
    pairs = pairs_of(entries, users.value, relevance.value)
    yield from pairs.parts(users.value, places.value)
