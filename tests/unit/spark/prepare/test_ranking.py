"""What rankings are measured by, gathered from the entries of blocks; no Spark."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from als_spark.solve.blocks import build_block
from als_spark.spark.prepare.pack import HeldOut
from als_spark.spark.prepare.ranking import (
    RankedPairs,
    Relevance,
    collect_rankings,
    pairs_of_partition,
    parts_of_partition,
    users_of_partition,
)
from als_spark.spark.train.exchange import TrainSlice
from als_spark.spark.train.partitioned import rank_partition
from als_spark.train.backend import Factors
from als_spark.train.metrics import SideStats
from als_spark.train.ranking import RankingRule

TRAIN = np.array([(u, i) for u in range(9) for i in range(12) if (u * 7 + i * 5) % 4 < 2])
HELD = np.array([(u, i) for u in range(11) for i in range(12) if (u * 7 + i * 5) % 4 == 2])
RATINGS = 1.0 + HELD.sum(axis=1) % 5
STATS = {
    "user": SideStats(np.bincount(TRAIN[:, 0], minlength=11), np.zeros(11)),
    "item": SideStats(np.bincount(TRAIN[:, 1], minlength=12), np.zeros(12)),
}
RELEVANCE = Relevance(STATS["user"].degrees, 3.0)
RULE = RankingRule(top=3, relevant_from=3.0)


def entries_of(chosen):
    """The entries of a block that has the ratings of some of the pairs."""
    mine, theirs = chosen(*TRAIN.T), chosen(*HELD.T)
    users, items = TRAIN[mine].T
    block = build_block(users, items, np.ones(users.size), n_rows=11, n_columns=12)
    yield TrainSlice("user", (0, 0), False, block)
    by_item = build_block(items, users, np.ones(users.size), n_rows=12, n_columns=11)
    yield TrainSlice("item", (0, 0), False, by_item)
    yield HeldOut("test", *HELD[theirs].T, RATINGS[theirs])


def shared(value):
    return SimpleNamespace(value=value)


@pytest.fixture
def whole():
    return collect_rankings(entries_of(lambda u, _: u >= 0), STATS, RULE)


def test_users_have_training_ratings_and_relevant_ones(whole):
    (part,) = whole.parts
    wanted = {int(u) for (u, _), r in zip(HELD, RATINGS, strict=True) if r >= 3 and u < 9}
    assert part.users.tolist() == sorted(wanted)
    for k, user in enumerate(part.users):
        for lists, pairs in ((part.seen, TRAIN), (part.relevant, HELD[RATINGS >= 3])):
            items = whole.ranker.trained[lists.indices[lists.indptr[k] : lists.indptr[k + 1]]]
            assert sorted(items) == pairs[pairs[:, 0] == user, 1].tolist()


def test_blocks_by_user_have_the_parts_of_their_own_users(whole):
    (expected,) = whole.parts
    users = shared({"test": expected.users})
    found = []
    for k in range(3):
        entries = entries_of(lambda u, _, k=k: u % 3 == k)
        found += parts_of_partition(
            entries, users=users, relevance=shared(RELEVANCE), places=shared(whole.ranker.places)
        )
    assert sorted(u for part in found for u in part.users) == expected.users.tolist()
    model = Factors(np.arange(22.0).reshape(11, 2) % 7, np.arange(24.0).reshape(12, 2) % 5)
    candidates = shared(whole.ranker.candidates([model]))
    sums = list(rank_partition(found, models=candidates, top=3))
    (means,), (wanted,) = whole.ranker.means(sums, 1), whole.measure([model])
    assert asdict(means["test"]) == pytest.approx(asdict(wanted["test"]), rel=1e-14)


def test_pairs_of_rows_in_all_blocks_are_put_together(whole):
    (expected,) = whole.parts
    chosen = {"test": expected.users}
    found, users = [], []
    for k in range(3):
        by_item = list(entries_of(lambda _, i, k=k: i % 3 == k))
        users += users_of_partition(by_item, relevance=shared(RELEVANCE))
        found += pairs_of_partition(by_item, users=shared(chosen), relevance=shared(RELEVANCE))
    assert set(np.concatenate([rows for _, rows in users])) == set(expected.users)
    (part,) = RankedPairs.join(found).parts(chosen, whole.ranker.places)
    np.testing.assert_array_equal(part.users, expected.users)
    np.testing.assert_array_equal(part.seen.indptr, expected.seen.indptr)
    np.testing.assert_array_equal(part.relevant.indices, expected.relevant.indices)


def test_nobody_to_rank():
    rule = RankingRule(relevant_from=9.0)
    found = collect_rankings(entries_of(lambda u, _: u >= 0), STATS, rule)
    assert found.parts == []
    assert found.measure([Factors(np.ones((11, 1)), np.ones((12, 1)))]) == [{}]
