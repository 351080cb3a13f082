"""Models of which the factors of a side stay on the executors: they answer as all others."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.errors import IllegalArgumentException
from pyspark.sql import DataFrame, SparkSession

from als_spark import ALS, ALSModel, DataError, Objective
from als_spark.ml import far, training
from als_spark.ml.biases import Baseline
from als_spark.ml.factors import SideFactors
from als_spark.ml.far import FarSide
from als_spark.spark import planner
from als_spark.spark.predict import far_rows
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.train.factor_blocks import DistributedFactors
from als_spark.train.backend import as_array
from als_spark.train.metrics import SideStats

N_USERS, N_ITEMS, RANK = 23, 11, 3
COLUMNS = RANK + 2
MEAN = 3.25


def refuse(*_: object) -> None:
    raise AssertionError("a side was brought to the driver")


@contextmanager
def side_limit(size: int) -> Iterator[None]:
    """Sides of more bytes are too many for a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "BROADCAST_SHARE", planner.WORKER_BYTES // size)
        yield


def is_far(model: ALSModel) -> tuple[bool, ...]:
    return tuple(isinstance(side, FarSide) for side in model._factors.sides.values())


def answers(frame: DataFrame) -> dict[Any, Any]:
    rows = frame.collect()
    found = {tuple(row[:-1]): row[-1] for row in rows}
    assert len(found) == len(rows)
    return found


def same(own: DataFrame, other: DataFrame) -> None:
    """The same ids in the same order; scores to some last bits of 32."""
    assert own.schema == other.schema
    found, wanted = answers(own), answers(other)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if isinstance(value, list) and not any(isinstance(entry, float) for entry in value):
            assert [entry[0] for entry in found[key]] == [entry[0] for entry in value]
            scores = [entry[1] for entry in value]
            assert [entry[1] for entry in found[key]] == pytest.approx(scores, rel=1e-6)
        else:
            assert found[key] == pytest.approx(value, rel=1e-6, nan_ok=True)


@pytest.fixture(scope="module")
def near(spark: SparkSession) -> ALSModel:
    """Ids whose order as text is another one, factors of small numbers: scores are often equal."""
    rng = np.random.default_rng(3)
    sides = []
    for side, n in enumerate((N_USERS, N_ITEMS)):
        factors = rng.integers(-1, 2, (n, COLUMNS)).astype(np.float32)
        factors[:, RANK + 1 - side] = 1
        factors[:, RANK + side] += MEAN * (1 - side)
        own = SideStats(rng.integers(1, 9, n).astype(np.int32), rng.integers(1, 30, n) / 2)
        numbers = [Decimal(7 * k) - Decimal("30.5") for k in range(n)]
        ids = pa.array([f"i{k}é" for k in range(n)]) if side else pa.array(numbers)
        ids = ids if side else ids.cast(pa.decimal128(9, 1))
        sides.append(SideFactors.of(ids, factors, own))
    objective = Objective(0.3, 1.0, bias_reg=0.2, mean=MEAN)
    model = ALSModel(spark, *sides, objective, Baseline(MEAN, biased=True))
    model._set(userCol="user", itemCol="item", predictionCol="p", coldStartStrategy="mean")
    return model._set(nativeIds=True)


@pytest.fixture(scope="module")
def saved(near: ALSModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("models") / "near")
    near.save(path)
    return path


@pytest.fixture(scope="module")
def distant(saved: str) -> ALSModel:
    with side_limit(1):
        model = ALSModel.load(saved)
    assert is_far(model) == (True, True)
    return model


@pytest.fixture(scope="module")
def pairs(spark: SparkSession) -> DataFrame:
    """Known ids and others."""
    rows = [
        (Decimal(7 * (k % 13)) - Decimal("30.5"), f"i{k % 7}é" if k % 5 else "none", float(k % 4))
        for k in range(90)
    ]
    rows += [(Decimal("1.5"), "i3é", 2.0), (Decimal("1.5"), "i4é", 1.0), (Decimal(2), "-", 1.0)]
    return spark.createDataFrame(
        sorted(set(rows)), "user decimal(9,1), item string, rating double"
    ).dropDuplicates(["user", "item"])


@pytest.mark.slow
def test_answers(
    near: ALSModel, distant: ALSModel, pairs: DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far_rows, "GROUP_BYTES", 4 * COLUMNS * 4)
    with monkeypatch.context() as patch:
        patch.setattr(FarSide, "collect", refuse)
        users, items = pairs.select("user"), pairs.select("item").where("item < 'i5'")
        calls: list[Callable[[ALSModel], DataFrame]] = [
            lambda model: model.itemBiases,
            lambda model: model.transform(pairs.drop("rating")),
            lambda model: model.recommendForUserSubset(users, 4, excludeSeen=pairs, items=items),
            lambda model: model.recommendForAllItems(N_USERS + 1),
            lambda model: model.similarUsers(None, 3),
        ]
        for call in calls:
            same(call(distant), call(near))
    for own, other in zip(distant.side_factors, near.side_factors, strict=True):
        assert own.ids.equals(other.ids)
        np.testing.assert_array_equal(own.factors, other.factors)
        assert own.stats is not None
        assert other.stats is not None
        np.testing.assert_array_equal(own.stats.degrees, other.stats.degrees)
        np.testing.assert_array_equal(own.stats.sums, other.stats.sums)
    found, wanted = distant.toFactorModel(), near.toFactorModel()
    np.testing.assert_array_equal(found.factors.users, wanted.factors.users)
    assert found.users.ids.equals(wanted.users.ids)


