"""What ``jobs/sweep.py`` says to bad input: one line, exit code 2, and nothing left behind."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs.sweep import main
from tests.conftest import random_triples

TINY = ("--ranks", "2", "--lambdas", "1", "--max-iter", "2")
HEADER = "user,item,rating,timestamp"
TRIPLES = random_triples(12, 8, 60)
LINES = tuple(
    f"{user},{item},{rating},{1000 + k}"
    for k, (user, item, rating) in enumerate(
        zip(*(column.tolist() for column in TRIPLES[:3]), strict=True)
    )
)
MEND = r": mend the data, or set these rows aside with --bad-rows drop$"
LOG_LINE = re.compile(r"\d\d:\d\d:\d\d ")


class Desk:
    """A folder in which a case puts its files; its methods return options."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def file(self, name: str, content: str | bytes) -> str:
        data = content.encode() if isinstance(content, str) else content
        (self.folder / name).write_bytes(data)
        return self.path(name)

    def ratings(self, *extra: str, header: str = HEADER, lines: Sequence[str] = LINES) -> list[str]:
        """Good ratings, with some lines more."""
        return self.raw("ratings.csv", "\n".join([header, *lines, *extra]) + "\n")

    def raw(self, name: str, content: str | bytes) -> list[str]:
        return ["--ratings", self.file(name, content)]

    def without_time(self, *extra: str) -> list[str]:
        lines = [line.rsplit(",", 1)[0] for line in LINES]
        return self.ratings(*extra, header="user,item,rating", lines=lines)

    def parquet(self, **columns: pa.Array) -> list[str]:
        """Good ratings, with some columns replaced."""
        usual = {
            "user": pa.array(TRIPLES.users),
            "item": pa.array(TRIPLES.items),
            "rating": pa.array(TRIPLES.ratings),
        }
        pq.write_table(pa.table({**usual, **columns}), self.path("ratings.parquet"))
        return ["--ratings", self.path("ratings.parquet")]

    def test(self, *lines: str, header: str = "user,item,rating") -> list[str]:
        return ["--test", self.file("test.csv", "\n".join([header, *lines]) + "\n")]

    def config(self, text: str) -> list[str]:
        return [*self.ratings(), "--config", self.file("sweep.toml", text)]


@dataclass(frozen=True)
class Case:
    """A kind of bad input: the options that lead to it, and what must be said."""

    name: str
    options: Callable[[Desk], list[str]]
    says: str


def bad_row(name: str, line: str, says: str, *options: str) -> Case:
    return Case(
        f"row with {name}",
        lambda desk: [*desk.ratings(line), *options],
        rf"ratings\.csv: 1 unusable row: {says}, in ratings\.csv\)" + MEND,
    )


def bad_option(options: str, says: str) -> Case:
    return Case(options, lambda desk: [*desk.ratings(), *options.split()], f"^sweep: {says}$")


def bad_config(name: str, text: str, says: str) -> Case:
    return Case(f"config with {name}", lambda desk: desk.config(text), says)


def not_a_choice(option: str, value: str, choices: str) -> Case:
    listed = ", ".join(choices.split())
    return bad_option(f"{option} {value}", f"{option} {value}: not usable: use one of {listed}")


def empty_folder(desk: Desk) -> list[str]:
    (desk.folder / "ratings").mkdir()
    return ["--ratings", desk.path("ratings")]


def broken_page(desk: Desk) -> list[str]:
    """A Parquet file whose end, which is read first, is whole, but not its data."""
    options = desk.parquet()
    path = Path(options[1])
    data = bytearray(path.read_bytes())
    data[10:400] = b"\xff" * 390
    path.write_bytes(data)
    return options


def two_types(desk: Desk) -> list[str]:
    """A folder of Parquet files that do not agree."""
    (desk.folder / "parts").mkdir()
    for name, ids in (("a", ["x", "y"]), ("b", [1.5, 2.5])):
        table = pa.table({"user": ids, "item": [1, 2], "rating": [1.0, 2.0]})
        pq.write_table(table, desk.folder / "parts" / f"{name}.parquet")
    return ["--ratings", desk.path("parts")]


def foreign_output(desk: Desk) -> list[str]:
    (desk.folder / "mine").mkdir()
    desk.file("mine/thesis.txt", "years of work")
    return [*desk.ratings(), "--output", desk.path("mine")]


def earlier_output(desk: Desk) -> list[str]:
    (desk.folder / "mine").mkdir()
    desk.file("mine/run.json", '{"points": {}, "selected_on": "test"}')
    desk.file("mine/results.json", "[]")
    return [*desk.ratings("7,7,seven,7"), "--output", desk.path("mine")]


