"""What ratings are, in words: from the records of ``inspect`` and of the jobs that train.

``inspect`` shows it all, a run that somebody waits for a few lines of it (:func:`run_lines`), and
the reports its tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from als_spark.report.format import MISSING, percent

__all__ = [
    "bar_rows",
    "column_words",
    "degree_words",
    "first_row_cells",
    "overview_text",
    "run_lines",
]

_WIDTH = 40
"""Characters of the longest bar."""
_LINE_ROWS = 3
"""First rows that a run tells."""
_LINE_VALUES, _LINE_BARS = 10, 5
"""Single ratings, or else bars, that one line tells; of more, neighbours are put together."""
_LONGEST_CELL = 40
"""Characters of a value of a first row."""
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
        ("First rows, as understood", _table(first_row_cells(record["first_rows"]))),
        ("Ratings", [*_counts(data), *_bars(data["histogram"], block)]),
        ("Ratings of a user, of an item", _degrees(data)),
        ("Take note", [f"- {warning}" for warning in record["warnings"]]),
    ]
    return "\n\n".join(
        "\n".join([title, *(f"  {line}" for line in lines)])
        for title, lines in ((title, list(lines)) for title, lines in sections)
        if lines
    )


def run_lines(
    data: Mapping[str, Any], first_rows: Sequence[Mapping[str, Any]], lowest: float, highest: float
) -> list[str]:
    """Say what the ratings of a run are, in as few lines as people read while they wait.

    Parameters
    ----------
    data : mapping
        With ``histogram``, ``ratings_per_user`` and ``ratings_per_item``.
    first_rows : sequence of mapping
    lowest, highest : float
        The range of the ratings.
    """
    return [
        *_first_rows_line(first_rows),
        f"ratings from {lowest:g} to {highest:g}{_histogram_words(data['histogram'])}",
        *(degree_words(side, data[f"ratings_per_{side}"]) for side in _SIDES),
    ]


def column_words(part: Mapping[str, Any]) -> str:
    """Name columns of a part of what was read with their types, and what each is taken for.

    Text has no types: that all of its columns are strings says nothing of what they hold.
    """
    typed = not str(part.get("format", "")).startswith("text")
    return ", ".join(
        column["name"]
        + (f" ({column['type']})" if typed else "")
        + (f" is the {role}" if role else "")
        for column in part.get("columns") or ()
        for role in [column.get("role")]
    )


def first_row_cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Lay out first rows under their names; the last cell is what is wrong with a row."""
    if not rows:
        return []
    names = [name for name in rows[0] if name != "problem"]
    cells = [
        [*(_cell(name, row.get(name)) for name in names), row.get("problem") or ""] for row in rows
    ]
    return [[*names, ""], *cells]


def bar_rows(histogram: Sequence[Sequence[float]]) -> list[tuple[str, str, str]]:
    """Say which ratings the bars are of, how many there are, and their share of all."""
    total = sum(count for _, _, count in histogram)
    return [
        (_bar_label(low, high), f"{count:,}", f"{100 * count / total:.1f} %")
        for low, high, count in histogram
    ]


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
        yield f"  columns: {column_words(part)}"
    if source.get("files") is not None:
        size = source.get("bytes")
        files = f"{source['files']:,} {'file' if source['files'] == 1 else 'files'}"
        yield files + ("" if size is None else f", {_size(size)}")
    if source.get("encoding") is not None:
        yield f"read as {source['encoding']}"


def _first_rows_line(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    cells = first_row_cells(rows[:_LINE_ROWS])
    if not cells:
        return
    (*names, _), *values = cells
    shown = [", ".join(own) + (f" ({problem})" if problem else "") for *own, problem in values]
    yield f"first rows ({', '.join(names)}): {' | '.join(shown)}"


def _histogram_words(histogram: Sequence[Sequence[float]]) -> str:
    """Tell the bars in one line; of many, some neighbours together."""
    few = len(histogram) <= _LINE_VALUES and all(low == high for low, high, _ in histogram)
    size = 1 if few else -(-len(histogram) // _LINE_BARS)
    groups = [histogram[start : start + size] for start in range(0, len(histogram), size)]
    merged = [(group[0][0], group[-1][1], sum(bar[2] for bar in group)) for group in groups]
    if len(merged) < 2:
        return ""
    return "; " + ", ".join(f"{label}: {share}" for label, _, share in bar_rows(merged))


def _bar_label(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:.3g} to {high:.3g}"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return MISSING
    if name == "timestamp":
        return _moment(value)
    if isinstance(value, float):
        return f"{value:g}"
    # An id may hold anything.
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value)[:_LONGEST_CELL])
    return text if len(str(value)) <= _LONGEST_CELL else f"{text}…"


def _counts(data: Mapping[str, Any]) -> Iterator[str]:
    users, items = (data[f"ratings_per_{side}"]["ids"] for side in _SIDES)
    yield (
        f"{data['ratings']:,} ratings of {users:,} users and {items:,} items: "
        f"{100 * data['density']:.3g} % of all pairs"
    )
    if data["earliest"] is not None:
        yield f"from {_moment(data['earliest'])} to {_moment(data['latest'])}"
    yield f"from {data['lowest']:g} to {data['highest']:g}, mean {data['mean']:.4g}"


def _bars(histogram: Sequence[Sequence[float]], block: str) -> list[str]:
    most = max((count for _, _, count in histogram), default=0)
    rows = [
        [*row, block * max(round(_WIDTH * bar[2] / most), int(bar[2] > 0))]
        for row, bar in zip(bar_rows(histogram), histogram, strict=True)
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
