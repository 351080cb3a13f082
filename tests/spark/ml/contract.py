"""What the tests of MLlib's published contract share: both implementations, and planted ratings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyspark.ml.recommendation as mllib
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import SparkRuntimeException
from pyspark.sql import DataFrame, SparkSession

from als_spark import ALS

OURS = pytest.param(ALS, id="als_spark")
# MLlib's side changes with PySpark alone.
MLLIB = pytest.param(mllib.ALS, id="mllib", marks=pytest.mark.slow)
both = pytest.mark.parametrize("als", [OURS, MLLIB])
"""A point of the contract holds for either class: the import is all that differs."""

# PySpark 3.5 does not take the JVM's exceptions apart.
REFUSED = (SparkRuntimeException, Py4JJavaError)
TYPES = "user int, item int, rating float"


class Planted(NamedTuple):
    """Ratings of a known product of factors: some to fit, others to be predicted."""

    train: list[tuple[int, int, float]]
    test: list[tuple[int, int, float]]
    """Without noise; users and items of ``train`` alone."""


def planted(
    n_users: int, n_items: int, rank: int, noise: float = 0.0, least: float = -1.0, seed: int = 11
) -> Planted:
    """Draw factors from ``least`` to 1; two thirds of the pairs are to fit, the rest to predict."""
    rng = np.random.default_rng(seed)
    users, items = (np.sort(rng.integers(-(2**31), 2**31, n)) for n in (n_users, n_items))
    exact = rng.uniform(least, 1, (n_users, rank)) @ rng.uniform(least, 1, (n_items, rank)).T
    fitted = rng.random(exact.shape) < 2 / 3
    assert fitted.any(axis=0).all()
    assert fitted.any(axis=1).all()
    noisy = exact + noise * rng.normal(size=exact.shape)
    return Planted(
        *(
            [(int(users[u]), int(items[i]), float(r[u, i])) for u, i in np.argwhere(chosen)]
            for r, chosen in ((noisy, fitted), (exact, ~fitted))
        )
    )


def rmse(spark: SparkSession, model: Any, rows: list[tuple[int, int, float]]) -> float:
    """Error of a model's predictions; NaN if one is."""
    found = model.transform(spark.createDataFrame(rows, TYPES)).collect()
    assert len(found) == len(rows)
    return float(np.sqrt(np.mean([(row.rating - row.prediction) ** 2 for row in found])))


def factors_of(frame: DataFrame) -> dict[int, npt.NDArray[np.float64]]:
    """Factors by id."""
    return {row.id: np.array(row.features) for row in frame.collect()}


@contextmanager
def conf(spark: SparkSession, key: str, value: str) -> Iterator[None]:
    """Set an option of the session for a while."""
    before = spark.conf.get(key)
    spark.conf.set(key, value)
    try:
        yield
    finally:
        spark.conf.set(key, before)
