"""Output that Spark writes: what it replaces, on this machine and through Hadoop."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from als_spark.errors import ConfigError
from als_spark.spark.output import OUTPUT_FILE, spark_output


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
    with spark_output(spark, target) as folder:
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
    assert OUTPUT_FILE in names
    assert sum(name.endswith(".parquet") for name in names) == 1
    assert visible(tmp_path) == ["out"]


def test_a_dataset_of_somebody_else_is_not(
    spark: SparkSession, tmp_path: Path, target: str
) -> None:
    spark.range(7).write.parquet(str(tmp_path / "out"))
    assert (tmp_path / "out" / "_SUCCESS").exists()
    message = r"/out: the folder is not empty and holds no earlier output \(no _ALS_SPARK\)"
    with pytest.raises(ConfigError, match=message):
        write(spark, target, 1)
    assert spark.read.parquet(str(tmp_path / "out")).count() == 7


def test_a_failure_leaves_what_is_there(spark: SparkSession, tmp_path: Path, target: str) -> None:
    write(spark, target, 3)
    with pytest.raises(RuntimeError, match="power cut"):
        write(spark, target, 1, fails=True)
    assert spark.read.parquet(target).count() == 3
    assert visible(tmp_path) == ["out"]
