"""Tables: their bare files are refused, their readers give one version of them.

What needs the JARs of Delta Lake and Iceberg runs where ``ALS_SPARK_TEST_TABLES`` has their paths,
with commas between (delta-spark, delta-storage and iceberg-spark-runtime, for this Spark).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from als_spark.errors import DataError
from als_spark.spark.read.facts import TableVersion
from als_spark.spark.read.id_lists import read_ids
from als_spark.spark.read.seen import read_seen
from als_spark.spark.read.snapshot import read_snapshot
from als_spark.spark.read.sources import SourceOptions, read_source

with_jars = pytest.mark.skipif(
    "ALS_SPARK_TEST_TABLES" not in os.environ,
    reason="ALS_SPARK_TEST_TABLES does not name the JARs of Delta Lake and Iceberg",
)


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"user": [1, 2], "item": [7, 8], "rating": [3.0, 4.0]}), path)
    return path


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")


def refused(spark: SparkSession, path: Path | str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_source(spark, SourceOptions(path=str(path), **options))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_bare_files_of_a_delta_table_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    table = tmp_path / "lake" / "ratings"
    touch(table / "_delta_log" / "00000000000000000000.json")
    file = write(table / "day=1" / "part-0.parquet")
    write(table / "day=2" / "part-1.parquet")
    whole = refused(spark, table, format="parquet")
    assert whole.startswith(f"{table}: is a Delta table, whose files also hold rows that were")
    for words in ('`format="delta"`', '`table="NAME"`', "io.delta:delta-spark", "DeltaCatalog"):
        assert words in whole
    (tmp_path / "link").symlink_to(table / "day=1")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "linked.parquet").symlink_to(file)
    inside = {
        "a partition": table / "day=1",
        "a file": file,
        "its log": table / "_delta_log",
        "a pattern of files": table / "day=*" / "*.parquet",
        "a pattern of folders": table / "day={1,2}",
        "a pattern above": tmp_path / "la*" / "ratings",
        "an address": f"file://{file}",
        "a link": tmp_path / "link",
    }
    for name, path in inside.items():
        assert f"lies in a Delta table, {table}, whose files" in refused(spark, path), name
    for path in (tmp_path / "other", tmp_path / "other" / "*"):
        assert f"a Delta table, {table}, whose files" in refused(spark, path)
    write(tmp_path / "lake" / "csv=no" / "x.parquet")
    below = tmp_path / "years" / "year=2024"
    shutil.copytree(table, below)
    assert f"holds files of a Delta table, {below}, whose" in refused(spark, below.parent)
    with pytest.raises(DataError, match=r"day=1: lies in a Delta table, .*ratings, whose files"):
        read_ids(spark, str(table / "day=1"), "user")
    if "ALS_SPARK_TEST_TABLES" not in os.environ:
        # Without Delta's reader it makes no difference that the format is right.
        for format_ in ("auto", "delta"):
            assert "--packages io.delta:delta-spark" in refused(spark, table, format=format_)
        with pytest.raises(DataError, match="ratings: is a Delta table, whose files also hold"):
            read_ids(spark, str(table), "user")


def test_bare_files_of_iceberg_and_hudi_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    iceberg, hudi = tmp_path / "iceberg", tmp_path / "hudi"
    touch(iceberg / "metadata" / "v1.metadata.json")
    write(iceberg / "data" / "user=1" / "part.parquet")
    touch(hudi / ".hoodie" / "hoodie.properties")
    write(hudi / "day=1" / "part.parquet")
    message = refused(spark, iceberg)
    assert message.startswith(f"{iceberg}: is an Iceberg table, whose files also hold rows that")
    assert '`table="CATALOG.DATABASE.TABLE"`' in message
    assert "org.apache.iceberg:iceberg-spark-runtime-" in message
    assert f"lies in an Iceberg table, {iceberg}," in refused(spark, iceberg / "data")
    message = refused(spark, hudi / "day=1")
    assert f"lies in a Hudi table, {hudi}, whose files" in message
    assert "org.apache.hudi:hudi-spark" in message
    # A job whose option for its files has no format, and no table, cannot be told to use one.
    message = refused(spark, iceberg, format_option=False)
    assert "write its rows as Parquet" in message
    assert "`table=" not in message


def test_other_folders_are_read_as_before(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "a" / "part.parquet")
    touch(tmp_path / "a" / "metadata" / "of_mine.md")
    touch(tmp_path / "a" / "_other_log" / "0.json")
    source = read_source(spark, SourceOptions(path=str(tmp_path / "a")))
    assert (source.frame.count(), source.version) == (2, None)
    message = refused(spark, tmp_path / "a", format="delta")
    assert message.endswith("is no Delta table, which has a folder _delta_log: check the path and "
                            "`format=`")  # fmt: skip


def test_tables_and_views_of_a_session_are_read_by_name(spark: SparkSession) -> None:
    frame = spark.createDataFrame([(1, 7, 3.0)], "user int, item int, rating double")
    frame.createOrReplaceTempView("ratings_of_a_view")
    source = read_source(spark, SourceOptions(table="ratings_of_a_view"))
    assert [tuple(row) for row in source.frame.collect()] == [(1, 7, 3.0)]
    assert source.words == [
        "table ratings_of_a_view: user = user (int), item = item (int), rating = rating (double)"
    ]
    assert source.version is None
    with pytest.raises(DataError, match=r"^table ratings_of_nobody: cannot be read: .* check the"):
        read_source(spark, SourceOptions(table="ratings_of_nobody"))
    with pytest.raises(DataError, match=r"^table a; drop b: cannot be read"):
        read_source(spark, SourceOptions(table="a; drop b"))


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Delta table in a folder and one in the catalog, and an Iceberg table; user 3 is deleted."""
    place = tmp_path_factory.mktemp("lake")
    spark.conf.set("spark.databricks.delta.snapshotPartitions", "1")
    spark.conf.set("spark.sql.catalog.ice", "org.apache.iceberg.spark.SparkCatalog")
    spark.conf.set("spark.sql.catalog.ice.type", "hadoop")
    spark.conf.set("spark.sql.catalog.ice.warehouse", str(place / "iceberg"))
    rows = [(user, item, float(item)) for user in range(1, 4) for item in range(1, 4)]
    frame = spark.createDataFrame(rows, "user int, item int, rating double").coalesce(1)
    frame.write.format("delta").partitionBy("item").save(str(place / "a delta"))
    spark.sql(f"CREATE TABLE named_delta USING delta LOCATION '{place}/named' AS SELECT * FROM "
              f"delta.`{place}/a delta`")  # fmt: skip
    spark.sql("CREATE TABLE ice.db.ratings (user int, item int, rating double) USING iceberg")
    spark.sql("CREATE TABLE ice.db.nothing (user int, item int, rating double) USING iceberg")
    frame.writeTo("ice.db.ratings").append()
    for name in (f"delta.`{place}/a delta`", "named_delta", "ice.db.ratings"):
        spark.sql(f"DELETE FROM {name} WHERE user = 3")
    yield place
    for name in ("named_delta", "ice.db.ratings", "ice.db.nothing"):
        spark.sql(f"DROP TABLE {name}")


