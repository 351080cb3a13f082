"""Ranking measures against a slow reference, and what decides who and what is ranked."""

from __future__ import annotations

import math

import numpy as np
import pytest

from als_spark.train import ranking
from als_spark.train.backend import Factors
from als_spark.train.ranking import (
    Lists,
    Pairs,
    Ranker,
    RankingPart,
    RankingRule,
    RankingSums,
    build_ranking_part,
    hits_of_lists,
    measures_of_hits,
    popularity,
    relevant_pairs,
    sum_rankings,
)

N_USERS, N_ITEMS = 40, 30
MEASURES = ("ndcg", "recall", "precision", "map")


def ratings(seed: int = 0, share: float = 0.3) -> tuple[Pairs, Pairs]:
    """Training pairs and relevant held-out ones; the items 3 and 17 are in no training pair."""
    rng = np.random.default_rng(seed)
    drawn = rng.random((N_USERS, N_ITEMS))
    train = drawn < share
    train[:, [3, 17]] = False
    held = ~train & (drawn > 0.8)
    return Pairs(*np.nonzero(train)), Pairs(*np.nonzero(held))


def model(rank: int = 4, seed: int = 1, *, whole: bool = False) -> Factors:
    """Draw factors; whole numbers give many equal scores."""
    rng = np.random.default_rng(seed)
    shapes = (N_USERS, rank), (N_ITEMS, rank)
    if whole:
        return Factors(*(rng.integers(0, 2, shape).astype(float) for shape in shapes))
    return Factors(*(rng.normal(size=shape) for shape in shapes))


def ranker_of(train: Pairs, top: int) -> Ranker:
    return Ranker(top, 4.0, np.bincount(train.items, minlength=N_ITEMS))


def measured(train: Pairs, relevant: Pairs, factors: Factors, top: int) -> dict[str, float]:
    ranker = ranker_of(train, top)
    users = np.unique(relevant.users)
    part = build_ranking_part("test", users, train, relevant, ranker.places)
    (means,) = ranker.means(sum_rankings([part], ranker.candidates([factors]), top), 1)
    assert means["test"].users == users.size
    return {name: getattr(means["test"], name) for name in (*MEASURES, "coverage")}


def by_hand(train: Pairs, relevant: Pairs, factors: Factors, top: int) -> dict[str, float]:
    """The formulas, item by item."""
    candidates = sorted(set(train.items.tolist()))
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    recommended: set[int] = set()
    for user in sorted(set(relevant.users.tolist())):
        wanted = set(relevant.items[relevant.users == user].tolist())
        seen = set(train.items[train.users == user].tolist())
        scores = {i: float(factors.users[user] @ factors.items[i]) for i in candidates}
        best = sorted(set(scores) - seen, key=lambda i: (-scores[i], i))[:top]
        recommended |= set(best)
        hits = [item in wanted for item in best]
        dcg = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)
        ideal = sum(1 / math.log2(place + 2) for place in range(min(top, len(wanted))))
        precisions = [sum(hits[: p + 1]) / (p + 1) for p, hit in enumerate(hits) if hit]
        found["ndcg"].append(dcg / ideal)
        found["recall"].append(sum(hits) / len(wanted))
        found["precision"].append(sum(hits) / top)
        found["map"].append(sum(precisions) / min(len(wanted), top))
    means = {name: sum(values) / len(values) for name, values in found.items()}
    return means | {"coverage": len(recommended) / len(candidates)}


