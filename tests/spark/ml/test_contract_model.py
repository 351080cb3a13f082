"""MLlib's published contract of the model: what its own tests ask for, asked of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyspark.ml.recommendation as mllib
import pytest
from pyspark.errors import AnalysisException, StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark import ALS, ALSModel
from als_spark.ml.factors import SideFactors
from tests import reference
from tests.spark.ml.contract import REFUSED, both, conf

USERS, ITEMS = np.array([0, 1, 2, -9]), np.array([3, 4, 5, 6, 2**31 - 1])
Sides = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
IMPLEMENTATIONS = {ALS: "ours", mllib.ALS: "theirs"}


@pytest.fixture(scope="module")
def factors() -> Sides:
    rng = np.random.default_rng(4)
    return rng.normal(size=(USERS.size, 3)), rng.normal(size=(ITEMS.size, 3))


@pytest.fixture(scope="module")
def models(
    spark: SparkSession, factors: Sides, tmp_path_factory: pytest.TempPathFactory
) -> dict[type, Any]:
    """The same model twice, by the class of its estimator."""
    users, items = factors
    model = ALSModel(spark, SideFactors.of(USERS, users), SideFactors.of(ITEMS, items))
    model.setUserCol("user").setItemCol("item").setColdStartStrategy("nan")
    path = str(tmp_path_factory.mktemp("model") / "saved")
    model.write().format("mllib").save(path)
    return {ALS: ALSModel.load(path), mllib.ALS: mllib.ALSModel.load(path)}


def answers(frame: DataFrame) -> dict[int, list[tuple[int, float]]]:
    """Recommendations by id; no id has two rows, and a row names its fields in MLlib's order."""
    assert frame.columns[1] == "recommendations"
    rows = frame.collect()
    assert len({row[0] for row in rows}) == len(rows)
    other = {"user": "item", "item": "user"}[frame.columns[0]]
    assert all(e.__fields__ == [other, "rating"] for row in rows for e in row.recommendations)
    return {row[0]: [tuple(entry) for entry in row.recommendations] for row in rows}


class TestRecommend:
    @both
    @pytest.mark.parametrize("side", ["user", "item"])
    @pytest.mark.parametrize(
        "extra",
        [pytest.param(-2, marks=pytest.mark.slow), pytest.param(0, marks=pytest.mark.slow), 2],
    )
    def test_fewer_as_many_and_more_than_there_are(
        self, spark: SparkSession, models: Any, factors: Sides, als: type, side: str, extra: int
    ) -> None:
        model = models[als]
        ids, others, of_rows, of_others = (
            (USERS, ITEMS, *factors) if side == "user" else (ITEMS, USERS, *factors[::-1])
        )
        top = others.size + extra
        rows, scores = reference.brute_force_top(of_rows, of_others, min(top, others.size))
        wanted = {
            int(ids[k]): (others[rows[k]].tolist(), scores[k].tolist()) for k in range(ids.size)
        }
        if side == "user":
            every, subset = model.recommendForAllUsers, model.recommendForUserSubset
        else:
            every, subset = model.recommendForAllItems, model.recommendForItemSubset
        found = answers(every(top))
        assert {k: [i for i, _ in entries] for k, entries in found.items()} == {
            k: named for k, (named, _) in wanted.items()
        }
        for k, entries in found.items():
            np.testing.assert_allclose([score for _, score in entries], wanted[k][1], rtol=1e-5)
        # Some ids, repeated or not, are answered as among all; all ids are all.
        two = [(int(ids[1]),), (int(ids[3]),)]
        for rows_asked in (two, [*two, two[1], two[0], two[1]]):
            asked = spark.createDataFrame(rows_asked, f"{side} int")
            assert answers(subset(asked, top)) == {k: found[k] for (k,) in two}
        frame = model.userFactors if side == "user" else model.itemFactors
        assert answers(subset(frame.withColumnRenamed("id", side), top)) == found


