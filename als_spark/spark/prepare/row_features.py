"""Features of users, or items, as numbers, in the order of the rows that they belong to.

The transformers of pyspark.ml make the numbers on the executors; the driver has them all, as it has
the rows of a Bayesian factorisation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from als_spark.errors import ConfigError, DataError
from als_spark.model.ids import IdIndex, coerce_ids
from als_spark.redaction import redact
from als_spark.spark.arrow import ids_from_bytes, ids_to_bytes, map_in_arrow
from als_spark.spark.read.bad_rows import noun
from als_spark.spark.read.feature_columns import FeatureColumn
from als_spark.spark.read.options import NULL_WORDS
from als_spark.spark.read.row_features import (
    FeatureFrame,
    features_from_frame,
    read_feature_columns,
)
from als_spark.spark.session import described
from als_spark.spark.train.run import PreparedRatings
from als_spark.types import BadRows, FloatArray, IntArray, Side

LARGEST_FEATURES = 2 << 30
"""Bytes that the features of a side may have; they are on the driver."""


@dataclass(frozen=True, slots=True)
class RowFeatures:
    """Features of a side, by id.

    Attributes
    ----------
    side : {"user", "item"}
    label : str
        Of their source.
    ids : pyarrow.Array
        Strings, rising, each once.
    table : (n_ids, k) float64
        Numbers of mean 0 and variance 1, then a 0 or 1 for each value of a category or a list.
    columns : sequence of FeatureColumn
        In the order of the table.
    left_out : sequence of str
        What is not used, and why.
    """

    side: Side
    label: str
    ids: pa.Array
    table: FloatArray
    columns: Sequence[FeatureColumn]
    left_out: Sequence[str] = ()

    def __repr__(self) -> str:
        """Say how many rows and numbers there are."""
        n, k = self.table.shape
        return f"<RowFeatures: {n:,} {self.side}s of {self.label}, {k} features>"

    @property
    def fingerprint(self) -> str:
        """Of ids, columns and numbers: the same features have the same, in whatever order.

        Numbers count to six digits behind the point, which does not show how Spark has summed
        their means.
        """
        digest = hashlib.blake2b(digest_size=16)
        for text in (*(str(column[:3]) for column in self.columns), *self.ids.to_pylist()):
            digest.update(f"{text}\n".encode())
        digest.update((np.round(self.table, 6) + 0.0).astype("<f8").tobytes())
        return digest.hexdigest()

    @property
    def words(self) -> str:
        """Say what the features are."""
        told = ", ".join(column.words for column in self.columns)
        return f"features of {self.side}s in {self.label}: {told}"

    def as_record(self) -> dict[str, Any]:
        """Return what the files of a run have of it."""
        return {
            "source": redact(self.label),
            "rows": len(self.ids),
            "features": self.table.shape[1],
            "columns": [column.as_record() for column in self.columns],
            "left_out": list(self.left_out),
        }


class PlacedFeatures(NamedTuple):
    """Features in the order of the rows of a training, then of further rows that have no rating."""

    table: FloatArray
    """(n_rows + n_new, k): of mean 0 over the rows with training ratings; each column of the source
    has a mean square of 1 there, on average over its features. Zeros of a row without features."""
    new_ids: pa.Array
    """Those of the further rows, rising."""
    there: npt.NDArray[np.bool_]
    """(n_rows + n_new,) whether a row has features."""
    n_without: int
    """Rows with training ratings that have none."""
    n_unlike: int
    """Ids that cannot be any of the ratings', such as text where those are integers."""


class PlacedSides(NamedTuple):
    """Features of users, items or both, in the order of the rows of a training."""

    sides: Mapping[Side, PlacedFeatures]
    record: Mapping[str, Mapping[str, Any]]
    """What they are, and of how many rows, by side, as JSON has it."""

    @property
    def tables(self) -> dict[Side, FloatArray]:
        """The numbers, for a training."""
        return {side: own.table for side, own in self.sides.items()}

    @property
    def further(self) -> dict[Side, tuple[pa.Array, npt.NDArray[np.bool_]]]:
        """Ids of the further rows of each side, and whether a row of the side has features."""
        return {side: (own.new_ids, own.there) for side, own in self.sides.items()}


def row_features(
    frame: DataFrame,
    side: Side,
    column: str | None = None,
    *,
    chosen: Sequence[str] = (),
    bad_rows: BadRows = "error",
    null_words: Sequence[str] = NULL_WORDS,
) -> RowFeatures:
    """Take the features of users, or items, from a DataFrame.

    Numbers, dates and times are standardised; booleans and text are categories, arrays of text and
    text with ``|`` lists of them, of which each value that 5 rows have becomes a feature.

    Parameters
    ----------
    frame : DataFrame
        A row for each id.
    side : {"user", "item"}
    column : str, optional
        Of the ids; that of the side's name if not given.
    chosen : sequence of str
        Columns to use; all but that of the ids if none is given.
    bad_rows : {"error", "drop"}
        What becomes of rows without a usable id, or with a number that is not finite.
    null_words : sequence of str
        Text that stands for a missing value in columns of text; ``()`` for none.

    Raises
    ------
    ConfigError
        If it is no Spark DataFrame, or the features take too much memory.
    DataError
        If a column is not there or cannot be a feature, none is of use, an id comes twice, or rows
        are unusable and must not be.
    """
    source = features_from_frame(frame, side, column, null_words=null_words)
    return build_features(read_feature_columns(source, side, chosen, bad_rows=bad_rows))


