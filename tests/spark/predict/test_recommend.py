"""Recommendations on Spark against the slow twin, whatever the number of slices."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import ConfigError, DataError
from als_spark.model.factor_model import FactorModel
from als_spark.model.foldin import fold_in
from als_spark.model.recommend import (
    plan_recommendations,
    popular_items,
    recommend,
    similar_items,
)
from als_spark.solve.objective import Objective
from als_spark.spark.predict.recommend import (
    SLICE_FACTORS,
    SLICE_RECOMMENDATIONS,
    SLICE_ROWS,
    choose_slices,
    cut_slices,
    recommend_for_all,
    similar_items_for_all,
)
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.prepare.prepare import prepare_ratings
from als_spark.spark.read.columns import source_from_frame
from als_spark.spark.read.sources import SourceOptions, read_source
from als_spark.train.loop import train_models
from als_spark.train.records import ModelSpec, TrainingOptions
from tests.conftest import random_model
from tests.reference import expected_lists, expected_similar

Answers = dict[Any, tuple[list[tuple[Any, float]], str]]


def collected(frame: DataFrame) -> Answers:
    """The answer of each id: (id, score) pairs, and the source; no id twice."""
    rows = frame.collect()
    answers = {row[0]: ([tuple(entry) for entry in row[1]], row[2]) for row in rows}
    assert len(answers) == len(rows)
    return answers


def of_table(table: pa.Table) -> Answers:
    asked = table.column_names[0]
    return {
        row[asked]: ([tuple(entry.values()) for entry in row["recommendations"]], row["source"])
        for row in table.to_pylist()
    }


def check(found: Answers, expected: dict[Any, list[tuple[Any, float]]]) -> None:
    """Compare with the twin, whose sums are exact: ids equal, scores to rounding."""
    assert found.keys() == expected.keys()
    for asked, entries in expected.items():
        own, source = found[asked]
        assert source == "model"
        assert [other for other, _ in own] == [other for other, _ in entries]
        scores = [score for _, score in entries]
        np.testing.assert_allclose([s for _, s in own], scores, rtol=1e-12, atol=1e-13)


def random_pairs(model: FactorModel, n: int) -> list[tuple[Any, Any]]:
    """Pairs of a model's ids, some of them twice."""
    rng = np.random.default_rng(7)
    users = rng.choice(len(model.users), n)
    items = rng.choice(len(model.items), n)
    pairs = zip(
        model.users.ids.take(pa.array(users)).to_pylist(),
        model.items.ids.take(pa.array(items)).to_pylist(),
        strict=True,
    )
    return list(pairs)


def pair_frame(spark: SparkSession, pairs: Sequence[tuple[Any, Any]]) -> DataFrame:
    kind = "string" if isinstance(pairs[0][0], str) else "int"
    return spark.createDataFrame(pairs, f"user {kind}, item {kind}").repartition(5)


@pytest.mark.parametrize("text", [False, True], ids=["integers", "text"])
@pytest.mark.parametrize("side", ["user", "item"])
class TestAgainstTheTwin:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_everybody(self, spark, side, text, dtype):
        model = random_model(dtype=dtype, text=text)
        with recommend_for_all(
            spark, model, side=side, top=6, popular=False, partitions=3
        ) as frame:
            check(collected(frame), expected_lists(model, side, 6, set()))
            other = "item" if side == "user" else "user"
            kind = "string" if text else "bigint"
            assert frame.dtypes == [
                (side, kind),
                ("recommendations", f"array<struct<{other}:{kind},score:double>>"),
                ("source", "string"),
            ]

    def test_seen_pairs_are_left_out(self, spark, side, text):
        model = random_model(text=text)
        pairs = random_pairs(model, 500)
        # The best of all for somebody, one user who has seen everything, and strangers.
        everything = [(pairs[0][0], item) for item in model.items.ids.to_pylist()]
        strangers = [("x", "y")] if text else [(-5, -6)]
        seen = pair_frame(spark, [*pairs, *everything, *strangers, (None, None)])
        with recommend_for_all(
            spark, model, side=side, top=6, seen=seen, popular=False, partitions=3
        ) as frame:
            found = collected(frame)
        expected = expected_lists(model, side, 6, {*pairs, *everything})
        check(found, expected)
        assert expected != expected_lists(model, side, 6, set())


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_the_number_of_slices_changes_not_a_bit(spark, dtype):
    model = random_model(n_users=100, n_items=70, rank=9, dtype=dtype)
    pairs = random_pairs(model, 800)
    folded = fold_in(model, "user", [5000, 5000, 5001], model.items.ids[1:4], [3.0, 4.0, 5.0])
    asked = [*model.users.ids.to_pylist(), 5000, 5001, 6000]
    # The local functions answer each source whole.
    arrays = [np.array(column) for column in zip(*pairs, strict=True)]
    here = of_table(recommend(model, asked, 7, (arrays[0], arrays[1]), folded=folded))
    assert {source for _, source in here.values()} == {"model", "popular", "fold_in"}
    seen = pair_frame(spark, pairs)
    for partitions in (1, 3, 8, 40):
        with recommend_for_all(
            spark,
            model,
            top=7,
            ids=asked,
            seen=seen,
            folded=folded,
            partitions=partitions,
        ) as frame:
            assert frame.rdd.getNumPartitions() >= partitions / 3
            assert collected(frame) == here


