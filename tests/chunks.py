"""What the chunks of encoded ratings hold, for their tests with and without Spark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from als_spark.spark.arrow import decode_values, widen
from als_spark.spark.prepare.encode import ids_from_bytes

Row = tuple[Any, ...]

BY_TASKS = "the tasks have read the files themselves"
"""What the log says where no row came through Spark."""


def decoded(chunk: pa.RecordBatch) -> list[Row]:
    """The ratings of a chunk, as rows (user, item, rating, split, timestamp)."""
    (row,) = chunk.to_pylist()
    columns = []
    for role in ("user", "item"):
        ids = ids_from_bytes(row[f"{role}s"]).to_pylist()
        codes = widen(row[f"{role}_codes"], row["n_ratings"])
        assert np.array_equal(
            np.frombuffer(row[f"{role}_counts"], np.int64), np.bincount(codes, minlength=len(ids))
        )
        columns.append([ids[code] for code in codes])
    columns.append(decode_values(row["ratings"], row["levels"]).tolist())
    splits = np.frombuffer(row["splits"], np.int8).tolist()
    columns.append(splits or [0] * len(columns[0]))
    times = np.frombuffer(row["timestamps"], np.float64).tolist()
    columns.append(times or [None] * len(columns[0]))
    assert row["n_ratings"] == len(columns[0])
    return list(zip(*columns, strict=True))
