"""What the records of past runs, oldest first, say to the next one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from als_spark.nightly.checks import COUNTS, MEMORY
from als_spark.nightly.comparison import Ancestor, worsening
from als_spark.nightly.run_record import RunRecord
from als_spark.spark.read.facts import DataFacts


def last_passed(records: Sequence[RunRecord]) -> tuple[DataFacts | None, RunRecord | None]:
    """Return the data and the record of the last run whose data passed the checks."""
    return next(_passed(records), (None, None))


def most_lately(records: Sequence[RunRecord]) -> dict[str, int]:
    """Return the most ratings, users and items of the last runs whose data passed the checks.

    :data:`MEMORY` runs count at most, and none before one that was forced through a failed check:
    there somebody has looked.
    """
    most = dict.fromkeys(COUNTS, 0)
    for facts, record in islice(_passed(records), MEMORY):
        most = {name: max(count, getattr(facts, name)) for name, count in most.items()}
        if not all(check.passed for check in record.checks):
            break
    return most


def last_published(records: Sequence[RunRecord]) -> str | None:
    """Return the name of the version that was published last, whether it is current or not."""
    return next((record.version for record in reversed(records) if record.version), None)


def kept_by(records: Sequence[RunRecord]) -> tuple[str, float, float | None] | None:
    """Return measure, margin and largest decline by which the last training was kept out, if so.

    By others the same challenger may pass.
    """
    record = next(_newest_first(records, ("published", "kept")), None)
    if record is None or record.outcome != "kept" or record.comparison is None:
        return None
    comparison = record.comparison
    return comparison.measure, comparison.margin, comparison.max_decline


def ancestors_of(records: Sequence[RunRecord], version: str, measure: str) -> list[Ancestor]:
    """Go back from a version to those that it has followed, the nearest first.

    :data:`MEMORY` at most, up to one that was published without a comparison by the measure, as by
    ``jobs/train.py``.
    """
    comparisons = {record.version: record.comparison for record in records if record.version}
    found: list[Ancestor] = []
    total = 1.0
    while len(found) < MEMORY:
        comparison = comparisons.get(version)
        if comparison is None or comparison.champion_version is None:
            break
        step = worsening(comparison.challenger, comparison.champion_metrics, measure)
        if step is None:
            break
        version = comparison.champion_version
        total *= step
        found.append(Ancestor(version, len(found) + 1, total))
    return found


def warm_trainings(records: Sequence[RunRecord], rank: int) -> int | None:
    """Count the trainings of a rank, published or not, since the last from the usual start.

    None if none from the usual start is on record. Trainings of another rank, a trial perhaps, are
    passed over.
    """
    count = 0
    for record in _newest_first(records, ("published", "kept")):
        training = record.training
        if training is None or training.rank != rank:
            continue
        if training.start == "cold":
            return count
        count += 1
    return None


def _passed(records: Sequence[RunRecord]) -> Iterator[tuple[DataFacts, RunRecord]]:
    """Go through the runs whose data passed the checks, newest first."""
    for record in _newest_first(records, ("published", "kept", "unchanged")):
        facts = None if record.data is None else record.data.facts
        if facts is not None:
            yield facts, record


def _newest_first(records: Sequence[RunRecord], outcomes: tuple[str, ...]) -> Iterator[RunRecord]:
    """Go through the runs of some outcomes; one that published and then died counts too."""
    for record in reversed(records):
        if record.outcome in outcomes or record.version:
            yield record
