"""A start from an earlier model's factors."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from als_spark.model.ids import IdIndex
from als_spark.model.warm_start import take_known


def index(*ids: int) -> IdIndex:
    return IdIndex(pa.array(ids, pa.int64()))


def test_known_ids_start_where_they_were_and_others_as_usual():
    start = np.arange(8.0).reshape(4, 2)
    factors = np.array([[10.0, 11.0], [20.0, 21.0], [30.0, 31.0]], np.float32)
    assert take_known(start, index(5, -7, 3, 8), index(3, 9, 5), factors) == 2
    np.testing.assert_array_equal(start, [[30, 31], [2, 3], [10, 11], [6, 7]])


def test_rows_that_are_not_usable_are_left():
    start, factors = np.zeros((2, 1)), np.array([[1.0], [2.0]])
    usable = np.array([True, False])
    assert take_known(start, index(1, 2), index(1, 2), factors, usable) == 1
    np.testing.assert_array_equal(start, [[1], [0]])


def test_nothing_in_common():
    start = np.ones((2, 1))
    usable = np.zeros(0, bool)
    assert take_known(start, index(1, 2), index(), np.zeros((0, 1)), usable) == 0
    np.testing.assert_array_equal(start, [[1], [1]])
