"""Output folders: what a run may replace, and how the new result takes the place of the old.

Every folder that a job writes has a manifest, :data:`MANIFEST`: the kind of the job and the names
of all that it wrote. A later run of the same kind replaces a folder only if it holds nothing but
such names; it deletes these and nothing else. A file of anybody else makes it refuse before it
begins; what is put there while it runs is moved into the new folder.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from als_spark.errors import ConfigError
from als_spark.files.json_files import decode, encode
from als_spark.files.local import LocalTree
from als_spark.files.trees import (
    Tree,
    is_inner_name,
    leaves,
    names_in,
    parent_of,
    remove_ours,
    strangers,
)
from als_spark.files.writable import check_writable, is_mount_point

Kind = Literal["sweep", "train", "evaluate", "recommend", "export"]
"""Of an output: the job that writes it."""
MANIFEST = "_ALS_SPARK"
"""Spark's readers pass over names that begin with an underscore, and no ``*.json`` finds it."""
FORMAT = "als_spark.output/1"
INTERRUPTED_FOLDER = "interrupted"
"""Where a stopped sweep's points go if the folder holds an earlier sweep's results: an output
within the output, with a manifest of its own."""

_MANY = 1000
_STAGING_END, _NEW, _OLD, _OUTDATED = ".new", "content", "replaced", "outdated"

logger = logging.getLogger("als_spark.outputs")


class _Legacy(NamedTuple):
    """What version 0.1.0, which wrote no manifests, left in an output folder."""

    marker: str
    keys: tuple[str, ...]
    """Keys of the document in the marker, by which the kinds differ."""
    patterns: tuple[str, ...]


_MODEL_FILES = ("model.json", "user_factors.parquet", "item_factors.parquet")
_LEGACY: dict[Kind, _Legacy] = {
    "sweep": _Legacy(
        "run.json",
        ("points", "selected_on"),
        (
            *("run.json", "results.json", "history.json", "report.html", "rejected/rejected.jsonl"),
            *("sweep.png", "selected.png", "heatmap.png", "convergence.png"),
            *(f"best_model/{name}" for name in _MODEL_FILES),
        ),
    ),
    "train": _Legacy(
        "run.json",
        ("settings", "training"),
        (
            *("run.json", "metrics.json", "fingerprint.json", "config.json", "versions.json"),
            *_MODEL_FILES,
        ),
    ),
    "evaluate": _Legacy(
        "metrics.json", ("metrics", "by_user"), ("metrics.json", "breakdown.png", "report.html")
    ),
}
_LEGACY_NOTE = b"Written by als_spark, whose next run with this folder as its output replaces it.\n"
_LEGACY_RECOMMEND = (MANIFEST, "_SUCCESS", "part-*")


_MARKERS = {MANIFEST, *(legacy.marker for legacy in _LEGACY.values())}


def write_manifest(tree: Tree, folder: str, kind: Kind) -> None:
    """List all that a run has written into its new folder; the last file that it writes."""
    names = sorted({MANIFEST, *(leaf.name for leaf in leaves(tree, folder))})
    record = {"format": FORMAT, "kind": kind, "files": names}
    tree.write(f"{folder}/{MANIFEST}", encode(record))


def check_replaceable(tree: Tree, target: str, kind: Kind, label: str) -> None:
    """Refuse a target that is a file, or holds anything but what an earlier run of a kind wrote.

    The target is no link; ``label`` is what messages call it.

    Raises
    ------
    ConfigError
    """
    if not tree.exists(target):
        return
    if not tree.is_folder(target):
        raise ConfigError(f"{label}: this is a file: give a folder")
    names, other = _earlier_output(tree, target, kind)
    found = list(islice(strangers(tree, target, names), _MANY))
    if not found:
        return
    if other is not None:
        raise ConfigError(
            f"{label}: the folder holds the output of {other}, which {kind} does not replace: "
            "give an empty or a new folder"
        )
    count = f"{_MANY} or more" if len(found) == _MANY else str(len(found))
    more = "" if len(found) == 1 else f", the first of {count} such entries"
    raise ConfigError(
        f"{label}: the folder is not empty and holds {found[0]!r}, which no earlier {kind} has "
        f"written{more}: give an empty or a new folder, or move what is yours out of this one"
    )


