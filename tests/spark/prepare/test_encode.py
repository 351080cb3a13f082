"""The one pass over the ratings on Spark, and what goes to the executors."""

from __future__ import annotations

import dataclasses
import pickle
from collections import Counter
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession

from als_spark.spark.prepare.encode import (
    CHUNK_FIELDS,
    Summary,
    encode_ratings,
    summarise,
)
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.prepare.prepare import prepare_ratings
from als_spark.spark.read.bad_rows import BadRowCounts
from als_spark.spark.read.columns import source_from_frame, typed_ratings
from als_spark.spark.read.split import SplitOptions, split_ratings
from als_spark.spark.train.run import train_grid
from als_spark.train.grid import SweepCollector, grid_specs
from als_spark.train.records import IterationRecord, TrainingOptions
from tests.chunks import decoded
from tests.conftest import Triples, random_triples

Row = tuple[Any, ...]


def ratings_of(
    spark: SparkSession, rows: Iterable[Row], types: str = "user int, item string, rating double"
) -> DataFrame:
    typed = typed_ratings(
        source_from_frame(spark.createDataFrame(list(rows), types)), need_timestamp=False
    )
    return split_ratings(typed, SplitOptions())


def rows_of(t: Triples) -> list[Row]:
    return [
        (int(user) - 3, f"i{item}", float(rating))
        for user, item, rating in zip(t.users, t.items, t.ratings, strict=True)
    ]


@pytest.mark.parametrize("n_partitions", [1, 3, 8])
def test_the_summary_against_a_count_by_hand(n_partitions: int, spark: SparkSession) -> None:
    good = rows_of(random_triples(seed=4))
    bad = [(None, "i1", 9.0), (1, "", 9.0), (1, " ", -9.0), (2, "i3", None)]
    mixed = [*good[:100], *bad, *good[100:]]

    summary = summarise(encode_ratings(ratings_of(spark, mixed).repartition(n_partitions)))

    for found, counts, position in (
        (summary.users, summary.user_counts, 0),
        (summary.items, summary.item_counts, 1),
    ):
        by_hand = Counter(row[position] for row in good)
        order = sorted(by_hand, key=lambda name: (-by_hand[name], name))
        assert found.ids.to_pylist() == order
        assert counts.tolist() == [by_hand[name] for name in order]
    values = [row[2] for row in good]
    assert (summary.n_ratings, summary.lowest, summary.highest) == (400, min(values), max(values))
    assert list(summary.bad.counts.items()) == [
        ("item is missing", 2),
        ("rating is missing", 1),
        ("user is missing", 1),
    ]
    assert summary.bad.n == 4
    rated = Counter(values)
    assert [bar.as_record() for bar in summary.histogram] == [
        (value, value, rated[value]) for value in sorted(rated)
    ]
    assert len(summary.first_rows) == 5
    if n_partitions == 1:
        assert [(r["user"], r["item"], r["rating"]) for r in summary.first_rows] == mixed[:5]
    assert summary.bad.examples == {
        "item is missing": ["user=1, item= , rating=-9.0", "user=1, item=, rating=9.0"],
        "rating is missing": ["user=2, item=i3, rating=null"],
        "user is missing": ["user=null, item=i1, rating=9.0"],
    }


def test_the_summary_of_nothing(spark: SparkSession) -> None:
    summary = summarise(encode_ratings(ratings_of(spark, [])))
    assert (summary.n_ratings, len(summary.users), len(summary.items)) == (0, 0, 0)
    assert (summary.lowest, summary.highest) == (np.inf, -np.inf)
    assert summary.bad == BadRowCounts({}, {})
    assert (summary.histogram, summary.first_rows) == ((), ())


def test_examples_of_many_partitions_are_still_three(spark: SparkSession) -> None:
    bad = [(None, f"i{k}", 1.0) for k in range(20)]
    summary = summarise(encode_ratings(ratings_of(spark, bad).repartition(5)))
    assert summary.bad.counts == {"user is missing": 20}
    assert len(summary.bad.examples["user is missing"]) == 3


def test_chunks_hold_every_rating_once(spark: SparkSession) -> None:
    rows = rows_of(random_triples(seed=5))
    ratings = ratings_of(spark, rows).repartition(3)
    chunks = encode_ratings(ratings).toLocalIterator()
    found = []
    for chunk in chunks:
        values = {name: [chunk[name]] for name in CHUNK_FIELDS.names}
        batch = pa.RecordBatch.from_pydict(values, schema=CHUNK_FIELDS)
        found += [row[:4] for row in decoded(batch)]
    assert_df_equality(
        spark.createDataFrame(found, "user bigint, item string, rating double, split tinyint"),
        ratings.select("user", "item", "rating", "split"),
        ignore_nullable=True,
        ignore_row_order=True,
    )


# ---------------------------------------------------------------------------------- the canary


def refuse(self: object, protocol: object = None) -> NoReturn:
    raise pickle.PicklingError("the canary: this belongs to the driver")


class CanaryText(str):
    __slots__ = ()
    __reduce_ex__ = refuse


class CanaryDict(dict[str, str]):
    __reduce_ex__ = refuse


class CanaryList(list[Any]):
    __reduce_ex__ = refuse


class CanaryCallback:
    """Counts the iterations it is told of."""

    __reduce_ex__ = refuse
    heard = 0

    def __call__(self, record: IterationRecord) -> None:
        self.heard += 1


@pytest.mark.parametrize(
    "canary",
    [CanaryText("x"), CanaryDict(), CanaryList(), CanaryCallback()],
    ids=lambda canary: type(canary).__name__,
)
def test_a_canary_sings_in_a_closure(canary: object, spark: SparkSession) -> None:
    numbers = spark.sparkContext.parallelize([1], 1)
    with pytest.raises(pickle.PicklingError, match="the canary"):
        numbers.map(lambda number: (number, canary)).collect()


@pytest.mark.parametrize("placement", ["ratings", "grid"])
def test_nothing_of_the_driver_goes_to_the_executors(
    placement: Any, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = spark.createDataFrame(rows_of(random_triples()), "user int, item string, rating double")
    source = dataclasses.replace(
        source_from_frame(frame),
        columns=CanaryDict({"user": "user", "item": "item", "rating": "rating"}),
        label=CanaryText("ratings"),
    )
    options = PrepareOptions(
        ranks=CanaryList([1, 2]), placement=placement, partitions=3, dtype="float64"
    )
    # What is known of the ratings is large, and must be broadcast or left at home.
    monkeypatch.setattr(Summary, "__reduce_ex__", refuse)
    monkeypatch.setattr(PrepareOptions, "__reduce_ex__", refuse)
    callback, collector = CanaryCallback(), SweepCollector("test")
    with prepare_ratings(spark, source, options) as prepared:
        specs = CanaryList(grid_specs([1, 2], [1.0]))
        train_grid(prepared, specs, TrainingOptions(max_iter=3), collector, on_iteration=callback)
    outcome = collector.outcome()
    assert outcome is not None
    assert len(outcome.points) == 2
    assert callback.heard > 0
