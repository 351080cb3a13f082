"""Where ratings come from: files and tables, with columns found by their usual names."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import ConfigError, DataError, EmptySourceError
from als_spark.spark.session import described
from als_spark.types import Format

USUAL_NAMES: Mapping[str, Sequence[str]] = {
    "user": ("user", "userid", "uid", "customer", "customerid", "member", "memberid", "reader"),
    "item": (
        *("item", "itemid", "iid", "movie", "movieid", "film", "filmid", "product", "productid"),
        *("book", "bookid", "isbn", "track", "trackid", "song", "songid", "artist", "artistid"),
    ),
    "rating": ("rating", "ratings", "stars", "score", "value"),
    "timestamp": ("timestamp", "ts", "time", "datetime", "date", "ratedat", "eventtime"),
}
"""Names of a column, most usual first; only letters and digits count, whatever their case."""

ROLES = ("user", "item", "rating", "timestamp")
SAMPLE = Path("data/mllib/als/sample_movielens_ratings.txt")


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How to read one source of ratings.

    Attributes
    ----------
    path, table : str or None
        One of the two.
    format : str
        Of the files.
    columns : mapping
        Role ("user", "item", "rating", "timestamp") to column name, where given.
    need_timestamp : bool
        Whether a source without timestamps will not do.
    need_rating : bool
        Whether ratings are read. Without them only the two ids are looked for.
    format_option : bool
        Whether the job's ``--format`` is that of this source, for messages.
    """

    path: str | None = None
    table: str | None = None
    format: Format = "auto"
    columns: Mapping[str, str | None] = field(default_factory=dict)
    need_timestamp: bool = False
    need_rating: bool = True
    format_option: bool = True

    @property
    def roles(self) -> Sequence[str]:
        """What columns are looked for."""
        return ROLES if self.need_rating else ROLES[:2]

    @property
    def label(self) -> str:
        """Name the source, for messages."""
        return self.path if self.path is not None else f"table {self.table}"


@dataclass(frozen=True, slots=True)
class Source:
    """A source of ratings, as read: nothing checked but its columns.

    ``columns`` maps role to column name; the timestamp only where there is one, the rating only if
    it is read. ``from_files`` says whether a row comes from a file that can be named.
    """

    frame: DataFrame
    columns: Mapping[str, str]
    label: str
    from_files: bool


def sample_ratings() -> str:
    """Path of the MovieLens sample that every Spark distribution ships."""
    import pyspark

    homes = [os.environ.get("SPARK_HOME"), os.path.dirname(pyspark.__file__)]
    for home in homes:
        if home and (path := Path(home) / SAMPLE).is_file():
            # Not as_uri(): Hadoop takes a %20 for what it says.
            return f"file://{path}"
    raise ConfigError(
        f"the sample ratings {SAMPLE} are in neither SPARK_HOME nor the pyspark package: "
        "give a path of ratings (`ratings=`)"
    )


def read_source(session: SparkSession, options: SourceOptions) -> Source:
    """Open a source and find its columns; reads no more than the first line and the schema.

    Parameters
    ----------
    session : SparkSession
    options : SourceOptions

    Raises
    ------
    DataError
        If the source is missing, unreadable or lacks a column.
    """
    with described(session.sparkContext, f"looking at {options.label}"):
        try:
            if options.table is not None:
                frame = session.table(options.table)
            else:
                frame = _read_files(session, options)
        except (PySparkException, Py4JJavaError) as error:
            if options.table is not None:
                remedy = "the name of the table"
            else:
                remedy = f"the path and {'`format=`' if options.format_option else 'the file'}"
            raise DataError(
                f"{options.label}: cannot be read: {reason(error)}: check {remedy}"
            ) from error
    return Source(frame, find_columns(frame.columns, options), options.label, options.table is None)


