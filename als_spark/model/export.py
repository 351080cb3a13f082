"""The vectors of a model for an index of nearest neighbours, with the ids that they belong to.

Rows without training ratings, unless they are known by their features, are left out: an index would
return their random start, which may be longer than any trained row. Where the score is the inner
product it is the model's prediction; of a model with biases the rows are [u, b_u + μ, 1] and [v, 1,
b_i] (:mod:`als_spark.solve.biases`), so the biases are in it. Where it is the cosine the rows are
of length 1, without the columns of biases and without rows of zeros, which have no direction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from als_spark.errors import ConfigError
from als_spark.model.factor_model import FactorModel
from als_spark.solve.objective import Objective
from als_spark.types import SIDES, FloatArray, Side

Metric = Literal["inner-product", "cosine"]
Target = Literal["npy", "parquet", "faiss-ready"]
TARGETS: tuple[str, ...] = get_args(Target)

_BIAS_COLUMNS = 2


class ServingVectors(NamedTuple):
    """Vectors of one side."""

    ids: pa.Array
    """Int64 or string: the id of each row."""
    vectors: FloatArray
    """(n_rows, n_columns), a row after the other in memory."""
    n_untrained: int
    """Rows of the model without training ratings, left out."""
    n_zero: int
    """Rows of zeros, left out of what is for the cosine."""


def has_biases(model: FactorModel) -> bool:
    """Tell whether the factors have columns of biases."""
    try:
        return Objective.from_record(model.description, "the model").bias_reg is not None
    except ConfigError:
        # A model of somebody else's may say nothing of its objective.
        return False


def serving_vectors(model: FactorModel, side: Side, metric: Metric) -> ServingVectors:
    """Return the vectors of a side for an index, in the dtype of the model.

    Parameters
    ----------
    model : FactorModel
    side : {"user", "item"}
    metric : {"inner-product", "cosine"}
        What the index compares by. An index for the cosine compares these vectors by the inner
        product too.
    """
    ids, factors, stats = model.side(side)
    trained = stats.known
    n_untrained = int(np.count_nonzero(~trained))
    if metric == "inner-product":
        rows = np.flatnonzero(trained)
        return ServingVectors(_take(ids.ids, rows), factors[rows], n_untrained, 0)
    latent = factors[:, :-_BIAS_COLUMNS] if has_biases(model) else factors
    wide = latent.astype(np.float64)
    # By its largest entry first: squares of small factors are 0.
    largest = np.abs(wide).max(axis=1, initial=0.0)
    rows = np.flatnonzero(trained & (largest > 0))
    wide = wide[rows] / largest[rows, None]
    wide /= np.sqrt(np.einsum("nd,nd->n", wide, wide))[:, None]
    n_zero = int(np.count_nonzero(trained)) - rows.size
    return ServingVectors(_take(ids.ids, rows), wide.astype(factors.dtype), n_untrained, n_zero)


def write_export(
    folder: Path, model: FactorModel, target: Target, metric: Metric
) -> dict[str, Any]:
    """Write the vectors of both sides into a folder; return what there is to say of them.

    Raises
    ------
    ConfigError
        If a float64 number of the model is too large for float32, which is what FAISS takes.
    """
    sides = {}
    columns = 0
    for side in SIDES:
        found = serving_vectors(model, side, metric)
        columns = found.vectors.shape[1]
        sides[f"{side}s"] = {
            "rows": len(found.ids),
            "left_out_without_ratings": found.n_untrained,
            "left_out_zero": found.n_zero,
            **_WRITERS[target](folder, side, found),
        }
    dtype = "float32" if target == "faiss-ready" else str(model.factors.items.dtype)
    return {
        "to": target,
        "metric": metric,
        "columns": columns,
        "dtype": dtype,
        "biases": has_biases(model) and metric == "inner-product",
        **sides,
    }


def _write_npy(folder: Path, side: Side, found: ServingVectors) -> dict[str, Any]:
    name = f"{side}_vectors.npy"
    np.save(folder / name, np.ascontiguousarray(found.vectors), allow_pickle=False)
    return {"vectors": name, "ids": _write_ids(folder, side, found.ids)}


def _write_parquet(folder: Path, side: Side, found: ServingVectors) -> dict[str, Any]:
    name = f"{side}s.parquet"
    values = pa.array(np.ascontiguousarray(found.vectors).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(values, found.vectors.shape[1])
    pq.write_table(pa.table({"id": found.ids, "vector": lists}), folder / name)
    return {"vectors": name, "ids": name}


def _write_faiss(folder: Path, side: Side, found: ServingVectors) -> dict[str, Any]:
    with np.errstate(over="ignore"):
        vectors = found.vectors.astype(np.float32, copy=False)
    if not np.isfinite(vectors).all():
        raise ConfigError(
            f"--to faiss-ready: a factor of the {side}s is too large for 32-bit floats: use npy"
        )
    files = _write_npy(folder, side, found._replace(vectors=vectors))
    labels, name = np.arange(len(found.ids)), f"{side}_labels.npy"
    # A label of -1 is FAISS's word for nothing.
    of_ids = pa.types.is_integer(found.ids.type) and (found.ids.to_numpy() >= 0).all()
    if of_ids:
        labels = found.ids.to_numpy()
    np.save(folder / name, labels.astype(np.int64, copy=False), allow_pickle=False)
    return {**files, "labels": name, "labels_are": "ids" if of_ids else "rows"}


def _write_ids(folder: Path, side: Side, ids: pa.Array) -> str:
    if pa.types.is_integer(ids.type):
        name = f"{side}_ids.npy"
        np.save(folder / name, ids.to_numpy(), allow_pickle=False)
        return name
    # Text of any length and any characters, which NumPy's arrays of text do not all keep.
    name = f"{side}_ids.json"
    text = json.dumps(ids.to_pylist(), ensure_ascii=False)
    (folder / name).write_text(f"{text}\n", encoding="utf-8")
    return name


_WRITERS: Mapping[Target, Callable[[Path, Side, ServingVectors], dict[str, Any]]] = {
    "npy": _write_npy,
    "parquet": _write_parquet,
    "faiss-ready": _write_faiss,
}


def _take(ids: pa.Array, rows: Any) -> pa.Array:
    return ids.take(pa.array(rows, pa.int64()))
