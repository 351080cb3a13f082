"""Parameters of the estimator and its model: MLlib's names, defaults and checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self, TypeVar, cast, overload

import numpy as np
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.recommendation import _ALSModelParams, _ALSParams

from als_spark.ml.biases import bias_members
from als_spark.ml.errors import InvalidArgument
from als_spark.solve.objective import LARGEST_EXPONENT, Objective
from als_spark.types import ExchangeChoice

T = TypeVar("T")
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


def int_param(name: str, doc: str) -> Param[int]:
    """Describe a parameter that is a whole number."""
    return Param(Params._dummy(), name, doc, typeConverter=to_int)


def float_param(name: str, doc: str) -> Param[float]:
    """Describe a parameter that is a number."""
    return Param(Params._dummy(), name, doc, typeConverter=to_float)


def flag(name: str, doc: str) -> Param[bool]:
    """Describe a parameter that is True or False."""
    return Param(Params._dummy(), name, doc, typeConverter=TypeConverters.toBoolean)


def text_param(name: str, doc: str) -> Param[str]:
    """Describe a parameter that is a text."""
    return Param(Params._dummy(), name, doc, typeConverter=to_text)


def _at_least(least: float) -> Callable[[Any], bool]:
    return lambda value: least <= value <= _LARGEST_INT


def _is_regulariser(value: float) -> bool:
    return math.isfinite(value) and value >= 0


def _is_exponent(value: float) -> bool:
    return 0 <= value <= LARGEST_EXPONENT


_VALID: dict[str, Callable[[Any], bool]] = {
    "rank": _at_least(1),
    "maxIter": _at_least(0),
    "regParam": _is_regulariser,
    "biasRegParam": lambda value: value is None or (_is_regulariser(value) and value > 0),
    "numUserBlocks": _at_least(1),
    "numItemBlocks": _at_least(1),
    "alpha": _is_regulariser,
    "checkpointInterval": lambda value: value == -1 or 1 <= value <= _LARGEST_INT,
    "intermediateStorageLevel": lambda value: value in _STORAGE_LEVELS,
    "finalStorageLevel": lambda value: value in {*_STORAGE_LEVELS, "NONE"},
    "coldStartStrategy": lambda value: value.lower() in {"nan", "drop", "mean"},
    "blockSize": _at_least(1),
    "seed": lambda value: -(2**63) <= value < 2**63,
    "tol": _is_regulariser,
    "regExponent": _is_exponent,
    "exchange": lambda value: value in {"auto", "broadcast", "shuffle"},
    "method": lambda value: value in {"ridge", "variational", "sample"},
    "implicitFeatures": _at_least(0),
    "noise": lambda value: value in {None, "rows", "shared"},
    "covariance": lambda value: value in {None, "full", "diagonal"},
    "burnIn": lambda value: value is None or _at_least(0)(value),
    "numSamples": lambda value: value is None or _at_least(1)(value),
    "featureRidge": lambda value: value is None or (_is_regulariser(value) and value > 0),
    "coverage": lambda value: 0 < value < 1,
}
"""What each parameter may be; checked where it is used, as MLlib does, not where it is set."""


class AlsModelParams(_ALSModelParams):
    """Parameters that the estimator and the model share."""

    userCol = text_param(
        "userCol", "column name for user ids: whole numbers within the int range, or see nativeIds"
    )
    itemCol = text_param(
        "itemCol", "column name for item ids: whole numbers within the int range, or see nativeIds"
    )
    predictionCol = text_param("predictionCol", "column name for predictions")
    coldStartStrategy = text_param(
        "coldStartStrategy",
        "what a prediction for an unknown user or item is: 'nan'; no row with 'drop'; or the mean "
        "of the training ratings, plus the bias of what is known, with 'mean'",
    )
    blockSize = int_param(
        "blockSize", "accepted as MLlib's and without effect: blocks are as large as memory allows"
    )

    nativeIds = flag(
        "nativeIds",
        "whether ids are integers of any width, strings or decimals that stay what they are; "
        "otherwise they are whole numbers within the int range, and become int",
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(nativeIds=False)

    @overload
    def getOrDefault(self, param: str) -> Any: ...
    @overload
    def getOrDefault(self, param: Param[T]) -> T: ...
    def getOrDefault(self, param: Any) -> Any:
        """Return the value that is set, else the default: None is the default, too.

        ``seed=None`` is what the constructor's signature shows; MLlib takes it for "not set".
        """
        value = super().getOrDefault(param)
        if value is None:
            return self._defaultParamMap.get(self._resolveParam(param))
        return value

    def getNativeIds(self) -> bool:
        """Return ``nativeIds``."""
        return self.getOrDefault(self.nativeIds)

    def setUserCol(self, value: str) -> Self:
        """Set ``userCol``."""
        return self._set(userCol=value)

    def setItemCol(self, value: str) -> Self:
        """Set ``itemCol``."""
        return self._set(itemCol=value)

    def setColdStartStrategy(self, value: str) -> Self:
        """Set ``coldStartStrategy``."""
        return self._set(coldStartStrategy=value)

    def setPredictionCol(self, value: str) -> Self:
        """Set ``predictionCol``."""
        return self._set(predictionCol=value)

    def setBlockSize(self, value: int) -> Self:
        """Set ``blockSize``."""
        return self._set(blockSize=value)

    def check_params(self) -> None:
        """Stop on a value that is out of range, or one column of both ids.

        Raises
        ------
        InvalidArgument
            In MLlib's words, which takes one column for both, and fits every id to itself.
        """
        for param in self.params:
            if param.name in _VALID and self.isDefined(param):
                value = self.getOrDefault(param)
                if not _VALID[param.name](value):
                    raise InvalidArgument(
                        f"{self.uid} parameter {param.name} given invalid value {value}."
                    )
        if self.getUserCol() == self.getItemCol():
            raise InvalidArgument(
                f"userCol and itemCol are both {self.getUserCol()}: name a column of each"
            )

    def _set(self, **values: Any) -> Self:
        """Set values, all of them or, where one is refused, none."""
        before = self._paramMap.copy()
        try:
            return super()._set(**values)
        except TypeError:
            self._paramMap = before
            raise


WATCHERS = {"callback", "progress"}
"""Parameters that change nothing in what is fitted."""


def mllib_params(params: Params) -> dict[str, Any]:
    """Return metadata with those parameters only that MLlib has: it refuses to load others.

    Returns
    -------
    dict
        By name, the values that are set (``paramMap``) and the defaults (``defaultParamMap``).

    Raises
    ------
    InvalidArgument
        If one that MLlib lacks is set to something else than its default, or to a value that MLlib
        lacks: MLlib would fit something else.
    """
    theirs = {name for name in dir(_ALSParams) if isinstance(getattr(_ALSParams, name), Param)}
    values, defaults = (
        {param.name: value for param, value in found.items() if value is not None}
        for found in (params._paramMap, params._defaultParamMap)
    )
    for name, value in values.items():
        known = name in theirs and not (name == "coldStartStrategy" and value.lower() == "mean")
        if not known and name not in WATCHERS and value != defaults.get(name):
            raise InvalidArgument(
                f"{params.uid} parameter {name} is {value}, which MLlib's ALS lacks: "
                "clear it, or save in our own format"
            )
    return {
        "paramMap": {name: values[name] for name in values if name in theirs},
        "defaultParamMap": {name: defaults[name] for name in defaults if name in theirs},
    }


class AlsParams(AlsModelParams, _ALSParams):
    """Parameters of the estimator."""

    rank = int_param("rank", "rank of the factorization (>= 1)")
    maxIter = int_param(
        "maxIter", "number of iterations (>= 0), all of which are done unless tol is set; 0: start"
    )
    regParam = float_param(
        "regParam",
        "regularization parameter λ (>= 0); a row of n ratings has the ridge λ n^regExponent; n "
        "counts those above 0 if implicitPrefs is True",
    )
    numUserBlocks = int_param(
        "numUserBlocks",
        "accepted as MLlib's and without effect: the cores of the cluster and the sizes of the "
        "data decide",
    )
    numItemBlocks = int_param("numItemBlocks", "as numUserBlocks")
    implicitPrefs = flag(
        "implicitPrefs",
        "whether ratings are implicit feedback: preferences, with more or less confidence",
    )
    alpha = float_param(
        "alpha", "confidence that a rating adds to its preference (>= 0), if implicitPrefs is True"
    )
    ratingCol = text_param("ratingCol", "column name for ratings; '': every rating is 1")
    nonnegative = flag(
        "nonnegative",
        "whether no factor may be negative",
    )
    checkpointInterval = int_param(
        "checkpointInterval",
        "every how many iterations (>= 1) the training is kept beside the checkpoint directory of "
        "the SparkContext, where it has one and seed is set, for the same fit after the driver has "
        "died; -1: never",
    )
    intermediateStorageLevel = text_param(
        "intermediateStorageLevel",
        "accepted as MLlib's and without effect: packed ratings are kept in memory, or on disk "
        "where they do not fit",
    )
    finalStorageLevel = text_param(
        "finalStorageLevel",
        "accepted as MLlib's and without effect: the driver holds the factors of the model",
    )
    seed = int_param("seed", "random seed of the start; the same at any number of cores")
    biases = flag(
        "biases",
        "whether a prediction has the global mean and biases of the user and the item besides",
    )
    biasRegParam = float_param(
        "biasRegParam",
        "regularization parameter of the biases (> 0), multiplied as regParam is; by default the "
        "value of regParam",
    )
    weightCol = text_param(
        "weightCol",
        "column name for weights (>= 0) of the ratings, whose squared errors they multiply; a "
        "rating of weight 0 is left out; not set or '': every weight is 1",
    )
    tol = float_param(
        "tol",
        "iterations end once the change of the factors differs by less from that of the last one "
        "(>= 0); 0: all of maxIter are done",
    )
    regExponent = float_param(
        "regExponent",
        "exponent ν (0 to 4) of the number of ratings n in the ridge λ n^ν of a row; 1 as MLlib, "
        "0 for the same ridge in every row",
    )
    accelerate = flag(
        "accelerate",
        "whether iterations begin at extrapolated factors: fewer iterations to the same objective",
    )

    exchange = text_param(
        "exchange",
        "how the fixed factors reach the ratings: sent whole to every worker ('broadcast'), or in "
        "the rows that each needs ('shuffle'); each side by its size with 'auto'",
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(biases=False, tol=0.0, regExponent=1.0, accelerate=False, exchange="auto")

    def getBiases(self) -> bool:
        """Get ``biases``."""
        return self.getOrDefault(self.biases)

    def getBiasRegParam(self) -> float:
        """Get ``biasRegParam``; where it is not set, the value of ``regParam``."""
        value = self.getOrDefault(self.biasRegParam) if self.isSet(self.biasRegParam) else None
        return self.getRegParam() if value is None else value

    def getWeightCol(self) -> str:
        """Get ``weightCol``; where it is not set, ``''``."""
        value = self.getOrDefault(self.weightCol) if self.isSet(self.weightCol) else None
        return value or ""

    def getTol(self) -> float:
        """Get ``tol``."""
        return self.getOrDefault(self.tol)

    def getRegExponent(self) -> float:
        """Get ``regExponent``."""
        return self.getOrDefault(self.regExponent)

    def getAccelerate(self) -> bool:
        """Get ``accelerate``."""
        return self.getOrDefault(self.accelerate)

    def getExchange(self) -> ExchangeChoice:
        """Get ``exchange``."""
        return cast("ExchangeChoice", self.getOrDefault(self.exchange))

    def objective(self) -> Objective:
        """Return what the factors minimise.

        Raises
        ------
        InvalidArgument
            If parameters do not go together.
        """
        members: dict[str, Any] = {"reg": self.getRegParam(), "exponent": self.getRegExponent()}
        if self.getImplicitPrefs():
            members |= {"implicit": True, "alpha": self.getAlpha()}
        if self.getWeightCol() and self.getImplicitPrefs():
            raise InvalidArgument(
                "weightCol with implicitPrefs=True is not available: leave one of them out"
            )
        if self.getBiases():
            members |= bias_members(
                self.getRegParam(),
                self.getBiasRegParam(),
                implicit=self.getImplicitPrefs(),
                nonnegative=self.getNonnegative(),
            )
        return Objective(**members, nonnegative=self.getNonnegative())