@pytest.mark.spark35
def test_listed_users_and_strangers(spark):
    model = random_model()
    known = model.users.ids[int(np.flatnonzero(model.user_stats.degrees)[0])].as_py()
    unrated = model.users.ids[0].as_py()
    assert model.user_stats.degrees[0] == 0
    popular = [tuple(row.values()) for row in popular_items(model, 4).to_pylist()]
    expected = expected_lists(model, "user", 4, set())[known]
    seen = spark.createDataFrame([(9999, popular[1][0])], "user bigint, item bigint")
    with recommend_for_all(
        spark, model, top=4, ids=[known, 9999, unrated, known], seen=seen
    ) as frame:
        found = collected(frame)
    assert [item for item, _ in found[known][0]] == [item for item, _ in expected]
    assert found[unrated] == (popular, "popular")
    fifth = popular_items(model, 5).to_pylist()[4]
    without = [popular[0], *popular[2:], tuple(fifth.values())]
    assert found[9999] == (without, "popular")
    assert found[known][1] == "model"
    assert len(found) == 3


def test_strangers_left_out(spark):
    model = random_model()
    with recommend_for_all(spark, model, ids=[9999], popular=False) as frame:
        assert frame.collect() == []
        assert frame.columns == ["user", "recommendations", "source"]


def test_nobody_asked_with_seen_pairs(spark):
    model = random_model(text=True)
    seen = pair_frame(spark, random_pairs(model, 5))
    with recommend_for_all(spark, model, side="item", ids=["z"], seen=seen) as frame:
        assert frame.collect() == []
        assert dict(frame.dtypes)["item"] == "string"


def test_folded_users(spark):
    model = random_model(text=True)
    items = [model.items.ids[k].as_py() for k in np.flatnonzero(model.item_stats.degrees)[:3]]
    folded = fold_in(model, "user", ["new", "new", "other"], items, [5.0, 1.0, 2.0])
    seen = spark.createDataFrame([("new", items[0]), ("new", items[1])], "user string, item string")
    with recommend_for_all(spark, model, top=3, seen=seen, folded=folded) as frame:
        found = collected(frame)
    here = of_table(recommend(model, None, 3, (["new", "new"], items[:2]), folded=folded))
    assert found == here
    assert found["new"][1] == found["other"][1] == "fold_in"
    assert not {item for item, _ in found["new"][0]} & set(items[:2])
    assert len(found) == len(model.users) + 2


@pytest.mark.parametrize("text", [False, True], ids=["integers", "text"])
def test_similar_items(spark, text):
    model = random_model(text=text, dtype=np.float32)
    ids = model.items.ids.to_pylist()
    here = of_table(similar_items(model, None, 5))
    for partitions in (1, 3, None):
        with similar_items_for_all(spark, model, top=5, partitions=partitions) as frame:
            found = collected(frame)
        check(found, expected_similar(ids, model, 5))
        assert found == here
    some = ids[:7]
    with similar_items_for_all(spark, model, top=5, ids=some) as frame:
        assert collected(frame) == {item: here[item] for item in some if item in here}


def test_columns_of_other_kinds_name_the_same_ids(spark):
    model = random_model()
    pairs = random_pairs(model, 300)
    seen = pair_frame(spark, pairs)
    expected = expected_lists(model, "user", 5, set(pairs))
    text = seen.select(F.lit(1).alias("more"), F.col("item").cast("string"), "user")
    for form in (seen, text, seen.withColumn("user", F.col("user").cast("string"))):
        with recommend_for_all(spark, model, top=5, seen=form, popular=False) as frame:
            check(collected(frame), expected)


@pytest.mark.slow
def test_real_ratings(spark, movielens: Path):

    source = read_source(spark, SourceOptions(str(movielens)))
    with prepare_ratings(spark, source, PrepareOptions(ranks=[20])) as prepared:
        training = TrainingOptions(max_iter=3)
        (trained,) = train_models(
            prepared.backend, [ModelSpec(0, 20, Objective(0.1, 1.0))], training
        )
        model = FactorModel(
            prepared.summary.users,
            prepared.summary.items,
            trained.factors,
            prepared.stats["user"],
            prepared.stats["item"],
        )
    ratings = spark.read.csv(f"file://{movielens}", header=True, inferSchema=True)
    seen = ratings.select(F.col("userId").alias("user"), F.col("movieId").alias("item"))
    with recommend_for_all(spark, model, seen=seen) as frame:
        found = collected(frame)
    rated = {tuple(row) for row in seen.collect()}
    assert len(found) == len(model.users)
    scores = model.factors.users.astype(float) @ model.factors.items.astype(float).T
    scores[:, model.item_stats.degrees == 0] = -np.inf
    rated_rows = (
        model.users.rows_of([u for u, _ in rated]),
        model.items.rows_of([i for _, i in rated]),
    )
    scores[rated_rows] = -np.inf
    best = -np.sort(-scores, axis=1)[:, :10]
    for row, user in enumerate(model.users.ids.to_pylist()):
        entries, source = found[user]
        assert source == "model"
        assert not {(user, item) for item, _ in entries} & rated
        np.testing.assert_allclose([score for _, score in entries], best[row], rtol=1e-10)


