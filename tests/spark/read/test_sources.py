"""Ratings from files and tables: whatever holds them, the same ratings come out."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chispa import assert_df_equality
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import ConfigError, DataError
from als_spark.spark.prepare.encode import encode_ratings, summarise
from als_spark.spark.read.columns import typed_ratings
from als_spark.spark.read.failures import unreadable_files_are_named
from als_spark.spark.read.id_lists import read_ids
from als_spark.spark.read.names import find_columns
from als_spark.spark.read.sources import (
    Source,
    SourceOptions,
    read_source,
    sample_ratings,
)
from als_spark.spark.read.split import with_fixed_split

RATINGS = [(1, 10, 4.0, 100.0), (1, 20, 3.5, 200.0), (2, 10, 5.0, 300.0), (30, 9, 0.5, 400.0)]
"""What every format below holds: user, item, rating, timestamp."""
HEADER = "user,item,rating,timestamp"
LINES = ("1,10,4.0,100", "1,20,3.5,200", "2,10,5.0,300", "30,9,0.5,400")


def read(spark: SparkSession, path: str | Path, **options: Any) -> Source:
    return read_source(spark, SourceOptions(path=str(path), need_timestamp=True, **options))


def typed(source: Source) -> DataFrame:
    """The ratings of a source, none of which may be bad."""
    frame = typed_ratings(source, need_timestamp=True)
    assert frame.where("problem is not null").count() == 0
    return frame.select("user", "item", "rating", "timestamp")


def expected(spark: SparkSession, ids: str, rows: Sequence[tuple[Any, ...]] = RATINGS) -> DataFrame:
    """Rows as ratings whose ids are of a Spark type."""
    if ids == "string":
        rows = [(str(user), str(item), *rest) for user, item, *rest in rows]
    schema = f"user {ids}, item {ids}, rating double, timestamp double"
    return spark.createDataFrame(rows, schema)


def assert_same_ratings(found: DataFrame, wanted: DataFrame) -> None:
    assert_df_equality(found, wanted, ignore_nullable=True, ignore_row_order=True)


def text(*lines: str, end: str = "\n") -> bytes:
    return "".join(line + end for line in lines).encode()


def joined(separator: str, lines: Sequence[str] = LINES) -> list[str]:
    return [line.replace(",", separator) for line in lines]


def arrow_table() -> pa.Table:
    columns = [list(column) for column in zip(*RATINGS, strict=True)]
    return pa.table(columns, names=["user", "item", "rating", "timestamp"])


def records() -> list[dict[str, Any]]:
    return arrow_table().to_pylist()


@dataclass(frozen=True)
class File:
    """A file that holds the ratings, in some format."""

    name: str
    content: bytes
    ids: str = "string"
    options: dict[str, Any] = field(default_factory=dict)


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(arrow_table(), sink)
    return bytes(sink.getvalue())


json_lines = text(*(json.dumps(record) for record in records()))
json_array = json.dumps(records(), indent=1).encode()
FILES = {
    "csv": File("r.csv", text(HEADER, *LINES)),
    "csv of format csv": File("r.dat", text(HEADER, *LINES), options={"format": "csv"}),
    "csv without header": File("r.csv", text(*LINES)),
    "csv without last newline": File("r.csv", text(HEADER, *LINES).rstrip()),
    "csv of Windows": File("r.csv", b"\xef\xbb\xbf" + text(HEADER, *LINES, end="\r\n")),
    "csv after blank lines": File("r.csv", text("", "  ", HEADER, *LINES)),
    "csv with spaces": File("r.csv", text(*joined(" , ", [HEADER, *LINES]))),
    "csv, all quoted": File(
        "r.csv", text(*(f'"{line}"'.replace(",", '","') for line in [HEADER, *LINES]))
    ),
    "csv, ids quoted, no header": File(
        "r.csv", text('"1","10",4.0,100', '"1","20",3.5,200', '"2","10",5,300', '"30","9",.5,4e2')
    ),
    "csv with more columns, in another order": File(
        "r.csv",
        text(
            "note,rating,ITEM,when,User,timestamp",
            '"good, really",4.0,10,x,1,100',
            ",3.5,20,x,1,200",
            '"say ""hi""",5.0,10,x,2,300',
            "-,0.5,9,x,30,400",
        ),
    ),
    "semicolons": File("r.csv", text(*joined(";", [HEADER, *LINES]))),
    "semicolons without header": File("r.txt", text(*joined(";"))),
    "bars": File("r.txt", text(*joined("|", [HEADER, *LINES]))),
    "tabs": File("u.data", text(*joined("\t"))),
    "tabs of format movielens": File(
        "u.data", text(*joined("\t")), options={"format": "movielens"}
    ),
    "tabs with header": File("r.tsv", text(*joined("\t", [HEADER, *LINES]))),
    "double colons": File("ratings.dat", text(*joined("::"))),
    "double colons of format movielens": File(
        "ratings.dat", text(*joined("::")), options={"format": "movielens"}
    ),
    "double colons with header": File("ratings.dat", text(*joined("::", [HEADER, *LINES]))),
    "gzip": File("r.csv.gz", gzip.compress(text(HEADER, *LINES))),
    "bzip2": File("r.tsv.bz2", bz2.compress(text(*joined("\t")))),
    "parquet": File("r.parquet", parquet_bytes(), "bigint"),
    "parquet of format parquet": File("r.bin", parquet_bytes(), "bigint", {"format": "parquet"}),
    "json lines": File("r.json", json_lines, "bigint"),
    "json lines by content": File("r.txt", json_lines, "bigint"),
    "json lines, gzip": File("r.jsonl.gz", gzip.compress(json_lines), "bigint"),
    "json array": File("r.json", json_array, "bigint"),
    "json array on one line": File("r.json", json.dumps(records()).encode(), "bigint"),
    "json by format": File("r.dat", json_array, "bigint", {"format": "json"}),
}

