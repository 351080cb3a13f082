"""MLlib's published contract of ``fit``: what its own tests ask for, asked of both."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyspark.ml.recommendation as mllib
import pytest
from pyspark.errors import IllegalArgumentException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark import ALS
from tests.spark.ml.contract import OURS, REFUSED, TYPES, both, conf, factors_of, planted, rmse

NUMERIC = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal(10,0)")
FEW = [(0, 10, 1.0), (1, 20, 2.0), (2, 30, 3.0), (3, 40, 4.0), (4, 50, 5.0), (0, 20, 2.0)]
NOT_AN_ID = "ALS only supports non-Null values in Integer range and without fractional part"

# Without a folder for checkpoints, ten iterations of MLlib's overflow the JVM's stack.
ITERATIONS: dict[type, int] = {ALS: 10, mllib.ALS: 4}
UNFINISHED: dict[type, float] = {ALS: 0.0, mllib.ALS: 0.04}
"""What the error may be above that of ten iterations."""


@pytest.fixture(scope="module")
def few(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(FEW, TYPES).coalesce(1).cache()


def small(als: Any, **params: Any) -> Any:
    return als(
        **{"rank": 1, "maxIter": 1, "seed": 3, "numUserBlocks": 2, "numItemBlocks": 2} | params
    )


class TestLowRank:
    """Sizes, noise, λ, iterations and errors of MLlib's tests."""

    @both
    @pytest.mark.parametrize(
        ("planted_rank", "noise", "rank", "reg", "blocks", "error"),
        [
            (1, 0.0, 2, 1e-5, (1, 1), 0.001),
            (1, 0.01, 1, 0.01, (1, 2), 0.02),
            (2, 0.01, 2, 0.01, (2, 1), 0.03),
            (2, 0.01, 3, 0.01, (2, 2), 0.03),
        ],
    )
    def test_it_is_found_whatever_the_blocks(
        self,
        spark: SparkSession,
        als: Any,
        planted_rank: int,
        noise: float,
        rank: int,
        reg: float,
        blocks: tuple[int, int],
        error: float,
    ) -> None:
        train, test = planted(20, 40, planted_rank, noise)
        estimator = small(als, rank=rank, maxIter=ITERATIONS[als], regParam=reg)
        estimator.setNumUserBlocks(blocks[0]).setNumItemBlocks(blocks[1])
        found = rmse(spark, estimator.fit(spark.createDataFrame(train, TYPES)), test)
        assert found < error + UNFINISHED[als]

    @both
    def test_more_blocks_than_ratings(self, spark: SparkSession, als: Any) -> None:
        train, test = planted(4, 4, 1, least=0.3)
        estimator = small(als, maxIter=ITERATIONS[als], regParam=1e-4).setNumBlocks(len(train) + 1)
        found = rmse(spark, estimator.fit(spark.createDataFrame(train, TYPES)), test)
        assert found < 0.002 + UNFINISHED[als]

    @pytest.mark.parametrize("als", [OURS])
    def test_fifty_iterations(self, spark: SparkSession, als: Any) -> None:
        train, test = planted(4, 4, 1, least=0.3)
        model = small(als, maxIter=50, regParam=1e-5).fit(spark.createDataFrame(train, TYPES))
        assert rmse(spark, model, test) < 0.002

    @both
    def test_a_large_ridge_leaves_nothing(self, few: DataFrame, als: Any) -> None:
        model = small(als, rank=2, maxIter=2, regParam=1e6).fit(few)
        for frame in (model.userFactors, model.itemFactors):
            assert max(np.abs(row).max() for row in factors_of(frame).values()) < 1e-4
        assert all(abs(row.prediction) < 1e-8 for row in model.transform(few).collect())


