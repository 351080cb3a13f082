"""Fixtures that need no Spark; the session lives in tests/spark and tests/jobs.

And what becomes of the tests when Spark's JVM dies under them, of too little memory for instance.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from als_spark.model.factor_model import FactorModel
from als_spark.model.ids import IdIndex
from als_spark.solve.blocks import build_block
from als_spark.train.backend import Factors
from als_spark.train.local import LocalBackend
from als_spark.train.metrics import SideStats, build_evaluation_part
from als_spark.types import ColdStart

LOST_JVM = "Spark's JVM died"
EXIT_LOST_JVM = 75
"""scripts/test.sh runs the failed tests again."""
ROOT = Path(__file__).resolve().parent.parent
MOVIELENS = ROOT.parent / "shared" / "data" / "ml-latest-small" / "ratings.csv"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say of a test that failed for want of a JVM that this was why, rather than what py4j says."""
    report = yield
    code = exit_code_of_jvm() if report.failed else None
    if code is not None:
        report.longrepr = f"{LOST_JVM}, exit code {code}:\n{report.longreprtext}"
    return report


def exit_code_of_jvm() -> int | None:
    """Exit code of the JVM that this process had started; None if it lives, or there is none."""
    pyspark = sys.modules.get("pyspark")
    gateway = None if pyspark is None else pyspark.SparkContext._gateway
    return None if gateway is None else gateway.proc.poll()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Give a run in which a JVM was lost an exit code of its own."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:  # Not in the processes of xdist.
        failed = reporter.getreports("failed") + reporter.getreports("error")
        if any(LOST_JVM in report.longreprtext for report in failed):
            session.exitstatus = EXIT_LOST_JVM


class Triples(NamedTuple):
    """Some ratings by dense row."""

    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    ratings: npt.NDArray[np.float64]
    n_users: int
    n_items: int


@pytest.fixture(scope="session")
def movielens() -> Path:
    """Real ratings, where they are."""
    if not MOVIELENS.is_file():
        pytest.skip(f"needs the MovieLens ratings at {MOVIELENS}")
    return MOVIELENS


def random_triples(
    n_users: int = 40, n_items: int = 30, n_ratings: int = 400, seed: int = 0
) -> Triples:
    """Draw distinct random (user, item) pairs with ratings from 1 to 5; degrees are skewed."""
    rng = np.random.default_rng(seed)
    weights = np.outer(rng.pareto(1.5, n_users) + 0.05, rng.pareto(1.5, n_items) + 0.05).ravel()
    pairs = rng.choice(n_users * n_items, n_ratings, replace=False, p=weights / weights.sum())
    users, items = np.divmod(pairs, n_items)
    ratings = rng.integers(2, 11, n_ratings) / 2
    return Triples(users.astype(np.int32), items.astype(np.int32), ratings, n_users, n_items)


@pytest.fixture
def triples() -> Triples:
    """Four hundred ratings of forty users."""
    return random_triples()


def local_backend(
    train: Triples,
    test: Triples | None = None,
    *,
    cold_start: ColdStart = "mean",
    dtype: npt.DTypeLike = np.float64,
) -> LocalBackend:
    """Pack ratings for training in this process."""
    users, items, ratings, n_users, n_items = train
    user_block = build_block(users, items, ratings, n_rows=n_users, n_columns=n_items, dtype=dtype)
    item_block = build_block(items, users, ratings, n_rows=n_items, n_columns=n_users, dtype=dtype)
    if test is None:
        return LocalBackend(user_block, item_block)
    part = build_evaluation_part(
        "test",
        test.users,
        test.items,
        test.ratings,
        stats={
            "user": SideStats.of(n_users, [user_block]),
            "item": SideStats.of(n_items, [item_block]),
        },
        cold_start=cold_start,
        dtype=dtype,
    )
    return LocalBackend(user_block, item_block, [part])


def random_model(
    n_users: int = 60,
    n_items: int = 40,
    rank: int = 5,
    *,
    dtype: npt.DTypeLike = np.float64,
    text: bool = False,
    seed: int = 0,
) -> FactorModel:
    """Draw a model: ids in no order, integers or text; some rows without a training rating."""
    rng = np.random.default_rng(seed)
    sides = []
    for n in (n_users, n_items):
        ids = rng.choice(10 * n, n, replace=False)
        degrees = rng.integers(0, 9, n).astype(np.int32)
        degrees[:2] = 0, 1
        sums = degrees * rng.integers(2, 11, n) / 2
        array = pa.array([f"id {k}" for k in ids]) if text else pa.array(ids, pa.int64())
        factors = rng.normal(size=(n, rank)).astype(dtype)
        sides.append((IdIndex(array), factors, SideStats(degrees, sums)))
    (users, user_factors, user_stats), (items, item_factors, item_stats) = sides
    return FactorModel(
        users,
        items,
        Factors(user_factors, item_factors),
        user_stats,
        item_stats,
        {"lambda_reg": 0.3, "exponent": 1.0},
    )
