"""The files of a model: its factors in Parquet, its description in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from als_spark.errors import ConfigError, DataError
from als_spark.files.json_files import decode, shortened, write_json
from als_spark.files.places import local_path
from als_spark.model.description import check_description
from als_spark.model.factor_files import (
    StoredSide,
    read_ids,
    read_large_side,
    read_side,
    split_trained,
    with_untrained,
    write_ids,
    write_pieces,
    write_side,
)
from als_spark.model.factor_model import FactorModel
from als_spark.model.ids import IdIndex
from als_spark.model.large_model import AnyModel, LargeModel, LargeSide
from als_spark.train.backend import Factors, HeldFactors
from als_spark.types import SIDES, Side

MODEL_FORMAT = "als_spark.model/1"
DESCRIPTION_FILE = "model.json"
FACTOR_FILES = {"user": "user_factors.parquet", "item": "item_factors.parquet"}
MODEL_FILES = (DESCRIPTION_FILE, *FACTOR_FILES.values())
"""The files that every model has."""
UNTRAINED_FILES = {"user": "untrained_users.parquet", "item": "untrained_items.parquet"}
"""Ids of the rows without training ratings, where there are any."""
_OWN_COUNTS = tuple(f"n_{kind}_{side}s" for kind in ("untrained", "featured") for side in SIDES)
"""Keys of the description that are told of the rows; the latter of those known by features."""
BEFORE_REFIT = "before_refit"
"""Folder, in that of a model that was refitted on all ratings, of the model that was measured."""


def save_model(model: AnyModel, folder: str | Path) -> None:
    """Write a model into a folder: two Parquet files and ``model.json``.

    Each Parquet file has the columns ``id`` (int64 or string), ``n_ratings`` (int32),
    ``sum_ratings`` (float64) and ``factors`` (fixed-size list of ``rank`` floats), a row for each
    user, or item, with training ratings. So have those that are known by their features alone, with
    ``n_ratings`` of 0: ``model.json`` then has their number, ``n_featured_users`` or
    ``n_featured_items``. The ids of the others, if there are any, are in
    ``untrained_users.parquet`` and ``untrained_items.parquet``: their factors are not trained.

    Parameters
    ----------
    model : FactorModel or LargeModel
        The model. Factors that are on the executors come to the file in pieces of 16 MB, in the
        order of their rows, each a row group: of a side this process has one piece at a time.
    folder : str or Path
        On this machine; created if need be. For a folder that readers may be looking at, write into
        :func:`als_spark.files.outputs.replaced_folder`.

    Raises
    ------
    ConfigError
        If what is given is no such model, or the folder is of another file system.
    """
    _check_model(model)
    place = folder if isinstance(folder, Path) else local_path(folder)
    if place is None:
        raise ConfigError(
            f"{folder} is not on this machine: save the model into a folder here, and publish that "
            "into a store (store_at)"
        )
    folder = place
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        **{key: value for key, value in model.description.items() if key not in _OWN_COUNTS},
        "format": MODEL_FORMAT,
        "rank": model.rank,
        "dtype": str(model.factors.items.dtype),
    }
    for side in SIDES:
        n_trained, untrained = _write_side(
            folder / FACTOR_FILES[side], LargeSide(*model.side(side))
        )
        description[f"n_{side}s"] = n_trained
        if n_featured := model.side(side).stats.n_by_features:
            description[f"n_featured_{side}s"] = n_featured
        # Also where the folder holds that of an earlier model.
        (folder / UNTRAINED_FILES[side]).unlink(missing_ok=True)
        if len(untrained):
            write_ids(folder / UNTRAINED_FILES[side], untrained)
            description[f"n_untrained_{side}s"] = len(untrained)
    write_json(folder / DESCRIPTION_FILE, description)


def _write_side(path: Path, side: LargeSide) -> tuple[int, IdIndex]:
    """Write the trained rows of a side; return their number, and the ids of the others."""
    if not isinstance(side.factors, np.ndarray):
        return write_pieces(path, side.ids, side.stats, side.factors.pieces())
    trained, untrained = split_trained(StoredSide(side.ids, side.factors, side.stats))
    write_side(path, trained)
    return len(trained.ids), untrained


def save_refitted(model: AnyModel, refitted: AnyModel | None, folder: Path) -> None:
    """Write a model; where there is a refitted one, write that, and the model beside it.

    The model is then in the folder ``before_refit/``: the measures are of it.
    """
    if refitted is None:
        save_model(model, folder)
    else:
        save_model(refitted, folder)
        save_model(model, folder / BEFORE_REFIT)


def load_model(folder: str | Path) -> FactorModel:
    """Read a model that :func:`save_model` wrote.

    Ids without training ratings come last, with factors of zeros, but for those known by their
    features. A model that als_spark 0.1.0
    wrote has them among the others, each with its random start.

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
    model = load_large(folder, {})
    assert isinstance(model, FactorModel)
    return model