def singular(desk: Desk) -> list[str]:
    """Nora has rated nothing but rubbish, whose factors become zero: without a ridge, 0 u = 0."""
    lines = ["ann,matrix,4", "ann,rubbish,0", "bob,matrix,3", "bob,rubbish,0", "nora,rubbish,0"]
    return [
        *desk.ratings(header="user,item,rating", lines=lines),
        *desk.test("ann,alien,4", "nora,matrix,2"),
        *("--ranks", "1", "--lambdas", "0", "--max-iter", "3", "--dtype", "float64"),
    ]


ALL_COLD = ("99,3,3.5", "98,4,2.5")

SOURCES = [
    Case(
        "missing file",
        lambda desk: ["--ratings", desk.path("nowhere.csv")],
        r"nowhere\.csv: cannot be read: Path does not exist: file:.*nowhere\.csv: "
        r"check the path and --format$",
    ),
    Case(
        "pattern that nothing matches",
        lambda desk: ["--ratings", desk.path("*.csv")],
        r"\*\.csv: cannot be read: Path does not exist: .*: check the path and --format; "
        r"\* \? .* make a pattern of it, unless a file has that very name$",
    ),
    Case("empty folder", empty_folder, r"/ratings: no files there: give a file or a folder"),
    Case(
        "empty file",
        lambda desk: desk.raw("ratings.csv", ""),
        r"ratings\.csv: the file is empty: give a file with ratings$",
    ),
    Case(
        "blank lines",
        lambda desk: desk.raw("ratings.csv", "\n \n\n"),
        r"ratings\.csv: the file is empty: give a file with ratings$",
    ),
    Case(
        "header only",
        lambda desk: desk.raw("ratings.csv", f"{HEADER}\n"),
        r"ratings\.csv: no ratings: give a source with ratings$",
    ),
    Case(
        "prose",
        lambda desk: desk.raw("ratings.csv", "Dear reader\nthese are no ratings\n"),
        r"ratings\.csv: the first line 'Dear reader' has fewer than three fields: ratings need a "
        r"user, an item and a rating on each line, with comma, tab, ::, ;, \| or blanks between "
        r"them$",
    ),
    Case(
        "Parquet read as csv",
        lambda desk: [*desk.parquet(), "--format", "csv"],
        r"ratings\.parquet: is Parquet, which cannot be read as it is: leave --format out$",
    ),
    Case(
        "csv read as Parquet",
        lambda desk: [*desk.ratings(), "--format", "parquet"],
        r"ratings\.csv: cannot be read: .*ratings\.csv.*Parquet.*: check the path and --format$",
    ),
    Case(
        "corrupt Parquet footer",
        lambda desk: desk.raw("ratings.parquet", b"PAR1 rubbish rubbish PAR1"),
        r"ratings\.parquet: cannot be read: .*footer.*: check the path and --format$",
    ),
    Case(
        "corrupt Parquet page",
        broken_page,
        r"ratings\.parquet: cannot be read: Encountered error while reading file "
        r"file:\S*ratings\.parquet \(.*\): mend or replace the file$",
    ),
    Case(
        "Parquet files of two types",
        two_types,
        r"/parts: 2 unusable rows: user is not a whole number \(2 rows, such as user=1\.5, .*, in "
        r"b\.parquet\)" + MEND,
    ),
    Case(
        "truncated gzip",
        lambda desk: desk.raw(
            "ratings.csv.gz", gzip.compress("\n".join([HEADER, *LINES]).encode())[:200]
        ),
        # Spark 3.5 does not name the file again.
        r"ratings\.csv\.gz: cannot be read: (.*ratings\.csv\.gz \()?Unexpected end of input "
        r"stream\)?: (mend or replace the file|check the path and --format)$",
    ),
    Case(
        "not gzip",
        lambda desk: desk.raw("ratings.csv.gz", "user,item,rating\n"),
        r"ratings\.csv\.gz: cannot be read: .* \(not a gzip file\): check the path and --format$",
    ),
    Case(
        "not JSON",
        lambda desk: desk.raw("ratings.json", "hello\nworld\n"),
        r"ratings\.json: not JSON: each line must be an object such as \{\"user\": 1, ",
    ),
    Case(
        "JSON array cut off",
        lambda desk: desk.raw("ratings.json", '[{"user": 1, "item": 2, "rating": 3},\n'),
        r"ratings\.json: not JSON: ",
    ),
    Case(
        "csv read as JSON",
        lambda desk: [*desk.ratings(), "--format", "json"],
        r"ratings\.csv: not JSON: ",
    ),
    Case(
        "unknown file system",
        lambda desk: ["--ratings", "lake://ratings"],
        r'^sweep: lake://ratings: cannot be read: No FileSystem for scheme "lake": check the path',
    ),
    Case(
        "file system without its classes",
        lambda desk: ["--ratings", "s3a://bucket/ratings"],
        r"^sweep: s3a://bucket/ratings: cannot be read: .*S3AFileSystem not found: check the path",
    ),
    Case(
        "table not there",
        lambda desk: ["--table", "lake.ratings"],
        r"^sweep: table lake\.ratings: cannot be read: The table or view `lake`\.`ratings` cannot "
        r"be found.*: check the name of the table$",
    ),
    Case(
        "table with no name for one",
        lambda desk: ["--table", "my ratings"],
        r"^sweep: table my ratings: cannot be read: Syntax error .*: check the name of the table$",
    ),
    Case(
        "ratings and table",
        lambda desk: [*desk.ratings(), "--table", "lake.ratings"],
        r"^sweep: --ratings and --table are both given: give one source of ratings$",
    ),
]

