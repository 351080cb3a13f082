"""Files as people have them: the right ratings come out, or one line says what is wrong."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import ConfigError, DataError, UserError
from als_spark.spark.read.columns import typed_pairs, typed_ratings
from als_spark.spark.read.ids import INVISIBLE
from als_spark.spark.read.sources import Source, SourceOptions, read_source

Row = tuple[str, str, float]


@dataclass(frozen=True)
class Case:
    """Files of a folder, what is read from them, and how many rows of which kind are unusable."""

    files: dict[str, bytes | pa.Table]
    ratings: list[Row]
    bad: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    """Below the folder; the folder itself if empty."""


def write(folder: Path, files: dict[str, bytes | pa.Table]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            pq.write_table(content, path)


def read(spark: SparkSession, path: Path, **options: Any) -> tuple[list[Row], list[str], Source]:
    """The usable ratings with ids as text, in rising order, and what is wrong with the others."""
    source = read_source(spark, SourceOptions(path=str(path), **options))
    return *good_and_bad(typed_ratings(source, need_timestamp=False).collect()), source


def good_and_bad(rows: Sequence[Any]) -> tuple[list[Row], list[str]]:
    good = [(str(row.user), str(row["item"]), row.rating) for row in rows if row.problem is None]
    return sorted(good), sorted(row.problem for row in rows if row.problem is not None)


FIELDS = "more or fewer fields than the first line"
A, B, C = ("1", "101", 3.0), ("9", "101", 1.0), ("2", "102", 4.0)
a_csv = b"user,item,rating\n1,101,3\n"
ids = {"user": [1], "item": [101], "rating": [3.0]}
other = {"rating": [1.0], "note": ["x"], "item": [101], "user": [9]}


def typed(columns: dict[str, list[Any]], **types: pa.DataType) -> pa.Table:
    return pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})


BY_NAME = {
    "another order": Case({"a.csv": a_csv, "b.csv": b"item,user,rating\n101,9,1\n"}, [A, B]),
    "a column more": Case(
        {"a.csv": a_csv, "b.csv": b"user,item,device,rating\n31,101,0,4\n"},
        [A, ("31", "101", 4.0)],
    ),
    "other names and another separator": Case(
        {"a.csv": a_csv, "b.tsv": b"rating\tmovieId\tuserId\n1\t101\t9\n"}, [A, B]
    ),
    "a header in the first file only": Case(
        {"a.csv": b"item,user,rating\n101,1,3\n", "b.csv": b"101,9,1\n102,2,4\n"}, [A, C, B]
    ),
    "a header in the last file only": Case(
        {"a.csv": b"101,9,1\n", "b.csv": b"item,user,rating\n101,1,3\n", "c.csv": b" \n"}, [A, B]
    ),
    "text where others have a header": Case(
        {"a.csv": a_csv, "b.csv": b"jo,matrix,good\njo,up,2\n"},
        [A, ("jo", "up", 2.0)],
        ["rating is not a number"],
    ),
    "a header again": Case(
        {"a.csv": b"user,item,rating\n1,101,3\nuser,item,rating\n9,101,1\n"},
        [A, B],
        ["rating is not a number"],
    ),
    "JSON": Case(
        {
            "a.json": b'{"user": 1, "item": 101, "rating": 3}\n',
            "b.json": b'[{"rating": 1, "movieId": "101", "userId": "9"}]',
            "c.json": b"",
        },
        [A, B],
    ),
    "JSON of several types": Case(
        {
            "a.json": b'{"user": 1, "item": 101, "rating": 3}\n',
            "b.json": b'{"item": "101", "rating": "1", "user": "9", "n": [1]}\n',
        },
        [A, B],
    ),
    "Parquet": Case({"a.parquet": typed(ids), "b.parquet": typed(other)}, [A, B]),
    "Parquet of int and long": Case(
        {
            "a.parquet": typed(ids, user=pa.int32()),
            "b.parquet": typed(other, item=pa.int16(), rating=pa.float32()),
        },
        [A, B],
    ),
    "Parquet of long and string": Case(
        {"a.parquet": typed(ids), "b.parquet": typed({**other, "user": ["9"]})}, [A, B]
    ),
    "Parquet of double and decimal": Case(
        {
            "a.parquet": typed(ids, user=pa.float64()),
            "b.parquet": typed({**other, "rating": [Decimal("1.00")], "user": [Decimal(9)]}),
        },
        [A, B],
    ),
    "csv beside Parquet beside JSON": Case(
        {
            "a.csv": a_csv,
            "b.parquet": typed(other),
            "c.json": b'{"user": 2, "item": 102, "rating": 4}\n',
        },
        [A, C, B],
    ),
}
LENGTHS = {
    "a decimal comma": Case({"a.csv": b"user,item,rating\n1,101,3,5\n9,101,1\n"}, [B], [FIELDS]),
    "a separator in a name": Case(
        {"a.csv": b"user,item,rating\nDoe, Jane,101,4\n9,101,1\n"}, [B], [FIELDS]
    ),
    "short rows": Case(
        {"a.dat": b"1::101::3::7\n9::101::1\n2::102\n2::102::4::9\n"}, [A, C], [FIELDS] * 2
    ),
    "rows of another length behind what is read": Case(
        {"a.csv": b"user,item,rating,title\n1,101,3,x\n9,101,1\n2,102,4,y\n5,5,5,z,z\n"},
        [A, C],
        [FIELDS] * 2,
    ),
    "a separator in a name that is not read": Case(
        {"a.csv": b"name,user,item,rating\nAnn,1,101,3\nDoe, Jane,7,101,4\n"}, [A], [FIELDS]
    ),
    "no header": Case({"a.txt": b"1\t101\t3\n9\t101\t1\t\n"}, [A], [FIELDS]),
}
REVIEW = b'userId,movieId,rating,review\n9,101,1,"nice, see\n9,102,1\nfor why"\n2,102,4,ok\n'
QUOTES = {
    "a line break": Case({"a.csv": REVIEW}, [C, B]),
    "a line that is like a rating": Case(
        {"a.csv": b'userId,movieId,rating,review\n9,101,1,"nice\n9,102,1,x\n"\n2,102,4,ok\n'},
        [C, B],
    ),
    "line breaks of Windows, before the rating": Case(
        {"a.csv": b'u;"user\r\nid";item;rating\r\n"a\r\n""b""\r\n";9;101;1\r\n;2;102;4\r\n'},
        [C, B],
        options={"columns": {"user": "user\nid"}},
    ),
    "of one file among others": Case({"a.csv": REVIEW, "b.csv": a_csv}, [A, C, B]),
    "within a compressed file": Case({"a.csv.gz": gzip.compress(REVIEW)}, [C, B]),
    "quotes that enclose nothing": Case(
        {"a.tsv": b'1\t101\t3\t5" disk\n9\t101\t1\t"x" or y\n2\t102\t4\t12"\n'}, [A, C, B]
    ),
    "no quoting": Case(
        {"a.tsv": b'1\t101\t3\t"Weird Al\n9\t101\t1\t"\n2\t102\t4\t"x" "\n'},
        [A, C, B],
        options={"quoting": "none"},
    ),
    "a quote in an id without quoting": Case(
        {"a.csv": b'"1,101,3\n9,101,1\n'}, [('"1', "101", 3.0), B], options={"quoting": "none"}
    ),
}
JOSE = [("jos\xe8", "102", 4.0), ("jos\xe9", "101", 3.0)]
jose = "user,item,rating\njos\xe9,101,3\njos\xe8,102,4\n"
undecoded = "user has bytes that are not of the encoding read: it seems to be windows-1252"
ENCODINGS = {
    "Latin-1 read as UTF-8": Case({"a.csv": jose.encode("latin-1")}, [], [undecoded] * 2),
    "far behind the beginning": Case(
        {"a.csv": b"user,item,rating\n" + b"1,101,3\n" * 9000 + "jos\xe9,1,1\n".encode("cp1252")},
        [A] * 9000,
        [undecoded.partition(":")[0]],
    ),
    "in a column that is not read": Case(
        {"a.csv": "user,item,rating,title\n1,101,3,Am\xe9lie\n".encode("latin-1")}, [A]
    ),
    "Latin-1": Case({"a.csv": jose.encode("latin-1")}, JOSE, options={"encoding": "iso-8859-1"}),
    "Windows-1252": Case(
        {"a.csv": "user;item;rating\n\u20ac1;\u2019x;2\n".encode("cp1252")},
        [("\u20ac1", "\u2019x", 2.0)],
        options={"encoding": "windows-1252"},
    ),
    "Cyrillic": Case(
        {"a.dat": "\u044f::101::3\n".encode("koi8-r")},
        [("\u044f", "101", 3.0)],
        options={"encoding": "koi8-r"},
    ),
    "UTF-16": Case(
        {"a.csv": jose.replace("\n", "\r\n").encode("utf-16")},
        JOSE,
        options={"encoding": "utf-16"},
    ),
    "UTF-16 without a mark, with quotes": Case(
        {"a.tsv": 'user\titem\trating\n"jos\xe9\n"\t101\t3\njos\xe8\t102\t4\n'.encode("utf-16-le")},
        [("jos\xe8", "102", 4.0), ("jos\xe9\n", "101", 3.0)],
        options={"encoding": "UTF-16LE"},
    ),
    "UTF-8 with a mark": Case({"a.csv": jose.encode("utf-8-sig")}, JOSE),
}
PARTITIONS = {
    "Parquet": Case(
        {
            "user=07/p.parquet": typed({"item": [101], "rating": [3.0]}),
            "user=7/p.parquet": typed({"item": [101], "rating": [1.0]}),
        },
        [("07", "101", 3.0), ("7", "101", 1.0)],
    ),
    "csv": Case(
        {"userId=07/a.csv": b"item,rating\n101,3\n", "userId=7/a.csv": b"rating,item\n1,101\n"},
        [("07", "101", 3.0), ("7", "101", 1.0)],
    ),
    "csv without header": Case(
        {"user=1e3/a.csv": b"101,3\n102,4\n", "user=a%20b/a.csv": b"101,3\n"},
        [("1e3", "101", 3.0), ("1e3", "102", 4.0), ("a b", "101", 3.0)],
    ),
    "JSON by day": Case(
        {
            "day=01/a.json": b'{"user": 1, "item": 101, "rating": 3}\n',
            "day=1/a.json": b'{"user": "9", "item": 101, "rating": 1}\n',
        },
        [A, B],
    ),
}
ONE, NINE = b'{"user": 1, "item": 101, "rating": 3}', b'{"user": 9, "item": 101, "rating": 1}'
JSON = {
    "an array on each line": Case({"a.json": b"[%b]\n[%b]\n" % (ONE, NINE)}, [A, B]),
    "an array, then an object": Case({"a.json": b"[%b]\n%b\n" % (ONE, NINE)}, [A, B]),
    "objects within records": Case(
        {"a.json": ONE[:-1] + b', "tags": [{"a": 1}, {"b": "}{"}]}\n'}, [A]
    ),
}
NAMES = {
    name: Case({name: a_csv, "other1.csv": b"9,101,1\n"}, [A], path=name)
    for name in ("a:b.csv", "other[1].csv", "other{1}.csv", "o*.csv", "a?b\\.csv", "a b%20.csv")
} | {
    "a folder with a colon": Case(
        {"at 12:30/a.csv": a_csv, "at 12:30/b:1.csv": b"item,user,rating\n101,9,1\n"},
        [A, B],
        path="at 12:30",
    ),
    "a pattern": Case({"a1.csv": a_csv, "a2.csv": b"9,101,1\n"}, [A, B], path="a[12].csv"),
}
SPACES = {
    "runs of blanks": Case({"a.txt": b"1  101 3\n 9 101\t 1 \n"}, [A, B]),
    "a header": Case({"a.txt": b"user item   rating\n1  101 3\n9 101   1\n"}, [A, B]),
    "rows of other lengths, and quotes": Case(
        {"a.txt": b"1 101 3\n" * 101 + b'Jane Doe 101 1\n"9" 101 1\n'}, [A] * 101, [FIELDS] * 2
    ),
    "a decimal comma between semicolons": Case(
        {"a.csv": b"user;item;rating\n1;101;3\n2;102;3,5\n"}, [A], ["rating is not a number"]
    ),
}
NO_USER, NO_ITEM = "user is missing: a null word", "item is missing: a null word"
LOST = "is in scientific notation, which may have lost digits"
TOO_LARGE = "user is too large to be an exact number"
IDS = {
    "null words": Case(
        {
            "a.csv": b"user,item,rating\n1,101,3\n\\N,1,3\nNULL,1,3\nnan,1,3\nNaN,1,3\nNone,1,3\n"
            b"N/A,1,3\n ,1,3\n2,null,3\n2,NA,3\n2,102,NULL\n2,102,\\N\n9,101,1\n"
        },
        [A, B],
        [NO_ITEM] * 2
        + ["rating is missing: a null word"] * 2
        + ["user is missing"]
        + [NO_USER] * 6,
    ),
    "null words of JSON and Parquet": Case(
        {
            "a.json": b'{"user": 1, "item": 101, "rating": 3}\n'
            b'{"user": "NULL", "item": 1, "rating": 3}',
            "b.parquet": typed(
                {"user": ["9", "None", None], "item": ["101"] * 3, "rating": ["1"] * 3}
            ),
            "c.parquet": typed({"user": [2.0, math.nan], "item": [102] * 2, "rating": [4.0] * 2}),
        },
        [A, C, B],
        ["user is missing"] * 2 + [NO_USER] * 2,
    ),
    "words that are ids": Case(
        {"a.csv": b"user,item,rating\nNone,NULL,3\n-,101,3\n1,101,-\n1,102,-1\n0,101,1\n"},
        [("None", "NULL", 3.0)],
        [*["rating is missing: a null word"] * 2, NO_USER, NO_USER],
        {"null_words": ["-", "-1", "0"]},
    ),
    "decimals": Case(
        {
            "a.csv": b"1,101,3\n9.0,101.,1\n",
            "b.json": b'{"user": 2.0, "item": "102.00", "rating": 4}',
        },
        [A, C, B],
    ),
    "decimals that are no whole numbers": Case(
        {"a.csv": b"user,item,rating\n1,101,3\n9.5,101,1\n1.000,102,4\n"},
        [A, ("9.5", "101", 1.0), ("1.000", "102", 4.0)],
    ),
    "lost digits": Case(
        {
            "a.csv": b"1234567890001,101,3\n1.23457E+12,101,5\n1,1e+5,4\n1.5E12,101,2\n"
            b"9007199254740993.0,1,1\n",
        },
        [("1234567890001", "101", 3.0)],
        [f"item {LOST}", *[f"user {LOST}"] * 2, TOO_LARGE],
    ),
    "leading zeros": Case(
        {
            "a.csv": b"user,item,rating\n7,101,3\n007,101,4\n",
            "b.parquet": typed({**ids, "user": [7]}),
        },
        [("007", "101", 4.0), ("7", "101", 3.0), ("7", "101", 3.0)],
    ),
    "decimals and doubles of Parquet": Case(
        {
            "a.parquet": typed(
                {
                    "user": [Decimal("1.00"), Decimal("1.50")],
                    "item": [101, 101],
                    "rating": [3.0, 3.0],
                },
                user=pa.decimal128(10, 2),
            ),
            "b.parquet": typed({"user": [9.0, 1.5], "item": ["101.0"] * 2, "rating": [1.0, 1.0]}),
            "c.parquet": typed({"user": [2, 2], "item": ["102", "NULL"], "rating": [4.0, 4.0]}),
        },
        [A, C, B],
        [NO_ITEM, *["user is not a whole number"] * 2],
    ),
    "invisible characters": Case(
        {
            "a.csv": "1,101,3\n\ufeff9,101,1\n9\xa0,101,1\n9,101\u200b,1\n9,101,1\n".encode(),
            "b.json": b'{"user": "2\\t", "item": 102, "rating": 4}',
            "c.parquet": typed({"user": ["2\r", "2"], "item": [102] * 2, "rating": [4.0] * 2}),
        },
        [A, C, B],
        [f"item {INVISIBLE}", *[f"user {INVISIBLE}"] * 4],
    ),
    "floats that may have been the next number": Case(
        {
            "a.json": b'{"user": 9007199254740993, "item": 101, "rating": 3}\n'
            b'{"user": 1.0, "item": 101, "rating": 3}\n',
            "b.parquet": typed(
                {"user": [16777217.0, 16777215.0], "item": [1, 1], "rating": [1.0, 1.0]},
                user=pa.float32(),
            ),
        },
        [A, ("16777215", "1", 1.0)],
        [TOO_LARGE] * 2,
    ),
    "numbers of Java": Case(
        {"a.csv": b"user,item,rating\n1,101,3\n9,101,0x1p3\n9,102,4d\n"},
        [A],
        ["rating is not a number"] * 2,
    ),
}
CASES = {
    f"{kind}: {name}": case
    for kind, cases in {
        "by name": BY_NAME,
        "lengths": LENGTHS,
        "quotes": QUOTES,
        "encodings": ENCODINGS,
        "partitions": PARTITIONS,
        "JSON": JSON,
        "names": NAMES,
        "blanks": SPACES,
        "ids": IDS,
    }.items()
    for name, case in cases.items()
}


@pytest.fixture(scope="module")
def rows(
    request: pytest.FixtureRequest, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Any] | UserError]:
    """What each case is read as, or why it is refused: one job of Spark brings all rows."""
    frames: list[DataFrame] = []
    found: dict[str, list[Any] | UserError] = {}
    asked = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    names = {params.get("name") for params in asked}
    for name, case in CASES.items():
        if name not in names:
            continue
        folder = tmp_path_factory.mktemp("case")
        write(folder, case.files)
        try:
            options = SourceOptions(path=str(folder / case.path), **case.options)
            typed = typed_ratings(read_source(spark, options), need_timestamp=False)
        except UserError as error:
            found[name] = error
            continue
        texts = [F.col(side).cast("string").alias(side) for side in ("user", "item")]
        frames.append(typed.select(F.lit(name).alias("case"), *texts, "rating", "problem"))
        found[name] = []
    for row in reduce(DataFrame.union, frames).collect():
        of_case = found[row.case]
        assert isinstance(of_case, list)
        of_case.append(row)
    return found


@pytest.mark.parametrize(
    "name",
    # One after another they differ in a detail: every third shows the kinds.
    [pytest.param(name, marks=pytest.mark.slow if k % 3 else ()) for k, name in enumerate(CASES)],
)
def test_read_rightly(name: str, rows: dict[str, list[Any] | UserError]) -> None:
    found = rows[name]
    if isinstance(found, UserError):
        raise found
    ratings, bad = good_and_bad(found)
    assert ratings == sorted(CASES[name].ratings)
    assert bad == CASES[name].bad


REFUSED: dict[str, tuple[dict[str, bytes | pa.Table], dict[str, Any], str]] = {
    "headers of other lengths": (
        {"a.csv": a_csv, "b.csv": b"9,101,1,5\n"},
        {},
        r"b\.csv: has 4 fields and no header, the header of .*a\.csv has 3: give the file a header",
    ),
    "a file of something else": (
        {"ratings.csv": a_csv, "movies.csv": b"movieId,title,genres\n101,Up,x\n"},
        {},
        r"movies\.csv: no user column among movieId, title, genres: name it with",
    ),
    "Parquet without a column": (
        {"a.parquet": typed(ids), "b.parquet": typed({"user": [1], "item": [1]})},
        {},
        r"b\.parquet: no rating column among user, item: name it",
    ),
    "an unclosed quote": (
        {"a.csv": b'user,item,rating,review\n1,1,1,ok\n2,2,2,"nice\n3,3,3,x\n4,4,4,y\n'},
        {},
        r"a\.csv: the quote that line 3 opens is not closed: close it, or, .* `quoting=\"none\"`$",
    ),
    "two unclosed quotes": (
        {"a.csv": b'user,item,rating,review\n1,1,1,"nice\n2,2,2,x\n3,3,3,"good\n4,4,4,y\n'},
        {},
        r"a\.csv: the quote that line 2 opens is not closed",
    ),
    "an unclosed quote of a tab file": (
        {"a.tsv": b'user\titem\trating\ttitle\n1\t1\t1\t"Al\n2\t2\t2\t"x"\n3\t3\t3\ty\n'},
        {},
        r"a\.tsv: the quote that line 2 opens is not closed",
    ),
    "an unclosed quote of one of many files": (
        {"a.csv": REVIEW, "b.csv": REVIEW, "c d.csv": REVIEW + b'3,3,3,"'},
        {},
        r"c d\.csv: the quote that line 6 opens is not closed",
    ),
    "UTF-16": (
        {"a.csv": jose.encode("utf-16")},
        {},
        r'a\.csv: is of encoding utf-16: give `encoding="utf-16"`$',
    ),
    "UTF-16 without a mark": (
        {"a.csv": jose.encode("utf-16-be")},
        {},
        r'a\.csv: is of encoding utf-16-be: give `encoding="utf-16-be"`$',
    ),
    "UTF-8 read as UTF-16": (
        {"a.csv": jose.encode()},
        {"encoding": "UTF-16"},
        r'a\.csv: is not of `encoding="utf-16"`: give that which it is of, such as utf-8$',
    ),
    "UTF-16 without the mark that it needs": (
        {"a.csv": jose.encode("utf-16-le")},
        {"encoding": "utf-16"},
        r'is not of `encoding="utf-16"`: .*, such as utf-16-le$',
    ),
    "xz": ({"a.csv.xz": lzma.compress(a_csv)}, {}, r"a\.csv\.xz: is compressed by xz, .*: unpack"),
    "zip": ({"a.zip": b"PK\x03\x04rest"}, {}, r"a\.zip: is a zip archive, .*: unpack it, or save"),
    "7z": ({"a": b"7z\xbc\xaf\x27\x1crest"}, {}, r"a: is a 7z archive, .*: unpack it"),
    "gzip by another name": (
        {"a.csv": gzip.compress(a_csv)},
        {},
        r"a\.csv: is compressed by gzip, .*: let its name end in \.gz",
    ),
    "bytes": ({"a.csv": bytes(range(256))}, {}, r"a\.csv: is no text file: give csv, JSON"),
    "twice compressed": (
        {"a.csv.bz2": bz2.compress(lzma.compress(a_csv))},
        {},
        r"a\.csv\.bz2: is compressed by xz",
    ),
    "not of its name": ({"a.csv.gz": a_csv}, {}, r"cannot be read: .*not a gzip file.*: check the"),
    "an unknown separator": (
        {"a.csv": b"user^item^rating\n1^2^3\n"},
        {},
        r"'user\^item\^rating' has fewer than three fields: its fields seem to stand between '\^'",
    ),
    "a separator that is not shown": (
        {"a.csv": b"1\x012\x013\n4\x015\x016\n"},
        {},
        r"stand between '\\x01': ratings .* with comma, tab, ::, ;, \| or blanks between them$",
    ),
    "two items that are as good": (
        {"a.csv": b"userId,movieId,bookId,rating\n1,2,3,4\n"},
        {},
        r'movieId and bookId may both be the item column: name one with `columns\["item"\]`$',
    ),
    "two users that are as good": (
        {"a.csv": b"userId,user_id,item,rating\n1,2,3,4\n"},
        {},
        r"userId and user_id may both be the user column",
    ),
    "several objects on a line": (
        {"a.json": ONE + b"\n", "b.json": NINE + b"\n" + ONE + NINE + b"\n"},
        {},
        r"b\.json: Spark would pass over '\{\"user\": 9, .* another value of JSON on its line: put",
    ),
    "several arrays over several lines": (
        {"a.json": b"[\n%b\n]\n[\n%b\n]" % (ONE, NINE)},
        {},
        r"a\.json: Spark would pass over '\[.* behind another value of JSON: put all records",
    ),
    "several arrays of a compressed file": (
        {"a.json.gz": gzip.compress(b"[\n%b\n]\n[\n%b\n]" % (ONE, NINE))},
        {},
        r"a\.json\.gz: Spark would pass over '\[",
    ),
    "a name that Spark hides": (
        {"_a.csv": a_csv, "b.csv": a_csv, "_SUCCESS": b"", "_metadata": b"", ".b.csv.crc": b"x"},
        {},
        r"/_a\.csv: Spark passes over names that begin with _: rename it",
    ),
    "a folder below": (
        {"2020/a.csv": a_csv, "b.csv": a_csv},
        {},
        r"2020/a\.csv: Spark passes over this file, .* such as .*/\*$",
    ),
    "folders below alone": ({"2020/a.csv": a_csv}, {}, r"2020/a\.csv: Spark passes over this file"),
    "a file beside folders as columns": (
        {"day=1/a.csv": a_csv, "b.csv": a_csv},
        {},
        r"/b\.csv: Spark passes over this file",
    ),
    "a column of the file and of folders": (
        {"user=7/a.csv": a_csv},
        {},
        r"user=7/a\.csv: the column 'user' is in the file, and in the name of a folder: rename",
    ),
    "a column of Parquet and of folders": (
        {"User=7/a.parquet": typed(ids)},
        {},
        r"a\.parquet: the column 'user' is in the file, and in the name of a folder",
    ),
    "Parquet of no bytes": (
        {"a.parquet": b"", "b.parquet": typed(ids)},
        {},
        r"/a\.parquet: has no bytes, .*: write it anew, or remove it$",
    ),
    "no header, and moments as items": (
        {"a.dat": b"1,2014-04-07T10:51:09.277Z,214536502,0\n"},
        {},
        r"a\.dat: has no header, .* user, item, rating, timestamp; but the items are moments, such",
    ),
    "quotes behind backslashes": (
        {"a.csv": b'user,title,item,rating\n9,ok,101,1\n1,"a \\"b\\", 5, 3",101,4\n'},
        {},
        r"a\.csv: line 3 has quotes behind backslashes, as Spark writes them: write them doubled",
    ),
    "JSON of another encoding": (
        {"a.json": b'{"user": 1, "item": 2, "rating": 3}'},
        {"encoding": "latin-1"},
        r'`encoding="latin-1"` is for text files: JSON is UTF-8: convert',
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name: str, spark: SparkSession, tmp_path: Path) -> None:
    files, options, message = REFUSED[name]
    write(tmp_path, files)
    with pytest.raises(DataError, match=message) as info:
        read(spark, tmp_path, **options)
    assert str(info.value).isprintable()


@pytest.mark.parametrize("encoding", ["klingon", "shift_jis", "utf-32", "rot13", "utf-7"])
def test_encodings_that_are_not_read(encoding: str, spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": a_csv})
    with pytest.raises(ConfigError, match=rf'^`encoding="{encoding}"`: not usable: use utf-8, '):
        read(spark, tmp_path, encoding=encoding)


def test_a_hidden_file_that_is_given(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, {"_a.csv": a_csv, "b.csv": a_csv})
    with pytest.raises(DataError, match=r"/_a\.csv: .* begin with _ or \.: rename it, such as a\."):
        read(spark, tmp_path / "_a.csv")
    # The others of the folder are not asked for.
    assert read(spark, tmp_path / "b.csv")[0] == [A]


def test_names_that_mean_something_to_hadoop(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"a:b.csv": a_csv})
    assert read(spark, Path("a:b.csv"))[0] == [A]
    with pytest.raises(DataError, match=r"cannot be read: .*; what stands before a colon is taken"):
        read(spark, Path("c:d.csv"))
    with pytest.raises(DataError, match=r"\].csv: cannot be read: .*; \* \? \[ \] .* a pattern"):
        read(spark, tmp_path / "x[1].csv")


def test_ids_win_over_names_and_the_choice_is_told(spark: SparkSession, tmp_path: Path) -> None:
    names = b"user,userId,movie,movieId,title,rating\nJane,7,Up,3,t,4\n"
    write(tmp_path, {"a.csv": names, "b.csv": b"userId\tmovieId\trating\n8\t3\t5\n"})
    ratings, _, source = read(spark, tmp_path)
    assert ratings == [("7", "3", 4.0), ("8", "3", 5.0)]
    first, second = source.words
    assert first.startswith(f"{tmp_path}/a.csv: text, comma between the fields, a header: user = ")
    assert first.endswith(
        "user = userId, item = movieId, rating = rating; passed over: user, movie, title"
    )
    assert second.endswith("a header: user = userId, item = movieId, rating = rating")


def test_a_line_of_another_length_is_shown_as_it_is(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": b"user,item,rating\n1,101,3,5\n"})
    source = read_source(spark, SourceOptions(path=str(tmp_path)))
    (row,) = typed_ratings(source, need_timestamp=False).collect()
    assert (row.problem, row.raw) == (FIELDS, "1,101,3,5, in a.csv")


def test_pairs_have_as_many_fields_as_the_header(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": b"user,item\n1,a\nDoe, Jane,b\nuser,item\n2,b\n", "b.csv": b"3,c\n"})
    source = read_source(spark, SourceOptions(path=str(tmp_path), need_rating=False))
    rows = typed_pairs(source).collect()
    assert sorted((row.user, row["item"]) for row in rows if row.problem is None) == [
        ("1", "a"),
        ("2", "b"),
        ("3", "c"),
    ]
    assert sorted(row.problem for row in rows if row.problem) == [FIELDS, "the header again"]
