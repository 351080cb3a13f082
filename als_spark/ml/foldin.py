"""Folding in on Spark: rows that a model has not seen, solved where their ratings meet.

The ratings are shuffled by the rows' ids; a task solves the rows of its partition, by the fixed
factors, which are broadcast, and the driver takes their factors into the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from als_spark.errors import SolveError
from als_spark.ml.columns import check_like, typed_ratings
from als_spark.ml.errors import InvalidArgument, InvalidRatings
from als_spark.ml.factors import SideFactors, cast_ids
from als_spark.ml.far import AnySide
from als_spark.ml.sides import Parts, Sides
from als_spark.model.foldin import solve_rows
from als_spark.model.ids import IdIndex
from als_spark.solve.objective import Objective
from als_spark.spark.arrow import map_in_arrow, stream_to_bytes, table_from_bytes
from als_spark.train.metrics import SideStats
from als_spark.types import SIDES, Side, other_side

_FIELDS = pa.schema([("rows", pa.binary()), ("problem", pa.string()), ("unsolved", pa.string())])
_SCHEMA = "rows binary, problem string, unsolved string"


class Columns(NamedTuple):
    """Columns of the ratings, and whether their ids are native."""

    user: str
    item: str
    rating: str
    native: bool


def fold_ratings(ratings: DataFrame, columns: Columns, side: Side, sides: Sides) -> Parts:
    """Solve the rows of a side that ratings are of, and take them into the model.

    Parameters
    ----------
    ratings : DataFrame
        Ratings of ids that the other side does not know are left out; rows of which none is left
        stay as they are.
    columns : Columns
    side : {"user", "item"}
        What is solved.
    sides : Sides
        The model.

    Raises
    ------
    InvalidArgument
        If the model does not know its objective, or a column is unusable.
    InvalidRatings
        If a row has no usable id or rating.
    SolveError
        If a row's system has no finite solution.
    """
    if side not in SIDES:
        raise InvalidArgument(f"side {side!r}: use 'user' or 'item'")
    objective = sides.parts.objective
    if objective is None:
        raise InvalidArgument(
            "this model does not know its objective, as those that MLlib or als_spark 0.1.0 "
            "saved, and cannot fold in: fit it with als_spark.ALS"
        )
    if columns.native:
        for role, name in zip(SIDES, columns[:2], strict=True):
            check_like(ratings.schema, name, sides.sides[role].id_type, exactly=True)
    typed = typed_ratings(ratings, *columns[:3], native=columns.native)
    other = other_side(side)
    bad = F.when(F.col("problem").isNotNull(), F.concat_ws(", but got ", "problem", "raw"))
    # All ratings of a row meet in one partition.
    keyed = typed.select(side, other, "rating", bad.alias("bad")).repartition(F.col(side))
    solve = partial(fold_partition, fixed=sides.broadcast(other), objective=objective, side=side)
    parts = map_in_arrow(keyed, solve, _SCHEMA).collect()
    for part in parts:
        if part.problem is not None:
            raise InvalidRatings(f"{part.problem} (mend the data, or filter them out)")
        if part.unsolved is not None:
            raise SolveError(side, -1, objective.reg, f"{side} {part.unsolved}")
    tables = [table_from_bytes(bytes(part.rows)) for part in parts]
    own = _extended(sides.sides[side], tables)
    if side == "user":
        return sides.parts._replace(users=own)
    return sides.parts._replace(items=own)


def fold_partition(
    batches: Iterable[pa.RecordBatch],
    *,
    fixed: Broadcast[SideFactors],
    objective: Objective,
    side: Side,
) -> Iterator[pa.RecordBatch]:
    """Solve the rows of a partition of ratings: runs on an executor."""
    gathered = list(batches)
    if not gathered:
        return
    table = pa.Table.from_batches(gathered)
    problems = table.column("bad").drop_null()
    answer: dict[str, bytes | str | None] = dict.fromkeys(_FIELDS.names)
    if len(problems):
        answer["problem"] = pc.min(problems).as_py()
    else:
        try:
            answer["rows"] = stream_to_bytes(_solved(table, fixed.value, objective, side))
        except SolveError as error:
            answer["unsolved"] = error.name
    yield pa.RecordBatch.from_pylist([answer], schema=_FIELDS)


def _solved(
    table: pa.Table, fixed: SideFactors, objective: Objective, side: Side
) -> pa.RecordBatch:
    given, others = (table.column(k).combine_chunks() for k in (0, 1))
    # Decimals come as text, integers as 64-bit ones.
    columns = IdIndex(fixed.ids).rows_of(cast_ids(others, fixed.ids.type))
    known = columns >= 0
    kept = given.filter(pa.array(known))
    unique = kept.unique()
    index = IdIndex(unique.take(pc.array_sort_indices(unique)))
    rows, columns = index.rows_of(kept), columns[known]
    values = table.column(2).to_numpy()[known]
    # By value too, so that the sums of a pair that comes twice do not depend on the order.
    order = np.lexsort((values, columns, rows))
    try:
        factors, stats = solve_rows(
            objective, fixed.factors, rows[order], columns[order], values[order], len(index), side
        )
    except SolveError as error:
        raise SolveError(side, -1, error.reg, str(index.ids[error.row])) from error
    flat = pa.array(factors.reshape(-1))
    return pa.RecordBatch.from_arrays(
        [
            index.ids,
            pa.FixedSizeListArray.from_arrays(flat, factors.shape[1]),
            pa.array(stats.degrees),
            pa.array(stats.sums),
        ],
        names=["id", "features", "n_ratings", "sum_ratings"],
    )


def _extended(own: AnySide, parts: list[pa.Table]) -> AnySide:
    """Put solved rows in the place of those that a side has, and beside them."""
    table = pa.concat_tables(parts) if parts else None
    if table is None or table.num_rows == 0:
        return own
    factors = table.column("features").combine_chunks().flatten().to_numpy()
    stats = SideStats(*(table.column(name).to_numpy() for name in ("n_ratings", "sum_ratings")))
    rows = SideFactors.of(
        cast_ids(table.column("id").combine_chunks(), own.ids.type),
        factors.reshape(-1, own.columns),
        stats,
    )
    return own.with_rows(rows)
