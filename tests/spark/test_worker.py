"""What a Python worker does before its tasks."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType

import pyarrow as pa
import pyspark
import pytest
from pyspark.sql import SparkSession

from als_spark.spark.arrow import map_in_arrow
from als_spark.spark.session import local_defaults
from als_spark.spark.worker import blas_threads, prepare_worker

PYSPARK = tuple(map(int, pyspark.__version__.split(".")[:2]))


def look(_: Iterable[int]) -> Iterator[tuple[int, list[int], int]]:
    counts = []
    for name in (None, "als_spark_looks", None):
        if name is not None:
            sys.modules[name] = ModuleType(name)
        prepare_worker()
        counts.append(gc.get_freeze_count())
    del sys.modules["als_spark_looks"]
    yield os.getpid(), counts, max(blas_threads(), default=1)


def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for _ in batches:
        yield pa.RecordBatch.from_pydict({"frozen": [gc.get_freeze_count()]})


def test_modules_are_out_of_the_collection(spark: SparkSession) -> None:
    context = spark.sparkContext
    for pid, (first, more, again), threads in (
        context.parallelize([0], 1).mapPartitions(look).collect()
    ):
        assert pid != os.getpid()
        # NumPy and Arrow alone have more.
        assert 10_000 < first < more == again
        assert threads == 1


@pytest.mark.spark35
def test_tasks_on_data_frames_are_prepared(spark: SparkSession) -> None:
    rows = map_in_arrow(spark.range(3, numPartitions=1), count, "frozen bigint").collect()
    assert [row.frozen > 10_000 for row in rows] == [True]


def sockets(_: Iterable[int]) -> Iterator[str]:
    yield os.environ.get("PYTHON_UNIX_DOMAIN_ENABLED", "").lower()


@pytest.mark.skipif(PYSPARK < (4, 1), reason="PySpark before 4.1 knows TCP only")
def test_on_one_machine_workers_are_reached_over_unix_sockets(spark: SparkSession) -> None:
    assert spark.sparkContext.parallelize([0], 1).mapPartitions(sockets).collect() == ["true"]


def test_whoever_switches_them_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSPARK_UDS_MODE", raising=False)
    assert local_defaults()["spark.python.unix.domain.socket.enabled"] == "true"
    monkeypatch.setenv("PYSPARK_UDS_MODE", "false")
    assert local_defaults() == {}
    monkeypatch.delenv("PYSPARK_UDS_MODE")
    # Windows has none.
    monkeypatch.delattr(socket, "AF_UNIX")
    assert local_defaults() == {}


def test_the_driver_is_no_worker() -> None:
    prepare_worker()
    assert gc.get_freeze_count() == 0
