"""Text files whose ratings a task can read by itself: lines of numbers, and nothing else.

A file is cut into ranges of bytes, one for each task. Only what Arrow and Spark read alike is read
so: digits, points and minus signs between separators, and no number with leading zeros, which as an
id is text. At the first byte that is anything else all is left to Spark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import csv
from pyspark.sql import DataFrame

from als_spark.spark.read.clean_files import (
    BATCH_ROWS,
    CleanFiles,
    NotClean,
    Rules,
    TextForm,
    Unit,
    Version,
    check_unchanged,
    paths_of,
    typed_batch,
)
from als_spark.spark.read.dialect import is_number

BLOCK_BYTES = 1 << 22
"""Bytes of a file that are taken apart at a time."""
_NUMERIC = b"0123456789.-\n"
_UNIT = b"\x1f"
"""Takes the place of a separator of several characters, of which Arrow knows none."""
_TYPES = {
    "user": pa.int64(),
    "item": pa.int64(),
    "rating": pa.float64(),
    "timestamp": pa.float64(),
}
_ZERO, _NINE, _POINT, _MINUS = b"09.-"


def find_clean_text(
    frame: DataFrame,
    form: TextForm,
    columns: Mapping[str, str],
    null_words: Sequence[str],
    rules: Rules,
    n_tasks: int,
) -> CleanFiles | None:
    """Find the text files of a DataFrame, if tasks may be able to read them.

    Parameters
    ----------
    frame : DataFrame
        Of columns of text.
    form : TextForm
    columns : mapping of role to name
        Of user, item and rating, perhaps of the timestamp.
    null_words : sequence of str
        Text that stands for a missing value.
    rules : Rules
    n_tasks : int
        Tasks that run at a time.

    Returns
    -------
    CleanFiles or None
        None where Spark has to read them.
    """
    names = set(columns.values())
    numbers = [word for word in null_words if is_number(word) and isfinite(float(word))]
    if numbers or not names <= set(form.names):
        return None
    try:
        versions = {
            path: Version.of(path) for path in paths_of(frame, names, "csv.CSVFileFormat", None)
        }
    except OSError:
        return None
    tasks = _ranges(versions, n_tasks)
    return CleanFiles(tasks, dict(columns), rules, form) if tasks else None


def _ranges(versions: Mapping[str, Version], n_tasks: int) -> tuple[tuple[Unit, ...], ...]:
    """Share the bytes of files out to tasks, in their order."""
    total = sum(version.n_bytes for version in versions.values())
    ends = [total * (k + 1) // n_tasks for k in range(n_tasks)]
    tasks: list[list[Unit]] = [[] for _ in ends]
    before = 0
    for path, version in versions.items():
        after = before + version.n_bytes
        for task, end in enumerate(ends):
            first = max(before, ends[task - 1] if task else 0)
            stop = min(after, end)
            if first < stop:
                tasks[task].append(Unit(path, version, first - before, stop - before))
        before = after
    return tuple(tuple(task) for task in tasks if task)


def read_lines(
    units: Sequence[Unit], columns: Mapping[str, str], rules: Rules, form: TextForm
) -> Iterator[pa.RecordBatch]:
    """Read ratings as typed batches, as Spark would hand them over; runs on an executor.

    But ids are integers, where Spark has them as text until they are numbered. Of a unit those
    lines are read that begin in it.

    Raises
    ------
    NotClean
        If a file cannot be read, or holds anything but usable numbers.
    """
    separator = form.separator.encode()
    delimiter = separator if len(separator) == 1 else _UNIT
    parse = csv.ParseOptions(delimiter=delimiter.decode(), quote_char=False)
    convert = csv.ConvertOptions(
        column_types={name: _TYPES[role] for role, name in columns.items()},
        include_columns=list(dict.fromkeys(columns.values())),
        null_values=[],
    )
    read = csv.ReadOptions(use_threads=False, column_names=form.names, block_size=2 * BLOCK_BYTES)
    try:
        for unit in units:
            check_unchanged(unit)
            for lines in _blocks(unit, header=form.header):
                _check_bytes(lines, separator)
                if delimiter != separator:
                    lines = _with_one_character(lines, separator)
                table = csv.read_csv(pa.BufferReader(lines), read, parse, convert)
                for batch in table.to_batches(max_chunksize=BATCH_ROWS):
                    yield typed_batch(batch, columns, rules)
    except (OSError, pa.ArrowException) as error:
        raise NotClean(str(error)) from error


def _blocks(unit: Unit, *, header: bool) -> Iterator[bytes]:
    """Give the lines that begin in a range of bytes, some at a time, but the header."""
    with open(unit.path, "rb") as stream:
        if unit.first:
            # What comes before the end of this line is of the range before.
            stream.seek(unit.first - 1)
            _line(stream)
        elif header:
            _line(stream)
        while (left := unit.stop - stream.tell()) > 0:
            lines = stream.read(min(BLOCK_BYTES, left))
            if not lines.endswith(b"\n"):
                lines += _line(stream)
            if lines.strip():
                yield lines


def _line(stream: BinaryIO) -> bytes:
    line = stream.readline(BLOCK_BYTES)
    if len(line) == BLOCK_BYTES:
        raise NotClean("a line is very long")
    return line


def _with_one_character(lines: bytes, separator: bytes) -> bytes:
    """Put one character in the place of a separator; raises NotClean where parts of it are left."""
    lines = lines.replace(separator, _UNIT)
    if any(part in lines for part in separator):
        raise NotClean(f"a part of {separator!r} is in the text besides numbers")
    return lines


def _check_bytes(lines: bytes, separator: bytes) -> None:
    """Stop at what is no plain number, or has leading zeros."""
    odd = lines.translate(None, _NUMERIC + separator)
    if odd:
        raise NotClean(f"{odd[:20]!r} is in the text besides numbers")
    octets = np.frombuffer(b"\n" + lines + b"\n", np.uint8)
    zeros = np.flatnonzero(octets == _ZERO)
    before, after = octets[zeros - 1], octets[zeros + 1]
    first = ((before < _ZERO) | (before > _NINE)) & (before != _POINT)
    padded = first & (after >= _ZERO) & (after <= _NINE)
    negative = (before == _MINUS) & (after != _POINT)
    if padded.any() or negative.any():
        raise NotClean("a number begins with a zero")
