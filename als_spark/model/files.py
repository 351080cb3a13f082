"""The files of a model: its factors in Parquet, its description in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from als_spark.errors import DataError
from als_spark.files.json_files import decode, shortened, write_json
from als_spark.model.description import check_description
from als_spark.model.factor_files import StoredSide, read_side, write_side
from als_spark.model.factor_model import FactorModel
from als_spark.train.backend import Factors

MODEL_FORMAT = "als_spark.model/1"
DESCRIPTION_FILE = "model.json"
FACTOR_FILES = {"user": "user_factors.parquet", "item": "item_factors.parquet"}
MODEL_FILES = (DESCRIPTION_FILE, *FACTOR_FILES.values())
"""All files of a model."""
BEFORE_REFIT = "before_refit"
"""Folder, in that of a model that was refitted on all ratings, of the model that was measured."""


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
        :func:`als_spark.files.outputs.replaced_folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    users = StoredSide(model.users, model.factors.users, model.user_stats)
    items = StoredSide(model.items, model.factors.items, model.item_stats)
    write_side(folder / FACTOR_FILES["user"], users)
    write_side(folder / FACTOR_FILES["item"], items)
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
        If the folder holds no model of a known format, or an incomplete or damaged one: names the
        file and what is wrong in it.
    """
    folder = Path(folder)
    try:
        description = decode((folder / DESCRIPTION_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(folder, DESCRIPTION_FILE, error) from error
    if description.get("format") != MODEL_FORMAT:
        raise DataError(
            f"{folder / DESCRIPTION_FILE}: format {shortened(repr(description.get('format')))} is "
            f"not {MODEL_FORMAT!r}: read the model with the version of als_spark that wrote it"
        )
    name = DESCRIPTION_FILE
    try:
        check_description(description)
        name = FACTOR_FILES["user"]
        users = read_side(folder / name)
        name = FACTOR_FILES["item"]
        items = read_side(folder / name)
    except (OSError, ValueError) as error:
        raise _unreadable(folder, name, error) from error
    _compare(folder, description, users, items)
    return FactorModel(
        users.ids,
        items.ids,
        Factors(users.factors, items.factors),
        users.stats,
        items.stats,
        description,
    )


def load_before_refit(folder: Path) -> FactorModel:
    """Read the model that was measured: of one that was refitted, that before; else the model.

    Raises
    ------
    DataError
        As :func:`load_model`.
    """
    inner = folder / BEFORE_REFIT
    return load_model(inner if inner.is_dir() else folder)


def _compare(
    folder: Path, description: Mapping[str, Any], users: StoredSide, items: StoredSide
) -> None:
    """Refuse files that are not of one model."""
    found = (len(users.ids), len(items.ids), users.factors.shape[1], items.factors.shape[1])
    said = tuple(description.get(key) for key in ("n_users", "n_items", "rank", "rank"))
    if found != said:
        raise DataError(
            f"{folder}: model.json speaks of (users, items, ranks) {said}, the files hold {found}: "
            "the folder mixes two models; copy it again from its source"
        )
    dtypes = [str(side.factors.dtype) for side in (users, items)]
    if dtypes != [description.get("dtype", dtypes[0])] * 2:
        raise DataError(
            f"{folder}: model.json speaks of factors of {description.get('dtype')}, the files hold "
            f"{' and '.join(dtypes)}: the folder mixes two models; copy it again from its source"
        )


def _unreadable(folder: Path, name: str, error: Exception) -> DataError:
    reason = _first_line(error)
    where = "" if name in reason else f"{name}: "
    return DataError(
        f"{folder} holds no readable model ({where}{reason}): "
        "give the folder that has model.json in it, such as DIR/best_model of a sweep"
    )


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
