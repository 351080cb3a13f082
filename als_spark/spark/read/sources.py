"""Where ratings come from: files and tables, with columns found by their usual names.

Every file is looked at before Spark reads it. Files that are alike are read together, and each
group by itself is a part of the source, so that a column is found by its name in each of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import ConfigError, DataError, EmptySourceError
from als_spark.spark.read.clean_files import TextForm
from als_spark.spark.read.dialect import encoding_of
from als_spark.spark.read.facts import TableVersion
from als_spark.spark.read.failures import reason
from als_spark.spark.read.heads import (
    Listing,
    format_by_name,
    names_hint,
    read_heads,
    refuse_unreadable,
    settings,
    shown,
)
from als_spark.spark.read.names import find_columns
from als_spark.spark.read.options import NULL_WORDS
from als_spark.spark.read.options import SourceOptions as SourceOptions
from als_spark.spark.read.parquet_files import parquet_groups
from als_spark.spark.read.tables import SourceFolder, Table, read_named
from als_spark.spark.read.text_files import CORRUPT, plain_lines, read_text_group, text_groups
from als_spark.spark.read.typed_files import json_groups, read_json_group
from als_spark.spark.session import described
from als_spark.types import Format

SAMPLE = Path("data/mllib/als/sample_movielens_ratings.txt")
_MOST_PARTS = 8
"""Kinds of files that are told of."""
AS_THEY_ARE = {"spark.sql.sources.partitionColumnTypeInference.enabled": "false"}
"""Otherwise the folders ``user=07`` and ``user=7`` would be of one user."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source of ratings, as read: nothing checked but its columns.

    Attributes
    ----------
    frame : DataFrame
    columns : mapping
        Role to column name; the timestamp only where there is one, the rating only if it is read.
    label : str
        Of the source, for messages.
    from_files : bool
        Whether a row comes from a file that can be named.
    format : str
        What the files are, in words; empty of what is none.
    encoding : str or None
        The encoding that text files seem to be of, if not of that which they are read in.
    files : str
        Which files of the source these are, if there are others; for messages.
    others : tuple of Source
        More files of the same source, whose columns have other names or types.
    unread : tuple of str
        Columns that are not in the frame, for Spark cannot read them.
    version : TableVersion or None
        Of the table that it is, if that has versions.
    null_words : tuple of str
        Text that stands for a missing value.
    lines : TextForm or None
        How text files are written that may be lines of nothing but numbers.
    """

    frame: DataFrame
    columns: Mapping[str, str]
    label: str
    from_files: bool
    format: str = ""
    encoding: str | None = None
    files: str = ""
    others: tuple[Source, ...] = ()
    unread: tuple[str, ...] = ()
    version: TableVersion | None = None
    null_words: tuple[str, ...] = NULL_WORDS
    lines: TextForm | None = None

    def __repr__(self) -> str:
        """Name it, and its columns."""
        columns = ", ".join(f"{role} = {name}" for role, name in self.columns.items())
        return f"<Source {self.label}: {columns}>"

    @property
    def parts(self) -> tuple[Source, ...]:
        """The source in parts whose columns have the same names and types."""
        return (self, *self.others)

    @property
    def timed(self) -> bool:
        """Whether all of it has timestamps."""
        return all("timestamp" in part.columns for part in self.parts)

    @property
    def is_text(self) -> bool:
        """Whether it was decoded from text, in separated fields."""
        return self.format.startswith("text")

    @property
    def words(self) -> list[str]:
        """Say how each part was understood: its format, the columns chosen and passed over."""
        shown = [part.own_words for part in self.parts[:_MOST_PARTS]]
        left = len(self.parts) - len(shown)
        return [*shown, f"{self.label}: {left} more kinds of files"] if left else shown

    def part_records(self) -> list[dict[str, Any]]:
        """Tell the same as JSON has it: of each part its words, format, and columns with types."""
        return [
            {"words": part.own_words, "format": part.format, "columns": part.column_records()}
            for part in self.parts[:_MOST_PARTS]
        ]

    def column_records(self) -> list[dict[str, str]]:
        """List the columns of this part with their types, and what each is taken for."""
        roles = {name: role for role, name in self.columns.items()}
        return [
            {
                "name": field.name,
                "type": field.dataType.simpleString(),
                **({"role": roles[field.name]} if field.name in roles else {}),
            }
            for field in self.frame.schema
            if field.name != CORRUPT
        ]

    @property
    def own_words(self) -> str:
        """Say the same of this part alone."""
        types = {field.name: field.dataType.simpleString() for field in self.frame.schema}
        chosen = ", ".join(
            # All fields of text are text.
            f"{role} = {name}" + ("" if self.is_text else f" ({types[name]})")
            for role, name in self.columns.items()
        )
        used = {*self.columns.values(), CORRUPT}
        left = [*(name for name in self.frame.columns if name not in used), *self.unread]
        passed = f"; passed over: {', '.join(left)}" if left else ""
        what = f"{self.format}: " if self.format else ""
        return f"{self.files or self.label}: {what}{chosen}{passed}"


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
    """Open a source and find its columns.

    Reads no more than the beginning of each file, except of text files in which a quote may hold a
    line break: these are gone through for such quotes.

    Parameters
    ----------
    session : SparkSession
    options : SourceOptions

    Raises
    ------
    DataError
        If the source is missing, unreadable or lacks a column.
    ConfigError
        If the encoding is none that is read.
    """
    with (
        described(session.sparkContext, f"looking at {options.label}"),
        settings(session, AS_THEY_ARE),
    ):
        try:
            if options.table is None:
                first, *others = _parts(session, options)
                return replace(first, others=tuple(others))
            table = read_named(session, options.table, options.label)
        except (PySparkException, Py4JJavaError, OSError) as error:
            raise unreadable(options, error) from error
    return _source_of(table, options)


def _source_of(table: Table, options: SourceOptions) -> Source:
    return Source(
        table.frame,
        find_columns(table.frame.columns, options),
        options.label,
        from_files=False,
        format=table.format,
        version=table.version,
        null_words=tuple(options.null_words),
    )


def unreadable(
    options: SourceOptions, error: PySparkException | Py4JJavaError | OSError
) -> DataError:
    """Say that a source cannot be read, why, and what to check."""
    if options.path is None:
        remedy = "the name of the table"
    else:
        what = "`format=`" if options.format_option else "the file"
        remedy = f"the path and {what}{names_hint(options.path)}"
    why = str(error) if isinstance(error, OSError) else reason(error)
    return DataError(f"{options.label}: cannot be read: {why}: check {remedy}")


def _parts(session: SparkSession, options: SourceOptions) -> list[Source]:
    """Read the files of a source, in groups that are alike."""
    folder = SourceFolder(session, options)
    table = folder.table()
    if table is not None:
        return [_source_of(table, options)]
    listing = folder.files()
    if not listing.files:
        raise DataError(f"{options.label}: no files there: give a file or a folder with ratings")
    by_format = files_by_format(session, listing, options)
    groups = list(_groups(session, listing, by_format, options))
    if not groups:
        raise EmptySourceError(f"{options.label}: the file is empty: give a file with ratings")
    return [_part(group, options, alone=len(groups) == 1) for group in groups]


class _Group(NamedTuple):
    """Files that are read together."""

    files: Sequence[str]
    format: str
    encoding: str | None
    read: Callable[[Sequence[str] | None], DataFrame]
    """Reads some files of the source, or all of them."""
    unread: tuple[str, ...] = ()
    """Columns that are left out."""
    lines: TextForm | None = None


def files_by_format(
    session: SparkSession, listing: Listing, options: SourceOptions
) -> dict[Format, dict[str, bytes]]:
    """Tell the format of each file: by its name, or by its beginning, which is looked at."""
    found: dict[Format, dict[str, bytes]] = {}
    kinds = dict.fromkeys(listing.files, options.format)
    if options.format == "auto":
        kinds = {file: format_by_name(file) for file in listing.files}
    encoding = encoding_of(options.encoding).name
    unknown = [file for file, kind in kinds.items() if kind != "parquet"]
    heads = dict(zip(unknown, read_heads(session, unknown), strict=True))
    for file, kind in kinds.items():
        head = heads.get(file, b"")
        if kind == "auto":
            kind = _format_by_head(head)
        if kind != "parquet":
            refuse_unreadable(head, file, encoding)
        found.setdefault("csv" if kind == "movielens" else kind, {})[file] = head
    return found


def _format_by_head(head: bytes) -> Format:
    if head.startswith(b"PAR1"):
        return "parquet"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return "json" if text.startswith((b"{", b"[")) else "csv"


def _groups(
    session: SparkSession,
    listing: Listing,
    by_format: Mapping[Format, Mapping[str, bytes]],
    options: SourceOptions,
) -> Iterator[_Group]:
    if "csv" in by_format:
        for text in text_groups(session, listing, by_format["csv"], options):
            read_text = partial(read_text_group, session, listing, text, options)
            lines = plain_lines(text, options)
            yield _Group(text.files, text.words, text.likely, read_text, lines=lines)
    if "json" in by_format:
        for files, array in json_groups(by_format["json"], options):
            read_json = partial(read_json_group, session, listing, options, array=array)
            yield _Group(files, "JSON", None, read_json)
    if "parquet" in by_format:

        def choose(names: Sequence[str], label: str) -> Mapping[str, str]:
            return find_columns(names, options, label)

        needed = options.need_timestamp or options.columns.get("timestamp")
        optional = () if needed else ("timestamp",)
        found = list(by_format["parquet"])
        for group in parquet_groups(session, listing, found, choose, optional):
            read_parquet = partial(group.read, session, listing)
            yield _Group(group.files, "Parquet", None, read_parquet, group.unread)


def _part(group: _Group, options: SourceOptions, *, alone: bool) -> Source:
    frame = group.read(None if alone else group.files)
    files = "" if alone else shown(group.files[0])
    names = [name for name in frame.columns if name != CORRUPT]
    columns = find_columns(names, options, files or options.label)
    if len(group.files) > 1 and files:
        files += f" and {len(group.files) - 1:,} more"
    return Source(
        *(frame, columns, options.label, True, group.format, group.encoding, files),
        unread=group.unread,
        null_words=tuple(options.null_words),
        lines=group.lines,
    )
