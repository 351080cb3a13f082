"""Synthetic ratings with the shape of real ones: seeded, any size, long tails on both sides.

Degrees: users log-normal, items a power of their rank, as in MovieLens. Values: means of users and
items plus a low-rank signal plus noise, rounded to half stars. No pair comes twice.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

N_USERS, N_ITEMS = 70_000, 10_700
RANK, NOISE = 8, 0.8


class Ratings(NamedTuple):
    """Triples by dense row, in random order."""

    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    ratings: npt.NDArray[np.float32]


def generate(
    n_ratings: int,
    n_users: int = N_USERS,
    n_items: int = N_ITEMS,
    seed: int = 0,
    *,
    rank: int = RANK,
    rounded: bool = True,
) -> Ratings:
    """Draw ratings.

    Parameters
    ----------
    n_ratings : int
        Exactly so many, of distinct pairs.
    n_users, n_items : int
        Sizes of the sides; a few rows of the tails may come out empty.
    seed : int
        The same seed gives the same ratings.
    rank : int
        Of the signal, which has a variance of 1/4 whatever the rank.
    rounded : bool
        Whether ratings are half stars from 0.5 to 5, or numbers with the noise :data:`NOISE`.

    Raises
    ------
    ValueError
        If more than a fifth of all pairs is asked for.
    """
    if n_ratings > n_users * n_items / 5:
        raise ValueError(f"{n_ratings} ratings of {n_users} x {n_items} are not sparse")
    rng = np.random.default_rng(seed)
    user_weights = rng.lognormal(0.0, 1.1, n_users)
    item_weights = (np.arange(n_items) + 20.0) ** -1.1
    pairs = np.zeros(0, np.int64)
    fresh = 1.0
    while pairs.size < n_ratings:
        # The denser the matrix, the fewer of the drawn pairs are new.
        n_more = int(1.3 * (n_ratings - pairs.size) / fresh) + 1000
        more = _draw(rng, user_weights, n_more) * n_items + _draw(rng, item_weights, n_more)
        n_before = pairs.size
        pairs = _distinct(np.concatenate([pairs, more]))
        fresh = max((pairs.size - n_before) / n_more, 0.05)
    pairs = rng.permutation(pairs)[:n_ratings]
    # The weights fall with the index: shuffled, so that ids say nothing of popularity.
    users = rng.permutation(n_users)[pairs // n_items].astype(np.int32)
    items = rng.permutation(n_items)[pairs % n_items].astype(np.int32)
    values = _values(rng, users, items, (n_users, n_items), rank)
    return Ratings(users, items, np.clip(np.round(2 * values) / 2, 0.5, 5.0) if rounded else values)


def write_parquet(ratings: Ratings, folder: Path, n_files: int = 8) -> None:
    """Write ratings as a folder of Parquet files with the columns user, item and rating."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({"user": ratings.users, "item": ratings.items, "rating": ratings.ratings})
    step = -(-table.num_rows // n_files)
    for k in range(n_files):
        pq.write_table(table.slice(k * step, step), folder / f"part-{k:03}.parquet")


def _distinct(pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sort numbers in place, and return each once; for so many, faster than ``np.unique``."""
    pairs.sort()
    first = np.ones(pairs.size, bool)
    np.not_equal(pairs[1:], pairs[:-1], out=first[1:])
    return pairs[first]


def _draw(
    rng: np.random.Generator, weights: npt.NDArray[np.float64], n: int
) -> npt.NDArray[np.int64]:
    cumulated = np.cumsum(weights)
    return np.searchsorted(cumulated, rng.random(n) * cumulated[-1]).astype(np.int64)


def _values(
    rng: np.random.Generator, users: Any, items: Any, sizes: tuple[int, int], rank: int
) -> Any:
    n_users, n_items = sizes
    user_factors = rng.normal(size=(n_users, rank)).astype(np.float32) / rank**0.5
    item_factors = rng.normal(size=(n_items, rank)).astype(np.float32)
    user_means = rng.normal(3.5, 0.4, n_users).astype(np.float32)
    item_means = rng.normal(0.0, 0.4, n_items).astype(np.float32)
    values = np.empty(users.size, np.float32)
    for first in range(0, users.size, 1 << 20):
        part = slice(first, first + (1 << 20))
        u, i = users[part], items[part]
        signal = 0.5 * np.einsum("nd,nd->n", user_factors[u], item_factors[i])
        noise = rng.normal(0.0, NOISE, u.size).astype(np.float32)
        values[part] = user_means[u] + item_means[i] + signal + noise
    return values


def main(argv: list[str] | None = None) -> int:
    """Write a data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratings", type=int, default=10_000_000, metavar="N")
    parser.add_argument("--users", type=int, default=N_USERS, metavar="N")
    parser.add_argument("--items", type=int, default=N_ITEMS, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(argv)
    ratings = generate(options.ratings, options.users, options.items, options.seed)
    write_parquet(ratings, options.output)
    print(f"{options.ratings:,} ratings in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
