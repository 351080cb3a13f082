"""The output folder: on this machine, or on any file system that Hadoop knows."""

from __future__ import annotations

import posixpath
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from als_spark.errors import ConfigError
from als_spark.model.files import StagedFolder, check_replaceable, local_path, replaced_folder

OUTPUT_FILE = "_ALS_SPARK"
"""Every folder of :func:`spark_output` has it, and is known by it as one that a later run may
replace: Spark's own ``_SUCCESS`` is in every dataset that Spark has written. Spark's readers pass
over names that begin with an underscore, and no ``*.json`` or ``*.parquet`` finds it."""
_OUTPUT_NOTE = b"Written by als_spark, whose next run with this folder as its output replaces it.\n"


@contextmanager
def output_folder(session: SparkSession, target: str, marker: str) -> Iterator[StagedFolder]:
    """Give a local folder to write into, which takes the target's place when the block ends.

    A block that fails leaves the target as it was.

    Parameters
    ----------
    session : SparkSession
        Knows the file systems.
    target : str
        Path, or URI of any file system that Hadoop has a client for.
    marker : str
        A file that an earlier output has: a folder that has it is replaced, another one is not.

    Raises
    ------
    ConfigError
        If the target is not a folder that may be replaced, or its file system does not answer.
    """
    path = local_path(target)
    if path is not None:
        check_replaceable(path, marker)
        with replaced_folder(path) as staged:
            yield staged
        return
    remote = _RemoteFolder(session, target)
    remote.check_replaceable(marker)
    with tempfile.TemporaryDirectory(prefix="als_spark-") as folder:
        staged = StagedFolder(Path(folder) / "content")
        staged.content.mkdir()
        yield staged
        remote.replace(staged)


@contextmanager
def spark_output(session: SparkSession, target: str) -> Iterator[str]:
    """Give a folder for Spark to write into, which takes the target's place when the block ends.

    Parameters
    ----------
    session, target
        As in :func:`output_folder`. A folder with :data:`OUTPUT_FILE` is replaced.

    Yields
    ------
    str
        URI of a folder beside the target, which may be there already, empty.

    Raises
    ------
    ConfigError
        If the target is not a folder that may be replaced, or its file system does not answer.
    """
    path = local_path(target)
    if path is not None:
        check_replaceable(path, OUTPUT_FILE)
        with replaced_folder(path) as staged:
            # Not as_uri(): Hadoop takes a %20 for what it says.
            yield f"file://{staged.content}"
            (staged.content / OUTPUT_FILE).write_bytes(_OUTPUT_NOTE)
        return
    remote = _RemoteFolder(session, target)
    remote.check_replaceable(OUTPUT_FILE)
    with remote.beside() as (new, old):
        yield new
        remote.write(f"{new}/{OUTPUT_FILE}", _OUTPUT_NOTE)
        remote.swap(new, target.rstrip("/"), old)


class _RemoteFolder:
    """A folder on a Hadoop file system, through Spark's JVM."""

    def __init__(self, session: SparkSession, target: str) -> None:
        jvm = session.sparkContext._jvm
        assert jvm is not None
        # The JVM's namespace is resolved at run time.
        self._hadoop: Any = jvm.org.apache.hadoop.fs
        self._target = target.rstrip("/")
        configuration = session.sparkContext._jsc.hadoopConfiguration()
        try:
            self._system = self._path(target).getFileSystem(configuration)
            self._there = self._system.exists(self._path(target))
        except Py4JJavaError as error:
            raise ConfigError(
                f"--output {target}: its file system does not answer "
                f"({str(error.java_exception.getMessage()).splitlines()[0]}): check the address"
            ) from error

    def check_replaceable(self, marker: str) -> None:
        if not self._there:
            return
        status = self._system.getFileStatus(self._path(self._target))
        if not status.isDirectory():
            raise ConfigError(f"--output {self._target}: this is a file: give a folder")
        empty = len(self._system.listStatus(self._path(self._target))) == 0
        if not empty and not self._system.exists(self._path(f"{self._target}/{marker}")):
            raise ConfigError(
                f"--output {self._target}: the folder is not empty and holds no earlier output "
                f"(no {marker}): give an empty or a new folder"
            )

    def write(self, path: str, data: bytes) -> None:
        """Write a small file, over an older one too."""
        stream = self._system.create(self._path(path), True)
        try:
            stream.write(bytearray(data))
        finally:
            stream.close()

    def replace(self, staged: StagedFolder) -> None:
        """Copy beside the target, then rename: a rename is one step where copying is many."""
        target = self._target
        if staged.subfolder is not None:
            target = f"{target}/{staged.subfolder}"
        with self.beside(target) as (new, old):
            self._system.copyFromLocalFile(
                False, True, self._path(f"file://{staged.content}"), self._path(new)
            )
            self.swap(new, target, old)

    @contextmanager
    def beside(self, target: str | None = None) -> Iterator[tuple[str, str]]:
        """Name a new folder beside the target, and one for what is there; both go at the end."""
        parent, name = posixpath.split(target or self._target)
        hidden = f"{parent}/.{name}.{secrets.token_hex(4)}"
        new, old = f"{hidden}.new", f"{hidden}.replaced"
        self._system.mkdirs(self._path(parent))
        try:
            yield new, old
        finally:
            self._system.delete(self._path(new), True)
        self._system.delete(self._path(old), True)

    def swap(self, new: str, target: str, old: str) -> None:
        """Put a new folder in the target's place."""
        if self._system.exists(self._path(target)):
            self._rename(target, old)
        self._rename(new, target)

    def _rename(self, source: str, target: str) -> None:
        if not self._system.rename(self._path(source), self._path(target)):
            raise OSError(f"cannot rename {source} to {target}")

    def _path(self, text: str) -> Any:
        return self._hadoop.Path(text)
