"""Normal random numbers by counter: those of a row depend on its key alone, however rows lie.

Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel Random Numbers: As Easy as 1, 2, 3",
section 3.2) turns a counter of four 32-bit words and a key of two into four random words. The
counter has row, place, iteration and side, the key the seed; NumPy does all rows of a block at
once, where one generator object a row would cost twenty times as much.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from als_spark.types import SIDES, FloatArray, IntArray, Side

_Words = npt.NDArray[np.uint64]

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox_words(counter: tuple[_Words, ...], key: tuple[int, int]) -> tuple[_Words, ...]:
    """Apply the ten rounds to counters: four arrays of 32-bit words, held in 64 bits each."""
    first, second, third, fourth = counter
    for k in range(_ROUNDS):
        keys = [
            np.uint64((word + k * step) & 0xFFFFFFFF) for word, step in zip(key, _WEYL, strict=True)
        ]
        one, two = _MULTIPLIERS[0] * first, _MULTIPLIERS[1] * third
        first, second, third, fourth = (
            (two >> _HALF) ^ second ^ keys[0],
            two & _LOW,
            (one >> _HALF) ^ fourth ^ keys[1],
            one & _LOW,
        )
    return first, second, third, fourth


def normals(rows: IntArray, n: int, *, seed: int, iteration: int, side: Side) -> FloatArray:
    """Draw standard normal numbers for rows, by Box and Muller.

    Parameters
    ----------
    rows : (n_rows,) int
        Dense indices of the rows.
    n : int
        Numbers of each row.
    seed, iteration, side
        Row k of a side has other numbers in each iteration, and with each seed.

    Returns
    -------
    (n_rows, n) float64
    """
    places = -(-n // 2)
    shape = (rows.size, places)
    counter = (
        np.broadcast_to(rows.astype(np.uint64)[:, None], shape),
        np.broadcast_to(np.arange(places, dtype=np.uint64), shape),
        np.broadcast_to(np.uint64(iteration & 0xFFFFFFFF), shape),
        np.broadcast_to(np.uint64(SIDES.index(side)), shape),
    )
    words = philox_words(counter, (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF))
    # 53 bits each, in (0, 1].
    uniform = [
        (((high << np.uint64(21)) ^ (low >> np.uint64(11))).astype(np.float64) + 1.0) * 2.0**-53
        for high, low in (words[:2], words[2:])
    ]
    radius = np.sqrt(-2.0 * np.log(uniform[0]))
    angle = 2.0 * np.pi * uniform[1]
    drawn = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return np.ascontiguousarray(drawn.reshape(rows.size, 2 * places)[:, :n])
