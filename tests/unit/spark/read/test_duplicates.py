"""The rule for pairs rated more than once, against a sort by hand; no Spark."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from als_spark.spark.read.duplicates import deciding_keys, resolve_duplicates

NAN = math.nan


def resolve(rows, how, *, by_time=True, names=("split", "timestamp", "origin")):
    """Resolve rows (pair, split, timestamp, origin, rating); returns values, kept, repeated."""
    rows = sorted(rows, key=lambda row: row[0])
    pair, split, timestamp, origin, rating = (np.array(c) for c in zip(*rows, strict=True))
    keys = {"split": split, "timestamp": timestamp.astype(float), "origin": origin}
    return resolve_duplicates(
        pair,
        np.zeros_like(pair),
        rating.astype(float),
        how,
        {name: keys[name] for name in names},
        by_time=by_time,
    )


def one(rows, how="last", **extra):
    """The value of the only pair, whatever the order of its ratings."""
    values = {
        resolve([(0, *row) for row in order], how, **extra).ratings.tolist()[0]
        for order in itertools.permutations(rows)
    }
    assert len(values) == 1
    return values.pop()


class TestLast:
    # Each row: split, timestamp, origin, rating.
    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            ([(0, 1.0, 0, 5.0), (0, 2.0, 0, 1.0)], 1.0),
            ([(0, 1.0, 0, 3.0), (0, 1.0, 0, 4.0)], 4.0),
            ([(0, 1.0, 1, 3.0), (0, 1.0, 0, 4.0)], 3.0),
            ([(0, 9.0, 0, 3.0), (0, 1.0, 1, 4.0)], 3.0),
            ([(0, 1.0, 0, 3.0), (0, 1.0, 0, 3.0)], 3.0),
            ([(0, NAN, 1, 5.0), (0, -1e9, 0, 2.0)], 2.0),
            ([(0, NAN, 0, 5.0), (0, NAN, 0, 2.0)], 5.0),
            ([(0, NAN, 0, 5.0), (0, NAN, 1, 2.0)], 2.0),
            ([(0, 9.0, 0, 1.0), (2, 1.0, 0, 5.0)], 5.0),
            ([(1, 9.0, 0, 1.0), (2, NAN, 0, 5.0), (0, 10.0, 1, 3.0)], 5.0),
            ([(2, 1.0, 0, 1.0), (2, 2.0, 0, 5.0), (0, 3.0, 0, 3.0)], 5.0),
        ],
        ids=[
            *("later time", "equal times, higher rating", "equal times, later source"),
            *("later time, earlier source", "all equal", "no time is the earliest"),
            *("no times", "no times, later source", "held out", "three parts", "time in a part"),
        ],
    )
    def test_ties(self, rows, expected):
        assert one(rows) == expected

    def test_where_a_source_has_no_times_the_later_source_wins(self):
        rows = [(0, 9.0, 0, 1.0), (0, NAN, 1, 5.0)]
        assert one(rows) == 1.0
        assert one(rows, by_time=False) == 5.0
        # Within a source, time.
        rows = [(0, 9.0, 1, 1.0), (0, 8.0, 1, 5.0), (0, 99.0, 0, 3.0)]
        assert one(rows, by_time=False) == 1.0

    def test_without_times_or_sources_the_higher_rating_wins(self):
        rows = [(0, 9.0, 0, 1.0), (0, 1.0, 1, 5.0)]
        assert one(rows, names=()) == 5.0
        assert one(rows, names=("split",)) == 5.0

    def test_a_key_that_is_not_there_may_be_empty(self):
        found = resolve_duplicates(
            np.zeros(2, np.int32),
            np.zeros(2, np.int32),
            np.array([2.0, 3.0]),
            "last",
            {"timestamp": np.zeros(0)},
        )
        assert found.ratings.tolist() == [3.0]


class TestMean:
    @pytest.mark.parametrize("how", ["mean", "error"])
    def test_of_all_ratings_of_a_pair(self, how):
        assert one([(0, 1.0, 0, 5.0), (0, 2.0, 0, 1.0), (0, 3.0, 0, 1.5)], how) == 2.5

    def test_of_the_held_out_ones_where_some_are(self):
        rows = [(0, 9.0, 0, 1.0), (2, 1.0, 0, 4.0), (2, 2.0, 0, 5.0), (1, 3.0, 0, 2.0)]
        assert one(rows, "mean") == 4.5
        assert one(rows[:1] + rows[3:], "mean") == 2.0

    def test_is_summed_from_the_lowest_up(self):
        values = [0.1, 0.2, 0.3, 1e16, -1e16, 0.7]
        expected = sum(sorted(values)) / 6
        assert sum(values) / 6 != expected
        rows = [(0, float(k), 0, value) for k, value in enumerate(values)]
        for order in (rows, rows[::-1], rows[2:] + rows[:2]):
            assert resolve([(0, *row) for row in order], "mean").ratings.tolist() == [expected]


class TestKeep:
    def test_all_ratings_of_a_pair_in_the_deciding_order(self):
        rows = [(1, 0, 2.0, 0, 5.0), (1, 0, 1.0, 0, 3.0), (1, 0, 1.0, 0, 2.0), (2, 0, NAN, 0, 1.0)]
        rows.append((0, 0, 9.0, 0, 4.0))
        for order in itertools.permutations(rows):
            found = resolve(order, "keep")
            assert found.ratings.tolist() == [4.0, 2.0, 3.0, 5.0, 1.0]
            ordered = sorted(order, key=lambda row: row[0])
            assert [ordered[k][4] for k in found.kept] == found.ratings.tolist()
            assert found.repeated.tolist() == [1]


def by_hand(rows, how, by_time):
    """Twin in plain Python: pair → (value, split)."""
    found = {}
    for pair in sorted({row[0] for row in rows}):
        own = [row[1:] for row in rows if row[0] == pair]

        def rank(row):
            split, time, origin, rating = row
            time = -math.inf if math.isnan(time) else time
            return (split, *((time, origin) if by_time else (origin, time)), rating)

        last = max(own, key=rank)
        values = sorted(row[3] for row in own if row[0] == last[0])
        found[pair] = (last[3] if how == "last" else sum(values) / len(values), last[0])
    return found


@pytest.mark.parametrize("by_time", [True, False])
@pytest.mark.parametrize("how", ["last", "mean"])
@pytest.mark.parametrize("seed", range(5))
def test_against_a_sort_by_hand(how, by_time, seed):
    rng = np.random.default_rng(seed)
    n = 300
    times = np.where(rng.random(n) < 0.2, NAN, rng.integers(0, 4, n))
    rows = list(
        zip(
            rng.integers(0, 120, n).tolist(),
            rng.integers(0, 3, n).tolist(),
            times.tolist(),
            rng.integers(0, 3, n).tolist(),
            rng.choice([0.1, 0.7, 2.3, 4.5], n).tolist(),
            strict=True,
        )
    )
    rows.sort(key=lambda row: row[0])
    found = resolve(rows, how, by_time=by_time)
    expected = by_hand(rows, how, by_time)
    assert found.ratings.tolist() == [value for value, _ in expected.values()]
    assert [rows[k][:2] for k in found.kept.tolist()] == [
        (pair, split) for pair, (_, split) in expected.items()
    ]
    pairs = [row[0] for row in rows]
    assert [pairs[k] for k in found.repeated.tolist()] == [
        pair for pair in expected if pairs.count(pair) > 1
    ]
    assert all(k == 0 or pairs[k - 1] != pairs[k] for k in found.repeated.tolist())


def test_pairs_that_are_rated_once_stay_as_they_are():
    ratings = np.array([1.0, 2.0, 3.0])
    rows, columns = np.array([0, 0, 1]), np.array([0, 1, 0])
    found = resolve_duplicates(rows, columns, ratings, "mean", {})
    assert found.ratings is ratings
    assert (found.kept.tolist(), found.repeated.tolist()) == ([0, 1, 2], [])


def test_no_ratings():
    none = np.zeros(0, np.int32)
    found = resolve_duplicates(none, none, np.zeros(0), "last", {"timestamp": np.zeros(0)})
    assert [array.size for array in found] == [0, 0, 0]


def test_the_keys():
    assert deciding_keys() == ("split", "timestamp", "origin", "rating")
    assert deciding_keys(by_time=False) == ("split", "origin", "timestamp", "rating")