COLUMNS = [
    *(
        Case(
            f"no {role} column",
            lambda desk, role=role: desk.ratings(header=HEADER.replace(role, "other")),
            rf"ratings\.csv: no {role} column among (?=.*\bother\b).*: name it with --{role}-col$",
        )
        for role in ("user", "item", "rating")
    ),
    *(
        Case(
            f"given {role} column not there",
            lambda desk, role=role: [*desk.ratings(), f"--{role}-col", "reader"],
            rf"ratings\.csv: no column 'reader' \(--{role}-col\): the columns are user, item, "
            r"rating, timestamp$",
        )
        for role in ("user", "item", "rating", "timestamp")
    ),
    Case(
        "two roles of one column",
        lambda desk: [*desk.ratings(), "--user-col", "item"],
        r"ratings\.csv: one column has two roles \(user = item, item = item, .*\): name the "
        r"columns with --user-col, --item-col, --rating-col$",
    ),
    *(
        Case(
            f"rating column of type {name}",
            lambda desk, value=value: desk.parquet(rating=pa.array([value] * 60)),
            rf"ratings\.parquet: the rating column 'rating' is of type {name}: numbers are "
            r"needed; choose another with --rating-col$",
        )
        for name, value in (("array<double>", [1.0]), ("boolean", True))
    ),
    Case(
        "user column of type boolean",
        lambda desk: desk.parquet(user=pa.array([True] * 60)),
        r"ratings\.parquet: the user column 'user' is of type boolean: whole numbers or text are "
        r"needed; choose another with --user-col$",
    ),
    Case(
        "timestamp column of type boolean",
        lambda desk: [*desk.parquet(timestamp=pa.array([True] * 60)), "--split", "time"],
        r"ratings\.parquet: the timestamp column 'timestamp' is of type boolean: numbers, dates or "
        r"timestamps are needed; choose another with --timestamp-col$",
    ),
    *(
        Case(
            f"no timestamp column for {options}",
            lambda desk, options=options: [*desk.without_time(), *options.split()],
            r"ratings\.csv: no timestamp column among user, item, rating: "
            r"name it with --timestamp-col$",
        )
        for options in ("--split time", "--duplicates last")
    ),
]

