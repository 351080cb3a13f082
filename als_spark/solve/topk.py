"""The items with the largest scores of each user: exact, in blocks, sorted only where it matters.

The score of a user and an item is the product of their factors. A block of scores comes from one
matrix product, in the factors' own dtype. The items are dealt into groups, and the largest score of
each group taken (a maximum over the slow axis, as fast as memory is read); the ``top``-th largest
of these maxima is not above the ``top``-th largest score. Every item that is not below it, less
what rounding can do, is a candidate: about ``top`` of them a user. Candidates are scored again in
float64 and sorted. No answer depends on the blocks, on the order of the sums of a BLAS library, or
on ties that partial sorting would break as it likes.

More than half of the time goes to the matrix products. Partitioning the scores themselves
(``np.argpartition``) takes at least four times as long.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from als_spark.errors import ConfigError, DataError
from als_spark.types import FloatArray, IntArray

SCORES_BYTES = 4 << 20
"""Scores held at a time. All arrays that are not a result take at most about sixteen times as much,
whatever the ties, and whatever the number of users and of items."""
BLOCK_ITEMS = 1 << 14
"""Items of a block at most: a copy of their factors, transposed, is held beside the scores."""
GROUP_ITEMS = 32
"""Items of a group at most."""
GROUPS_PER_PLACE = 8
"""Groups for each of the ``top`` places at least, so that few of the best items share a group."""


class Seen(NamedTuple):
    """Items to leave out, by user, as in a CSR matrix; any order, and an item may come twice."""

    indptr: IntArray
    """(n_users + 1,) User u leaves out ``indices[indptr[u]:indptr[u + 1]]``."""
    indices: IntArray
    """Rows of items; those that are no item's, such as −1, leave nothing out."""


class TopItems(NamedTuple):
    """The best items of each user, best first."""

    rows: IntArray
    """(n_users, top) int32 rows of the items; −1 where fewer than ``top`` are left."""
    scores: FloatArray
    """(n_users, top) float64; NaN where fewer than ``top`` are left."""


class LowerBound(NamedTuple):
    """Scores that are a mean less a deviation: both are products of the factors."""

    n_means: int
    """Columns of the factors whose product is the mean; that of the others is the variance."""
    times: float
    """How many deviations are subtracted."""

    def block(self, users: FloatArray, items: FloatArray, out: FloatArray) -> None:
        """Score all pairs: (n_users, columns) times (columns, n_items)."""
        k = self.n_means
        spreads = np.maximum(users[:, k:] @ items[k:], 0)
        np.matmul(users[:, :k], items[:k], out=out)
        out -= self.times * np.sqrt(spreads, out=spreads)

    def pairs(self, users: FloatArray, items: FloatArray) -> FloatArray:
        """Score pairs of rows: (n, columns) and (n, columns)."""
        k = self.n_means
        spreads = np.maximum(np.einsum("pd,pd->p", users[:, k:], items[:, k:]), 0)
        scores: FloatArray = np.einsum("pd,pd->p", users[:, :k], items[:, :k])
        scores -= self.times * np.sqrt(spreads)
        return scores


class SampledBound(NamedTuple):
    """The same, of samples: factors have those of the mean, those of each sample, and a last one.

    The variance is the mean of the squared distances of the samples' products from that of the
    mean, and the product of the last columns.
    """

    n_means: int
    """Columns of the factors of the mean, and of each sample."""
    times: float
    """How many deviations are subtracted."""

    def block(self, users: FloatArray, items: FloatArray, out: FloatArray) -> None:
        """Score all pairs: (n_users, columns) times (columns, n_items)."""
        k, last = self.n_means, users.shape[1] - 1
        np.matmul(users[:, :k], items[:k], out=out)
        spreads, drawn = np.zeros_like(out), np.empty_like(out)
        for first in range(k, last, k):
            np.matmul(users[:, first : first + k], items[first : first + k], out=drawn)
            drawn -= out
            spreads += np.square(drawn, out=drawn)
        spreads /= last // k - 1
        spreads += np.outer(users[:, last], items[last])
        out -= self.times * np.sqrt(spreads, out=spreads)

    def pairs(self, users: FloatArray, items: FloatArray) -> FloatArray:
        """Score pairs of rows: (n, columns) and (n, columns)."""
        means, variances, noises = sampled_pairs(users, items, self.n_means)
        scores: FloatArray = means - self.times * np.sqrt(variances + noises)
        return scores


