"""Ratings for drills: small ones that are drawn, and real ones, in the order of their times."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from als_spark.errors import DataError

HEADER = "userId,movieId,rating,timestamp"
START = 1_700_000_000
"""Time of the first rating that is drawn, in seconds since 1970."""
MINUTE = 60
MIN_RATINGS = 1000
"""That can be dealt out to a start and fourteen nights."""


class Ratings(NamedTuple):
    """Ratings, oldest first: arrays of equal length."""

    users: np.ndarray
    items: np.ndarray
    ratings: np.ndarray
    times: np.ndarray

    def part(self, which: slice | np.ndarray) -> Ratings:
        """Take some of them."""
        return Ratings(*(column[which] for column in self))

    def lines(self) -> list[str]:
        """Write each as a line of csv."""
        return [
            f"{user},{item},{rating:g},{time}"
            for user, item, rating, time in zip(*(c.tolist() for c in self), strict=True)
        ]


def draw_ratings(n_users: int, n_items: int, n_ratings: int, seed: int = 0) -> Ratings:
    """Draw ratings of rank two with noise, in half stars from 0.5 to 5, a minute apart.

    Parameters
    ----------
    n_users, n_items, n_ratings : int
        No pair is rated twice, and at most half of them are rated.
    seed : int
    """
    rng = np.random.default_rng(seed)
    taste, kind = rng.normal(size=(n_users, 2)), rng.normal(size=(n_items, 2))
    pairs = rng.choice(n_users * n_items, n_ratings, replace=False)
    users, items = np.divmod(pairs, n_items)
    score = 3 + 0.8 * np.einsum("nd,nd->n", taste[users], kind[items])
    score += rng.normal(scale=0.3, size=n_ratings)
    ratings = np.clip(np.round(2 * score) / 2, 0.5, 5.0)
    return Ratings(users + 1, items + 1, ratings, START + MINUTE * np.arange(n_ratings))


def read_ratings(path: Path) -> Ratings:
    """Read a csv file of MovieLens, oldest rating first.

    Raises
    ------
    DataError
        If the file cannot be read, or has something else than four columns of numbers.
    """
    try:
        with path.open(encoding="utf-8") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file, which is told below
            table = np.loadtxt(file, delimiter=",", skiprows=1, ndmin=2)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}: give a ratings.csv") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}: it must be as MovieLens has it, {HEADER}") from error
    if table.shape[1:] != (4,) or table.shape[0] < MIN_RATINGS:
        raise DataError(
            f"{path}: {table.shape[0]:,} rows of {table.shape[1]} columns: the drill needs at "
            f"least {MIN_RATINGS:,} ratings as MovieLens has them, {HEADER}"
        )
    table = table[np.lexsort((table[:, 1], table[:, 0], table[:, 3]))]
    users, items, times = (table[:, column].astype(np.int64) for column in (0, 1, 3))
    return Ratings(users, items, table[:, 2], times)


def write_csv(path: Path, lines: Iterable[str]) -> Path:
    """Write lines below a header; return the path."""
    path.write_text("".join(f"{line}\n" for line in (HEADER, *lines)), encoding="utf-8")
    return path
