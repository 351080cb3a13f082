"""JSON files with more values on a line, or in a file, than Spark reads: it takes the first one."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.spark.arrow import ddl, map_in_arrow
from als_spark.spark.read.heads import Listing, local_of, shown
from als_spark.spark.session import described

_ENDS = r"[}\]]\s*,?\s*[{\[]"
"""Where a value ends and another begins; also within an array, or a text."""
_ARRAY_ENDS = rb"\]\s*[\[{]"
"""The same behind an array: within one a comma is between."""
_FOUND = pa.schema([("file", pa.string()), ("value", pa.string())])
_SHOWN = 60


def refuse_several_values(
    session: SparkSession, listing: Listing, files: Sequence[str], *, array: bool
) -> None:
    """Refuse files that have more than one value on a line, or behind an array over several lines.

    Raises
    ------
    DataError
        With the file, where the second value begins, and the remedy.
    """
    if array:
        remedy = "put all records into one array, or each on a line of its own"
        found = [(file, text) for file in files if (text := _behind_array(session, listing, file))]
    else:
        remedy = "put each on a line of its own"
        found = _behind_lines(session, listing, files)
    for file, text in sorted(found)[:1]:
        raise DataError(
            f"{shown(file)}: Spark would pass over {text[:_SHOWN]!r}, which stands behind another "
            f"value of JSON{'' if array else ' on its line'}: {remedy}"
        )


def rest_of(text: str) -> str:
    """Return what stands behind the first value of a text, if it begins another value."""
    text = text.lstrip(" \t\r\n\ufeff")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return ""
    rest = text[end:].lstrip(" \t\r\n,")
    return rest if rest.startswith(("{", "[")) else ""


def find_rests(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Find the lines with more than one value: runs on an executor, over ``file`` and ``value``."""
    for batch in batches:
        columns = (batch.column(name).to_pylist() for name in ("file", "value"))
        rows = [
            {"file": file, "value": rest}
            for file, value in zip(*columns, strict=True)
            if (rest := rest_of(value))
        ]
        yield pa.RecordBatch.from_pylist(rows, schema=_FOUND)


def _behind_lines(
    session: SparkSession, listing: Listing, files: Sequence[str], *, wholetext: bool = False
) -> list[tuple[str, str]]:
    reader = session.read.option("wholetext", wholetext)
    with described(session.sparkContext, f"looking for several values in {listing.path}"):
        texts = listing.load(reader, "text", files)
        rows = texts.where(F.col("value").rlike(_ENDS)).select(
            F.input_file_name().alias("file"), "value"
        )
        found = map_in_arrow(rows, find_rests, ddl(_FOUND)).head(1)
    return [(row.file, row.value) for row in found]


def _behind_array(session: SparkSession, listing: Listing, file: str) -> str:
    path = local_of(file)
    if path is None:
        return next(
            (text for _, text in _behind_lines(session, listing, [file], wholetext=True)), ""
        )
    return rest_of(path.read_text("utf-8", "replace")) if _may_go_on(path) else ""


def _may_go_on(path: Path) -> bool:
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return re.search(_ARRAY_ENDS, data) is not None
