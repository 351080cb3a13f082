"""Rows of a learnt prior (bias, then factors) as plain factors, whose products are predictions."""

from __future__ import annotations

import numpy as np

from als_spark.types import FloatArray, Side


def plain_factors(rows: FloatArray, side: Side, mean: float) -> FloatArray:
    """Return (..., D + 1) plain factors of rows (..., D); ``mean`` is m, which the users have."""
    biases, ones = rows[..., :1], np.ones((*rows.shape[:-1], 1), rows.dtype)
    first = [biases + mean, ones] if side == "user" else [ones, biases]
    return np.concatenate([*first, rows[..., 1:]], axis=-1)
