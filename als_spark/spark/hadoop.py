"""Any file system that Hadoop has a client for."""

# ruff: noqa: D102 - what the methods do, Tree says.

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from als_spark.files.trees import Entry

_KINDS: dict[str, type[OSError]] = {
    "java.io.FileNotFoundException": FileNotFoundError,
    "java.nio.file.NoSuchFileException": FileNotFoundError,
    "org.apache.hadoop.fs.FileAlreadyExistsException": FileExistsError,
    "org.apache.hadoop.security.AccessControlException": PermissionError,
    "java.nio.file.AccessDeniedException": PermissionError,
}
_CONDITIONAL = "fs.option.create.conditional.overwrite"
"""Hadoop's name (3.4.2 and newer) of an object that is created only if it is not there."""


class HadoopTree:
    """The file system of a URI, through Spark's JVM; see :class:`als_spark.files.trees.Tree`.

    ``rename`` and ``place`` are one step on file systems whose rename is, HDFS above all. On object
    stores a rename copies, and the look for the target before it is a step of its own; there
    :meth:`create` keeps two runs apart that start in the same moment, if :attr:`creates_alone`.

    The file system is that of ``uri``; OSError if it is unknown or does not answer.
    """

    def __init__(self, session: SparkSession, uri: str) -> None:
        context = session.sparkContext
        assert context._jvm is not None
        assert context._gateway is not None
        # The JVM's namespace is resolved at run time.
        self._hadoop: Any = context._jvm.org.apache.hadoop.fs
        self._hadoop_io: Any = context._jvm.org.apache.hadoop.io
        self._streams: Any = context._jvm.org.apache.commons.io.IOUtils
        self._gateway = context._gateway
        self._configuration = context._jsc.hadoopConfiguration()
        self._uri = uri
        with _os_errors():
            self._system = self._path(uri).getFileSystem(self._configuration)
            self._system.exists(self._path(uri))

    @cached_property
    def _codecs(self) -> Any:
        """What unpacks a compressed file, by its name."""
        return self._hadoop_io.compress.CompressionCodecFactory(self._configuration)

    @cached_property
    def _context(self) -> Any:
        """The younger interface, whose rename can replace, and refuses to if not asked to."""
        try:
            with _os_errors():
                # Of hdfs:///folder it has no host to ask; the older interface takes the default's.
                uri = self._whole(self._uri).toUri()
                return self._hadoop.FileContext.getFileContext(uri, self._configuration)
        except OSError:
            # Some file systems have the older one alone.
            return None

    def entries(self, folder: str) -> list[Entry]:
        path = self._path(folder)
        with _os_errors():
            found = list(self._system.listStatus(path))
        place = self._local_place(path) if found else None
        entries = [_entry(status, place) for status in found]
        return sorted(entries, key=lambda entry: entry.name)

    def read(self, path: str) -> bytes:
        try:
            with _os_errors():
                stream = self._system.open(self._path(path))
                try:
                    return bytes(self._streams.toByteArray(stream))
                finally:
                    stream.close()
        except OSError as error:
            # Clients have no common name for it.
            raise IsADirectoryError(path) if self.is_folder(path) else error from None

    def head(self, path: str, size: int) -> bytes:
        """Read the first bytes of a file, unpacked as its name says."""
        with _os_errors():
            stream = self._system.open(self._path(path))
            try:
                codec = self._codecs.getCodec(self._path(path))
                plain = stream if codec is None else codec.createInputStream(stream)
                return bytes(plain.readNBytes(size))
            finally:
                stream.close()

    def tail(self, path: str, size: int) -> bytes:
        """Read the last bytes of a file."""
        with _os_errors():
            length = int(self._system.getFileStatus(self._path(path)).getLen())
            stream = self._system.open(self._path(path))
            try:
                stream.seek(max(length - size, 0))
                return bytes(stream.readNBytes(size))
            finally:
                stream.close()

    def matches(self, pattern: str) -> list[str]:
        """Return the addresses that match a pattern, no character of them escaped."""
        with _os_errors():
            found = self._system.globStatus(self._path(pattern))
        return [str(status.getPath()) for status in found or ()]

    def write(self, path: str, data: bytes) -> None:
        with _os_errors():
            stream = self._system.create(self._path(path), True)
            try:
                stream.write(bytearray(data))
                if stream.hasCapability("hsync"):
                    stream.hsync()
            finally:
                stream.close()

    @cached_property
    def creates_alone(self) -> bool:
        """Tell whether :meth:`create` works: whether the store knows conditional writes."""
        with _os_errors():
            return bool(self._system.hasPathCapability(self._path(self._uri), _CONDITIONAL))

    def create(self, path: str, data: bytes) -> bool:
        """Write an object that must not be there yet, in one step; False if it is there.

        True also if an earlier attempt did it, whose answer was lost.
        """
        try:
            with _os_errors():
                builder = self._system.createFile(self._path(path)).recursive().overwrite(True)
                stream = builder.must(_CONDITIONAL, "true").build()
                # The condition is that of the request which the end of the stream makes.
                try:
                    stream.write(bytearray(data))
                finally:
                    stream.close()
        except OSError as error:
            # Clients have several names for it.
            try:
                return self.read(path) == data
            except FileNotFoundError:
                raise error from None
        return True

    def exists(self, path: str) -> bool:
        with _os_errors():
            return bool(self._system.exists(self._path(path)))

    def is_folder(self, path: str) -> bool:
        try:
            with _os_errors():
                found = bool(self._system.getFileStatus(self._path(path)).isDirectory())
        except FileNotFoundError:
            return False
        return found and not self._is_link(path)

    def modified(self, path: str) -> float:
        with _os_errors():
            return float(self._system.getFileStatus(self._path(path)).getModificationTime()) / 1000

    def make_folder(self, path: str) -> None:
        with _os_errors():
            self._system.mkdirs(self._path(path))

    def rename(self, source: str, target: str) -> None:
        # Asked first: clients differ in what they say, and some move into a folder that is there.
        if not self.exists(source):
            raise FileNotFoundError(source)
        if self.exists(target):
            raise FileExistsError(target)
        if self._context is not None:
            self._rename_in_context(source, target)
            return
        with _os_errors():
            moved = self._system.rename(self._path(source), self._path(target))
        if not moved:
            kind = FileExistsError if self.exists(target) else FileNotFoundError
            raise kind(f"cannot rename {source} to {target}")

    def rename_over(self, source: str, target: str) -> None:
        """Move a file over another one.

        Where the client has no replacing rename the file is written in its place: on object stores
        it appears whole when it is closed.
        """
        if self._context is None:
            self.write(target, self.read(source))
        else:
            self._rename_in_context(source, target, self._hadoop.Options.Rename.OVERWRITE)

    def place(self, temporary: str, target: str) -> bool:
        try:
            self.rename(temporary, target)
        except FileExistsError:
            # At a second attempt the first may have succeeded, and only its answer been lost.
            return self.read(target) == self.read(temporary)
        return True

    def remove_file(self, path: str) -> None:
        with _os_errors():
            self._system.delete(self._path(path), False)

    def remove_empty(self, path: str) -> bool:
        if not self.exists(path):
            return True
        # Asked first: on some object stores a folder that is not empty would go.
        if self._is_link(path) or self.entries(path):
            return False
        with suppress(OSError):
            self.remove_file(path)
        return not self.exists(path)

    def scrap(self, path: str) -> None:
        with suppress(OSError), _os_errors():
            self._system.delete(self._path(path), True)

    def copy_in(self, source: Path, path: str) -> None:
        """Copy a file, or a whole folder, to a new name."""
        with _os_errors():
            self._system.copyFromLocalFile(False, True, self._local(source), self._path(path))

    def copy_out(self, path: str, target: Path) -> None:
        with _os_errors():
            # The last: without the checksum files of Hadoop's local client.
            self._system.copyToLocalFile(False, self._path(path), self._local(target), True)

    def resolved(self, path: str) -> str:
        """Return the whole address of a path, through mounts of other file systems too."""
        asked = self._path(path)
        with _os_errors():
            inside = asked
            # What is not there yet lies where its first parent that is there does.
            while not self._system.exists(inside) and inside.getParent() is not None:
                inside = inside.getParent()
            # The root alone ends with a slash.
            known = str(self._system.makeQualified(inside)).rstrip("/")
            whole = str(self._system.makeQualified(asked))
            return str(self._system.resolvePath(inside)).rstrip("/") + whole[len(known) :]

    def _rename_in_context(self, source: str, target: str, *options: Any) -> None:
        given = self._gateway.new_array(self._hadoop.Options.Rename, len(options))
        for place, option in enumerate(options):
            given[place] = option
        with _os_errors():
            self._context.rename(self._whole(source), self._whole(target), given)

    def _is_link(self, path: str) -> bool:
        """Tell a link of this machine: Hadoop's local client takes it for what it leads to."""
        parent = self._path(path).getParent()
        place = None if parent is None else self._local_place(parent)
        return place is not None and os.path.islink(place / self._path(path).getName())

    def _local_place(self, folder: Any) -> Path | None:
        """Return where a folder lies, if it lies on this machine."""
        with _os_errors():
            place = str(self._system.resolvePath(folder))
        return Path(place[len("file:") :]) if place.startswith("file:/") else None

    def _path(self, text: str) -> Any:
        return self._hadoop.Path(text)

    def _whole(self, text: str) -> Any:
        """Return a path with scheme and host, which an address may leave to Hadoop's default."""
        return self._system.makeQualified(self._path(text))

    def _local(self, path: Path) -> Any:
        # A scheme and a path, so that no character of the path is taken for a part of a URI.
        return self._hadoop.Path("file", None, str(path.absolute()))


def _entry(status: Any, place: Path | None) -> Entry:
    name = str(status.getPath().getName())
    folder = bool(status.isDirectory())
    size = None if folder else int(status.getLen())
    if status.isSymlink() or (place is not None and os.path.islink(place / name)):
        return Entry(name, "other", size)
    return Entry(name, "folder" if folder else "file", size)


@contextmanager
def _os_errors() -> Iterator[None]:
    """Turn the JVM's exceptions into those that Python has for the same."""
    try:
        yield
    except Py4JJavaError as error:
        name = str(error.java_exception.getClass().getName())
        text = str(error.java_exception.getMessage() or "").partition("\n")[0]
        raise _KINDS.get(name, OSError)(f"{name}: {text}") from error
    except (PySparkException, Py4JError) as error:
        # PySpark has names of its own for some of Java's; after Ctrl-C there may be no JVM.
        raise OSError(f"{type(error).__name__}: {error}".partition("\n")[0]) from error