def check_local_target(target: Path, kind: Kind, label: str) -> None:
    """Refuse a folder of this machine that cannot be, or must not be, replaced.

    Raises
    ------
    ConfigError
        As :func:`check_replaceable`; also if the folder cannot be written, is a mount point, or a
        link that leads in a circle.
    """
    folder = Path(os.path.realpath(target))
    if folder.is_symlink():
        raise ConfigError(f"{label}: this is a link that leads in a circle: give a folder")
    # Also when the target is there: it is replaced by a rename inside its parent.
    check_writable(folder.parent, label)
    check_replaceable(LocalTree(), str(folder), kind, label)
    if is_mount_point(folder):
        raise ConfigError(
            f"{label}: a mount point cannot be replaced by a rename: give a folder inside of it"
        )


@dataclass(slots=True)
class StagedFolder:
    """A folder that is being written."""

    content: Path
    """Write here."""
    subfolder: str | None = None
    """Set it to put the content into this folder of the target and leave its other files alone."""


@contextmanager
def replaced_folder(target: Path, kind: Kind) -> Iterator[StagedFolder]:
    """Give a new folder of this machine, which takes the target's place when the block ends.

    See :func:`replaced`; a link is followed to the folder that it leads to.
    """
    with replaced(LocalTree(), os.path.realpath(target), kind) as placing:
        staged = StagedFolder(Path(placing.content))
        yield staged
        if staged.subfolder is not None:
            placing.target += f"/{staged.subfolder}"


@dataclass(slots=True)
class Placing:
    """A new folder, and where it goes."""

    content: str
    """Write here."""
    target: str
    """The folder whose place it takes."""


@contextmanager
def replaced(tree: Tree, target: str, kind: Kind) -> Iterator[Placing]:
    """Give a new folder, and put it in the target's place when the block ends.

    The new folder lies beside the target, in ``.NAME.XXXXXXXX.new/``, so that taking its place is a
    rename. A reader sees the old result until the block has ended and the new one is whole; then,
    between two renames, none for a moment; then the new one. Only after that the old files are
    deleted, and of these only the ones that an earlier run of the same kind has listed; others,
    which came after :func:`check_replaceable`, are moved into the new folder, or kept beside it
    where their name is taken. A run that is killed between the two renames leaves the old result,
    whole, as ``replaced`` in the hidden folder, and the next run with the same target puts it back.
    A block that fails leaves the target as it was, and nothing beside it.
    """
    _put_back(tree, target)
    created = _make_parents(tree, target)
    staging = f"{parent_of(target)}/.{_name(target)}.{secrets.token_hex(4)}{_STAGING_END}"
    placing = Placing(f"{staging}/{_NEW}", target)
    tree.make_folder(placing.content)
    try:
        yield placing
        write_manifest(tree, placing.content, kind)
        created = _make_parents(tree, placing.target) + created
        _swap(tree, placing, f"{staging}/{_OLD}", kind)
    except BaseException:
        with suppress(OSError):
            tree.scrap(placing.content)
            # They may hold files of others by now.
            for folder in (staging, *created):
                tree.remove_empty(folder)
        raise
    tree.remove_empty(staging)


def _swap(tree: Tree, placing: Placing, old: str, kind: Kind) -> None:
    target = placing.target
    try:
        if tree.exists(target):
            tree.rename(target, old)
        tree.rename(placing.content, target)
    except BaseException:
        if tree.exists(old) and not tree.exists(target):
            tree.rename(old, target)
        raise
    if not tree.exists(old):
        return
    outdated = f"{parent_of(old)}/{_OUTDATED}"
    try:
        # From here on nothing puts it back, so that it need not stay whole.
        tree.rename(old, outdated)
        _clear(tree, outdated, target, kind)
    except OSError as error:
        logger.warning("what is left of the earlier output stays in %s: %s", parent_of(old), error)