class TestMeasures:
    @pytest.mark.parametrize("top", [1, 3, 10, 28, 1000])
    @pytest.mark.parametrize("whole", [False, True])
    def test_are_those_of_the_formulas(self, top, whole):
        train, relevant = ratings()
        factors = model(whole=whole)
        expected = by_hand(train, relevant, factors, top)
        assert 0 < expected["ndcg"] < 1
        assert measured(train, relevant, factors, top) == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("places", [1, 7, 50])
    def test_do_not_depend_on_the_chunks(self, monkeypatch, places):
        train, relevant = ratings(seed=3)
        expected = measured(train, relevant, model(), 5)
        monkeypatch.setattr(ranking, "CHUNK_PLACES", places)
        assert measured(train, relevant, model(), 5) == pytest.approx(expected, rel=1e-14)

    def test_one_user_by_hand(self):
        # Items 0 to 4 score 5, 4, 3, 2, 1; the user has seen item 0, and wants 2, 4 and the
        # untrained 5: places 2 and 4 of the list 1, 2, 3, 4.
        places = np.array([0, 1, 2, 3, 4, -1])
        part = build_ranking_part(
            "test",
            np.array([7]),
            Pairs(np.array([7, 1]), np.array([0, 1])),
            Pairs(np.array([7, 7, 7, 7]), np.array([5, 4, 2, 2])),
            places,
        )
        factors = Factors(np.ones((8, 1)), np.array([[5.0], [4], [3], [2], [1]]))
        sums = part.sums(factors, 4)
        ideal = 1 + 1 / math.log2(3) + 1 / 2
        assert sums.ndcg == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)
        assert sums.recall == pytest.approx(2 / 3)
        assert sums.precision == pytest.approx(2 / 4)
        assert sums.map == pytest.approx((1 / 2 + 2 / 4) / 3)
        assert sums.items.tolist() == [1, 2, 3, 4]

    def test_fewer_items_left_than_places(self):
        # One item is left: the precision still divides by k.
        users, items = np.array([0, 0]), np.array([0, 1])
        part = build_ranking_part(
            "test", users[:1], Pairs(users, items), Pairs(users[:1], np.array([2])), np.arange(3)
        )
        sums = part.sums(Factors(np.ones((1, 1)), np.ones((3, 1))), 3)
        assert (sums.ndcg, sums.recall, sums.map) == (1, 1, 1)
        assert sums.precision == pytest.approx(1 / 3)

    def test_parts_add_up(self):
        train, relevant = ratings(seed=5)
        whole = measured(train, relevant, model(), 6)
        ranker = ranker_of(train, 6)
        users = np.unique(relevant.users)
        parts = [
            build_ranking_part("test", users[k::3], train, relevant, ranker.places)
            for k in range(3)
        ]
        for order in (parts, parts[::-1]):
            (means,) = ranker.means(sum_rankings(order, ranker.candidates([model()]), 6), 1)
            found = {name: getattr(means["test"], name) for name in (*MEASURES, "coverage")}
            assert found == pytest.approx(whole, rel=1e-14)

    def test_of_factors_that_are_not_finite_are_nan(self):
        train, relevant = ratings()
        factors = model()
        factors.items[0, 0] = math.inf
        found = measured(train, relevant, factors, 5)
        assert all(math.isnan(found[name]) for name in MEASURES)

    def test_sums_of_nothing(self):
        assert RankingSums.join([]).users == 0


class TestPopularity:
    def test_recommends_the_most_rated_of_the_unseen(self):
        train, relevant = ratings(seed=9)
        degrees = np.bincount(train.items, minlength=N_ITEMS)
        user = int(relevant.users[0])
        seen = set(train.items[train.users == user].tolist())
        by_count = sorted(set(np.flatnonzero(degrees)) - seen, key=lambda i: (-degrees[i], i))
        wanted = relevant.items[relevant.users == user]
        hits = len(set(by_count[:8]) & set(wanted.tolist()))
        own = Pairs(relevant.users[relevant.users == user], wanted)
        found = measured(train, own, popularity(N_USERS, degrees), 8)
        assert found["recall"] == pytest.approx(hits / wanted.size)


class TestRelevance:
    USERS = np.array([0, 0, 1, 2])
    ITEMS = np.array([4, 5, 4, 4])

    def test_from_a_rating_on_for_users_with_training_ratings(self):
        values = np.array([4.0, 3.9, 4.0, 5.0])
        pairs = relevant_pairs(
            self.USERS, self.ITEMS, values, user_degrees=np.array([2, 0, 1]), relevant_from=4.0
        )
        assert pairs.users.tolist() == [0, 2]
        assert pairs.items.tolist() == [4, 4]

    @pytest.mark.parametrize("value", [0.1, 1.0, 3.3, -0.7])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_equal_ratings_are_all_at_their_mean(self, value, dtype):
        mean = float(np.full(1001, value, dtype).sum(dtype=np.float64) / 1001)
        assert value >= RankingRule().threshold(mean)

    def test_the_default_is_the_mean(self):
        assert RankingRule().threshold(3.5) == pytest.approx(3.5, rel=1e-5)
        assert RankingRule(relevant_from=-2.0).threshold(3.5) == -2.0

    def test_a_pair_that_comes_twice_counts_once(self):
        pairs = Pairs(np.array([0, 0, 0]), np.array([1, 1, 2]))
        none = Pairs(np.zeros(0, int), np.zeros(0, int))
        part = build_ranking_part("test", np.array([0]), none, pairs, np.arange(3))
        assert np.diff(part.relevant.indptr).tolist() == [2]


