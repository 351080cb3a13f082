"""What the records of past runs say to the next one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from als_spark.nightly.checks import COUNTS
from als_spark.nightly.comparison import Ancestor, worsening
from als_spark.spark.read.facts import DataFacts

MEMORY = 30
"""Runs, and publications, that a slow decline is looked for in."""

Record = Mapping[str, Any]


def last_passed(records: Sequence[Record]) -> tuple[DataFacts | None, Record]:
    """Return the data and the record of the last run whose data passed the checks.

    Parameters
    ----------
    records : sequence of mappings
        The store's history, oldest first.

    Returns
    -------
    tuple of DataFacts or None, mapping
        None and an empty record if there is none.
    """
    return next(_passed(records), (None, {}))


def most_lately(records: Sequence[Record]) -> dict[str, int]:
    """Return the most ratings, users and items of the last runs whose data passed the checks.

    Parameters
    ----------
    records : sequence of mappings
        The store's history, oldest first; :data:`MEMORY` runs count at most, and none before one
        that was forced through a failed check: there somebody has looked.
    """
    most = dict.fromkeys(COUNTS, 0)
    for facts, record in islice(_passed(records), MEMORY):
        most = {name: max(count, getattr(facts, name)) for name, count in most.items()}
        if not all(check.get("passed") for check in record.get("checks") or ()):
            break
    return most


def kept_by(records: Sequence[Record]) -> tuple[str, float, float | None] | None:
    """Return measure, margin and largest decline by which the last training was kept out, if so.

    By others the same challenger may pass.
    """
    record = next(_newest_first(records, ("published", "kept")), {})
    comparison = record.get("comparison") or {}
    if record.get("outcome") != "kept" or not comparison:
        return None
    return comparison["measure"], comparison["margin"], comparison.get("max_decline")


def ancestors_of(records: Sequence[Record], version: str, measure: str) -> list[Ancestor]:
    """Go back from a version to those that it has followed, one comparison at a time.

    Parameters
    ----------
    records : sequence of mappings
        The store's history, oldest first.
    version : str
        Usually the champion.
    measure : str
        By which versions are compared.

    Returns
    -------
    list of Ancestor
        The nearest first, :data:`MEMORY` at most; up to one that was published without a
        comparison by this measure, as by ``jobs/train.py``.
    """
    published = {record["version"]: record for record in records if record.get("version")}
    found: list[Ancestor] = []
    total = 1.0
    while version in published and len(found) < MEMORY:
        comparison = published[version].get("comparison") or {}
        champion = comparison.get("champion") or {}
        step = worsening(comparison.get("challenger") or {}, champion, measure)
        if step is None or "version" not in champion:
            break
        version = champion["version"]
        total *= step
        found.append(Ancestor(version, len(found) + 1, total))
    return found


def warm_trainings(records: Sequence[Record], rank: int) -> int | None:
    """Count the trainings of a rank, published or not, since the last from the usual start.

    Parameters
    ----------
    records : sequence of mappings
        The store's history, oldest first.
    rank : int
        Trainings of another one, a trial perhaps, are passed over.

    Returns
    -------
    int or None
        None if none from the usual start is on record.
    """
    count = 0
    for record in _newest_first(records, ("published", "kept")):
        training = record.get("training") or {}
        if training.get("rank") != rank:
            continue
        if training.get("start") == "cold":
            return count
        count += 1
    return None


def _passed(records: Sequence[Record]) -> Iterator[tuple[DataFacts, Record]]:
    """Go through the runs whose data passed the checks, newest first."""
    for record in _newest_first(records, ("published", "kept", "unchanged")):
        try:
            yield DataFacts.from_record(record.get("data") or {}), record
        except (KeyError, TypeError):
            continue


def _newest_first(records: Sequence[Record], outcomes: tuple[str, ...]) -> Iterator[Record]:
    """Go through the runs of some outcomes; one that published and then died counts too."""
    for record in reversed(records):
        if record.get("outcome") in outcomes or record.get("version"):
            yield record