def sampled_pairs(
    users: FloatArray, items: FloatArray, n_means: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(n,) means, their variances, and those of the noise, of pairs: see :class:`SampledBound`."""
    shape = users.shape[0], (users.shape[1] - 1) // n_means, n_means
    x, y = users[:, :-1].reshape(shape), items[:, :-1].reshape(shape)
    products = np.einsum("psd,psd->ps", x, y)
    spreads: FloatArray = np.square(products[:, 1:] - products[:, :1]).mean(axis=1)
    return products[:, 0], spreads, users[:, -1] * items[:, -1]


Bound = LowerBound | SampledBound


def top_items(
    user_factors: FloatArray,
    item_factors: FloatArray,
    top: int,
    seen: Seen | None = None,
    bound: Bound | None = None,
) -> TopItems:
    """Find the items with the largest scores of each user, leaving ``seen`` ones out.

    The result is that of computing all scores in float64 from the given factors and sorting by
    falling score, then by rising row of the item. The float64 score of a pair depends on the two
    rows alone, so equal rows have equal scores to the last bit, and nothing depends on how users
    or items are cut into blocks or calls.

    Parameters
    ----------
    user_factors, item_factors : (n_users, rank), (n_items, rank) float32 or float64
    top : int
        Items wanted for each user.
    seen : Seen, optional
    bound : LowerBound or SampledBound, optional
        How scores come from the factors, which are float64 then; by their products if not given.

    Raises
    ------
    ConfigError
        If ``top`` is not positive, or the ranks differ.
    DataError
        If a factor is not finite.
    """
    if top < 1:
        raise ConfigError(f"top={top}: not usable: ask for at least one item")
    if user_factors.shape[1] != item_factors.shape[1]:
        raise ConfigError(
            f"factors of ranks {user_factors.shape[1]} and {item_factors.shape[1]} given: "
            "both sides must come from one model"
        )
    n_users, n_items = user_factors.shape[0], item_factors.shape[0]
    # There are no more than all: the work and its memory do not grow with what is asked beyond.
    wanted, top = top, min(top, n_items)
    found = TopItems(np.full((n_users, top), -1, np.int32), np.full((n_users, top), -np.inf))
    dtype, slack = _precision(user_factors, item_factors)
    if bound is not None:
        # A variance near zero has a root that is off by as much as the root of what it is off by.
        slack = slack + bound.times * np.sqrt(slack)
    width = max(min(n_items, BLOCK_ITEMS), 1)
    # The best so far are held beside the scores of a block, and may be the more of the two.
    height = max(min(n_users, SCORES_BYTES // (max(width, top) * dtype.itemsize)), 1)
    scores, above = np.empty(height * width, dtype), np.empty(height * width, bool)
    for first in range(0, n_items, width):
        items = item_factors[first : first + width]
        transposed = np.ascontiguousarray(items.T, dtype)
        for start in range(0, n_users, height):
            part = slice(start, start + height)
            users = user_factors[part]
            shape = (users.shape[0], items.shape[0])
            size = shape[0] * shape[1]
            block = scores[:size].reshape(shape)
            if bound is None:
                np.matmul(users.astype(dtype, copy=False), transposed, out=block)
            else:
                bound.block(users.astype(dtype, copy=False), transposed, block)
            if seen is not None:
                _leave_out(block, seen, start, first)
            best = TopItems(found.rows[part], found.scores[part])
            pairs = _candidates(block, above[:size], best, slack[part])
            _merge(best, *pairs, users, items, first, bound)
    found.scores[found.rows < 0] = np.nan
    if wanted == top:
        return found
    padded = TopItems(np.full((n_users, wanted), -1, np.int32), np.full((n_users, wanted), np.nan))
    padded.rows[:, :top], padded.scores[:, :top] = found
    return padded


def top_of_groups(
    user_factors: FloatArray,
    groups: Iterable[FloatArray],
    top: int,
    seen: Seen | None = None,
) -> TopItems:
    """Find what :func:`top_items` does, of items whose factors come in groups, one at a time.

    Parameters
    ----------
    user_factors, top, seen
        As there; rows of items count through all groups.
    groups : iterable of (n, rank) arrays
        The items' factors, in the order of their rows.
    """
    n_users = user_factors.shape[0]
    best = TopItems(np.full((n_users, top), -1, np.int32), np.full((n_users, top), np.nan))
    first = 0
    for factors in groups:
        own = None
        if seen is not None:
            here = (seen.indices >= first) & (seen.indices < first + len(factors))
            own = Seen(seen.indptr, np.where(here, seen.indices - first, -1))
        found = top_items(user_factors, factors, top, own)
        rows = np.hstack([best.rows, np.where(found.rows >= 0, found.rows + first, -1)])
        scores = np.hstack([best.scores, found.scores])
        # Rows of a group are above those of the groups before it: a stable order keeps ties right.
        falling = np.where(rows >= 0, -scores, np.inf)
        order = np.argsort(falling, axis=1, kind="stable")[:, :top]
        best = TopItems(
            np.take_along_axis(rows, order, axis=1).astype(np.int32, copy=False),
            np.take_along_axis(scores, order, axis=1),
        )
        first += len(factors)
    return best


def _precision(
    user_factors: FloatArray, item_factors: FloatArray
) -> tuple[np.dtype[np.floating], FloatArray]:
    """Choose the dtype of the products; bound, for each user, what rounding does to a score.

    A product of d terms is off by at most about d ε |u| |v|, in whatever order it is summed; the
    bound is twice that for the product and twice for a score that it is compared with.
    """
    dtype = np.result_type(user_factors, item_factors)
    lengths = [
        np.sqrt(np.einsum("nd,nd->n", part, part, dtype=np.float64))
        for part in (user_factors, item_factors)
    ]
    longest = lengths[1].max(initial=0.0)
    largest = lengths[0].max(initial=0.0) * longest
    if not np.isfinite(largest):
        raise DataError("factors that are not finite given: train again with a larger lambda")
    if largest > np.finfo(dtype).max / 4:
        dtype = np.dtype(np.float64)
    limits, rank = np.finfo(dtype), user_factors.shape[1]
    return dtype, 4 * rank * (limits.eps * longest * lengths[0] + limits.tiny)


def _leave_out(block: FloatArray, seen: Seen, start: int, first: int) -> None:
    """Give the items of a block of scores that are to be left out the score −∞."""
    n_users, n_items = block.shape
    bounds = seen.indptr[start : start + n_users + 1]
    columns = seen.indices[bounds[0] : bounds[-1]] - first
    users = np.repeat(np.arange(n_users), np.diff(bounds))
    inside = (columns >= 0) & (columns < n_items)
    block[users[inside], columns[inside]] = -np.inf


def _candidates(
    block: FloatArray, above: np.ndarray, best: TopItems, slack: FloatArray
) -> tuple[IntArray, IntArray]:
    """Find the pairs of a block that may be among the best, by user, then by item."""
    n_users, n_items = block.shape
    top = best.rows.shape[1]
    # The best so far count from the earlier blocks: −∞ while there are fewer than `top`.
    threshold = best.scores[:, -1]
    if n_items >= top:
        size = max(min(n_items // (GROUPS_PER_PLACE * top), GROUP_ITEMS), 1)
        # The items of the last, incomplete group add nothing: the bound holds without them.
        n_groups = n_items // size
        groups = block[:, : size * n_groups].reshape(n_users, size, n_groups).max(axis=1)
        threshold = np.maximum(threshold, np.partition(groups, -top, axis=1)[:, -top])
    # Items that are left out have −∞, and are below every finite number.
    lowest = np.maximum(threshold - slack, np.finfo(block.dtype).min).astype(block.dtype)
    np.greater_equal(block, lowest[:, None], out=above.reshape(block.shape))
    return np.divmod(np.flatnonzero(above), n_items)


def _merge(
    best: TopItems,
    users: IntArray,
    items: IntArray,
    user_factors: FloatArray,
    item_factors: FloatArray,
    first: int,
    bound: Bound | None,
) -> None:
    """Score candidates in float64, and put them among the best so far."""
    n_users, top = best.rows.shape
    counts = np.bincount(users, minlength=n_users)
    widest = top + int(counts.max(initial=0))
    places = top + np.arange(users.size) - np.repeat(np.cumsum(counts) - counts, counts)
    falling = np.full((n_users, widest), np.inf)
    rows = np.full((n_users, widest), -1, np.int32)
    falling[:, :top] = -best.scores
    rows[:, :top] = best.rows
    step = max(SCORES_BYTES // (8 * item_factors.shape[1]), 1)
    for begin in range(0, users.size, step):
        part = slice(begin, begin + step)
        # In arrays of float64, not by a cast inside einsum, whose buffers would cut the sums.
        known = user_factors[users[part]].astype(np.float64, copy=False)
        scored = item_factors[items[part]].astype(np.float64, copy=False)
        if bound is None:
            scores = np.einsum("pd,pd->p", known, scored)
        else:
            scores = bound.pairs(known, scored)
        falling[users[part], places[part]] = -scores
    rows[users, places] = items + first
    # Stable, and the items of earlier blocks, and of smaller rows, stand before the others.
    order = np.argsort(falling, axis=1, kind="stable")[:, :top]
    best.scores[:] = -np.take_along_axis(falling, order, axis=1)
    best.rows[:] = np.take_along_axis(rows, order, axis=1)
