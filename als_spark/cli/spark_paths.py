"""The paths that a job is given, once Spark is there: other file systems, and what is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from als_spark.cli.config.settings import JobConfig
from als_spark.cli.paths import (
    WRITTEN,
    check_places,
    given_paths,
    parents_of,
    read_local,
    refuse_foreign_home,
    refuse_lost_results,
)
from als_spark.errors import ConfigError
from als_spark.files.outputs import Kind, StagedFolder, check_local_target, replaced_folder
from als_spark.files.places import Place, lies_in, local_path
from als_spark.spark.hadoop import HadoopTree
from als_spark.spark.output import place_of

T = TypeVar("T")

Opener = Callable[[SparkSession, str, Kind, str], AbstractContextManager[T]]
"""Opens an output folder: session, target, job, and what messages call the target."""


def check_output(output: str, kind: Kind) -> None:
    """Refuse an unusable output folder of this machine, before Spark is started."""
    folder = local_path(output)
    if folder is not None:
        with _unwritable_is_usage(output):
            check_local_target(folder, kind, f"--output {output}")


@contextmanager
def local_output(output: str, kind: Kind) -> Iterator[StagedFolder]:
    """Give a folder that takes the place of a job's output folder of this machine; needs no Spark.

    The options have told already that it lies in no model or store, and no input in it.
    """
    folder = local_path(output)
    assert folder is not None
    with ExitStack() as stack:
        with _unwritable_is_usage(output):
            check_local_target(folder, kind, f"--output {output}")
            staged = stack.enter_context(replaced_folder(folder, kind))
        yield staged


@contextmanager
def open_output(
    session: SparkSession, config: JobConfig, output: str, kind: Kind, opener: Opener[T]
) -> Iterator[T]:
    """Give what an opener of :mod:`als_spark.spark.output` makes of a job's output folder."""
    check_paths(session, config)
    with ExitStack() as stack:
        with _unwritable_is_usage(output):
            target = stack.enter_context(opener(session, output, kind, f"--output {output}"))
        yield target


def check_paths(session: SparkSession, config: JobConfig) -> None:
    """Compare the paths of a configuration on all file systems.

    Raises
    ------
    ConfigError
        If an input lies in what the run writes, or that in another model or store; if it would be
        written to the disk of a driver that runs on a cluster.
    """
    given = given_paths(config)
    refuse_lost_results(given, session.sparkContext.getConf().get("spark.submit.deployMode") or "")
    places = {path: place_of(session, path.text, path.role == "input") for path in given}
    check_places(
        given, places.__getitem__, lambda path: [place for place in [places[path]] if place]
    )
    for target in given:
        place = places[target]
        if target.role in WRITTEN and place is not None:
            read = read_local if isinstance(place, Path) else HadoopTree(session, place).read
            refuse_foreign_home(target, parents_of(place), read)


def check_files_read(
    session: SparkSession, config: JobConfig, frame: DataFrame, label: str
) -> None:
    """Refuse to read files that lie in what the run writes, however a source has led to them.

    ``frame`` is the source as Spark reads it; messages call it ``label``.
    """
    targets = [path for path in given_paths(config) if path.role in WRITTEN]
    folders = {path: place_of(session, path.text) for path in targets}
    for file in _files_of(session, frame):
        for target, folder in folders.items():
            if folder is not None and lies_in(file, folder):
                raise ConfigError(
                    f"{label}: the file {file} lies in {target}, which the run writes to: move it "
                    f"elsewhere, or give another {target.option}"
                )


def _files_of(session: SparkSession, frame: DataFrame) -> Iterator[Place]:
    known: dict[str, Place | None] = {}
    for file in frame.inputFiles():
        path = local_path(file)
        if path is not None:
            yield path
            continue
        folder, _, name = file.rpartition("/")
        if folder not in known:
            known[folder] = place_of(session, folder)
        place = known[folder]
        if place is not None:
            yield place / name if isinstance(place, Path) else f"{place}/{name}"


@contextmanager
def _unwritable_is_usage(target: str) -> Iterator[None]:
    """Blame the option, not the program, for a folder that cannot be made or looked at."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"--output {target}: cannot be written ({error.strerror or error}): give another folder"
        ) from error
    except PySparkException as error:
        raise ConfigError(
            f"--output {target}: its file system does not answer ({error}): check the address"
        ) from error
