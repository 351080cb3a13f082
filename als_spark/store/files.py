"""What the model store asks of a file system, and the local one."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from als_spark.files.trees import LocalTree, remove_ours, strangers

T = TypeVar("T")

SCRATCH = "staging"
"""Folder of the root in which everything is written that is not yet in its place."""
SCRATCH_SUFFIX = ".tmp"
"""Ending of the temporary files in :data:`SCRATCH`."""
TRIES = 20
"""Attempts at a file, for when another process deletes the temporary file."""

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class Files(Protocol):
    """Files below a root.

    Paths are relative to the root, with ``/`` between their parts; "" is the root. Folders come
    into being with the first file in them. Names that begin with a dot belong to the file system
    or to its clients: they are not listed, counted or copied.

    Every method may raise an OSError; FileNotFoundError, FileExistsError and PermissionError mean
    what they say.
    """

    def read(self, path: str) -> bytes:
        """Return the content of a file; FileNotFoundError if there is none."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Write a file that must not be there yet, whole or not at all; False if it is there.

        Of several that create it at once, one gets True.
        """
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Write a file, over an older one too: readers find the old content or the new."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder; [] if there is no such folder."""
        ...

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size in bytes of each file below a folder, by its path within the folder."""
        ...

    def exists(self, path: str) -> bool:
        """Tell whether there is a file or a folder."""
        ...

    def modified(self, path: str) -> float:
        """Return when a file was last written, in seconds since 1970."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Move a folder; FileExistsError if the target is there, FileNotFoundError if no source."""
        ...

    def remove(self, path: str) -> None:
        """Delete a file or an empty folder; nothing happens if it is absent.

        A link is deleted itself. A folder that is not empty is an OSError.
        """
        ...

    def strangers(self, folder: str, ours: Iterable[str]) -> list[str]:
        """Return what a folder holds besides given files."""
        ...

    def remove_ours(self, folder: str, ours: Iterable[str]) -> list[str]:
        """Delete given files of a folder, and what is empty then; return what stays.

        See :func:`als_spark.files.trees.remove_ours`.
        """
        ...

    def upload(self, local_folder: Path, path: str) -> None:
        """Copy the content of a folder of this machine into a new folder."""
        ...

    def download(self, path: str, local_folder: Path) -> None:
        """Copy the content of a folder into a new one of this machine."""
        ...

    def local(self, path: str) -> Path | None:
        """Return where a file or folder lies on this machine; None if it has to be downloaded."""
        ...


class LocalFiles:
    """Files below a folder of this machine, which need not be there.

    What a method has written is on the disk when it returns: files and the folders that name them
    are synchronised.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        return (self._root / path).read_bytes()

    def create(self, path: str, data: bytes) -> bool:
        """Write a file that must not be there yet, whole or not at all."""
        target = self._root / path
        if target.exists():
            return False
        return self._place(target, data, lambda temporary: _link(temporary, target))

    def replace(self, path: str, data: bytes) -> None:
        """Write a file, over an older one too."""
        target = self._root / path
        self._place(target, data, lambda temporary: temporary.replace(target))

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder."""
        try:
            found = os.listdir(self._root / folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in found if not name.startswith("."))

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of each file below a folder."""
        return {
            name: path.stat().st_size for name, path in visible_files(self._root / folder).items()
        }

    def exists(self, path: str) -> bool:
        """Tell whether there is a file or a folder."""
        return (self._root / path).exists()

    def modified(self, path: str) -> float:
        """Return when a file was last written."""
        return (self._root / path).stat().st_mtime

    def rename(self, source: str, target: str) -> None:
        """Move a folder."""
        old, new = self._root / source, self._root / target
        _make_folder(new.parent)
        if new.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
        try:
            old.rename(new)
        except OSError as error:
            if error.errno == errno.ENOTEMPTY:
                raise FileExistsError(errno.EEXIST, error.strerror, str(new)) from error
            raise
        _sync(new.parent)
        _sync(old.parent)

    def remove(self, path: str) -> None:
        """Delete a file or an empty folder."""
        target = self._root / path
        # Somebody else may be deleting the same.
        with suppress(FileNotFoundError):
            if target.is_dir() and not target.is_symlink():
                target.rmdir()
            else:
                target.unlink()

    def strangers(self, folder: str, ours: Iterable[str]) -> list[str]:
        """Return what a folder holds besides given files."""
        return list(strangers(LocalTree(), str(self._root / folder), ours))

    def remove_ours(self, folder: str, ours: Iterable[str]) -> list[str]:
        """Delete given files of a folder, and what is empty then."""
        return remove_ours(LocalTree(), str(self._root / folder), ours)

    def upload(self, local_folder: Path, path: str) -> None:
        """Copy the content of a folder into a new folder."""
        target = self._root / path
        _make_folder(target)
        folders = {target}
        for name, file in visible_files(local_folder).items():
            copy = target / name
            _make_folder(copy.parent)
            folders.add(copy.parent)
            shutil.copyfile(file, copy)
            _sync(copy)
        for folder in folders:
            _sync(folder)

    def download(self, path: str, local_folder: Path) -> None:
        """Copy the content of a folder into a new one."""
        local_folder.mkdir(parents=True)
        for name, file in visible_files(self._root / path).items():
            (local_folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, local_folder / name)

    def local(self, path: str) -> Path | None:
        """Return where a file or folder lies."""
        return self._root / path

    def _place(self, target: Path, data: bytes, move: Callable[[Path], T]) -> T:
        """Write a temporary file and move it to its place."""
        for attempt in range(TRIES):
            _make_folder(target.parent)
            _make_folder(self._root / SCRATCH)
            temporary = self._root / SCRATCH / f"{secrets.token_hex(8)}{SCRATCH_SUFFIX}"
            try:
                # Not tempfile's 0600: others read the store too.
                with temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                moved = move(temporary)
            except FileNotFoundError:
                # Whoever holds the store's lock clears the scratch folder.
                if attempt == TRIES - 1:
                    raise
                continue
            finally:
                temporary.unlink(missing_ok=True)
            _sync(target.parent)
            return moved
        raise AssertionError("unreachable")


def visible_files(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their path within it, sorted, without hidden ones."""
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith("."):
                path = Path(parent) / name
                found[path.relative_to(folder).as_posix()] = path
    return dict(sorted(found.items()))


def _link(temporary: Path, target: Path) -> bool:
    """Give a file a second name, which must be a new one."""
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
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems know no fsync of a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)
