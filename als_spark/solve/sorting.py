"""Sorting of dense indices in linear time."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from als_spark.types import IntArray


def counting_argsort(keys: IntArray, n_keys: int) -> IntArray:
    """Return the stable sorting permutation of keys in ``[0, n_keys)``, in linear time.

    SciPy's CSR to CSC conversion is a counting sort: each key becomes the one entry of its own row,
    and the row indices of the transposed matrix are the permutation.
    """
    n = keys.size
    matrix = sparse.csr_array(
        (np.empty(n, np.int8), keys, np.arange(n + 1, dtype=_index_dtype(n + 1))), shape=(n, n_keys)
    )
    permutation: IntArray = matrix.tocsc().indices
    return permutation


def sort_pairs(rows: IntArray, columns: IntArray, n_rows: int, n_columns: int) -> IntArray:
    """Return the permutation that sorts pairs by row, then by column; stable, in linear time."""
    by_column = counting_argsort(columns, n_columns)
    return by_column[counting_argsort(rows[by_column], n_rows)]


def _index_dtype(largest: int) -> type[np.int32 | np.int64]:
    return np.int32 if largest <= np.iinfo(np.int32).max else np.int64
