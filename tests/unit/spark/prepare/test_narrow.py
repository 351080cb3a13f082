"""Arrays on their way through Spark: nothing is lost, and few bytes are used."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from als_spark.spark.prepare.narrow import MAX_LEVELS, decode_values, encode_values, narrow, widen


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
