"""The paths that a job is given: none of its inputs may lie in what it replaces."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from als_spark.cli.config.settings import JobConfig, Role, option_name, paths_of
from als_spark.errors import ConfigError
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
    """Compare the paths of this machine; needs no Spark.

    Parameters
    ----------
    config : JobConfig
        Whose fields say what role their paths have.
    file : Path or None
        That it was read from.

    Raises
    ------
    ConfigError
        If an input lies in what the run writes, or its output in a model or a store.
    """
    given = given_paths(config, file)
    for target, folder in _written(given):
        for path in given:
            if path.role in READ:
                for place in places_of(path.text):
                    refuse_inside(path, place, target, folder)
        if target.role == "output":
            for path in given:
                holder = local_path(path.text)
                if (
                    path.role in ("model", "store")
                    and holder is not None
                    and os.path.exists(holder)
                ):
                    refuse_output_inside(target, folder, path, holder)
            _refuse_foreign_home(target, folder)


def refuse_inside(path: GivenPath, place: Place, target: GivenPath, folder: Place) -> None:
    """Refuse an input that lies in what the run writes."""
    if lies_in(place, folder):
        what = "replaces" if target.role == "output" else "cleans up"
        raise ConfigError(
            f"{path}: lies in {target}, a folder that the run {what}: move it elsewhere, or give "
            f"another {target.option}"
        )


def refuse_output_inside(target: GivenPath, folder: Place, path: GivenPath, holder: Place) -> None:
    """Refuse an output that lies in a model or a store."""
    if lies_in(folder, holder):
        raise ConfigError(f"{target}: lies in {path}: give a folder outside of it")


def _written(given: list[GivenPath]) -> Iterator[tuple[GivenPath, Path]]:
    for path in given:
        folder = local_path(path.text)
        if path.role in WRITTEN and folder is not None:
            yield path, folder


def _refuse_foreign_home(target: GivenPath, folder: Path) -> None:
    """Refuse an output in any other model or store: it would count as a part, and be pruned."""
    marks = ((DESCRIPTION_FILE, MODEL_FORMAT, "model"), (MARK, STORE_FORMAT, "model store"))
    for parent in Path(os.path.realpath(folder)).parents:
        for name, format_, what in marks:
            try:
                record = json.loads((parent / name).read_bytes())
            except (OSError, ValueError):
                continue
            if isinstance(record, dict) and record.get("format") == format_:
                raise ConfigError(
                    f"{target}: lies in the {what} {parent}: give a folder outside of it"
                )
