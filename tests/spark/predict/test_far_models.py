"""Models of which a side is on the executors or in its file: nothing brings it to the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.model.factor_files import read_side
from als_spark.model.factor_model import FactorModel
from als_spark.model.files import FACTOR_FILES, load_large, load_model, save_model
from als_spark.model.large_model import AnyModel, LargeModel
from als_spark.model.recommend import recommend
from als_spark.model.stored_factors import StoredFactors
from als_spark.solve.objective import Objective
from als_spark.spark.predict import far_rows
from als_spark.spark.predict.evaluate import Evaluation, RankingOptions, evaluate_models
from als_spark.spark.predict.recommend import recommend_for_all
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.prepare.prepare import prepare_typed
from als_spark.spark.read.columns import source_from_frame, typed_ratings
from als_spark.spark.read.split import TEST, TRAIN, SplitOptions, split_ratings
from als_spark.spark.train import factor_blocks
from als_spark.spark.train.best import best_model
from als_spark.spark.train.factor_blocks import DistributedFactors
from als_spark.spark.train.run import train_grid
from als_spark.train.grid import SweepCollector, grid_specs
from als_spark.train.records import TrainingOptions
from als_spark.types import SIDES, Side

RANK = 3
EXCHANGES: dict[str, Any] = {
    "broadcast": "broadcast",
    "users": {"user": "broadcast", "item": "shuffle"},
    "both": "shuffle",
}
RANKING = RankingOptions(3, 3.0, measures=("ndcg", "recall", "precision", "map"))


def refuse(*_: object) -> None:
    raise AssertionError("a side was brought to the driver")


@pytest.fixture(scope="module", autouse=True)
def far_from_the_driver() -> Iterator[None]:
    """No side is collected, and pieces and groups are so small that there are many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DistributedFactors, "collect", refuse)
        patch.setattr(StoredFactors, "collect", refuse)
        patch.setattr(factor_blocks, "PIECE_BYTES", 8 * RANK * 7)
        patch.setattr(far_rows, "GROUP_BYTES", 8 * RANK * 5)
        yield


@pytest.fixture(scope="module")
def split(spark: SparkSession) -> DataFrame:
    """Ratings of text ids, with users and items of which nothing is left to train on."""
    rng = np.random.default_rng(4)
    pairs = {(0, int(item)) for item in rng.permutation(40)[:38]}
    pairs |= {(int(user), 0) for user in rng.permutation(60)[:55]}
    pairs |= {divmod(int(pair), 40) for pair in rng.permutation(60 * 40)[:150]}
    rows = [(f"u{u}", 7 * i, float(rng.integers(1, 6))) for u, i in sorted(pairs)]
    frame = spark.createDataFrame(rows, "user string, item int, rating double")
    typed = typed_ratings(source_from_frame(frame), need_timestamp=False)
    return split_ratings(typed, SplitOptions(seed=3, test_fraction=0.3)).persist()


@pytest.fixture(scope="module")
def trained(spark: SparkSession, split: DataFrame) -> Mapping[str, AnyModel]:
    found = {}
    for name, exchange in EXCHANGES.items():
        options = PrepareOptions(
            dtype="float64", ranks=(RANK,), partitions=3, placement="ratings", exchange=exchange
        )
        collector = SweepCollector("test")
        with prepare_typed(spark, split, "ratings", options) as prepared:
            training = TrainingOptions(dtype="float64", seed=5, tol=0.0, max_iter=3)
            train_grid(prepared, grid_specs([RANK], [Objective(0.5)]), training, collector)
        found[name] = best_model(prepared, collector)
    return found


