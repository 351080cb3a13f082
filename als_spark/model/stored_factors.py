"""Factors of one side that stay in the Parquet file of a saved model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from als_spark.solve.objective import Objective
from als_spark.types import FloatArray

PIECE_ROWS = 1 << 16
"""Rows that are read at a time."""


@dataclass(frozen=True, slots=True)
class StoredFactors:
    """See :class:`als_spark.train.backend.RemoteFactors`.

    Attributes
    ----------
    path : Path
        The file, where this process reads it.
    address : str
        Where executors read it.
    shape : (int, int)
        Rows, those without training ratings too, which come last and are zeros; and columns.
    dtype
    """

    path: Path
    address: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def plain(self, objective: Objective) -> StoredFactors:  # noqa: ARG002
        """Return them: plain factors are saved."""
        return self

    def longer(self, more: int) -> StoredFactors:
        """Return them with rows of zeros behind them."""
        return replace(self, shape=(self.shape[0] + more, self.shape[1]))

    def collect(self) -> FloatArray:
        """Return them as an array of this process."""
        return np.concatenate(list(self.pieces()))

    def pieces(self) -> Iterator[FloatArray]:
        """Read them in the order of their rows, piece by piece."""
        left, columns = self.shape
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(PIECE_ROWS, columns=["factors"]):
                lists = batch.column(0)
                left -= len(lists)
                yield lists.flatten().to_numpy().reshape(len(lists), columns)
        yield np.zeros((left, columns), self.dtype)
