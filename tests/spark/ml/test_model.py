"""The model beside MLlib's, which has the very same factors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyspark.ml.recommendation as mllib
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import IllegalArgumentException, SparkRuntimeException
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import SQLTransformer
from pyspark.ml.tuning import CrossValidator, CrossValidatorModel, ParamGridBuilder
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark import ALS, ALSModel
from als_spark.ml import factors as factor_files
from als_spark.ml.factors import SideFactors

USER_IDS = [-7, 0, 1, 3, 12, 2**31 - 1]
ITEM_IDS = [-3, 1, 2, 4, 5, 9, 20]
SUBSET = "user string, item double"


class Pair(NamedTuple):
    """The same model twice."""

    ours: ALSModel
    theirs: Any


@pytest.fixture(scope="module")
def pair(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Small whole factors: every score is exact, and many are equal."""
    rng = np.random.default_rng(1)
    sides = [
        SideFactors.of(np.array(ids), rng.integers(-2, 3, (len(ids), 3)).astype(np.float32))
        for ids in (USER_IDS, ITEM_IDS)
    ]
    model = ALSModel(spark, *sides).setUserCol("user").setItemCol("item")
    model.setColdStartStrategy("nan")
    path = str(tmp_path_factory.mktemp("model") / "mllib")
    model.write().format("mllib").save(path)
    return Pair(model, mllib.ALSModel.load(path))


@pytest.fixture(scope="module")
def pairs(spark: SparkSession) -> DataFrame:
    rows = [(user, item, 1, "x") for user in (*USER_IDS, 99) for item in (*ITEM_IDS, 99)]
    return spark.createDataFrame(rows, "user int, item int, id int, features string")


def same(ours: DataFrame, theirs: DataFrame) -> list[Any]:
    """Assert that schemas and rows, in whatever order, are the same; return the rows."""
    assert ours.schema == theirs.schema
    found = sorted(map(str, ours.collect()))
    assert found == sorted(map(str, theirs.collect()))
    return found


