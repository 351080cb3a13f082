"""Which parameters each method of the estimator takes; no Spark."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.errors import IllegalArgumentException

from als_spark import ALS, ConfigError, PosteriorOptions
from als_spark.ml.posterior_params import REFUSED
from als_spark.ml.training import Shared
from tests.unit.ml.test_params import VALUES

FRAME = VALUES["itemFeatures"]


class TestMethods:
    def test_a_ridge_towards_zero_needs_none(self) -> None:
        assert ALS(rank=3, regParam=0.5, biases=True, weightCol="w").posterior_options() is None

    @pytest.mark.parametrize(
        ("params", "options"),
        [
            ({"method": "variational"}, PosteriorOptions(seed=3)),
            (
                {"method": "variational", "rank": 5, "maxIter": 7, "tol": 0.1, "noise": "shared"},
                PosteriorOptions(rank=5, max_iter=7, tol=0.1, noise="shared", seed=3),
            ),
            (
                {"method": "variational", "covariance": "diagonal"},
                PosteriorOptions(covariance="diagonal", seed=3),
            ),
            (
                {"method": "sample", "burnIn": 0, "numSamples": 9, "implicitFeatures": 2},
                PosteriorOptions("sample", burn_in=0, samples=9, n_features=2, seed=3),
            ),
            ({"implicitFeatures": 2}, PosteriorOptions("ridge", n_features=2, seed=3)),
            ({"itemFeatures": FRAME, "regParam": 9}, PosteriorOptions("ridge", seed=3, reg=9)),
            (
                {"implicitFeatures": 2, "regParam": 9, "regExponent": 1, "featureRidge": 5},
                PosteriorOptions("ridge", n_features=2, seed=3, reg=9, exponent=1, feature_ridge=5),
            ),
        ],
    )
    def test_what_is_not_set_is_the_methods_own(
        self, params: dict[str, Any], options: PosteriorOptions
    ) -> None:
        # None, and what asks for nothing, is as if it were not set.
        nothing = {"alpha": None, "nonnegative": False, "checkpointInterval": -1, "weightCol": ""}
        assert ALS(seed=3, **nothing, **params).posterior_options() == options
        unset = {"noise": None, "burnIn": None, "numSamples": None, "rank": None}
        assert ALS(seed=3, **{**unset, **params}).posterior_options() == options

    @pytest.mark.parametrize("chosen", [*REFUSED])
    def test_what_has_no_effect_is_refused(self, chosen: str) -> None:
        method = {"ridge towards a mean": {"implicitFeatures": 4}}.get(chosen, {"method": chosen})
        values = {**VALUES, "regParam": 0.1, "checkpointInterval": 10, "maxIter": 3}
        for name in REFUSED[chosen]:
            als = ALS(**method, **{name: values[name]})
            with pytest.raises(IllegalArgumentException, match=rf"^{name}=.* has no effect") as got:
                als.posterior_options()
            assert isinstance(got.value, ConfigError)
            ALS(**method, **{name: None}).posterior_options()

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"method": "sample", "biases": False}, "^biases=False with method='sample': biases"),
            ({"method": "variational", "exchange": "shuffle"}, "^exchange='shuffle' with method"),
            ({"method": "variational", "maxIter": 0}, "^maxIter=0 with method='variational'"),
            ({"implicitFeatures": 3, "regParam": 0}, "^regParam=0 with .*implicitFeatures=3"),
            (
                {"method": "sample", "numSamples": 1, "deviationCol": "sd"},
                "^deviationCol='sd' with method='sample', numSamples=1: not available",
            ),
            ({"itemFeatureCols": ["year"]}, r"^itemFeatureCols=\['year'\] without itemFeatures: "),
            ({"itemFeatures": FRAME, "accelerate": True}, "^accelerate=True with .*itemFeatures"),
            ({"userFeatures": FRAME, "exchange": "shuffle"}, "^exchange=.* userFeatures: not usa"),
            ({"upperCol": "high"}, "^upperCol='high' with method='ridge': not available"),
        ],
    )
    def test_what_cannot_be_is_refused(self, params: dict[str, Any], message: str) -> None:
        with pytest.raises(IllegalArgumentException, match=message):
            ALS(**params).posterior_options()

    def test_iterations_at_most(self) -> None:
        assert ALS(maxIter=4).most_iterations == 4
        assert ALS(method="sample", burnIn=2, numSamples=3).most_iterations == 5

    def test_they_are_trained_apart(self) -> None:
        assert Shared.of(ALS(method="sample")) == Shared.of(ALS(method="variational", rank=3))
        assert Shared.of(ALS(implicitFeatures=2)) != Shared.of(ALS())
        assert Shared.of(ALS(itemFeatures=FRAME)) == Shared.of(ALS(implicitFeatures=2))