ROWS = [
    bad_row("null user", ",1,3,1", r"user is missing \(1 row, such as user=null, item=1, .*"),
    bad_row("null item", "1,,3,1", r"item is missing \(1 row, such as user=1, item=null, .*"),
    bad_row("null rating", "1,1,,1", r"rating is missing \(1 row, .*item=1, rating=null.*"),
    bad_row("blank id", '"  ",1,3,1', r"user is missing \(1 row, .*"),
    Case(
        "row with NaN",
        lambda desk: desk.ratings("1,1,NaN,1"),
        r"ratings\.csv: 1 unusable row: rating is missing: a null word \(1 row, .*rating=NaN.*, in "
        rf"ratings\.csv\){MEND.rstrip('$')}; --null-words says which words stand for nothing$",
    ),
    bad_row("infinity", "1,1,-inf,1", r"rating is infinite \(1 row, .*rating=-inf.*"),
    bad_row("overflow", "1,1,1e999,1", r"rating is infinite \(1 row, .*rating=1e999.*"),
    bad_row("text", "1,1,good,1", r"rating is not a number \(1 row, .*rating=good, timestamp=1"),
    bad_row("Java's number", "1,1,5d,1", r"rating is not a number \(1 row, .*rating=5d.*"),
    bad_row(
        "too few fields",
        "1,1",
        r"more or fewer fields than the first line \(1 row, such as 1,1",
    ),
    bad_row(
        "a decimal comma",
        "1,1,3,5,1",
        r"more or fewer fields than the first line \(1 row, such as 1,1,3,5,1",
    ),
    bad_row(
        "unreadable timestamp",
        "1,77,3,yesterday",
        r"timestamp is unreadable \(1 row, .*timestamp=yesterday",
        *("--split", "time"),
    ),
    bad_row(
        "endless timestamp",
        "1,77,3,inf",
        r"timestamp is unreadable \(1 row, .*timestamp=inf",
        *("--split", "time"),
    ),
    bad_row(
        "no timestamp",
        "1,77,3,",
        r"timestamp is missing \(1 row, .*timestamp=null",
        *("--duplicates", "last"),
    ),
    Case(
        "bad rows of several kinds",
        lambda desk: desk.ratings("1,1,a,1", "1,2,b,1", "1,3,c,1", "1,4,d,1", ",5,1,1"),
        r"ratings\.csv: 5 unusable rows: rating is not a number \(4 rows, such as "
        r"user=1, item=1, rating=a, timestamp=1, in ratings\.csv \| [^|]*rating=b[^|]* \| "
        r"[^|]*rating=c[^|]*\); user is missing \(1 row, [^|]*\)" + MEND,
    ),
    Case(
        "bad row of great length",
        lambda desk: desk.ratings(f"1,1,{'x' * 5000},1"),
        r"^.{,500}ratings\.csv: 1 unusable row: rating is not a number \(1 row, such as "
        r"user=1, item=1, rating=x+ \.\.\. x+, timestamp=1, in ratings\.csv\)" + MEND,
    ),
    Case(
        "fractional ids",
        lambda desk: desk.parquet(user=pa.array(TRIPLES.users + 0.5)),
        r"ratings\.parquet: 60 unusable rows: user is not a whole number \(60 rows, such as "
        r"user=\d+\.5, item=\d+, rating=.*\)" + MEND,
    ),
    Case(
        "float ids with a gap",
        lambda desk: desk.parquet(item=pa.array([float("nan"), *[7.0] * 59])),
        r"ratings\.parquet: 1 unusable row: item is missing \(1 row, such as "
        r"user=\d+, item=NaN, .*\)" + MEND,
    ),
    Case(
        "float ids past all exactness",
        lambda desk: desk.parquet(item=pa.array([1e300, *[7.0] * 59])),
        r"ratings\.parquet: 1 unusable row: item is too large to be an exact number \(1 row, such "
        r"as user=\d+, item=1\.0E300, .*\)" + MEND,
    ),
    Case(
        "a rating of another world",
        lambda desk: desk.ratings("1,99,1e30,5", "1,98,-1e300,5"),
        r"ratings\.csv: 2 unusable rows: rating is beyond ±1e\+18 \(2 rows, such as user=1, "
        r"item=9\d, rating=-?1e30+, .* in ratings\.csv\)" + MEND,
    ),
    Case(
        "a line that is no JSON",
        lambda desk: desk.raw("ratings.json", '{"user": 1, "item": 2, "rating": 3}\nx\n'),
        r"ratings\.json: 1 unusable row: unreadable line \(1 row, .* in ratings\.json\)" + MEND,
    ),
]

