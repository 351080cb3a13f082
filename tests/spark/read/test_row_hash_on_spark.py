"""The hash of rows in NumPy is Spark's, value by value."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from als_spark.spark.read.row_hash import FIRST_SEED, DecimalTexts, hash_doubles, hash_longs


@pytest.mark.spark35
def test_every_value_has_the_hash_of_spark(spark: SparkSession) -> None:
    rng = np.random.default_rng(0)
    limits = np.iinfo(np.int64)
    wide = rng.integers(limits.min, limits.max, 300)
    short = rng.integers(-(10**6), 10**6, 300)
    ids = np.concatenate([wide, short, [limits.min, limits.max, 0, -1]])
    others = rng.permutation(ids)
    numbers = rng.normal(size=ids.size) * 10.0 ** rng.integers(-300, 300, ids.size)
    numbers[:4] = 0.0, -0.0, 5e-324, -3.5
    table = pa.table({"one": ids, "two": others, "number": numbers})
    frame = spark.createDataFrame(
        [tuple(row.values()) for row in table.to_pylist()], table.column_names
    )
    texts = [F.col(name).cast("string") for name in ("one", "two")]
    rows = frame.select(F.xxhash64(*texts, "number"), F.xxhash64("one")).collect()
    codes, seeds = np.arange(ids.size), np.full(ids.size, FIRST_SEED, np.uint64)
    pairs = DecimalTexts(others).hash(codes, DecimalTexts(ids).hash(codes, seeds))
    found = hash_doubles(numbers, pairs).view(np.int64)
    assert found.tolist() == [row[0] for row in rows]
    assert hash_longs(ids, FIRST_SEED).view(np.int64).tolist() == [row[1] for row in rows]
