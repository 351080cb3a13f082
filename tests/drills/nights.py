"""A start and fourteen nights: what comes in on each, and what the retraining must make of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.drills.ratings import Ratings, write_csv

BASE_SHARE = 0.7
"""Share of the ratings, the oldest, that are there at the start."""
NIGHTS = 14
FULL_EVERY = 7


@dataclass(frozen=True, slots=True)
class Night:
    """A run of the scenario.

    Attributes
    ----------
    day : int
        0 is the start.
    came : str
        What came in, in a few words.
    options : tuple of str
        Sources, and what is special, for ``jobs/retrain.py``.
    outcome : str
        Must come out of it; ``died`` for a run that is killed in the middle of its publishing.
    exit_code : int or None
        Must come back; None for a run that is killed.
    start : {"cold", "warm"} or None
        How its training must start; None if there is none.
    warning : str
        Must be in one of its warnings, if not empty.
    """

    day: int
    came: str
    options: tuple[str, ...]
    outcome: str
    exit_code: int | None
    start: str | None = None
    warning: str = ""


def nights(folder: Path, ratings: Ratings) -> Iterator[Night]:
    """Write the files of each night and say what must become of them, one night after another.

    Parameters
    ----------
    folder : Path
        Takes the files.
    ratings : Ratings
        Oldest first: the oldest are there at the start, each night brings a part of the others.
    """
    n = len(ratings.users)
    first = int(BASE_SHARE * n)
    ends = [first + (n - first) * k // NIGHTS for k in range(NIGHTS + 1)]
    base = write_csv(folder / "base.csv", ratings.part(slice(first)).lines())
    files: list[Path] = []
    # The published runs since the last start from nothing.
    warm = 0

    def lines(day: int) -> list[str]:
        return ratings.part(slice(ends[day - 1], ends[day])).lines()

    def comes(name: str, content: list[str]) -> None:
        files.append(write_csv(folder / f"{name}.csv", content))

    def night(day: int, came: str, outcome: str, *more: str, warning: str = "") -> Night:
        nonlocal warm
        start, code = None, {"published": 0, "unchanged": 0, "kept": 3, "data_check_failed": 4}
        if outcome == "published":
            start = "cold" if day == 0 or warm + 1 == FULL_EVERY else "warm"
            warm = 0 if start == "cold" else warm + 1
        elif outcome == "kept":
            start = "cold"
        increments = ("--increments", *map(str, files)) if files else ()
        sources = ("--ratings", str(base), *increments, "--full-every", str(FULL_EVERY))
        return Night(day, came, (*sources, *more), outcome, code.get(outcome), start, warning)

    yield night(0, "the start", "published")
    for day in (1, 2):
        comes(f"day-{day:02}", lines(day))
        yield night(day, "new ratings", "published")
    # Each third row has lost its rating.
    spoilt = [row if k % 3 else row.replace(",", ",,", 1) for k, row in enumerate(lines(3))]
    comes("day-03", spoilt)
    yield night(3, "corrupt rows", "data_check_failed", warning="unusable rows left out")
    write_csv(files[-1], lines(3))
    comes("day-04", lines(4))
    yield night(4, "the rows mended, and new ratings", "published")
    files.append(folder / "day-05.csv")
    files[-1].write_bytes(b"")
    yield night(5, "an empty file", "unchanged", warning="day-05.csv is empty")
    write_csv(files[-1], lines(5))
    comes("day-06", lines(6))
    yield night(6, "new ratings", "published")
    comes("day-07", lines(6))
    yield night(7, "yesterday's file again", "unchanged")
    write_csv(files[-1], lines(7))
    eighth = ratings.part(slice(ends[7], ends[8]))
    comes("day-08", eighth._replace(ratings=2 * eighth.ratings).lines())
    yield night(8, "ratings on another scale", "data_check_failed")
    write_csv(files[-1], lines(8))
    comes("day-09", lines(9))
    yield night(9, "the scale mended, and new ratings", "published")
    comes("day-10", lines(10))
    yield night(10, "new ratings; killed", "died")
    yield night(
        10, "the same, run again", "published", warning="removed what a killed run had left"
    )
    comes("day-11", lines(11))
    yield night(11, "new ratings", "published")
    comes("day-12", lines(12))
    # A ridge that lets the factors be nothing but zero.
    useless = ("--rank", "1", "--lambda", "1e6", "--margin", "0")
    yield night(12, "new ratings, useless settings", "kept", *useless)
    comes("day-13", lines(13))
    yield night(13, "new ratings, good settings", "published")
    yield night(14, "nothing", "unchanged")
