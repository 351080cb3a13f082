"""The paths that a job is given, once Spark is there: other file systems, and what is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from als_spark.cli.config.settings import JobConfig
from als_spark.cli.paths import READ, WRITTEN, given_paths, refuse_inside, refuse_output_inside
from als_spark.errors import ConfigError
from als_spark.files.outputs import Kind, StagedFolder, check_local_target
from als_spark.files.places import Place, lies_in, local_path
from als_spark.spark.output import output_folder, place_of, spark_output


def check_output(output: str, kind: Kind) -> None:
    """Refuse an unusable output folder of this machine, before Spark is started."""
    folder = local_path(output)
    if folder is not None:
        with _unwritable_is_usage(output):
            check_local_target(folder, kind, f"--output {output}")


@contextmanager
def open_output(
    session: SparkSession, config: JobConfig, output: str, kind: Kind
) -> Iterator[StagedFolder]:
    """Give the folder for a job's files; see :func:`als_spark.spark.output.output_folder`."""
    check_paths(session, config)
    with ExitStack() as stack:
        with _unwritable_is_usage(output):
            folder = output_folder(session, output, kind, f"--output {output}")
            staged = stack.enter_context(folder)
        yield staged


@contextmanager
def open_spark_output(
    session: SparkSession, config: JobConfig, output: str, kind: Kind
) -> Iterator[str]:
    """Give the folder for Spark's files; see :func:`als_spark.spark.output.spark_output`."""
    check_paths(session, config)
    with ExitStack() as stack:
        with _unwritable_is_usage(output):
            folder = spark_output(session, output, kind, f"--output {output}")
            uri = stack.enter_context(folder)
        yield uri


def check_paths(session: SparkSession, config: JobConfig) -> None:
    """Compare the paths of a configuration on all file systems.

    Raises
    ------
    ConfigError
        If an input lies in what the run writes, or its output in a model or a store.
    """
    given = given_paths(config)
    places = {path: place_of(session, path.text, path.role == "input") for path in given}
    for target in given:
        folder = places[target]
        if target.role not in WRITTEN or folder is None:
            continue
        for path in given:
            place = places[path]
            if path.role not in READ or place is None:
                continue
            if not isinstance(place, Path) or os.path.exists(place):
                refuse_inside(path, place, target, folder)
            if target.role == "output" and path.role in ("model", "store"):
                refuse_output_inside(target, folder, path, place)


def check_files_read(
    session: SparkSession, config: JobConfig, frame: DataFrame, label: str
) -> None:
    """Refuse to read files that lie in what the run writes, however a source has led to them.

    Parameters
    ----------
    session : SparkSession
    config : JobConfig
        The job's.
    frame : DataFrame
        The source, as Spark reads it.
    label : str
        What messages call it.

    Raises
    ------
    ConfigError
        Names a file.
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
