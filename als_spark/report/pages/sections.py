"""What the report pages of several jobs have in common.

A record may come from a run that ended early: any key may be missing or null, and then the part of
the page that needs it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from als_spark.report.figures.breakdown import bins_of
from als_spark.report.format import MISSING, duration, number, point_in_time, show
from als_spark.report.pages.page import Page, Section

__all__ = [
    "add_bins",
    "add_run",
    "listed",
    "part_of",
    "run_line",
    "source_facts",
    "spelled",
    "stated",
]


def part_of(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the mapping at a key; an empty one if there is none."""
    found = record.get(key)
    return found if isinstance(found, Mapping) else {}


def listed(record: Mapping[str, Any], key: str) -> Sequence[Any]:
    """Return the list at a key; an empty one if there is none."""
    found = record.get(key)
    return found if isinstance(found, (list, tuple)) else ()


def stated(pairs: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Leave out the pairs that have no value."""
    return [(name, value) for name, value in pairs if show(value) != MISSING]


def spelled(key: str) -> str:
    """Write the key of a record as words."""
    return key.replace("_", " ")


def run_line(record: Mapping[str, Any]) -> str:
    """Say which run a page is about, for its subtitle."""
    parts = []
    if record.get("run") is not None:
        parts.append(f"run {record['run']}")
    if record.get("started") is not None:
        parts.append(f"started {point_in_time(record['started'])}")
    if record.get("finished") is not None:
        parts.append(f"finished {point_in_time(record['finished'])}")
    return ", ".join(parts)


def source_facts(source: Any) -> list[tuple[str, Any]]:
    """State where the ratings came from; ``source`` is a label, or a mapping with more."""
    if not isinstance(source, Mapping):
        return stated([("source", source)])
    rest = [(spelled(key), value) for key, value in source.items() if key != "label"]
    return stated([("source", source.get("label")), *rest])


def add_bins(section: Section, title: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Add the table behind a panel of :mod:`als_spark.report.figures.breakdown`."""
    rows = [(one.label, one.count, number(one.rmse), number(one.mae)) for one in bins_of(records)]
    headers = ("training ratings", "held-out ratings", "RMSE", "MAE")
    section.table(headers, rows, right=range(1, 4), caption=title)


def add_run(page: Page, record: Mapping[str, Any]) -> None:
    """Add the last sections of every page: time per phase, versions and configuration."""
    seconds = part_of(record, "seconds")
    taken = {name: value for name, value in seconds.items() if isinstance(value, (int, float))}
    page.section("Time").table(
        ("phase", "time"),
        [(spelled(name), duration(value)) for name, value in taken.items()],
        right={1},
        marked={place: "neutral" for place, name in enumerate(taken) if name == "total"},
    )
    versions = page.section("Versions")
    versions.facts(stated([(name, value) for name, value in part_of(record, "versions").items()]))
    config = part_of(record, "config")
    if config:
        page.section("Configuration").json("show the configuration of this run", config)
