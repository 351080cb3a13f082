"""DataFrame partitions as Arrow batches, on every supported PySpark, with and without pandas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas import functions as pandas_functions

from als_spark.spark.worker import prepare_worker

ArrowMap = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_CHECK = "require_minimum_pandas_version"
_check_lock = Lock()


def map_in_arrow(frame: DataFrame, function: ArrowMap, schema: str) -> DataFrame:
    """Apply ``DataFrame.mapInArrow``, whether pandas is installed or not, and whichever.

    PySpark refuses ``mapInArrow`` on a driver without pandas, and warns of one that is newer than
    it knows, although nothing on the way uses it (the check belongs to ``pandas_udf``, through
    which the function is wrapped). The check is lifted for the moment of the wrapping.

    Parameters
    ----------
    frame : DataFrame
        Input.
    function : callable
        From an iterator of record batches to an iterator of record batches; pickled by value of
        its arguments, so it carries arrays, scalars and broadcast handles only.
    schema : str
        DDL of the output.
    """
    with _without_pandas_check():
        return frame.mapInArrow(partial(_run, function=function), schema)


def _run(batches: Iterable[pa.RecordBatch], *, function: ArrowMap) -> Iterator[pa.RecordBatch]:
    prepare_worker()
    yield from function(batches)


def gather_batches(batches: Iterable[pa.RecordBatch], max_rows: int) -> Iterator[pa.Table]:
    """Gather Spark's small batches into tables of about ``max_rows`` rows."""
    held: list[pa.RecordBatch] = []
    n_held = 0
    for batch in batches:
        held.append(batch)
        n_held += batch.num_rows
        if n_held >= max_rows:
            yield pa.Table.from_batches(held)
            held, n_held = [], 0
    if n_held:
        yield pa.Table.from_batches(held)


def stream_to_bytes(data: pa.Table | pa.RecordBatch) -> bytes:
    """Serialise a table or a batch as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema) as writer:
        writer.write(data)
    return bytes(sink.getvalue())


def table_from_bytes(data: bytes) -> pa.Table:
    """Read what :func:`stream_to_bytes` wrote."""
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()


@contextmanager
def _without_pandas_check() -> Iterator[None]:
    with _check_lock:
        check = getattr(pandas_functions, _CHECK)
        setattr(pandas_functions, _CHECK, lambda: None)
        try:
            yield
        finally:
            setattr(pandas_functions, _CHECK, check)
