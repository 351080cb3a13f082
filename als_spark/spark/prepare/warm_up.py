"""Python workers that start while the driver still looks at its sources.

The first pass over the ratings finds no worker: each task starts one, which imports NumPy, SciPy
and Arrow, and the JVM meets the operators of that pass for the first time. Before it the driver
opens files and plans queries, for seconds in which the cores of the tasks have nothing to do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa
from pyspark.sql import SparkSession

from als_spark.spark.arrow import ddl, map_in_arrow
from als_spark.spark.session import default_partitions, described

LONGEST = 5.0
"""Seconds that the end of the block waits for tasks on their way, lest the session end first."""
_LOG = logging.getLogger(__name__)
_FIELDS = pa.schema([("n", pa.int64())])


@contextmanager
def workers_warmed(session: SparkSession) -> Iterator[None]:
    """Start a Python worker for each core from another thread; the block goes on meanwhile."""
    thread = threading.Thread(
        target=_start_workers, args=(session,), name="als_spark-warm-up", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        thread.join(LONGEST)


def _start_workers(session: SparkSession) -> None:
    context = session.sparkContext
    n_tasks = default_partitions(context)
    try:
        with described(context, "starting the Python workers"):
            numbers = session.range(0, n_tasks, 1, n_tasks)
            counted = map_in_arrow(numbers, import_kernels, ddl(_FIELDS)).persist()
            counted.collect()
            counted.unpersist()
    except Exception as error:  # noqa: BLE001 - what fails here fails in the first pass, which tells
        _LOG.debug("the Python workers were not started ahead: %s", error)


def import_kernels(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Import what tasks need, and pass the numbers on: runs on an executor."""
    import als_spark.spark.prepare.encode
    import als_spark.train.local  # noqa: F401 - the solvers

    for batch in batches:
        yield pa.RecordBatch.from_arrays([batch.column(0)], schema=_FIELDS)
