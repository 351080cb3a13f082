"""Sorting in linear time, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from als_spark.solve.blocks import counting_argsort, sort_pairs


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(("n", "n_keys"), [(0, 5), (1, 1), (1000, 7), (1000, 5000)])
def test_counting_argsort_is_the_stable_argsort(dtype, n, n_keys):
    keys = np.random.default_rng(n_keys).integers(0, n_keys, n).astype(dtype)
    keys.flags.writeable = False
    np.testing.assert_array_equal(counting_argsort(keys, n_keys), np.argsort(keys, kind="stable"))


@pytest.mark.parametrize("seed", range(3))
def test_sort_pairs_is_lexsort(seed):
    rng = np.random.default_rng(seed)
    # Twelve possible pairs a hundred times over, so ties show whether it is stable.
    rows, columns = rng.integers(0, 4, 1200), rng.integers(0, 3, 1200)
    np.testing.assert_array_equal(sort_pairs(rows, columns, 4, 3), np.lexsort((columns, rows)))