QUICK = {
    *("csv", "csv without header", "csv of Windows", "csv, all quoted", "semicolons", "gzip"),
    *("tabs of format movielens", "double colons", "parquet", "json lines", "json array"),
}
"""One of each kind: the rest are variants."""


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(file, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, file in FILES.items()
    ],
)
def test_every_format_gives_the_same_ratings(
    file: File, spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / file.name
    path.write_bytes(file.content)
    source = read(spark, path, **file.options)
    assert_same_ratings(typed(source), expected(spark, file.ids))
    assert (source.label, source.from_files) == (str(path), True)


@pytest.mark.parametrize("header", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_folder_of_parts(header: bool, spark: SparkSession, tmp_path: Path) -> None:
    for k, part in enumerate((LINES[:1], LINES[1:3], LINES[3:])):
        lines = [HEADER, *part] if header else part
        (tmp_path / f"part-{k:05}.csv").write_bytes(text(*lines))
    (tmp_path / "_SUCCESS").write_bytes(b"")
    assert_same_ratings(typed(read(spark, tmp_path)), expected(spark, "string"))
    pattern = read(spark, tmp_path / "part-*.csv")
    assert_same_ratings(typed(pattern), expected(spark, "string"))


@pytest.mark.slow
def test_a_folder_that_spark_wrote(spark: SparkSession, tmp_path: Path) -> None:
    frame = expected(spark, "bigint").repartition(3)
    frame.write.parquet(str(tmp_path / "parquet"))
    frame.write.json(str(tmp_path / "json"), compression="gzip")
    frame.write.option("header", True).csv(str(tmp_path / "csv"))
    assert_same_ratings(typed(read(spark, tmp_path / "parquet")), frame)
    assert_same_ratings(typed(read(spark, tmp_path / "json")), frame)
    assert_same_ratings(typed(read(spark, tmp_path / "csv")), expected(spark, "string"))


def test_a_table(spark: SparkSession) -> None:
    frame = expected(spark, "bigint")
    frame.createOrReplaceTempView("als_spark_ratings")
    try:
        source = read_source(spark, SourceOptions(table="als_spark_ratings", need_timestamp=True))
        assert_same_ratings(typed(source), frame)
        assert (source.label, source.from_files) == ("table als_spark_ratings", False)
    finally:
        spark.catalog.dropTempView("als_spark_ratings")


def test_the_sample_of_the_distribution(spark: SparkSession) -> None:
    lines = Path(unquote(urlparse(sample_ratings()).path)).read_text().splitlines()
    rows = [(*ids, float(rating), float(at)) for *ids, rating, at in (x.split("::") for x in lines)]
    assert len(rows) == 1501
    assert_same_ratings(typed(read(spark, sample_ratings())), expected(spark, "string", rows))


def test_the_sample_is_looked_for_in_spark_home_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = tmp_path / "data/mllib/als/sample_movielens_ratings.txt"
    sample.parent.mkdir(parents=True)
    sample.write_text("0::2::3::1424380312\n")
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    assert sample_ratings() == sample.as_uri()


def test_a_spark_without_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    monkeypatch.setattr("pyspark.__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(ConfigError, match=r"neither SPARK_HOME nor the pyspark .*: give a path"):
        sample_ratings()


@pytest.mark.parametrize(
    "names",
    [
        "user,item,rating,timestamp",
        "userId,movieId,rating,timestamp",
        "user_id,item_id,rating,ts",
        "UserID,BookID,Rating,Rated At",
        "User ID,Product ID,Stars,Date",
        "uid,iid,score,time",
        "CUSTOMER-ID,ISBN,value,event_time",
        "reader,song.id,ratings,datetime",
        "member,track,RATING,TimeStamp",
    ],
)
def test_usual_names_are_found_in_any_order(names: str) -> None:
    user, item, rating, timestamp = names.split(",")
    roles = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
    for columns in (names.split(","), [timestamp, "title", rating, "genre", item, user]):
        assert find_columns(columns, SourceOptions(path="f")) == roles


def test_the_most_usual_name_wins_and_a_given_one_over_it() -> None:
    columns = ["value", "rating", "product", "item", "uid", "user", "date"]
    usual = {"user": "uid", "item": "item", "rating": "rating", "timestamp": "date"}
    assert find_columns(columns, SourceOptions(path="f")) == usual
    given = {"item": "product", "user": None, "rating": "value"}
    found = find_columns(columns, SourceOptions(path="f", columns=given))
    assert found == {**usual, "item": "product", "rating": "value"}


def test_a_source_without_timestamps_does_unless_they_are_needed() -> None:
    columns = ["user", "item", "rating"]
    found = find_columns(columns, SourceOptions(path="f"))
    assert found == {name: name for name in columns}
    with pytest.raises(DataError, match=r"^f: no timestamp column among user, item, rating: name"):
        find_columns(columns, SourceOptions(path="f", need_timestamp=True))


@pytest.mark.parametrize(
    ("columns", "given", "message"),
    [
        (
            "user,rating",
            {},
            r'^f: no item column among user, rating: name it with `columns\["item"\]`$',
        ),
        (
            "user,item,rating",
            {"rating": "Stars"},
            r'^f: no column .Stars. \(`columns\["rating"\]`\): the columns are user, item, rating$',
        ),
        (
            "user,item,rating",
            {"item": "user"},
            r"^f: one column has two roles \(user = user, item = user, rating = rating\): name the",
        ),
    ],
)
def test_columns_that_are_not_found(columns: str, given: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_columns(columns.split(","), SourceOptions(path="f", columns=given))


@pytest.mark.parametrize(
    "header",
    [
        "user,item,rating",
        " User , Item,Rating,ζ a.b:c-d ",
        "\ufeffuser,item,rating",
        "\n\nuser,item,rating",
        '"user","item","rating"',
        "user,item,rating,",
        "user,item,rating,Other,other",
        "user,item,rating,a`b",
    ],
)
def test_a_header_is_taken_as_spark_takes_it(
    header: str, spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(f"{header}\n1,2,3\n4,5,6\n")
    ours = read_source(spark, SourceOptions(path=str(path))).frame
    reader = spark.read.option("ignoreLeadingWhiteSpace", True)
    theirs = reader.option("ignoreTrailingWhiteSpace", True).option("header", True).csv(str(path))
    assert ours.columns == [*theirs.columns, "_corrupt_record"]
    assert ours.drop("_corrupt_record").collect() == theirs.collect()


def test_given_columns_of_unusual_names(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(text("who,what is.it,how `much`,at", *LINES))
    given = {"user": "who", "item": "what is.it", "rating": "how `much`", "timestamp": "at"}
    source = read(spark, path, columns=given)
    assert source.columns == given
    assert_same_ratings(typed(source), expected(spark, "string"))


@pytest.mark.parametrize("separator", [",", "::", "\t"])
def test_a_first_line_of_text_ids_is_no_header(
    separator: str, spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "r.txt"
    rows = [("alice", "matrix", 4.0, 100.0), ("bob", "user", 3.0, 200.0)]
    path.write_bytes(text(*(separator.join(map(str, row)) for row in rows)))
    assert_same_ratings(typed(read(spark, path)), expected(spark, "string", rows))


def test_ids_that_look_like_names_of_columns(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    rows = [("member", "film", 4.0, 100.0), ("reader", "song", 3.0, 200.0)]
    path.write_bytes(text("user,item,rating,timestamp", "member,film,4,100", "reader,song,3,200"))
    assert_same_ratings(typed(read(spark, path)), expected(spark, "string", rows))


def test_separators_and_quotes_inside_ids(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    rows = [
        ("Doe, Jane", "Alien: the film", 4.0, 100.0),
        ('Jim "JJ" Roe', "a;b;c;d;e", 3.0, 200.0),
        ("Zoë", "東京物語", 2.0, 300.0),
    ]
    lines = ['"Doe, Jane",Alien: the film,4,100', '"Jim ""JJ"" Roe",a;b;c;d;e,3,200']
    path.write_bytes(text(*lines, "Zoë,東京物語,2,300"))
    assert_same_ratings(typed(read(spark, path)), expected(spark, "string", rows))


def ids_of(source: Source) -> tuple[list[Any], list[Any]]:
    """The ids that a run would speak of, by dense row."""
    ratings = with_fixed_split(typed_ratings(source, need_timestamp=False), 0)
    summary = summarise(encode_ratings(ratings))
    assert summary.bad.n == 0
    return summary.users.ids.to_pylist(), summary.items.ids.to_pylist()


@pytest.mark.parametrize(
    ("ids", "indexed"),
    [
        (["3", "20", "-1"], [-1, 3, 20]),
        (["0", "9223372036854775807", "-9223372036854775808"], [-(2**63), 0, 2**63 - 1]),
        (
            ["1", "9223372036854775808", "123456789012345678901234567890"],
            ["1", "123456789012345678901234567890", "9223372036854775808"],
        ),
        (["007", "7", "8"], ["007", "7", "8"]),
        (["1.0", "2", "3"], [1, 2, 3]),
        (["1.5", "2", "3"], ["1.5", "2", "3"]),
        (["1.000", "2", "3"], ["1.000", "2", "3"]),
        (["+1", "2", "3"], ["+1", "2", "3"]),
        (["b", "a", "10"], ["10", "a", "b"]),
    ],
    ids=[
        *("integers", "64-bit", "larger than 64-bit", "leading zero"),
        *("decimal", "fraction", "thousand", "plus", "text"),
    ],
)
def test_ids_in_text_files(
    ids: list[str], indexed: list[Any], spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(
        text("user,item,rating", *(f"{name},{name},{k}" for k, name in enumerate(ids)))
    )
    source = read_source(spark, SourceOptions(path=str(path)))
    assert ids_of(source) == (indexed, indexed)


BEYOND = 2**64 + 5


@pytest.mark.parametrize(
    ("kind", "ids", "indexed"),
    [
        (pa.int8(), [3, -2, 1], [-2, 1, 3]),
        (pa.int64(), [2**63 - 1, -(2**63), 0], [-(2**63), 0, 2**63 - 1]),
        (pa.uint32(), [2**32 - 1, 0, 7], [0, 7, 2**32 - 1]),
        (pa.uint64(), [2**64 - 1, 0, 7], ["0", str(2**64 - 1), "7"]),
        (pa.float64(), [3.0, 2.0**53 - 1, 0.0], [0, 3, 2**53 - 1]),
        (pa.decimal128(10, 0), [Decimal(30), Decimal(4), Decimal(-5)], [-5, 4, 30]),
        (pa.decimal128(30, 0), [Decimal(30), Decimal(4), Decimal(5)], [4, 5, 30]),
        (pa.decimal128(30, 0), [Decimal(BEYOND), Decimal(4)], [str(BEYOND), "4"]),
        (pa.string(), ["30", "4"], [4, 30]),
        (pa.string(), ["030", "4"], ["030", "4"]),
        (pa.large_string(), ["x", "a"], ["a", "x"]),
    ],
    ids=str,
)
def test_ids_in_typed_files(
    kind: pa.DataType, ids: list[Any], indexed: list[Any], spark: SparkSession, tmp_path: Path
) -> None:
    column = pa.array(ids, kind)
    ratings = pa.array(range(len(ids)), pa.float32())
    table = pa.table({"user": column, "item": column, "rating": ratings})
    pq.write_table(table, tmp_path / "r.parquet")
    source = read_source(spark, SourceOptions(path=str(tmp_path / "r.parquet")))
    assert ids_of(source) == (indexed, indexed)


@pytest.mark.spark35
@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", {}, "the file is empty: give a file with ratings"),
        (b"\n \n", {}, "the file is empty"),
        (b"1,2\n", {}, r"the first line '1,2' has fewer than three fields: ratings need a user"),
        (b"1^2^3\n4^5^6\n", {}, r"the first line '1\^2\^3' .*: its fields seem to .* between '\^'"),
        (b"hello\n", {"format": "json"}, "not JSON: each line must be an object such as"),
        (b"PAR1", {"format": "parquet"}, "cannot be read: .*: check the path and `format=`"),
    ],
    ids=["empty", "blank", "two fields", "carets", "not JSON", "not Parquet"],
)
def test_unusable_files(
    content: bytes, options: dict[str, Any], message: str, spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path}: {message}"):
        read(spark, path, **options)


def test_a_folder_without_files_and_a_path_without_anything(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no files there: give a file or a folder with ratings"):
        read(spark, tmp_path)
    with pytest.raises(DataError, match=r"cannot be read: Path does not exist: .*/x\.csv: check"):
        read(spark, tmp_path / "x.csv")


@pytest.mark.spark35
def test_a_table_that_is_not_there(spark: SparkSession) -> None:
    with pytest.raises(DataError, match=r"^table nope: cannot be read: .*`nope` cannot be found.*"):
        read_source(spark, SourceOptions(table="nope"))


def broken(path: Path) -> None:
    """A gzip file that ends too early, though not before its first lines."""
    lines = [f"{k},{k % 977},{k % 5}" for k in range(200_000)]
    path.write_bytes(gzip.compress(text("user,item,rating", *lines))[:300_000])


@pytest.mark.spark35
def test_a_file_that_breaks_in_the_middle_is_named(spark: SparkSession, tmp_path: Path) -> None:
    broken(tmp_path / "r.csv.gz")
    source = read_source(spark, SourceOptions(path=str(tmp_path / "r.csv.gz")))
    # Spark 3.5 does not name the file.
    message = r"^here: cannot be read: (.*r\.csv\.gz \()?Unexpected end of input.*: mend or replace"
    with pytest.raises(DataError, match=message), unreadable_files_are_named("here"):
        source.frame.count()


def fail(_: object) -> None:
    raise RuntimeError("a defect")


@pytest.mark.parametrize("defect", [fail, lambda _: 1 / 0], ids=["raised", "arithmetic"])
def test_other_failures_pass_through(defect: Callable[[Any], Any], spark: SparkSession) -> None:
    with (
        pytest.raises((PySparkException, Py4JJavaError), match=r"a defect|division by zero"),
        unreadable_files_are_named("here"),
    ):
        spark.sparkContext.parallelize([1], 1).foreach(defect)


@pytest.mark.spark35
def test_columns_of_parquet_that_spark_cannot_read(spark: SparkSession, tmp_path: Path) -> None:
    moment = datetime(2023, 11, 14, 22, 13, 20, 500_000)
    table = pa.table(
        {
            "user": pa.array(["u", "v"]).dictionary_encode(),
            "item": pa.array([7, 8], pa.uint32()),
            "rating": pa.array([3.5, 4.0], pa.float32()),
            "moment": pa.array([moment, None], pa.timestamp("ns")),
            "half": pa.array(np.array([1, 2], np.float16)),
            "time": pa.array([1, 2], pa.time64("us")),
            "id": pa.array([bytes(16), bytes(16)], pa.uuid()),
        }
    )
    path = tmp_path / "r.parquet"
    pq.write_table(table, path)
    if spark.version.startswith("3."):
        with pytest.raises(DataError, match=r"'half' is of 16-bit floats, with which Spark 3\.5 c"):
            read_source(spark, SourceOptions(path=str(path)))
        pq.write_table(table.drop(["half"]), path)
    source = read_source(spark, SourceOptions(path=str(path)))
    (words,) = source.words
    assert words.replace("half, ", "").endswith("(float); passed over: moment, time, id")
    wanted = [("u", 7, 3.5), ("v", 8, 4.0)]
    found = typed_ratings(source, need_timestamp=False).orderBy("user")
    assert [tuple(row)[:3] for row in found.collect()] == wanted
    timed = read(spark, path, columns={"timestamp": "moment"})
    rows = typed_ratings(timed, need_timestamp=True).orderBy("user").collect()
    assert rows[0].timestamp == moment.replace(tzinfo=UTC).timestamp()
    assert rows[1].problem == "timestamp is missing"
    with pytest.raises(
        DataError, match=r"the timestamp column 'time' is of type time64\[us\], which"
    ):
        read(spark, path)
    assert read_ids(spark, str(path), "user").ids.to_pylist() == ["u", "v"]
