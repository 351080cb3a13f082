"""Model stores and models as the jobs open them, with Spark only where it is needed."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from pyspark.sql import SparkSession

from als_spark.cli.config.stored import StoredModelConfig
from als_spark.cli.paths import place_is_usage
from als_spark.errors import DataError
from als_spark.files.places import local_path
from als_spark.model.factor_model import FactorModel
from als_spark.model.files import load_model
from als_spark.model.intervals import POSTERIOR_FILE, IntervalModel, load_intervals
from als_spark.model.large_model import AnyModel
from als_spark.spark.large import load_from_folder, load_from_store, seen_by_executors
from als_spark.spark.store_files import files_at, store_at
from als_spark.store.layout import VERSIONS
from als_spark.store.store import ModelStore, open_store
from als_spark.types import Side


class OpenModel(NamedTuple):
    """A model that a job was told to use."""

    model: FactorModel
    label: str
    """What messages and reports call it."""
    version: str | None
    """Of a store's."""
    intervals: IntervalModel | None = None
    """Where they were asked for."""


class OpenLargeModel(NamedTuple):
    """The same, of which a side may be elsewhere."""

    model: AnyModel
    label: str
    version: str | None
    intervals: IntervalModel | None = None
    """Where they were asked for, and the model has some."""


def store_of(session: SparkSession | None, path: str) -> ModelStore:
    """Open a store; a session is needed for those of other file systems only."""
    if local_path(path) is not None:
        return open_store(local_path(path) or path)
    assert session is not None
    return store_at(session, path)


def open_model(
    session: SparkSession | None, config: StoredModelConfig, *, intervals: bool = False
) -> OpenModel:
    """Read the model that a configuration names; a session is needed for other file systems only.

    ``intervals`` asks for what a model with a posterior knows of its uncertainty, too.

    Raises
    ------
    DataError
        If there is none, or it is damaged.
    """
    if config.model is not None:
        local = local_path(config.model)
        if local is not None:
            return _opened(Path(local), config.model, None, intervals=intervals)
        assert session is not None
        with ExitStack() as stack:
            folder = _downloaded(session, config.model, stack)
            return _opened(folder, config.model, None, intervals=intervals)
    with place_is_usage("--store", str(config.store)):
        store, name = _version_of(session, config)
        label = f"version {name} of {config.store}"
        if intervals:
            with store.open(name) as folder:
                return _opened(folder, label, name, intervals=True)
        return OpenModel(store.load(name), label, name)


def open_large_model(
    session: SparkSession,
    config: StoredModelConfig,
    stack: ExitStack,
    near: Collection[Side] = (),
    *,
    intervals: bool = False,
) -> OpenLargeModel:
    """Read the model that a configuration names; factors of a large side stay in their file.

    They can be read until ``stack`` ends; those of the sides ``near`` are read in any case.
    ``intervals`` asks for those of the model, if it has some. Raises what :func:`open_model` does.
    """
    if config.model is not None:
        local = local_path(config.model)
        address = seen_by_executors(session, config.model)
        folder = Path(local or _downloaded(session, config.model, stack))
        model = load_from_folder(session, folder, address, near)
        found = _intervals_in(folder) if intervals else None
        return OpenLargeModel(model, config.model, None, found)
    with place_is_usage("--store", str(config.store)):
        store, name = _version_of(session, config)
        model = load_from_store(session, store, name, stack, near)
        found = None
        if intervals and store.files.exists(f"{VERSIONS}/{name}/{POSTERIOR_FILE}"):
            with store.open(name) as folder:
                found = load_intervals(folder)
        return OpenLargeModel(model, f"version {name} of {config.store}", name, found)


def _intervals_in(folder: Path) -> IntervalModel | None:
    """Read the intervals of a model from its folder on this machine, if there are any."""
    return load_intervals(folder) if (folder / POSTERIOR_FILE).is_file() else None


def _version_of(session: SparkSession | None, config: StoredModelConfig) -> tuple[ModelStore, str]:
    """Open the store of a configuration, and find the full name of its version."""
    assert config.store is not None
    store = store_of(session, config.store)
    if not store.exists():
        raise DataError(f"--store {config.store}: there is no model store: check the path")
    version = config.version or store.current()
    if version is None:
        raise DataError(
            f"--store {config.store}: it holds no model yet: publish one with jobs/train.py"
        )
    return store, store.resolve(version)


def _downloaded(session: SparkSession, model: str, stack: ExitStack) -> Path:
    """Copy a model's folder to this machine, where it stays until ``stack`` ends."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="als_spark-"))
    target = Path(folder) / "model"
    parent, name = posixpath.split(model.rstrip("/"))
    try:
        files_at(session, parent).download(name, target)
    except FileNotFoundError as error:
        raise DataError(f"--model {model}: there is no such folder: check the path") from error
    return target


def _opened(folder: Path, label: str, version: str | None, *, intervals: bool) -> OpenModel:
    """Read a model from its folder on this machine, and its intervals if they are asked for."""
    model = load_model(folder)
    if not intervals:
        return OpenModel(model, label, version)
    found = _intervals_in(folder)
    if found is None:
        raise DataError(
            f"{label} has no intervals, so nothing tells how uncertain its predictions are: leave "
            "--risk out, or train with --method variational or sample"
        )
    return OpenModel(model, label, version, found)
