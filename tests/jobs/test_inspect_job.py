"""``als-spark inspect``: what it shows of ratings, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.inspect_ratings import main

LINES = [
    "userId,movieId,rating,timestamp,title",
    *(f"{user},{item},{1 + (user + item) % 5},{1000 * user},x" for user in range(1, 31)
      for item in range(1, 1 + user % 7)),
    "1,1,5,99,again",
    "2,1,oops,99,bad",
    ",1,3,99,bad",
]  # fmt: skip
PAIRS = {(user, item) for user in range(1, 31) for item in range(1, 1 + user % 7)}


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    file = tmp_path / "ratings.csv"
    file.write_text("\n".join(LINES) + "\n")
    return file


def test_what_is_shown(
    spark: SparkSession, ratings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(ratings)]) == 0
    text = capsys.readouterr().out
    assert "ratings.csv: text, comma between the fields, a header: user = userId" in text
    assert f"{len(PAIRS) + 1:,} ratings of {len({u for u, _ in PAIRS})} users and 6 items" in text
    assert main(["--ratings", str(ratings), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["source"]["files"] == 1
    assert record["source"]["bytes"] == ratings.stat().st_size
    (part,) = record["source"]["parts"]
    assert part["columns"][1] == {"name": "movieId", "type": "string", "role": "item"}
    assert part["columns"][4] == {"name": "title", "type": "string"}
    first = {"user": "1", "item": "1", "rating": 3.0, "timestamp": 1000.0, "problem": None}
    assert record["first_rows"][0] == first
    data = record["data"]
    assert data["rows"] == len(PAIRS) + 3
    assert data["bad_rows"] == {"rating is not a number": 1, "user is missing": 1}
    assert (data["ratings"], data["repeated_pairs"], data["repeats"]) == (len(PAIRS) + 1, 1, 1)
    per_item = [sum(i == item for _, i in PAIRS) for item in range(1, 7)]
    per_item[0] += 1
    degrees = data["ratings_per_item"]
    assert (degrees["ids"], degrees["lowest"], degrees["highest"]) == (
        *(6, min(per_item), max(per_item)),
    )
    counts = {low: count for low, _, count in data["histogram"]}
    wanted = [1 + (user + item) % 5 for user, item in PAIRS] + [5]
    assert counts == {float(value): wanted.count(value) for value in set(wanted)}
    assert (data["earliest"], data["latest"], data["untimed"]) == (99.0, 30000.0, 0)
    warnings = " ".join(record["warnings"])
    for words in ("user is missing", "--bad-rows drop", "1 pairs of a user", "--duplicates mean"):
        assert words in warnings


def test_tables_and_integers(spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(user, user % 3, 1.0) for user in range(8)]
    frame = spark.createDataFrame(rows, "user int, item int, rating double")
    frame.createOrReplaceTempView("inspected")
    assert main(["--table", "inspected", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["source"]["files"] is None
    assert record["data"]["ratings_per_user"]["ids"] == 8
    assert record["data"]["histogram"] == [[1.0, 1.0, 8]]
    assert record["data"]["earliest"] is None
    assert any("all ratings are 1" in warning for warning in record["warnings"])


def test_what_cannot_be_read_is_one_line(
    spark: SparkSession, ratings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.csv").write_text("user,item,rating\n1,2,x\n,2,3\n")
    (tmp_path / "delta" / "_delta_log").mkdir(parents=True)
    cases = {
        (str(tmp_path / "nowhere.csv"),): "nowhere.csv: cannot be read: Path does not exist",
        (str(tmp_path / "bad.csv"),): "bad.csv: no usable ratings: rating is not a number",
        (str(tmp_path / "delta"),): "delta: is a Delta table, whose files also hold rows",
        (): "--ratings is missing: give a file or folder of ratings, or a table with --table",
        (str(ratings), "--ratings", "x"): f"{ratings} and --ratings x: give one of them",
    }
    for words, message in cases.items():
        assert main(list(words)) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert message in said.err.splitlines()[-1]
        assert said.err.splitlines()[-1].startswith("inspect: ")


def warnings_of(file: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main([str(file), "--json"]) == 0
    found: list[str] = json.loads(capsys.readouterr().out)["warnings"]
    return found


@pytest.mark.slow
def test_ids_of_several_kinds_are_told_in_the_words_of_the_jobs(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = {
        # The words of odd_ids, counted over ids and not over rows.
        "zeros": ["007", "7", "8", "007"],
        "text": ["1", "2", "3", "x7"],
        # Of refuse_two_forms.
        "two forms": ["1.0", "v2", "v3", "v4"],
        "decimals": ["1.0", "2", "3", "4"],
        "names": ["ann", "bob", "007x", "7"],
        "numbers": ["0", "-1", "20", "7"],
    }
    said = {}
    for name, ids in users.items():
        file = tmp_path / f"{name}.csv"
        rows = [f"{user},{item},{1 + item % 3}" for item, user in enumerate(ids)]
        file.write_text("user,item,rating\n" + "\n".join(rows) + "\n")
        said[name] = [
            words.replace(str(file), "f")
            for words in warnings_of(file, capsys)
            if "user id" in words
        ]
    zeros = "1 of 3 user ids have leading zeros, such as 007: all are read as text, and 007 is "
    decimals = "1 user id written with decimals, such as 1.0: read as 1"
    refused = "jobs refuse these ids: f: the user id 1.0 is a whole number with decimals, 'v2' is "
    refused += "none: write all user ids as whole numbers, or as text that is no number, such as "
    assert said == {
        "zeros": [f"{zeros}not 7; 1 are told from another id by these alone"],
        "text": ["1 of 4 user ids are not whole numbers, such as 'x7': all are read as text"],
        "two forms": [decimals, f"{refused}v1.0"],
        "decimals": [decimals],
        "names": [],
        "numbers": [],
    }