def load_large(folder: str | Path, addresses: Mapping[Side, str]) -> AnyModel:
    """Read a model but for the factors of some sides, which stay in their files.

    Parameters
    ----------
    folder : str or Path
        The model's folder, as this process sees it.
    addresses : mapping of side to str
        Where executors read the file of a side (:data:`FACTOR_FILES`) whose factors stay there.

    Returns
    -------
    FactorModel or LargeModel
        The latter if any stay there.

    Raises
    ------
    DataError
        As :func:`load_model`.
    """
    folder = Path(folder)
    description = read_description(folder)
    name = DESCRIPTION_FILE
    sides: dict[Side, LargeSide] = {}
    try:
        check_description(description)
        for side in SIDES:
            name = FACTOR_FILES[side]
            if side in addresses:
                sides[side] = read_large_side(folder / name, addresses[side])
            else:
                sides[side] = LargeSide(*read_side(folder / name))
            sides[side] = _with_marks(name, description, side, sides[side])
        _compare(folder, description, sides["user"], sides["item"])
        for side in SIDES:
            name = UNTRAINED_FILES[side]
            sides[side] = _with_untrained(folder, description, side, sides[side])
    except (OSError, ValueError) as error:
        raise _unreadable(folder, name, error) from error
    users, items = sides["user"], sides["item"]
    known = users.stats, items.stats, description
    if isinstance(users.factors, np.ndarray) and isinstance(items.factors, np.ndarray):
        return FactorModel(users.ids, items.ids, Factors(users.factors, items.factors), *known)
    return LargeModel(users.ids, items.ids, HeldFactors(users.factors, items.factors), *known)


def read_description(folder: Path) -> dict[str, Any]:
    """Read what ``model.json`` says of a model; DataError if it is none of a known format."""
    try:
        description = decode((folder / DESCRIPTION_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(folder, DESCRIPTION_FILE, error) from error
    if description.get("format") != MODEL_FORMAT:
        raise DataError(
            f"{folder / DESCRIPTION_FILE}: format {shortened(repr(description.get('format')))} is "
            f"not {MODEL_FORMAT!r}: read the model with the version of als_spark that wrote it"
        )
    return description


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
    folder: Path, description: Mapping[str, Any], users: LargeSide, items: LargeSide
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


def _with_marks(
    name: str, description: Mapping[str, Any], side: Side, found: LargeSide
) -> LargeSide:
    """Mark the rows without training ratings, if the model knows them by their features."""
    said = description.get(f"n_featured_{side}s", 0)
    if not said:
        return found
    marks = found.stats.degrees == 0
    if (n_found := int(np.count_nonzero(marks))) != said:
        raise ValueError(
            f"{name} holds {n_found:,} {side}s without ratings, model.json speaks of {said:,}"
        )
    return found._replace(stats=replace(found.stats, by_features=marks))


def _with_untrained(
    folder: Path, description: Mapping[str, Any], side: Side, trained: LargeSide
) -> LargeSide:
    """Add the ids of a side that have no training ratings, if the model has such."""
    said = description.get(f"n_untrained_{side}s", 0)
    if not said:
        return trained
    path = folder / UNTRAINED_FILES[side]
    ids = read_ids(path)
    if len(ids) != said:
        raise ValueError(f"{path.name} holds {len(ids):,} ids, model.json speaks of {said:,}")
    try:
        return with_untrained(trained, ids)
    except ValueError as error:
        raise ValueError(f"{path.name}, column id: {error}") from error


def _unreadable(folder: Path, name: str, error: Exception) -> DataError:
    reason = _first_line(error)
    where = "" if name in reason else f"{name}: "
    return DataError(
        f"{folder} holds no readable model ({where}{reason}): "
        "give the folder that has model.json in it, such as DIR/best_model of a sweep"
    )


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _check_model(model: Any) -> None:
    if isinstance(model, FactorModel | LargeModel):
        return
    remedy = "model.toFactorModel()" if hasattr(model, "toFactorModel") else "a FactorModel"
    raise ConfigError(f"save_model takes no {type(model).__name__}: give {remedy}")