class TestTransform:
    @pytest.mark.spark35
    @pytest.mark.parametrize("strategy", ["nan", "Drop"])
    def test_predictions(self, pair: Pair, pairs: DataFrame, strategy: str) -> None:
        ours, theirs = (model.copy().setColdStartStrategy(strategy) for model in pair)
        rows = same(ours.transform(pairs), theirs.transform(pairs))
        known = len(USER_IDS) * len(ITEM_IDS)
        assert len(rows) == (known if strategy == "Drop" else pairs.count())
        assert sum("prediction=nan" in row for row in rows) == len(rows) - known

    def test_ids_come_out_as_ints(self, pair: Pair, pairs: DataFrame) -> None:
        typed = pairs.withColumn("user", F.col("user").cast("double"))
        typed = typed.withColumn("item", F.col("item").cast("decimal(20,0)"))
        same(pair.ours.transform(typed), pair.ours.transform(pairs))

    def test_real_factors(self, spark: SparkSession, pair: Pair, pairs: DataFrame) -> None:
        rng = np.random.default_rng(2)
        users, items = rng.normal(size=(6, 40)), rng.normal(size=(7, 40))
        sides = SideFactors.of(np.array(USER_IDS), users), SideFactors.of(np.array(ITEM_IDS), items)
        model = pair.ours.copy({pair.ours.coldStartStrategy: "drop"})
        model = model._copyValues(ALSModel(spark, *sides))
        exact = users @ items.T
        for row in model.transform(pairs).collect():
            wanted = exact[USER_IDS.index(row.user), ITEM_IDS.index(row.item)]
            assert row.prediction == pytest.approx(wanted, rel=1e-5, abs=1e-5)

    def test_names(self, pair: Pair, pairs: DataFrame) -> None:
        names = {"user": "userFactors", "item": "itemfactorsId", "id": "_userFactors"}
        frame = pairs.withColumnsRenamed(names)
        params = {"userCol": "userFactors", "itemCol": "itemfactorsId", "predictionCol": ""}
        ours, theirs = (
            model.copy({model.getParam(name): value for name, value in params.items()})
            for model in pair
        )
        same(ours.transform(frame), theirs.transform(frame))
        twice = frame.select("*", "features")
        ours, theirs = (
            model.copy({model.predictionCol: "itemFactors"}) for model in (ours, theirs)
        )
        same(ours.transform(twice), theirs.transform(twice))
        dotted = pairs.withColumnRenamed("user", "a.user")
        found = pair.ours.transform(dotted, {pair.ours.userCol: "a.user"})
        assert found.columns == ["a.user", "item", "id", "features", "prediction"]
        assert found.count() == pairs.count()

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (3.5, "without fractional part for column user, but got 3.5"),
            (2.0**31, r"without fractional part for column user, but got 2\.147483648E9"),
            (None, "user Ids MUST NOT be Null"),
        ],
    )
    def test_unusable_ids(self, spark: SparkSession, pair: Pair, value: Any, message: str) -> None:
        frame = spark.createDataFrame([(1.0, 1), (value, 1)], "user double, item int")
        # PySpark 3.5 does not take the JVM's exception apart.
        with pytest.raises((SparkRuntimeException, Py4JJavaError), match=message):
            pair.ours.transform(frame).collect()

    def test_unusable_columns(self, spark: SparkSession, pair: Pair, pairs: DataFrame) -> None:
        text = spark.createDataFrame([("1", 1)], "user string, item int")
        for model in pair:
            with pytest.raises(IllegalArgumentException, match="Column user must be of type numer"):
                model.transform(text)
            with pytest.raises(IllegalArgumentException, match="Column id already exists"):
                model.transform(pairs, {model.predictionCol: "id"})
        with pytest.raises(IllegalArgumentException, match="user does not exist"):
            pair.ours.transform(pairs.drop("user"))
        with pytest.raises(IllegalArgumentException, match="coldStartStrategy given invalid value"):
            pair.ours.transform(pairs, {pair.ours.coldStartStrategy: "median"})
        with pytest.raises(TypeError, match="blockSize"):
            pair.ours.transform(pairs, {pair.ours.blockSize: "8"})
        assert pair.ours.transform(pairs).count() == pairs.count()


class TestRecommend:
    @pytest.mark.spark35
    def test_all(self, pair: Pair) -> None:
        ours, theirs = pair
        users = same(ours.recommendForAllUsers(50), theirs.recommendForAllUsers(50))
        items = same(ours.recommendForAllItems(50), theirs.recommendForAllItems(50))
        assert (len(users), len(items)) == (len(USER_IDS), len(ITEM_IDS))

    @pytest.mark.parametrize("top", [1, 3])
    def test_the_best_are_the_first_of_all(self, pair: Pair, top: int) -> None:
        # Which of equal ones MLlib keeps depends on its blocks.
        whole = {
            row.user: row.recommendations for row in pair.ours.recommendForAllUsers(50).collect()
        }
        found = pair.ours.recommendForAllUsers(top).collect()
        assert {row.user: row.recommendations for row in found} == {
            user: entries[:top] for user, entries in whole.items()
        }
        theirs = pair.theirs.recommendForAllUsers(top).collect()
        assert {row.user: [e.rating for e in row.recommendations] for row in found} == {
            row.user: [e.rating for e in row.recommendations] for row in theirs
        }

    def test_ties_fall_by_id(self, pair: Pair) -> None:
        ties = 0
        for row in pair.ours.recommendForAllUsers(50).collect():
            ranked = [(entry.rating, entry.item) for entry in row.recommendations]
            assert ranked == sorted(ranked, reverse=True)
            ties += len(ranked) - len({rating for rating, _ in ranked})
        assert ties > 5

    @pytest.mark.slow
    def test_subsets(self, spark: SparkSession, pair: Pair) -> None:
        rows = [("1", 4.0), ("1", 4.0), ("3", 4.5), ("77", 2.0**40), (None, None), ("-7", 20.0)]
        subset = spark.createDataFrame(rows, SUBSET)
        ours, theirs = pair
        users = same(
            ours.recommendForUserSubset(subset, 50), theirs.recommendForUserSubset(subset, 50)
        )
        items = same(
            ours.recommendForItemSubset(subset, 50), theirs.recommendForItemSubset(subset, 50)
        )
        assert (len(users), len(items)) == (3, 2)
        # Not the name of who runs Spark, which SQL has as `user`.
        with pytest.raises(IllegalArgumentException, match="user does not exist"):
            ours.recommendForUserSubset(subset.drop("user"), 2)

    def test_names(self, pair: Pair) -> None:
        ours, theirs = (
            model.copy({model.userCol: "u", model.itemCol: "an item"}) for model in pair
        )
        same(ours.recommendForAllUsers(50), theirs.recommendForAllUsers(50))

    @pytest.mark.parametrize("top", [0, -1])
    def test_none_asked_for(self, pair: Pair, top: int) -> None:
        with pytest.raises(IllegalArgumentException, match=f"{top} recommendations wanted"):
            pair.ours.recommendForAllUsers(top)

    def test_they_outlive_the_model(self, spark: SparkSession, pair: Pair) -> None:
        found = pair.ours._copyValues(
            ALSModel(spark, *(side for side in pair.ours._factors.sides.values()))
        ).recommendForAllUsers(2)
        assert found.count() == len(USER_IDS)


