"""The account of unusable rows: counted, sent, merged, told; no Spark."""

from __future__ import annotations

import pyarrow as pa
import pytest

from als_spark.spark.read.bad_rows import BadRowCounts, noun


def column(*rows: tuple[str, str] | None) -> pa.ChunkedArray:
    texts = [None if row is None else "\x1f".join(row) for row in rows]
    return pa.chunked_array([pa.array(texts[:2], pa.string()), pa.array(texts[2:], pa.string())])


def test_a_column_is_counted_by_kind():
    bad = BadRowCounts.of_column(
        column(None, ("rating is NaN", "b"), ("user is missing", "c\n d"), ("rating is NaN", "a"))
    )
    assert bad.counts == {"rating is NaN": 2, "user is missing": 1}
    assert bad.examples == {"rating is NaN": ["b", "a"], "user is missing": ["c d"]}
    assert bad.n == 3


def test_no_bad_rows():
    for bad in (BadRowCounts.of_column(column(None, None, None)), BadRowCounts.of_texts([])):
        assert bad == BadRowCounts({}, {})
        assert (bad.n, bad.lines, str(bad)) == (0, [], "")


def test_examples_are_few_and_short_and_keep_their_end():
    rows = [("bad", f"{k} {'x' * 10_000} in f.csv") for k in range(9)]
    bad = BadRowCounts.of_column(column(*rows))
    assert bad.counts == {"bad": 9}
    assert [example[:3] for example in bad.examples["bad"]] == ["0 x", "1 x", "2 x"]
    assert all(len(example) <= 160 for example in bad.examples["bad"])
    assert all(example.endswith("x in f.csv") for example in bad.examples["bad"])


def test_accounts_of_tasks_are_merged_most_frequent_first():
    parts = [
        BadRowCounts({"b": 2, "a": 1}, {"b": ["3", "1"], "a": ["9"]}),
        BadRowCounts({}, {}),
        BadRowCounts({"c": 3, "b": 2}, {"c": ["x"], "b": ["0", "2"]}),
        BadRowCounts({"a": 2}, {"a": ["8"]}),
    ]
    merged = BadRowCounts.of_texts(part.as_text() for part in parts)
    assert list(merged.counts.items()) == [("b", 4), ("a", 3), ("c", 3)]
    assert merged.examples == {"b": ["0", "1", "2"], "a": ["8", "9"], "c": ["x"]}
    assert merged.n == 10


@pytest.mark.parametrize(("count", "word"), [(1, "row"), (0, "rows"), (2, "rows")])
def test_the_noun(count, word):
    assert noun(count) == word


def test_words():
    bad = BadRowCounts(
        {"rating is NaN": 1200, "user is missing": 1},
        {"rating is NaN": ["user=1", "user=2"], "user is missing": ["user=null"]},
    )
    assert bad.lines == [
        "rating is NaN (1,200 rows, such as user=1 | user=2)",
        "user is missing (1 row, such as user=null)",
    ]
    assert str(bad) == "; ".join(bad.lines)