@pytest.mark.slow
def test_folding_in(near: ALSModel, distant: ALSModel, pairs: DataFrame) -> None:
    # Of the users two are new and one has no item that is known; others are solved anew.
    extended, wanted = distant.foldIn(pairs), near.foldIn(pairs)
    assert is_far(extended) == (True, True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FarSide, "collect", refuse)
        same(extended.userFactors, wanted.userFactors)
        assert extended.userFactors.count() == N_USERS + 1
    for own, other in zip(extended.side_factors, wanted.side_factors, strict=True):
        assert own.ids.equals(other.ids)
        np.testing.assert_allclose(own.factors, other.factors, rtol=1e-6)
        assert own.stats is not None
        assert other.stats is not None
        np.testing.assert_array_equal(own.stats.degrees, other.stats.degrees)


@pytest.mark.slow
def test_files(near: ALSModel, saved: str, tmp_path: Path) -> None:
    """A model outlives its files; what is wrong in them is told."""
    path = str(tmp_path / "model")
    near.save(path)
    with side_limit(4 * COLUMNS * (N_USERS - 1)):
        model = ALSModel.load(path)
        assert is_far(model) == (True, False)
        model.setPredictionCol("q").write().overwrite().save(path)
        again = ALSModel.load(path)
        same(again.userFactors, near.userFactors)
        # Older files do not tell the number of rows.
        session = near._factors.session
        metadata = {"rank": COLUMNS + 1}
        with pytest.raises(IllegalArgumentException, match="the factors are not of rank 6"):
            far.read_side(session, f"{saved}/userFactors", metadata, "user")
        (user, item) = (model._factors.sides[side] for side in ("user", "item"))
        assert isinstance(user, FarSide)
        mixed = FarSide(item.ids, COLUMNS, user.frame, user.persisted)
        with pytest.raises(DataError, match="factors are not those of its ids: save the model"):
            list(mixed.pieces())
        with pytest.raises(DataError, match="factors are not those of its ids"):
            mixed.collect()


@pytest.fixture(scope="module")
def ratings(spark: SparkSession) -> DataFrame:
    rng = np.random.default_rng(1)
    pairs = [divmod(int(pair), N_ITEMS) for pair in rng.permutation(N_USERS * N_ITEMS)[:150]]
    rows = [(u, i, float(rng.integers(1, 6))) for u, i in sorted(pairs)]
    return spark.createDataFrame(rows, "user int, item int, rating float").coalesce(2).cache()


@pytest.mark.slow
@pytest.mark.spark35
def test_users_that_were_shuffled_stay_away_from_the_driver(
    spark: SparkSession, ratings: DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else a task trains a whole model of so few ratings.
    monkeypatch.setattr(training, "PrepareOptions", partial(PrepareOptions, placement="ratings"))
    als = ALS(rank=RANK, maxIter=2, regParam=0.1, seed=1, biases=True)
    wanted = als.copy({als.exchange: "broadcast"}).fit(ratings)
    assert is_far(wanted) == (False, False)
    collected = []

    def seen(*args: Any) -> Any:
        collected.append(SideFactors.of_index(args[1], as_array(args[2])))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DistributedFactors, "collect", refuse)
            return far.trained_side(*args)

    monkeypatch.setattr(training, "trained_side", seen)
    with side_limit(4 * COLUMNS * (N_USERS + N_ITEMS) // 2), monkeypatch.context() as patch:
        patch.setattr(far, "collect_factors", refuse)
        smaller, model = als.fit(ratings, [{als.rank: 2}, {}])
        assert is_far(smaller) == is_far(model) == (True, False)
        # They were trained together, and are two models.
        smaller.release()
        pairs = ratings.select("user", "item")
        same(model.transform(pairs), wanted.transform(pairs))
        same(model.recommendForAllUsers(3), wanted.recommendForAllUsers(3))
        assert f"{N_USERS}</" in model._repr_html_()
        model.write().format("mllib").save(str(tmp_path / "model"))
    loaded = ALSModel.load(str(tmp_path / "model"))
    assert is_far(loaded) == (False, False)
    for found in (model, loaded):
        for own, other in zip(found.side_factors, collected[2:], strict=True):
            assert own.ids.equals(other.ids)
            assert own.factors.tobytes() == other.factors.tobytes()


@pytest.mark.slow
def test_how_long_factors_stay(
    spark: SparkSession, distant: ALSModel, pairs: DataFrame, tmp_path: Path
) -> None:
    first = distant.foldIn(pairs)
    persisted = weakref.ref(first._factors.sides["user"].persisted)  # type: ignore[union-attr]
    factors = first.userFactors
    del first
    gc.collect()
    # What is left is Spark's: it frees what no DataFrame is made of.
    assert persisted() is None
    jvm: Any = spark.sparkContext._jvm
    jvm.System.gc()
    assert factors.count() == N_USERS + 1

    context = spark.sparkContext
    context.setCheckpointDir(tmp_path.as_uri())
    try:
        second = distant.foldIn(pairs)
    finally:
        context._jsc.sc().setCheckpointDir(None)  # type: ignore[attr-defined]
    assert len(list(tmp_path.glob("*/rdd-*"))) == 1
    copy = second.copy()
    third = second.foldIn(pairs, "item")
    second.release()
    # Of both models.
    assert third.recommendForAllItems(2).count() == N_ITEMS + 1
    assert list(tmp_path.glob("*/rdd-*"))
    third.release()
    assert not list(tmp_path.glob("*/rdd-*"))
    assert distant.itemFactors.count() == N_ITEMS
    for model in (second, copy, third):
        assert repr(model) == f"ALSModel: uid={model.uid}, rank={RANK}"
        with pytest.raises(IllegalArgumentException, match="was released: fit it again, or load"):
            model.transform(pairs)
