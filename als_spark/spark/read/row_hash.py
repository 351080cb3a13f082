"""Spark's ``xxhash64`` of the columns of a row, in NumPy: bit for bit what Spark gives.

Spark hashes the columns of a row one after another, each with the hash of those before it as its
seed. A number is hashed as eight bytes, an id as the text of its decimal digits: see
:func:`als_spark.spark.read.split.split_ratings`. A missing value leaves the hash as it is.

Source: XXH64 of https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, for less than 32
bytes, as in Spark's ``XXH64.java``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from als_spark.types import FloatArray, IntArray

Hashes = npt.NDArray[np.uint64]

FIRST_SEED = 42
"""Spark's, of the first column."""
BLOCK_ROWS = 1 << 15
"""Rows that are hashed at a time, so that what is in between stays in the cache."""
_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(prime)
    for prime in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)
_TEXT_BYTES = 24
"""Of an id: the longest has 20, in words of eight."""


class DecimalTexts:
    """The texts of some integers, ready to be hashed.

    Parameters
    ----------
    ids : ndarray of int64, (n_ids,)
    """

    def __init__(self, ids: IntArray) -> None:
        texts = np.asarray(ids, np.int64).astype(f"S{_TEXT_BYTES}")
        octets = texts.view(np.uint8).reshape(texts.size, _TEXT_BYTES)
        self._lengths: IntArray = (octets != 0).sum(axis=1)
        words = texts.view("<u8").reshape(texts.size, _TEXT_BYTES // 8)
        with np.errstate(over="ignore"):
            self._words = [_rotated(words[:, k] * _P2, 31) * _P1 for k in range(2)]
            fours = texts.view("<u4").reshape(texts.size, _TEXT_BYTES // 4).astype(np.uint64) * _P1
            self._fours = [fours[:, 2 * k] for k in range(3)]
        self._octets = octets

    def hash(self, codes: IntArray, seeds: Hashes) -> Hashes:
        """Hash the ids of given positions, each with its seed; in blocks.

        Parameters
        ----------
        codes : ndarray of int, (n,)
        seeds : ndarray of uint64, (n,)

        Returns
        -------
        ndarray of uint64, (n,)
        """
        found = np.empty(codes.size, np.uint64)
        for first in range(0, codes.size, BLOCK_ROWS):
            rows = slice(first, first + BLOCK_ROWS)
            own, given = codes[rows], seeds[rows]
            lengths = self._lengths[own]
            for length in np.flatnonzero(np.bincount(lengths)).tolist():
                chosen = np.flatnonzero(lengths == length)
                if chosen.size == own.size:
                    found[rows] = self._hash_alike(own, given, length)
                else:
                    found[first + chosen] = self._hash_alike(own[chosen], given[chosen], length)
        return found

    def _hash_alike(self, codes: IntArray, seeds: Hashes, length: int) -> Hashes:
        """Hash texts of one length."""
        n_words, left = divmod(length, 8)
        with np.errstate(over="ignore"):
            state = seeds + (_P5 + np.uint64(length))
            for k in range(n_words):
                state = _rotated(state ^ self._words[k][codes], 27) * _P1 + _P4
            begin = 8 * n_words
            if left >= 4:
                state = _rotated(state ^ self._fours[n_words][codes], 23) * _P2 + _P3
                begin += 4
            for k in range(begin, length):
                octets = self._octets[codes, k].astype(np.uint64)
                state = _rotated(state ^ (octets * _P5), 11) * _P1
            return _mixed(state)


class PairTexts:
    """The texts of the ids of some pairs, ready to be hashed.

    Parameters
    ----------
    pairs : tuple of ndarray of int, (n,)
        Users and items, as positions in ``ids``.
    ids : tuple of ndarray of int64
        Ids of users, of items.
    """

    def __init__(self, pairs: tuple[IntArray, IntArray], ids: tuple[IntArray, IntArray]) -> None:
        self._pairs = pairs
        self._users, self._items = (DecimalTexts(of_side) for of_side in ids)
        self._n_users = ids[0].size

    def hash(self, seed: Hashes) -> Iterator[tuple[slice, Hashes]]:
        """Hash the ids of each pair, the (1,) ``seed`` before them; in blocks: rows, hashes."""
        by_user = self._users.hash(np.arange(self._n_users), np.repeat(seed, self._n_users))
        users, items = self._pairs
        for first in range(0, users.size, BLOCK_ROWS):
            rows = slice(first, min(first + BLOCK_ROWS, users.size))
            yield rows, self._items.hash(items[rows], by_user[users[rows]])

    def __len__(self) -> int:
        """Return the number of pairs."""
        return self._pairs[0].size


def hash_longs(values: IntArray, seeds: Hashes | int) -> Hashes:
    """Hash 64-bit integers, each with its seed."""
    words = np.ascontiguousarray(values, np.int64).view(np.uint64)
    with np.errstate(over="ignore"):
        state = np.asarray(seeds, np.uint64) + (_P5 + np.uint64(8))
        state = state ^ (_rotated(words * _P2, 31) * _P1)
        return _mixed(_rotated(state, 27) * _P1 + _P4)


def hash_doubles(values: FloatArray, seeds: Hashes) -> Hashes:
    """Hash 64-bit floats, each with its seed; −0.0 as 0.0, and no NaN."""
    return hash_longs((values + 0.0).view(np.int64), seeds)


def _rotated(words: Hashes, bits: int) -> Hashes:
    return (words << np.uint64(bits)) | (words >> np.uint64(64 - bits))


def _mixed(state: Any) -> Hashes:
    with np.errstate(over="ignore"):
        state = (state ^ (state >> np.uint64(33))) * _P2
        state = (state ^ (state >> np.uint64(29))) * _P3
        mixed: Hashes = state ^ (state >> np.uint64(32))
    return mixed