RATINGS = [
    Case(
        "single user",
        lambda desk: desk.ratings(lines=[f"7,{item},{item},1" for item in range(9)]),
        r"ratings\.csv: all ratings are of one user \(7\): a factorisation needs at least two; "
        r"check --user-col$",
    ),
    Case(
        "single item",
        lambda desk: desk.ratings(lines=[f"{user},seven,{user},1" for user in range(9)]),
        r"ratings\.csv: all ratings are of one item \(seven\): a factorisation needs at least "
        r"two; check --item-col$",
    ),
    Case(
        "a ridge that is not finite",
        lambda desk: [*desk.ratings(), "--lambdas", "1e308", "--exponent", "4"],
        r"sweep: lambda 1e\+308 with exponent 4: lambda · n\^exponent of a row of \d+ ratings is "
        r"beyond 1e\+150: use a smaller one$",
    ),
    Case(
        "a ridge that is not finite, in the grid's own tasks",
        lambda desk: [
            *(*desk.ratings(), "--lambdas", "1e308", "--exponent", "4"),
            *("--placement", "grid"),
        ],
        r"sweep: lambda 1e\+308 with exponent 4: ",
    ),
    Case(
        "constant rating",
        lambda desk: desk.ratings(lines=[f"{user},{user % 3},3.5,1" for user in range(9)]),
        r"ratings\.csv: every rating is 3\.5: there is nothing to learn; check --rating-col$",
    ),
    *(
        Case(
            f"duplicates, {placement}",
            lambda desk, placement=placement: [
                *desk.ratings(LINES[0], LINES[1]),
                *("--placement", placement),
            ],
            r"ratings\.csv: 2 \(user, item\) pairs are rated more than once, such as "
            r"user \d+ item \d+, user \d+ item \d+: choose with --duplicates mean or "
            r"--duplicates last$",
        )
        for placement in ("ratings", "grid")
    ),
    Case(
        "nothing left after dropping",
        lambda desk: [*desk.ratings(lines=["1,2,x,1", "2,3,y,1"]), "--bad-rows", "drop"],
        r"ratings\.csv: no ratings left after the unusable rows were dropped: "
        r"give a source with ratings$",
    ),
    *(
        Case(
            f"empty test part, {placement}",
            lambda desk, placement=placement: [
                *desk.ratings(),
                *("--test-fraction", "1e-9", "--placement", placement),
            ],
            r"ratings\.csv: no rating fell into the test part, so no point can be called best: "
            r"use a larger --test-fraction$",
        )
        for placement in ("ratings", "grid")
    ),
    Case(
        "empty validation part",
        lambda desk: [*desk.ratings(), "--validation-fraction", "1e-9"],
        r"ratings\.csv: no rating fell into the validation part, so no point can be called best: "
        r"use a larger --validation-fraction$",
    ),
    *(
        Case(
            f"empty train part, {placement}",
            lambda desk, placement=placement: [
                *desk.ratings(),
                *("--test-fraction", "0.999999", "--placement", placement),
            ],
            r"ratings\.csv: no rating is left to train on after the split: "
            r"hold out a smaller share$",
        )
        for placement in ("ratings", "grid")
    ),
    *(
        Case(
            f"singular system, {placement}",
            lambda desk, placement=placement: [*singular(desk), "--placement", placement],
            r"^sweep: the ridge system of user nora has no finite solution at lambda=0: "
            r"use a larger lambda$",
        )
        for placement in ("ratings", "grid")
    ),
]

TEST_SOURCES = [
    Case(
        "test source not there",
        lambda desk: [*desk.ratings(), "--test", desk.path("nowhere.csv")],
        r"nowhere\.csv: cannot be read: Path does not exist: .*: check the path and --format$",
    ),
    Case(
        "test source without ratings column",
        lambda desk: [*desk.ratings(), *desk.test("1,2,3", header="user,item,weather")],
        r"test\.csv: no rating column among user, item, weather: name it with --rating-col$",
    ),
    Case(
        "test source without timestamps",
        lambda desk: [*desk.ratings(), *desk.test("1,99,3"), "--duplicates", "last"],
        r"test\.csv: no timestamp column among user, item, rating: name it with --timestamp-col$",
    ),
    Case(
        "bad row in the test source",
        lambda desk: [*desk.ratings(), *desk.test("1,2,x")],
        r"ratings\.csv \+ .*test\.csv: 1 unusable row: rating is not a number \(1 row, such as "
        r"user=1, item=2, rating=x, in test\.csv\)" + MEND,
    ),
    Case(
        "empty test source",
        lambda desk: [*desk.ratings(), *desk.test()],
        r"test\.csv: no ratings to test on: give others with --test$",
    ),
    Case(
        "a pair in train and test",
        lambda desk: [*desk.ratings(), *desk.test(LINES[0].rsplit(",", 1)[0])],
        r"ratings\.csv \+ .*test\.csv: 1 \(user, item\) pairs? (is|are) rated more than once, "
        rf"such as user {TRIPLES.users[0]} item {TRIPLES.items[0]}: choose with --duplicates",
    ),
    *(
        Case(
            f"all test ratings cold, {placement}",
            lambda desk, placement=placement: [
                *(*desk.ratings(), *desk.test(*ALL_COLD)),
                *("--cold-start", "drop", "--placement", placement),
            ],
            r"^sweep: none of the test ratings can be predicted: all are of users or items "
            r"without training ratings: use --cold-start mean, or hold out a smaller share$",
        )
        for placement in ("ratings", "grid")
    ),
]