@with_jars
def test_one_version_of_a_table_is_read(spark: SparkSession, lake: Path) -> None:
    by_path = SourceOptions(path=str(lake / "a delta"))
    cases: list[tuple[SourceOptions, str]] = [
        (by_path, f"delta.`{lake}/a delta`"),
        (SourceOptions(path=f"file://{lake}/a delta/", format="delta"), f"delta.`{lake}/a delta`"),
        (SourceOptions(table="named_delta"), "named_delta"),
        (SourceOptions(table=f"delta.`{lake}/named`"), "named_delta"),
        (SourceOptions(table="ice.db.ratings"), "ice.db.ratings"),
    ]
    for options, name in cases:
        source = read_source(spark, options)
        version = source.version
        assert isinstance(version, TableVersion)
        assert version.label == options.label
        assert f"{options.label}: {version}: user = user (" in source.words[0]
        # What is written now is another version.
        spark.sql(f"INSERT INTO {name} VALUES (9, 1, 5.0)")
        users = {row.user for row in source.frame.select("user").distinct().collect()}
        assert users == {1, 2}, options
        assert source.frame.count() == 6
        newer = read_source(spark, options)
        assert newer.version != version
        assert newer.frame.count() == 7
        with read_snapshot(spark, [newer], "last") as snapshot:
            assert (snapshot.n_ratings, snapshot.tables) == (7, (newer.version,))
        spark.sql(f"DELETE FROM {name} WHERE user = 9")
    assert read_source(spark, by_path).version.kind == "Delta"  # type: ignore[union-attr]
    nothing = read_source(spark, SourceOptions(table="ice.db.nothing"))
    assert (nothing.frame.count(), nothing.version) == (0, None)


@with_jars
def test_seen_pairs_and_lists_come_from_tables_too(spark: SparkSession, lake: Path) -> None:
    path = str(lake / "a delta")
    assert read_ids(spark, path, "user").to_pylist() == ["1", "2"]
    pairs = read_source(spark, SourceOptions(path=path, need_rating=False, format_option=False))
    assert read_seen(spark, pairs).n_pairs == 6
    assert "lies in a Delta table" in refused(spark, f"{path}/item=1")
    assert "is an Iceberg table" in refused(spark, lake / "iceberg" / "db" / "ratings")
