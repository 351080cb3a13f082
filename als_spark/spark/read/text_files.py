"""Text files with separated fields: each file by its own header, columns by their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from als_spark.errors import DataError
from als_spark.spark.read.clean_files import TextForm
from als_spark.spark.read.dialect import (
    BLANKS,
    WHOLE_LINE,
    Dialect,
    Encoding,
    dialect_of,
    encoding_of,
    is_number,
    records_of,
    refuse_backslashes,
)
from als_spark.spark.read.headless import refuse_other_order
from als_spark.spark.read.heads import (
    HEAD_BYTES,
    Listing,
    is_compressed,
    likely_encoding,
    shown,
)
from als_spark.spark.read.names import likely_columns, quoted, refuse_twice
from als_spark.spark.read.options import ROLES, SourceOptions
from als_spark.spark.read.quotes import LookedAt, spanning_files

CORRUPT = "_corrupt_record"
"""The column of lines that Spark cannot take apart, as its readers call it."""


@dataclass(frozen=True, slots=True)
class TextGroup:
    """Files of a source that are written alike."""

    files: tuple[str, ...]
    dialect: Dialect
    spans: bool
    """Whether a field in quotes goes over several lines."""
    likely: str | None
    """The encoding that they seem to be of, if not of that which they are read in."""

    @property
    def words(self) -> str:
        """Say how they are written."""
        separator = {",": "comma", "\t": "tab", BLANKS: "blanks"}.get(
            self.dialect.separator, self.dialect.separator
        )
        header = "a header" if self.dialect.header else "no header"
        return f"text, {separator} between the fields, {header}"


def text_groups(
    session: SparkSession, listing: Listing, heads: Mapping[str, bytes], options: SourceOptions
) -> list[TextGroup]:
    """Put the text files of a source together that are written alike; blank ones are left out.

    Raises
    ------
    DataError
        If a file has too few fields or a quote that is not closed, or if it has no header where
        others have one, and another number of fields.
    """
    encoding = encoding_of(options.encoding)
    # What the names of folders are is not among the fields.
    in_folders = likely_columns(listing.partitions, options)
    roles = [role for role in ROLES if role not in in_folders]
    dialects: dict[str, Dialect] = {}
    for file, head in heads.items():
        text, whole = encoding.decode(head), len(head) < HEAD_BYTES
        dialect = dialect_of(text, whole, options, shown(file), roles)
        if dialect is not None:
            if options.features_of is not None and not dialect.header:
                raise DataError(
                    f"{shown(file)}: no header: features are known by the names of their columns: "
                    "write them into the first line"
                )
            in_file = dialect.names if dialect.header else ()
            refuse_twice(in_file, listing.partitions, shown(file))
            if options.quoting == "auto":
                refuse_backslashes(text, dialect.separator, shown(file))
            dialects[file] = dialect
    if not any(dialect.header for dialect in dialects.values()):
        for file, dialect in dialects.items():
            text, whole = encoding.decode(heads[file]), len(heads[file]) < HEAD_BYTES
            records = records_of(text, dialect.separator, options.quoting, whole)
            refuse_other_order(records, roles, shown(file))
    return groups_of(session, listing, heads, _with_one_order(dialects), options)


def groups_of(
    session: SparkSession,
    listing: Listing,
    heads: Mapping[str, bytes],
    dialects: Mapping[str, Dialect],
    options: SourceOptions,
) -> list[TextGroup]:
    """Put text files together that are written alike, by what their beginnings have told.

    Raises
    ------
    DataError
        If a quote is not closed.
    """
    encoding = encoding_of(options.encoding)
    spanning: set[str] = set()
    if options.quoting == "auto":
        looked_at = {
            file: LookedAt(
                dialect.separator,
                heads[file],
                partial(_has_numbers_alone, heads[file], encoding, dialect),
            )
            for file, dialect in dialects.items()
            if dialect.separator not in (BLANKS, WHOLE_LINE)
        }
        spanning = spanning_files(session, listing, looked_at, encoding)
    alike: dict[tuple[Dialect, bool], list[str]] = {}
    for file, dialect in dialects.items():
        alike.setdefault((replace(dialect, known=True), file in spanning), []).append(file)
    return [
        TextGroup(tuple(files), dialect, spans, _likely(files, heads, encoding))
        for (dialect, spans), files in alike.items()
    ]


def read_text_group(
    session: SparkSession,
    listing: Listing,
    group: TextGroup,
    options: SourceOptions,
    files: Sequence[str] | None,
) -> DataFrame:
    """Read files that are written alike: a column of text for each name, and :data:`CORRUPT`.

    The latter has the lines that have more or fewer fields than the first one. ``files`` are those
    to read; None if the source has no others.
    """
    encoding, dialect = encoding_of(options.encoding), group.dialect
    reader = session.read.options(
        header=dialect.header,
        multiLine=group.spans or encoding.wide,
        escape='"',
        ignoreLeadingWhiteSpace=True,
        ignoreTrailingWhiteSpace=True,
        # With it Spark counts the fields of those columns alone that somebody asks for.
        columnPruning=False,
    )
    if encoding.charset != "UTF-8":
        reader = reader.option("encoding", encoding.charset)
    if options.quoting == "none" or dialect.separator in (BLANKS, WHOLE_LINE):
        reader = reader.option("quote", "")
    blanks = dialect.separator == BLANKS
    names = ["value"] if blanks else list(dialect.names)
    reader = reader.option("sep", WHOLE_LINE if blanks else dialect.separator)
    schema = T.StructType([T.StructField(name, T.StringType()) for name in [*names, CORRUPT]])
    frame = listing.load(reader.schema(schema), "csv", files)
    if blanks:
        frame = _split_at_blanks(frame, dialect.names, options)
    if encoding.written:
        frame = frame.withColumns(
            {
                name: F.translate(F.col(quoted(name)), encoding.written, encoding.meant)
                for name in [*dialect.names, CORRUPT]
            }
        )
    return frame


def plain_lines(group: TextGroup, options: SourceOptions) -> TextForm | None:
    """Say how files are written that Arrow can read too; None of others."""
    dialect = group.dialect
    packed = any(map(is_compressed, group.files))
    other = encoding_of(options.encoding).charset != "UTF-8"
    if dialect.separator in (BLANKS, WHOLE_LINE) or packed or group.spans or other:
        return None
    return TextForm(dialect.separator, dialect.header, dialect.names)


def _split_at_blanks(frame: DataFrame, names: Sequence[str], options: SourceOptions) -> DataFrame:
    fields = F.split("value", r"[ \t]+")
    wrong = F.size(fields) != len(names)
    if options.quoting == "auto":
        wrong |= F.col("value").contains('"')
    others = [F.col(quoted(name)) for name in frame.columns if name not in ("value", CORRUPT)]
    return frame.select(
        *(F.get(fields, F.lit(k)).alias(name) for k, name in enumerate(names)),
        F.when(wrong, F.col("value")).alias(CORRUPT),
        *others,
    )


def _has_numbers_alone(head: bytes, encoding: Encoding, dialect: Dialect) -> bool:
    records = records_of(encoding.decode(head), dialect.separator, "auto", whole=False)
    return all(is_number(field) for fields in records[dialect.header :] for field in fields)


def _with_one_order(dialects: Mapping[str, Dialect]) -> dict[str, Dialect]:
    """Give files without header the names of the first header that another file has."""
    headers = [item for item in dialects.items() if item[1].header]
    file, first = next(
        (item for item in headers if item[1].known), headers[0] if headers else ("", None)
    )
    return dict(_ordered(dialects, file, first)) if first is not None else dict(dialects)


def _ordered(
    dialects: Mapping[str, Dialect], of: str, first: Dialect
) -> Iterator[tuple[str, Dialect]]:
    for file, dialect in dialects.items():
        is_header = dialect.header and (
            dialect.known or not first.known or set(dialect.names) & set(first.names)
        )
        if is_header:
            yield file, dialect
            continue
        if len(dialect.names) != len(first.names):
            raise DataError(
                f"{shown(file)}: has {len(dialect.names)} fields and no header, the header of "
                f"{shown(of)} has {len(first.names)}: give the file a header of its own"
            )
        yield file, Dialect(dialect.separator, False, first.names)


def _likely(files: Sequence[str], heads: Mapping[str, bytes], encoding: Encoding) -> str | None:
    if encoding.charset != "UTF-8":
        return None
    return next((found for file in files if (found := likely_encoding(heads[file]))), None)
