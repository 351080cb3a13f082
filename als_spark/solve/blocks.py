"""Rating blocks: the observed ratings of some rows, packed so that one NumPy call solves many rows.

A block holds the ratings of a set of *rows* (users, or items) against the *columns* of the other
side. It is a CSR matrix in which rows are sorted by degree (their number of ratings) and cut into
*buckets* of nearly equal degree; inside a bucket every row is padded to the bucket's length, so
that the bucket is a dense rectangle, a view and not a copy.

Worked example: four users, three items, block with users 0, 1, 3 (user 2 has no rating and is in no
block)::

              item 0  item 1  item 2
    user 0      5       .       3
    user 1      .       4       .
    user 3      1       2       .

    rows          = [1, 0, 3]                 sorted by degree, then by index
    degrees       = [1, 2, 2]
    bucket_rows   = [0, 1, 3]                 bucket 0 is rows[0:1], bucket 1 is rows[1:3]
    bucket_widths = [1, 2]
    indices       = [1,  0, 2,  0, 1]         bucket 0 as 1 x 1, then bucket 1 as 2 x 2
    ratings       = [4.,  5., 3.,  1., 2.]

A padded place has the column index ``n_columns`` (the kernels append a row of zeros to the fixed
factors) and the rating 0, and so adds nothing to any sum. The solvers
(:mod:`als_spark.solve.solver`) walk the buckets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from als_spark.errors import DataError
from als_spark.types import FloatArray, IntArray

EXACT_WIDTH = 8
"""Rows of at most this degree share a bucket only with rows of the same degree: no padding."""
PADDING_SHARE = 0.1
"""In the wider buckets at most this share of a row's places is padding."""


class Bucket(NamedTuple):
    """A rectangle of a block: views, no copies."""

    start: int
    """First row of the bucket, as a position within the block."""
    indices: IntArray
    """(n_rows, width) column indices; ``n_columns`` where padded."""
    ratings: FloatArray
    """(n_rows, width) ratings; 0 where padded."""
    weights: FloatArray | None = None
    """(n_rows, width) weights of the ratings; 0 where padded. None: all are 1."""


@dataclass(frozen=True, slots=True)
class RatingBlock:
    """Ratings of some rows, bucketed by degree (see the module's example).

    Attributes
    ----------
    n_columns : int
        Rows of the other side's factor matrix.
    rows : (n_rows,) int32
        Dense indices of the rows, by rising degree, then by rising index.
    degrees : (n_rows,) int32
        Ratings of each row, padding not counted.
    bucket_rows : (n_buckets + 1,) int64
        Bucket k holds the rows ``rows[bucket_rows[k]:bucket_rows[k + 1]]``.
    bucket_widths : (n_buckets,) int64
        Places of a row of each bucket.
    indices, ratings : (n_places,) int32, float
        The places, bucket by bucket, row by row, by rising column index.
    weights : (n_places,) float or None
        Weights of the squared errors, above 0 but for the padding; None: all are 1.
    """

    n_columns: int
    rows: IntArray
    degrees: IntArray
    bucket_rows: IntArray
    bucket_widths: IntArray
    indices: IntArray
    ratings: FloatArray
    weights: FloatArray | None = None

    def __repr__(self) -> str:
        """Say what it holds, in a line."""
        return (
            f"<RatingBlock: {self.n_ratings:,} ratings, {self.n_rows:,} rows, "
            f"{self.n_columns:,} columns>"
        )

    @property
    def n_rows(self) -> int:
        """Rows in the block."""
        return int(self.rows.size)

    @property
    def n_ratings(self) -> int:
        """Ratings in the block, padding not counted."""
        return int(self.degrees.sum(dtype=np.int64))

    def buckets(self) -> Iterator[Bucket]:
        """Yield the buckets, narrowest first."""
        place = 0
        starts = self.bucket_rows.tolist()
        for k, width in enumerate(self.bucket_widths.tolist()):
            start, stop = starts[k], starts[k + 1]
            end = place + (stop - start) * width
            shape = (stop - start, width)
            yield Bucket(
                start,
                self.indices[place:end].reshape(shape),
                self.ratings[place:end].reshape(shape),
                None if self.weights is None else self.weights[place:end].reshape(shape),
            )
            place = end

    def positives(self) -> IntArray:
        """(n_rows,) int32 ratings above 0 of each row."""
        found = [np.count_nonzero(b.ratings > 0, axis=1) for b in self.buckets()]
        return np.concatenate([np.zeros(0, np.int32), *found]).astype(np.int32)

    def bucket_start(self, bucket: int) -> int:
        """Place at which a bucket begins (or, for the number of buckets, all places end)."""
        return int((np.diff(self.bucket_rows) * self.bucket_widths)[:bucket].sum())

    def triples(self) -> tuple[IntArray, IntArray, FloatArray]:
        """Row indices, column indices and ratings, without the padding, in the order stored."""
        widths = np.repeat(self.bucket_widths, np.diff(self.bucket_rows))
        rows = np.repeat(self.rows, widths)
        real = self.indices < self.n_columns
        return rows[real], self.indices[real], self.ratings[real]

    def rating_weights(self) -> FloatArray | None:
        """Weights of the ratings of :meth:`triples`, in the same order; None: all are 1."""
        return None if self.weights is None else self.weights[self.indices < self.n_columns]


