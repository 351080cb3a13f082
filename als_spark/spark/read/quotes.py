"""Fields in quotes that go over several lines: which files have them, and quotes left open.

Spark cuts a text file at its line breaks, which lets many tasks read it, unless it is told that a
field may hold a line break: then one task reads the whole file. So it is told of those files alone
that need it. A line with an odd number of quotes begins such a field, or has a quote that is no
enclosing one, or one that is never closed: then Spark would take the rest of the file for one field
without a word. These files are gone through here first, line by line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.spark.arrow import ddl, map_in_arrow
from als_spark.spark.read.dialect import WHOLE_LINE, Encoding
from als_spark.spark.read.heads import Listing, local_of, settings, shown
from als_spark.spark.session import described

_QUOTE = '"'
_MOST_BYTES = 10 * 2**30
"""Of files of this machine that are looked through here."""
_CHUNK_BYTES = 2**22
_UNCUT = {
    # Each file in one task: a file is cut into parts of the smaller of the two, and files are put
    # together until they and these costs reach it.
    "spark.sql.files.maxPartitionBytes": str(2**45),
    "spark.sql.files.openCostInBytes": str(2**45),
}
_ROW_NUMBER = 2**33
"""Spark's row ids begin anew here for each task."""
_FOUND = pa.schema([("file", pa.string()), ("spans", pa.int64()), ("open_line", pa.int64())])


class LookedAt(NamedTuple):
    """What the beginning of a file has told."""

    separator: str
    head: bytes
    numbers: Callable[[], bool]
    """Tells whether all its fields are numbers: asked of those files alone that need it."""


def spanning_files(
    session: SparkSession, listing: Listing, looked_at: Mapping[str, LookedAt], encoding: Encoding
) -> set[str]:
    """Find the files in which a field in quotes goes over several lines.

    Parameters
    ----------
    session : SparkSession
    listing : Listing
    looked_at : mapping
        The files in which quotes may enclose a field.
    encoding : Encoding

    Raises
    ------
    DataError
        If a quote is opened and never closed: with the file and the line.
    """
    suspects = _suspects(session, listing, looked_at, encoding)
    if not suspects:
        return set()
    with (
        settings(session, _UNCUT),
        described(session.sparkContext, f"following the quotes in {listing.path}"),
    ):
        rows = (
            _lines(session, listing, suspects, encoding)
            .select(
                F.input_file_name().alias("file"),
                (F.monotonically_increasing_id() % _ROW_NUMBER + 1).alias("number"),
                # Which bytes they are does not matter: what is looked for is ASCII.
                F.col("value").cast("binary").alias("value"),
            )
            .where(F.col("value").cast("string").contains(_QUOTE))
        )
        separators = {file: looked_at[file].separator for file in suspects}
        walk = partial(walk_files, separators=separators)
        found = map_in_arrow(rows, walk, ddl(_FOUND)).collect()
    for row in sorted(found, key=lambda row: row.file):
        if row.open_line is not None:
            raise DataError(
                f"{shown(row.file)}: the quote that line {row.open_line:,} opens is not closed: "
                'close it, or, if quotes enclose nothing there, use `quoting="none"`'
            )
    return {row.file for row in found if row.spans}


def has_odd_line(path: Path) -> bool:
    """Tell whether a line of a file of this machine has an odd number of quotes.

    It may say so of a line that is longer than any should be, though the number is even.
    """
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            chunk += stream.readline(_CHUNK_BYTES)
            if b'"' not in chunk:
                continue
            data = np.frombuffer(chunk, np.uint8)
            ends = np.flatnonzero((data == ord("\n")) | (data == ord("\r")))
            lines = np.searchsorted(ends, np.flatnonzero(data == ord(_QUOTE)))
            if (np.bincount(lines) % 2).any():
                return True
    return False


