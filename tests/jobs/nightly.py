"""A small lake of ratings with a model store, for the tests of the batch jobs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pyarrow.csv import read_csv

from als_spark.store.store import ModelStore, open_store
from jobs.retrain import main as retrain
from tests.drills.ratings import HEADER, Ratings, draw_ratings, write_csv

SMALL = ("--rank", "3", "--lambda", "2", "--exponent", "0", "--max-iter", "300")
SMALL += ("--ranking-users", "0")
"""Without ranking measures a run takes a quarter less time."""
RATINGS = draw_ratings(60, 40, 1200, seed=3)
N_BASE = 1000
BASE, FRESH = RATINGS.part(slice(N_BASE)), RATINGS.part(slice(N_BASE, None))


class Lake:
    """A folder with ``base.csv`` and a store beside it.

    Parameters
    ----------
    folder : Path
    store : Path, optional
        A store to begin with; copied.
    """

    def __init__(self, folder: Path, store: Path | None = None) -> None:
        self.folder = folder
        self.path = folder / "store"
        self.base = write_csv(folder / "base.csv", BASE.lines())
        if store is not None:
            shutil.copytree(store, self.path)

    @property
    def store(self) -> ModelStore:
        return open_store(self.path)

    def file(self, name: str, lines: Sequence[str] = (), header: str = HEADER) -> str:
        path = self.folder / name
        path.write_text("".join(f"{line}\n" for line in (header, *lines)))
        return str(path)

    def parquet(self, name: str) -> str:
        """Write a file of text once more, as Parquet; return its path."""
        path = (self.folder / name).with_suffix(".parquet")
        pq.write_table(read_csv(self.folder / name), path, row_group_size=300)
        return str(path)

    def retrain(self, *options: str, base: str | Path | None = None) -> int:
        sources = ["--ratings", str(base or self.base), "--store", str(self.path)]
        # A refit packs and trains once more; --refit among the options has it.
        return retrain([*sources, *SMALL, "--no-refit", *options])

    def history(self) -> list[dict[str, Any]]:
        lines = (self.path / "history.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def last(self) -> dict[str, Any]:
        return self.history()[-1]

    def pointers(self) -> list[tuple[str | None, str]]:
        return [(pointer.version, pointer.action) for pointer in self.store.pointers()]

    def report(self, run: str | None = None) -> str:
        """The report of a run, of the last one if not said."""
        return (self.path / "runs" / (run or self.last()["run"]) / "report.html").read_text()

    def damage(self, version: str) -> None:
        """Change a byte in the middle of a version's factors."""
        path = self.path / "versions" / version / "user_factors.parquet"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.write_bytes(data)


def fresh_lines(share: float = 1.0) -> list[str]:
    """The first of the newer ratings."""
    return FRESH.part(slice(int(share * len(FRESH.users)))).lines()


def last_of_pairs(*parts: Ratings) -> dict[tuple[int, int], tuple[float, int]]:
    """Rating and time of each pair, later parts winning."""
    found = {}
    for part in parts:
        for user, item, rating, time in zip(*(c.tolist() for c in part), strict=True):
            found[user, item] = (rating, time)
    return found


def held_out_by_time(ratings: Ratings, share: float = 0.1) -> np.ndarray:
    """Tell which of the ratings are the latest, as ``--split time`` holds them out."""
    n = len(ratings.times)
    latest = np.zeros(n, bool)
    latest[np.argsort(ratings.times, kind="stable")[n - round(share * n) :]] = True
    return latest
