"""Any file system that Hadoop has a client for, as the rules for folders ask for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

_KINDS: dict[str, type[OSError]] = {
    "java.io.FileNotFoundException": FileNotFoundError,
    "java.nio.file.NoSuchFileException": FileNotFoundError,
    "org.apache.hadoop.fs.FileAlreadyExistsException": FileExistsError,
    "org.apache.hadoop.security.AccessControlException": PermissionError,
    "java.nio.file.AccessDeniedException": PermissionError,
}


class HadoopTree:
    """The file system of a URI, through Spark's JVM.

    Parameters
    ----------
    session : SparkSession
        Knows the file systems.
    uri : str
        Any path of the file system.

    Raises
    ------
    OSError
        If the file system is unknown or does not answer.
    """

    def __init__(self, session: SparkSession, uri: str) -> None:
        jvm = session.sparkContext._jvm
        assert jvm is not None
        # The JVM's namespace is resolved at run time.
        self._hadoop: Any = jvm.org.apache.hadoop.fs
        self._streams: Any = jvm.org.apache.commons.io.IOUtils
        configuration = session.sparkContext._jsc.hadoopConfiguration()
        with os_errors():
            path = self._path(uri)
            self._system = path.getFileSystem(configuration)
            self._system.exists(path)

    def leaves(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Give each leaf below a folder."""
        if self.is_folder(folder):
            yield from self._leaves(folder, "")

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        if self.is_folder(path):
            raise IsADirectoryError(path)
        with os_errors():
            stream = self._system.open(self._path(path))
            try:
                return bytes(self._streams.toByteArray(stream))
            finally:
                stream.close()

    def write(self, path: str, data: bytes) -> None:
        """Write a small file, over an older one too."""
        with os_errors():
            stream = self._system.create(self._path(path), True)
            try:
                stream.write(bytearray(data))
            finally:
                stream.close()

    def exists(self, path: str) -> bool:
        """Tell whether there is anything."""
        with os_errors():
            return bool(self._system.exists(self._path(path)))

    def is_folder(self, path: str) -> bool:
        """Tell whether there is a folder."""
        try:
            with os_errors():
                found = bool(self._system.getFileStatus(self._path(path)).isDirectory())
        except FileNotFoundError:
            return False
        return found and not self._is_link(path)

    def make_folder(self, path: str) -> None:
        """Make a folder and its parents."""
        with os_errors():
            self._system.mkdirs(self._path(path))

    def rename(self, source: str, target: str) -> None:
        """Move a file or a folder."""
        # Hadoop would move it into a folder that is there.
        if self.exists(target):
            raise FileExistsError(f"{target} is there already")
        with os_errors():
            moved = self._system.rename(self._path(source), self._path(target))
        if not moved:
            raise OSError(f"cannot rename {source} to {target}")

    def remove_file(self, path: str) -> None:
        """Delete a file."""
        with os_errors():
            self._system.delete(self._path(path), False)

    def remove_empty(self, path: str) -> bool:
        """Delete a folder if it is empty."""
        if not self.exists(path):
            return True
        # Asked first: on some object stores a folder that is not empty would go.
        if self._is_link(path) or self.names(path):
            return False
        with suppress(OSError), os_errors():
            self._system.delete(self._path(path), False)
        return not self.exists(path)

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder."""
        try:
            with os_errors():
                found = list(self._system.listStatus(self._path(folder)))
        except FileNotFoundError:
            return []
        return sorted(str(status.getPath().getName()) for status in found)

    def scrap(self, path: str) -> None:
        """Delete a folder of this run's own."""
        with suppress(OSError), os_errors():
            self._system.delete(self._path(path), True)

    def upload(self, folder: Path, path: str) -> None:
        """Copy the content of a folder of this machine into a folder that is there."""
        for entry in sorted(folder.iterdir()):
            # A scheme and a path, so that no character of the path is taken for a part of a URI.
            source = self._hadoop.Path("file", None, str(entry.absolute()))
            with os_errors():
                self._system.copyFromLocalFile(
                    False, True, source, self._path(f"{path}/{entry.name}")
                )

    def resolved(self, path: str) -> str:
        """Return the whole address of a path, through mounts of other file systems too."""
        asked = self._path(path)
        with os_errors():
            inside = asked
            # What is not there yet lies where its first parent that is there does.
            while not self._system.exists(inside) and inside.getParent() is not None:
                inside = inside.getParent()
            known = str(self._system.makeQualified(inside))
            whole = str(self._system.makeQualified(asked))
            return str(self._system.resolvePath(inside)).rstrip("/") + whole[len(known) :]

    def _leaves(self, folder: str, prefix: str) -> Iterator[tuple[str, bool]]:
        with os_errors():
            found = list(self._system.listStatus(self._path(folder)))
        place = self._local_place(self._path(folder))
        for status in sorted(found, key=lambda status: str(status.getPath().getName())):
            name = str(status.getPath().getName())
            if status.isSymlink() or (place is not None and os.path.islink(place / name)):
                yield prefix + name, False
            elif status.isDirectory():
                empty = True
                for leaf in self._leaves(f"{folder}/{name}", f"{prefix}{name}/"):
                    empty = False
                    yield leaf
                if empty:
                    yield f"{prefix}{name}/", False
            else:
                yield prefix + name, True

    def _is_link(self, path: str) -> bool:
        """Tell a link of this machine: Hadoop's local client takes it for what it leads to."""
        parent = self._path(path).getParent()
        place = None if parent is None else self._local_place(parent)
        return place is not None and os.path.islink(place / self._path(path).getName())

    def _local_place(self, folder: Any) -> Path | None:
        """Return where a folder lies, if it lies on this machine."""
        with os_errors():
            place = str(self._system.resolvePath(folder))
        return Path(place[len("file:") :]) if place.startswith("file:/") else None

    def _path(self, text: str) -> Any:
        return self._hadoop.Path(text)


@contextmanager
def os_errors() -> Iterator[None]:
    """Turn the JVM's exceptions into those that Python has for the same."""
    try:
        yield
    except Py4JJavaError as error:
        name = str(error.java_exception.getClass().getName())
        text = str(error.java_exception.getMessage() or "").partition("\n")[0]
        raise _KINDS.get(name, OSError)(f"{name}: {text}") from error
    except PySparkException as error:
        # PySpark has names of its own for some of Java's.
        raise OSError(f"{type(error).__name__}: {error}".partition("\n")[0]) from error
    except Py4JError as error:
        # After Ctrl-C there may be no JVM to answer.
        raise OSError(f"{type(error).__name__}: {error}".partition("\n")[0]) from error