OUTPUTS = [
    Case(
        "output is a file",
        lambda desk: [*desk.ratings(), "--output", desk.file("mine", "x")],
        r"^sweep: --output \S*/mine: this is a file: give a folder$",
    ),
    Case(
        "output below a file",
        lambda desk: [*desk.ratings(), "--output", desk.file("mine", "x") + "/below/it"],
        r"^sweep: --output \S*/mine/below/it: \S*/mine is a file: give another folder$",
    ),
    Case(
        "output holds something else",
        foreign_output,
        r"^sweep: --output \S*/mine: the folder is not empty and holds '\S+', which no "
        r"earlier sweep has written: give an empty or a new folder, or move what is yours out of "
        r"this one$",
    ),
    Case(
        "output where nobody may write",
        lambda desk: [*desk.ratings(), "--output", "/proc/als_spark/mine"],
        r"^sweep: --output /proc/als_spark/mine: "
        r"\S+ is not writable \(.+\): give another folder$",
    ),
    Case(
        "output of too long a name",
        lambda desk: [*desk.ratings(), "--output", desk.path("x" * 300)],
        r"^sweep: --output \S*/x+: cannot be written \(File name too long\): give another folder$",
    ),
    Case(
        "output on an unknown file system",
        lambda desk: [*desk.ratings(), "--output", "lake://mine"],
        r"^sweep: --output lake://mine: its file system does not answer "
        r"\(No FileSystem for scheme \"lake\"\): check the address$",
    ),
    Case(
        "output on a host that is not there",
        lambda desk: [*desk.ratings(), "--output", "hdfs://nowhere.invalid/mine"],
        r"^sweep: --output hdfs://nowhere\.invalid/mine: its file system does not answer "
        r"\(.*nowhere\.invalid\): check the address$",
    ),
    Case(
        "bad ratings for an earlier output",
        earlier_output,
        r"ratings\.csv: 1 unusable row: rating is not a number \(1 row, .*" + MEND,
    ),
]

OPTIONS = [
    bad_option("--colour blue", r"unrecognized arguments: --colour blue: see --help"),
    bad_option("--rank 2", r"unrecognized arguments: --rank 2: see --help"),
    bad_option("stray", r"unrecognized arguments: stray: see --help"),
    bad_option("--ranks", r"argument --ranks: expected one argument: see --help"),
    bad_option("--ranks 0", r"--ranks 0: not usable: use whole numbers from 1 to 10000"),
    bad_option("--ranks five", r"--ranks five: not usable: use whole numbers from 1 to 10000"),
    bad_option("--ranks 2.5", r"--ranks 2\.5: not usable: use whole numbers from 1 to 10000"),
    bad_option("--ranks ,", r"--ranks is empty: give at least one, such as 5"),
    bad_option("--ranks 2,2", r"--ranks 2,2: not usable: name each value once"),
    bad_option(
        "--lambdas -1", r"--lambdas -1\.0: not usable: use finite numbers of at least 0, .*"
    ),
    bad_option("--lambdas nan", r"--lambdas nan: not usable: use finite numbers of at least 0, .*"),
    bad_option("--lambdas inf", r"--lambdas inf: not usable: use finite numbers of at least 0, .*"),
    bad_option("--lambdas big", r"--lambdas big: not usable: use finite numbers of at least 0, .*"),
    bad_option("--lambdas ,", r"--lambdas is empty: give at least one, such as 5"),
    bad_option(
        "--tol -1", r"--tol -1\.0: not usable: use a finite number of at least 0, such as 0\.001"
    ),
    bad_option(
        "--tol nan", r"--tol nan: not usable: use a finite number of at least 0, such as 0\.001"
    ),
    bad_option("--max-iter 0", r"--max-iter 0: not usable: use a whole number of at least 1"),
    bad_option("--max-iter 1.5", r"--max-iter 1\.5: not usable: use a whole number of at least 1"),
    bad_option(
        "--seed -1", r"--seed -1: not usable: use a whole number from 0 to 9223372036854775807"
    ),
    bad_option("--seed 9223372036854775808", r"--seed 9223372036854775808: not usable: .*"),
    bad_option(
        "--test-fraction 1", r"--test-fraction 1\.0: not usable: use a number in \[0, 1\).*"
    ),
    bad_option("--test-fraction nan", r"--test-fraction nan: not usable: use a number in .*"),
    bad_option("--validation-fraction -0.1", r"--validation-fraction -0\.1: not usable: use a .*"),
    bad_option(
        "--test-fraction 0.5 --validation-fraction 0.5",
        r"--test-fraction 0\.5 and --validation-fraction 0\.5 leave nothing to train on: "
        r"let them add up to less than 1",
    ),
    bad_option(
        "--test-fraction 0",
        r"--test-fraction 0 and --validation-fraction 0 leave nothing to choose the best point "
        r"by: hold out a share of the ratings, or give --test PATH",
    ),
    bad_option("--exponent 9", r"--exponent 9\.0: not usable: use a number from 0 .* to 4; .*"),
    bad_option("--exponent -1", r"--exponent -1\.0: not usable: use a number from 0 .* to 4; .*"),
    bad_option(
        "--partitions 0", r"--partitions 0: not usable: use a whole number from 1 to 100000"
    ),
    bad_option(
        "--partitions x", r"--partitions x: not usable: use a whole number from 1 to 100000"
    ),
    not_a_choice("--dtype", "float16", "float32 float64"),
    not_a_choice("--placement", "x", "auto ratings grid"),
    not_a_choice("--split", "x", "random time"),
    not_a_choice("--format", "xml", "auto csv movielens parquet json delta"),
    not_a_choice("--bad-rows", "x", "error drop"),
    not_a_choice("--duplicates", "x", "error mean last"),
    not_a_choice("--cold-start", "x", "mean drop initial prior"),
    *(
        Case(
            f"{option} of nothing",
            lambda desk, option=option: [*desk.ratings(), option, ""],
            rf"^sweep: {option} is empty: give a value, or leave it out$",
        )
        for option in ("--table", "--test", "--user-col", "--timestamp-col")
    ),
    Case(
        "output of nothing",
        lambda desk: [*desk.ratings(), "--output", ""],
        r"^sweep: --output is missing: give a folder for the results$",
    ),
]