def test_jobs_are_described_and_broadcasts_end_with_the_block(spark):
    context = spark.sparkContext
    model = random_model()
    seen = pair_frame(spark, random_pairs(model, 20))
    with recommend_for_all(spark, model, seen=seen, partitions=2) as frame:
        frame.collect()
        description = context.getLocalProperty("spark.job.description")
        assert description == "recommending items to users"
        # A second action on the same lazy frame.
        assert frame.count() == len(model.users)
    assert context.getLocalProperty("spark.job.description") is None
    with pytest.raises(Exception, match=r"[Bb]roadcast"):
        frame.withColumn("again", F.lit(1)).collect()


def test_without_a_block_the_frame_lives(spark):
    model = random_model()
    whole = recommend_for_all(spark, model, top=3, popular=False)
    first = whole.select("user").where("user is not null")
    # What is made of it lives on without it.
    del whole
    gc.collect()
    spark.sparkContext._jvm.java.lang.System.gc()
    assert first.count() == len(first.collect()) > 0
    assert isinstance(first, DataFrame)
    similar = similar_items_for_all(spark, model, top=2)
    assert isinstance(similar, DataFrame)
    assert collected(similar) == collected(similar)
    assert spark.sparkContext.getLocalProperty("spark.job.description") is None


def test_a_session_of_the_user_runs_on_this_interpreter(spark, monkeypatch):
    context = spark.sparkContext
    monkeypatch.delenv("PYSPARK_PYTHON")
    monkeypatch.setattr(context, "pythonExec", "/no/python3")
    assert recommend_for_all(spark, random_model(), top=2).count() > 0
    assert context.pythonExec == sys.executable


def test_an_interpreter_that_is_not_there_is_one_line(spark, monkeypatch):
    monkeypatch.setattr(spark.sparkContext, "pythonExec", "/no/python3")
    ratings = spark.createDataFrame([(1, 2, 3.0)], "user int, item int, rating double")
    with pytest.raises(ConfigError, match="the workers have no program /no/python3: set PYSPARK_"):
        prepare_ratings(spark, source_from_frame(ratings), PrepareOptions())


class TestErrors:
    def test_pairs_without_a_column(self, spark):
        seen = spark.createDataFrame([(1, 2)], "user int, movie int")
        with (
            pytest.raises(DataError, match=r"have no column 'item' \(they have user, movie\)"),
            recommend_for_all(spark, random_model(), seen=seen),
        ):
            pass

    @pytest.mark.parametrize("partitions", [0, -1])
    def test_no_partitions(self, spark, partitions):
        with (
            pytest.raises(ConfigError, match=f"partitions={partitions}: not usable: ask for at"),
            recommend_for_all(spark, random_model(), partitions=partitions),
        ):
            pass

    def test_those_of_the_plan(self, spark):
        with (
            pytest.raises(ConfigError, match="top=0: not usable"),
            similar_items_for_all(spark, random_model(), top=0),
        ):
            pass


class TestSlices:
    def test_each_is_of_bounded_size_and_one_source(self):
        model = random_model(n_users=500)
        plan = plan_recommendations(model, ids=[*model.users.ids.to_pylist(), *range(9000, 9100)])
        slices = list(cut_slices(plan, 7))
        assert max(len(part.ids) for part in slices) <= -(-600 // 7)
        assert len(slices) <= 7 + 2
        asked = [user for part in slices for user in part.ids.to_pylist()]
        assert asked == [user for group in plan.groups for user in group.ids.to_pylist()]
        for part in slices:
            if part.source == "model":
                rows = model.users.rows_of(part.ids)
                np.testing.assert_array_equal(part.factors[part.rows], model.factors.users[rows])

    @pytest.mark.parametrize(
        ("n", "rank", "top", "cores", "expected"),
        [
            (10, 5, 10, 4, 1),
            (1500, 5, 10, 4, 2),
            (70_000, 50, 10, 2, 8),
            (SLICE_ROWS * 100, 5, 10, 2, 100),
            (SLICE_FACTORS // 1000 * 100, 1000, 10, 2, 100),
            (SLICE_RECOMMENDATIONS // 10_000 * 100, 5, 10_000, 2, 100),
            (7, 5, SLICE_RECOMMENDATIONS + 1, 2, 7),
        ],
    )
    def test_how_many(self, n, rank, top, cores, expected):
        plan: Any = SimpleNamespace(
            groups=[SimpleNamespace(ids=range(n))],
            candidates=SimpleNamespace(factors=np.zeros((3, rank))),
            top=top,
        )
        assert choose_slices(plan, cores) == expected
