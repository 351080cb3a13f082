"""Ratings for the estimator, and what MLlib minimises on them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame, SparkSession

from tests import reference


class Ratings(NamedTuple):
    """Triples with original ids, pairs rated twice or thrice among them."""

    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    ratings: npt.NDArray[np.float64]

    def frame(
        self, spark: SparkSession, types: str = "user int, item int, rating float"
    ) -> DataFrame:
        rows = zip(*(values.tolist() for values in self), strict=True)
        return spark.createDataFrame(list(rows), types).repartition(3)

    def users_against(
        self,
        users: dict[int, list[float]],
        items: dict[int, list[float]],
        reg: float,
        exponent: float = 1.0,
    ) -> dict[int, npt.NDArray[np.float64]]:
        """Factors of the users that solve λ n^exponent + VᵀV for fixed items, in float64."""
        user_ids, user_rows = np.unique(self.users, return_inverse=True)
        item_ids, item_rows = np.unique(self.items, return_inverse=True)
        fixed = np.array([items[i] for i in item_ids.tolist()], np.float64)
        start = np.array([users[u] for u in user_ids.tolist()], np.float64)
        solved = reference.solve_rows(
            user_rows, item_rows, self.ratings, fixed, start, reg, exponent
        )
        return dict(zip(user_ids.tolist(), solved, strict=True))

    def turned(self) -> Ratings:
        """With the two sides exchanged."""
        return Ratings(self.items, self.users, self.ratings)


def some_ratings(seed: int = 0) -> Ratings:
    """Two hundred and fifty ratings of thirty users and twenty items, ids below 0 among them."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, 30, 250), rng.integers(0, 20, 250)
    assert len({*zip(users.tolist(), items.tolist(), strict=True)}) < 220
    return Ratings(7 * users - 50, 3 * items - 9, rng.integers(1, 11, 250) / 2)


def factors_of(frame: DataFrame) -> dict[int, list[float]]:
    """Factors by id."""
    rows = frame.collect()
    assert len({row.id for row in rows}) == len(rows)
    return {row.id: row.features for row in rows}
