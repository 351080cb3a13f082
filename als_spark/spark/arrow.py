"""DataFrame partitions as Arrow batches, and arrays as few bytes, on every supported PySpark.

Dense indices below 65,536 take two bytes instead of four. Ratings usually come in a few levels
(half stars, say), and then take one byte and a table of the levels instead of eight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark import RDD
from pyspark.serializers import CPickleSerializer
from pyspark.sql import DataFrame
from pyspark.sql.pandas import functions as pandas_functions
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import StructType

from als_spark.spark.session import use_this_interpreter
from als_spark.spark.worker import prepare_worker
from als_spark.types import FloatArray, IntArray

ArrowMap = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

CHUNK_ROWS = 2_000_000
"""Rows that a chunk of a partition holds at most (about): ratings take five to 17 bytes each."""
MAX_LEVELS = 256

_CHECK = "require_minimum_pandas_version"
_check_lock = Lock()


def map_in_arrow(frame: DataFrame, function: ArrowMap, schema: str | StructType) -> DataFrame:
    """Apply ``DataFrame.mapInArrow``, whether pandas is installed or not, and whichever.

    PySpark refuses ``mapInArrow`` on a driver without pandas, and warns of one that is newer than
    it knows, although nothing on the way uses it (the check belongs to ``pandas_udf``, through
    which the function is wrapped). The check is lifted for the moment of the wrapping. The function
    is pickled, so it carries arrays, scalars and broadcast handles only.
    """
    use_this_interpreter(frame.sparkSession.sparkContext)
    with _check_lock:
        check = getattr(pandas_functions, _CHECK)
        setattr(pandas_functions, _CHECK, lambda: None)
        try:
            return frame.mapInArrow(partial(_run, function=function), schema)
        finally:
            setattr(pandas_functions, _CHECK, check)


def unpickled(frame: DataFrame) -> RDD[Any]:
    """Return the objects whose pickles are in the one binary column of a DataFrame.

    ``frame.rdd`` would pickle each value again in the JVM, which takes a bytearray through text:
    on blocks of ratings that costs as much as all else of a shuffle.
    """
    context = frame.sparkSession.sparkContext
    assert context._jvm is not None
    # "as" is no name in Python.
    typed = getattr(frame._jdf, "as")(context._jvm.org.apache.spark.sql.Encoders.BINARY())
    return RDD(typed.toJavaRDD(), context, CPickleSerializer())


def _run(batches: Iterable[pa.RecordBatch], *, function: ArrowMap) -> Iterator[pa.RecordBatch]:
    prepare_worker()
    yield from function(batches)


def ddl(fields: pa.Schema) -> str:
    """Spell an Arrow schema as Spark does."""
    return ", ".join(f"{field.name} {spark_type(field.type)}" for field in fields)


def spark_type(kind: pa.DataType) -> str:
    """Spell the type of an Arrow column as Spark does."""
    return from_arrow_type(kind).simpleString()


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


def lists_of(rows: FloatArray, kind: pa.DataType | None = None) -> pa.Array:
    """Return the rows of a matrix as lists of 32-bit offsets, which Spark reads.

    There may be 2^31 numbers at most; ``kind`` is the type of the lists, if it is not the usual.
    """
    n, width = rows.shape
    offsets = pa.array(np.arange(0, n * width + 1, width, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(rows).ravel()), kind)


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


def ids_to_bytes(ids: pa.Array) -> bytes:
    """Serialise an id list as an Arrow stream."""
    return stream_to_bytes(pa.record_batch([ids], names=["id"]))


def ids_from_bytes(data: bytes) -> pa.Array:
    """Read what :func:`ids_to_bytes` wrote."""
    return table_from_bytes(data).column("id").combine_chunks()


def narrow(indices: IntArray, n: int) -> npt.NDArray[Any]:
    """Bring indices in ``[0, n)`` to the smallest of uint16 and int32 that holds them."""
    return indices.astype(np.uint16 if n <= 1 << 16 else np.int32, copy=False)


def widen(data: bytes, count: int) -> IntArray:
    """Read so many indices back, as int32."""
    dtype = np.uint16 if len(data) == 2 * count else np.int32
    return np.frombuffer(data, dtype).astype(np.int32, copy=False)


def encode_values(values: pa.Array) -> tuple[npt.NDArray[Any], FloatArray]:
    """Encode float64 values as uint8 codes and their levels.

    Where there are too many levels, the values stay as they are, and the levels are empty.
    """
    encoded = values.dictionary_encode()
    levels = encoded.dictionary.to_numpy(zero_copy_only=False)
    if levels.size > MAX_LEVELS:
        return values.to_numpy(zero_copy_only=False), levels[:0]
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    return codes.astype(np.uint8), levels


def decode_values(data: bytes, levels: bytes) -> FloatArray:
    """Read float64 values back."""
    if not levels:
        return np.frombuffer(data, np.float64)
    return np.frombuffer(levels, np.float64)[np.frombuffer(data, np.uint8)]
