"""What the README shows must run."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from pyspark.sql import SparkSession

from als_spark.cli.config.batch import (
    EvaluateConfig,
    RecommendConfig,
    RetrainConfig,
    TrainConfig,
)
from als_spark.cli.config.settings import JobConfig
from als_spark.cli.config.sweep import SweepConfig
from als_spark.cli.options import parse
from als_spark.cli.store import store_parser
from als_spark.model.factor_model import FactorModel
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_snippets_run(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = blocks("python")
    names: dict[str, Any] = {"spark": spark}
    exec(first, names)
    assert "PointResult(spec=" in capsys.readouterr().out
    outcome = names["outcome"]
    model = FactorModel(
        names["prepared"].summary.users,
        names["prepared"].summary.items,
        outcome.best_factors,
        names["prepared"].stats["user"],
        names["prepared"].stats["item"],
        outcome.points[outcome.best].spec.objective.as_record(),
    )
    # The folder of the snippet exists only after the first command of the README.
    monkeypatch.setattr("als_spark.model.files.load_model", lambda folder: model)
    exec(second, names)
    assert names["model"].predict([0, 1], [10, 12]).shape == (2,)
    exec(third, names)
    (answer,) = names["recommend"](
        names["extend_model"](model, names["folded"]), names["folded"].ids.ids, top=5
    ).to_pylist()
    assert len(answer["recommendations"]) == 5


def test_the_command_lines_are_accepted() -> None:
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    commands = [
        shlex.split(re.sub(r"\s#.*", "", line))
        for line in text.splitlines()
        if "sweep.sh" in line or "jobs/sweep.py" in line
    ]
    assert len(commands) == 5
    for words in commands:
        start = next(k for k, word in enumerate(words) if word.endswith(("sweep.sh", "sweep.py")))
        assert parse(SweepConfig, words[start + 1 :]).output.startswith(
            ("results/", "hdfs://", "s3a://")
        )


JOBS: dict[str, type[JobConfig]] = {
    "train": TrainConfig,
    "retrain": RetrainConfig,
    "evaluate": EvaluateConfig,
    "recommend": RecommendConfig,
}


def test_the_command_lines_of_the_batch_jobs_are_accepted() -> None:
    commands = [
        shlex.split(re.sub(r"\s#.*", "", line))[1:]
        for line in "\n".join(blocks("bash")).splitlines()
        if line.startswith("scripts/run.sh")
    ]
    assert [words[0] for words in commands] == [*JOBS, "store"]
    for name, *words in commands:
        if name == "store":
            assert store_parser().parse_args(words).store == "models"
        else:
            assert parse(JOBS[name], words).model_dump()["store"] == "models"


def test_every_file_that_is_named_is_there() -> None:
    for path in re.findall(r"`((?:scripts|conf|jobs)/[\w./-]+)`", README):
        assert (ROOT / path.split(" ")[0]).exists(), path
    for picture in re.findall(r"\]\(([\w./-]+\.png)\)", README):
        assert (ROOT / picture).is_file(), picture
