"""Starting factors: drawn by the index of the row, however the ratings lie."""

from __future__ import annotations

import numpy as np

from als_spark.solve.biases import append_biases
from als_spark.train.backend import Factors, Start
from als_spark.types import SIDES, FloatArray, IntArray, Side

_CHUNK = 1 << 16
"""Rows that are drawn at a time where only some of them are wanted."""


def initial_factors(n_users: int, n_items: int, rank: int, seed: int) -> Factors:
    """Draw the start: uniform on [0, 1), float64.

    Row k of a side depends on the seed, the side, the rank and k alone, so nothing depends on how
    the ratings lie.

    Parameters
    ----------
    n_users, n_items, rank : int
        Shape of the factors.
    seed : int
        Any non-negative integer.
    """
    users, items = (
        _generator(seed, side).random((n, rank))
        for side, n in zip(SIDES, (n_users, n_items), strict=True)
    )
    return Factors(users, items)


def draw_rows(rows: IntArray, rank: int, seed: int, side: Side) -> FloatArray:
    """Draw some rows of a side's start.

    Parameters
    ----------
    rows : (n,) int
        Dense rows, rising.
    rank, seed : int
    side : {"user", "item"}

    Returns
    -------
    (n, rank) float64
        Those rows of what :func:`initial_factors` draws.
    """
    generator, drawn = _generator(seed, side), np.empty((rows.size, rank))
    n_rows = int(rows[-1]) + 1 if rows.size else 0
    for first in range(0, n_rows, _CHUNK):
        chunk = generator.random((min(_CHUNK, n_rows - first), rank))
        begin, end = np.searchsorted(rows, [first, first + _CHUNK])
        drawn[begin:end] = chunk[rows[begin:end] - first]
    return drawn


def start_array(start: Start, n_rows: int, side: Side, rows: IntArray | None = None) -> FloatArray:
    """Make the starting factors of a side, or some of its rows, which rise."""
    if start.given is not None:
        factors = start.given if rows is None else start.given[rows]
    else:
        if rows is None:
            factors = _generator(start.seed, side).random((n_rows, start.rank))
        else:
            factors = draw_rows(rows, start.rank, start.seed, side)
    if start.columns > start.rank:
        factors = append_biases(factors)
    return factors.astype(start.dtype)


def _generator(seed: int, side: Side) -> np.random.Generator:
    sequence = np.random.SeedSequence([seed, SIDES.index(side)])
    return np.random.Generator(np.random.Philox(sequence))
