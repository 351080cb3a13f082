"""Parameters of the estimator and its model: MLlib's names, defaults and checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.recommendation import _ALSModelParams, _ALSParams

from als_spark.ml.errors import InvalidArgument
from als_spark.solve.objective import Objective

_LARGEST_INT = 2**31 - 1
_STORAGE_LEVELS = {
    *("DISK_ONLY", "DISK_ONLY_2", "DISK_ONLY_3", "OFF_HEAP"),
    *("MEMORY_ONLY", "MEMORY_ONLY_2", "MEMORY_ONLY_SER", "MEMORY_ONLY_SER_2"),
    *("MEMORY_AND_DISK", "MEMORY_AND_DISK_2", "MEMORY_AND_DISK_SER", "MEMORY_AND_DISK_SER_2"),
}


def to_int(value: Any) -> int:
    """Convert a whole number, of NumPy too, as MLlib does not.

    Raises
    ------
    TypeError
        If it is none.
    """
    return TypeConverters.toInt(_plain(value))


def to_float(value: Any) -> float:
    """Convert a number, of NumPy too, as MLlib does not.

    Raises
    ------
    TypeError
        If it is none.
    """
    return TypeConverters.toFloat(_plain(value))


def to_text(value: Any) -> str:
    """Convert a string, of NumPy too; PySpark 3.5's own conversion fails with NumPy 2.

    Raises
    ------
    TypeError
        If it is none.
    """
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"Could not convert {type(value)} to string type")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.integer | np.floating) else value


def _int(name: str, doc: str) -> Param[int]:
    return Param(Params._dummy(), name, doc, typeConverter=to_int)


def _float(name: str, doc: str) -> Param[float]:
    return Param(Params._dummy(), name, doc, typeConverter=to_float)


def _text(name: str, doc: str) -> Param[str]:
    return Param(Params._dummy(), name, doc, typeConverter=to_text)


def _at_least(least: float) -> Callable[[Any], bool]:
    return lambda value: least <= value <= _LARGEST_INT


def _is_regulariser(value: float) -> bool:
    return math.isfinite(value) and value >= 0


_VALID: dict[str, Callable[[Any], bool]] = {
    "rank": _at_least(1),
    "maxIter": _at_least(0),
    "regParam": _is_regulariser,
    "numUserBlocks": _at_least(1),
    "numItemBlocks": _at_least(1),
    "alpha": _is_regulariser,
    "checkpointInterval": lambda value: value == -1 or 1 <= value <= _LARGEST_INT,
    "intermediateStorageLevel": lambda value: value in _STORAGE_LEVELS,
    "finalStorageLevel": lambda value: value in {*_STORAGE_LEVELS, "NONE"},
    "coldStartStrategy": lambda value: value.lower() in {"nan", "drop"},
    "blockSize": _at_least(1),
    "seed": lambda value: -(2**63) <= value < 2**63,
}
"""What each parameter may be; checked where it is used, as MLlib does, not where it is set."""


class AlsModelParams(_ALSModelParams):
    """Parameters that the estimator and the model share."""

    userCol = _text("userCol", "column name for user ids: whole numbers within the int range")
    itemCol = _text("itemCol", "column name for item ids: whole numbers within the int range")
    predictionCol = _text("predictionCol", "column name for predictions")
    coldStartStrategy = _text(
        "coldStartStrategy",
        "what a prediction for an unknown user or item is: 'nan', or no row with 'drop'",
    )
    blockSize = _int(
        "blockSize", "accepted as MLlib's and without effect: blocks are as large as memory allows"
    )

    def check_params(self) -> None:
        """Stop on a value that is out of range.

        Raises
        ------
        InvalidArgument
            In MLlib's words.
        """
        for param in self.params:
            if param.name in _VALID and self.isDefined(param):
                value = self.getOrDefault(param)
                if not _VALID[param.name](value):
                    raise InvalidArgument(
                        f"{self.uid} parameter {param.name} given invalid value {value}."
                    )

    def _set(self, **values: Any) -> Self:
        """Set values, all of them or, where one is refused, none."""
        before = self._paramMap.copy()
        try:
            return super()._set(**values)
        except TypeError:
            self._paramMap = before
            raise


class AlsParams(AlsModelParams, _ALSParams):
    """Parameters of the estimator."""

    rank = _int("rank", "rank of the factorization (>= 1)")
    maxIter = _int("maxIter", "number of iterations (>= 0), all of which are done; 0: the start")
    regParam = _float(
        "regParam",
        "regularization parameter λ (>= 0); a row of n ratings has the ridge λ n; n counts those "
        "above 0 if implicitPrefs is True",
    )
    numUserBlocks = _int(
        "numUserBlocks",
        "accepted as MLlib's and without effect: the cores of the cluster and the sizes of the "
        "data decide",
    )
    numItemBlocks = _int("numItemBlocks", "as numUserBlocks")
    implicitPrefs = Param[bool](
        Params._dummy(),
        "implicitPrefs",
        "whether ratings are implicit feedback: preferences, with more or less confidence",
        typeConverter=TypeConverters.toBoolean,
    )
    alpha = _float(
        "alpha", "confidence that a rating adds to its preference (>= 0), if implicitPrefs is True"
    )
    ratingCol = _text("ratingCol", "column name for ratings; '': every rating is 1")
    nonnegative = Param[bool](
        Params._dummy(),
        "nonnegative",
        "whether no factor may be negative",
        typeConverter=TypeConverters.toBoolean,
    )
    checkpointInterval = _int(
        "checkpointInterval",
        "accepted as MLlib's and without effect: no lineage grows with the iterations",
    )
    intermediateStorageLevel = _text(
        "intermediateStorageLevel",
        "accepted as MLlib's and without effect: packed ratings are kept in memory, or on disk "
        "where they do not fit",
    )
    finalStorageLevel = _text(
        "finalStorageLevel",
        "accepted as MLlib's and without effect: the driver holds the factors of the model",
    )
    seed = _int("seed", "random seed of the start; the same at any number of cores")

    def objective(self) -> Objective:
        """Return what the factors minimise."""
        members: dict[str, Any] = {"reg": self.getRegParam(), "exponent": 1.0}
        if self.getImplicitPrefs():
            members |= {"implicit": True, "alpha": self.getAlpha()}
        return Objective(**members, nonnegative=self.getNonnegative())