def test_factors(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    users, items = (
        sorted(map(str, frame.collect()))
        for frame in (pair.theirs.userFactors, pair.theirs.itemFactors)
    )
    assert sorted(map(str, pair.ours.userFactors.collect())) == users
    assert sorted(map(str, pair.ours.itemFactors.collect())) == items
    assert pair.ours.rank == 3
    monkeypatch.setattr(factor_files, "CHUNK_FACTORS", 7)
    sides = pair.ours._factors
    frame = factor_files.factors_frame(sides.session, sides.sides["user"])
    assert sorted(map(str, frame.collect())) == users


class TestFiles:
    @pytest.mark.spark35
    def test_ours(self, pair: Pair, pairs: DataFrame, tmp_path: Path) -> None:
        path = str(tmp_path / "model")
        pair.ours.save(path)
        loaded = ALSModel.load(path)
        assert (loaded.uid, loaded.rank) == (pair.ours.uid, 3)
        assert loaded.extractParamMap() == pair.ours.extractParamMap()
        same(loaded.transform(pairs), pair.ours.transform(pairs))
        (line,) = (tmp_path / "model" / "metadata").glob("part-*")
        assert json.loads(line.read_text())["class"] == "als_spark.ml.model.ALSModel"
        with pytest.raises(FileExistsError, match="already exists"):
            pair.ours.save(path)
        loaded.setUserCol("u").write().overwrite().save(path)
        assert ALSModel.load(path).getUserCol() == "u"

    @pytest.mark.spark35
    def test_mllibs(self, pair: Pair, pairs: DataFrame, tmp_path: Path) -> None:
        pair.theirs.save(str(tmp_path / "model"))
        loaded = ALSModel.load(str(tmp_path / "model"))
        same(loaded.transform(pairs), pair.theirs.transform(pairs))
        assert loaded.uid == pair.theirs.uid

    def test_estimators(self, spark: SparkSession, tmp_path: Path) -> None:
        als = ALS(rank=4, regParam=0.25, seed=-3, coldStartStrategy="drop", ratingCol="r")
        als.save(str(tmp_path / "ours"))
        als.write().format("mllib").save(str(tmp_path / "mllib"))
        theirs = mllib.ALS.load(str(tmp_path / "mllib"))
        theirs.save(str(tmp_path / "theirs"))
        wanted = {param.name: value for param, value in als.extractParamMap().items()}
        for other in (theirs, *(ALS.load(str(tmp_path / name)) for name in ("ours", "theirs"))):
            assert other.uid == als.uid
            found = {param.name: value for param, value in other.extractParamMap().items()}
            known = {param.name for param in other.params}
            assert found.keys() <= known
            assert found == {name: value for name, value in wanted.items() if name in known}

    def test_what_mllib_lacks(self, spark: SparkSession, tmp_path: Path) -> None:
        als = ALS(tol=0.5, regExponent=0.25, accelerate=True)
        als.save(str(tmp_path / "als"))
        loaded = ALS.load(str(tmp_path / "als"))
        assert (loaded.getTol(), loaded.getRegExponent()) == (0.5, 0.25)
        assert loaded.getAccelerate()
        with pytest.raises(IllegalArgumentException, match="which MLlib's ALS lacks: clear it"):
            als.write().format("mllib").save(str(tmp_path / "mllib"))
        assert not (tmp_path / "mllib").exists()
        for name in ("tol", "regExponent", "accelerate"):
            als.clear(als.getParam(name))
        als.write().format("mllib").save(str(tmp_path / "mllib"))
        assert mllib.ALS.load(str(tmp_path / "mllib")).uid == als.uid

    def test_what_is_no_model(self, pair: Pair, tmp_path: Path) -> None:
        ALS().save(str(tmp_path / "als"))
        with pytest.raises(
            IllegalArgumentException, match=r"found class name als_spark\.ml\.als\.ALS"
        ):
            ALSModel.load(str(tmp_path / "als"))
        with pytest.raises(IllegalArgumentException, match="format 'pmml': use one of internal"):
            pair.ours.write().format("pmml")

    def test_rank_and_factors_that_disagree(self, pair: Pair, tmp_path: Path) -> None:
        pair.ours.save(str(tmp_path / "model"))
        (line,) = (tmp_path / "model" / "metadata").glob("part-*")
        line.with_name(f".{line.name}.crc").unlink()
        line.write_text(line.read_text().replace('"rank": 3', '"rank": 4'))
        with pytest.raises(IllegalArgumentException, match="userFactors: the factors are not of"):
            ALSModel.load(str(tmp_path / "model"))

    @pytest.mark.slow
    @pytest.mark.slow
    def test_inside_of_others(
        self, spark: SparkSession, pairs: DataFrame, tmp_path: Path, monkeypatch: Any
    ) -> None:
        frame = spark.createDataFrame(
            [(user, item, float((user + item) % 5)) for user in range(8) for item in range(6)],
            "user int, item int, rating float",
        )
        als = ALS(rank=2, maxIter=2, seed=0, coldStartStrategy="drop")
        kept = SQLTransformer(statement="SELECT user, item, rating FROM __THIS__")
        pipeline = Pipeline(stages=[kept, als])
        validator = CrossValidator(
            estimator=als,
            estimatorParamMaps=ParamGridBuilder().addGrid(als.rank, [1, 2]).build(),
            evaluator=RegressionEvaluator(labelCol="rating"),
            numFolds=2,
            seed=1,
        )
        fitted = {"pipeline": pipeline.fit(frame), "validator": validator.fit(frame)}
        for name, saved in {**fitted, "raw": pipeline, "validator raw": validator}.items():
            saved.save(str(tmp_path / name))
        wanted = {
            name: fitted[name].transform(frame)  # type: ignore[attr-defined]
            for name in ("pipeline", "validator")
        }
        # As in a process that has not imported them.
        for name in [name for name in sys.modules if name.startswith("als_spark.ml")]:
            monkeypatch.delitem(sys.modules, name)
        for cls, name in ((PipelineModel, "pipeline"), (CrossValidatorModel, "validator")):
            loaded = cls.load(str(tmp_path / name))
            same(loaded.transform(frame), wanted[name])
        stages = Pipeline.load(str(tmp_path / "raw")).getStages()
        assert type(stages[1]).__module__ == "als_spark.ml.als"
        assert stages[1].getRank() == 2
        again = CrossValidator.load(str(tmp_path / "validator raw"))
        assert [*again.getEstimatorParamMaps()[1].values()] == [2]
        assert again.getEstimator().uid == als.uid
