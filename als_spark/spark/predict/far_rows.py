"""What recommendations need of a model whose factors no single process has.

Of a far side that is asked the factors come as a DataFrame, whose rows find their slices as pairs
do. Of a far side that is found they are broadcast in groups of bounded size: the driver passes on
one at a time, and a task has one at a time in its hands, mapped from the executor's disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pyspark import SparkContext
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import DataError
from als_spark.model.large_model import AnyModel
from als_spark.model.recommend import Asked, may_be_recommended
from als_spark.spark.predict.answers import Handle
from als_spark.spark.predict.far_sides import side_frame
from als_spark.spark.shared import HasValue, SharedBroadcast, share
from als_spark.types import FloatArray, IntArray, Side, other_side

GROUP_BYTES = 64 << 20
"""Factors of a group of candidates, about."""


class FarRows(NamedTuple):
    """Factors that a plan has not."""

    asked: DataFrame | None
    """Columns ``id`` and ``factors`` of those who are asked, and of others."""
    found: Sequence[HasValue[FloatArray]] | None
    """Factors of the candidates, in their order, in groups."""


NEAR = FarRows(None, None)
"""None: the plan has them all."""


def far_rows(
    session: SparkSession, model: AnyModel, side: Side, min_ratings: int, handles: list[Handle]
) -> FarRows:
    """Return the factors that :func:`~als_spark.model.recommend.plan_recommendations` leaves out.

    ``handles`` take what is broadcast.
    """
    asked = None
    if not isinstance(model.side(side).factors, np.ndarray):
        asked = side_frame(session, model, side).select("id", "factors")
    _, factors, stats = model.side(other_side(side))
    if isinstance(factors, np.ndarray):
        return FarRows(asked, None)
    kept = may_be_recommended(stats, min_ratings)
    return FarRows(asked, share_groups(session.sparkContext, factors.pieces(), kept, handles))


def share_groups(
    context: SparkContext,
    pieces: Iterable[FloatArray],
    kept: npt.NDArray[np.bool_],
    handles: list[Handle],
) -> list[SharedBroadcast[FloatArray]]:
    """Broadcast the kept rows of pieces, which come in order, group by group.

    ``handles`` take each as it is broadcast.
    """
    found = []
    for group in grouped(pieces, kept, GROUP_BYTES):
        found.append(share(context, group))
        handles.append(found[-1])
    return found


def grouped(
    pieces: Iterable[FloatArray], kept: npt.NDArray[np.bool_], size: int
) -> Iterator[FloatArray]:
    """Put the kept rows of pieces, which come in order, into groups of about so many bytes."""
    held: list[FloatArray] = []
    first = 0
    for piece in pieces:
        held.append(piece[kept[first : first + len(piece)]])
        first += len(piece)
        if sum(own.nbytes for own in held) >= size:
            yield np.concatenate(held)
            held = []
    if any(len(own) for own in held):
        yield np.concatenate(held)


def put_in(part: Asked, pieces: Sequence[tuple[IntArray, bytes]], dtype: npt.DTypeLike) -> Asked:
    """Put factors that have come in pieces into a slice that has none.

    Raises
    ------
    DataError
        If some are missing: the model's files are not of one model.
    """
    rank = part.factors.shape[1]
    factors, there = np.empty((len(part.ids), rank), dtype), np.zeros(len(part.ids), bool)
    for rows, data in pieces:
        factors[rows] = np.frombuffer(data, dtype).reshape(-1, rank)
        there[rows] = True
    if not there.all():
        raise DataError(
            f"{int((~there).sum()):,} rows of the model have no factors: save the model again"
        )
    return replace(part, factors=factors, rows=np.arange(len(part.ids)))