CONFIGS = [
    Case(
        "config not there",
        lambda desk: [*desk.ratings(), "--config", desk.path("nowhere.toml")],
        r"^sweep: --config \S*/nowhere\.toml: cannot be read \(No such file or directory\): "
        r"give the path of a TOML file$",
    ),
    Case(
        "config is a folder",
        lambda desk: [*desk.ratings(), "--config", str(desk.folder)],
        r"^sweep: --config \S+: cannot be read \(Is a directory\): give the path of a TOML file$",
    ),
    bad_config("no TOML", "ranks = [", r"^sweep: \S*/sweep\.toml: not valid TOML: \S+"),
    bad_config(
        "an unknown key",
        "rankz = [1]",
        r"^sweep: \S*/sweep\.toml: unknown key 'rankz': the keys are ratings, table, .*, output$",
    ),
    bad_config("a table", "[sweep]\nranks = [1]", r"^sweep: \S*/sweep\.toml: unknown key 'sweep'"),
    bad_config(
        "one key in two spellings",
        "max-iter = 1\nmax_iter = 2",
        r"^sweep: \S*/sweep\.toml: 'max_iter' is there twice, with - and _: keep one of them$",
    ),
    *(
        bad_config(
            f"the wrong type: {text}",
            text,
            rf"^sweep: \S*/sweep\.toml: {re.escape(shown)}: not usable: use {wanted}",
        )
        for text, shown, wanted in (
            ('ranks = "5"', "ranks = '5'", "whole numbers from 1"),
            ("max_iter = 2.5", "max_iter = 2.5", "a whole number"),
            ("seed = true", "seed = True", "a whole number"),
            ('lambdas = ["x"]', "lambdas = 'x'", "finite numbers"),
            ("dtype = 32", "dtype = 32", "one of float32, float64$"),
            ("output = 3", "output = 3", "text in quotes"),
        )
    ),
    bad_config(
        "an unusable value",
        'dtype = "float16"',
        r"^sweep: \S*/sweep\.toml: dtype = 'float16': not usable: use one of float32, float64$",
    ),
]

CASES = [*SOURCES, *COLUMNS, *ROWS, *RATINGS, *TEST_SOURCES, *OUTPUTS, *OPTIONS, *CONFIGS]


SLOW = {
    # The rules are those of tests/spark/read/test_columns.py; CI shows how the job tells of others.
    *(f"row with {name}" for name in ("null item", "null rating", "blank id", "infinity")),
    *(f"row with {name}" for name in ("overflow", "text", "Java's number", "a decimal comma")),
    *(f"row with {name}" for name in ("unreadable timestamp", "endless timestamp", "no timestamp")),
    *("fractional ids", "float ids past all exactness", "a rating of another world"),
    # Either placement asks the same check.
    *(f"{name}, ratings" for name in ("duplicates", "empty test part", "empty train part")),
    *(f"{name}, ratings" for name in ("all test ratings cold", "singular system")),
    *("a ridge that is not finite", "Parquet files of two types", "table not there"),
}


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: the bytes of files, None for folders."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=pytest.mark.slow if case.name in SLOW else ())
        for case in CASES
    ],
)
def test_bad_input_is_told_in_one_line(
    case: Case, spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = case.options(Desk(tmp_path))
    if "--output" not in options:
        options = [*options, "--output", str(tmp_path / "out")]
    before = contents(tmp_path)

    code = main([*TINY, *options])

    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not LOG_LINE.match(line)]
    assert code == 2, err
    assert len(lines) == 1, err
    assert lines[0].startswith("sweep: ")
    assert re.search(case.says, lines[0]), lines[0]
    assert out == ""
    assert contents(tmp_path) == before
    assert spark.sparkContext._jsc is not None, "the session of others was stopped"