@contextmanager
def unreadable_files_are_named(label: str) -> Iterator[None]:
    """Turn Spark's failure to read a file of the source, met in a pass, into a DataError.

    Other failures pass through.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        if not _broke_while_reading(error):
            raise
        raise DataError(
            f"{label}: cannot be read: {reason(error)}: mend or replace the file"
        ) from error


def find_columns(names: Sequence[str], options: SourceOptions) -> dict[str, str]:
    """Find the column of each role, given or by its usual names; refuse what is ambiguous."""
    found: dict[str, str] = {}
    for role in options.roles:
        given = options.columns.get(role)
        if given is not None:
            if given not in names:
                raise DataError(
                    f'{options.label}: no column {given!r} (`columns["{role}"]`): '
                    f"the columns are {', '.join(names)}"
                )
            found[role] = given
            continue
        match = first_named(names, USUAL_NAMES[role])
        if match is not None:
            found[role] = match
        elif role != "timestamp" or options.need_timestamp:
            raise DataError(
                f"{options.label}: no {role} column among {', '.join(names)}: "
                f'name it with `columns["{role}"]`'
            )
    if len(set(found.values())) < len(found):
        named = ", ".join(f'`columns["{role}"]`' for role in options.roles[:3])
        raise DataError(
            f"{options.label}: one column has two roles "
            f"({', '.join(f'{role} = {name}' for role, name in found.items())}): "
            f"name the columns with {named}"
        )
    return found


def _read_files(session: SparkSession, options: SourceOptions) -> DataFrame:
    assert options.path is not None
    reader = session.read
    # Listing the files also finds out, without a job, whether the path is there.
    names = reader.text(options.path).inputFiles()
    if not names:
        raise DataError(f"{options.label}: no files there: give a file or a folder with ratings")
    kind = options.format
    if kind == "auto":
        kind = format_by_name(names[0])
    if kind == "parquet":
        return reader.parquet(options.path)
    first = _first_line(session, options)
    if kind == "json" or (kind == "auto" and first.startswith(("{", "["))):
        frame = session.read.option("multiLine", first.startswith("[")).json(options.path)
        if frame.columns == ["_corrupt_record"]:
            raise DataError(
                f"{options.label}: not JSON: each line must be an object such as "
                '{"user": 1, "item": 2, "rating": 3.5}'
            )
        return frame
    separator = "::" if "::" in first else _separator(first)
    fields = _fields(first, separator)
    if len(fields) < (3 if options.need_rating else 2):
        few, needed = (
            ("fewer than three fields", "ratings need a user, an item and a rating")
            if options.need_rating
            else ("one field", "a user and an item are needed")
        )
        raise DataError(
            f"{options.label}: the first line {first[:60]!r} has {few}: {needed} on each line"
        )
    reader = csv_reader(session, separator)
    if kind != "movielens" and _is_header(fields, options):
        if _are_plain(fields):
            # Spark would read the file once more to find the same.
            reader = reader.schema(", ".join(f"`{name}` string" for name in fields))
        return reader.option("header", True).csv(options.path)
    columns = [*ROLES, *(f"_c{k}" for k in range(len(ROLES), len(fields)))][: len(fields)]
    schema = ", ".join(f"`{name}` string" for name in columns)
    return reader.option("header", False).schema(schema).csv(options.path)


def _first_line(session: SparkSession, options: SourceOptions) -> str:
    assert options.path is not None
    text = session.read.text(options.path)
    lines = text.where(F.trim("value") != "").limit(1).collect()
    if not lines:
        raise EmptySourceError(f"{options.label}: the file is empty: give a file with ratings")
    return str(lines[0][0]).lstrip("\ufeff").strip()


def format_by_name(name: str) -> Format:
    """Tell the format of a file by its name; ``auto`` where that does not tell."""
    stem = without_compression(name)
    if stem.endswith((".parquet", ".pq")):
        return "parquet"
    if stem.endswith((".json", ".jsonl", ".ndjson")):
        return "json"
    return "auto"


def without_compression(name: str) -> str:
    """Take the ending of a compression off the name of a file; in lower case."""
    return re.sub(r"\.(gz|bz2|zst|snappy|lz4)$", "", name.lower())


def _separator(line: str) -> str:
    counts = {separator: line.count(separator) for separator in ("\t", ",", ";", "|")}
    best = max(counts, key=lambda separator: counts[separator])
    return best if counts[best] else ","


def _fields(line: str, separator: str) -> list[str]:
    if len(separator) > 1:
        return [part.strip().strip('"') for part in line.split(separator)]
    return [part.strip() for part in next(csv.reader([line], delimiter=separator))]


def _are_plain(names: Sequence[str]) -> bool:
    """Tell if Spark takes names for columns as they are: none is empty, doubled or quoted."""
    distinct = {name.lower() for name in names}
    return len(distinct) == len(names) and all(re.fullmatch(r"[\w .:-]+", name) for name in names)


def _is_header(fields: Sequence[str], options: SourceOptions) -> bool:
    """Tell a header from a row of data: known names are in it, or no field is a number."""
    given = {name for name in options.columns.values() if name is not None}
    if given & set(fields):
        return True
    usual = {name for names in USUAL_NAMES.values() for name in names}
    known = sum(plain_name(name) in usual for name in fields)
    if known:
        return known >= 2 or not _is_number(fields[2] if len(fields) > 2 else fields[1])
    return not any(_is_number(name) for name in fields)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def plain_name(name: str) -> str:
    """Leave the letters and digits of a column's name, in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def first_named(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """Find the column that has the first of some usual names."""
    by_plain_name = {plain_name(name): name for name in reversed(names)}
    return next((by_plain_name[name] for name in usual if name in by_plain_name), None)


