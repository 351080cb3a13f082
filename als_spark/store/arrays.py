"""Arrays in Parquet files of their own, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from als_spark.types import FloatArray


def write_array(path: Path, array: FloatArray) -> None:
    """Write an (n, k) array as a column of lists, bit for bit."""
    values = pa.array(np.ascontiguousarray(array).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(values, array.shape[1])
    # A dictionary might take -0.0 for 0.0.
    pq.write_table(pa.table({"values": lists}), path, use_dictionary=False, compression="none")


def read_array(path: Path) -> FloatArray:
    """Read what :func:`write_array` has written."""
    column = pq.read_table(path).column("values")
    k, kind = column.type.list_size, column.type.value_type.to_pandas_dtype()
    parts = [np.zeros((0, k), kind)]
    parts += [chunk.flatten().to_numpy().reshape(-1, k) for chunk in column.chunks]
    return np.concatenate(parts)
