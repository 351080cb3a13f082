"""Rows that a model knows by their features alone: new users and items, before any rating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from als_spark.model.factor_model import FactorModel
from als_spark.model.ids import IdIndex
from als_spark.train.metrics import SideStats
from als_spark.types import Side


def with_featured(
    model: FactorModel, featured: Mapping[Side, tuple[pa.Array, npt.NDArray[np.bool_]]]
) -> FactorModel:
    """Return a model with the ids and marks of rows whose factors come from features.

    Parameters
    ----------
    model : FactorModel
        Its factors have the further rows already.
    featured : mapping of side to (ids, there)
        Ids of the further rows, of the type of the model's; and whether each row, old or new, has
        features, (n_rows,) bool. Those without a training rating are then known by them.
    """
    users = extended_side(model.users, model.user_stats, featured.get("user"))
    items = extended_side(model.items, model.item_stats, featured.get("item"))
    return replace(model, users=users[0], user_stats=users[1], items=items[0], item_stats=items[1])


def extended_side(
    index: IdIndex, stats: SideStats, own: tuple[pa.Array, npt.NDArray[np.bool_]] | None
) -> tuple[IdIndex, SideStats]:
    """Return ids and statistics of a side with those of its further rows, if it has features.

    ``own`` is as in :func:`with_featured`.
    """
    if own is None:
        return index, stats
    ids, there = own
    if len(ids):
        index = IdIndex(pa.concat_arrays([index.ids, ids]))
    stats = stats.with_more(len(ids))
    marks = there & (stats.degrees == 0)
    return index, replace(stats, by_features=marks if marks.any() else None)
