"""The files of a model: its factors in Parquet, its description in JSON."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from als_spark.errors import DataError
from als_spark.files.json_files import decode, write_json
from als_spark.model.factor_model import FactorModel
from als_spark.model.ids import IdIndex
from als_spark.train.backend import Factors
from als_spark.train.metrics import SideStats
from als_spark.types import FloatArray

MODEL_FORMAT = "als_spark.model/1"
DESCRIPTION_FILE = "model.json"
FACTOR_FILES = {"user": "user_factors.parquet", "item": "item_factors.parquet"}
MODEL_FILES = (DESCRIPTION_FILE, *FACTOR_FILES.values())
"""All files of a model."""


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
        description = decode((folder / DESCRIPTION_FILE).read_bytes())
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
