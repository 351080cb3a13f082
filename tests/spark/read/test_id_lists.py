"""Files that list ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from als_spark.errors import DataError
from als_spark.spark.read.id_lists import read_ids


@pytest.mark.parametrize(
    ("name", "text", "column"),
    [
        ("plain.txt", "3\n1\n\n2\n1\n", None),
        ("header.txt", "userId\n3\n1\n2\n", None),
        ("users.csv", "name,user\nx,1\ny,2\nz,3\n", None),
        ("odd.csv", "who;what\n1;a\n2;b\n3;c\n", "who"),
        ("first.csv", "1,9\n2,8\n3,7\n", None),
        ("tabs.tsv", " 1 \tx\n2\ty\n3\tz\n", None),
        ("ids.json", '{"id": 1}\n{"id": 2}\n{"id": 3}\n', None),
        ("others.csv", "user,x\n1,7\n2,8\n3,9\n", "kunde"),
        ("headless.csv", "1,7\n2,8\n3,9\n", "kunde"),
        ("headless.txt", "1\n2\n3\n", "kunde"),
        ("one.parquet.json", '{"x": 1}\n{"x": 2}\n{"x": 3}\n', "kunde"),
        ("only.json", '{"anything": "1"}\n{"anything": "2"}\n{"anything": "3"}\n', None),
    ],
)
def test_read(spark: SparkSession, tmp_path: Path, name: str, text: str, column: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_ids(spark, str(tmp_path / name), "user", column).to_pylist() == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        (
            "names.txt",
            "Smith, John\nSmith, Ann\na;b|c\td\n",
            ["Smith, Ann", "Smith, John", "a;b|c\td"],
        ),
        ("names", "Smith, John\n", ["Smith, John"]),
        ("quoted.txt", '"Smith, John"\n', ['"Smith, John"']),
        ("header.txt", "user\nSmith, John\n", ["Smith, John"]),
        ("names.csv", 'Smith,John\n"Smith, Ann",x\n', ["Smith", "Smith, Ann"]),
        ("names.TSV", "Smith, John\t1\n", ["Smith, John"]),
        ("quotes.csv", '"The ""King"", Esq.",1\n', ['The "King", Esq.']),
        ("header.csv", 'user,x\n"The ""King"", Esq.",1\n', ['The "King", Esq.']),
    ],
)
def test_ids_with_separators_in_them(
    spark: SparkSession, tmp_path: Path, name: str, text: str, ids: list[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert read_ids(spark, str(tmp_path / name), "user").to_pylist() == ids


def test_parquet_and_items(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "ids.parquet")
    rows = [(1, "b c"), (2, "a"), (3, None)]
    spark.createDataFrame(rows, "user int, movieId string").write.parquet(path)
    assert read_ids(spark, path, "item").to_pylist() == ["a", "b c"]
    assert read_ids(spark, path, "user").to_pylist() == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("name", "text", "column", "message"),
    [
        ("none.txt", None, None, r"none\.txt: cannot be read: .*: check the path and the file"),
        ("empty.txt", "", None, r"empty\.txt: the file is empty: give a file with user ids"),
        ("blank.txt", "user\n \n", None, r"blank\.txt: no user ids in it"),
        ("a.json", '{"x": 1, "y": 2}\n', "who", r"a\.json: no user column among x, y: name it"),
        ("c.json", '{"x": 1, "y": 2}\n', None, r"c\.json: no user column among x, y: name it"),
    ],
)
def test_refused(
    spark: SparkSession, tmp_path: Path, name: str, text: str | None, column: str, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as info:
        read_ids(spark, str(tmp_path / name), "user", column)
    assert "\n" not in str(info.value)
