"""The file system of this machine."""

# ruff: noqa: D102 - what the methods do, Tree says.

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from als_spark.files.trees import Entry

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class LocalTree:
    """The file system of this machine; see :class:`als_spark.files.trees.Tree`.

    Files and the folders that name them are synchronised.
    """

    def entries(self, folder: str) -> list[Entry]:
        with os.scandir(folder) as found:
            return [_entry(item) for item in sorted(found, key=lambda item: item.name)]

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        _make_folder(Path(path).parent)
        with _named(path), open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def exists(self, path: str) -> bool:
        """Tell whether there is anything; also a link that leads nowhere."""
        return os.path.lexists(path)

    def is_folder(self, path: str) -> bool:
        try:
            return stat.S_ISDIR(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def modified(self, path: str) -> float:
        return os.stat(path).st_mtime

    def make_folder(self, path: str) -> None:
        _make_folder(Path(path))

    def rename(self, source: str, target: str) -> None:
        old, new = Path(source), Path(target)
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        try:
            old.rename(new)
        except OSError as error:
            if error.errno == errno.ENOTEMPTY:
                raise FileExistsError(errno.EEXIST, error.strerror, target) from error
            raise
        _sync(new.parent)
        _sync(old.parent)

    def rename_over(self, source: str, target: str) -> None:
        os.replace(source, target)
        _sync(Path(target).parent)

    def place(self, temporary: str, target: str) -> bool:
        placed = _link(Path(temporary), Path(target))
        _sync(Path(target).parent)
        return placed

    def remove_file(self, path: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)

    def remove_empty(self, path: str) -> bool:
        with suppress(OSError):
            os.rmdir(path)
        return not os.path.lexists(path)

    def scrap(self, path: str) -> None:
        shutil.rmtree(path, ignore_errors=True)

    def copy_in(self, source: Path, path: str) -> None:
        _make_folder(Path(path).parent)
        with _named(path):
            shutil.copyfile(source, path)
            _sync(Path(path))
        _sync(Path(path).parent)

    def copy_out(self, path: str, target: Path) -> None:
        with _named(str(target)):
            shutil.copyfile(path, target)


@contextmanager
def _named(target: str) -> Iterator[None]:
    """Let an error of a full disk name the file that was being written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # A write names none, and a copy the source.
        raise OSError(error.errno, os.strerror(error.errno), target) from error


def _entry(item: os.DirEntry[str]) -> Entry:
    if item.is_dir(follow_symlinks=False):
        return Entry(item.name, "folder", None)
    try:
        size = item.stat().st_size if item.is_file() else None
    except OSError:
        # Another process has just deleted it.
        size = None
    return Entry(item.name, "file" if item.is_file(follow_symlinks=False) else "other", size)


def _link(temporary: Path, target: Path) -> bool:
    try:
        os.link(temporary, target)
    except FileExistsError:
        # A network file system may repeat a request whose answer was lost.
        return temporary.stat().st_nlink > 1
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        return _rename_unless_there(temporary, target)
    return True


def _rename_unless_there(temporary: Path, target: Path) -> bool:
    """Do the same without hard links: a look and a rename, one process at a time.

    The kernel drops the file lock of a process that is killed.
    """
    with (temporary.parent / ".create.flock").open("wb") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if target.exists():
            return False
        temporary.rename(target)
        return True


def _make_folder(folder: Path) -> None:
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        _sync(path.parent)


def _sync(path: Path) -> None:
    """Put a file, or the names in a folder, onto the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        # A folder into which this user may write, but not look.
        return
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems know no fsync of a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)
