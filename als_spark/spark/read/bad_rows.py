"""The one account of unusable rows: how many of each kind, the first few of each, in words.

A row of typed ratings says in its columns ``problem`` and ``raw`` what is wrong with it (see
:mod:`als_spark.spark.read.columns`). Passes in Python count the column :func:`bad_column`, which
also tells of ids that are not as they were written; passes that stay in Spark call
:func:`count_rows`. Both end in :class:`BadRowCounts`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.spark.read.ids import NULL_WORD, ChangedIds
from als_spark.types import BadRows

MAX_EXAMPLES = 3
"""Rows of a kind that are shown."""
MAX_EXAMPLE_LENGTH = 160
"""Characters of each that are shown."""

_BETWEEN = "\x1f"
"""Between a problem and the row that has it, in one column of text."""
_CHANGED = "\x1e"
"""Before the ids of a usable row that are not as they were written, in the same column."""


@dataclass(frozen=True, slots=True)
class BadRowCounts:
    """Unusable rows by kind: most frequent first, then by name.

    ``examples`` has a few of the rows of each kind, each in one line of bounded length.
    """

    counts: dict[str, int]
    examples: dict[str, list[str]]

    @property
    def n(self) -> int:
        """Unusable rows of all kinds."""
        return sum(self.counts.values())

    @property
    def lines(self) -> list[str]:
        """What is wrong with how many rows, with examples: a line for each kind."""
        return [
            f"{problem} ({count:,} {noun(count)}, such as {' | '.join(self.examples[problem])})"
            for problem, count in self.counts.items()
        ]

    def __str__(self) -> str:
        """Tell of all kinds in one line."""
        return "; ".join(self.lines)

    @staticmethod
    def of_column(bad: pa.ChunkedArray) -> BadRowCounts:
        """Count the unusable rows in the column of :func:`bad_column`."""
        counts: dict[str, int] = {}
        examples: dict[str, list[str]] = {}
        for text in bad.filter(pc.invert(are_usable(bad))).to_pylist():
            problem, _, raw = text.partition(_BETWEEN)
            counts[problem] = counts.get(problem, 0) + 1
            shown = examples.setdefault(problem, [])
            if len(shown) < MAX_EXAMPLES:
                shown.append(_one_line(raw))
        return BadRowCounts(counts, examples)

    def as_text(self) -> str:
        """Return the text in which a task sends its account; :meth:`of_texts` reads it."""
        return json.dumps([self.counts, self.examples])

    @staticmethod
    def of_texts(texts: Iterable[str]) -> BadRowCounts:
        """Merge the accounts of several tasks."""
        counts: Counter[str] = Counter()
        examples: dict[str, list[str]] = {}
        for text in texts:
            of_task, shown = json.loads(text)
            counts.update(of_task)
            for problem, found in shown.items():
                examples.setdefault(problem, []).extend(found)
        return BadRowCounts(
            dict(sorted(counts.items(), key=lambda kind: (-kind[1], kind[0]))),
            {problem: sorted(found)[:MAX_EXAMPLES] for problem, found in examples.items()},
        )


def bad_column(typed: DataFrame) -> Column:
    """Return the column ``bad`` of typed ratings: the problem and the row as read.

    In a usable row it is null, or the ids that are not as they were written. One column, since rows
    cost by their columns on their way to Python.
    """
    problem = F.col("problem")
    text = F.concat(problem, F.lit(_BETWEEN), F.col("raw"))
    bad = F.when(problem.isNotNull(), text)
    if "changed" in typed.columns:
        changed = F.col("changed")
        bad = bad.when(changed.isNotNull(), F.concat(F.lit(_CHANGED), changed))
    return bad.alias("bad")


def are_usable(bad: pa.ChunkedArray) -> pa.ChunkedArray:
    """Tell the usable rows by the column of :func:`bad_column`."""
    if bad.null_count == len(bad):
        return pc.is_null(bad)
    return pc.or_(pc.is_null(bad), pc.fill_null(pc.starts_with(bad, _CHANGED), True))


def problem_of(bad: str | None) -> str | None:
    """Return what is wrong with a row, by its value in the column of :func:`bad_column`."""
    if bad is None or bad.startswith(_CHANGED):
        return None
    return bad.partition(_BETWEEN)[0]


def changed_ids(bad: pa.ChunkedArray) -> ChangedIds:
    """Count the ids that are not as they were written, by the column of :func:`bad_column`."""
    if bad.null_count == len(bad):
        return ChangedIds()
    return ChangedIds.of_column(bad.filter(pc.starts_with(bad, _CHANGED)))


def count_rows(typed: DataFrame) -> tuple[int, BadRowCounts]:
    """Count usable rows, and unusable ones by kind, in one Spark job."""
    kinds = (
        typed.groupBy("problem")
        .agg(F.count("*").alias("n"), F.min("raw").alias("example"))
        .orderBy(F.desc("n"), "problem")
        .collect()
    )
    counts = bad_counts((kind.problem, kind.n, kind.example) for kind in kinds if kind.problem)
    return sum(kind.n for kind in kinds) - counts.n, counts


def bad_counts(found: Iterable[tuple[str, int, str]]) -> BadRowCounts:
    """Put together problems, the rows that have them, and one of these rows."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for problem, n, row in found:
        counts[problem] += n
        examples.setdefault(problem, [_one_line(row)])
    return BadRowCounts(dict(counts), examples)


def refuse_bad_rows(
    label: str, bad: BadRowCounts, bad_rows: BadRows, remedy: str = "leave these rows out"
) -> None:
    """Stop on unusable rows of a source, unless they are to be dropped."""
    if bad.n and bad_rows == "error":
        words = ""
        if any(problem.endswith(NULL_WORD) for problem in bad.counts):
            words = "; `null_words=` says which words stand for nothing"
        raise DataError(
            f"{label}: {bad.n:,} unusable {noun(bad.n)}: {bad}: "
            f'mend the data, or {remedy} with `bad_rows="drop"`{words}'
        )


def noun(count: int) -> str:
    """Return the noun for so many rows."""
    return "row" if count == 1 else "rows"


def _one_line(text: str) -> str:
    """Bring a row to one printable line of bounded length, with its end: the name of the file."""
    text = " ".join(text.split())
    if not text.isprintable():
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    if len(text) <= MAX_EXAMPLE_LENGTH:
        return text
    half = (MAX_EXAMPLE_LENGTH - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
