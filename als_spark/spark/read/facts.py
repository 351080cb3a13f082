"""What is known of the ratings of a run, for checks, records and reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PartFacts:
    """One source of a run's ratings: the base, or an increment.

    Attributes
    ----------
    label : str
    rows, bad_rows : int
        As read; and those of them that cannot be used.
    lowest, highest, mean : float
        Of the usable ratings; NaN where there are none.
    latest : float
        Their latest timestamp, in seconds as read; NaN where there are none.
    """

    label: str
    rows: int
    bad_rows: int
    lowest: float
    highest: float
    mean: float
    latest: float = math.nan

    @property
    def bad_share(self) -> float:
        """Share of the rows that cannot be used."""
        return self.bad_rows / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class DataFacts:
    """All ratings of a run, after the unusable rows and the duplicates are gone.

    Attributes
    ----------
    ratings, users, items : int
    lowest, highest, mean, spread : float
        The spread is the standard deviation.
    fingerprint : str
        The same for the same ratings, in whatever order, files and partitions they come.
    """

    ratings: int
    users: int
    items: int
    lowest: float
    highest: float
    mean: float
    spread: float
    fingerprint: str

    def as_record(self) -> dict[str, Any]:
        """Return the JSON record that :meth:`from_record` reads."""
        return asdict(self)

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> DataFacts:
        """Read what :meth:`as_record` gave.

        Raises
        ------
        KeyError
            If a field is missing.
        """
        return DataFacts(**{name: record[name] for name in DataFacts.__slots__})
