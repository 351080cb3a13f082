"""The paths that a job is given: none of its inputs may lie in what it replaces."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from als_spark.cli.config.settings import JobConfig, Role, option_name, paths_of
from als_spark.errors import ConfigError
from als_spark.files.json_files import decode
from als_spark.files.places import (
    Place,
    address_parts,
    colon_hint,
    lies_in,
    local_path,
    places_of,
    split_address,
)
from als_spark.files.writable import check_writable, place_problem
from als_spark.model.files import DESCRIPTION_FILE, MODEL_FORMAT
from als_spark.store.layout import MARK, STORE_FORMAT

WRITTEN: tuple[Role, ...] = ("output", "target store", "checkpoint")
READ: tuple[Role, ...] = ("input", "model", "store")
FOLDERS: tuple[Role, ...] = ("output", "target store", "model", "store", "checkpoint")
"""Taken for what they say; of an input, Hadoop may take characters for a pattern."""


class GivenPath(NamedTuple):
    """A path, as an option has it."""

    option: str
    role: Role
    text: str

    def __str__(self) -> str:
        """Write it as on the command line."""
        return f"{self.option} {self.text}"


def given_paths(config: JobConfig, file: Path | None = None) -> list[GivenPath]:
    """Return the paths of a configuration, and the file that it was read from."""
    found = [GivenPath(option_name(name), role, text) for name, role, text in paths_of(config)]
    if file is not None:
        found.append(GivenPath("--config", "input", str(file)))
    return found


def check_local_paths(config: JobConfig, file: Path | None) -> None:
    """Compare the paths of this machine, and of the configuration file; needs no Spark.

    Raises
    ------
    ConfigError
        If an input lies in what the run writes, or its output in a model or a store.
    """
    given = given_paths(config, file)
    for path in given:
        check_name(path)
    check_places(given, lambda path: local_path(path.text), lambda path: places_of(path.text))
    for target in given:
        folder = local_path(target.text)
        if target.role in WRITTEN and folder is not None:
            refuse_foreign_home(target, parents_of(folder), read_local)
        if target.role == "target store" and folder is not None:
            check_writable(folder, str(target))


def check_text(option: str, text: str) -> None:
    """Refuse a value of the command line that is no text: Python and the JVM differ on it.

    Raises
    ------
    ConfigError
        Names the first byte that the locale's encoding does not have.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = text.encode("utf-8", "backslashreplace").decode()
        byte = ord(text[error.start]) & 0xFF
        encoding = sys.getfilesystemencoding()
        remedy = "rename it" if encoding == "utf-8" else "set LC_ALL=C.UTF-8, or rename it"
        raise ConfigError(
            f"{option} {shown}: has the byte 0x{byte:02x} that is not of {encoding}: {remedy}"
        ) from error


def check_name(path: GivenPath) -> None:
    """Refuse a path that cannot be what was meant: its characters, or what they mean.

    Raises
    ------
    ConfigError
    """
    check_text(path.option, path.text)
    if "\0" in path.text:
        raise ConfigError(f"{path.option}: a path has no zero byte: give another name")
    if path.role in FOLDERS and (hint := colon_hint(path.text)):
        raise ConfigError(f"{path}: {hint}")


@contextmanager
def place_is_usage(option: str, path: str) -> Iterator[None]:
    """Blame the option for a folder of this machine that cannot be used as it is, or is full."""
    try:
        yield
    except OSError as error:
        problem = place_problem(error, local_path(path))
        if problem is None:
            raise
        raise ConfigError(f"{option} {path}: {problem}") from error


def check_places(
    given: Sequence[GivenPath],
    home: Callable[[GivenPath], Place | None],
    read: Callable[[GivenPath], Iterable[Place]],
) -> None:
    """Refuse an input that lies in what the run writes, and an output in a model or a store.

    ``home`` says where a path lies, if that is known; ``read``, what is read of an input.
    """
    for target in given:
        folder = home(target)
        if target.role not in WRITTEN or folder is None:
            continue
        for path in given:
            other = home(path) if path.role in WRITTEN and path is not target else None
            apart = "checkpoint" in (path.role, target.role)
            if apart and other is not None and lies_in(other, folder):
                raise ConfigError(f"{path}: lies in {target}: give a folder outside of it")
            if path.role not in READ:
                continue
            if any(lies_in(place, folder) for place in read(path) if _may_exist(place)):
                what = "replaces" if target.role == "output" else "cleans up"
                raise ConfigError(
                    f"{path}: lies in {target}, a folder that the run {what}: move it elsewhere, "
                    f"or give another {target.option}"
                )
            holder = home(path)
            if target.role != "output" or path.role == "input" or holder is None:
                continue
            if _may_exist(holder) and lies_in(folder, holder):
                raise ConfigError(f"{target}: lies in {path}: give a folder outside of it")


def refuse_lost_results(given: Sequence[GivenPath], deploy_mode: str) -> None:
    """Refuse to write to the disk of a driver that runs on a cluster: its folder goes with it.

    A ``file:`` URI is taken for what it says: there may be a disk that all machines share.

    Raises
    ------
    ConfigError
    """
    for target in given if deploy_mode == "cluster" else ():
        here = target.role in WRITTEN and local_path(target.text) is not None
        if here and split_address(target.text).scheme != "file":
            raise ConfigError(
                f"{target}: the driver runs on the cluster (--deploy-mode cluster), and a folder "
                "of its machine is lost with it: give a URI of a file system of the cluster "
                "(hdfs://, s3a://), or of a disk that all machines share (file:///)"
            )


def _may_exist(place: Place) -> bool:
    return not isinstance(place, Path) or os.path.exists(place)


def parents_of(folder: Place) -> list[str]:
    """Return the folders that a folder lies in, the nearest first."""
    if isinstance(folder, Path):
        return [str(parent) for parent in Path(os.path.realpath(folder)).parents]
    root, path = address_parts(folder)
    return [f"{root}{parent}".rstrip("/") for parent in PurePosixPath(path).parents]


def refuse_foreign_home(
    target: GivenPath, parents: Iterable[str], read: Callable[[str], bytes]
) -> None:
    """Refuse an output or a store in any other model or store: it would count as a part, or go.

    Raises
    ------
    ConfigError
    """
    marks = ((DESCRIPTION_FILE, MODEL_FORMAT, "model"), (MARK, STORE_FORMAT, "model store"))
    for parent in parents:
        for name, format_, what in marks:
            try:
                record = decode(read(f"{parent}/{name}"))
            except (OSError, ValueError):
                continue
            if record.get("format") == format_:
                raise ConfigError(
                    f"{target}: lies in the {what} {parent}: give a folder outside of it"
                )


def read_local(path: str) -> bytes:
    """Read a file of this machine."""
    return Path(path).read_bytes()
