"""Rows of a learnt prior (bias, then factors): their predictions, and plain factors for these."""

from __future__ import annotations

import numpy as np

from als_spark.types import FloatArray, Side


def plain_factors(rows: FloatArray, side: Side, mean: float) -> FloatArray:
    """Return (..., D + 1) plain factors of rows (..., D); ``mean`` is m, which the users have."""
    biases, ones = rows[..., :1], np.ones((*rows.shape[:-1], 1), rows.dtype)
    first = [biases + mean, ones] if side == "user" else [ones, biases]
    return np.concatenate([*first, rows[..., 1:]], axis=-1)


def predict_rows(users: FloatArray, items: FloatArray, mean: float) -> FloatArray:
    """(n,) predictions m + b + c + u·v of pairs of rows, (n, D) of each side."""
    products: FloatArray = np.einsum("nd,nd->n", users[:, 1:], items[:, 1:])
    predicted: FloatArray = mean + users[:, 0] + items[:, 0] + products
    return predicted
