"""Parameters of the estimator: features of users and items, in DataFrames, and their columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from pyspark.ml.param import Param, Params
from pyspark.sql import DataFrame

from als_spark.errors import ConfigError
from als_spark.ml.errors import InvalidArgument
from als_spark.ml.params import AlsParams
from als_spark.spark.frames import check_frame
from als_spark.types import SIDES, Side

FRAMES: dict[Side, str] = {"user": "userFeatures", "item": "itemFeatures"}
"""Names of the parameters: folders of a saved estimator, and keys of its metadata, too."""
_COLUMNS: dict[Side, str] = {"user": "userFeatureCols", "item": "itemFeatureCols"}


def _to_frame(value: Any) -> DataFrame:
    try:
        check_frame(value, "the parameter")
    except ConfigError as error:
        raise TypeError(str(error)) from error
    frame: DataFrame = value
    return frame


def _to_names(value: Any) -> list[str]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        names = list(value)
        if names and all(isinstance(name, str) and name for name in names):
            return names
    raise TypeError(f"{value!r} is no list of names of columns")


def _frame_param(side: Side) -> Param[DataFrame]:
    return Param(
        Params._dummy(),
        FRAMES[side],
        f"DataFrame with {side}Col, a row for each {side}, and columns that the mean of its "
        f"prior depends on: numbers, dates, text, lists of text; {side}s that have no rating are "
        "predicted by them",
        typeConverter=_to_frame,
    )


def _columns_param(side: Side) -> Param[list[str]]:
    return Param(
        Params._dummy(),
        _COLUMNS[side],
        f"columns of {FRAMES[side]} to use; all but {side}Col if not set",
        typeConverter=_to_names,
    )


class FeatureParams(AlsParams):
    """Parameters of the estimator: what is known of users and items besides their ratings."""

    userFeatures = _frame_param("user")
    itemFeatures = _frame_param("item")
    userFeatureCols = _columns_param("user")
    itemFeatureCols = _columns_param("item")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        nothing: dict[str, Any] = dict.fromkeys([*FRAMES.values(), *_COLUMNS.values()])
        self._setDefault(**nothing)

    def getUserFeatures(self) -> DataFrame | None:
        """Get ``userFeatures``."""
        return self.getOrDefault(self.userFeatures)

    def getItemFeatures(self) -> DataFrame | None:
        """Get ``itemFeatures``."""
        return self.getOrDefault(self.itemFeatures)

    def getUserFeatureCols(self) -> list[str] | None:
        """Get ``userFeatureCols``."""
        return self.getOrDefault(self.userFeatureCols)

    def getItemFeatureCols(self) -> list[str] | None:
        """Get ``itemFeatureCols``."""
        return self.getOrDefault(self.itemFeatureCols)

    def setUserFeatures(self, value: DataFrame | None) -> Self:
        """Set ``userFeatures``."""
        return self._set(userFeatures=value)

    def setItemFeatures(self, value: DataFrame | None) -> Self:
        """Set ``itemFeatures``."""
        return self._set(itemFeatures=value)

    def setUserFeatureCols(self, value: list[str] | None) -> Self:
        """Set ``userFeatureCols``."""
        return self._set(userFeatureCols=value)

    def setItemFeatureCols(self, value: list[str] | None) -> Self:
        """Set ``itemFeatureCols``."""
        return self._set(itemFeatureCols=value)

    def features(self, side: Side) -> DataFrame | None:
        """Return the features of a side."""
        frame: DataFrame | None = self.getOrDefault(FRAMES[side])
        return frame

    def feature_columns(self, side: Side) -> tuple[str, ...]:
        """Return the columns of its features to use; none: all."""
        return tuple(self.getOrDefault(_COLUMNS[side]) or ())

    def id_column(self, side: Side) -> str:
        """Return the name of the column of its ids."""
        return self.getUserCol() if side == "user" else self.getItemCol()

    @property
    def featured(self) -> list[Side]:
        """The sides that have features."""
        return [side for side in SIDES if self.features(side) is not None]

    def refuse_lone_columns(self) -> None:
        """Stop on columns without the features that have them.

        Raises
        ------
        InvalidArgument
        """
        for side in SIDES:
            columns = self.feature_columns(side)
            if columns and side not in self.featured:
                raise InvalidArgument(
                    f"{_COLUMNS[side]}={list(columns)} without {FRAMES[side]}: has no effect: give "
                    "the DataFrame that has these columns, or clear it"
                )
