"""Files that list ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from als_spark.errors import DataError
from als_spark.spark.read.id_lists import read_ids
from als_spark.types import SIDES


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
    found = read_ids(spark, str(tmp_path / name), "user", column)
    assert found.ids.to_pylist() == ["1", "2", "3"]
    assert (found.n_missing, found.bad.n, found.changed.n) == (0, 0, 0)


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
    assert read_ids(spark, str(tmp_path / name), "user").ids.to_pylist() == ids


def test_parquet_and_items(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "ids.parquet")
    rows = [(1, "b c"), (2, "a"), (3, None)]
    spark.createDataFrame(rows, "user int, movieId string").write.parquet(path)
    items = read_ids(spark, path, "item")
    assert (items.ids.to_pylist(), items.n_missing) == (["a", "b c"], 1)
    assert read_ids(spark, path, "user").ids.to_pylist() == ["1", "2", "3"]


@pytest.mark.slow
def test_what_is_no_id_in_a_list(spark: SparkSession, tmp_path: Path) -> None:
    """The rule of ratings: null words, decimals, lost digits; of text, JSON and Parquet."""
    words = "user is in scientific notation, which may have lost digits"
    path = tmp_path / "l.csv"
    path.write_text("user,x\n15.0,1\n15,2\n7.0,3\nNULL,4\n,5\n1.5E+12,6\n007,7\n7,8\n")
    found = read_ids(spark, str(path), "user")
    assert found.ids.to_pylist() == ["007", "15", "7"]
    assert found.n_missing == 2
    assert found.bad.lines == [
        f"{words} (1 row, such as user=1.5E+12, in {path})",
    ]
    assert found.changed.counts == {"user": 2}
    assert read_ids(spark, str(path), "user", null_words=()).ids.to_pylist()[-1] == "NULL"
    frame = spark.sql(
        "select cast(v as double) user, cast(v as decimal(10,2)) item "
        "from values ('15'), ('2.5'), (null) as t(v)"
    )
    frame.write.parquet(str(tmp_path / "p"))
    for side in SIDES:
        found = read_ids(spark, str(tmp_path / "p"), side)
        assert (found.ids.to_pylist(), found.n_missing) == (["15"], 1)
        assert found.bad.counts == {f"{side} is not a whole number": 1}
    (tmp_path / "flags.json").write_text('{"user": true}\n')
    with pytest.raises(
        DataError, match=r"flags\.json: the user column 'user' is of type boolean: "
    ):
        read_ids(spark, str(tmp_path / "flags.json"), "user")


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
