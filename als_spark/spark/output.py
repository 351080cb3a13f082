"""The output folder: on this machine, or on any file system that Hadoop knows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from als_spark.errors import ConfigError
from als_spark.files.outputs import (
    Kind,
    StagedFolder,
    check_local_target,
    check_replaceable,
    replaced,
    replaced_folder,
)
from als_spark.files.places import Place, local_path, same_bytes
from als_spark.spark.hadoop import HadoopTree
from als_spark.spark.session import encoding_of_names


@contextmanager
def output_folder(
    session: SparkSession, target: str, kind: Kind, label: str | None = None
) -> Iterator[StagedFolder]:
    """Give a local folder to write into, which takes the target's place when the block ends.

    The target is a path, or a URI of any file system that Hadoop has a client for; ``label`` is
    what messages call it. A block that fails leaves it as it was.

    Raises
    ------
    ConfigError
        If the target is not a folder that may be replaced, or its file system does not answer.
    """
    path = local_path(target)
    if path is not None:
        check_local_target(path, kind, label or target)
        with replaced_folder(path, kind) as staged:
            yield staged
        return
    tree = _remote_tree(session, target, kind, label or target)
    with tempfile.TemporaryDirectory(prefix="als_spark-") as folder:
        staged = StagedFolder(Path(folder) / "content")
        staged.content.mkdir()
        yield staged
        inner = "" if staged.subfolder is None else f"/{staged.subfolder}"
        # Copied beside the target, then renamed: a rename is one step where copying is many.
        with replaced(tree, target.rstrip("/") + inner, kind) as placing:
            for entry in sorted(staged.content.iterdir()):
                tree.copy_in(entry, f"{placing.content}/{entry.name}")


@contextmanager
def spark_output(
    session: SparkSession, target: str, kind: Kind, label: str | None = None
) -> Iterator[str]:
    """Give the URI of a folder beside the target, for Spark to write into; it may be there already.

    As :func:`output_folder` in everything else.
    """
    path = local_path(target)
    if path is not None:
        encoding = encoding_of_names()
        if not same_bytes(os.path.realpath(path), encoding):
            raise ConfigError(
                f"{label or target}: Spark cannot write there: the name is not of {encoding}, the "
                "encoding of its locale: set LC_ALL=C.UTF-8"
            )
        with output_folder(session, target, kind, label) as staged:
            # Not as_uri(): Hadoop takes a %20 for what it says.
            yield f"file://{staged.content}"
        return
    tree = _remote_tree(session, target, kind, label or target)
    with replaced(tree, target.rstrip("/"), kind) as placing:
        yield placing.content


def _remote_tree(session: SparkSession, target: str, kind: Kind, label: str) -> HadoopTree:
    try:
        tree = HadoopTree(session, target)
    except OSError as error:
        # Without the name of Java's exception.
        reason = str(error).partition(": ")[2] or error
        raise ConfigError(
            f"{label}: its file system does not answer ({reason}): check the address"
        ) from error
    check_replaceable(tree, target.rstrip("/"), kind, label)
    return tree


def place_of(session: SparkSession, text: str, read_by_spark: bool = False) -> Place | None:
    """Return where a path or URI lies; None if its file system does not answer.

    Of what is ``read_by_spark``, a path without a scheme is on Spark's default file system.
    """
    local = local_path(text)
    default = str(session.sparkContext._jsc.hadoopConfiguration().get("fs.defaultFS") or "file:")
    of_spark = read_by_spark and not text.startswith("file:") and not default.startswith("file:")
    if local is not None and not of_spark:
        return local
    try:
        place = HadoopTree(session, text).resolved(text)
    except OSError:
        return None
    return Path(place[len("file:") :]) if place.startswith("file:/") else place