def quoted(name: str) -> str:
    """Quote the name of a column for Spark."""
    return "`" + name.replace("`", "``") + "`"


def csv_reader(session: SparkSession, separator: str) -> DataFrameReader:
    """Return the reader of all csv files."""
    return (
        session.read.option("sep", separator)
        .option("escape", '"')
        .option("ignoreLeadingWhiteSpace", True)
        .option("ignoreTrailingWhiteSpace", True)
    )


_READ_FAILURE = re.compile(
    "FAILED_READ_FILE|CANNOT_READ_FILE_FOOTER|Encountered error while reading file"
    "|cannot be converted in file"
)
"""How the supported versions of Spark say that a file of a source cannot be read."""
_FILE_SCAN = "org.apache.spark.sql.execution.datasources.FileScanRDD"
"""What reads the files: Spark 3.5 lets some of its failures through without a word on the file."""


def _broke_while_reading(error: PySparkException | Py4JJavaError) -> bool:
    if any(_READ_FAILURE.search(message) for message in _messages(error)):
        return True
    causes = _java_causes(error)
    frames = causes[-1].getStackTrace() if causes else []
    return any(frame.getClassName().startswith(_FILE_SCAN) for frame in frames)


def _java_causes(error: PySparkException | Py4JJavaError) -> list[Any]:
    """Return an error of the JVM and its causes, the outermost first."""
    # Spark's Python exceptions keep the one of the JVM to themselves.
    java: Any = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    causes: list[Any] = []
    while java is not None and len(causes) < 12:
        causes.append(java)
        java = java.getCause()
    return causes


def _messages(error: PySparkException | Py4JJavaError) -> list[str]:
    """First lines of what an error and its causes say, the outermost first."""
    texts = [str(error)] if isinstance(error, PySparkException) else []
    texts += [str(java.getMessage() or "") for java in _java_causes(error)]
    return [text.strip().splitlines()[0] for text in texts if text.strip()]


def reason(error: PySparkException | Py4JJavaError) -> str:
    """Put what was said about a file, or said first, together with its root cause."""
    messages = [message for message in _messages(error) if not message.startswith("Job aborted")]
    if not messages:
        return "Spark does not say why"
    about_file = [message for message in messages if _READ_FAILURE.search(message)]
    said = _plain_message(about_file[-1] if about_file else messages[0])
    cause = _plain_message(messages[-1])
    return said if cause in said else f"{said} ({cause})"


def _plain_message(message: str) -> str:
    """Take Spark's names and codes of errors off."""
    return re.sub(r"^\[[A-Z_.]+\] |\s*SQLSTATE: \w{5}|\s*Details:$", "", message).rstrip(". ")
