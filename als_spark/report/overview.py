"""What the ratings of a source are, in lines for a terminal, from the record of ``inspect``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from als_spark.report.format import MISSING, percent

__all__ = ["degree_words", "overview_text"]

_WIDTH = 40
"""Characters of the longest bar."""
_QUANTILES = (
    ("lowest", "least"),
    ("quarter", "25 %"),
    ("median", "median"),
    ("three_quarters", "75 %"),
    ("most90", "90 %"),
    ("most99", "99 %"),
    ("highest", "most"),
)
_SIDES = ("user", "item")


def overview_text(record: Mapping[str, Any], *, block: str = "█") -> str:
    """Write the record of an ``inspect`` as text for a terminal.

    Parameters
    ----------
    record : mapping
        As the job makes it: ``source``, ``first_rows``, ``data``, ``warnings``.
    block : str
        A character that the terminal can show, for the bars.
    """
    data = record["data"]
    sections = [
        ("Read", _read_lines(record["source"])),
        ("First rows, as understood", _table(_rows(record["first_rows"]))),
        ("Ratings", [*_counts(data), *_bars(data["histogram"], data["ratings"], block)]),
        ("Ratings of a user, of an item", _degrees(data)),
        ("Take note", [f"- {warning}" for warning in record["warnings"]]),
    ]
    return "\n\n".join(
        "\n".join([title, *(f"  {line}" for line in lines)])
        for title, lines in ((title, list(lines)) for title, lines in sections)
        if lines
    )


def degree_words(side: str, degrees: Mapping[str, Any]) -> str:
    """Say in one line how many ratings the ids of a side have."""
    told = ", ".join(f"{name} {degrees[key]:,}" for key, name in _QUANTILES)
    article = "an" if side == "item" else "a"
    mean = f"mean {degrees['mean']:,.4g}"
    few = f"{percent(degrees['few'])} of the {side}s have fewer than 5"
    return f"ratings of {article} {side}: {mean}, {told}; {few}"


def _read_lines(source: Mapping[str, Any]) -> Iterator[str]:
    for part in source["parts"]:
        yield part["words"]
        columns = ", ".join(
            f"{column['name']} ({column['type']})" + (f" is the {role}" if role else "")
            for column in part["columns"]
            for role in [column.get("role")]
        )
        yield f"  columns: {columns}"
    if source.get("files") is not None:
        size = source.get("bytes")
        files = f"{source['files']:,} {'file' if source['files'] == 1 else 'files'}"
        yield files + ("" if size is None else f", {_size(size)}")
    if source.get("encoding") is not None:
        yield f"read as {source['encoding']}"


def _rows(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    if not rows:
        return []
    names = [name for name in rows[0] if name != "problem"]
    cells = [[*(_cell(name, row[name]) for name in names), row["problem"] or ""] for row in rows]
    return [[*names, ""], *cells]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return MISSING
    if name == "timestamp":
        return _moment(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _counts(data: Mapping[str, Any]) -> Iterator[str]:
    users, items = (data[f"ratings_per_{side}"]["ids"] for side in _SIDES)
    yield (
        f"{data['ratings']:,} ratings of {users:,} users and {items:,} items: "
        f"{100 * data['density']:.3g} % of all pairs"
    )
    if data["earliest"] is not None:
        yield f"from {_moment(data['earliest'])} to {_moment(data['latest'])}"
    yield f"from {data['lowest']:g} to {data['highest']:g}, mean {data['mean']:.4g}"


def _bars(histogram: Sequence[tuple[float, float, int]], n_ratings: int, block: str) -> list[str]:
    if not histogram:
        return []
    most = max(count for _, _, count in histogram)
    rows = [
        [
            f"{low:g}" if low == high else f"{low:.3g} to {high:.3g}",
            f"{count:,}",
            f"{100 * count / n_ratings:.1f} %",
            block * max(round(_WIDTH * count / most), int(count > 0)),
        ]
        for low, high, count in histogram
    ]
    return list(_table(rows))


def _degrees(data: Mapping[str, Any]) -> Iterator[str]:
    heads = ["", "mean", *(name for _, name in _QUANTILES), "fewer than 5"]
    rows = [heads]
    for side in _SIDES:
        one = data[f"ratings_per_{side}"]
        numbers = [f"{one[key]:,}" for key, _ in _QUANTILES]
        rows.append([side, f"{one['mean']:,.4g}", *numbers, percent(one["few"])])
    yield from _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lay cells out in columns, all to the right but the last, which may be of any length."""
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        *cells, last = row
        cut = [cell.rjust(width) for cell, width in zip(cells, widths, strict=False)]
        yield "  ".join([*cut, last]).rstrip()


def _size(n_bytes: int) -> str:
    size = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def _moment(seconds: float) -> str:
    """Write a timestamp as a time, if it can be one in seconds."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g}"