class TestTransform:
    @both
    def test_unknown_users_and_items(self, spark: SparkSession, models: Any, als: type) -> None:
        model = models[als].copy()
        rows = [(77, 88, True), (0, 88, True), (77, 3, True), (0, 3, False)]
        frame = spark.createDataFrame(rows, "user int, item int, unknown boolean")
        assert model.getColdStartStrategy() == "nan"
        known = []
        for row in model.transform(frame).collect():
            assert np.isnan(row.prediction) == row.unknown
            known += [row.prediction] * (not row.unknown)
        for spelled, dropped in (("NaN", False), ("Nan", False), ("DROP", True), ("drop", True)):
            found = model.setColdStartStrategy(spelled).transform(frame).collect()
            assert [row.prediction for row in found if not row.unknown] == known
            assert len(found) == (1 if dropped else 4)

    @both
    @pytest.mark.parametrize(
        ("types", "row", "name"),
        [
            ("user bigint, item int", (2**31, 3), "user"),
            ("user double, item int", (-(2.0**31) - 1, 3), "user"),
            ("user int, item double", (0, 3.5), "item"),
        ],
    )
    def test_what_is_no_int_is_refused(
        self, spark: SparkSession, models: Any, als: type, types: str, row: Any, name: str
    ) -> None:
        frame = spark.createDataFrame([row], types)
        message = f"without fractional part for column {name}, but got"
        with conf(spark, "spark.sql.ansi.enabled", "false"), pytest.raises(REFUSED, match=message):
            models[als].transform(frame).collect()

    @both
    @pytest.mark.parametrize("strategy", ["nan", pytest.param("drop", marks=pytest.mark.slow)])
    def test_a_stream(
        self, spark: SparkSession, models: Any, als: type, strategy: str, tmp_path: Path
    ) -> None:
        pairs = spark.createDataFrame([(0, 3), (1, 4), (77, 3)], "user int, item int")
        pairs.write.parquet(str(tmp_path / "pairs"))
        stream = spark.readStream.schema(pairs.schema).parquet(str(tmp_path / "pairs"))
        model = models[als].copy().setColdStartStrategy(strategy)
        name = f"stream_{IMPLEMENTATIONS[als]}_{strategy}"
        query = (
            model.transform(stream)
            .writeStream.format("memory")
            .queryName(name)
            .option("checkpointLocation", str(tmp_path / "checkpoints"))
            .trigger(availableNow=True)
            .start()
        )
        try:
            query.awaitTermination()
        except StreamingQueryException as error:  # pragma: no cover - the test's failure in words
            pytest.fail(str(error))
        found = sorted(map(str, spark.table(name).collect()))
        assert found == sorted(map(str, model.transform(pairs).collect()))
        assert len(found) == (2 if strategy == "drop" else 3)

    @both
    @pytest.mark.parametrize("checked", ["true", "false"])
    def test_pairs_made_of_its_own_factors(
        self, spark: SparkSession, models: Any, factors: Sides, als: type, checked: str
    ) -> None:
        # Both sides of the joins have the same columns, which is where a self-join is ambiguous.
        model = models[als]
        with conf(spark, "spark.sql.analyzer.failAmbiguousSelfJoin", checked):
            users = model.userFactors.select(F.col("id").alias("user"))
            items = model.itemFactors.select(F.col("id").alias("item"))
            pairs = users.crossJoin(items)
            if als is not ALS and spark.version.startswith("3."):
                # MLlib predicts them from Spark 4 on.
                with pytest.raises(AnalysisException, match="features"):
                    model.transform(pairs)
                return
            found = model.transform(pairs).collect()
        assert len(found) == USERS.size * ITEMS.size
        exact = factors[0] @ factors[1].T
        for row in found:
            u, i = USERS.tolist().index(row.user), ITEMS.tolist().index(row.item)
            assert row.prediction == pytest.approx(exact[u, i], rel=1e-5, abs=1e-5)


VALUES: dict[str, Any] = {
    "rank": 1,
    "maxIter": 1,
    "regParam": 0.01,
    "numUserBlocks": 2,
    "numItemBlocks": 3,
    "implicitPrefs": True,
    "alpha": 0.9,
    "userCol": "u",
    "itemCol": "i",
    "seed": -5,
    "ratingCol": "r",
    "nonnegative": True,
    "checkpointInterval": 20,
    "intermediateStorageLevel": "MEMORY_ONLY",
    "finalStorageLevel": "MEMORY_AND_DISK_SER",
    "coldStartStrategy": "drop",
    "blockSize": 16,
    "predictionCol": "p",
}


def values_of(instance: Any) -> dict[str, Any]:
    """Every parameter, by its getter where it has one."""
    names = [param.name for param in instance.params if param.name in VALUES]
    return {name: getattr(instance, f"get{name[0].upper()}{name[1:]}")() for name in names}


class TestPersistence:
    @both
    def test_every_parameter_of_the_estimator(self, als: Any, tmp_path: Path) -> None:
        estimator = als()
        before = values_of(estimator)
        assert before.keys() == VALUES.keys()
        assert all(before[name] != value for name, value in VALUES.items())
        for name, value in VALUES.items():
            getattr(estimator, f"set{name[0].upper()}{name[1:]}")(value)
        estimator.save(str(tmp_path / "als"))
        for cls in (als, ALS):
            loaded = cls.load(str(tmp_path / "als"))
            assert values_of(loaded) == VALUES
            assert loaded.uid == estimator.uid

    @both
    def test_every_parameter_of_the_model(self, models: Any, als: type, tmp_path: Path) -> None:
        model = models[als].copy()
        names = values_of(model).keys()
        assert names == {"userCol", "itemCol", "predictionCol", "coldStartStrategy", "blockSize"}
        for name in names:
            getattr(model, f"set{name[0].upper()}{name[1:]}")(VALUES[name])
        model.write().overwrite().save(str(tmp_path / "model"))
        loaded = type(model).load(str(tmp_path / "model"))
        assert values_of(loaded) == {name: VALUES[name] for name in names}
        assert (loaded.uid, loaded.rank) == (model.uid, 3)
        for was, now in (
            (model.userFactors, loaded.userFactors),
            (model.itemFactors, loaded.itemFactors),
        ):
            assert sorted(now.collect()) == sorted(was.collect())