class TestChoiceOfUsers:
    def test_everybody_up_to_the_cap(self):
        assert RankingRule(max_users=3).choose(np.array([9, 2, 5])).tolist() == [2, 5, 9]

    def test_depends_on_rows_and_seed_alone(self):
        rows = np.arange(0, 5000, 3)
        shuffled = np.random.default_rng(0).permutation(rows)
        chosen = {seed: RankingRule(max_users=100, seed=seed).choose(rows) for seed in range(3)}
        for seed, users in chosen.items():
            assert users.size == 100
            again = RankingRule(max_users=100, seed=seed).choose(shuffled)
            assert again.tolist() == users.tolist()
        assert not np.array_equal(chosen[0], chosen[1])

    @pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
    def test_is_spread_over_the_rows(self, seed):
        chosen = RankingRule(max_users=2000, seed=seed).choose(np.arange(20_000))
        counts = np.histogram(chosen, bins=10, range=(0, 20_000))[0]
        # Binomial: 200 a bin, with a standard deviation of 13.
        assert np.abs(counts - 200).max() < 70


class TestPairs:
    def test_of_some_users(self):
        pairs = Pairs(np.array([5, 1, 9, 1]), np.array([0, 1, 2, 3]))
        assert pairs.of(np.array([1, 9])).items.tolist() == [1, 2, 3]
        assert pairs.of(np.zeros(0, int)).items.tolist() == []

    def test_joined(self):
        assert Pairs.join([]).users.size == 0
        one = Pairs(np.array([1]), np.array([2]))
        assert Pairs.join([one, one]).items.tolist() == [2, 2]


def test_parts_are_of_their_split():
    train, relevant = ratings()
    ranker = ranker_of(train, 5)
    users = np.unique(relevant.users)
    parts: list[RankingPart] = [
        build_ranking_part(split, users, train, relevant, ranker.places)
        for split in ("validation", "test")
    ]
    (means, other) = ranker.means(
        sum_rankings(parts, ranker.candidates([model(), model(seed=2)]), 5), 2
    )
    assert list(means) == ["validation", "test"]
    assert means["validation"] == means["test"] != other["test"]


def test_hits_of_lists_of_any_length() -> None:
    found = Lists(np.array([0, 3, 3, 5]), np.array([7.5, 1.0, 3.0, 1.0, 7.5]))
    relevant = Lists(np.array([0, 1, 3, 5]), np.array([3.0, 7.5, 1.0, 7.5, 99.0]))
    hits = hits_of_lists(found, relevant, 3)
    assert hits.tolist() == [[False, False, True], [False] * 3, [False, True, False]]
    assert hits_of_lists(Lists(np.zeros(4, int), np.zeros(0)), relevant, 0).shape == (3, 0)


def test_measures_of_lists_are_those_of_the_formulas() -> None:
    hits = np.array([[True, False, True], [False, False, False], [False, True, False]])
    found = measures_of_hits(hits, np.array([2, 1, 5]), 3)
    half = 1 / math.log2(3)
    ideals = 1 + half, 1 + half + 0.5
    np.testing.assert_allclose(found.ndcg, [1.5 / ideals[0], 0, half / ideals[1]], rtol=1e-12)
    np.testing.assert_allclose(found.recall, [1, 0, 0.2], rtol=1e-12)
    np.testing.assert_allclose(found.precision, [2 / 3, 0, 1 / 3], rtol=1e-12)
    np.testing.assert_allclose(found.map, [(1 + 2 / 3) / 2, 0, 0.5 / 3], rtol=1e-12)
