"""Files of a folder that Spark passes over without a word."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from urllib.parse import unquote

from pyspark.sql import SparkSession

from als_spark.errors import DataError
from als_spark.files.places import local_path, split_address
from als_spark.spark.hadoop import HadoopTree

COMPRESSIONS = r"\.(gz|bz2|zst|snappy|lz4|deflate)"
"""How names of files end that Hadoop takes apart."""
_DATA = re.compile(
    r"(^|/)part-[^./]*$"
    rf"|\.(csv|tsv|txt|dat|data|json|jsonl|ndjson|parquet|pq)({COMPRESSIONS})?$"
)
"""How names of ratings end, rather than those of marks such as _SUCCESS and _metadata."""
_MOST_FOLDERS = 100
"""Folders in which hidden files are looked for."""


def refuse_passed_over(
    session: SparkSession, path: str, files: Sequence[str], partitions: Sequence[str]
) -> None:
    """Refuse a folder in which there are ratings that Spark does not see.

    It reads no file whose name begins with an underscore, as those of its own marks do, and none in
    a folder further down, unless folders are named ``column=value``: then none beside these.

    Parameters
    ----------
    session : SparkSession
    path : str
        Of the source; no pattern.
    files : sequence of str
        Addresses of what Spark finds there.
    partitions : sequence of str
        Columns whose values are the names of folders.

    Raises
    ------
    DataError
        Names one, and what to do.
    """
    own = split_address(path).path.rstrip("/")
    if os.path.basename(own).startswith(("_", ".")) and not files:
        raise DataError(
            f"{path}: Spark passes over names that begin with _ or .: rename it, such as "
            f"{os.path.basename(own).lstrip('._') or 'ratings'}"
        )
    if len(files) == 1 and unquote(split_address(files[0]).path).rstrip("/").endswith(own):
        return
    reader = session.read.options(recursiveFileLookup="true", __globPaths__="false")
    read = (file for file in files if all(f"/{name}=" in unquote(file) for name in partitions))
    found = {*reader.text(path).inputFiles()} - {*read}
    further = sorted(file for file in found if _DATA.search(unquote(file).lower()))
    if further:
        raise DataError(
            f"{_shown(further[0])}: Spark passes over this file, for the files of a source lie in "
            "one folder, or all in folders named column=value: move it there, or give a pattern "
            f"such as {path.rstrip('/')}/*"
        )
    for folder in sorted({file.rpartition("/")[0] for file in files})[:_MOST_FOLDERS]:
        for name in _names(session, folder):
            if name.startswith("_") and _DATA.search(name.lower()):
                raise DataError(
                    f"{_shown(folder)}/{name}: Spark passes over names that begin with _: rename "
                    "it, or move it elsewhere"
                )


def _names(session: SparkSession, folder: str) -> list[str]:
    path = local_path(folder)
    if path is not None:
        return sorted(os.listdir(path))
    return [entry.name for entry in HadoopTree(session, unquote(folder)).entries(unquote(folder))]


def _shown(address: str) -> str:
    parts = split_address(address)
    return unquote(parts.path if parts.scheme == "file" else address)
