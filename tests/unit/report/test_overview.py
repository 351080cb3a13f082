"""The text of ``inspect``."""

from __future__ import annotations

from typing import Any

import pytest

from als_spark.report.overview import column_words, degree_words, overview_text, run_lines

DEGREES = {
    "ids": 2000,
    "mean": 51.25,
    "lowest": 1,
    "quarter": 4,
    "median": 20,
    "three_quarters": 60,
    "most90": 130,
    "most99": 900,
    "highest": 12345,
    "few": 0.3125,
}
RECORD: dict[str, Any] = {
    "source": {
        "parts": [
            {
                "words": "r: Parquet: user = u, item = i, rating = r; passed over: note",
                "columns": [
                    {"name": "u", "type": "bigint", "role": "user"},
                    {"name": "note", "type": "string"},
                ],
            }
        ],
        "files": 1,
        "bytes": 2_345_678,
        "encoding": None,
    },
    "first_rows": [
        {"user": 1, "item": "a", "rating": 3.5, "timestamp": 86400.0, "problem": None},
        {"user": 22, "item": "b", "rating": None, "timestamp": 1e30, "problem": "rating is NaN"},
    ],
    "data": {
        "ratings": 102_500,
        "density": 0.0123456,
        "earliest": 0.0,
        "latest": 86400.0,
        "lowest": 0.5,
        "highest": 5.0,
        "mean": 3.51234,
        "ratings_per_user": DEGREES,
        "ratings_per_item": DEGREES,
        "histogram": [[0.5, 0.5, 1], [4.0, 5.0, 102_499]],
    },
    "warnings": ["mind the gap"],
}


def test_columns_of_text_have_no_type() -> None:
    columns = [{"name": "u", "type": "string", "role": "user"}, {"name": "n", "type": "string"}]
    text = "text, comma between the fields, a header"
    assert column_words({"format": text, "columns": columns}) == "u is the user, n"
    assert column_words({"format": "Parquet", "columns": columns}) == (
        "u (string) is the user, n (string)"
    )


def test_the_text_has_it_all() -> None:
    text = overview_text(RECORD)
    lines = text.splitlines()
    for line in (
        "    columns: u (bigint) is the user, note (string)",
        "  1 file, 2.35 MB",
        "     1     a     3.5  1970-01-02 00:00:00",
        "    22     b       –                1e+30  rating is NaN",
        "  102,500 ratings of 2,000 users and 2,000 items: 1.23 % of all pairs",
        "  from 1970-01-01 00:00:00 to 1970-01-02 00:00:00",
        "  from 0.5 to 5, mean 3.512",
        f"  4 to 5  102,499  100.0 %  {'█' * 40}",
        # What is there has a bar, however small.
        "     0.5        1    0.0 %  █",
        "  user  51.25      1     4      20    60   130   900  12,345  31.2 %",
        "  - mind the gap",
    ):
        assert line in lines, text
    assert max(map(len, lines)) < 90
    plain = overview_text({**RECORD, "warnings": [], "first_rows": []}, block="#")
    assert "#" * 40 in plain
    assert "█" not in plain
    assert "Take note" not in plain
    assert "First rows" not in plain


def test_a_line_of_a_run() -> None:
    assert degree_words("item", DEGREES) == (
        "ratings of an item: mean 51.25, least 1, 25 % 4, median 20, 75 % 60, 90 % 130, 99 % 900, "
        "most 12,345; 31.2 % of the items have fewer than 5"
    )


def lines_of(histogram: list[list[float]], rows: list[dict[str, Any]] | None = None) -> list[str]:
    degrees = {"ratings_per_user": DEGREES, "ratings_per_item": DEGREES}
    return run_lines({**degrees, "histogram": histogram}, rows or [], 0.5, 5.0)


def test_what_a_run_tells_fits_into_a_few_lines() -> None:
    first, ratings, user, item = lines_of(
        [[0.5, 0.5, 1], [4.0, 4.0, 999], [5.0, 5.0, 1000]], 2 * RECORD["first_rows"]
    )
    assert first == (
        "first rows (user, item, rating, timestamp): 1, a, 3.5, 1970-01-02 00:00:00 | "
        "22, b, –, 1e+30 (rating is NaN) | 1, a, 3.5, 1970-01-02 00:00:00"
    )
    assert ratings == "ratings from 0.5 to 5; 0.5: 0.1 %, 4: 50.0 %, 5: 50.0 %"
    assert user == degree_words("user", DEGREES)
    assert item == degree_words("item", DEGREES)


@pytest.mark.parametrize(
    ("histogram", "words"),
    [
        ([], ""),
        ([[2.0, 2.0, 7]], ""),
        (
            [[k, k, 1] for k in range(1, 12)],
            "; 1 to 3: 27.3 %, 4 to 6: 27.3 %, 7 to 9: 27.3 %, 10 to 11: 18.2 %",
        ),
    ],
    ids=["none", "one", "many"],
)
def test_bars_in_a_line(histogram: list[list[float]], words: str) -> None:
    assert lines_of(histogram)[0] == f"ratings from 0.5 to 5{words}"


def test_few_values_are_told_apart_and_many_bars_are_five() -> None:
    assert lines_of([[k, k, 1] for k in range(10)])[0].count("10.0 %") == 10
    ranges = [[k * 0.5, k * 0.5 + 0.5, 3] for k in range(20)]
    assert lines_of(ranges)[0].endswith("8 to 10: 20.0 %")
    assert lines_of(ranges)[0].count("20.0 %") == 5


def test_ids_of_any_length_and_any_characters_stay_in_their_line() -> None:
    row = {"user": "a\n\x1b[2Jb", "item": "x" * 1000, "rating": 1.0, "problem": None}
    (first, *_) = lines_of([], [row])
    assert first == f"first rows (user, item, rating): a\\n\\x1b[2Jb, {'x' * 40}…, 1"
