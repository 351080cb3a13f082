"""The rows of ratings that tasks have encoded; no Spark."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from als_spark.spark.prepare.encode import encode_partition
from als_spark.spark.prepare.snapshot import _BATCH_ROWS, decode_partition


@pytest.mark.parametrize("timed", [True, False])
def test_rows_come_back_a_few_at_a_time(timed: bool) -> None:
    n = _BATCH_ROWS + 5
    rng = np.random.default_rng(0)
    columns = {
        "user": pa.array(rng.integers(-5, 70_000, n), pa.int32()),
        "item": pa.array(rng.integers(2**40, 2**40 + 9, n)),
        "rating": pa.array(rng.integers(1, 11, n) / 2),
    }
    if timed:
        columns["timestamp"] = pa.array(rng.uniform(0, 1e9, n))
    table = pa.table({**columns, "bad": pa.nulls(n, pa.string())})
    found = list(decode_partition(encode_partition(table.to_batches(max_chunksize=1000))))
    assert [batch.num_rows for batch in found] == [_BATCH_ROWS, 5]
    rows = pa.Table.from_batches(found)
    assert rows.schema.types == [pa.int64(), pa.int64(), pa.float64(), pa.float64()]
    missing = pa.nulls(n, pa.float64())
    for name in ("user", "item", "rating", "timestamp"):
        expected = columns.get(name, missing).cast(rows.schema.field(name).type)
        assert rows.column(name).combine_chunks().equals(expected)
