"""Lists of ids that a caller writes, brought to the type of a model's ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from als_spark.ml.errors import InvalidArgument
from als_spark.ml.recommend import id_array


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64()])
@pytest.mark.parametrize("value", [1.5, np.float32(2.25), -0.5, 2**31 - 0.5, np.nan, np.inf, True])
def test_what_is_no_whole_number_is_no_id(value: Any, kind: pa.DataType) -> None:
    with pytest.raises(InvalidArgument, match=r"^item ids of another kind than the model's"):
        id_array([1, value], kind, "item")


def test_whole_numbers_of_any_type_are() -> None:
    found = id_array([1, 2.0, np.int16(3), np.float32(4), None], pa.int32(), "user")
    assert found.to_pylist() == [1, 2, 3, 4, None]
    assert id_array(["1.5"], pa.string(), "user").to_pylist() == ["1.5"]
