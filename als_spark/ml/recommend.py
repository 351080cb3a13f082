"""Recommendations and similar rows of a model, as DataFrames: MLlib's, and what it does not offer.

Who is asked is cut into slices of binary columns, and the candidates are broadcast: the functions
of :mod:`als_spark.spark.predict.recommend` answer. Where a side stays on the executors, its factors
are sent to the slices, or broadcast in groups. The DataFrames are lazy but for such groups, and for
lists of candidates, whose ids are read at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    DataType,
    DoubleType,
    FloatType,
    StructField,
    StructType,
)

from als_spark.ml.columns import check_exists, check_like, id_or_null
from als_spark.ml.errors import InvalidArgument
from als_spark.ml.factors import collect_chunks
from als_spark.ml.far import AnySide, FarSide, directions
from als_spark.ml.params import to_int
from als_spark.model.ids import IdIndex, is_single
from als_spark.model.recommend import Asked, Candidates, Plan, plan_similar
from als_spark.spark.frames import check_frame
from als_spark.spark.predict.far_rows import NEAR, FarRows, share_groups
from als_spark.spark.predict.recommend import answer_plan
from als_spark.spark.shared import SharedBroadcast
from als_spark.types import FloatArray, IntArray, Side, other_side

Measure = Literal["cosine", "inner"]


class Answerer(NamedTuple):
    """One side of a model as what is asked, the other as what is found."""

    session: SparkSession
    side: Side
    names: dict[Side, str]
    """Names of the columns."""
    sides: dict[Side, AnySide]
    native: bool
    """Whether the ids are native: see :mod:`als_spark.ml.columns`."""

    @property
    def other(self) -> Side:
        """What is found."""
        return other_side(self.side)

    def recommend(
        self,
        number: Any,
        subset: DataFrame | None,
        exclude: DataFrame | None,
        candidates: DataFrame | None,
    ) -> DataFrame:
        """Recommend to all of a side, or to a subset: see :class:`als_spark.ALSModel`."""
        top = checked_top(number)
        for given in (subset, exclude, candidates):
            if given is not None:
                check_frame(given, "a recommendation")
        found = self.sides[self.other]
        chosen = pairs = None
        if subset is not None:
            chosen = subset.select(self._ids_of(subset, self.side))
        if exclude is not None:
            pairs = exclude.select(
                self._ids_of(exclude, self.side), self._ids_of(exclude, self.other)
            )
        kept = None if candidates is None else self._candidates(candidates)
        asked = self.sides[self.side]
        rows = np.arange(len(asked.ids))
        own = as_candidates(found, kept)
        plan = Plan(
            self.side,
            self.other,
            asked.ids.type,
            own,
            [Asked("model", asked.ids, factors_here(asked), rows)] if rows.size else [],
            max(min(top, len(own.ids)), 1),
        )
        far = FarRows(
            asked.asked() if isinstance(asked, FarSide) else None,
            self._groups(found, found.pieces(), kept) if isinstance(found, FarSide) else None,
        )
        broadcast = self.session.sparkContext.broadcast
        answers = answer_plan(self.session, plan, broadcast, pairs=pairs, chosen=chosen, far=far)
        return self._shaped(answers, self.other, "recommendations", "rating", FloatType())

    def similar(self, ids: Sequence[Any] | None, number: Any, measure: Measure) -> DataFrame:
        """Find the rows of the side most similar to some of them."""
        top = checked_top(number)
        if measure not in ("cosine", "inner"):
            raise InvalidArgument(f"measure {measure!r}: use 'cosine' or 'inner'")
        own = self.sides[self.side]
        given = None if ids is None else id_array(ids, own.ids.type, self.side).unique()
        cosine = measure == "cosine"
        plan = plan_similar(as_candidates(own), self.side, top, given, cosine=cosine)
        far = NEAR
        if isinstance(own, FarSide):
            turned = (directions(piece, cosine=cosine) for piece in own.pieces())
            far = FarRows(own.asked_directions(cosine=cosine), self._groups(own, turned))
        answers = answer_plan(self.session, plan, self.session.sparkContext.broadcast, far=far)
        return self._shaped(answers, self.side, "neighbours", "score", DoubleType())

    def _shaped(
        self, answers: DataFrame, found: Side, column: str, score: str, kind: DataType
    ) -> DataFrame:
        entry = StructType(
            [
                StructField(self.names[found], self.sides[found].id_type),
                StructField(score, kind),
            ]
        )
        return answers.select(
            F.col(self.side).alias(self.names[self.side]),
            F.col("recommendations").cast(ArrayType(entry)).alias(column),
        )

    def _ids_of(self, frame: DataFrame, side: Side) -> Column:
        """Return the ids of a side in a DataFrame, null where there is no such id."""
        name, kind = self.names[side], self.sides[side].id_type
        check_exists(frame.schema, name)
        if self.native:
            check_like(frame.schema, name, kind)
        return id_or_null(name, kind).alias(side)

    def _candidates(self, frame: DataFrame) -> IntArray:
        """Return the rows of a list of candidates, in the order of the side, falling."""
        own = self.sides[self.other]
        chunks = collect_chunks(frame.select(self._ids_of(frame, self.other)).distinct())
        ids = pa.concat_arrays([chunk.column(0) for chunk in chunks] or [own.ids[:0]])
        rows = IdIndex(own.ids).rows_of(ids)
        known: IntArray = np.sort(rows[rows >= 0])
        return known

    def _groups(
        self, found: FarSide, pieces: Iterable[FloatArray], rows: IntArray | None = None
    ) -> list[SharedBroadcast[FloatArray]]:
        """Broadcast the factors of some rows, all if not told, for as long as Spark needs them."""
        kept = np.full(len(found.ids), rows is None)
        if rows is not None:
            kept[rows] = True
        return share_groups(self.session.sparkContext, pieces, kept, [])


def as_candidates(side: AnySide, rows: IntArray | None = None) -> Candidates:
    """Return a side, or some of its rows, as candidates; their popularity as nothing: not asked."""
    ids, factors = side.ids, factors_here(side)
    if rows is not None:
        ids = ids.take(pa.array(rows))
        factors = factors[rows] if len(factors) else factors
    return Candidates(ids, factors, np.zeros(0, np.int32), np.zeros(0))


def factors_here(side: AnySide) -> FloatArray:
    """Return the factors of a side, or none of its rows where they are elsewhere."""
    if isinstance(side, FarSide):
        return np.zeros((0, side.columns), np.float32)
    return side.factors


def id_array(ids: Sequence[Any], kind: pa.DataType, side: Side) -> pa.Array:
    """Bring ids of Python to the type of a model's.

    Raises
    ------
    InvalidArgument
        If one is of another kind, or a single one is given where several are wanted.
    """
    if is_single(ids):
        raise InvalidArgument(f"{side} ids {ids!r}: use a list of ids, such as [{ids!r}]")
    try:
        if pa.types.is_integer(kind):
            _refuse_fractions(ids)
        return pa.array(list(ids), kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InvalidArgument(
            f"{side} ids of another kind than the model's, which are of type {kind}: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _refuse_fractions(ids: Sequence[Any]) -> None:
    """Raise ValueError for 1.5, which Arrow takes for 1."""
    for value in ids:
        if isinstance(value, Real) and value % 1 != 0:
            raise ValueError(f"{value} is no whole number")


def checked_top(number: Any) -> int:
    """Return how many are asked for.

    Raises
    ------
    TypeError
        If it is no whole number.
    InvalidArgument
        If it is none at all.
    """
    top = to_int(number)
    if top < 1:
        raise InvalidArgument(f"{top} recommendations wanted: ask for at least one")
    return top
