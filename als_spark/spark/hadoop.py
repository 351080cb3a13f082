"""The files of a model store on any file system that Hadoop has a client for."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from als_spark.errors import ConfigError
from als_spark.model.files import local_path
from als_spark.store.files import SCRATCH, SCRATCH_SUFFIX, TRIES
from als_spark.store.store import ModelStore, open_store

_KINDS: dict[str, type[OSError]] = {
    "java.io.FileNotFoundException": FileNotFoundError,
    "java.nio.file.NoSuchFileException": FileNotFoundError,
    "org.apache.hadoop.fs.FileAlreadyExistsException": FileExistsError,
    "org.apache.hadoop.security.AccessControlException": PermissionError,
    "java.nio.file.AccessDeniedException": PermissionError,
}


class HadoopFiles:
    """Files below a folder of a Hadoop file system, through Spark's JVM.

    ``create`` and ``rename`` are one step on file systems whose rename is, HDFS above all. On
    object stores a rename copies, and the look for an older file before it is a step of its own:
    there two runs that start in the same moment are not kept apart.

    Parameters
    ----------
    session : SparkSession
        Knows the file systems.
    root : str
        URI of the folder; it need not be there.

    Raises
    ------
    ConfigError
        If the file system is unknown or does not answer.
    """

    def __init__(self, session: SparkSession, root: str) -> None:
        jvm = session.sparkContext._jvm
        gateway = session.sparkContext._gateway
        assert jvm is not None
        assert gateway is not None
        # The JVM's namespace is resolved at run time.
        self._hadoop: Any = jvm.org.apache.hadoop.fs
        self._streams: Any = jvm.org.apache.commons.io.IOUtils
        self._root = root.rstrip("/")
        configuration = session.sparkContext._jsc.hadoopConfiguration()
        option = self._hadoop.Options.Rename
        self._overwrite = gateway.new_array(option, 1)
        self._overwrite[0] = option.OVERWRITE
        self._keep = gateway.new_array(option, 0)
        try:
            with _os_errors():
                path = self._hadoop.Path(root)
                self._system = path.getFileSystem(configuration)
                self._system.exists(path)
        except OSError as error:
            raise ConfigError(
                f"{root}: its file system does not answer ({error}): check the address"
            ) from error
        try:
            # The younger interface, whose rename can replace, and refuses to if not asked to.
            with _os_errors():
                self._context = self._hadoop.FileContext.getFileContext(path.toUri(), configuration)
        except OSError:
            self._context = None

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        with _os_errors():
            stream = self._system.open(self._path(path))
            try:
                return bytes(self._streams.toByteArray(stream))
            finally:
                stream.close()

    def create(self, path: str, data: bytes) -> bool:
        """Write a file that must not be there yet, whole or not at all."""

        def move(temporary: str) -> bool:
            try:
                self._move(temporary, path)
            except FileExistsError:
                return False
            return True

        if self.exists(path):
            return False
        moved = self._place(data, move)
        # At a second attempt the first may have succeeded, and only its answer been lost.
        return moved or self.read(path) == data

    def replace(self, path: str, data: bytes) -> None:
        """Write a file, over an older one too.

        Where the file system's client has no replacing rename the file is written in its place: on
        object stores it appears whole when it is closed.
        """
        if self._context is None:
            self._write(path, data)
            return

        def move(temporary: str) -> bool:
            self._make_parent(path)
            with _os_errors():
                self._context.rename(self._path(temporary), self._path(path), self._overwrite)
            return True

        self._place(data, move)

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder."""
        try:
            with _os_errors():
                found = self._system.listStatus(self._path(folder))
        except FileNotFoundError:
            return []
        names = [status.getPath().getName() for status in found]
        return sorted(name for name in names if not name.startswith("."))

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of each file below a folder."""
        sizes: dict[str, int] = {}
        self._add_sizes(self._path(folder), "", sizes)
        return dict(sorted(sizes.items()))

    def exists(self, path: str) -> bool:
        """Tell whether there is a file or a folder."""
        with _os_errors():
            return bool(self._system.exists(self._path(path)))

    def modified(self, path: str) -> float:
        """Return when a file was last written."""
        with _os_errors():
            return float(self._system.getFileStatus(self._path(path)).getModificationTime()) / 1000

    def rename(self, source: str, target: str) -> None:
        """Move a folder."""
        # Asked for the source first: clients differ in what they say if both are wrong.
        if not self.exists(source):
            raise FileNotFoundError(f"{self._root}/{source}")
        self._move(source, target)

    def remove(self, path: str) -> None:
        """Delete a file, or a folder with all that is in it."""
        with _os_errors():
            self._system.delete(self._path(path), True)

    def upload(self, local_folder: Path, path: str) -> None:
        """Copy the content of a folder of this machine into a new folder."""
        with _os_errors():
            self._system.mkdirs(self._path(path))
            for entry in sorted(local_folder.iterdir()):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    self.upload(entry, f"{path}/{entry.name}")
                else:
                    self._system.copyFromLocalFile(
                        False, True, _local(entry, self._hadoop), self._path(f"{path}/{entry.name}")
                    )

    def download(self, path: str, local_folder: Path) -> None:
        """Copy the content of a folder into a new one of this machine."""
        local_folder.mkdir(parents=True)
        for name in self.sizes(path):
            target = local_folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with _os_errors():
                # The last: without the checksum files of Hadoop's local client.
                self._system.copyToLocalFile(
                    False, self._path(f"{path}/{name}"), _local(target, self._hadoop), True
                )

    def local(self, path: str) -> None:
        """Nothing lies on this machine."""

    def _path(self, path: str) -> Any:
        return self._hadoop.Path(f"{self._root}/{path}".rstrip("/"))

    def _write(self, path: str, data: bytes) -> None:
        with _os_errors():
            stream = self._system.create(self._path(path), True)
            try:
                stream.write(bytearray(data))
                if stream.hasCapability("hsync"):
                    stream.hsync()
            finally:
                stream.close()

    def _place(self, data: bytes, move: Callable[[str], bool]) -> bool:
        """Write a temporary file and move it to its place."""
        for attempt in range(TRIES):
            temporary = f"{SCRATCH}/{secrets.token_hex(8)}{SCRATCH_SUFFIX}"
            try:
                self._write(temporary, data)
                return move(temporary)
            except OSError:
                # Whoever holds the store's lock clears the scratch folder, and clients say in many
                # ways that a file is gone.
                if attempt == TRIES - 1 or self.exists(temporary):
                    raise
            finally:
                # What stays behind, the holder of the lock clears away.
                with suppress(OSError):
                    self.remove(temporary)
        raise AssertionError("unreachable")

    def _move(self, source: str, target: str) -> None:
        """Rename a file or folder; FileExistsError if the target is there."""
        if self.exists(target):
            raise FileExistsError(f"{self._root}/{target}")
        self._make_parent(target)
        with _os_errors():
            if self._context is not None:
                self._context.rename(self._path(source), self._path(target), self._keep)
                return
            moved = self._system.rename(self._path(source), self._path(target))
        if not moved:
            kind = FileExistsError if self.exists(target) else FileNotFoundError
            raise kind(f"cannot rename {self._root}/{source} to {target}")

    def _make_parent(self, path: str) -> None:
        with _os_errors():
            self._system.mkdirs(self._path(path).getParent())

    def _add_sizes(self, folder: Any, prefix: str, sizes: dict[str, int]) -> None:
        try:
            with _os_errors():
                found = list(self._system.listStatus(folder))
        except FileNotFoundError:
            return
        for status in found:
            name = status.getPath().getName()
            if name.startswith("."):
                continue
            if status.isDirectory():
                self._add_sizes(status.getPath(), f"{prefix}{name}/", sizes)
            else:
                sizes[f"{prefix}{name}"] = int(status.getLen())


def store_at(session: SparkSession, path: str) -> ModelStore:
    """Return the model store in a directory of any file system.

    Parameters
    ----------
    session : SparkSession
        Knows the file systems.
    path : str
        A path, or a URI. Those of this machine are read and written without Spark.

    Raises
    ------
    ConfigError
        If the file system is unknown or does not answer.
    DataError
        If the path is a file of this machine.
    """
    local = local_path(path)
    if local is not None:
        return open_store(local)
    return ModelStore(HadoopFiles(session, path), path.rstrip("/"))


def _local(path: Path, hadoop: Any) -> Any:
    # A scheme and a path, so that no character of the path is taken for a part of a URI.
    return hadoop.Path("file", None, str(path.absolute()))


@contextmanager
def _os_errors() -> Iterator[None]:
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