def build_block(
    rows: IntArray,
    columns: IntArray,
    ratings: FloatArray,
    *,
    n_rows: int,
    n_columns: int,
    dtype: npt.DTypeLike = np.float64,
    presorted: bool = False,
    weights: FloatArray | None = None,
) -> RatingBlock:
    """Pack (row, column, rating) triples into a block.

    Parameters
    ----------
    rows, columns : (n,) int
        Dense indices in ``[0, n_rows)`` and ``[0, n_columns)``. Each rating of a pair that comes
        more than once counts as one of its own.
    ratings : (n,) float
        Ratings, in the users' units.
    n_rows, n_columns : int
        Sizes of the two sides of the whole matrix.
    dtype : dtype
        float32 or float64, of the stored ratings.
    presorted : bool
        Whether the triples already lie by row, then by column; otherwise they are sorted here.
    weights : (n,) float, optional
        Weights of the squared errors of the ratings; 1 each if not given.

    Raises
    ------
    DataError
        If a weight, in ``dtype``, is not finite or not above 0. Leave ratings of weight 0 out: they
        must not count in the degrees either.
    """
    if weights is not None:
        weights = _checked_weights(weights, dtype)
    if not presorted:
        order = sort_pairs(rows, columns, n_rows, n_columns)
        rows, columns, ratings = rows[order], columns[order], ratings[order]
        weights = None if weights is None else weights[order]
    degree_of = np.bincount(rows, minlength=n_rows)
    present = np.flatnonzero(degree_of)
    present = present[np.argsort(degree_of[present], kind="stable")]
    degrees = degree_of[present]
    bucket_rows, bucket_widths = cut_buckets(degrees)
    widths = np.repeat(bucket_widths, np.diff(bucket_rows))
    row_starts = np.concatenate([[0], np.cumsum(widths)])

    # Rating k of the sorted ratings goes where its row starts in the block, and as far behind that
    # as k is behind the row's first.
    shift = np.zeros(n_rows, np.int64)
    shift[present] = row_starts[:-1] - (np.cumsum(degree_of) - degree_of)[present]
    places = np.arange(rows.size) + shift[rows]

    indices = np.full(int(row_starts[-1]), n_columns, np.int32)
    values = np.zeros(int(row_starts[-1]), dtype)
    indices[places] = columns
    values[places] = ratings
    place_weights = None
    if weights is not None:
        place_weights = np.zeros(values.size, dtype)
        place_weights[places] = weights
    return RatingBlock(
        n_columns=n_columns,
        rows=present.astype(np.int32),
        degrees=degrees.astype(np.int32),
        bucket_rows=bucket_rows,
        bucket_widths=bucket_widths,
        indices=indices,
        ratings=values,
        weights=place_weights,
    )


def _checked_weights(weights: FloatArray, dtype: npt.DTypeLike) -> FloatArray:
    with np.errstate(over="ignore", under="ignore"):
        cast = weights.astype(dtype)
    bad = np.flatnonzero(~((cast > 0) & np.isfinite(cast)))
    if bad.size:
        raise DataError(
            f"weight {weights[bad[0]]} of a rating: weights are finite {np.dtype(dtype)} numbers "
            "above 0; leave ratings of weight 0 out"
        )
    return cast


def cut_buckets(degrees: IntArray) -> tuple[IntArray, IntArray]:
    """Cut rows of rising degree (all at least 1) into buckets.

    Returns (n_buckets + 1,) int64 bounds of the buckets, and (n_buckets,) int64 widths: the largest
    degree of each.
    """
    cuts = [degrees.size]
    while cuts[-1] > 0:
        widest = int(degrees[cuts[-1] - 1])
        narrowest = widest if widest <= EXACT_WIDTH else int(np.ceil(widest * (1 - PADDING_SHARE)))
        cuts.append(int(np.searchsorted(degrees, max(narrowest, 1), side="left")))
    bucket_rows = np.array(cuts[::-1], dtype=np.int64)
    return bucket_rows, degrees[bucket_rows[1:] - 1].astype(np.int64)


class Run(NamedTuple):
    """Neighbouring rows of a block that are gathered and solved together."""

    rows: slice
    """Positions within the block."""
    places: slice
    """Their ratings, padding included."""
    segments: list[tuple[int, int]]
    """(n_rows, width) of each bucket's share, in order."""