def _clear(tree: Tree, old: str, target: str, kind: Kind) -> None:
    """Delete what an earlier run has listed; move everything else into the new folder."""
    kept = []
    if tree.is_folder(old):
        names, _ = _earlier_output(tree, old, kind)
        kept = [name.rstrip("/") for name in remove_ours(tree, old, names)]
    for name in kept:
        place = f"{target}/{name}"
        # Where the name is taken it stays.
        with suppress(OSError):
            tree.make_folder(parent_of(place))
            tree.rename(f"{old}/{name}", place)
            logger.warning("%s was not written by an earlier %s: kept", place, kind)
        while name := parent_of(name):
            tree.remove_empty(f"{old}/{name}")
    if tree.exists(old) and not (tree.is_folder(old) and tree.remove_empty(old)):
        beside = f"{target}.kept-{secrets.token_hex(4)}"
        tree.rename(old, beside)
        logger.warning("%s holds what was in %s and no run has written", beside, target)


def _put_back(tree: Tree, target: str) -> None:
    """Put an old result back that a killed run has left between its two renames."""
    if tree.exists(target):
        return
    parent, start = parent_of(target), f".{_name(target)}."
    for name in names_in(tree, f"{parent}/"):
        old = f"{parent}/{name}/{_OLD}"
        staged = name.startswith(start) and name.endswith(_STAGING_END)
        if staged and any(tree.exists(f"{old}/{marker}") for marker in _MARKERS):
            tree.rename(old, target)
            logger.warning("%s: put the result back that a killed run had moved away", target)
            return


def _earlier_output(tree: Tree, folder: str, kind: Kind) -> tuple[set[str], str | None]:
    """Return the names that an earlier run of a kind wrote, or the kind of another job's output."""
    names, other = _output_of(tree, folder, kind)
    if kind == "sweep" and tree.is_folder(f"{folder}/{INTERRUPTED_FOLDER}"):
        inner, _ = _output_of(tree, f"{folder}/{INTERRUPTED_FOLDER}", kind)
        names |= {f"{INTERRUPTED_FOLDER}/{name}" for name in inner}
    return names, other


def _output_of(tree: Tree, folder: str, kind: Kind) -> tuple[set[str], str | None]:
    try:
        data = tree.read(f"{folder}/{MANIFEST}")
    except (FileNotFoundError, IsADirectoryError):
        return _legacy_output(tree, folder, kind)
    if data == _LEGACY_NOTE:
        if kind != "recommend":
            return set(), "recommend"
        return _matching(tree, folder, _LEGACY_RECOMMEND), None
    record = _object(data)
    found, names = record.get("kind"), record.get("files")
    if record.get("format") != FORMAT or found not in get_args(Kind):
        return set(), None
    if found != kind:
        return set(), str(found)
    if isinstance(names, list) and all(is_inner_name(name) for name in names):
        return set(names), None
    return set(), None


def _legacy_output(tree: Tree, folder: str, kind: Kind) -> tuple[set[str], str | None]:
    for name, legacy in _LEGACY.items():
        try:
            record = _object(tree.read(f"{folder}/{legacy.marker}"))
        except (FileNotFoundError, IsADirectoryError):
            continue
        if all(key in record for key in legacy.keys):
            ours = _matching(tree, folder, legacy.patterns) if name == kind else set()
            return ours, None if name == kind else name
    return set(), None


def _matching(tree: Tree, folder: str, patterns: tuple[str, ...]) -> set[str]:
    return {
        leaf.name
        for leaf in leaves(tree, folder)
        for pattern in patterns
        # A star of fnmatch goes over slashes.
        if leaf.name.count("/") == pattern.count("/") and fnmatchcase(leaf.name, pattern)
    }


def _object(data: bytes) -> dict[str, Any]:
    try:
        return decode(data)
    except ValueError:
        return {}


def _make_parents(tree: Tree, path: str) -> list[str]:
    """Make the folders that a path lies in; return those that were not there, deepest first."""
    missing = []
    folder = parent_of(path)
    while not _is_root(folder) and not tree.exists(folder):
        missing.append(folder)
        folder = parent_of(folder)
    if missing:
        tree.make_folder(missing[0])
    return missing


def _is_root(folder: str) -> bool:
    """Tell the root of a file system, without its last slash: ``""`` or ``hdfs://host``."""
    return folder.count("/") == (2 if "://" in folder else 0)


def _name(path: str) -> str:
    return path.rpartition("/")[2]