@pytest.fixture(scope="module")
def saved(
    trained: Mapping[str, AnyModel], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    folders = {}
    for name, model in trained.items():
        folders[name] = tmp_path_factory.mktemp(name) / "model"
        save_model(model, folders[name])
    return folders


def stored(folder: Path, *sides: Side) -> AnyModel:
    return load_large(folder, {side: str(folder / FACTOR_FILES[side]) for side in sides})


MODELS: dict[str, Callable[[Any, Any], AnyModel]] = {
    "users on executors": lambda trained, _: trained["users"],
    "both on executors": lambda trained, _: trained["both"],
    "users in their file": lambda _, saved: stored(saved["broadcast"], "user"),
    "both in their files": lambda _, saved: stored(saved["users"], *SIDES),
}

# The others take the same ways, one side at a time.
NAMES = [
    pytest.param(name, marks=[] if name == "both on executors" else pytest.mark.slow)
    for name in MODELS
]


@pytest.mark.slow
def test_files_are_those_of_a_broadcast(
    trained: Mapping[str, AnyModel], saved: Mapping[str, Path]
) -> None:
    assert isinstance(trained["broadcast"], FactorModel)
    names = {path.name for path in saved["broadcast"].iterdir()}
    assert "untrained_users.parquet" in names
    for name in ("users", "both"):
        assert isinstance(trained[name], LargeModel)
        assert {path.name for path in saved[name].iterdir()} == names
        for side in SIDES:
            own, same = (read_side(saved[k] / FACTOR_FILES[side]) for k in (name, "broadcast"))
            assert own.ids.ids.equals(same.ids.ids)
            np.testing.assert_array_equal(own.stats.degrees, same.stats.degrees)
            np.testing.assert_array_equal(own.stats.sums, same.stats.sums)
            np.testing.assert_allclose(own.factors, same.factors, rtol=0, atol=1e-9)
        found, wanted = (dict(load_model(saved[k]).description) for k in (name, "broadcast"))
        assert found.keys() == wanted.keys()
        for key in ("n_users", "n_items", "n_untrained_users", "rank", "dtype", "ratings"):
            assert found[key] == wanted[key]


def close(one: Any, two: Any) -> None:
    if isinstance(one, Mapping):
        assert one.keys() == two.keys()
        for key in one:
            close(one[key], two[key])
    elif isinstance(one, list):
        for own, other in zip(one, two, strict=True):
            close(own, other)
    elif isinstance(one, float):
        assert one == pytest.approx(two, rel=1e-9)
    else:
        assert one == two


def evaluate(
    spark: SparkSession, split: DataFrame, models: Mapping[str, AnyModel]
) -> dict[str, Evaluation]:
    held_out = split.where(F.col("split") == TEST).drop("split")
    seen = split.where(F.col("split") == TRAIN)
    return evaluate_models(spark, held_out, models, RANKING, seen=seen, baselines=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_evaluations_are_the_same(
    spark: SparkSession,
    split: DataFrame,
    trained: Mapping[str, AnyModel],
    saved: Mapping[str, Path],
    name: str,
) -> None:
    wanted = evaluate(spark, split, {"near": trained["broadcast"]})["near"]
    assert wanted.metrics["cold"]
    assert wanted.metrics["ndcg"]
    # Beside each other, of which the first gives the bins.
    models = {"far": MODELS[name](trained, saved), "near": trained["broadcast"]}
    found = evaluate(spark, split, models)
    for field in ("metrics", "by_user", "by_item", "by_source", "baselines"):
        close(getattr(found["far"], field), getattr(wanted, field))
    for field in ("metrics", "by_user", "by_item", "by_source"):
        close(getattr(found["near"], field), getattr(wanted, field))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_recommendations_are_the_same(
    spark: SparkSession,
    split: DataFrame,
    trained: Mapping[str, AnyModel],
    saved: Mapping[str, Path],
    name: str,
) -> None:
    model, near = MODELS[name](trained, saved), load_model(saved["broadcast"])
    seen = split.where(F.col("split") == TRAIN).select("user", "item")
    pairs = seen.collect()
    exclude = [row.user for row in pairs], [row.item for row in pairs]
    asked: list[Any] = ["u0", "u5", "nobody", "u7"]
    cases: list[tuple[Side, dict[str, Any], dict[str, Any]]] = [
        ("user", {}, {}),
        ("user", {"ids": asked, "min_ratings": 2}, {}),
        ("user", {"partitions": 4}, {"seen": seen}),
        ("item", {"top": 70}, {"seen": seen}),
    ]
    for side, options, more in cases:
        table = recommend(
            near,
            side=side,
            exclude=exclude if more else None,
            **{"top": 5, **{k: v for k, v in options.items() if k != "partitions"}},
        )
        wanted = {row[side]: row for row in table.to_pylist()}
        with recommend_for_all(spark, model, side=side, **{"top": 5, **options}, **more) as frame:
            found = {row[side]: row for row in frame.collect()}
        assert found.keys() == wanted.keys()
        other = "item" if side == "user" else "user"
        for key, row in found.items():
            assert row.source == wanted[key]["source"]
            own = [(entry[other], entry.score) for entry in row.recommendations]
            same = [(entry[other], entry["score"]) for entry in wanted[key]["recommendations"]]
            assert [entry[0] for entry in own] == [entry[0] for entry in same]
            assert [e[1] for e in own] == pytest.approx([e[1] for e in same], rel=1e-8)