def test_names_of_the_cases_are_different() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 35
    assert set(names) > SLOW


def test_no_output_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, *Desk(tmp_path).ratings()]) == 2
    assert capsys.readouterr().err == (
        "sweep: --output is missing: give a folder for the results\n"
    )


def test_the_options_of_the_cases_do_for_good_ratings(spark: SparkSession, tmp_path: Path) -> None:
    """Else the cases could fail for reasons of their own."""
    out = tmp_path / "out"
    assert main([*TINY, *Desk(tmp_path).ratings(), "--output", str(out)]) == 0
    (record,) = json.loads((out / "results.json").read_text())
    assert (record["d"], record["lambda_reg"], record["iterations"]) == (2, 1, 2)
    assert not (out / "rejected").exists()


def test_dropped_rows_are_set_aside_with_their_reasons(spark: SparkSession, tmp_path: Path) -> None:
    desk, out = Desk(tmp_path), tmp_path / "out"
    bad = [",1,3,1", "1,,3,1", "1,1,good,1", "1,1,nan,1", '"a\u00e9, b",1,,1']
    options = [*desk.ratings(*bad), *desk.test("3,1,inf", "3,99,4"), "--bad-rows", "drop"]

    assert main([*TINY, *options, "--output", str(out)]) == 0

    lines = (out / "rejected" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    found = {(record["problem"], record["row"]) for record in map(json.loads, lines)}
    assert found == {
        ("user is missing", "user=null, item=1, rating=3, timestamp=1, in ratings.csv"),
        ("item is missing", "user=1, item=null, rating=3, timestamp=1, in ratings.csv"),
        ("rating is not a number", "user=1, item=1, rating=good, timestamp=1, in ratings.csv"),
        (
            "rating is missing: a null word",
            "user=1, item=1, rating=nan, timestamp=1, in ratings.csv",
        ),
        ("rating is missing", "user=a\u00e9, b, item=1, rating=null, timestamp=1, in ratings.csv"),
        ("rating is infinite", "user=3, item=1, rating=inf, in test.csv"),
    }
    assert len(lines) == 6
    run = json.loads((out / "run.json").read_text())
    data = run["data"]
    assert data["bad_rows_dropped"] == {problem: 1 for problem, _ in found}
    assert data["ratings"] == {"train": 60, "test": 1}
    assert sum(count for _, _, count in data["histogram"]) == 61
    assert len(run["first_rows"]) == 5
    assert run["first_rows"][0]["problem"] is None
    assert [part["words"] for part in run["parts"]] == run["read"]
    assert len(run["read"]) == 2
    assert (
        "a\u00e9, b"
        not in pq.read_table(out / "best_model" / "user_factors.parquet")["id"].to_pylist()
    )


@pytest.mark.parametrize("how", ["mean", "last"])
def test_a_pair_in_train_and_test_is_tested_on_where_duplicates_are_allowed(
    how: str, spark: SparkSession, tmp_path: Path
) -> None:
    desk, out = Desk(tmp_path), tmp_path / "out"
    options = [*desk.ratings(), *desk.test(LINES[0], header=HEADER), "--duplicates", how]
    if how == "last":
        # The same as tables.
        for place in (1, 3):
            frame = spark.read.csv(options[place], header=True, inferSchema=True)
            frame.createOrReplaceTempView(f"rated_{place}")
            options[place] = f"table:rated_{place}"
    assert main([*TINY, *options, "--output", str(out)]) == 0
    data = json.loads((out / "run.json").read_text())["data"]
    assert (data["ratings"], data["duplicate_pairs"]) == ({"train": 59, "test": 1}, 1)
    # As the page has it, by what packing knows.
    users, items = (data[f"ratings_per_{side}"] for side in ("user", "item"))
    assert (users["ids"], items["ids"]) == (data["users"], data["items"])
    assert users["mean"] == pytest.approx(61 / data["users"])
    assert f"mean {users['mean']:.4g}, least" in (out / "report.html").read_text()
