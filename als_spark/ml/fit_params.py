"""Parameters of the estimator that are no values: an earlier model, and who watches the fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyspark.ml.param import Param, Params

from als_spark.ml.errors import InvalidArgument
from als_spark.ml.model import ALSModel
from als_spark.ml.params import flag
from als_spark.ml.posterior_params import PosteriorParams
from als_spark.train.records import IterationRecord

Callback = Callable[[IterationRecord], object]


def _to_model(value: Any) -> ALSModel:
    if isinstance(value, ALSModel):
        return value
    raise TypeError(f"Could not convert {type(value)} to an als_spark.ALSModel")


def _to_callback(value: Any) -> Callback:
    if callable(value):
        found: Callback = value
        return found
    raise TypeError(f"{type(value)} cannot be called with the record of an iteration")


DECIDING = (
    *("rank", "maxIter", "tol", "regParam", "regExponent", "accelerate", "seed"),
    *("implicitPrefs", "alpha", "nonnegative", "ratingCol", "biases", "biasRegParam", "weightCol"),
    *("method", "implicitFeatures", "noise", "covariance", "burnIn", "numSamples", "featureRidge"),
    *("userFeatureCols", "itemFeatureCols"),
)
"""Parameters that decide what is fitted."""


class FitParams(PosteriorParams):
    """Parameters of the estimator, the last of them."""

    initialModel = Param[ALSModel](
        Params._dummy(),
        "initialModel",
        "model of the same rank from whose factors the iterations start; ids that it lacks start "
        "as usual",
        typeConverter=_to_model,
    )
    callback = Param[Callback](
        Params._dummy(),
        "callback",
        "called with each IterationRecord, on the driver; what it raises ends the fit. Not saved",
        typeConverter=_to_callback,
    )
    progress = flag(
        "progress",
        "whether to show a progress bar; None: in a notebook only",
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(initialModel=None, callback=None, progress=None)

    def getInitialModel(self) -> ALSModel | None:
        """Get ``initialModel``."""
        return self.getOrDefault(self.initialModel)

    def getCallback(self) -> Callback | None:
        """Get ``callback``."""
        return self.getOrDefault(self.callback)

    def getProgress(self) -> bool | None:
        """Get ``progress``."""
        return self.getOrDefault(self.progress)

    def deciding_params(self) -> dict[str, Any]:
        """Return the parameters that decide what is fitted, by name."""
        return {
            name: self.getOrDefault(name) if self.isDefined(name) else None for name in DECIDING
        }

    def check_params(self) -> None:
        """Stop on a value that is out of range, or a model of another rank.

        Raises
        ------
        InvalidArgument
            In MLlib's words.
        """
        super().check_params()
        model = self.getInitialModel()
        if model is not None and model.rank != self.getRank():
            raise InvalidArgument(
                f"{self.uid} parameter initialModel has rank {model.rank}, but rank is "
                f"{self.getRank()}: set them to the same"
            )
