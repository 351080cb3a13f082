"""Files that tasks read themselves: which ones, and that they read what Spark reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark import ALS
from als_spark.errors import DataError
from als_spark.solve.objective import Objective
from als_spark.spark.prepare import prepare
from als_spark.spark.prepare.encode import encode_files, summarise
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.read.clean_files import NotClean, Rules, find_clean_files
from als_spark.spark.read.columns import source_from_frame
from als_spark.spark.read.facts import Summary
from als_spark.spark.read.failures import unreadable_files_are_named
from als_spark.spark.read.sources import Source, SourceOptions, read_source
from als_spark.spark.read.split import SplitOptions
from als_spark.train.loop import train_models
from als_spark.train.records import ModelSpec, TrainingOptions
from als_spark.types import Duplicates, SplitStrategy
from tests.chunks import BY_TASKS
from tests.conftest import random_triples

COLUMNS = {"user": "user", "item": "item", "rating": "rating"}
RULES = Rules(1e18)
NOTHING_HELD_OUT = SplitOptions(test_fraction=0.0)


def write(folder: Path, *, n_files: int = 3, **more: pa.Array) -> Path:
    """Ratings of 40 users and 30 items, in files of several row groups each."""
    drawn = random_triples(seed=1)
    table = pa.table(
        {
            "user": pa.array(drawn.users + 1000, pa.int32()),
            "item": pa.array(drawn.items, pa.int64()),
            "rating": pa.array(drawn.ratings, pa.float32()),
            **more,
        }
    )
    folder.mkdir()
    step = -(-table.num_rows // n_files)
    for k in range(n_files):
        part = table.slice(k * step, step)
        pq.write_table(part, folder / f"part-{k}.parquet", row_group_size=50)
    return folder


def trained(
    spark: SparkSession,
    frame: DataFrame,
    bad_rows: str = "error",
    split: SplitOptions = NOTHING_HELD_OUT,
    **more: Any,
) -> tuple:
    timestamp = "timestamp" if "timestamp" in frame.columns else None
    source = source_from_frame(frame, timestamp=timestamp)
    return trained_on(spark, source, bad_rows, split, **more)


def trained_on(
    spark: SparkSession,
    source: Source,
    bad_rows: str = "error",
    split: SplitOptions = NOTHING_HELD_OUT,
    **more: Any,
) -> tuple:
    options = PrepareOptions(
        split=split,
        bad_rows=bad_rows,
        ranks=[3],
        placement="ratings",
        dtype="float64",
        **more,
    )
    with prepare.prepare_ratings(spark, source, options) as prepared:
        spec = ModelSpec(0, 3, Objective(1.0))
        (model,) = train_models(prepared.backend, [spec], TrainingOptions(max_iter=3, tol=0.0))
        summary, (errors,) = prepared.summary, prepared.backend.errors([model.factors], "errors")
        kept = prepared.n_ratings, prepared.n_duplicates, errors
        return summary.fingerprint, summary.histogram, summary.bad, model.objective, kept


@pytest.mark.spark35
def test_the_tasks_read_what_spark_reads(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # A blank, and a percent sign, which paths of Spark have encoded.
    frame = spark.read.parquet(f"file://{write(tmp_path / 'a b%20')}")
    files = find_clean_files(frame, COLUMNS, RULES, 2)
    assert files is not None
    assert len(files.tasks) == 2
    assert sum(unit.stop - unit.first for task in files.tasks for unit in task) == 9
    caplog.set_level("INFO", logger="als_spark")
    of_tasks = trained(spark, frame)
    assert BY_TASKS in caplog.text
    caplog.clear()
    of_spark = trained(spark, frame.where("user > 0"))
    assert "Spark reads the ratings: they are not plain numbers" in caplog.text
    assert of_tasks == of_spark


@pytest.mark.parametrize("separator", ["::", pytest.param(";", marks=pytest.mark.slow)])
def test_the_tasks_read_text_as_spark_does(
    separator: str,
    spark: SparkSession,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = random_triples(seed=1)
    fields = zip(drawn.users, drawn.items, drawn.ratings, strict=True)
    lines = (f"{user}{separator}{item}{separator}{rating:.1f}" for user, item, rating in fields)
    (tmp_path / "ratings.dat").write_text("\n".join(lines))
    source = read_source(spark, SourceOptions(str(tmp_path / "ratings.dat")))
    caplog.set_level("INFO", logger="als_spark")
    of_tasks = trained_on(spark, source)
    assert BY_TASKS in caplog.text
    monkeypatch.setattr(prepare, "find_clean_text", lambda *_: None)
    assert of_tasks == trained_on(spark, source)


@pytest.mark.parametrize("strategy", ["time", pytest.param("random", marks=pytest.mark.slow)])
@pytest.mark.parametrize("duplicates", ["last", pytest.param("mean", marks=pytest.mark.slow)])
def test_the_tasks_split_and_date_ratings_as_spark_does(
    strategy: SplitStrategy,
    duplicates: Duplicates,
    spark: SparkSession,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng = np.random.default_rng(0)
    # Seconds, milliseconds, microseconds; and pairs that come twice.
    times = rng.integers(1, 10**9, 400) * 10 ** rng.choice([0, 3, 6], 400)
    path = write(tmp_path / "timed", timestamp=pa.array(times))
    later = write(tmp_path / "later", n_files=1, timestamp=pa.array(times + 1))
    (later / "part-0.parquet").rename(path / "again.parquet")
    frame = spark.read.parquet(f"file://{path}")
    caplog.set_level("INFO", logger="als_spark")
    how = {"split": SplitOptions(strategy, 2**62, 0.2, 0.1), "duplicates": duplicates}
    of_tasks = trained(spark, frame, **how)
    assert BY_TASKS in caplog.text
    assert of_tasks == trained(spark, frame.where("user > 0"), **how)
    assert of_tasks[-1][1] > 300
    parts = of_tasks[-1][0]
    assert min(parts.values()) > 20
    assert parts["test"] > parts["validation"]


def test_a_row_that_is_unusable_leaves_all_to_spark(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = spark.read.parquet(f"file://{write(tmp_path / 'clean')}")
    bad = frame.withColumn("rating", F.when(F.col("user") > 1001, F.col("rating")))
    bad.write.parquet(f"file://{tmp_path / 'bad'}")
    bad = spark.read.parquet(f"file://{tmp_path / 'bad'}")
    files = find_clean_files(bad, COLUMNS, RULES, 2)
    assert files is not None
    with pytest.raises(NotClean, match="a value is missing"):
        summarise(encode_files(spark, files))
    caplog.set_level("INFO", logger="als_spark")
    with pytest.raises(DataError, match="rating is missing"):
        trained(spark, bad)
    assert "Spark reads the ratings: a value is missing" in caplog.text
    assert trained(spark, bad, "drop") == trained(spark, bad.where("user > 0"), "drop")


@pytest.mark.parametrize(
    ("usable", "change", "found"),
    [
        ("true", "user + 1", "No such file"),
        ("user > 0", "user + 1", "an id of the users is new"),
        ("user > 0", "if(user < 1003, user, null)", "400 then, [0-9]+ now"),
    ],
    ids=["by tasks", "new ids", "fewer"],
)
def test_ratings_that_are_others_in_a_later_pass(
    usable: str,
    change: str,
    found: str,
    spark: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = f"file://{write(tmp_path / 'ratings')}"
    frame = spark.read.parquet(path)
    others = spark.createDataFrame(
        frame.withColumn("user", F.expr(change).cast("int")).dropna().toPandas(), frame.schema
    )

    def summarise_and_overwrite(chunks: DataFrame) -> Summary:
        summary = summarise(chunks)
        if usable == "true":
            # As if an executor were lost. What Spark reads follows a write of Spark's even so.
            chunks.unpersist(blocking=True)
        others.write.mode("overwrite").parquet(path)
        return summary

    monkeypatch.setattr(prepare, "summarise", summarise_and_overwrite)
    given = frame if usable == "true" else frame.where(usable)
    message = rf"^(here|the DataFrame): the ratings have changed .*{found}.*: run again"
    with pytest.raises(DataError, match=message), unreadable_files_are_named("here"):
        trained(spark, given)


def test_only_plain_columns_of_parquet_files_are_read_so(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = f"file://{write(tmp_path / 'plain', text=pa.array(['1'] * 400))}"
    frame = spark.read.parquet(path)
    frame.write.partitionBy("user").parquet(f"file://{tmp_path / 'by_user'}")
    renamed = frame.withColumnRenamed("rating", "stars").withColumn("rating", F.col("stars") + 1)
    for other in (
        frame.where("rating > 1"),
        frame.limit(10),
        frame.union(frame),
        renamed,
        frame.drop("item").withColumnRenamed("text", "item"),
        spark.read.option("mergeSchema", "true").parquet(path),
        spark.read.parquet(f"file://{tmp_path / 'by_user'}"),
        spark.createDataFrame([(1, 1, 1.0)], "user int, item int, rating float"),
    ):
        assert find_clean_files(other, COLUMNS, RULES, 2) is None
    kept = frame.persist()
    assert find_clean_files(kept, COLUMNS, RULES, 2) is None
    kept.unpersist()
    # A column that is not used may be anything.
    assert find_clean_files(frame.select("text", *COLUMNS), COLUMNS, RULES, 2) is not None
    (tmp_path / "plain" / "part-1.parquet").unlink()
    assert find_clean_files(frame, COLUMNS, RULES, 2) is None


def test_the_estimator_fits_the_same_model(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.read.parquet(f"file://{write(tmp_path / 'ratings')}")
    models = [ALS(rank=2, maxIter=2, seed=1).fit(f) for f in (frame, frame.where("user > 0"))]
    one, other = (
        sorted((row.id, tuple(row.features)) for row in model.userFactors.collect())
        for model in models
    )
    assert one == other
