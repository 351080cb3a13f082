"""Parameters of the estimator, against the signatures of pyspark's; no Spark."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyspark.ml.recommendation as mllib
import pytest
from pyspark.errors import IllegalArgumentException

from als_spark import ALS, ALSModel, ConfigError, Objective, TrainingOptions
from als_spark.ml.biases import Baseline
from als_spark.ml.params import mllib_params
from als_spark.ml.training import Shared, options_of

OURS: dict[str, Any] = {
    "biases": False,
    "biasRegParam": None,
    "weightCol": None,
    "nativeIds": False,
    "tol": 0.0,
    "regExponent": 1.0,
    "accelerate": False,
    "exchange": "auto",
    "initialModel": None,
    "callback": None,
    "progress": None,
    "method": "ridge",
    "implicitFeatures": 0,
    "noise": None,
    "covariance": None,
    "burnIn": None,
    "numSamples": None,
    "featureRidge": None,
    "deviationCol": None,
    "lowerCol": None,
    "upperCol": None,
    "coverage": 0.9,
    "userFeatures": None,
    "itemFeatures": None,
    "userFeatureCols": None,
    "itemFeatureCols": None,
}
"""What MLlib lacks, with the values at which it is as MLlib."""


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


@pytest.mark.parametrize(("ours", "theirs"), [(ALS, mllib.ALS), (ALSModel, mllib.ALSModel)])
def test_every_public_name_of_mllib_is_there(ours: type, theirs: type) -> None:
    assert public(theirs) - public(ours) == set()


UNSET = {
    *("biasRegParam", "weightCol", "noise", "covariance", "burnIn", "numSamples", "featureRidge"),
    *("deviationCol", "lowerCol", "upperCol"),
}
"""Those that have no value unless they are set."""


@pytest.mark.parametrize("method", ["__init__", "setParams"])
def test_signatures(method: str) -> None:
    ours, theirs = (
        [(p.name, p.kind, p.default) for p in inspect.signature(found).parameters.values()]
        for found in (getattr(ALS, method), getattr(mllib.ALS, method))
    )
    assert ours[: len(theirs)] == theirs
    assert {name: default for name, _, default in ours[len(theirs) :]} == OURS
    assert {kind for _, kind, _ in ours[1:]} == {inspect.Parameter.KEYWORD_ONLY}


def test_defaults() -> None:
    als = ALS()
    values = {param.name: value for param, value in als.extractParamMap().items()}
    signature = inspect.signature(mllib.ALS.__init__).parameters
    wanted = {name: p.default for name, p in signature.items() if name not in ("self", "seed")}
    wanted |= {name: value for name, value in OURS.items() if name not in UNSET}
    assert values == {**wanted, "seed": hash("ALS"), "predictionCol": "prediction"}
    assert als._paramMap == {}
    assert ALSModel().getBlockSize() == 4096


VALUES: dict[str, Any] = {
    "rank": 3,
    "maxIter": 2,
    "regParam": 0.5,
    "numUserBlocks": 4,
    "numItemBlocks": 5,
    "implicitPrefs": True,
    "alpha": 2.5,
    "userCol": "u",
    "itemCol": "i",
    "seed": -7,
    "ratingCol": "r",
    "nonnegative": True,
    "checkpointInterval": -1,
    "intermediateStorageLevel": "DISK_ONLY_3",
    "finalStorageLevel": "NONE",
    "coldStartStrategy": "Drop",
    "blockSize": 16,
    "tol": 0.25,
    "regExponent": 0.5,
    "accelerate": True,
    "exchange": "shuffle",
    "initialModel": ALSModel(),
    "callback": print,
    "progress": False,
    "predictionCol": "p",
    "biases": True,
    "biasRegParam": 0.25,
    "weightCol": "w",
    "method": "sample",
    "implicitFeatures": 20,
    "noise": "shared",
    "covariance": "diagonal",
    "burnIn": 3,
    "numSamples": 4,
    "featureRidge": 30.0,
    "deviationCol": "sd",
    "lowerCol": "low",
    "upperCol": "high",
    "coverage": 0.5,
    "userFeatures": SimpleNamespace(sparkSession=None, schema=None),
    "itemFeatures": SimpleNamespace(sparkSession=None, schema=None),
    "userFeatureCols": ["age"],
    "itemFeatureCols": ["genres", "year"],
}


@pytest.mark.parametrize("name", VALUES)
def test_set_and_get(name: str) -> None:
    als, value = ALS(), VALUES[name]
    title = name[0].upper() + name[1:]
    assert getattr(als, f"set{title}")(value) is als
    assert getattr(als, f"get{title}")() == value
    if name != "initialModel":
        als.check_params()
    assert f"{name}: " in als.explainParams()
    assert f"current: {value}" in als.explainParam(name)
    if name != "predictionCol":
        for other in (ALS(**{name: value}), ALS().setParams(**{name: value})):
            assert getattr(other, f"get{title}")() == value
    model = ALSModel()
    if name in {param.name for param in model.params}:
        assert getattr(model, f"set{title}")(value) is model
        assert getattr(model, f"get{title}")() == value


def test_both_numbers_of_blocks() -> None:
    als = ALS().setNumBlocks(7)
    assert (als.getNumUserBlocks(), als.getNumItemBlocks()) == (7, 7)


def test_only_keywords() -> None:
    with pytest.raises(TypeError, match="forces keyword arguments"):
        ALS(3)  # type: ignore[misc]
    with pytest.raises(TypeError, match="unexpected keyword argument 'ranks'"):
        ALS(ranks=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("rank", 10.0, 10),
        ("rank", np.int32(4), 4),
        ("rank", np.int64(4), 4),
        ("rank", np.float32(4), 4),
        ("regParam", np.float32(0.5), 0.5),
        ("regParam", np.float64(0.5), 0.5),
        ("regParam", np.int16(2), 2.0),
        ("regParam", 1, 1.0),
        ("userCol", np.str_("u"), "u"),
        ("tol", np.float32(0.5), 0.5),
        ("regExponent", 2, 2.0),
    ],
)
def test_accepted_types(name: str, given: Any, value: Any) -> None:
    als = ALS(**{name: given})
    found = als.getOrDefault(name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("rank", 10.5),
        ("rank", "10"),
        ("rank", True),
        ("rank", np.bool_(True)),
        ("maxIter", float("inf")),
        ("alpha", "1"),
        ("regParam", [0.1]),
        ("implicitPrefs", 1),
        ("nonnegative", "yes"),
        ("biases", 1),
        ("biasRegParam", "1"),
        ("weightCol", 1),
        ("userCol", 3),
        ("seed", 1.5),
        ("tol", "0"),
        ("regExponent", [1.0]),
        ("accelerate", 1),
        ("initialModel", "als-model"),
        ("callback", 3),
        ("progress", "yes"),
        ("method", 1),
        ("numSamples", "4"),
        ("deviationCol", True),
        ("itemFeatures", {"item": [1]}),
        ("userFeatureCols", "age"),
        ("userFeatureCols", []),
        ("itemFeatureCols", [1]),
    ],
)
def test_a_wrong_type_is_refused_and_changes_nothing(name: str, given: Any) -> None:
    als = ALS(maxIter=3)
    with pytest.raises(TypeError, match=f'Invalid param value given for param "{name}"'):
        als.setParams(blockSize=8, **{name: given})
    with pytest.raises(TypeError):
        als.copy({als.getParam(name): given})
    assert als.getBlockSize() == 4096
    assert als.setRank(2).getRank() == 2
    als.check_params()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank", 0),
        ("rank", 2**31),
        ("maxIter", -1),
        ("regParam", -1.0),
        ("regParam", float("nan")),
        ("regParam", float("inf")),
        ("alpha", -1.0),
        ("numUserBlocks", 0),
        ("numItemBlocks", 0),
        ("blockSize", 0),
        ("checkpointInterval", 0),
        ("checkpointInterval", -2),
        ("coldStartStrategy", "median"),
        ("biasRegParam", 0.0),
        ("biasRegParam", -1.0),
        ("biasRegParam", float("nan")),
        ("intermediateStorageLevel", "NONE"),
        ("intermediateStorageLevel", "memory_only"),
        ("finalStorageLevel", "MEMORY_AND_DISK_DESER"),
        ("seed", 2**63),
        ("tol", -0.5),
        ("tol", float("inf")),
        ("tol", float("nan")),
        ("regExponent", -0.5),
        ("regExponent", 4.5),
        ("regExponent", float("nan")),
        ("method", "gibbs"),
        ("implicitFeatures", -1),
        ("noise", "columns"),
        ("covariance", "none"),
        ("burnIn", -1),
        ("numSamples", 0),
        ("featureRidge", 0.0),
        ("coverage", 1.0),
        ("coverage", float("nan")),
    ],
)
def test_a_value_out_of_range_is_refused_where_it_is_used(name: str, value: Any) -> None:
    als = ALS(**{name: value})
    message = f"{als.uid} parameter {name} given invalid value {value}."
    with pytest.raises(IllegalArgumentException) as caught:
        als.check_params()
    assert str(caught.value) == message
    assert isinstance(caught.value, ConfigError)
    als.clear(als.getParam(name))
    als.check_params()


def test_copies_are_their_own() -> None:
    als = ALS(rank=3)
    other = als.copy({als.regParam: np.float32(0.25)})
    assert (other.uid, other.getRank(), other.getRegParam()) == (als.uid, 3, 0.25)
    assert als.setRank(4).getRegParam() == 0.1
    assert other.getRank() == 3


def test_the_ridge_is_multiplied_by_a_power_of_the_count() -> None:
    assert ALS(regParam=0.3).objective() == Objective(0.3, exponent=1.0)
    assert ALS(regParam=0.3, regExponent=0.25).objective() == Objective(0.3, exponent=0.25)


def test_options_of_the_training() -> None:
    als = ALS(seed=-1)
    every = TrainingOptions(tol=0.0, max_iter=10, seed=2**64 - 1, dtype="float32", accelerate=False)
    assert options_of(als) == every
    others = als.copy({als.tol: 0.5, als.maxIter: 3, als.seed: 4, als.accelerate: True})
    assert options_of(others) == TrainingOptions(0.5, 3, 4, "float32", accelerate=True)


class TestParamsOfMLlib:
    def test_ours_are_left_out(self) -> None:
        found = mllib_params(ALS(rank=3, **{**OURS, "callback": print, "progress": True}))
        assert found["paramMap"] == {"rank": 3}
        signature = inspect.signature(mllib.ALS.__init__).parameters
        assert found["defaultParamMap"].keys() == {*signature, "predictionCol"} - {"self"}

    @pytest.mark.parametrize(("name", "value"), [("tol", 0.5), ("accelerate", True)])
    def test_a_value_that_would_be_lost_is_refused(self, name: str, value: Any) -> None:
        als = ALS(**{name: value})
        with pytest.raises(IllegalArgumentException) as caught:
            mllib_params(als)
        assert str(caught.value) == (
            f"{als.uid} parameter {name} is {value}, which MLlib's ALS lacks: clear it, or save in "
            "our own format"
        )


@pytest.mark.parametrize(
    ("params", "members"),
    [
        ({"implicitPrefs": True}, {"implicit": True, "alpha": 2.0}),
        ({"implicitPrefs": True, "alpha": 0}, {"implicit": True, "alpha": 0.0}),
        # α has no effect on explicit ratings, as in MLlib.
        ({}, {}),
        ({"nonnegative": True}, {"nonnegative": True}),
        (
            {"implicitPrefs": True, "nonnegative": True},
            {"implicit": True, "alpha": 2.0, "nonnegative": True},
        ),
    ],
)
def test_other_objectives(params: dict[str, Any], members: dict[str, Any]) -> None:
    assert ALS(**{"alpha": 2.0, **params}).objective() == Objective(0.1, 1.0, **members)


def test_none_is_the_default() -> None:
    usual = ALS()
    for param in usual.params:
        for als in (ALS()._set(**{param.name: None}), ALS().copy({param: None})):
            als.check_params()
            assert options_of(als) == options_of(usual)
            assert als.objective() == usual.objective()
            assert als.getSeed() == usual.getSeed()
            assert param.name not in mllib_params(als)["paramMap"]


def test_no_weights_of_implicit_ratings() -> None:
    assert ALS(weightCol=None).getWeightCol() == ""
    with pytest.raises(IllegalArgumentException, match="weightCol with implicitPrefs=True is not"):
        ALS(weightCol="w", implicitPrefs=True).objective()


class TestBiases:
    def test_objective(self) -> None:
        als = ALS(regParam=0.3, biases=True)
        assert als.objective() == Objective(0.3, 1.0, bias_reg=0.3)
        assert als.setBiasRegParam(0.02).objective() == Objective(0.3, 1.0, bias_reg=0.02)
        assert als.setBiases(False).objective() == Objective(0.3, 1.0)

    def test_their_ridge_follows_the_other(self) -> None:
        als = ALS(biasRegParam=None)
        assert als.setRegParam(0.7).getBiasRegParam() == 0.7
        als.check_params()

    @pytest.mark.parametrize("name", ["implicitPrefs", "nonnegative"])
    def test_not_with(self, name: str) -> None:
        with pytest.raises(IllegalArgumentException, match=f"biases=True with {name}=True is not"):
            ALS(biases=True, **{name: True}).objective()

    def test_not_without_a_ridge(self) -> None:
        with pytest.raises(IllegalArgumentException, match=r"biases=True with regParam 0\.0: use"):
            ALS(biases=True, regParam=0.0).objective()

    @pytest.mark.parametrize(
        "metadata", [{"globalMean": "3"}, {"biases": True}, {"globalMean": 3.0, "biases": 1}]
    )
    def test_unusable_metadata(self, metadata: dict[str, Any]) -> None:
        with pytest.raises(IllegalArgumentException, match=r"^p: globalMean .* save the mode"):
            Baseline.from_metadata({"rank": 3, **metadata}, "p")


def test_maps_of_the_same_columns_are_trained_together() -> None:
    als = ALS()
    shared = Shared.of(als)
    assert shared == ("user", "item", "rating", "", False, "auto", False)
    others = {als.rank: 2, als.regParam: 3.0, als.seed: 1, als.tol: 0.5, als.implicitPrefs: True}
    assert Shared.of(als.copy(others)) == shared
    for name, value in (
        ("itemCol", "i"),
        ("userCol", "u"),
        ("ratingCol", ""),
        ("weightCol", "w"),
        ("nativeIds", True),
        ("exchange", "shuffle"),
    ):
        assert Shared.of(als.copy({als.getParam(name): value})) != shared


def test_a_model_without_factors_says_so() -> None:
    model = ALSModel()
    assert repr(model) == f"ALSModel: uid={model.uid}"
    with pytest.raises(IllegalArgumentException, match="this ALSModel has no factors"):
        model.rank  # noqa: B018


def test_spark_connect_is_refused() -> None:
    session = type("SparkSession", (), {"__module__": "pyspark.sql.connect.session"})()
    frame: Any = SimpleNamespace(sparkSession=session, schema=None)
    with pytest.raises(ConfigError, match="needs a classic Spark session: over Spark Connect"):
        ALS().fit(frame)


def test_one_column_for_users_and_items_is_refused_where_it_is_used() -> None:
    message = "userCol and itemCol are both id: name a column of each"
    for params in (ALS(userCol="id", itemCol="id"), ALS(userCol="id"), ALSModel()):
        params._set(userCol="id", itemCol="id")
        with pytest.raises(IllegalArgumentException, match=message):
            params.check_params()
    # With the default of the other.
    with pytest.raises(IllegalArgumentException, match="userCol and itemCol are both item"):
        ALS(userCol="item").check_params()
