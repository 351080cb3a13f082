"""Parameters of the methods that learn the prior: see ``docs/bayes.md``."""

from __future__ import annotations

from typing import Any, Self, cast

from als_spark.ml.errors import InvalidArgument
from als_spark.ml.feature_params import FRAMES, FeatureParams
from als_spark.ml.params import AlsModelParams, float_param, int_param, text_param
from als_spark.train.bayes.options import FEATURE_RIDGE, PosteriorMethod, PosteriorOptions
from als_spark.types import DType

_OF_RIDGE = ("implicitPrefs", "alpha", "nonnegative", "accelerate", "biasRegParam", "weightCol")
_NOT_LEARNT = (*_OF_RIDGE, "initialModel", "checkpointInterval")
"""Parameters of a ridge towards zero, and of what continues one."""
REFUSED: dict[str, tuple[str, ...]] = {
    "ridge": ("noise", "covariance", "burnIn", "numSamples", "featureRidge"),
    "ridge towards a mean": (*_NOT_LEARNT, "noise", "covariance", "burnIn", "numSamples"),
    "variational": (
        *(*_NOT_LEARNT, "regParam", "regExponent", "burnIn", "numSamples", "featureRidge"),
    ),
    "sample": (
        *(*_NOT_LEARNT, "regParam", "regExponent", "covariance", "tol", "maxIter", "featureRidge"),
    ),
}
"""What would have no effect with a method."""
_OFF = {"checkpointInterval": -1, "weightCol": ""}
"""Values that ask for nothing, besides None and False."""
INTERVAL_COLUMNS = ("deviationCol", "lowerCol", "upperCol")