def cut_runs(
    block: RatingBlock, first_bucket: int, max_places: int, least: int = 1
) -> Iterator[Run]:
    """Cut the rows of a block, from a bucket on, into runs of at most ``max_places`` places.

    A row that is longer is a run of its own; one that is shorter than ``least`` counts as that.
    """
    row = first_row = int(block.bucket_rows[first_bucket])
    place = first_place = block.bucket_start(first_bucket)
    taken = 0
    segments: list[tuple[int, int]] = []
    bounds = block.bucket_rows.tolist()
    for width, stop in zip(
        block.bucket_widths[first_bucket:].tolist(), bounds[first_bucket + 1 :], strict=True
    ):
        while row < stop:
            room = (max_places - taken) // max(width, least)
            if room <= 0 and segments:
                yield Run(slice(first_row, row), slice(first_place, place), segments)
                first_row, first_place, taken, segments = row, place, 0, []
                continue
            n_rows = min(max(room, 1), stop - row)
            segments.append((n_rows, width))
            row += n_rows
            place += n_rows * width
            taken += n_rows * max(width, least)
    if segments:
        yield Run(slice(first_row, row), slice(first_place, place), segments)


def cut_pieces(widths: IntArray, most: int) -> tuple[IntArray, IntArray]:
    """Cut rows of so many places each, one behind the other, into pieces of at most ``most``.

    Returns where each piece begins, and the last one ends, int32, and which is the first of a row.

    Rows of 2 and 7 places in pieces of 3: they begin at 0, 2, 5 and 8, and the last ends at 9.
    """
    pieces = -(-widths // most)
    firsts = np.cumsum(pieces) - pieces
    lengths = np.full(int(pieces.sum()), most)
    lengths[firsts + pieces - 1] = widths - (pieces - 1) * most
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), firsts


def split_block(block: RatingBlock, max_bytes: int | None) -> Iterator[RatingBlock]:
    """Split a block into slices of at most about ``max_bytes``, views of it.

    A row that is longer is a slice of its own. None leaves the block whole; a block without rows
    has no slice.
    """
    if max_bytes is None:
        if block.n_rows:
            yield block
        return
    place_bytes = block.indices.itemsize + block.ratings.itemsize
    if block.weights is not None:
        place_bytes += block.weights.itemsize
    for run in cut_runs(block, 0, max(max_bytes // place_bytes, 1)):
        n_rows, widths = zip(*run.segments, strict=True)
        yield RatingBlock(
            n_columns=block.n_columns,
            rows=block.rows[run.rows],
            degrees=block.degrees[run.rows],
            bucket_rows=np.concatenate([[0], np.cumsum(n_rows)]).astype(np.int64),
            bucket_widths=np.array(widths, np.int64),
            indices=block.indices[run.places],
            ratings=block.ratings[run.places],
            weights=None if block.weights is None else block.weights[run.places],
        )


def assign_rows(costs: FloatArray, n_blocks: int) -> IntArray:
    """Spread rows over blocks so that every block has about the same work, whatever its unit.

    The costliest rows go, one by one, to the block with the least work so far (Graham's
    longest-processing-time rule); the many cheap ones are dealt in turns, there and back, to the
    blocks that are not above the mean already. Returns (n_rows,) int32, the block of each row.
    """
    blocks: IntArray = np.zeros(costs.size, np.int32)
    order = np.argsort(-costs, kind="stable")
    head = order[: 64 * n_blocks]
    loads = np.zeros(n_blocks)
    for row in head.tolist():
        lightest = int(loads.argmin())
        blocks[row] = lightest
        loads[lightest] += costs[row]
    tail = order[head.size :]
    open_blocks = np.flatnonzero(loads <= max(costs.sum() / n_blocks, loads.min()))
    there = open_blocks[np.argsort(loads[open_blocks], kind="stable")]
    turns = np.concatenate([there, there[::-1]])
    blocks[tail] = np.resize(turns, tail.size)
    return blocks


def counting_argsort(keys: IntArray, n_keys: int) -> IntArray:
    """Return the stable sorting permutation of keys in ``[0, n_keys)``, in linear time.

    SciPy's CSR to CSC conversion is a counting sort: each key becomes the one entry of its own row,
    and the row indices of the transposed matrix are the permutation.
    """
    n = keys.size
    index_dtype = np.int32 if n < np.iinfo(np.int32).max else np.int64
    matrix = sparse.csr_array(
        (np.empty(n, np.int8), keys, np.arange(n + 1, dtype=index_dtype)), shape=(n, n_keys)
    )
    permutation: IntArray = matrix.tocsc().indices
    return permutation


def sort_pairs(rows: IntArray, columns: IntArray, n_rows: int, n_columns: int) -> IntArray:
    """Return the permutation that sorts pairs by row, then by column; stable, in linear time."""
    by_column = counting_argsort(columns, n_columns)
    return by_column[counting_argsort(rows[by_column], n_rows)]
