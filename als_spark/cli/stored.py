"""Model stores and models as the jobs open them, with Spark only where it is needed."""

from __future__ import annotations

import posixpath
import tempfile
from pathlib import Path
from typing import NamedTuple

from pyspark.sql import SparkSession

from als_spark.cli.config.batch import StoredModelConfig
from als_spark.cli.paths import place_is_usage
from als_spark.errors import DataError
from als_spark.files.places import local_path
from als_spark.model.factor_model import FactorModel
from als_spark.model.files import load_model
from als_spark.model.intervals import POSTERIOR_FILE, IntervalModel, load_intervals
from als_spark.spark.store_files import files_at, store_at
from als_spark.store.store import ModelStore, open_store


class OpenModel(NamedTuple):
    """A model that a job was told to use."""

    model: FactorModel
    label: str
    """What messages and reports call it."""
    version: str | None
    """Of a store's."""
    intervals: IntervalModel | None = None
    """Where they were asked for."""


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

    ``intervals`` asks for what a variational model knows of its uncertainty, too.

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
        with tempfile.TemporaryDirectory(prefix="als_spark-") as folder:
            target = Path(folder) / "model"
            parent, name = posixpath.split(config.model.rstrip("/"))
            try:
                files_at(session, parent).download(name, target)
            except FileNotFoundError as error:
                raise DataError(
                    f"--model {config.model}: there is no such folder: check the path"
                ) from error
            return _opened(target, config.model, None, intervals=intervals)
    assert config.store is not None
    with place_is_usage("--store", config.store):
        store = store_of(session, config.store)
        if not store.exists():
            raise DataError(f"--store {config.store}: there is no model store: check the path")
        version = config.version or store.current()
        if version is None:
            raise DataError(
                f"--store {config.store}: it holds no model yet: publish one with jobs/train.py"
            )
        name = store.resolve(version)
        label = f"version {name} of {config.store}"
        if intervals:
            with store.open(name) as folder:
                return _opened(folder, label, name, intervals=True)
        return OpenModel(store.load(name), label, name)


def _opened(folder: Path, label: str, version: str | None, *, intervals: bool) -> OpenModel:
    """Read a model from its folder on this machine, and its intervals if they are asked for."""
    model = load_model(folder)
    if not intervals:
        return OpenModel(model, label, version)
    if not (folder / POSTERIOR_FILE).is_file():
        raise DataError(
            f"{label} has no intervals, so nothing tells how uncertain its predictions are: leave "
            "--risk out, or train with --method variational"
        )
    return OpenModel(model, label, version, load_intervals(folder))
