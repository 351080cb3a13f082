"""Arrays on their way through Spark: nothing is lost, and few bytes are used."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from als_spark.spark.arrow import (
    MAX_LEVELS,
    decode_values,
    encode_values,
    gather_batches,
    ids_from_bytes,
    ids_to_bytes,
    narrow,
    stream_to_bytes,
    table_from_bytes,
    widen,
)


@pytest.mark.parametrize(("n", "itemsize"), [(1, 2), (65_536, 2), (65_537, 4), (2**31 - 1, 4)])
def test_indices(n, itemsize):
    indices = np.unique(np.linspace(0, n - 1, 50).astype(np.int32))
    data = narrow(indices, n)
    assert data.itemsize == itemsize
    back = widen(data.tobytes(), indices.size)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, indices)


@pytest.mark.parametrize("n", [1, 70_000])
def test_no_indices(n):
    assert widen(narrow(np.zeros(0, np.int32), n).tobytes(), 0).size == 0


@pytest.mark.parametrize("n_levels", [1, 10, MAX_LEVELS, MAX_LEVELS + 1, 5000])
def test_values(n_levels):
    rng = np.random.default_rng(0)
    levels = np.concatenate([rng.standard_normal(n_levels - 1), [1e300]])
    values = np.concatenate([levels, rng.choice(levels, 3000)])
    codes, table = encode_values(pa.array(values))
    assert codes.itemsize == (1 if n_levels <= MAX_LEVELS else 8)
    np.testing.assert_array_equal(decode_values(codes.tobytes(), table.tobytes()), values)


def test_no_values():
    codes, table = encode_values(pa.array([], pa.float64()))
    assert decode_values(codes.tobytes(), table.tobytes()).size == 0


@pytest.mark.parametrize(
    "ids",
    [pa.array([3, -(2**63)], pa.int64()), pa.array(["007", "é", ""]), pa.array([], pa.int64())],
)
def test_ids_survive_as_bytes(ids):
    assert ids_from_bytes(ids_to_bytes(ids)).equals(ids)


def test_tables_survive_as_bytes():
    table = pa.table({"a": [1, None], "b": ["x", "y"]})
    assert table_from_bytes(stream_to_bytes(table)).equals(table)


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, [2, 2, 1]), (2, [2, 2, 1]), (3, [4, 1]), (100, [5])]
)
def test_batches_are_gathered_up_to_a_size(most, sizes):
    batches = pa.table({"a": range(5)}).to_batches(max_chunksize=2)
    tables = list(gather_batches(batches, most))
    assert [table.num_rows for table in tables] == sizes
    assert pa.concat_tables(tables).column("a").to_pylist() == list(range(5))


def test_no_batches():
    assert list(gather_batches([], 10)) == []
