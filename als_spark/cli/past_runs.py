"""What the records of past runs say to the next one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from als_spark.checks import DataFacts

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
    for record in _newest_first(records, ("published", "kept", "unchanged")):
        if record.get("data"):
            try:
                return DataFacts.from_record(record["data"]), record
            except (KeyError, TypeError):
                continue
    return None, {}


def kept_by(records: Sequence[Record]) -> tuple[str, float] | None:
    """Return the measure and the margin by which the last training was not published, if so.

    By others the same challenger may pass.
    """
    record = next(_newest_first(records, ("published", "kept")), {})
    comparison = record.get("comparison") or {}
    if record.get("outcome") != "kept" or not comparison:
        return None
    return comparison["measure"], comparison["margin"]


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


def _newest_first(records: Sequence[Record], outcomes: tuple[str, ...]) -> Iterator[Record]:
    """Go through the runs of some outcomes; one that published and then died counts too."""
    for record in reversed(records):
        if record.get("outcome") in outcomes or record.get("version"):
            yield record
