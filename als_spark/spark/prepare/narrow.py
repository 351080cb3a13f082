"""Arrays on their way through Spark, in as few bytes as hold them.

Dense indices below 65,536 take two bytes instead of four. Ratings usually come in a few levels
(half stars, say), and then take one byte and a table of the levels instead of eight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from als_spark.types import FloatArray, IntArray

MAX_LEVELS = 256


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
