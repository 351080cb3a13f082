"""How ``scripts/bench.sh lists`` holds out and measures; the page on lists goes the same way."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from als_spark.cli.config.stored import RecommendConfig
from als_spark.cli.config.sweep import SweepConfig
from als_spark.cli.config.train import TrainConfig
from als_spark.cli.options import parse
from scripts.bench import lists as bench
from scripts.bench.held_out import (
    Lists,
    Rated,
    compare_errors,
    cut_by_time,
    cut_by_user,
    lists_of_scores,
    ndcg_of_users,
    paired,
    popular_lists,
    read_rated,
    write_csv,
)
from tests.conftest import ROOT
from tests.pages_of_docs import code_blocks, job_commands

PAGE = ROOT / "docs" / "lists.md"


def draw(n_users: int = 40, n_items: int = 60, seed: int = 0) -> Rated:
    """Users of 1 to 50 ratings, with many equal times."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, 51, n_users)
    items = [random.choice(n_items, n, replace=False) + 100 for n in counts]
    n = int(counts.sum())
    users = np.repeat(np.arange(n_users) + 7, counts)
    rated = Rated(
        users, np.concatenate(items), random.integers(1, 11, n) / 2, random.integers(0, 300, n)
    )
    return rated.where(random.permutation(n))


def pairs(rated: Rated) -> list[tuple[int, int]]:
    return sorted(zip(rated.users.tolist(), rated.items.tolist(), strict=True))


def test_a_cut_by_time_keeps_a_second_together_on_the_earlier_side() -> None:
    rated = Rated(
        np.arange(10), np.arange(10), np.ones(10), np.array([5, 1, 2, 3, 4, 9, 9, 9, 9, 9])
    )
    earlier, later = cut_by_time(rated, 0.5)
    assert sorted(earlier.times) == [1, 2, 3, 4, 5]
    assert sorted(later.times) == [9] * 5
    earlier, later = cut_by_time(rated, 0.3)
    assert earlier.times.size == 10
    assert later.times.size == 0


def test_a_cut_by_user_holds_out_the_newest_of_everybody() -> None:
    rated = draw()
    earlier, later = cut_by_user(rated, 0.1)
    assert pairs(rated) == sorted(pairs(earlier) + pairs(later))
    for user in np.unique(rated.users):
        kept, held = (part.where(part.users == user) for part in (earlier, later))
        n = kept.users.size + held.users.size
        assert held.users.size == max(1, round(0.1 * n))
        if kept.users.size:
            newest = max(zip(kept.times, kept.items, strict=True))
            assert newest < min(zip(held.times, held.items, strict=True))


def test_the_page_holds_out_what_the_benchmark_does(tmp_path: Path) -> None:
    rated = draw()
    write_csv(rated, tmp_path / "ratings.csv")
    (block,) = code_blocks(PAGE, "python")
    with contextlib.chdir(tmp_path):
        exec(block, {})
    for name, part in zip(
        ("earlier.csv", "later.csv"), cut_by_user(rated, bench.HELD_OUT), strict=True
    ):
        assert pairs(read_rated(str(tmp_path / name), quick=False)) == pairs(part)


def test_the_page_gives_the_jobs_what_the_benchmark_does() -> None:
    commands = job_commands(PAGE)
    assert [job for job, _ in commands] == ["sweep", "sweep", "train", "recommend"]
    sweeps = [parse(SweepConfig, options) for job, options in commands if job == "sweep"]
    assert tuple(config.alpha for config in sweeps) == bench.ALPHAS
    for config in sweeps:
        assert (config.ratings, config.test) == ("earlier.csv", "later.csv")
        assert (config.judge, config.implicit) == ("ndcg", True)
        assert (config.exponent, config.lambdas) == (bench.EXPONENT, bench.REGS)
        assert (config.ranks, config.max_iter) == ((bench.RANK,), bench.ITERATIONS)
    train, recommend = (options for _, options in commands[2:])
    trained = parse(TrainConfig, train)
    assert (trained.refit, trained.max_iter) == (True, bench.ITERATIONS)
    assert trained.from_sweep in {config.output for config in sweeps}
    served = parse(RecommendConfig, recommend)
    assert (served.top, served.exclude_seen, trained.ratings) == (10, "ratings.csv", "ratings.csv")


def test_lists_leave_out_what_a_user_has_rated() -> None:
    train = Rated(np.array([1, 1, 2, 3]), np.array([10, 11, 11, 12]), np.ones(4), np.arange(4))
    scores = np.array([[9.0, 8, 7], [1, 3, 1]])
    found = lists_of_scores(scores, np.array([1, 2]), np.array([10, 11, 12]), train)
    assert found.items[:, :3].tolist() == [[12, -1, -1], [10, 12, -1]]
    popular = popular_lists(np.array([2, 9]), train)
    assert popular.items[:, :3].tolist() == [[10, 12, -1], [11, 10, 12]]


def test_ndcg_of_a_list_by_hand() -> None:
    items = np.full((2, 10), -1)
    items[0, :3] = 5, 6, 7
    items[1, :2] = 5, 6
    held_out = Rated(np.array([1, 1, 2]), np.array([6, 8, 9]), np.ones(3), np.arange(3))
    first, second = ndcg_of_users(Lists(np.array([1, 2]), items), held_out)
    assert first == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))
    assert second == 0


def test_intervals_narrow_with_the_users_and_hold_the_difference() -> None:
    random = np.random.default_rng(1)
    widths = []
    for n in (20, 500):
        compared = paired(0.5 + random.normal(0, 0.1, n), np.full(n, 0.4))
        assert compared["low"] < compared["difference"] < compared["high"]
        widths.append(compared["high"] - compared["low"])
    assert widths[1] == pytest.approx(4 * 0.1 / np.sqrt(500), rel=0.2)
    assert all(wide > narrow for wide, narrow in pairwise(widths))
    same = paired(np.arange(5.0), np.arange(5.0))
    assert same == {"difference": 0, "low": 0, "high": 0}


def test_errors_are_compared_over_users() -> None:
    before, after = np.array([1.0, 1, 4, 4]), np.array([1.0, 1, 1, 1])
    compared = compare_errors(before, after, np.array([1, 1, 2, 2]))
    assert compared["before"] == pytest.approx(np.sqrt(2.5))
    assert compared["after"] == 1
    # Some draws have the first user alone, whose errors are the same, some the second.
    assert compared["after_minus_before"]["high"] == 0
    assert compared["after_minus_before"]["low"] == pytest.approx(-1)
