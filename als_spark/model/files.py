"""Files on the driver: models in Parquet and JSON, and folders that appear whole or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from als_spark.errors import ConfigError, DataError
from als_spark.model.factor_model import FactorModel
from als_spark.model.ids import IdIndex
from als_spark.train.backend import Factors
from als_spark.train.metrics import SideStats
from als_spark.types import FloatArray

MODEL_FORMAT = "als_spark.model/1"
DESCRIPTION_FILE = "model.json"
FACTOR_FILES = {"user": "user_factors.parquet", "item": "item_factors.parquet"}


def save_model(model: FactorModel, folder: Path) -> None:
    """Write a model into a folder: two Parquet files and ``model.json``.

    Each Parquet file has the columns ``id`` (int64 or string), ``n_ratings`` (int32),
    ``sum_ratings`` (float64) and ``factors`` (fixed-size list of ``rank`` floats), a row for each
    row of the factors.

    Parameters
    ----------
    model : FactorModel
        The model.
    folder : Path
        Created if need be. For a folder that readers may be looking at, write into
        :func:`replaced_folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_side(folder / FACTOR_FILES["user"], model.users, model.factors.users, model.user_stats)
    _write_side(folder / FACTOR_FILES["item"], model.items, model.factors.items, model.item_stats)
    description = {
        **model.description,
        "format": MODEL_FORMAT,
        "rank": model.rank,
        "n_users": len(model.users),
        "n_items": len(model.items),
        "dtype": str(model.factors.items.dtype),
    }
    write_json(folder / DESCRIPTION_FILE, description)


def load_model(folder: str | Path) -> FactorModel:
    """Read a model that :func:`save_model` wrote.

    Parameters
    ----------
    folder : str or Path
        The model's folder, such as ``DIR/best_model``.

    Raises
    ------
    DataError
        If the folder holds no model of a known format, or an incomplete one.
    """
    folder = Path(folder)
    try:
        description = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        if not isinstance(description, dict):
            raise ValueError(f"{DESCRIPTION_FILE} is not a JSON object")
        users, user_factors, user_stats = _read_side(folder / FACTOR_FILES["user"])
        items, item_factors, item_stats = _read_side(folder / FACTOR_FILES["item"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder} holds no readable model ({_first_line(error)}): "
            "give the folder that has model.json in it, such as DIR/best_model of a sweep"
        ) from error
    if description.get("format") != MODEL_FORMAT:
        raise DataError(
            f"{folder / DESCRIPTION_FILE}: format {description.get('format')!r} is not "
            f"{MODEL_FORMAT!r}: read the model with the version of als_spark that wrote it"
        )
    found = (len(users), len(items), user_factors.shape[1], item_factors.shape[1])
    said = tuple(description.get(key) for key in ("n_users", "n_items", "rank", "rank"))
    if found != said:
        raise DataError(
            f"{folder}: model.json speaks of (users, items, ranks) {said}, the files hold {found}: "
            "the folder mixes two models; copy it again from its source"
        )
    return FactorModel(
        users, items, Factors(user_factors, item_factors), user_stats, item_stats, description
    )


def local_path(target: str) -> Path | None:
    """Return the path of a folder on this machine; None for one of another file system."""
    parts = urlparse(target)
    if parts.scheme == "":
        return Path(target)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for reading by people too; NaN is refused, since it is not JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def check_replaceable(target: Path, marker: str) -> None:
    """Refuse a folder that a run's output must not replace.

    Parameters
    ----------
    target : Path
        Where the output is to go.
    marker : str
        File that every earlier output of the same kind has; a folder that has it is replaced.

    Raises
    ------
    ConfigError
        If the target is a file, is not writable, or holds something else.
    """
    if target.is_dir():
        if any(target.iterdir()) and not (target / marker).is_file():
            raise ConfigError(
                f"--output {target}: the folder is not empty and holds no earlier output "
                f"(no {marker}): give an empty or a new folder"
            )
    elif target.exists():
        raise ConfigError(f"--output {target}: this is a file: give a folder")
    # Also when the target is there: it is replaced by a rename inside its parent.
    parent = target.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ConfigError(f"--output {target}: {parent} is not writable: give another folder")


@dataclass(slots=True)
class StagedFolder:
    """A folder that is being written.

    Attributes
    ----------
    content : Path
        Write here.
    subfolder : str or None
        Set it to put the content into this folder of the target, and leave the rest of the target
        alone.
    """

    content: Path
    subfolder: str | None = None


@contextmanager
def replaced_folder(target: Path) -> Iterator[StagedFolder]:
    """Give a new folder, and put it in the target's place when the block ends.

    The new folder lies beside the target, so that taking its place is a rename. A block that fails
    leaves the target as it was, and nothing beside it.
    """
    target = target.absolute()
    created = _make_parents(target.parent)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".new", dir=target.parent))
    destination = target
    try:
        staged = StagedFolder(staging / "content")
        staged.content.mkdir()
        yield staged
        if staged.subfolder is not None:
            destination = target / staged.subfolder
            created = _make_parents(target) + created
        if destination.exists():
            destination.rename(staging / "replaced")
        staged.content.rename(destination)
    except BaseException:
        if not destination.exists() and (staging / "replaced").exists():
            (staging / "replaced").rename(destination)
        shutil.rmtree(staging, ignore_errors=True)
        for folder in created:
            # Somebody else may have put something there meanwhile.
            if not any(folder.iterdir()):
                folder.rmdir()
        raise
    shutil.rmtree(staging, ignore_errors=True)


def _make_parents(folder: Path) -> list[Path]:
    """Create a folder with its parents; return those that were not there, deepest first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
    return missing


def _write_side(path: Path, ids: IdIndex, factors: FloatArray, stats: SideStats) -> None:
    rank = factors.shape[1]
    values = pa.array(np.ascontiguousarray(factors).reshape(-1))
    table = pa.table(
        {
            "id": ids.ids,
            "n_ratings": pa.array(stats.degrees, pa.int32()),
            "sum_ratings": pa.array(stats.sums, pa.float64()),
            "factors": pa.FixedSizeListArray.from_arrays(values, rank),
        }
    )
    # Factors are noise to a compressor: dictionaries only cost time and space.
    pq.write_table(table, path, use_dictionary=False)


def _read_side(path: Path) -> tuple[IdIndex, FloatArray, SideStats]:
    table = pq.read_table(path)
    lists = table.column("factors").combine_chunks()
    if not pa.types.is_fixed_size_list(lists.type):
        raise ValueError(f"{path.name} holds factors of type {lists.type}")
    factors: FloatArray = lists.flatten().to_numpy().reshape(len(lists), lists.type.list_size)
    if not np.isfinite(factors).all():
        raise ValueError(f"{path.name} holds factors that are not finite")
    return (
        IdIndex(table.column("id").combine_chunks()),
        factors,
        SideStats(
            table.column("n_ratings").to_numpy().astype(np.int32),
            table.column("sum_ratings").to_numpy().astype(np.float64),
        ),
    )


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def json_ready(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn paths, tuples and infinite numbers of a mapping into what JSON knows."""
    return {key: _json_ready(value) for key, value in values.items()}


def _json_ready(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Path) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return value