class IntervalParams(AlsModelParams):
    """Parameters of the estimator and the model: how certain predictions are."""

    deviationCol = text_param(
        "deviationCol",
        "column name for the standard deviation of predictions, of methods variational and "
        "sample; not set or '': there is none",
    )
    lowerCol = text_param(
        "lowerCol",
        "column name for the lower end of the interval that a rating is in with probability "
        "coverage, of methods variational and sample; not set or '': there is none",
    )
    upperCol = text_param("upperCol", "as lowerCol, for the upper end")
    coverage = float_param(
        "coverage", "share of ratings (above 0, below 1) within lowerCol and upperCol"
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(coverage=0.9)

    def getDeviationCol(self) -> str:
        """Get ``deviationCol``; where it is not set, ``''``."""
        return self.value_if_set("deviationCol") or ""

    def getLowerCol(self) -> str:
        """Get ``lowerCol``; where it is not set, ``''``."""
        return self.value_if_set("lowerCol") or ""

    def getUpperCol(self) -> str:
        """Get ``upperCol``; where it is not set, ``''``."""
        return self.value_if_set("upperCol") or ""

    def getCoverage(self) -> float:
        """Get ``coverage``."""
        return self.getOrDefault(self.coverage)

    def setDeviationCol(self, value: str) -> Self:
        """Set ``deviationCol``."""
        return self._set(deviationCol=value)

    def setLowerCol(self, value: str) -> Self:
        """Set ``lowerCol``."""
        return self._set(lowerCol=value)

    def setUpperCol(self, value: str) -> Self:
        """Set ``upperCol``."""
        return self._set(upperCol=value)

    def setCoverage(self, value: float) -> Self:
        """Set ``coverage``."""
        return self._set(coverage=value)

    def interval_columns(self) -> tuple[str, str, str]:
        """Return the names of the columns of deviations, lower and upper ends; ``''``: none."""
        return self.getDeviationCol(), self.getLowerCol(), self.getUpperCol()

    def value_if_set(self, name: str) -> Any:
        """Return the value of a parameter; None where it is not set."""
        return self._paramMap.get(self.getParam(name))


class PosteriorParams(FeatureParams, IntervalParams):
    """Parameters of the estimator: the method, and those of the methods that learn the prior."""

    method = text_param(
        "method",
        "'ridge': least squares with regParam; 'variational' and 'sample' learn prior and noise "
        "from explicit ratings, with biases",
    )
    implicitFeatures = int_param(
        "implicitFeatures",
        "directions of who has rated what that the mean of a row's prior depends on (>= 0); 0: "
        "none; a ridge then has biases",
    )
    noise = text_param(
        "noise",
        "whether users and items are more or less noisy, each its own ('rows', if not set), or "
        "'shared'",
    )
    covariance = text_param(
        "covariance",
        "whether method variational keeps all covariances of a row ('full') or its variances alone "
        "('diagonal'); not set: full ones, unless they would take too much memory",
    )
    burnIn = int_param(
        "burnIn", "iterations of method sample before those that count (>= 0); 40 if not set"
    )
    numSamples = int_param(
        "numSamples", "iterations of method sample that count (>= 1); 160 if not set"
    )
    featureRidge = float_param(
        "featureRidge",
        "as many rows as the coefficients of the features of a ridge weigh (> 0); "
        f"{FEATURE_RIDGE:g} if not set",
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(method="ridge", implicitFeatures=0)

    def getMethod(self) -> str:
        """Get ``method``."""
        return self.getOrDefault(self.method)

    def getImplicitFeatures(self) -> int:
        """Get ``implicitFeatures``."""
        return self.getOrDefault(self.implicitFeatures)

    def getNoise(self) -> str:
        """Get ``noise``; where it is not set, ``'rows'``."""
        return self.value_if_set("noise") or PosteriorOptions().noise

    def getCovariance(self) -> str:
        """Get ``covariance``; where it is not set, ``''``: what memory has room for."""
        return self.value_if_set("covariance") or ""

    def getBurnIn(self) -> int:
        """Get ``burnIn``; where it is not set, 40."""
        value = self.value_if_set("burnIn")
        return PosteriorOptions().burn_in if value is None else value

    def getNumSamples(self) -> int:
        """Get ``numSamples``; where it is not set, 160."""
        return self.value_if_set("numSamples") or PosteriorOptions().samples

    def getFeatureRidge(self) -> float:
        """Get ``featureRidge``; where it is not set, 300."""
        return self.value_if_set("featureRidge") or FEATURE_RIDGE

    def setMethod(self, value: str) -> Self:
        """Set ``method``."""
        return self._set(method=value)

    def setImplicitFeatures(self, value: int) -> Self:
        """Set ``implicitFeatures``."""
        return self._set(implicitFeatures=value)

    def setNoise(self, value: str) -> Self:
        """Set ``noise``."""
        return self._set(noise=value)

    def setBurnIn(self, value: int) -> Self:
        """Set ``burnIn``."""
        return self._set(burnIn=value)

    def setNumSamples(self, value: int) -> Self:
        """Set ``numSamples``."""
        return self._set(numSamples=value)

    def setCovariance(self, value: str) -> Self:
        """Set ``covariance``."""
        return self._set(covariance=value)

    def setFeatureRidge(self, value: float) -> Self:
        """Set ``featureRidge``."""
        return self._set(featureRidge=value)

    @property
    def learns_prior(self) -> bool:
        """Whether the method learns a prior, or the mean of one."""
        return self.getMethod() != "ridge" or self.getImplicitFeatures() > 0 or bool(self.featured)

    def posterior_options(self, dtype: DType = "float32") -> PosteriorOptions | None:
        """Return what trains with a learnt prior; None: a ridge towards zero.

        ``rank``, ``maxIter``, ``tol``, ``regParam`` and ``regExponent`` that are not set are the
        method's own, not MLlib's.

        Raises
        ------
        InvalidArgument
            If a parameter is set that has no effect with the method.
        """
        self._refuse()
        if not self.learns_prior:
            return None
        given = {
            "rank": self.value_if_set("rank"),
            "noise": self.value_if_set("noise"),
            "covariance": self.value_if_set("covariance"),
            "n_features": self.getImplicitFeatures(),
            "tol": self.value_if_set("tol"),
            "max_iter": self.value_if_set("maxIter"),
            "burn_in": self.value_if_set("burnIn"),
            "samples": self.value_if_set("numSamples"),
            "reg": self.value_if_set("regParam"),
            "exponent": self.value_if_set("regExponent"),
            "feature_ridge": self.value_if_set("featureRidge"),
        }
        if given["max_iter"] == 0 or given["reg"] == 0:
            name = "maxIter" if given["max_iter"] == 0 else "regParam"
            raise InvalidArgument(
                f"{name}=0 with {self._chosen}: not usable: use a number above 0, or clear it"
            )
        return PosteriorOptions(
            cast("PosteriorMethod", self.getMethod()),
            # Seeds are not negative.
            seed=self.getSeed() % 2**64,
            dtype=dtype,
            **{name: value for name, value in given.items() if value is not None},
        )

    @property
    def most_iterations(self) -> int:
        """Return how many iterations there are at most."""
        options = self.posterior_options()
        return self.getMaxIter() if options is None else options.iterations

    @property
    def _chosen(self) -> str:
        features = self.getImplicitFeatures()
        more = f", implicitFeatures={features}" if features else ""
        more += "".join(f", {FRAMES[side]}" for side in self.featured)
        return f"method={self.getMethod()!r}{more}"

    def _refuse(self) -> None:
        """Stop on parameters that are set and would have no effect."""
        self.refuse_lone_columns()
        method = self.getMethod()
        names = REFUSED[
            "ridge towards a mean" if method == "ridge" and self.learns_prior else method
        ]
        for name in names:
            value = self.value_if_set(name)
            if value is None or value is False or value == _OFF.get(name):
                continue
            raise InvalidArgument(
                f"{name}={value!r} with {self._chosen}: has no effect: clear it, or use another "
                "method"
            )
        if self.learns_prior and self.value_if_set("biases") is False:
            raise InvalidArgument(
                f"biases=False with {self._chosen}: biases are always part of it: clear biases, or "
                "use another method"
            )
        if self.learns_prior and self.getExchange() == "shuffle":
            raise InvalidArgument(
                f"exchange='shuffle' with {self._chosen}: not usable: every worker needs what is "
                "known of all rows of the other side: clear one of the two"
            )
        one = method == "sample" and self.getNumSamples() == 1
        if method != "ridge" and not one:
            return
        chosen = self._chosen + (", numSamples=1" if one else "")
        for name, column in zip(INTERVAL_COLUMNS, self.interval_columns(), strict=True):
            if column:
                raise InvalidArgument(
                    f"{name}={column!r} with {chosen}: not available: deviations and intervals are "
                    "those of method='variational', or of two samples or more of 'sample': clear "
                    "one of the two"
                )
