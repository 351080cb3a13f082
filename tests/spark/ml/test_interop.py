"""The model outside of the estimator: MLlib's loader, the library, the store, the jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyspark.ml.recommendation as mllib
import pytest
from pyspark.errors import IllegalArgumentException
from pyspark.sql import DataFrame, SparkSession

from als_spark import (
    ALS,
    ALSModel,
    DataError,
    FactorModel,
    Factors,
    open_store,
    save_model,
)
from als_spark.model.ids import IdIndex
from als_spark.train.metrics import SideStats
from jobs.recommend import main as recommend_main
from tests.spark.ml.ratings import Ratings, factors_of, some_ratings

REG = 0.3


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    return some_ratings(3)


@pytest.fixture(scope="module")
def fitted(frame: DataFrame) -> ALSModel:
    return ALS(rank=3, maxIter=2, regParam=REG, seed=1).fit(frame)


def predictions(model: Any, frame: DataFrame) -> dict[tuple[int, int], float]:
    rows = model.transform(frame.select("user", "item").distinct()).collect()
    return {(row.user, row.item): row.prediction for row in rows}


def check_stats(model: FactorModel, ratings: Ratings) -> None:
    for side, keys in (("user", ratings.users), ("item", ratings.items)):
        ids, _, stats = model.side(side)  # type: ignore[arg-type]
        own = ids.ids.to_pylist()
        assert own == sorted(set(keys.tolist()))
        assert stats.degrees.tolist() == [np.count_nonzero(keys == key) for key in own]
        sums = [ratings.ratings[keys == key].sum() for key in own]
        np.testing.assert_allclose(stats.sums, sums, rtol=1e-12)


class TestMllib:
    @pytest.mark.spark35
    def test_it_loads_what_is_saved_for_it(
        self, fitted: ALSModel, frame: DataFrame, tmp_path: Path
    ) -> None:
        path = str(tmp_path / "model")
        fitted.saveAsMLlib(path)
        wanted = predictions(fitted, frame)
        for loaded in (mllib.ALSModel.load(path), ALSModel.load(path)):
            found = predictions(loaded, frame)
            assert found.keys() == wanted.keys()
            for key, value in wanted.items():
                assert found[key] == pytest.approx(value, rel=1e-6)
        with pytest.raises(FileExistsError, match="already exists"):
            fitted.saveAsMLlib(path)
        fitted.copy({fitted.userCol: "u"}).write().overwrite().format("mllib").save(path)
        assert mllib.ALSModel.load(path).getUserCol() == "u"

    @pytest.mark.slow
    def test_its_models_have_no_statistics(
        self, fitted: ALSModel, frame: DataFrame, tmp_path: Path
    ) -> None:
        fitted.saveAsMLlib(str(tmp_path / "ours"))
        mllib.ALSModel.load(str(tmp_path / "ours")).save(str(tmp_path / "theirs"))
        loaded = ALSModel.load(str(tmp_path / "theirs"))
        assert predictions(loaded, frame) == predictions(fitted, frame)
        with pytest.raises(IllegalArgumentException, match="does not know the number of ratings"):
            loaded.toFactorModel()


class TestLibrary:
    def test_there_and_back(
        self, spark: SparkSession, fitted: ALSModel, frame: DataFrame, ratings: Ratings
    ) -> None:
        model = fitted.toFactorModel()
        check_stats(model, ratings)
        assert (model.description["lambda_reg"], model.description["exponent"]) == (REG, 1.0)
        wanted = predictions(fitted, frame)
        users, items = (list(ids) for ids in zip(*wanted, strict=True))
        np.testing.assert_allclose(model.predict(users, items), [*wanted.values()], rtol=1e-6)
        back = ALSModel.fromFactorModel(spark, model)
        assert factors_of(back.userFactors) == factors_of(fitted.userFactors)
        assert factors_of(back.itemFactors) == factors_of(fitted.itemFactors)
        assert back.userFactors.schema == fitted.userFactors.schema
        check_stats(back.toFactorModel(), ratings)
        assert ALSModel.fromFactorModel(None, model).rank == 3

    def test_saved_models_keep_all_of_it(
        self, fitted: ALSModel, ratings: Ratings, tmp_path: Path
    ) -> None:
        fitted.save(str(tmp_path / "model"))
        model = ALSModel.load(str(tmp_path / "model")).toFactorModel()
        check_stats(model, ratings)
        assert model.description == fitted.toFactorModel().description

    def test_models_of_version_0_1_0(
        self, fitted: ALSModel, frame: DataFrame, tmp_path: Path
    ) -> None:
        fitted.save(str(tmp_path / "model"))
        (line,) = (tmp_path / "model" / "metadata").glob("part-*")
        line.with_name(f".{line.name}.crc").unlink()
        metadata = json.loads(line.read_text())
        del metadata["objective"], metadata["stats"], metadata["defaultParamMap"]["nativeIds"]
        line.write_text(json.dumps(metadata))
        loaded = ALSModel.load(str(tmp_path / "model"))
        assert predictions(loaded, frame) == predictions(fitted, frame)

    def test_statistics_of_another_model(self, fitted: ALSModel, tmp_path: Path) -> None:
        fitted.save(str(tmp_path / "model"))
        stats = tmp_path / "model" / "userStats"
        stats.rename(tmp_path / "kept")
        (tmp_path / "model" / "itemStats").rename(stats)
        with pytest.raises(IllegalArgumentException, match="userStats: the statistics are not"):
            ALSModel.load(str(tmp_path / "model"))

    def test_rows_without_ratings_are_unknown(self, spark: SparkSession) -> None:
        model = FactorModel(
            IdIndex(pa.array([2**40, 5, 6])),
            IdIndex(pa.array(["a", "b"])),
            Factors(np.ones((3, 2)), np.full((2, 2), 2.0)),
            SideStats(np.array([1, 0, 1], np.int32), np.array([2.0, 0.0, 3.0])),
            SideStats(np.array([1, 1], np.int32), np.array([2.0, 3.0])),
        )
        found = ALSModel.fromFactorModel(spark, model)
        assert found.getNativeIds()
        assert factors_of(found.userFactors) == {2**40: [1.0, 1.0], 6: [1.0, 1.0]}
        assert factors_of(found.itemFactors) == {"a": [2.0, 2.0], "b": [2.0, 2.0]}
        assert "lambda_reg" not in found.toFactorModel().description


class TestStore:
    def test_from_a_fit_to_the_store_and_the_jobs(
        self, spark: SparkSession, fitted: ALSModel, frame: DataFrame, tmp_path: Path
    ) -> None:
        save_model(fitted.toFactorModel(), tmp_path / "model")
        store = open_store(tmp_path / "store")
        first = store.publish(tmp_path / "model", run="one")
        second = ALS(rank=2, maxIter=1, regParam=1.0, seed=2).fit(frame)
        save_model(second.toFactorModel(), tmp_path / "second")
        store.publish(tmp_path / "second", run="two")
        path = str(tmp_path / "store")
        assert ALSModel.fromStore(path).rank == 2
        loaded = ALSModel.fromStore(path, first)
        assert predictions(loaded, frame) == predictions(fitted, frame)
        with pytest.raises(DataError, match="no version"):
            ALSModel.fromStore(path, "1999")
        options = ["--store", path, "--version", first, "--top", "3"]
        assert recommend_main([*options, "--output", str(tmp_path / "best")]) == 0
        found = {row.user: row for row in spark.read.parquet(str(tmp_path / "best")).collect()}
        wanted = fitted.recommendForAllUsers(3).collect()
        assert len(found) == len(wanted)
        for row in wanted:
            assert found[row.user].source == "model"
            scores = [entry.score for entry in found[row.user].recommendations]
            assert scores == pytest.approx([e.rating for e in row.recommendations], rel=1e-6)
