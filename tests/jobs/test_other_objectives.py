"""Implicit feedback and nonnegative factors, from the sweep through train to evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from als_spark.model.files import load_model
from als_spark.model.foldin import fold_in
from jobs.evaluate import main as evaluate
from jobs.sweep import main as sweep
from jobs.train import main as train
from tests import reference
from tests.jobs.nightly import BASE, Lake

pytestmark = pytest.mark.usefixtures("spark")

MORE = {"implicit": True, "alpha": 5.0, "nonnegative": True}
CAVEAT = "errors, which compare them with the ratings, mean little"


@pytest.mark.slow
def test_from_the_sweep_to_the_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, swept, out = Lake(tmp_path), tmp_path / "sweep", tmp_path / "out"
    ratings = ["--ratings", str(lake.base), "--max-iter", "4", "--dtype", "float64"]
    grid = ["--ranks", "2,3", "--lambdas", "0.1", "--exponent", "1", "--implicit"]
    grid += ["--alpha", "5", "--nonnegative", "--output", str(swept)]
    assert sweep([*ratings, *grid]) == 0
    assert CAVEAT in capsys.readouterr().out
    config = json.loads((swept / "run.json").read_text())["config"]
    best = json.loads((swept / "best_model" / "model.json").read_text())
    for record in (config, best):
        assert {key: record[key] for key in MORE} == MORE

    options = [*ratings, "--output", str(out), "--test-fraction", "0", "--ranking-users", "0"]
    assert train([*options, "--from-sweep", str(swept)]) == 0
    said = capsys.readouterr().out
    assert "implicit, alpha=5, nonnegative" in said
    model, run = load_model(out), json.loads((out / "run.json").read_text())
    for record in (model.description, run["settings"], run["training"]):
        assert {key: record[key] for key in MORE} == MORE
    assert any(CAVEAT in warning for warning in run["warnings"])
    assert min(factors.min() for factors in model.factors) == 0
    users, items = model.users.rows_of(BASE.users), model.items.rows_of(BASE.items)
    wanted = reference.implicit_objective(
        users, items, BASE.ratings, *model.factors, model.description["lambda_reg"], 1.0, 5.0
    )
    assert run["training"]["objective"] == pytest.approx(wanted, rel=1e-9)

    # Folding items in is the half-step that training ended with.
    folded = fold_in(model, "item", BASE.items, BASE.users, BASE.ratings)
    at = model.items.rows_of(folded.ids.ids)
    np.testing.assert_allclose(folded.factors, model.factors.items[at], rtol=0, atol=1e-9)

    measured = tmp_path / "measured"
    words = ["--model", str(out), "--ratings", str(lake.base), "--ranking-users", "0"]
    assert evaluate([*words, "--output", str(measured)]) == 0
    record = json.loads((measured / "metrics.json").read_text())
    assert {key: record["model"][key] for key in MORE} == MORE
    assert any(CAVEAT in warning for warning in record["warnings"])


def test_the_nightly_job_keeps_the_objective_and_doubts_the_rmse(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    implicit = ("--implicit", "--alpha", "5", "--lambda", "0.1", "--exponent", "1")
    assert lake.retrain(*implicit, "--max-iter", "3") == 0
    # What is not given is as the current version has it; the margin lets either model win.
    assert lake.retrain("--alpha", "7", "--max-iter", "3", "--margin", "9") == 0
    description = lake.store.load().description
    assert (description["implicit"], description["alpha"]) == (True, 7.0)
    assert "nonnegative" not in description
    lines = (lake.path / "history.jsonl").read_text().splitlines()
    for line in lines[-2:]:
        record = json.loads(line)
        assert record["settings"]["implicit"] is True
        assert any(
            CAVEAT in warning and "--measure ndcg" in warning for warning in record["warnings"]
        )
