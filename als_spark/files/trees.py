"""Folders of which only some files are ours: what is in them, and the removal of ours alone.

The rules are the same on every file system; a :class:`Tree` is what they ask of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Protocol


class Entry(NamedTuple):
    """Something in a folder."""

    name: str
    kind: Literal["file", "folder", "other"]
    """Links are "other": they are not followed."""
    size: int | None
    """Bytes of the file that it is, or leads to as a link; None if there is no such file."""


class Tree(Protocol):
    """A file system. Paths are whole, with ``/`` between their parts.

    Every method may raise an OSError; FileNotFoundError, FileExistsError and PermissionError mean
    what they say. What a method has written is on the disk when it returns.
    """

    def entries(self, folder: str) -> list[Entry]:
        """Return what is in a folder, by name; FileNotFoundError if there is no such folder."""

    def read(self, path: str) -> bytes:
        """Return the content of a file; FileNotFoundError if there is none."""

    def write(self, path: str, data: bytes) -> None:
        """Write a small file, over an older one too; makes the folder."""

    def exists(self, path: str) -> bool:
        """Tell whether there is anything."""

    def is_folder(self, path: str) -> bool:
        """Tell whether there is a folder, itself and no link to one."""

    def modified(self, path: str) -> float:
        """Return when a file was last written, in seconds since 1970."""

    def make_folder(self, path: str) -> None:
        """Make a folder and its parents, where they are missing."""

    def rename(self, source: str, target: str) -> None:
        """Move a file or a folder into a folder that is there; FileExistsError if taken."""

    def rename_over(self, source: str, target: str) -> None:
        """Move a file over another one: readers find the old content or the new."""

    def place(self, temporary: str, target: str) -> bool:
        """Give a file a name that must be a new one; False if it is taken.

        True also if an earlier call did it, whose answer was lost. The temporary file may stay.
        """

    def remove_file(self, path: str) -> None:
        """Delete a file or a link, never a folder; nothing happens if it is absent."""

    def remove_empty(self, path: str) -> bool:
        """Delete a folder if it is empty; tell whether it is gone."""

    def scrap(self, path: str) -> None:
        """Delete a folder with all that is in it: one that this very run has made for itself."""

    def copy_in(self, source: Path, path: str) -> None:
        """Copy a file of this machine to a new name; makes the folder."""

    def copy_out(self, path: str, target: Path) -> None:
        """Copy a file to a new name on this machine."""


def names_in(tree: Tree, folder: str) -> list[str]:
    """Return the sorted names in a folder, hidden ones too; [] if there is no such folder."""
    try:
        return [entry.name for entry in tree.entries(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def leaves(tree: Tree, folder: str, prefix: str = "") -> Iterator[Entry]:
    """Give each leaf below a folder, hidden ones too, by its path within the folder.

    Leaves are files, links and, with a ``/`` at their end, empty folders. A folder that is not
    there, or that another process removes meanwhile, has none.
    """
    try:
        entries = tree.entries(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    if prefix and not entries:
        yield Entry(prefix, "folder", None)
    for entry in entries:
        name = prefix + entry.name
        if entry.kind == "folder":
            yield from leaves(tree, f"{folder}/{entry.name}", f"{name}/")
        else:
            yield entry._replace(name=name)


def strangers(tree: Tree, folder: str, ours: Iterable[str]) -> Iterator[str]:
    """Give the leaves of a folder that are not among ours, by their paths within it.

    Links are never ours, whatever their name; a folder that is one is a stranger itself, ".". The
    checksum file that Hadoop's local client keeps beside a file of ours (``.name.crc``) is, and so
    is an empty folder in which a file of ours was.
    """
    if tree.exists(folder) and not tree.is_folder(folder):
        yield "."
        return
    known = _with_parents(ours)
    for leaf in leaves(tree, folder):
        if not _is_ours(leaf, known):
            yield leaf.name


def remove_ours(tree: Tree, folder: str, ours: Iterable[str]) -> list[str]:
    """Delete our files in their order, then the folders that are empty; return the strangers.

    Several processes may do so at once. Put a file last that lists the others: a run that is killed
    leaves a folder that the next one understands.
    """
    if tree.exists(folder) and not tree.is_folder(folder):
        return ["."]
    known = _with_parents(ours)
    mine: list[Entry] = []
    kept: list[Entry] = []
    for leaf in leaves(tree, folder):
        (mine if _is_ours(leaf, known) else kept).append(leaf)
    order = {name: place for place, name in enumerate(known)}
    for leaf in sorted(mine, key=lambda leaf: order[_checked_by(leaf.name, known)]):
        if leaf.kind == "file":
            tree.remove_file(f"{folder}/{leaf.name}")
    inner = {parent for leaf in mine for parent in _parents(leaf.name)}
    for name in sorted(inner, key=len, reverse=True):
        tree.remove_empty(f"{folder}/{name.rstrip('/')}")
    tree.remove_empty(folder)
    return [leaf.name for leaf in kept]


def is_inner_name(name: object) -> bool:
    """Tell whether something read from a list of files is a path that stays within its folder."""
    if not isinstance(name, str) or "\0" in name:
        return False
    parts = name.removesuffix("/").split("/")
    return all(part not in ("", ".", "..") for part in parts)


def parent_of(path: str) -> str:
    """Return the folder that a path lies in."""
    return path.rpartition("/")[0]


def _with_parents(ours: Iterable[str]) -> dict[str, None]:
    """Return our names and, before them, the folders that they lie in, as a set with an order."""
    names = list(ours)
    parents = [parent for name in names for parent in _parents(name)]
    return dict.fromkeys([*parents, *names])


def _parents(name: str) -> list[str]:
    """Return the folders of a leaf, each with a ``/`` at its end; an empty folder is its own."""
    parts = name.split("/")
    return ["/".join(parts[:depth]) + "/" for depth in range(1, len(parts))]


def _is_ours(leaf: Entry, known: Iterable[str]) -> bool:
    if leaf.kind == "file":
        return _checked_by(leaf.name, known) in known
    return leaf.kind == "folder" and leaf.name in known


def _checked_by(name: str, known: Iterable[str]) -> str:
    """Return the file that a checksum file of Hadoop belongs to; itself if it is none."""
    folder, slash, last = name.rpartition("/")
    if name in known or not (last.startswith(".") and last.endswith(".crc")):
        return name
    return f"{folder}{slash}{last[1:-4]}"
