"""The rule for repeated pairs as Spark expressions, against the rule for arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from als_spark.spark.read.duplicates import (
    last_of_group,
    rating_of_group,
    resolve_duplicates,
)


@pytest.mark.parametrize("by_time", [True, False])
@pytest.mark.parametrize("how", ["last", "mean"])
def test_both_forms_of_the_rule_agree(spark: SparkSession, how: Any, by_time: bool) -> None:
    rng = np.random.default_rng(5)
    n = 3000
    user, item = rng.integers(0, 30, n), rng.integers(0, 20, n)
    time = np.where(rng.random(n) < 0.2, np.nan, rng.integers(0, 5, n))
    origin, rating = rng.integers(0, 3, n), rng.choice([0.1, 0.2, 0.3, 0.7, 1e3 / 3], n)
    order = np.lexsort((item, user))
    arrays = [values[order] for values in (user, item, time, origin, rating)]
    keys = {"timestamp": arrays[2], "origin": arrays[3]}
    wanted = resolve_duplicates(*arrays[:2], arrays[4], how, keys, by_time=by_time)
    rows = [
        (u, i, None if math.isnan(t) else t, o, r)
        for u, i, t, o, r in zip(*(values.tolist() for values in arrays), strict=True)
    ]
    frame = spark.createDataFrame(
        [rows[k] for k in rng.permutation(n)],
        "user int, item int, timestamp double, origin int, rating double",
    )
    found = (
        frame.repartition(5)
        .groupBy("user", "item")
        .agg(
            rating_of_group(how, by_time=by_time).alias("rating"),
            last_of_group(by_time=by_time)["timestamp"].alias("timestamp"),
        )
        .orderBy("user", "item")
        .collect()
    )
    assert len(found) == wanted.kept.size < n
    # Bit for bit: means are summed in the same order.
    assert [row.rating for row in found] == wanted.ratings.tolist()
    if how == "last":
        assert [row.timestamp for row in found] == [rows[k][2] for k in wanted.kept.tolist()]
