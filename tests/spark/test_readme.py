"""What the README shows must run."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from pyspark.sql import SparkSession

from als_spark.cli.options import SWEEP
from als_spark.model import FactorModel
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_snippets_run(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = blocks("python")
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
    )
    # The folder of the snippet exists only after the first command of the README.
    monkeypatch.setattr("als_spark.persistence.load_model", lambda folder: model)
    exec(second, names)
    assert names["model"].predict([0, 1], [10, 12]).shape == (2,)


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


def test_every_file_that_is_named_is_there() -> None:
    for path in re.findall(r"`((?:scripts|conf|jobs)/[\w./-]+)`", README):
        assert (ROOT / path.split(" ")[0]).exists(), path
    for picture in re.findall(r"\]\(([\w./-]+\.png)\)", README):
        assert (ROOT / picture).is_file(), picture
