"""The paths that a job is given: none of its inputs may lie in what it replaces."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from als_spark.cli.config.settings import JobConfig, Role, option_name, paths_of
from als_spark.errors import ConfigError
from als_spark.files.json_files import decode
from als_spark.files.places import Place, lies_in, local_path, places_of
from als_spark.model.files import DESCRIPTION_FILE, MODEL_FORMAT
from als_spark.store.layout import MARK, STORE_FORMAT

WRITTEN: tuple[Role, ...] = ("output", "target store")
READ: tuple[Role, ...] = ("input", "model", "store")


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
    check_places(given, lambda path: local_path(path.text), lambda path: places_of(path.text))
    for target in given:
        folder = local_path(target.text)
        if target.role == "output" and folder is not None:
            _refuse_foreign_home(target, folder)


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


def _may_exist(place: Place) -> bool:
    return not isinstance(place, Path) or os.path.exists(place)


def _refuse_foreign_home(target: GivenPath, folder: Path) -> None:
    """Refuse an output in any other model or store: it would count as a part, and be pruned."""
    marks = ((DESCRIPTION_FILE, MODEL_FORMAT, "model"), (MARK, STORE_FORMAT, "model store"))
    for parent in Path(os.path.realpath(folder)).parents:
        for name, format_, what in marks:
            try:
                record = decode((parent / name).read_bytes())
            except (OSError, ValueError):
                continue
            if record.get("format") == format_:
                raise ConfigError(
                    f"{target}: lies in the {what} {parent}: give a folder outside of it"
                )
