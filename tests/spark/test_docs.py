"""What README and the pages of docs/ show in Python must run."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from als_spark import load_model, open_store
from tests.conftest import ROOT
from tests.pages_of_docs import PAGES, code_blocks, name_of

GUIDE = ROOT / "docs" / "python.md"
Capture = pytest.CaptureFixture[str]
# Those need no Spark: tests/unit/model/test_export.py, tests/bench/test_held_out.py and
# tests/unit/model/test_intervals.py run them.
WITHOUT_SPARK = {"serving.md", "lists.md", "bayes.md"}
# The blocks of which take as long as those of all others.
LONG = {"estimator.md"}
WITH_PYTHON = [
    page for page in PAGES if code_blocks(page, "python") and page.name not in WITHOUT_SPARK
]


@pytest.fixture(scope="module")
def workplace(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages begin with: the folder of a sweep, and a store."""
    folder = tmp_path_factory.mktemp("workplace")
    names: dict[str, Any] = {"spark": spark}
    with contextlib.chdir(folder):
        exec(code_blocks(GUIDE, "python")[0], names)
    best = folder / "results" / "sample" / "best_model"
    # What the guide has saved is a model of the best point.
    shutil.copytree(folder / "my_model", best)
    points = names["collector"].outcome().points
    reg = min(points, key=lambda point: point.errors["test"].mse).reg
    assert load_model(best).description["lambda_reg"] == reg
    open_store(folder / "models").publish(best, run="first")
    return folder


def run(page: Path, spark: SparkSession, folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a page's blocks one after the other and return the names that they leave."""
    patch.chdir(folder)
    names: dict[str, Any] = {"spark": spark}
    for block in code_blocks(page, "python"):
        exec(block, names)
    return names


def test_there_are_blocks_to_run() -> None:
    assert {name_of(page) for page in WITH_PYTHON} >= {"README.md", "docs/python.md"}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page.name in LONG else ())
        for page in WITH_PYTHON
    ],
    ids=name_of,
)
def test_the_blocks_run(
    page: Path, spark: SparkSession, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(page, spark, workplace, monkeypatch)


def test_the_readme_prints_the_best_point(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    # In an empty folder: it needs nothing that another command has made.
    names = run(ROOT / "README.md", spark, tmp_path, monkeypatch)
    points = names["outcome"].points
    assert len(points) == len(names["grid"])
    best = min(points, key=lambda point: point.errors["test"].mse)
    assert f"best: rank {best.rank}, λ = {best.reg:g}, test RMSE" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_quickstart_prints_predictions_and_recommendations(
    spark: SparkSession, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    run(ROOT / "docs" / "quickstart.md", spark, workplace, monkeypatch)
    predicted, recommended, similar = capsys.readouterr().out.splitlines()
    assert predicted.startswith("[")
    assert recommended.count("'score'") == 2 * 5
    assert similar.count("'score'") == 5


def test_the_guide_trains_folds_in_and_reads_a_store(
    spark: SparkSession, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    names = run(GUIDE, spark, workplace, monkeypatch)
    assert "<SweepCollector: the best of 4 points is d = " in capsys.readouterr().out
    model, folded = names["model"], names["folded"]
    assert model.predict([0, 1], [10, 12]).shape == (2,)
    extended = names["extend_model"](model, folded)
    (answer,) = names["recommend"](extended, folded.ids.ids, top=5).to_pylist()
    assert len(answer["recommendations"]) == 5
    assert names["everybody"].count() == len(model.users)
    assert {row["user"] for row in names["rows"]} == {0, 1}
    assert (names["current"].predict([0], [10]) == model.predict([0], [10])).all()
