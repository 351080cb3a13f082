"""Output that Spark writes: what it replaces, on this machine and through Hadoop."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from als_spark.errors import ConfigError
from als_spark.files.outputs import MANIFEST
from als_spark.spark.output import output_folder, place_of, spark_output


@pytest.fixture(params=["local", "remote"])
def target(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> str:
    """Address of the folder ``out`` of the test's folder, directly or on a mount of it."""
    if request.param == "local":
        return str(tmp_path / "out")
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    name = f"out{abs(hash(str(tmp_path)))}"
    hadoop.set(f"fs.viewfs.mounttable.{name}.link./disk", f"file://{tmp_path}")
    return f"viewfs://{name}/disk/out"


def write(spark: SparkSession, target: str, n: int, *, fails: bool = False) -> None:
    with spark_output(spark, target, "recommend") as folder:
        spark.range(n).coalesce(1).write.mode("append").parquet(folder)
        if fails:
            raise RuntimeError("power cut")


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_output_of_ours_is_replaced(spark: SparkSession, tmp_path: Path, target: str) -> None:
    for n in (3, 5):
        write(spark, target, n)
        # The marker is no data to whoever reads the folder.
        assert spark.read.parquet(target).count() == n
    names = visible(tmp_path / "out")
    assert MANIFEST in names
    assert sum(name.endswith(".parquet") for name in names) == 1
    assert visible(tmp_path) == ["out"]


def test_a_dataset_of_somebody_else_is_not(
    spark: SparkSession, tmp_path: Path, target: str
) -> None:
    spark.range(7).write.parquet(str(tmp_path / "out"))
    assert (tmp_path / "out" / "_SUCCESS").exists()
    message = "/out: the folder is not empty and holds '.*', which no earlier recommend has written"
    with pytest.raises(ConfigError, match=message):
        write(spark, target, 1)
    assert spark.read.parquet(str(tmp_path / "out")).count() == 7


def test_a_failure_leaves_what_is_there(spark: SparkSession, tmp_path: Path, target: str) -> None:
    write(spark, target, 3)
    with pytest.raises(RuntimeError, match="power cut"):
        write(spark, target, 1, fails=True)
    assert spark.read.parquet(target).count() == 3
    assert visible(tmp_path) == ["out"]


def test_a_file_of_somebody_else_in_ours(spark: SparkSession, tmp_path: Path, target: str) -> None:
    write(spark, target, 3)
    (tmp_path / "out" / "mine.csv").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds 'mine\.csv', which no earlier recommend"):
        write(spark, target, 5)
    assert spark.read.parquet(f"{target}/*.parquet").count() == 3
    assert (tmp_path / "out" / "mine.csv").read_text() == "mine"


def test_what_comes_during_the_run_is_kept(
    spark: SparkSession, tmp_path: Path, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(spark, target, 3)
    with spark_output(spark, target, "recommend") as folder:
        spark.range(5).coalesce(1).write.mode("append").parquet(folder)
        (tmp_path / "out" / "deep").mkdir()
        (tmp_path / "out" / "deep" / "mine.csv").write_text("mine")
    assert (tmp_path / "out" / "deep" / "mine.csv").read_text() == "mine"
    assert "deep/mine.csv was not written by an earlier recommend: kept" in caplog.text
    assert spark.read.parquet(f"{target}/*.parquet").count() == 5
    assert visible(tmp_path) == ["out"]


def test_nothing_is_deleted_through_a_link(
    spark: SparkSession, tmp_path: Path, target: str
) -> None:
    with output_folder(spark, target, "sweep") as staged:
        (staged.content / "best_model").mkdir()
        (staged.content / "best_model" / "model.json").write_text("ours")
    (tmp_path / "out" / "best_model").rename(tmp_path / "mine")
    (tmp_path / "out" / "best_model").symlink_to(tmp_path / "mine")
    with (
        pytest.raises(ConfigError, match="holds 'best_model', which no earlier sweep"),
        output_folder(spark, target, "sweep"),
    ):
        pass
    assert (tmp_path / "mine" / "model.json").read_text() == "ours"


def test_a_sub_folder(spark: SparkSession, tmp_path: Path, target: str) -> None:
    for name, subfolder in (("a", None), ("b", "interrupted"), ("c", "interrupted")):
        with output_folder(spark, target, "sweep") as staged:
            (staged.content / name).write_text(name)
            staged.subfolder = subfolder
    names = {path.name for path in (tmp_path / "out" / "interrupted").iterdir()}
    assert {"c", MANIFEST} <= names
    assert "b" not in names
    with output_folder(spark, target, "sweep"):
        pass
    assert visible(tmp_path / "out") == [MANIFEST]


def test_where_a_path_lies(spark: SparkSession, tmp_path: Path, target: str) -> None:
    assert place_of(spark, target) == tmp_path / "out"
    (tmp_path / "out").mkdir()
    assert place_of(spark, f"{target}/a b/x%20y") == tmp_path / "out" / "a b" / "x%20y"
    assert place_of(spark, "nosuch://x/y") is None


def test_the_default_file_system_is_sparks(spark: SparkSession) -> None:
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    before = hadoop.get("fs.defaultFS")
    hadoop.set("fs.viewfs.mounttable.elsewhere.link./data", "file:///tmp")
    hadoop.set("fs.defaultFS", "viewfs://elsewhere")
    try:
        assert place_of(spark, "/data/x", read_by_spark=True) == Path("/tmp/x")
        assert place_of(spark, "/data/x") == Path("/data/x")
    finally:
        hadoop.set("fs.defaultFS", before)
