"""Saved models, of which a side that is too large for one process stays where executors read it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from als_spark.errors import DataError
from als_spark.files.json_files import decode
from als_spark.files.places import local_path
from als_spark.model.files import (
    BEFORE_REFIT,
    DESCRIPTION_FILE,
    FACTOR_FILES,
    load_large,
    load_model,
    read_description,
)
from als_spark.model.large_model import AnyModel
from als_spark.spark import planner
from als_spark.store.layout import VERSIONS
from als_spark.store.reading import StoreReader
from als_spark.types import SIDES, Side


def load_from_folder(
    session: SparkSession, folder: Path, address: str | None, near: Collection[Side] = ()
) -> AnyModel:
    """Read a model; factors of a large side stay in their file.

    Parameters
    ----------
    session : SparkSession
    folder : Path
        Where this process sees the model.
    address : str or None
        Where executors do; None: nowhere, so this process reads all.
    near : collection of sides
        Those that are read in any case.

    Raises
    ------
    DataError
        As :func:`als_spark.model.files.load_model`.
    """
    large = _large_sides(session, read_description(folder))
    sides = [side for side in large if side not in near]
    if address is None or not sides:
        return load_model(folder)
    return load_large(folder, {side: f"{address}/{FACTOR_FILES[side]}" for side in sides})


def load_from_store(
    session: SparkSession,
    store: StoreReader,
    version: str,
    stack: ExitStack,
    near: Collection[Side] = (),
    *,
    before_refit: bool = False,
) -> AnyModel:
    """Read a version, verified: see :func:`load_from_folder`.

    Where a side is large, the version is kept from being pruned until ``stack`` ends.
    ``before_refit`` asks for the model that the version was measured by.

    Raises
    ------
    DataError
        If its files are not those that were published.
    """
    name = store.resolve(version)
    place = f"{VERSIONS}/{name}"
    measured = before_refit and store.files.exists(f"{place}/{BEFORE_REFIT}")
    inner = f"/{BEFORE_REFIT}" if measured else ""
    seen = seen_by_executors(session, f"{store.label}/{place}{inner}")
    # Before it is copied from another file system: once is enough.
    large = _large_sides(session, _told(store, f"{place}{inner}"))
    if seen is None or set(large) <= set(near):
        return store.load_before_refit(name) if before_refit else store.load(name)
    folder = stack.enter_context(store.open(name))
    return load_from_folder(session, Path(f"{folder}{inner}"), seen, near)


def _told(store: StoreReader, folder: str) -> Mapping[str, Any]:
    """Read the description of a model that nobody has verified; whoever loads it does."""
    try:
        return decode(store.files.read(f"{folder}/{DESCRIPTION_FILE}"))
    except (OSError, ValueError, DataError):
        return {}


def seen_by_executors(session: SparkSession, folder: str) -> str | None:
    """Return where executors read a folder; None for one of the driver's disk, on a cluster."""
    local = local_path(folder)
    if local is None:
        return folder.rstrip("/")
    if not str(session.sparkContext.master).startswith("local"):
        return None
    return f"file://{local.absolute()}"


def _large_sides(session: SparkSession, description: Mapping[str, Any]) -> list[Side]:
    """Return the sides whose factors would take too much of a process, as the plan has it."""
    limit = planner.side_limit(dict(session.sparkContext.getConf().getAll()))
    try:
        row_bytes = int(description["rank"]) * np.dtype(description["dtype"]).itemsize
        return [side for side in SIDES if int(description[f"n_{side}s"]) * row_bytes > limit]
    except (KeyError, TypeError, ValueError):
        # Whoever reads it tells what is wrong.
        return []
