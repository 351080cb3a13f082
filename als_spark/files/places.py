"""Whether one path lies in another, whatever links or names lead there."""

from __future__ import annotations

import glob
import os
import posixpath
import re
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

Place = Path | str
"""A path of this machine, or the whole address of one on another file system."""

TABLE = "table:"
"""Before the name of a table, where an input could be a path."""
_MOST = 10_000
"""Entries of a folder that are looked through for links and mounts."""
_SAME_SYSTEM = {"s3": "s3a", "s3n": "s3a"}


def lies_in(inner: Place, outer: Place) -> bool:
    """Tell whether a place is another one, or lies below it.

    Paths of this machine are followed through links and ``..``, and compared by device and inode
    too: neither a bind mount nor a name in other letters hides a folder. Another name of a file (a
    hard link) is another file: to delete one name leaves the data. A place of this machine and one
    of another file system do not lie in each other.
    """
    if isinstance(inner, Path) and isinstance(outer, Path):
        return _lies_in(inner, outer)
    if isinstance(inner, Path) or isinstance(outer, Path):
        return False
    (system, path), (outer_system, folder) = address_parts(inner), address_parts(outer)
    return system == outer_system and (path == folder or path.startswith(f"{folder.rstrip('/')}/"))


class Address(NamedTuple):
    """A path, or the parts of a URI as Hadoop splits it: ``?`` and ``#`` belong to the path."""

    scheme: str
    """In lower case; empty of a path."""
    authority: str
    """What follows ``//``; empty without it."""
    path: str


def split_address(text: str) -> Address:
    """Split a path or URI. Whatever the text is, it can be split."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(?://([^/]*))?(.*)", text, re.DOTALL)
    if found is None:
        return Address("", "", text)
    return Address(found[1].lower(), found[2] or "", found[3])


def local_path(target: str) -> Path | None:
    """Return the path of a folder on this machine; None for one of another file system.

    A name with a colon is that of a file system, unless there is a file or folder of that name.
    """
    parts = split_address(target)
    if parts.scheme == "" or (parts.authority == "" and os.path.lexists(target)):
        return Path(target)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def table_name(text: str) -> str | None:
    """Return the table that an input names as ``table:NAME``; None of a path.

    A file or folder of that very name is a path, as of other names with a colon.
    """
    if not text.startswith(TABLE) or os.path.lexists(text):
        return None
    return text.removeprefix(TABLE)


def colon_hint(target: str) -> str | None:
    """Say what a colon in the name of a folder does, where it cannot be what was meant."""
    parts = split_address(target)
    if parts.scheme == "" or parts.authority or parts.path.startswith("/"):
        return None
    if os.path.lexists(target):
        return None
    return (
        "what stands before a colon is taken for a file system, unless it follows a /: "
        f"write ./{target}"
    )


def _lies_in(inner: Path, outer: Path) -> bool:
    path, folder = Path(os.path.realpath(inner)), Path(os.path.realpath(outer))
    chain = (path, *path.parents)
    if folder in chain:
        return True
    # Not is_dir(): it raises where a name is too long.
    if not os.path.isdir(folder):
        return False
    above = {identity for place in chain if (identity := _identity(place)) is not None}
    return any(_identity(Path(place)) in above for place, _, _ in islice(os.walk(folder), _MOST))


def places_of(text: str) -> list[Path]:
    """Return what is on this machine of an input (path, ``file:`` URI, pattern), and its links."""
    parts = split_address(text)
    if parts.scheme not in ("", "file") and not os.path.lexists(text):
        return []
    # Spark takes a %20 for what it says, others for a space.
    names = {parts.path, unquote(parts.path)} if parts.scheme == "file" else {text}
    found = [Path(name) for name in names if name and os.path.lexists(name)]
    for name in names:
        if re.search(r"[*?\[]", name):
            found += map(Path, islice(glob.iglob(name), _MOST))
    return [*found, *(link for path in found for link in _links(path))]


def undecodable(text: str, encoding: str) -> Path | None:
    """Return a file of an input of this machine whose name is no text of an encoding, if any.

    A program that takes names for text cannot see it. Names that begin with a dot or an underscore
    are passed over, as Spark does.
    """
    parts = split_address(text)
    if parts.scheme not in ("", "file") and not os.path.lexists(text):
        return None
    name = parts.path if parts.scheme == "file" else text
    if os.path.lexists(name):
        if not same_bytes(name, encoding):
            return Path(name)
        return next(_undecodable_below(name, encoding), None)
    for found in chain.from_iterable(map(glob.iglob, without_braces(name))):
        if os.path.basename(found).startswith((".", "_")):
            continue
        if not _decodable(found, encoding):
            return Path(found)
        below = next(_undecodable_below(found, encoding), None)
        if below is not None:
            return below
    return None


def same_bytes(name: str, encoding: str) -> bool:
    """Tell whether a name of this machine has the same bytes to a program of another encoding."""
    if name.isascii():
        return True
    try:
        return name.encode(encoding) == os.fsencode(name)
    except UnicodeError:
        return False


def _undecodable_below(folder: str, encoding: str) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        for name in (*folders, *names):
            if not name.startswith((".", "_")) and not _decodable(name, encoding):
                yield Path(parent) / name


def _decodable(name: str, encoding: str) -> bool:
    if name.isascii():
        return True
    try:
        os.fsencode(name).decode(encoding)
    except UnicodeError:
        return False
    return True


def without_braces(pattern: str) -> Iterator[str]:
    """Write ``a{b,c}`` of Hadoop's patterns as the patterns that it means."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        yield pattern
        return
    for word in found[1].split(","):
        yield from without_braces(pattern[: found.start()] + word + pattern[found.end() :])


def _links(folder: Path) -> Iterator[Path]:
    for parent, folders, names in islice(os.walk(folder), _MOST):
        for name in islice((*folders, *names), _MOST):
            path = Path(parent) / name
            if path.is_symlink():
                yield path


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # Not of files: two names of one are two files.
    return (found.st_dev, found.st_ino) if path.is_dir() else None


def address_parts(text: str) -> tuple[str, str]:
    """Split the whole address of a place into its file system and the path there."""
    scheme, _, rest = text.partition(":")
    scheme = _SAME_SYSTEM.get(scheme.lower(), scheme.lower())
    authority = ""
    if rest.startswith("//"):
        authority, _, rest = rest[2:].partition("/")
    return f"{scheme}://{authority}", posixpath.normpath("/" + rest.lstrip("/"))
