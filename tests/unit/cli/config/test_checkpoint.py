"""The options of checkpoints: what goes together, and where the folder may be."""

from __future__ import annotations

import pytest

from als_spark.cli.config.retrain import RetrainConfig
from als_spark.cli.config.sweep import SweepConfig
from als_spark.cli.config.train import TrainConfig
from als_spark.cli.options import parse
from als_spark.errors import ConfigError
from als_spark.train.checkpoint import Interval


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--restart",), "--restart: has no effect without a checkpoint"),
        (("--checkpoint-every", "5"), "--checkpoint-every 5: has no effect without a checkpoint"),
        (("--checkpoint", "c", "--checkpoint-every", "5h"), "--checkpoint-every 5h: not usable"),
        (("--checkpoint", "out/c"), "--checkpoint out/c: lies in --output out: give a folder"),
        (("--checkpoint", "out"), "lies in"),
        (("--checkpoint", "."), "--output out: lies in --checkpoint .: give a folder outside"),
        (("--checkpoint", "c", "--ratings", "c/r.csv"), "--ratings c/r.csv: lies in --checkpoint"),
    ],
)
def test_refused(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "r.csv").touch()
    with pytest.raises(ConfigError, match=message):
        parse(SweepConfig, ["--output", "out", *words])


def test_the_interval():
    config = SweepConfig(output="out", checkpoint="c")
    assert config.interval == Interval(seconds=600.0)
    assert config.model_copy(update={"checkpoint_every": "3"}).interval == Interval(3)


def test_of_which_jobs():
    assert "checkpoint" in TrainConfig.model_fields
    assert "checkpoint" not in RetrainConfig.model_fields
