"""The files of a model store, on any file system."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from als_spark.errors import DataError
from als_spark.files import trees
from als_spark.files.local import LocalTree
from als_spark.files.trees import Tree

T = TypeVar("T")


class MisplacedError(DataError, OSError):
    """There is a folder where a store keeps a file, or a file where it keeps a folder."""

    def __init__(self, path: str, found: str, wanted: str) -> None:
        super().__init__(
            f"{path} is a {found}, where the store keeps a {wanted}: move it elsewhere"
        )


SCRATCH = "staging"
"""Folder of the root in which everything is written that is not yet in its place."""
SCRATCH_SUFFIX = ".tmp"
"""Ending of the temporary files in :data:`SCRATCH`."""
_TRIES = 20
"""Attempts at a file, for when another process deletes the temporary file."""


class Files:
    """Files below a root, which need not be there.

    Paths are relative to the root, with ``/`` between their parts; "" is the root. Folders come
    into being with the first file in them. Names that begin with a dot belong to the file system
    or to its clients: they are not listed, counted or copied.

    Errors are those of :class:`~als_spark.files.trees.Tree`, and :class:`MisplacedError`.
    """

    def __init__(self, tree: Tree, root: str) -> None:
        self._tree = tree
        self._root = root

    def read(self, path: str) -> bytes:
        """Return the content of a file; FileNotFoundError if there is none."""
        whole = self._at(path)
        try:
            return self._tree.read(whole)
        except IsADirectoryError as error:
            raise MisplacedError(whole, "folder", "file") from error

    def create(self, path: str, data: bytes) -> bool:
        """Write a file that must not be there yet, whole or not at all; False if it is there.

        Of several that create it at once, one gets True.
        """
        return not self.exists(path) and self._placed(path, data, self._tree.place)

    def replace(self, path: str, data: bytes) -> None:
        """Write a file, over an older one too: readers find the old content or the new."""
        self._placed(path, data, self._tree.rename_over)

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder; [] if there is no such folder."""
        whole = self._at(folder)
        try:
            found = [entry.name for entry in self._tree.entries(whole)]
        except FileNotFoundError:
            return []
        except NotADirectoryError as error:
            self._refuse_file(whole, error)
            return []
        return [name for name in found if not name.startswith(".")]

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size in bytes of each file below a folder, by its path within the folder."""
        found = trees.leaves(self._tree, self._at(folder))
        sizes = {leaf.name: leaf.size for leaf in found if "/." not in f"/{leaf.name}"}
        return {name: size for name, size in sorted(sizes.items()) if size is not None}

    def exists(self, path: str) -> bool:
        """Tell whether there is a file or a folder."""
        return self._tree.exists(self._at(path))

    def modified(self, path: str) -> float:
        """Return when a file was last written, in seconds since 1970."""
        return self._tree.modified(self._at(path))

    def rename(self, source: str, target: str) -> None:
        """Move a folder; FileExistsError if the target is there, FileNotFoundError if no source."""
        whole = self._at(target)
        self._tree.make_folder(trees.parent_of(whole))
        self._tree.rename(self._at(source), whole)

    def settle(self, source: str, target: str, name: str, data: bytes) -> None:
        """Give a folder its last file and its name; FileExistsError if the name is taken."""
        self.replace(f"{source}/{name}", data)
        self.rename(source, target)

    def remove(self, path: str) -> None:
        """Delete a file or an empty folder; nothing happens if it is absent.

        A link is deleted itself. A folder that is not empty is an OSError.
        """
        whole = self._at(path)
        if not self._tree.is_folder(whole):
            self._tree.remove_file(whole)
        elif not self._tree.remove_empty(whole):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), whole)

    def strangers(self, folder: str, ours: Iterable[str]) -> list[str]:
        """Return what a folder holds besides given files."""
        return list(trees.strangers(self._tree, self._at(folder), ours))

    def remove_ours(self, folder: str, ours: Iterable[str]) -> list[str]:
        """Delete given files; see :func:`als_spark.files.trees.remove_ours`."""
        return trees.remove_ours(self._tree, self._at(folder), ours)

    def upload(self, local_folder: Path, path: str) -> None:
        """Copy the content of a folder of this machine into a new folder."""
        for name in LocalFiles(local_folder).sizes(""):
            self._tree.copy_in(local_folder / name, self._at(f"{path}/{name}"))

    def download(self, path: str, local_folder: Path) -> None:
        """Copy the content of a folder into a new one of this machine."""
        local_folder.mkdir(parents=True)
        for name in self.sizes(path):
            target = local_folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self._tree.copy_out(self._at(f"{path}/{name}"), target)

    def fetch(self, path: str, target: Path) -> None:
        """Copy a file to a new one of this machine."""
        self._tree.copy_out(self._at(path), target)

    def local(self, path: str) -> Path | None:  # noqa: ARG002 - of other file systems
        """Return where a file or folder lies on this machine; None if it has to be downloaded."""
        return None

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}".rstrip("/") or "/"

    def _refuse_file(self, folder: str, error: OSError) -> None:
        """Name the file that stands where a folder of the store should be, if that is why."""
        while folder.startswith(self._root):
            if self._tree.exists(folder) and not self._tree.is_folder(folder):
                raise MisplacedError(folder, "file", "folder") from error
            folder = trees.parent_of(folder)

    def _placed(self, path: str, data: bytes, move: Callable[[str, str], T]) -> T:
        """Write a temporary file and move it to its place."""
        for attempt in range(_TRIES):
            temporary = self._at(f"{SCRATCH}/{secrets.token_hex(8)}{SCRATCH_SUFFIX}")
            whole = self._at(path)
            try:
                self._tree.make_folder(trees.parent_of(whole))
                self._tree.write(temporary, data)
                return move(temporary, whole)
            except PermissionError:
                raise
            except OSError as error:
                if isinstance(error, NotADirectoryError | FileExistsError):
                    self._refuse_file(trees.parent_of(whole), error)
                    self._refuse_file(trees.parent_of(temporary), error)
                if isinstance(error, IsADirectoryError):
                    raise MisplacedError(whole, "folder", "file") from error
                # The holder of the lock clears the scratch folder. File systems have many ways to
                # say that a file is gone.
                if attempt == _TRIES - 1 or self._tree.exists(temporary):
                    raise
            finally:
                # What stays behind, the holder of the lock clears away.
                with suppress(OSError):
                    self._tree.remove_file(temporary)
        raise AssertionError("unreachable")


class LocalFiles(Files):
    """Files below a folder of this machine."""

    def __init__(self, root: Path) -> None:
        super().__init__(LocalTree(), str(root.absolute()))

    def local(self, path: str) -> Path:
        """Return where a file or folder lies."""
        return Path(self._at(path))
