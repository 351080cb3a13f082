"""What the README shows must run."""

from __future__ import annotations

import dataclasses
import re
import shlex
from typing import Any

import pytest
from pyspark.sql import SparkSession

from als_spark.cli.batch_options import EVALUATE, RECOMMEND, RETRAIN, TRAIN
from als_spark.cli.options import SWEEP, JobOptions
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
    assert "PointResult(rank=" in capsys.readouterr().out
    outcome = names["outcome"]
    model = FactorModel(
        names["prepared"].summary.users,
        names["prepared"].summary.items,
        outcome.best_factors,
        names["prepared"].stats["user"],
        names["prepared"].stats["item"],
        {"lambda_reg": outcome.points[outcome.best].reg, "exponent": 0.0},
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
        assert SWEEP.parse(words[start + 1 :], None).output.startswith(
            ("results/", "hdfs://", "s3a://")
        )


JOBS: dict[str, JobOptions[Any]] = {
    "train": TRAIN,
    "retrain": RETRAIN,
    "evaluate": EVALUATE,
    "recommend": RECOMMEND,
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
            assert dataclasses.asdict(JOBS[name].parse(words))["store"] == "models"


def test_every_file_that_is_named_is_there() -> None:
    for path in re.findall(r"`((?:scripts|conf|jobs)/[\w./-]+)`", README):
        assert (ROOT / path.split(" ")[0]).exists(), path
    for picture in re.findall(r"\]\(([\w./-]+\.png)\)", README):
        assert (ROOT / picture).is_file(), picture
