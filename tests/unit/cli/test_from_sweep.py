"""The best point of a sweep, as ``train --from-sweep`` takes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from als_spark.cli import train as job
from als_spark.cli.config.settings import config_record, resolve
from als_spark.cli.config.sweep import SweepConfig, sweep_record
from als_spark.cli.config.train import TrainConfig
from als_spark.cli.from_sweep import best_of_sweep
from als_spark.errors import ConfigError
from als_spark.nightly.run_record import Spec
from als_spark.solve.objective import Objective
from als_spark.train.bayes.options import PosteriorOptions


def sweep_folder(folder: Path, reg: float | None, **fields: Any) -> str:
    """What a sweep writes, as far as it is read."""
    config = SweepConfig(output=str(folder), **fields)
    points = [{"d": rank, "lambda_reg": reg, "best": rank == 5} for rank in (2, 5)]
    (folder / "results.json").write_text(json.dumps(points))
    (folder / "run.json").write_text(json.dumps({"config": sweep_record(config)}))
    return str(folder)


def train(sweep: str, **fields: Any) -> TrainConfig:
    """The configuration that is trained by."""
    given = {"ratings": "r.csv", "output": "o", "from_sweep": sweep, **fields}
    config = resolve(TrainConfig, None, given)
    best = best_of_sweep(sweep)
    assert not isinstance(best, Spec)
    return config.with_sweep(best)


def test_a_method_with_its_options(tmp_path: Path) -> None:
    options = {"noise": "shared", "implicit_features": 3, "burn_in": 7, "samples": 9}
    sweep = sweep_folder(tmp_path, None, method="sample", **options)
    config = train(sweep, seed=4, dtype="float64")
    assert config.posterior == PosteriorOptions(
        "sample", 5, "shared", 3, burn_in=7, samples=9, seed=4, dtype="float64"
    )
    assert config.from_sweep == sweep
    assert config_record(config)["from_sweep"] == sweep


def test_what_is_given_wins(tmp_path: Path) -> None:
    sweep = sweep_folder(tmp_path, None, method="variational", noise="shared")
    given = {"rank": 3, "noise": "rows", "tol": 0.1, "method": "variational"}
    assert train(sweep, **given).posterior == PosteriorOptions(rank=3, tol=0.1)
    assert train(sweep).posterior == PosteriorOptions(rank=5, noise="shared")


def test_the_covariance_is_that_of_the_sweep(tmp_path: Path) -> None:
    sweep = sweep_folder(tmp_path, None, method="variational", covariance="diagonal")
    assert train(sweep).posterior == PosteriorOptions(rank=5, covariance="diagonal")
    assert train(sweep, covariance="full").posterior == PosteriorOptions(rank=5, covariance="full")


def test_draws_of_a_sampler_may_be_given(tmp_path: Path) -> None:
    sweep = sweep_folder(tmp_path, None, method="sample", samples=9)
    assert train(sweep, samples=30).posterior == PosteriorOptions("sample", 5, samples=30)


def test_a_ridge_with_features(tmp_path: Path) -> None:
    sweep = sweep_folder(tmp_path, 9.0, implicit_features=3, exponent=0.5, feature_ridge=70.0)
    wanted = PosteriorOptions("ridge", 5, n_features=3, reg=9.0, exponent=0.5, feature_ridge=70.0)
    assert train(sweep).posterior == wanted


def test_a_ridge_towards_zero_is_what_it_was(tmp_path: Path) -> None:
    sweep = sweep_folder(tmp_path, 2.0, exponent=1.0, nonnegative=True)
    assert best_of_sweep(sweep) == Spec(5, Objective(2.0, 1.0, nonnegative=True))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"method": "sample"},
            "^--from-sweep {} with --method sample: not usable: its best .* by v",
        ),
        (
            {"reg": 2.0},
            r"^--lambda 2.0 with --method variational: has no effect: .* \(the method is",
        ),
        ({"accelerate": True}, "^--accelerate with --method variational: has no effect"),
        ({"samples": 3}, "^--samples 3 with --method variational: has no effect"),
    ],
)
def test_what_has_no_effect_with_its_method(
    tmp_path: Path, given: dict[str, Any], says: str
) -> None:
    sweep = sweep_folder(tmp_path, None, method="variational")
    with pytest.raises(ConfigError, match=says.format(sweep)):
        train(sweep, **given)


@pytest.mark.parametrize("options", [["--method", "sample"], ["--implicit-features", "3"]])
def test_no_prior_for_the_lambda_of_ridges(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    sweep = sweep_folder(tmp_path, 2.0)
    (tmp_path / "r.csv").touch()
    words = ["--ratings", str(tmp_path / "r.csv"), "--output", str(tmp_path / "o")]
    words += ["--from-sweep", sweep]
    assert job.main([*words, *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"train: --from-sweep {sweep} with {' '.join(options)}: not usable: its")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("method", ["ridge", "variational"])
def test_a_plan_is_of_its_rank(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    sweep = sweep_folder(tmp_path, 2.0 if method == "ridge" else None, method=method)
    counts = ["--counts", "users=100,items=90,ratings=1e3"]
    counts += ["--cluster", "executors=1,cores=1,memory=4g"]
    assert job.main(["--plan", "--json", *counts, "--from-sweep", sweep]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["ranks"], record["workload"]["method"]) == ([5], method)
