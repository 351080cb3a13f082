"""What the views of several report pages share.

A record may come from a run that ended early: any key may be missing or null, and the part of the
page that needs it is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from als_spark.report.figures.breakdown import bins_of
from als_spark.report.format import MISSING, duration, format_time, number, show
from als_spark.report.overview import bar_rows, column_words, degree_words, first_row_cells
from als_spark.report.pages.page import Table

__all__ = [
    "Facts",
    "bins_table",
    "column_facts",
    "degree_facts",
    "drop_missing",
    "feature_facts",
    "first_rows_table",
    "get_list",
    "get_mapping",
    "histogram_table",
    "humanise_keys",
    "learnt_facts",
    "run_view",
    "source_facts",
    "tables_words",
]

Facts = list[tuple[str, Any]]
"""Names and their values."""


def get_mapping(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the mapping at a key; an empty one if there is none."""
    found = record.get(key)
    return found if isinstance(found, Mapping) else {}


def get_list(record: Mapping[str, Any], key: str) -> Sequence[Any]:
    """Return the list at a key; an empty one if there is none."""
    found = record.get(key)
    return found if isinstance(found, (list, tuple)) else ()


def drop_missing(pairs: Iterable[tuple[str, Any]]) -> Facts:
    """Leave out the pairs that have no value."""
    return [(name, value) for name, value in pairs if show(value) != MISSING]


def humanise_keys(part: Mapping[str, Any]) -> Facts:
    """Return the pairs that have a value, the keys of the record written as words."""
    return drop_missing((key.replace("_", " "), value) for key, value in part.items())


def source_facts(source: Any) -> Facts:
    """Return where the ratings came from; ``source`` is a label, or a mapping with more."""
    if not isinstance(source, Mapping):
        return drop_missing([("source", source)])
    left = ("label", "parts", "first_rows")
    rest = {key: value for key, value in source.items() if key not in left}
    return [
        *drop_missing([("source", source.get("label"))]),
        *humanise_keys(rest),
        *column_facts(source),
    ]


def column_facts(part: Mapping[str, Any]) -> Facts:
    """Return the columns of what was read, with their types."""
    parts = [entry for entry in get_list(part, "parts") if isinstance(entry, Mapping)]
    told = dict.fromkeys(column_words(entry) for entry in parts)
    return drop_missing([("columns and types", "; ".join(told))])


def first_rows_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the first rows as they were understood."""
    cells = first_row_cells(rows)
    if not cells:
        return Table((), ())
    right = range(len(cells[0]) - 1)
    if not any(row[-1] for row in cells):
        # Nothing is wrong with any of them.
        cells = [row[:-1] for row in cells]
    headers, *values = cells
    return Table(headers, values, right=right, caption="The first rows, as understood.")


def histogram_table(data: Mapping[str, Any]) -> Table:
    """Return how often each rating comes."""
    return Table(
        ("rating", "ratings", "share"), bar_rows(get_list(data, "histogram")), right=range(3)
    )


def degree_facts(data: Mapping[str, Any]) -> Facts:
    """Return how many ratings users and items have, where the data of a run tell it."""
    return [
        (f"ratings of {article} {side}", degree_words(side, degrees).partition(": ")[2])
        for article, side in (("a", "user"), ("an", "item"))
        if (degrees := get_mapping(data, f"ratings_per_{side}"))
    ]


def feature_facts(features: Mapping[str, Any]) -> Facts:
    """Return what the features of each side are, where a run has some."""
    facts: Facts = []
    for side, article in (("user", "a"), ("item", "an")):
        own = get_mapping(features, side)
        columns = [entry for entry in get_list(own, "columns") if isinstance(entry, Mapping)]
        told = [
            f"{entry.get('name')} ({entry.get('kind')}"
            + (f", {entry['values']} values)" if entry.get("values") is not None else ")")
            for entry in columns
        ]
        facts += [
            (f"features of {article} {side}", ", ".join(told)),
            (f"rated {side}s with features", own.get("rated_with")),
            (f"rated {side}s without", own.get("rated_without") or None),
            (f"{side}s known by features alone", own.get("by_features_alone") or None),
        ]
    return drop_missing(facts)


def learnt_facts(learnt: Mapping[str, Any]) -> Facts:
    """Return what a method has learnt in place of λ, as a model's description has it."""
    deviations, freedom = get_mapping(learnt, "prior_deviations"), get_mapping(learnt, "freedom")
    return drop_missing(
        [
            ("standard deviation of the noise", learnt.get("noise_deviation")),
            ("of biases of users", deviations.get("user_bias")),
            ("of biases of items", deviations.get("item_bias")),
            ("of products of factors", deviations.get("products")),
            ("degrees of freedom of the noise, users", freedom.get("user")),
            ("degrees of freedom of the noise, items", freedom.get("item")),
            ("R-hat of the noise", learnt.get("r_hat")),
            ("effective samples of the noise", learnt.get("effective_samples")),
        ]
    )


def tables_words(part: Mapping[str, Any]) -> str:
    """Say which versions of which tables a part of a record says were read."""
    tables = [table for table in get_list(part, "tables") if isinstance(table, Mapping)]
    return "; ".join(
        f"{table.get('label')}: {table.get('kind')}, {table.get('version')}" for table in tables
    )


def bins_table(caption: str, records: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table behind a panel of :mod:`als_spark.report.figures.breakdown`."""
    rows = [(one.label, one.count, number(one.rmse), number(one.mae)) for one in bins_of(records)]
    headers = ("training ratings", "held-out ratings", "RMSE", "MAE")
    return Table(headers, rows, right=range(1, 4), caption=caption)


def run_view(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every page shows of its run: subtitle, times, versions and configuration."""
    subtitle = [
        f"{key} {write(record[key])}"
        for key, write in (("run", str), ("started", format_time), ("finished", format_time))
        if record.get(key) is not None
    ]
    seconds = get_mapping(record, "seconds")
    taken = [(name, value) for name, value in seconds.items() if isinstance(value, (int, float))]
    times = Table(
        ("phase", "time"),
        [(name.replace("_", " "), duration(value)) for name, value in taken],
        right={1},
        marked={place: "neutral" for place, (name, _) in enumerate(taken) if name == "total"},
    )
    return {
        "subtitle": ", ".join(subtitle),
        "times": times,
        "versions": drop_missing(get_mapping(record, "versions").items()),
        "config": get_mapping(record, "config"),
    }
