"""Unusable rows counted by Spark and counted in Python are the same account."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import SparkSession

from als_spark.spark.read.bad_rows import BadRowCounts, bad_column, count_rows


def test_both_ways_of_counting_agree(spark: SparkSession) -> None:
    rows = [(None, None)] * 4 + [("b", "2"), ("b", "1"), ("a", "3"), ("c", "x" * 500 + " in f.csv")]
    typed = spark.createDataFrame(rows, "problem string, raw string").repartition(3)
    n_usable, bad = count_rows(typed)
    texts = [row.bad for row in typed.select(bad_column(typed)).collect()]
    in_python = BadRowCounts.of_texts([BadRowCounts.of_column(pa.chunked_array([texts])).as_text()])
    assert n_usable == 4
    assert (
        list(bad.counts.items()) == list(in_python.counts.items()) == [("b", 2), ("a", 1), ("c", 1)]
    )
    # Spark gives the first example alone.
    assert bad.examples == {kind: shown[:1] for kind, shown in in_python.examples.items()}
    assert bad.examples["c"][0].endswith("x in f.csv")


def test_nothing(spark: SparkSession) -> None:
    typed = spark.createDataFrame([], "problem string, raw string")
    assert count_rows(typed) == (0, BadRowCounts({}, {}))