class TestColumns:
    @pytest.mark.slow
    @both
    def test_every_numeric_type_in_every_column(self, few: DataFrame, als: Any) -> None:
        wanted = factors_of(small(als).fit(few).userFactors)
        for k in range(len(NUMERIC)):
            kinds = dict(zip(("user", "item", "rating"), (NUMERIC * 2)[k:], strict=False))
            typed = few.select(*(F.col(name).cast(kind) for name, kind in kinds.items()))
            found = factors_of(small(als).fit(typed).userFactors)
            assert found.keys() == wanted.keys(), kinds
            for user, row in wanted.items():
                np.testing.assert_allclose(found[user], row, atol=1e-6, err_msg=str(kinds))

    @both
    @pytest.mark.parametrize("name", ["user", "item", "rating"])
    def test_text_is_refused(self, few: DataFrame, als: Any, name: str) -> None:
        text = few.withColumn(name, F.col(name).cast("string"))
        message = f"Column {name} must be of type numeric but was actually of type string"
        with pytest.raises(IllegalArgumentException, match=message):
            small(als).fit(text)

    @both
    @pytest.mark.parametrize(
        ("name", "kind", "value"),
        [
            ("user", "bigint", 2**31),
            ("item", "double", -(2.0**31) - 1),
            ("user", "decimal(15,2)", Decimal("1231000000000.00")),
            ("item", "decimal(15,2)", Decimal("123.10")),
            ("user", "double", 123.1),
        ],
    )
    def test_what_is_no_int_is_refused(
        self, spark: SparkSession, als: Any, name: str, kind: str, value: Any
    ) -> None:
        good = type(value)(2)
        rows = [(good, good, 2.0), (value, good, 3.0)]
        other = {"user": "item", "item": "user"}[name]
        frame = spark.createDataFrame(rows, f"{name} {kind}, {other} {kind}, rating float")
        estimator = small(als)
        # As MLlib's tests: under ANSI rules its own cast stops an id out of range, in SQL's words.
        with (
            conf(spark, "spark.sql.ansi.enabled", "false"),
            pytest.raises(REFUSED, match=f"{NOT_AN_ID} for column {name}, but got"),
        ):
            estimator.fit(frame)

    @both
    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ((1, None, 2.0), "item Ids MUST NOT be Null"),
            ((1, 1, math.nan), "Ratings MUST NOT be Null or NaN"),
            ((1, 1, math.inf), "Ratings MUST NOT be Infinity, but got Infinity"),
        ],
    )
    def test_missing_values_are_refused(
        self, spark: SparkSession, als: Any, row: tuple[Any, ...], message: str
    ) -> None:
        with pytest.raises(REFUSED, match=message):
            small(als).fit(spark.createDataFrame([*FEW, row], TYPES))

    @both
    def test_no_ratings(self, spark: SparkSession, als: Any) -> None:
        with pytest.raises(IllegalArgumentException, match="No ratings available from"):
            small(als).fit(spark.createDataFrame([], TYPES))


@both
def test_storage_levels(spark: SparkSession, few: DataFrame, als: Any) -> None:
    estimator = small(als)
    levels = {"MEMORY_AND_DISK"}
    assert {estimator.getIntermediateStorageLevel(), estimator.getFinalStorageLevel()} == levels
    estimator.setIntermediateStorageLevel("MEMORY_ONLY_2").setFinalStorageLevel("DISK_ONLY")
    before = persistent(spark)
    model = estimator.fit(few)
    assert estimator.getIntermediateStorageLevel() == "MEMORY_ONLY_2"
    assert estimator.getFinalStorageLevel() == "DISK_ONLY"
    # MLlib's keeps its factors there; ours has them on the driver and leaves nothing behind.
    kept = persistent(spark) - before
    assert len(kept) == (0 if als is ALS else 2)
    assert model.userFactors.count() == 5


def persistent(spark: SparkSession) -> set[int]:
    """Ids of the RDDs that are persisted."""
    return {*spark.sparkContext._jsc.getPersistentRDDs()}


@both
def test_copies_and_uids(few: DataFrame, als: Any) -> None:
    estimator = small(als, userCol="item", itemCol="user")
    changed = estimator.copy({estimator.rank: 2})
    assert (changed.uid, changed.getRank(), estimator.getRank()) == (estimator.uid, 2, 1)
    model = changed.setPredictionCol("p").fit(few)
    copied = model.copy({model.coldStartStrategy: "drop"})
    assert {model.uid, copied.uid} == {estimator.uid}
    assert (model.rank, copied.rank) == (2, 2)
    for one, strategy in ((model, "nan"), (copied, "drop")):
        names = one.getUserCol(), one.getItemCol(), one.getPredictionCol()
        assert names == ("item", "user", "p")
        assert one.getColdStartStrategy() == strategy
    users = {row.id for row in model.userFactors.collect()}
    assert users == {item for _, item, _ in FEW}