def build_features(found: FeatureFrame) -> RowFeatures:
    """Make numbers of features, and bring them here.

    Raises
    ------
    DataError
        If an id comes twice.
    ConfigError
        If the features take too much memory.
    """
    columns = sorted(found.columns, key=lambda column: column.kind != "number")
    k = sum(column.n_features for column in columns)
    if found.n_rows * k * 8 > LARGEST_FEATURES:
        raise ConfigError(
            f"{found.label}: {k:,} features of {found.n_rows:,} {found.side}s take "
            f"{found.n_rows * k * 8 / 1e9:.1f} GB, more than {LARGEST_FEATURES / 1e9:.1f}: choose "
            f"fewer columns by `{found.side}_feature_cols=`"
        )
    context = found.frame.sparkSession.sparkContext
    with described(context, f"features of {found.side}s in {found.label}"):
        # pyspark.ml takes a second to import, with pandas: not in runs without features.
        from als_spark.spark.prepare.transformers import numbers_of

        packed = map_in_arrow(numbers_of(found), pack_rows, "ids binary, numbers binary").collect()
    ids = pa.concat_arrays([ids_from_bytes(row.ids) for row in packed])
    table = np.concatenate([np.frombuffer(row.numbers).reshape(-1, k) for row in packed])
    order = pc.array_sort_indices(ids)
    ids = ids.take(order)
    again = pc.value_counts(ids)
    if len(again) < len(ids):
        first = next(entry for entry in again.to_pylist() if entry["counts"] > 1)
        raise DataError(
            f"{found.label}: {len(ids) - len(again):,} {noun(len(ids) - len(again))} too many: "
            f"{found.side} {first['values']} is there {first['counts']} times: give one row of "
            "features for each id"
        )
    left_out = [f"{name}: {reason}" for name, reason in found.left_out.items()]
    return RowFeatures(
        found.side, found.label, ids, table[order.to_numpy()], tuple(columns), tuple(left_out)
    )


def pack_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Pack ids and their numbers into bytes: runs on an executor."""
    for batch in batches:
        numbers = batch.column(1).flatten().to_numpy(zero_copy_only=False)
        row = {"ids": ids_to_bytes(batch.column(0)), "numbers": numbers.tobytes()}
        yield pa.RecordBatch.from_pylist(
            [row], schema=pa.schema([("ids", pa.binary()), ("numbers", pa.binary())])
        )


def place_features(features: RowFeatures, index: IdIndex, degrees: IntArray) -> PlacedFeatures:
    """Put features into the order of the rows that are trained.

    Parameters
    ----------
    features : RowFeatures
    index : IdIndex
        Ids of the ratings' rows.
    degrees : (n_rows,) int
        Their training ratings.

    Raises
    ------
    DataError
        If no row with training ratings has features.
    """
    n_rows, side = len(index), features.side
    ids = coerce_ids(features.ids, index.ids.type)
    own = index.rows_of(ids)
    rated = degrees > 0
    if not np.append(rated, False)[own].any():
        raise DataError(
            f"{features.label}: none of its {len(ids):,} ids is of a rated {side}, such as "
            f"{features.ids[0]}: the ratings have {side}s such as {index.ids[0]}: give the same "
            f'ids, or name their column with `columns["{side}"]`'
        )
    new = np.flatnonzero((own < 0) & ids.is_valid().to_numpy(zero_copy_only=False))
    new_ids = ids.take(pa.array(new))
    order = pc.array_sort_indices(new_ids).to_numpy()
    rows = own.astype(np.int64)
    rows[new[order]] = n_rows + np.arange(new.size)
    there = np.zeros(n_rows + new.size, bool)
    table = np.zeros((there.size, features.table.shape[1]))
    kept = rows >= 0
    there[rows[kept]] = True
    table[rows[kept]] = features.table[kept]
    learnt_from = there[:n_rows] & rated
    _standardise(table, there, np.flatnonzero(learnt_from), features.columns)
    n_without = int(np.count_nonzero(rated & ~there[:n_rows]))
    n_unlike = int(kept.size - np.count_nonzero(kept))
    return PlacedFeatures(table, new_ids.take(pa.array(order)), there, n_without, n_unlike)


def place_sides(features: Mapping[Side, RowFeatures], prepared: PreparedRatings) -> PlacedSides:
    """Put the features of a training into the order of its rows: see :func:`place_features`.

    Raises
    ------
    DataError
        If no rated row of a side has features.
    """
    placed: dict[Side, PlacedFeatures] = {}
    record: dict[str, dict[str, Any]] = {}
    for side, rows in features.items():
        degrees, summary = prepared.stats[side].degrees, prepared.summary
        index = summary.users if side == "user" else summary.items
        found = placed[side] = place_features(rows, index, degrees)
        n_with = int(np.count_nonzero(found.there[: degrees.size] & (degrees > 0)))
        record[side] = {
            **rows.as_record(),
            "rated_with": n_with,
            "rated_without": found.n_without,
            # Of them the ratings may know some that none is trained on.
            "by_features_alone": int(np.count_nonzero(found.there)) - n_with,
        }
    return PlacedSides(placed, record)


def _standardise(
    table: FloatArray,
    there: npt.NDArray[np.bool_],
    learnt_from: IntArray,
    columns: Sequence[FeatureColumn],
) -> None:
    """Centre features, and scale those of a column of the source by one number.

    The more frequent value of a category so stays the larger feature, as it should: the prior of
    the coefficients is the same for all.
    """
    table[there] -= table[learnt_from].mean(axis=0)
    first = 0
    for column in columns:
        part = slice(first, first + column.n_features)
        size = float(np.sqrt(np.mean(table[learnt_from, part] ** 2)))
        if size > 0:
            table[:, part] /= size
        first = part.stop
