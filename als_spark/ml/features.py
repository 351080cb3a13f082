"""Features of users and items for fits of the estimator: read, and put beside its ratings."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType

from als_spark.errors import UserError
from als_spark.ml.columns import check_column, check_like, checked_ids
from als_spark.ml.errors import InvalidArgument
from als_spark.ml.factors import chunks_frame, collect_chunks
from als_spark.ml.feature_params import FRAMES, FeatureParams
from als_spark.spark.prepare.row_features import (
    PlacedSides,
    RowFeatures,
    build_features,
    place_sides,
)
from als_spark.spark.read.ids import TypedId
from als_spark.spark.read.names import quoted
from als_spark.spark.read.row_features import is_usable, read_feature_columns
from als_spark.spark.read.sources import Source
from als_spark.spark.train.run import PreparedRatings
from als_spark.types import Side

logger = logging.getLogger(__name__)

_PARAMETER = re.compile(r'`(user|item)_feature_cols=[^`]*`|`columns\["(user|item)"\]`')

_DROPPED = 'leave these rows out with `bad_rows="drop"`'


class FeatureReader:
    """Reads the features of several fits, each DataFrame once.

    Parameters
    ----------
    kinds : mapping of side to DataType
        Types of the ids of the models.
    native : bool
        Whether ids stay what they are.
    """

    def __init__(self, kinds: Mapping[Side, DataType], *, native: bool) -> None:
        self._kinds = kinds
        self._native = native
        self._read: list[tuple[DataFrame, Any, RowFeatures]] = []

    def read(self, params: FeatureParams) -> dict[Side, RowFeatures]:
        """Read the features of a fit.

        Raises
        ------
        InvalidArgument
            If a column is missing or cannot be a feature, none is of use, an id comes twice, or a
            row has no usable id, or a number that is not finite.
        """
        found: dict[Side, RowFeatures] = {}
        for side in params.featured:
            frame, columns = params.features(side), params.feature_columns(side)
            assert frame is not None
            key = (side, params.id_column(side), columns)
            known = [rows for own, other, rows in self._read if own is frame and other == key]
            if not known:
                with _said_of(side):
                    known = [self._rows(frame, *key)]
                self._read.append((frame, key, known[0]))
            found[side] = known[0]
        return found

    def _rows(
        self, frame: DataFrame, side: Side, name: str, columns: tuple[str, ...]
    ) -> RowFeatures:
        if self._native:
            check_like(frame.schema, name, self._kinds[side], exactly=True)
        else:
            check_column(frame.schema, name)
        source = Source(frame, {side: name}, FRAMES[side], False, null_words=())
        value, problem, _ = checked_ids(name, native=self._native)
        ids = TypedId(value.cast("string"), problem, F.lit(None).cast("string"))
        found = read_feature_columns(source, side, columns, ids=ids)
        rows = build_features(found)
        for words in rows.left_out:
            logger.warning("%s: no feature of %s", rows.label, words)
        return rows


def features_to_save(params: FeatureParams, side: Side) -> DataFrame:
    """Return the features of a side with the columns that a fit may use."""
    frame, name = params.features(side), params.id_column(side)
    assert frame is not None
    usable = [field.name for field in frame.schema if is_usable(field.dataType)]
    columns = params.feature_columns(side) or tuple(own for own in usable if own != name)
    return frame.select(*(quoted(own) for own in (name, *columns)))


def saved_features(session: SparkSession, folder: str) -> DataFrame:
    """Read saved features whole: their folder may be written over."""
    frame = session.read.parquet(folder)
    return chunks_frame(session, collect_chunks(frame), frame.schema)


def place_all(features: Mapping[Side, RowFeatures], prepared: PreparedRatings) -> PlacedSides:
    """Put the features of a fit into the order of its rows.

    Raises
    ------
    InvalidArgument
        If no rated row has features.
    """
    with _said_of(*features):
        placed = place_sides(features, prepared)
    for side, found in placed.sides.items():
        if found.n_unlike:
            logger.warning(
                "%s: %s ids are no whole numbers, as those of the ratings are: left out",
                *(features[side].label, f"{found.n_unlike:,}"),
            )
    return placed


@contextmanager
def _said_of(*sides: Side) -> Iterator[None]:
    """Say what is wrong with features of one of the sides in the words of the estimator."""
    try:
        yield
    except UserError as error:
        words = _PARAMETER.sub(
            lambda found: f"{found[1]}FeatureCols" if found[1] else f"{found[2]}Col", str(error)
        ).replace(_DROPPED, "filter them out")
        labels = tuple(FRAMES[side] for side in sides)
        known = words.startswith(labels)
        raise InvalidArgument(words if known else f"{labels[0]}: {words}") from error
