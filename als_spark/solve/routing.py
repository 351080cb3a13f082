"""Which rows of the fixed side a rating block needs, and which factor blocks have them.

Where the fixed factors are too large to be sent whole, the factors of a side stay in *factor
blocks*, and each rating block of the other side gets those rows that its ratings are of (the in-
and out-blocks of MLlib). The rows that a block needs are numbered anew, from 0 and in their order:
the *compact* numbering. A rating block in that numbering is solved, against the compact factors, by
the same solvers as against all of them, to the same bits.

Worked example: six items, items 0, 2, 5 in factor block 0 and items 1, 4 in factor block 1, item 3
shared; a block of users that has ratings of items 1, 2, 3 and 5::

    columns   = [1, 2, 3, 5]             compact numbers 0, 1, 2, 3
    sources   = {0: [1, 3], 1: [0]}      what factor block 0 sends becomes the rows 1 and 3
    shared    = [2]                      item 3 is in no factor block

Factor block 0 sends its rows 1 and 2 (items 2 and 5), factor block 1 its row 0 (item 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from als_spark.solve.blocks import RatingBlock
from als_spark.types import FloatArray, IntArray

SHARED_ROW = -1
"""Block number of a row that is shared by all blocks of its side."""


class Needs(NamedTuple):
    """The rows of the fixed side that a rating block needs."""

    columns: IntArray
    """(n_needed,) int32 dense rows of the fixed side, rising."""
    sources: Mapping[int, IntArray]
    """By factor block, the compact rows that it fills, rising; blocks that fill none are left
    out."""
    shared: IntArray
    """Compact rows that are shared rows of the fixed side, rising."""

    @classmethod
    def of(cls, columns: Iterable[IntArray], block_of: IntArray) -> Needs:
        """Find what some ratings need.

        Parameters
        ----------
        columns : iterable of (n,) int
            Dense rows of the fixed side, any number of times each; those that are no row of it,
            the places of the padding, are passed over.
        block_of : (n_fixed,) int
            Factor block of each row of the fixed side, or :data:`SHARED_ROW`.
        """
        needed = np.zeros(block_of.size + 1, bool)
        for some in columns:
            needed[some] = True
        rows = np.flatnonzero(needed[:-1]).astype(np.int32)
        blocks = block_of[rows]
        order = np.argsort(blocks, kind="stable").astype(np.int32)
        found, first = np.unique(blocks[order], return_index=True)
        parts = dict(zip(found.tolist(), np.split(order, first[1:]), strict=False))
        shared = parts.pop(SHARED_ROW, np.zeros(0, np.int32))
        return cls(rows, parts, shared)

    def compact(self, block: RatingBlock) -> RatingBlock:
        """Return a rating block in the compact numbering."""
        # Of a padded place comes the number of the columns, since it is behind all of them.
        indices = np.searchsorted(self.columns, block.indices).astype(np.int32)
        return replace(block, n_columns=self.columns.size, indices=indices)


def rows_of_block(block_of: IntArray, block: int) -> IntArray:
    """Dense rows of a factor block, rising: row k of its factors is the k-th of them."""
    return np.flatnonzero(block_of == block).astype(np.int32)


class CompactFactors:
    """The fixed factors of several models for one rating block, put together as they arrive.

    Parameters
    ----------
    needs : Needs
        What the block needs.
    shared_rows : (n_shared,) int
        The shared rows of the fixed side, rising.
    shared : sequence of (n_shared, rank)
        Their factors, of each model.
    """

    def __init__(self, needs: Needs, shared_rows: IntArray, shared: Sequence[FloatArray]) -> None:
        self._sources = dict(needs.sources)
        self._factors = [np.empty((needs.columns.size, own.shape[1]), own.dtype) for own in shared]
        at = np.searchsorted(shared_rows, needs.columns[needs.shared])
        for factors, own in zip(self._factors, shared, strict=True):
            factors[needs.shared] = own[at]

    def take(self, source: int, chunk: Sequence[FloatArray]) -> None:
        """Take what a factor block has sent, of each model."""
        places = self._sources.pop(source)
        for factors, rows in zip(self._factors, chunk, strict=True):
            factors[places] = rows

    def finish(self) -> list[FloatArray]:
        """Return (n_needed, rank) of each model, once all has arrived."""
        if self._sources:
            raise RuntimeError(f"factors of the blocks {sorted(self._sources)} have not arrived")
        return self._factors
