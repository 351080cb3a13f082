"""Spark's hash of rows in NumPy, against the text of its specification; no Spark."""

from __future__ import annotations

import numpy as np
import pytest

from als_spark.spark.read.row_hash import BLOCK_ROWS, DecimalTexts, hash_doubles, hash_longs

_MASK = 2**64 - 1
_P1, _P2, _P3 = 11400714785074694791, 14029467366897019727, 1609587929392839161
_P4, _P5 = 9650029242287828579, 2870177450012600261


def rotated(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (64 - bits))) & _MASK


def xxh64(data: bytes, seed: int) -> int:
    """XXH64 of less than 32 bytes, step by step as the specification has it."""
    state = (seed + _P5 + len(data)) & _MASK
    while len(data) >= 8:
        lane = rotated(int.from_bytes(data[:8], "little") * _P2 & _MASK, 31) * _P1 & _MASK
        state, data = (rotated(state ^ lane, 27) * _P1 + _P4) & _MASK, data[8:]
    if len(data) >= 4:
        lane = int.from_bytes(data[:4], "little") * _P1 & _MASK
        state, data = (rotated(state ^ lane, 23) * _P2 + _P3) & _MASK, data[4:]
    for byte in data:
        state = rotated(state ^ (byte * _P5 & _MASK), 11) * _P1 & _MASK
    state = (state ^ (state >> 33)) * _P2 & _MASK
    state = (state ^ (state >> 29)) * _P3 & _MASK
    return state ^ (state >> 32)


def test_the_slow_twin_knows_published_values() -> None:
    assert xxh64(b"", 0) == 0xEF46DB3751D8E999
    assert xxh64(b"a", 0) == 0xD24EC4F1A98C6E5B


def test_ids_are_hashed_as_their_digits() -> None:
    rng = np.random.default_rng(0)
    drawn = [rng.integers(-(10**k), 10**k, 9) for k in range(1, 19)]
    ids = np.unique(np.concatenate([[0, 2**63 - 1, -(2**63)], *drawn]))
    codes = rng.integers(0, ids.size, 3000)
    seeds = rng.integers(0, 2**64, codes.size, dtype=np.uint64)
    found = DecimalTexts(ids).hash(codes, seeds)
    texts = [str(number).encode() for number in ids.tolist()]
    wanted = [xxh64(texts[k], seed) for k, seed in zip(codes, seeds.tolist(), strict=True)]
    assert found.tolist() == wanted


def test_more_rows_than_a_block_has() -> None:
    codes = np.arange(BLOCK_ROWS + 5) % 3
    seeds = np.arange(codes.size, dtype=np.uint64)
    texts = DecimalTexts(np.array([7, 12345, -1]))
    found = texts.hash(codes, seeds)
    assert found[-5:].tolist() == texts.hash(codes[-5:], seeds[-5:]).tolist()
    assert DecimalTexts(np.zeros(0, np.int64)).hash(codes[:0], seeds[:0]).size == 0


@pytest.mark.parametrize("value", [0, 1, -5, 2**63 - 1, -(2**63)])
def test_numbers_are_hashed_as_eight_bytes(value: int) -> None:
    wanted = xxh64(value.to_bytes(8, "little", signed=True), 42)
    assert hash_longs(np.array([value]), 42).tolist() == [wanted]


def test_zero_has_no_sign() -> None:
    seeds = np.array([7, 7], np.uint64)
    one, other = hash_doubles(np.array([0.0, -0.0]), seeds).tolist()
    assert one == other == xxh64(bytes(8), 7)