def _suspects(
    session: SparkSession, listing: Listing, looked_at: Mapping[str, LookedAt], encoding: Encoding
) -> list[str]:
    """Return the files that have a line with an odd number of quotes.

    Those of this machine are looked through here. Of others the beginning tells whether Spark has
    to: it has a quote, or a field that is no number, in which a quote may come later.
    """
    local = {file: path for file in looked_at if (path := local_of(file)) is not None}
    if encoding.wide or sum(path.stat().st_size for path in local.values()) > _MOST_BYTES:
        local = {}
    found = [file for file, path in local.items() if has_odd_line(path)]
    others = [
        file
        for file, (_, head, numbers) in looked_at.items()
        if file not in local and (b'"' in head or not numbers())
    ]
    if others and not encoding.wide:
        with described(session.sparkContext, f"looking for open quotes in {listing.path}"):
            lines = _lines(session, listing, others, encoding).where(_is_odd(F.col("value")))
            rows = lines.select(F.input_file_name().alias("file")).distinct().collect()
        others = [row.file for row in rows]
    return sorted([*found, *others])


def walk_files(
    batches: Iterable[pa.RecordBatch], *, separators: Mapping[str, str]
) -> Iterator[pa.RecordBatch]:
    """Follow the quotes of files: runs on an executor.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch
        Of the lines that have quotes: ``file``, ``number`` and ``value``, in their order.
    separators : mapping
        What stands between the fields of each file.

    Yields
    ------
    pyarrow.RecordBatch
        For each file whether a field goes over several lines (``spans``), and the line of the first
        quote that is not closed (``open_line``).
    """
    walks: dict[str, QuoteWalk] = {}
    for batch in batches:
        columns = (batch.column(name).to_pylist() for name in ("file", "number", "value"))
        for file, number, line in zip(*columns, strict=True):
            if file not in walks:
                walks[file] = QuoteWalk(separators[file])
            walks[file].take(number, line.decode("latin-1"))
    rows = [
        {"file": file, "spans": int(walk.spans), "open_line": walk.open_line}
        for file, walk in walks.items()
    ]
    yield pa.RecordBatch.from_pylist(rows, schema=_FOUND)


class QuoteWalk:
    """The quotes of one file, followed line by line; lines without quotes may be left out.

    A quote opens at the beginning of a field, and closes at the end of one; two within a field in
    quotes are one character. Any other within it is taken as Spark takes it, if the field began on
    the same line: the field ends at the next separator.
    """

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._blanks = "".join(chr(k) for k in range(33) if chr(k) != separator)
        self._broken: int | None = None
        self._open: int | None = None
        self.spans = False

    @property
    def open_line(self) -> int | None:
        """Line of the first quote that is not closed, as far as lines were taken."""
        return self._broken if self._broken is not None else self._open

    def take(self, number: int, line: str) -> None:
        """Follow the quotes of the line of a number, from 1."""
        if self._broken is not None:
            return
        place = 0
        if self._open is not None:
            self.spans = True
            place = self._close(line, 0)
            if place < 0:
                return
            if not self._at_end(line, place):
                self._broken = self._open
                return
            self._open = None
            place = self._next_field(line, place)
        while 0 <= place < len(line):
            start = len(line) - len(line[place:].lstrip(self._blanks))
            if line.startswith(_QUOTE, start):
                place = self._close(line, start + 1)
                if place < 0:
                    self._open = number
                    return
            place = self._next_field(line, place)

    def _close(self, line: str, place: int) -> int:
        """Return the place after the quote that ends a field; -1 if there is none."""
        while (found := line.find(_QUOTE, place)) >= 0:
            if not line.startswith(_QUOTE, found + 1):
                return found + 1
            place = found + 2
        return -1

    def _at_end(self, line: str, place: int) -> bool:
        rest = line[place:].lstrip(self._blanks)
        return not rest or rest.startswith(self._separator)

    def _next_field(self, line: str, place: int) -> int:
        found = line.find(self._separator, place)
        return found if found < 0 else found + len(self._separator)


def _is_odd(line: Column) -> Column:
    others = f"[^{_QUOTE}]"
    return line.contains(_QUOTE) & (F.length(F.regexp_replace(line, others, "")) % 2 == 1)


def _lines(
    session: SparkSession, listing: Listing, files: Sequence[str], encoding: Encoding
) -> DataFrame:
    """Read files as lines in the column ``value``."""
    if not encoding.wide:
        return listing.load(session.read, "text", files).select("value")
    reader = session.read.options(encoding=encoding.charset, multiLine=True, sep=WHOLE_LINE)
    return listing.load(reader.option("quote", "").schema("value string"), "csv", files)
