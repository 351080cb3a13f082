"""The one account of unusable rows: how many of each kind, the first few of each, in words.

A row of typed ratings says in its columns ``problem`` and ``raw`` what is wrong with it (see
:mod:`als_spark.spark.read.columns`). Passes in Python count the column :func:`bad_column`; passes
that stay in Spark call :func:`count_rows`. Both end in :class:`BadRowCounts`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.types import BadRows

MAX_EXAMPLES = 3
"""Rows of a kind that are shown."""
MAX_EXAMPLE_LENGTH = 160
"""Characters of each that are shown."""

_BETWEEN = "\x1f"
"""Between a problem and the row that has it, in one column of text."""


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
        """Count the column of :func:`bad_column`, in which usable rows are null."""
        counts: dict[str, int] = {}
        examples: dict[str, list[str]] = {}
        for text in bad.drop_null().to_pylist():
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


def bad_column() -> Column:
    """Return the column ``bad`` of typed ratings: null, or the problem and the row as read."""
    problem = F.col("problem")
    text = F.concat(problem, F.lit(_BETWEEN), F.col("raw"))
    return F.when(problem.isNotNull(), text).alias("bad")


def count_rows(typed: DataFrame) -> tuple[int, BadRowCounts]:
    """Count usable rows, and unusable ones by kind, in one Spark job."""
    kinds = (
        typed.groupBy("problem")
        .agg(F.count("*").alias("n"), F.min("raw").alias("example"))
        .orderBy(F.desc("n"), "problem")
        .collect()
    )
    bad = [kind for kind in kinds if kind.problem is not None]
    counts = BadRowCounts(
        {kind.problem: kind.n for kind in bad},
        {kind.problem: [_one_line(kind.example)] for kind in bad},
    )
    return sum(kind.n for kind in kinds) - counts.n, counts


def refuse_bad_rows(
    label: str, bad: BadRowCounts, bad_rows: BadRows, remedy: str = "leave these rows out"
) -> None:
    """Stop on unusable rows of a source, unless they are to be dropped."""
    if bad.n and bad_rows == "error":
        raise DataError(
            f"{label}: {bad.n:,} unusable {noun(bad.n)}: {bad}: "
            f'mend the data, or {remedy} with `bad_rows="drop"`'
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
