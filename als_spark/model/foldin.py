"""Folding in: the factors that one half-step would give to new users, or items, from their ratings.

The model stays as it is; only rows of one side are solved, against the fixed factors of the other,
with the objective that the model was trained with. A known user with other ratings is solved from
those alone, as if it were new.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from als_spark.errors import ConfigError, DataError, SolveError
from als_spark.model.factor_model import FactorModel
from als_spark.model.ids import IdIndex, ids_like
from als_spark.model.large_model import AnyModel
from als_spark.solve.blocks import build_block, sort_pairs
from als_spark.solve.objective import Objective
from als_spark.train.backend import Factors, as_array
from als_spark.train.metrics import SideStats
from als_spark.types import FloatArray, IntArray, Side, other_side


@dataclasses.dataclass(frozen=True, slots=True)
class FoldedRows:
    """Rows of one side that were solved against a trained model.

    Attributes
    ----------
    side : {"user", "item"}
        What the rows are.
    ids : IdIndex
        Their original ids, rising, of the type of the model's.
    factors : (n, rank), dtype of the model's factors
    stats : SideStats
        The ratings that each row was solved from.
    n_unknown : int
        Ratings left out, because the model has no trained factors for their other id.
    """

    side: Side
    ids: IdIndex
    factors: FloatArray
    stats: SideStats
    n_unknown: int

    def __repr__(self) -> str:
        """Say how many rows were solved."""
        rank = self.factors.shape[1]
        unknown = f", {self.n_unknown:,} ratings left out" if self.n_unknown else ""
        return f"<FoldedRows: {len(self.ids):,} {self.side}s, rank {rank}{unknown}>"


def fold_in(
    model: AnyModel,
    side: Side,
    row_ids: pa.Array | Sequence[Any],
    column_ids: pa.Array | Sequence[Any],
    ratings: FloatArray | Sequence[float],
) -> FoldedRows:
    """Solve rows from their ratings, with the factors of the other side fixed.

    Parameters
    ----------
    model : FactorModel or LargeModel
        The factors of the other side are an array.
        Its description has ``lambda_reg``, ``exponent`` and, where they are on, the other keys of
        its objective.
    side : {"user", "item"}
        What is solved.
    row_ids : (n,) ids
        Users, if ``side`` is ``"user"``: new or known.
    column_ids : (n,) ids
        What they have rated: items, if ``side`` is ``"user"``. Those that the model does not know,
        or that have no factors, are left out.
    ratings : (n,) float
        In the users' units.

    Returns
    -------
    FoldedRows
        Ids of which no rating is left have no row.

    Raises
    ------
    ConfigError
        If the lists differ in length, or the model has no λ or exponent.
    DataError
        If an id is missing or not of the model's kind, a rating is not finite, or a pair comes
        twice.
    SolveError
        If a row has no finite solution.
    """
    objective = Objective.from_record(model.description, "the model's description")
    rows_side, columns_side = model.side(side), model.side(other_side(side))
    ids = ids_like(rows_side.ids, row_ids, f"{side} id")
    columns = columns_side.ids.rows_of(column_ids)
    values = np.asarray(ratings, np.float64)
    if not len(ids) == columns.size == values.size:
        raise ConfigError(
            f"{len(ids)} {side} ids, {columns.size} ids of what they rated and {values.size} "
            "ratings given: a rating needs one of each"
        )
    if not np.isfinite(values).all():
        raise DataError("a rating to fold in is not finite: leave it out")
    known = np.append(columns_side.stats.known, False)[columns]
    columns, values = columns[known], values[known]
    kept = ids.filter(pa.array(known))
    unique = kept.unique()
    index = IdIndex(unique.take(pc.array_sort_indices(unique)))
    rows = index.rows_of(kept)
    n_rows, n_columns = len(index), len(columns_side.ids)
    order = sort_pairs(rows, columns, n_rows, n_columns)
    rows, columns, values = rows[order], columns[order], values[order]
    again = np.flatnonzero((rows[1:] == rows[:-1]) & (columns[1:] == columns[:-1]))
    if again.size:
        raise DataError(
            f"{side} {index.ids[int(rows[again[0]])]} has rated the same twice: give one rating of "
            "each pair"
        )
    try:
        factors, stats = solve_rows(
            objective,
            as_array(columns_side.factors),
            rows,
            columns,
            values,
            n_rows,
            side,
            columns_side.stats.degrees,
        )
    except SolveError as error:
        raise error.named(index.ids[error.row]) from error
    return FoldedRows(side, index, factors, stats, int(known.size - known.sum()))


def solve_rows(
    objective: Objective,
    fixed: FloatArray,
    rows: IntArray,
    columns: IntArray,
    ratings: FloatArray,
    n_rows: int,
    side: Side,
    fixed_degrees: IntArray | None = None,
) -> tuple[FloatArray, SideStats]:
    """Solve rows against fixed factors: (n_rows, rank), of their dtype, and what it was done from.

    Parameters
    ----------
    objective : Objective
    fixed : (n_columns, rank)
        Factors of the other side.
    rows, columns, ratings : (n,) int, int, float
        Sorted by row, then by column; each of the ``n_rows`` rows has a rating.
    side : {"user", "item"}
        What is solved; for the message of an error.
    fixed_degrees : (n_columns,) int, optional
        Training ratings of the fixed rows; all have some if not given.

    Raises
    ------
    SolveError
        If a row has no finite solution.
    """
    if fixed_degrees is None:
        fixed_degrees = np.ones(fixed.shape[0], np.int32)
    block = build_block(
        rows,
        columns,
        ratings,
        n_rows=n_rows,
        n_columns=fixed.shape[0],
        dtype=fixed.dtype,
        presorted=True,
    )
    solver = objective.row_solver(objective.trained(fixed, other_side(side)), fixed_degrees)
    solved = objective.plain(solver.solve(block, side=side)[0], side)
    factors = np.empty((n_rows, fixed.shape[1]), solved.dtype)
    factors[block.rows] = solved
    return factors, SideStats.of(n_rows, [block])


def extend_model(model: FactorModel, folded: FoldedRows) -> FactorModel:
    """Return the model with folded rows in it: predictions and recommendations know them.

    New ids are appended; those that the model has already are replaced, with their statistics. The
    other side keeps its own: its counts are of training ratings alone.
    """
    side = model.side(folded.side)
    at = side.ids.rows_of(folded.ids.ids).copy()
    new = at < 0
    at[new] = len(side.ids) + np.arange(np.count_nonzero(new))
    ids = IdIndex(pa.concat_arrays([side.ids.ids, folded.ids.ids.filter(pa.array(new))]))
    extended = []
    for old, rows in (
        (side.factors, folded.factors),
        (side.stats.degrees, folded.stats.degrees),
        (side.stats.sums, folded.stats.sums),
    ):
        whole = np.empty((len(ids), *old.shape[1:]), old.dtype)
        whole[: len(side.ids)] = old
        whole[at] = rows
        extended.append(whole)
    marks = side.stats.by_features
    if marks is not None:
        marks = np.pad(marks, (0, len(ids) - marks.size))
        marks[at] = False
    factors, stats = extended[0], SideStats(extended[1], extended[2], marks)
    if folded.side == "user":
        both = Factors(factors, model.factors.items)
        return dataclasses.replace(model, users=ids, factors=both, user_stats=stats)
    both = Factors(model.factors.users, factors)
    return dataclasses.replace(model, items=ids, factors=both, item_stats=stats)
