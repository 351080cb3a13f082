"""``jobs/train.py``: one model into a store or a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from als_spark.model.files import load_model
from als_spark.model.intervals import load_intervals
from jobs.evaluate import main as evaluate
from jobs.recommend import main as recommend
from jobs.train import main
from tests.jobs.nightly import BASE, N_BASE, SMALL, Lake, fresh_lines, held_out_by_time

pytestmark = pytest.mark.usefixtures("spark")

FILES = {
    *("model.json", "user_factors.parquet", "item_factors.parquet"),
    *("metrics.json", "fingerprint.json", "config.json", "versions.json", "run.json"),
    "_ALS_SPARK",
}


def sweep_folder(folder: Path) -> Path:
    """What ``jobs/sweep.py`` leaves, as far as a training takes notice of it."""
    folder.mkdir()
    points = [
        {"d": 1, "lambda_reg": 1.0, "best": False},
        {"d": 2, "lambda_reg": 0.05, "best": True},
    ]
    (folder / "results.json").write_text(json.dumps(points))
    (folder / "run.json").write_text(json.dumps({"config": {"exponent": 1.0}}))
    return folder


def record_of(path: Path) -> dict[str, Any]:
    record = json.loads(path.read_text())
    assert isinstance(record, dict)
    return record


class TestIntoAFolder:
    @pytest.mark.slow
    def test_ids_as_other_programs_leave_them_are_counted(self, tmp_path: Path) -> None:
        lake, out = Lake(tmp_path), tmp_path / "out"
        lines = lake.base.read_text().splitlines()[1:]
        user, rest = lines[0].split(",", 1)
        odd = [f"{user}.0,{rest}", "NULL,1,3,5", "1,1E+5,3,5"]
        file = lake.file("odd.csv", [*lines[1:], *odd])
        options = ["--rank", "2", "--max-iter", "2", "--ranking-users", "0", "--bad-rows", "drop"]
        assert main([*options, "--ratings", file, "--output", str(out)]) == 0
        run, model = record_of(out / "run.json"), load_model(out)
        data = [run["data"][name] for name in ("ratings", "bad_rows", "changed_ids")]
        assert data == [N_BASE, 2, 1]
        assert any("user is missing: a null word (1 row" in words for words in run["warnings"])
        assert (
            f"1 user id written with decimals, such as {user}.0: read as {user}" in run["warnings"]
        )
        assert model.users.are_integers
        assert model.items.are_integers
        # The same ratings as if all were written alike.
        assert main([*options, "--ratings", str(lake.base), "--output", str(out)]) == 0
        again = load_model(out)
        assert again.description["fingerprint"] == model.description["fingerprint"]
        assert again.users.ids.equals(model.users.ids)

    def test_a_bayesian_method_trains_saves_and_tells(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lake, out = Lake(tmp_path), tmp_path / "out"
        options = ["--ratings", str(lake.base), "--output", str(out), "--ranking-users", "0"]
        options += ["--dtype", "float64", "--implicit-features", "3", "--rank", "2"]
        assert main([*options, "--method", "variational", "--max-iter", "6"]) == 0
        posterior = {"posterior.json", "user_posterior.parquet", "item_posterior.parquet"}
        assert {path.name for path in out.iterdir()} == FILES | posterior
        model, intervals, run = load_model(out), load_intervals(out), record_of(out / "run.json")
        assert "d=2, variational, noise 0." in capsys.readouterr().out
        assert (run["training"]["rank"], run["settings"]["method"]) == (2, "variational")
        assert run["training"]["iterations"] == 6
        bounds = [-objective for _, objective, _ in run["training"]["history"]]
        assert bounds == sorted(bounds)
        users, items = BASE.users.tolist(), BASE.items.tolist()
        known = ~np.isnan(model.predict(users, items, "nan"))
        found = intervals.predict(users, items, 0.9)
        np.testing.assert_allclose(model.predict(users, items)[known], found.prediction[known])
        within = (found.lower <= BASE.ratings) & (BASE.ratings <= found.upper)
        assert 0.8 < within[known].mean() < 1
        capsys.readouterr()
        measured = ["--model", str(out), *options[:2], "--output", str(tmp_path / "measured")]
        assert evaluate([*measured, "--ranking-users", "0"]) == 0
        share = within[known].mean()
        assert f"{share:.1%} within those of 90%" in capsys.readouterr().out
        record = record_of(tmp_path / "measured" / "metrics.json")
        assert {"coverage": 0.9, "observed": share} in record["calibration"]["intervals"]
        assert record["model"]["learnt"]["prior_deviations"]["products"] > 0
        assert run["training"]["learnt"] == record["model"]["learnt"]
        served = ["--model", str(out), "--output", str(tmp_path / "best"), "--top", "4"]
        assert recommend([*served, "--risk", "averse", "--coverage", "0.6"]) == 0
        rows = pq.read_table(tmp_path / "best").to_pylist()
        rated = model.items.ids.to_numpy()[model.item_stats.degrees > 0].tolist()
        for row in [row for row in rows if row["source"] == "model"][:5]:
            lower = intervals.predict([row["user"]] * len(rated), rated, 0.6).lower
            order = np.argsort(-lower, kind="stable")[:4]
            given = [(pair["item"], pair["score"]) for pair in row["recommendations"]]
            assert [item for item, _ in given] == [rated[k] for k in order]
            np.testing.assert_allclose([score for _, score in given], lower[order])
        # A sampled model has intervals of its own, in place of those of the earlier run.
        assert main([*options, "--method", "sample", "--burn-in", "2", "--samples", "5"]) == 0
        assert {path.name for path in out.iterdir()} == FILES | posterior
        model, intervals = load_model(out), load_intervals(out)
        found = intervals.predict(users, items)
        np.testing.assert_allclose(model.predict(users, items)[known], found.prediction[known])
        assert recommend([*served, "--risk", "averse"]) == 0
        row = next(
            r for r in pq.read_table(tmp_path / "best").to_pylist() if r["source"] == "model"
        )
        lower = intervals.predict([row["user"]] * len(rated), rated).lower
        scores = [pair["score"] for pair in row["recommendations"]]
        np.testing.assert_allclose(scores, np.sort(lower)[:-5:-1])
        told = model.description["posterior"]
        assert (told["method"], told["samples"], told["n_features"]) == ("sample", 5, 3)
        run = record_of(out / "run.json")
        samples = run["training"]["samples"]
        assert (run["training"]["iterations"], samples["burn_in"]) == (7, 2)
        assert len(samples["noise"]) == 7
        assert [iteration for iteration, _ in samples["rmse"]] == [3, 4, 5, 6, 7]
        assert samples["rmse"][-1][1] == pytest.approx(run["challenger"]["rmse"], rel=1e-6)
        assert "sample, noise" in capsys.readouterr().out
        assert recommend([*served, "--risk", "thompson"]) == 0
        assert main([*options, "--lambda", "4", "--max-iter", "3"]) == 0
        assert {path.name for path in out.iterdir()} == FILES
        assert recommend([*served, "--risk", "thompson"]) == 2
        said, refused = capsys.readouterr()
        assert f"{out} has no intervals, so nothing tells how uncertain" in refused
        model, run = load_model(out), record_of(out / "run.json")
        told = model.description["posterior"]
        assert (told["reg"], told["feature_ridge"], told["n_features"]) == (4, 300, 3)
        assert model.description["lambda_reg"] == 4
        assert run["settings"]["method"] == "ridge towards a mean"
        assert run["training"]["iterations"] == 3
        assert run["challenger"]["rmse"] < 1.5
        assert "d=2, lambda=4, exponent=0: stopped by the cap after 3 iterations" in said
        assert main([*options, "--lambda", "0"]) == 2
        assert "--lambda 0.0: use a finite number above 0" in capsys.readouterr().err

    @pytest.mark.slow
    def test_items_are_known_by_their_features(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lake, out = Lake(tmp_path), tmp_path / "out"
        ids = np.unique(BASE.items)
        new = ids.max() + 1 + np.arange(3)
        kinds = ["Drama|War", "Drama", "Comedy"]
        lines = [f"{item},{kinds[item % 3]},{item % 7}" for item in [*ids[1:], *new]]
        films = lake.file("films.csv", lines, header="item,genres,size")
        options = ["--ratings", str(lake.base), "--output", str(out), "--ranking-users", "0"]
        options += ["--dtype", "float64", "--item-features", films, "--rank", "2"]
        assert main([*options, "--method", "variational", "--max-iter", "3"]) == 0
        said = capsys.readouterr().out
        assert "d=2, variational, noise 0." in said
        model, run = load_model(out), record_of(out / "run.json")
        held_out = int(np.count_nonzero(model.item_stats.degrees == 0)) - 3
        assert model.item_stats.n_by_features in (held_out + 3, held_out + 2)
        found = model.predict([BASE.users[0]] * 3, new.tolist(), "nan")
        assert np.isfinite(found).all()
        moments = load_intervals(out).predict([BASE.users[0]] * 3, new.tolist())
        np.testing.assert_allclose(moments.prediction, found)
        own = run["features"]["item"]
        assert (own["rows"], own["features"], own["rated_without"]) == (ids.size + 2, 4, 1)
        assert [column["name"] for column in own["columns"]] == ["size", "genres"]
        assert own["by_features_alone"] == model.item_stats.n_by_features
        assert model.description["features"] == run["features"]
        assert any("1 rated items have no features" in words for words in run["warnings"])
        lake.file("films.csv", [*lines, lines[0]], header="item,genres,size")
        assert main([*options, "--bad-rows", "drop"]) == 2
        refused = capsys.readouterr().err
        assert f"item {ids[1]} is there 2 times: give one row of features for each id" in refused

    def test_files_and_errors_agree(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lake, out = Lake(tmp_path), tmp_path / "out"
        options = ["--rank", "3", "--lambda", "2", "--max-iter", "300", "--ranking-users", "0"]
        options += ["--ratings", str(lake.base), "--dtype", "float64", "--split", "time"]
        assert main([*options, "--output", str(out)]) == 0
        assert {path.name for path in out.iterdir()} == FILES
        model, run = load_model(out), record_of(out / "run.json")
        assert (model.rank, model.description["lambda_reg"]) == (3, 2.0)
        assert model.user_stats.degrees.sum() == N_BASE - run["challenger"]["count"]
        # The objective of the stored factors, and the errors on the latest ratings, without Spark.
        test = held_out_by_time(BASE)
        predicted = model.predict(BASE.users.tolist(), BASE.items.tolist())
        squared = (BASE.ratings - predicted) ** 2
        assert run["challenger"]["mse"] == pytest.approx(squared[test].mean(), rel=1e-9)
        # A lambda given alone keeps the default's exponent, 1: times the ratings of each row.
        assert model.description["exponent"] == 1
        ridge = 2.0 * sum(
            float(stats.degrees @ np.sum(np.square(factors, dtype=np.float64), axis=1))
            for stats, factors in zip(
                (model.user_stats, model.item_stats), model.factors, strict=True
            )
        )
        objective = squared[~test].sum() + ridge
        assert run["training"]["objective"] == pytest.approx(objective, rel=1e-9)
        assert run["data"]["ratings"] == N_BASE
        assert run["config"]["output"] == str(out)
        assert {"looking at the ratings", "training", "evaluating", "total"} <= set(run["seconds"])
        said = capsys.readouterr().out
        assert f"RMSE {run['challenger']['rmse']:.4f} on 100 held-out ratings" in said
        assert f"The model is in {out}." in said

    def test_only_what_is_ours_is_replaced(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lake, out = Lake(tmp_path), tmp_path / "out"
        options = [*SMALL, "--ratings", str(lake.base), "--output", str(out)]
        out.mkdir()
        (out / "thesis.txt").write_text("years of work")
        assert main(options) == 2
        assert "holds 'thesis.txt', which no earlier train has written" in capsys.readouterr().err
        assert [path.name for path in out.iterdir()] == ["thesis.txt"]
        (out / "thesis.txt").unlink()
        # Nothing held out: nothing to measure.
        more = ["--ranking-users", "5", "--relevant-from", "1e308"]
        assert main([*options, "--test-fraction", "0", "--max-iter", "2", *more]) == 0
        assert {path.name for path in out.iterdir()} == FILES
        run = record_of(out / "run.json")
        (warning,) = run["warnings"]
        assert warning.startswith("--relevant-from 1e+308: no rating of ")
        assert warning.endswith(
            " is as high, the highest is 5, so there are no ranking measures: give a smaller one"
        )
        assert run["challenger"] is None
        assert record_of(out / "metrics.json")["held_out"] is None
        assert load_model(out).user_stats.degrees.sum() == N_BASE
        said = capsys.readouterr().out
        assert "stopped by the cap after 2 iterations\n" in said
        assert main([*options, "--ratings", lake.file("bad.csv", ["1,2,x,3"])]) == 2
        assert {path.name for path in out.iterdir()} == FILES
        assert {path.name for path in tmp_path.iterdir()} == {"base.csv", "bad.csv", "out"}

    @pytest.mark.slow
    def test_the_best_point_of_a_sweep(self, tmp_path: Path) -> None:
        lake, out = Lake(tmp_path), tmp_path / "out"
        sweep = sweep_folder(tmp_path / "sweep")
        options = ["--ratings", str(lake.base), "--output", str(out), "--max-iter", "3"]
        assert main([*options, "--from-sweep", str(sweep)]) == 0
        model = load_model(out)
        spec = (model.rank, model.description["lambda_reg"], model.description["exponent"])
        assert spec == (2, 0.05, 1.0)
        assert main([*options, "--from-sweep", str(sweep), "--rank", "4"]) == 0
        assert load_model(out).rank == 4

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (None, r"results.json: No such file or directory"),
            ("[]", r"no point is marked as the best"),
            ("{", r"Expecting property name"),
            ('[{"best": true}]', r"results.json: d: Field required"),
        ],
    )
    def test_no_sweep_there(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, says: str
    ) -> None:
        lake, sweep = Lake(tmp_path), sweep_folder(tmp_path / "sweep")
        (sweep / "results.json").unlink()
        if content is not None:
            (sweep / "results.json").write_text(content)
        options = ["--ratings", str(lake.base), "--output", str(tmp_path / "out")]
        assert main([*options, "--from-sweep", str(sweep)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"train: --from-sweep {sweep}: no results of a sweep there (")
        assert says in said
        assert not (tmp_path / "out").exists()


class TestIntoAStore:
    @pytest.mark.slow
    def test_published_then_retrained(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lake = Lake(tmp_path)
        options = [*SMALL, "--ratings", str(lake.base), "--store", str(lake.path)]
        assert main(options) == 0
        record = lake.last()
        version = lake.store.current()
        assert (record["job"], record["outcome"], record["exit_code"]) == ("train", "published", 0)
        assert (record["version"], record["previous_version"]) == (version, None)
        assert record["training"]["reason"] == "a model of its own"
        assert f"Published as version {version} of {lake.path}." in capsys.readouterr().out
        assert record["sentence"] in lake.report()
        with lake.store.lock("somebody"):
            assert main(options) == 5
        assert "is locked by run somebody" in capsys.readouterr().err
        assert main([*options, "--keep", "1", "--refit"]) == 0
        assert "; refitted on all 1,000 ratings: converged after" in lake.last()["sentence"]
        served = lake.store.load()
        assert served.user_stats.degrees.sum() == lake.last()["refit"]["ratings"] == N_BASE
        # It trains because it was told to, and from the usual start.
        first, second = (name for name, _ in lake.pointers())
        assert lake.last()["previous_version"] == first == version
        assert [info.name for info in lake.store.versions()] == [second]
        assert main([*options, "--ratings", lake.file("bad.csv", ["1,2,x,3"])]) == 2
        assert lake.last()["outcome"] == "bad_input"
        # What was published is the champion of the nightly job, and its start.
        assert lake.retrain("--refit") == 0
        assert lake.last()["outcome"] == "unchanged"
        increments = ("--increments", lake.file("fresh.csv", fresh_lines()))
        assert lake.retrain(*increments, "--margin", "0.2") == 0
        record = lake.last()
        assert record["comparison"]["champion"]["version"] == second
        assert record["warnings"] == [], "neither has seen what is held out"
        assert record["training"]["start"] == "warm"
        assert lake.store.verify() == []

    def test_store_or_output(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        lake = Lake(tmp_path)
        assert main(["--ratings", str(lake.base)]) == 2
        assert "--store and --output: give one of the two" in capsys.readouterr().err
