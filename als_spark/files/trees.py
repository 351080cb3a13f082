"""Folders of which only some files are ours: what is in them, and the removal of ours alone.

The rules are the same on every file system; a :class:`Tree` is what they ask of one.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol


class Tree(Protocol):
    """A file system, as far as folders are looked through, moved and cleared.

    Paths are whole, with ``/`` between their parts. Every method may raise an OSError.
    """

    def leaves(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Give each leaf below a folder, by its path within it, and whether it is a plain file.

        Leaves are files, links (which are not followed) and, with a ``/`` at their end, empty
        folders; hidden ones too. A folder that is not there, or is a link, has none.
        """
        ...

    def read(self, path: str) -> bytes:
        """Return the content of a file; FileNotFoundError if there is none."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Write a small file."""
        ...

    def exists(self, path: str) -> bool:
        """Tell whether there is anything; also a link that leads nowhere."""
        ...

    def is_folder(self, path: str) -> bool:
        """Tell whether there is a folder, itself and no link to one."""
        ...

    def make_folder(self, path: str) -> None:
        """Make a folder and its parents, where they are missing."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Move a file or a folder; FileExistsError if the target is there."""
        ...

    def remove_file(self, path: str) -> None:
        """Delete a file, never a folder; nothing happens if it is absent."""
        ...

    def remove_empty(self, path: str) -> bool:
        """Delete a folder if it is empty; tell whether it is gone."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder, hidden ones too; [] if there is no such folder."""
        ...

    def scrap(self, path: str) -> None:
        """Delete a folder with all that is in it: one that this very run has made for itself."""
        ...


class LocalTree:
    """The file system of this machine."""

    def leaves(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Give each leaf below a folder."""
        if self.is_folder(folder):
            yield from _leaves(folder, "")

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        return Path(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        """Write a small file."""
        Path(path).write_bytes(data)

    def exists(self, path: str) -> bool:
        """Tell whether there is anything."""
        return os.path.lexists(path)

    def is_folder(self, path: str) -> bool:
        """Tell whether there is a folder."""
        try:
            return stat.S_ISDIR(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def make_folder(self, path: str) -> None:
        """Make a folder and its parents."""
        os.makedirs(path, exist_ok=True)

    def rename(self, source: str, target: str) -> None:
        """Move a file or a folder."""
        if os.path.lexists(target):
            raise FileExistsError(f"{target} is there already")
        os.rename(source, target)

    def remove_file(self, path: str) -> None:
        """Delete a file."""
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)

    def remove_empty(self, path: str) -> bool:
        """Delete a folder if it is empty."""
        with suppress(OSError):
            os.rmdir(path)
        return not os.path.lexists(path)

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder."""
        try:
            return sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def scrap(self, path: str) -> None:
        """Delete a folder of this run's own."""
        shutil.rmtree(path, ignore_errors=True)


def _leaves(folder: str, prefix: str) -> Iterator[tuple[str, bool]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            yield prefix + entry.name, entry.is_file(follow_symlinks=False)
            continue
        empty = True
        for leaf in _leaves(entry.path, f"{prefix}{entry.name}/"):
            empty = False
            yield leaf
        if empty:
            yield f"{prefix}{entry.name}/", False


def strangers(tree: Tree, folder: str, ours: Iterable[str]) -> Iterator[str]:
    """Give the leaves of a folder that are not among ours, by their path within it.

    Links are never ours, whatever their name; a folder that is one is a stranger itself, ".". The
    checksum file that Hadoop's local client keeps
    beside a file of ours (``.name.crc``) is.

    Parameters
    ----------
    tree : Tree
    folder : str
    ours : iterable of str
        Paths within the folder; an empty folder has a ``/`` at its end.
    """
    if tree.exists(folder) and not tree.is_folder(folder):
        yield "."
    known = set(ours)
    for name, plain in tree.leaves(folder):
        if name in known and (plain or name.endswith("/")):
            continue
        if not (plain and _checked_by(name) in known):
            yield name


def remove_ours(tree: Tree, folder: str, ours: Iterable[str]) -> list[str]:
    """Delete our files from a folder, and then what folders are empty, itself too.

    Parameters
    ----------
    tree, folder, ours
        As in :func:`strangers`.

    Returns
    -------
    list of str
        What stays, since it is not ours.
    """
    if tree.exists(folder) and not tree.is_folder(folder):
        return ["."]
    known = set(ours)
    folders = {folder}
    kept = []
    for name, plain in list(tree.leaves(folder)):
        path = f"{folder}/{name.rstrip('/')}"
        if name.endswith("/") and name in known:
            folders.add(path)
        elif plain and (name in known or _checked_by(name) in known):
            tree.remove_file(path)
            folders.update(f"{folder}/{parent}" for parent in _parents(name))
        else:
            kept.append(name)
    for path in sorted(folders, key=len, reverse=True):
        tree.remove_empty(path)
    return kept


def is_inner_name(name: object) -> bool:
    """Tell whether something read from a list of files is a path that stays within its folder."""
    if not isinstance(name, str) or "\0" in name:
        return False
    parts = name.removesuffix("/").split("/")
    return all(part not in ("", ".", "..") for part in parts)


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _checked_by(name: str) -> str:
    """Return the file that a checksum file of Hadoop belongs to; itself if it is none."""
    folder, _, last = name.rpartition("/")
    if not (last.startswith(".") and last.endswith(".crc")):
        return name
    return f"{folder}/{last[1:-4]}".lstrip("/")
