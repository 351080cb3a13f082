"""The nightly job as it is run: outcomes, exit codes, and what is in the store afterwards."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

import als_spark.nightly.run_log
from als_spark import ALSModel
from als_spark.cli import spark_job
from als_spark.cli.interrupts import Interrupted
from als_spark.model.files import load_model
from als_spark.model.intervals import load_intervals
from als_spark.nightly import retrain as retrain_module
from als_spark.nightly.fitting import Fitting
from als_spark.spark.read.facts import TableVersion
from als_spark.spark.read.sources import Source, read_source
from als_spark.store.history import RunHistory
from als_spark.store.store import ModelStore
from als_spark.train.bayes.spread import Samples
from jobs.retrain import main
from tests.chunks import BY_TASKS
from tests.jobs.nightly import (
    BASE,
    FRESH,
    N_BASE,
    Lake,
    fresh_lines,
    held_out_by_time,
    last_of_pairs,
)
from tests.pages import pictures, read_page, section_of, warnings_of

FACTORS = ("user_factors.parquet", "item_factors.parquet")
VERSION_FILES = {
    *("model.json", *FACTORS, "manifest.json"),
    *("metrics.json", "fingerprint.json", "config.json", "versions.json"),
}


@pytest.fixture(scope="module")
def first(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake whose store has one version; only to be read and copied."""
    lake = Lake(tmp_path_factory.mktemp("first"))
    assert lake.retrain() == 0
    return lake


@pytest.fixture
def lake(first: Lake, tmp_path: Path) -> Lake:
    """A copy of it."""
    return Lake(tmp_path, first.path)


class TestPublished:
    def test_the_first_run_writes_files_that_agree(self, first: Lake) -> None:
        (record,) = first.history()
        assert record["outcome"] == record["status"] == "published"
        assert record["exit_code"] == 0
        assert record["job"] == "retrain"
        assert record["version"] == first.store.current()
        assert record["previous_version"] is None
        assert record["warnings"] == []
        assert first.pointers() == [(record["version"], "publish")]
        folder = first.path / "versions" / record["version"]
        assert {path.name for path in folder.iterdir()} == VERSION_FILES
        model = load_model(folder)
        assert (model.rank, model.description["lambda_reg"]) == (3, 2.0)
        assert model.description["start"] == record["training"]["start"] == "cold"
        assert model.description["warm_runs"] == 0
        assert sorted(model.users.ids.to_pylist()) == sorted(set(BASE.users.tolist()))
        held_out = record["challenger"]["count"]
        assert model.user_stats.degrees.sum() == model.item_stats.degrees.sum() == N_BASE - held_out
        assert 0.05 * N_BASE < held_out < 0.15 * N_BASE
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["held_out"] == record["challenger"]
        assert metrics["verdict"] == record["comparison"]["verdict"]
        assert metrics["train"]["objective"] == record["training"]["objective"]
        facts = json.loads((folder / "fingerprint.json").read_text())
        assert facts.items() <= record["data"].items()
        assert facts["ratings"] == N_BASE
        assert (facts["lowest"], facts["highest"]) == (BASE.ratings.min(), BASE.ratings.max())
        assert facts["mean"] == pytest.approx(BASE.ratings.mean(), rel=1e-12)
        config = json.loads((folder / "config.json").read_text())
        assert config == record["config"]
        assert json.loads((folder / "versions.json").read_text()) == record["versions"]
        page = read_page(first.report())
        assert record["sentence"] in page.one("header").text
        run = json.loads((first.path / "runs" / record["run"] / "run.json").read_text())
        assert run == record
        assert [row["problem"] for row in run["source"]["first_rows"]] == 5 * [None]
        first_line = BASE.lines()[0].split(",")
        assert str(run["source"]["first_rows"][0]["user"]) == first_line[0]
        (part,) = run["source"]["parts"]
        assert part["columns"][0] == {"name": "userId", "type": "string", "role": "user"}
        values, counts = np.unique(BASE.ratings, return_counts=True)
        bars = run["data"]["histogram"]
        assert bars == [[v, v, n] for v, n in zip(values, counts.tolist(), strict=True)]
        assert "The first rows, as understood." in first.report()

    def test_the_model_of_parquet_files_is_that_of_text(
        self, first: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", logger="als_spark")
        lake = Lake(tmp_path)
        assert lake.retrain(base=lake.parquet("base.csv")) == 0
        assert BY_TASKS in caplog.text
        ours, theirs = lake.last(), first.last()
        for part, tolerance in (("data", 1e-12), ("challenger", 1e-4)):
            for name, value in theirs[part].items():
                is_exact = not isinstance(value, float)
                close = value if is_exact else pytest.approx(value, rel=tolerance)
                assert ours[part][name] == close, name
        models = [found.store.load() for found in (lake, first)]
        for side in ("users", "items"):
            one, other = (getattr(model.factors, side) for model in models)
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)

    def test_the_held_out_errors_are_those_of_the_stored_factors(self, tmp_path: Path) -> None:
        # The latest ratings are held out: which they are can be told without Spark.
        lake = Lake(tmp_path)
        assert lake.retrain("--split", "time", "--dtype", "float64") == 0
        test = held_out_by_time(BASE)
        model = lake.store.load()
        users, items = (
            {key: row for row, key in enumerate(index.ids.to_pylist())}
            for index in (model.users, model.items)
        )
        rows = [users[user] for user in BASE.users[test].tolist()]
        columns = [items[item] for item in BASE.items[test].tolist()]
        assert (model.user_stats.degrees[rows] > 0).all(), "the drawn ratings have no cold users"
        predicted = np.sum(model.factors.users[rows] * model.factors.items[columns], axis=1)
        errors = BASE.ratings[test] - predicted
        metrics = lake.last()["challenger"]
        assert metrics["count"] == test.sum()
        assert metrics["mse"] == pytest.approx(np.mean(errors**2), rel=1e-9)
        assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-9)
        assert metrics["mae"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-9)

    @pytest.mark.slow
    def test_warm_cold_and_another_rank(self, lake: Lake) -> None:
        today = lake.file("today.csv", fresh_lines())
        options = ("--increments", today, "--full-every", "2", "--margin", "0.2")
        assert lake.retrain(*options) == 0
        record = lake.last()
        assert record["training"]["start"] == "warm"
        assert lake.history()[0]["version"] in record["training"]["reason"]
        # All users and items of the new ratings are known already.
        assert "100.0% of the rows" in record["training"]["reason"]
        assert record["champion"]["count"] == record["challenger"]["count"]
        assert record["data"]["unknown_share"] == 0
        assert record["previous_version"] == lake.history()[0]["version"]
        assert lake.store.load().description["warm_runs"] == 1
        assert lake.retrain(*options, "--tol", "0.002") == 0
        record = lake.last()
        assert record["training"]["start"] == "cold"
        assert record["training"]["reason"] == "a full training every 2 runs"
        assert lake.store.load().description["warm_runs"] == 0
        assert lake.retrain(*options, "--rank", "4") == 0
        record = lake.last()
        assert record["training"]["start"] == "cold"
        assert record["training"]["reason"] == "the current version has rank 3, not 4"
        assert lake.store.load().rank == 4

    def test_a_warm_start_is_what_it_says(self, lake: Lake) -> None:
        # From the end of a training the stopping rule is met at once, and the model stays.
        before = lake.store.load()
        assert lake.retrain("--force", "--margin", "0.1") == 0
        after = lake.store.load()
        assert after.description["iterations"] <= 3 < before.description["iterations"]
        np.testing.assert_allclose(after.factors.users, before.factors.users, atol=0.02)

    @pytest.mark.slow
    def test_later_increments_win_where_there_are_no_timestamps(self, lake: Lake) -> None:
        again = BASE.part(slice(0, 100))
        again = again._replace(ratings=np.where(again.ratings > 3, 2.0, 3.5))
        lines = [line.rsplit(",", 1)[0] for line in again.lines()]
        today = lake.file("today.csv", lines, header="userId,movieId,rating")
        options = ("--increments", today, "--margin", "10", "--max-mean-shift", "1")
        assert lake.retrain(*options) == 0
        data = lake.last()["data"]
        wanted = [rating for rating, _ in last_of_pairs(BASE, again).values()]
        assert data["ratings"] == len(wanted) == N_BASE
        assert data["duplicates"] == 100
        (warning,) = lake.last()["warnings"]
        assert warning.startswith(f"no timestamps in {today}: of a pair that is rated in several")
        assert data["mean"] == pytest.approx(np.mean(wanted), rel=1e-12)

    @pytest.mark.slow
    def test_with_timestamps_the_time_decides_and_not_the_order(self, lake: Lake) -> None:
        old = BASE.part(slice(0, 50))
        old = old._replace(ratings=np.full(50, 1.5), times=old.times - 10**6)
        late = BASE.part(slice(50, 80))
        late = late._replace(ratings=np.full(30, 4.0), times=late.times + 10**6)
        files = [lake.file("old.csv", old.lines()), lake.file("late.csv", late.lines())]
        options = ("--margin", "10", "--max-mean-shift", "1", "--max-fresh-mean-shift", "1")
        assert lake.retrain("--increments", *files, *options) == 0
        wanted = [rating for rating, _ in last_of_pairs(BASE, late).values()]
        assert lake.last()["data"]["mean"] == pytest.approx(np.mean(wanted), rel=1e-12)

    @pytest.mark.slow
    def test_a_champion_of_another_split_is_compared_on_what_neither_has_seen(
        self, lake: Lake
    ) -> None:
        ((first, _),) = lake.pointers()
        assert lake.retrain("--seed", "1", "--margin", "1") == 0
        record = lake.last()
        assert record["outcome"] == "published"
        training = record["training"]
        # Its factors have seen what is held out now.
        assert training["start"] == "cold"
        assert (
            training["reason"] == "the current version was trained on ratings that are held out now"
        )
        (warning,) = record["warnings"]
        n = record["challenger"]["count"]
        assert warning == (
            f"version {first} was trained with --split random --test-fraction 0.1 --seed 0: the "
            f"two are compared on the {n:,} ratings that neither was trained on"
        )
        assert 0 < n < 0.03 * N_BASE
        assert record["champion"]["count"] == n
        # The same seed with a smaller part held out is no other split.
        options = ("--seed", "1", "--margin", "1", "--test-fraction", "0.05")
        assert lake.retrain(*options) == 0
        assert lake.last()["warnings"] == []
        assert lake.last()["training"]["start"] == "warm"

    def test_a_champion_that_has_seen_everything(
        self, lake: Lake, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ((first, _),) = lake.pointers()
        assert lake.retrain("--split", "time") == 2
        error = (
            f"version {first} was trained on ratings that --split time --test-fraction 0.1 holds "
            "out (with --split random --test-fraction 0.1 --seed 0), so it cannot be compared with "
            "a challenger: set these options back, or publish a new first model with jobs/train.py"
        )
        assert f"retrain: {error}\n" in capsys.readouterr().err
        assert (lake.last()["outcome"], lake.last()["sentence"]) == ("bad_input", error)


class TestMethods:
    @pytest.mark.slow
    def test_a_variational_model_goes_on_from_last_night(
        self, spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lake = Lake(tmp_path)
        least = ["--ratings", str(lake.base), "--store", str(lake.path), "--ranking-users", "0"]
        # Few ratings: they are trained on in this process.
        least += ["--placement", "grid"]
        options = ["--rank", "2", "--tol", "1e-3", "--dtype", "float64"]
        ids = np.unique(BASE.items).tolist()
        new = max(ids) + 1
        lines = [f"{item},{'abc'[item % 3]},{item % 7}" for item in [*ids, new]]
        films = Path(lake.file("films.csv", lines, header="item,kind,size"))
        options += ["--item-features", str(films), "--item-feature-cols", "kind"]
        assert main([*least, *options, "--method", "variational", "--no-refit"]) == 0
        first = lake.last()
        assert first["settings"]["method"] == "variational"
        assert first["training"]["start"] == "cold"
        # The next night nobody says how: as the version has it, and then on all ratings.
        today = lake.file("today.csv", fresh_lines(0.25))
        night = [*least, "--dtype", "float64", "--margin", "0.2", "--increments", today]
        assert main(night) == 0
        second = lake.last()
        assert second["settings"] == {**first["settings"], "refit": True}
        assert second["settings"]["features"]["item"]["path"] == str(films)
        for model in (lake.store.load(), lake.store.load_before_refit()):
            assert [c["name"] for c in model.description["features"]["item"]["columns"]] == ["kind"]
            assert np.isfinite(model.predict([BASE.users[0]], [new], "nan")).all()
        assert second["training"]["start"] == "warm"
        begun = "100.0% of the rows start at the posterior of version"
        assert begun in second["training"]["reason"]
        assert 3 * second["training"]["iterations"] <= first["training"]["iterations"]
        # On the same held-out ratings, and more.
        assert second["champion"]["count"] == second["challenger"]["count"]
        folder = lake.path / "versions" / second["version"]
        beside = load_intervals(folder / "before_refit")
        whole = load_intervals(folder)
        assert whole.rank == beside.rank == 2
        assert second["refit"]["iterations"] <= second["training"]["iterations"] + 1
        # Each goes with the factors beside it.
        users, items = BASE.users.tolist(), BASE.items.tolist()
        for own, model in (
            (whole, lake.store.load()),
            (beside, lake.store.load_before_refit()),
        ):
            predicted = own.predict(users, items).prediction
            np.testing.assert_allclose(model.predict(users, items), predicted)
        assert lake.store.load().description["refit"] == second["refit"]
        # The estimator's model of the version has them as columns.
        als = ALSModel.fromStore(str(lake.path)).setDeviationCol("sd").setUpperCol("most")
        pairs = list(zip(users, items, strict=True))[:50]
        rows = als.transform(spark.createDataFrame(pairs, "user long, item long")).collect()
        assert als.learnt == lake.store.load().description["posterior"]
        wanted = whole.predict([row.user for row in rows], [row.item for row in rows])
        for name, values in (("sd", wanted.deviation), ("most", wanted.upper)):
            np.testing.assert_allclose([row[name] for row in rows], values, rtol=1e-4)
        assert "variational" in read_page(lake.report()).text
        assert main(night) == 0
        assert lake.last()["outcome"] == "unchanged"
        films.unlink()
        capsys.readouterr()
        assert main(night) == 2
        said = capsys.readouterr().err
        assert f"retrain: {films}" in said
        assert (
            f"features of items as version {second['version']} has them, which are read again: "
            "--item-features says where they are now, --item-features none trains without them"
        ) in said

    @pytest.mark.slow
    def test_other_methods_and_where_they_start(
        self, lake: Lake, capsys: pytest.CaptureFixture[str]
    ) -> None:
        night = ["--ratings", str(lake.base), "--store", str(lake.path), "--ranking-users", "0"]
        night += ["--placement", "grid", "--no-refit", "--margin", "9"]
        for options, reason in (
            (
                ["--method", "variational"],
                "the current version has no variational posterior to start",
            ),
            (
                ["--implicit-features", "2", "--method", "ridge"],
                "no ridge towards a mean to start from",
            ),
            (["--method", "sample", "--burn-in", "1", "--samples", "2"], "goes on from no other"),
        ):
            more = [] if "sample" in options else ["--max-iter", "3"]
            assert main([*night, "--rank", "2", *more, *options]) == 0
            training = lake.last()["training"]
            assert training["start"] == "cold"
            assert reason in training["reason"]
        assert training["iterations"] == 3
        # What its report draws, and the files of its version.
        (picture,) = pictures(section_of(read_page(lake.report()), "Training"))
        assert picture[0].startswith("Lines of the noise of every draw")
        version = lake.path / "versions" / str(lake.last()["version"])
        assert isinstance(load_intervals(version).spread, Samples)
        ridge = ["--method", "ridge", "--implicit-features", "2", "--rank", "2"]
        assert main([*night, *ridge]) == 0
        assert main([*night, "--force"]) == 0
        training = lake.last()["training"]
        assert training["start"] == "warm"
        assert "100.0% of the rows start at version" in training["reason"]
        assert training["iterations"] == 2
        capsys.readouterr()
        assert main([*night, "--noise", "rows"]) == 2
        assert "--noise rows with --method ridge --implicit-features 2, as version" in (
            capsys.readouterr().err
        )


class TestRefit:
    @pytest.mark.slow
    def test_a_winner_is_trained_on_with_all_ratings(self, lake: Lake) -> None:
        (before,) = lake.history()
        refit = ("--refit", "--margin", "0.1", "--dtype", "float64")
        assert lake.retrain(*refit) == 0
        first = lake.last()
        version = lake.path / "versions" / first["version"]
        beside = {f"before_refit/{name}" for name in ("model.json", *FACTORS)}
        listed = json.loads((version / "manifest.json").read_text())["files"]
        assert set(listed) == (VERSION_FILES | beside) - {"manifest.json"}
        # Served is what has seen everything; measured, what has not seen what was held out.
        served, measured = lake.store.load(), lake.store.load_before_refit()
        held_out = first["challenger"]["count"]
        assert served.user_stats.degrees.sum() == served.item_stats.degrees.sum() == N_BASE
        assert measured.user_stats.degrees.sum() == N_BASE - held_out
        assert (served.rank, served.description["lambda_reg"]) == (3, 2.0)
        # The objective of the served factors over all ratings, without Spark.
        squared = (BASE.ratings - served.predict(BASE.users.tolist(), BASE.items.tolist())) ** 2
        objective = squared.sum() + 2.0 * sum(np.sum(side**2) for side in served.factors)
        record = first["refit"]
        assert record["objective"] == pytest.approx(objective, rel=1e-9)
        assert (record["ratings"], record["held_out_before"]) == (N_BASE, held_out)
        assert record["converged"]
        # From its own factors it is not far.
        assert record["iterations"] < before["training"]["iterations"]
        for where in (record, served.description["refit"]):
            assert where["measured"] == "before the refit"
        metrics = json.loads((version / "metrics.json").read_text())
        assert (metrics["refit"], metrics["held_out"]) == (record, first["challenger"])
        assert first["sentence"].endswith("; refitted on all 1,000 ratings after that")
        page = read_page(lake.report())
        assert "before the refit" in page.text
        assert served.description["holdout"]["test_fraction"] == 0
        assert measured.description["holdout"]["test_fraction"] == 0.1
        # The same ratings again are nothing new, but they are if nothing is to be refitted.
        assert lake.retrain(*refit) == 0
        assert lake.last()["outcome"] == "unchanged"
        assert lake.retrain(*refit, "--no-refit") == 0
        second = lake.last()
        assert second["outcome"] == "published"
        # It was compared with the model before the refit, and has started there: on the ratings
        # that both have not seen, it has the measures that it had the night before.
        assert second["champion"] == first["challenger"]
        assert second["training"]["start"] == "warm"
        assert second["training"]["iterations"] <= 3
        assert second["refit"] is None
        assert not (lake.path / "versions" / second["version"] / "before_refit").exists()
        assert lake.store.verify() == []

    def test_a_challenger_that_loses_is_not_refitted(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retrain_module, "refit", None)
        assert lake.retrain("--refit", "--rank", "1", "--max-iter", "1", "--margin", "0") == 3
        assert lake.last()["refit"] is None


class TestUnchanged:
    def test_a_second_run_on_one_snapshot(
        self, lake: Lake, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pointers = lake.pointers()
        assert lake.retrain() == 0
        record = lake.last()
        assert record["outcome"] == "unchanged"
        assert record["training"] is None
        sentence = (
            "nothing new: these 1,000 ratings were trained on already, with the same settings; "
            f"version {pointers[0][0]} stays"
        )
        assert record["sentence"] == sentence
        assert sentence in capsys.readouterr().out
        assert sentence in read_page(lake.report()).text
        assert lake.pointers() == pointers
        # In whatever order and files they come.
        half = len(BASE.users) // 2
        parts = [BASE.part(slice(half, None)), BASE.part(slice(None, half))]
        folder = lake.folder / "parts"
        folder.mkdir()
        for name, part in zip("ab", parts, strict=True):
            lake.file(f"parts/{name}.csv", part.lines()[::-1])
        assert lake.retrain(base=folder) == 0
        assert lake.last()["outcome"] == "unchanged"
        assert lake.retrain("--force", "--margin", "1") == 0
        assert lake.last()["outcome"] == "published"
        assert len(lake.pointers()) == 2
        # Whose ratings they were is said after readers have gone back.
        forced = lake.pointers()[1][0]
        old = lake.store.rollback(run="a person")
        assert lake.retrain() == 0
        assert (
            f"version {old} stays, as after the roll-back from {forced} ("
            in (lake.last()["sentence"])
        )
        assert "(--force trains anew)" in capsys.readouterr().out

    def test_another_version_of_a_table_may_hold_the_same_ratings(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the readers of Delta Lake and Iceberg say, with files in the place of tables."""

        def retrain(version: str) -> dict[str, Any]:
            table = TableVersion(str(lake.base), "Delta", version, "2026-11-25T03:40:55+00:00")

            def read(*words: Any) -> Source:
                return replace(read_source(*words), version=table)

            monkeypatch.setattr(spark_job, "read_source", read)
            assert lake.retrain() == 0
            record = lake.last()
            assert record["outcome"] == "unchanged"
            assert record["data"]["tables"] == [asdict(table)]
            assert f"{lake.base}: Delta, {version}" in read_page(lake.report()).text
            return record

        words = "(another version of the table, but the same ratings: "
        newer = retrain("8")["sentence"]
        assert newer.endswith(f"{words}{lake.base}: Delta, version 8 of 2026-11-25T03:40:55+00:00)")
        assert words not in retrain("8")["sentence"]

    def test_empty_increments_change_nothing_and_are_told_of(self, lake: Lake) -> None:
        (lake.folder / "empty.csv").write_bytes(b"")
        header = lake.file("header.csv")
        assert lake.retrain("--increments", str(lake.folder / "empty.csv"), header) == 0
        record = lake.last()
        assert record["outcome"] == "unchanged"
        first, second = record["warnings"]
        assert first.endswith("empty.csv is empty")
        assert "header.csv" in second

    @pytest.mark.slow
    def test_an_increment_of_rubbish_alone_is_not_nothing_new(self, lake: Lake) -> None:
        rubbish = lake.file("rubbish.csv", ["1,2,x,5", "3,4,y,6"])
        assert lake.retrain("--increments", rubbish) == 4
        assert "unusable rows of" in lake.last()["sentence"]


class TestKept:
    def test_a_worse_challenger_is_not_published(
        self, lake: Lake, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = lake.pointers()
        today = lake.file("today.csv", fresh_lines())
        options = ("--increments", today, "--margin", "0")
        assert lake.retrain(*options, "--rank", "1", "--max-iter", "1") == 3
        record = lake.last()
        assert record["outcome"] == "kept"
        assert record["challenger"]["rmse"] > record["champion"]["rmse"]
        assert record["comparison"]["champion"]["version"] == before[0][0]
        assert f"kept version {before[0][0]}: rmse" in capsys.readouterr().out
        assert record["version"] is None
        assert lake.pointers() == before
        assert [info.name for info in lake.store.versions()] == [before[0][0]]
        # The data were in order: they are the measure of the next run, with other settings.
        assert lake.retrain("--increments", today, "--margin", "0.2") == 0
        assert lake.last()["outcome"] == "published"

    @pytest.mark.slow
    def test_another_margin_is_another_decision(self, lake: Lake) -> None:
        options = ("--increments", lake.file("today.csv", fresh_lines()), "--max-iter", "1")
        useless = ("--rank", "1", "--lambda", "1000", "--margin", "0")
        assert lake.retrain(*options, *useless) == 3
        assert lake.retrain(*options, *useless) == 0
        assert lake.last()["outcome"] == "unchanged"
        assert lake.retrain(*options, *useless[:-1], "9") == 0
        assert lake.last()["outcome"] == "published"

    @pytest.mark.slow
    def test_small_steps_down_do_not_add_up(
        self, lake: Lake, capsys: pytest.CaptureFixture[str]
    ) -> None:
        first = lake.store.current()
        assert lake.retrain("--lambda", "20", "--margin", "9") == 0
        worse = lake.last()["challenger"]["rmse"] / lake.last()["champion"]["rmse"]
        assert worse > 1.05
        options = ("--lambda", "21", "--margin", "0.04")
        assert lake.retrain(*options) == 3
        challenger, champion = lake.last()["challenger"]["rmse"], lake.last()["champion"]["rmse"]
        assert 1 < challenger / champion < 1.04
        assert lake.last()["comparison"]["max_decline"] == pytest.approx(0.12)
        said = capsys.readouterr().out
        assert "within the margin of 4.00%, but with the 1 before it the step makes" in said
        assert f"since version {first}, beyond the 12.00% of --max-decline" in said
        assert lake.last()["comparison"]["verdict"].endswith(" of --max-decline")
        # Nothing has changed; with another limit it is another decision.
        assert lake.retrain(*options) == 0
        assert lake.last()["outcome"] == "unchanged"
        assert lake.retrain(*options, "--max-decline", "9") == 0
        assert lake.last()["outcome"] == "published"

    @pytest.mark.slow
    def test_by_a_measure_of_rankings(self, lake: Lake) -> None:
        today = lake.file("today.csv", fresh_lines())
        options = ("--increments", today, "--measure", "recall", "--margin", "1", "--top", "5")
        options += ("--ranking-users", "20000")
        assert lake.retrain(*options) == 0
        assert "recall" in lake.last()["comparison"]["verdict"]
        assert lake.last()["challenger"]["k"] == 5


def shifted(lake: Lake) -> list[str]:
    high = FRESH._replace(ratings=np.full(len(FRESH.users), 5.0))
    return ["--increments", lake.file("today.csv", high.lines())]


DATA_CHECKS: dict[str, tuple[Callable[[Lake], list[str]], str]] = {
    "max-bad-share": (
        lambda lake: [
            "--increments",
            lake.file("today.csv", [*fresh_lines(), "1,2,good,3", "7,7,,3", "7,7,1e999,3"]),
        ],
        r"unusable rows of .*today\.csv 3 of 203 \(1\.48%\), limit at most 1\.00%",
    ),
    "max-shrink": (
        lambda lake: ["--ratings", lake.file("less.csv", BASE.part(slice(0, 880)).lines())],
        r"ratings 880, limit 900 to 2,000, last run 1,000",
    ),
    "max-growth": (
        lambda lake: [
            *("--increments", lake.file("today.csv", fresh_lines())),
            *("--max-growth", "0.1"),
        ],
        r"ratings 1,200, limit 900 to 1,100, last run 1,000",
    ),
    "range-slack": (
        lambda lake: ["--increments", lake.file("today.csv", [*fresh_lines(), "1,1,5.5,9"])],
        r"highest rating 5\.5, limit at most 5, last run 5",
    ),
    "max-mean-shift": (
        lambda lake: [*shifted(lake), "--max-fresh-mean-shift", "inf"],
        r"mean rating 3\.\d+, limit within 0\.225 of the last run's, last run 2\.\d+|3\.\d+",
    ),
    "max-spread-shift": (
        lambda lake: [
            "--ratings",
            lake.file(
                "close.csv",
                BASE._replace(ratings=(BASE.ratings + BASE.ratings.mean()) / 2).lines(),
            ),
        ],
        r"standard deviation of the ratings 0\.\d+, limit within 0\.225 of .*, last run 1\.\d+",
    ),
    "max-fresh-mean-shift": (
        shifted,
        r"mean rating of .*today\.csv 5, limit within 0\.\d+ of the last run's, last run \d\.\d+",
    ),
    "max-unknown-share": (
        lambda lake: [
            "--increments",
            lake.file("today.csv", FRESH._replace(users=FRESH.users + 900).lines()),
            *("--max-unknown-share", "0.1"),
        ],
        r"ratings of unknown users 1\d\.\d+%, limit at most 10\.00%",
    ),
}


IN_CI = {"max-bad-share", "max-growth", "max-fresh-mean-shift"}
"""A check of the parts, one of the whole, and one of an increment against the last run."""


class TestDataChecks:
    @pytest.mark.parametrize(
        "limit",
        [
            pytest.param(limit, marks=() if limit in IN_CI else pytest.mark.slow)
            for limit in DATA_CHECKS
        ],
    )
    def test_beyond_its_limit(
        self, lake: Lake, capsys: pytest.CaptureFixture[str], limit: str
    ) -> None:
        before = lake.pointers()
        make, says = DATA_CHECKS[limit]
        assert lake.retrain(*make(lake)) == 4
        record = lake.last()
        assert record["outcome"] == "data_check_failed"
        failed = [check for check in record["checks"] if not check["passed"]]
        assert {check["option"] for check in failed} == {limit.replace("-", "_")}
        pattern = rf"^data check failed, nothing was trained: .*(?:{says}) \(--{limit}\)"
        assert re.search(pattern, record["sentence"]), record["sentence"]
        assert record["sentence"] in capsys.readouterr().out
        assert record["training"] is None
        assert lake.pointers() == before

    def test_wider_limits_and_force_let_it_pass(self, lake: Lake) -> None:
        options = [*shifted(lake), "--margin", "10"]
        assert lake.retrain(*options, "--force") == 0
        record = lake.last()
        assert record["outcome"] == "published"
        part, whole = record["warnings"]
        assert part.startswith("data check failed, and --force goes on: mean rating of ")
        assert whole.startswith("data check failed, and --force goes on: mean rating 3.")
        assert warnings_of(read_page(lake.report()))[:2] == [part, whole]

    @pytest.mark.slow
    def test_a_failed_check_is_no_measure_of_the_next_run(self, lake: Lake) -> None:
        less = lake.file("less.csv", BASE.part(slice(0, 880)).lines())
        for _ in range(2):
            assert lake.retrain(base=less) == 4
        assert lake.retrain() == 0
        assert lake.last()["outcome"] == "unchanged"

    @pytest.mark.slow
    def test_a_little_less_every_night_adds_up(
        self, lake: Lake, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def night(name: str, rows: int, *options: str) -> int:
            less = lake.file(name, BASE.part(slice(0, rows)).lines())
            options = (*options, "--max-total-shrink", "0.12", "--margin", "9")
            return lake.retrain(*options, base=less)

        assert night("less.csv", 930) == 0
        assert night("even-less.csv", 865) == 4
        said = capsys.readouterr().out
        assert "data check failed, nothing was trained: ratings since their most 865, " in said
        assert "limit at least 880 of the 1,000 there were (--max-total-shrink)" in said
        # Once somebody has said that this is right, it is.
        assert night("even-less.csv", 865, "--force") == 0
        assert night("even-less.csv", 865) == 0
        assert lake.last()["outcome"] == "unchanged"

    @pytest.mark.slow
    def test_limits_may_be_infinite(self, lake: Lake) -> None:
        assert lake.retrain("--max-growth", "inf") == 0
        assert lake.last()["config"]["max_growth"] == "inf"


class TestBadInput:
    def test_in_the_ratings(self, lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
        before = lake.pointers()
        assert lake.retrain("--increments", str(lake.folder / "nowhere.csv")) == 2
        (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("retrain: ")]
        assert re.search(r"nowhere\.csv: cannot be read: .*: check the path", line)
        record = lake.last()
        assert record["outcome"] == "bad_input"
        assert record["exit_code"] == 2
        assert f"retrain: {record['sentence']}" == line
        assert lake.pointers() == before
        assert lake.retrain("--bad-rows", "error", base=lake.file("x.csv", ["1,2,x,3"])) == 2

    def test_no_held_out_rating(self, lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
        assert lake.retrain("--test-fraction", "1e-9") == 2
        assert "no rating is held out, so challenger and champion" in capsys.readouterr().err
        assert lake.last()["training"] is None, "known before it trains"

    def test_in_the_options(self, lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
        history = lake.history()
        assert lake.retrain("--margin", "-1") == 2
        assert "--margin -1.0: not usable" in capsys.readouterr().err
        assert lake.history() == history

    def test_a_folder_that_is_no_store(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lake = Lake(tmp_path)
        lake.path.mkdir()
        (lake.path / "thesis.txt").write_text("years of work")
        assert lake.retrain() == 2
        assert "holds something else (thesis.txt) and is no model store" in capsys.readouterr().err
        assert [path.name for path in lake.path.iterdir()] == ["thesis.txt"]

    @pytest.mark.slow
    def test_text_among_the_ids_of_a_model_of_integers(
        self, lake: Lake, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = lake.file("text.csv", [*BASE.lines(), "guest,1,3,1800000000"])
        assert lake.retrain(base=text) == 0
        (warning,) = lake.last()["warnings"]
        assert warning == (
            "unusable rows left out: user is text, where the current version has whole numbers "
            "(1 row, such as user=guest, item=1, rating=3.0)"
        )
        assert lake.last()["outcome"] == "unchanged"
        assert lake.retrain("--bad-rows", "error", base=text) == 2
        assert "1 unusable row: user is text" in capsys.readouterr().err
        strangers = lake.file("strangers.csv", [f"u{row}" for row in BASE.lines()])
        assert lake.retrain(base=strangers) == 2
        assert "no usable ratings: user is text" in capsys.readouterr().err

    @pytest.mark.slow
    def test_integers_where_the_model_has_text(self, tmp_path: Path) -> None:
        lake = Lake(tmp_path)
        text = lake.file("text.csv", [*BASE.lines(), "guest,1,3,1800000000"])
        assert lake.retrain(base=text) == 0
        assert not lake.store.load().users.are_integers
        assert lake.retrain("--increments", lake.file("more.csv", fresh_lines())) in (0, 3)
        record = lake.last()
        assert "100.0% of the rows" in record["training"]["reason"]
        assert record["champion"]["cold"] == record["challenger"]["cold"]


class TestOthers:
    def test_locked(self, lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
        before = lake.pointers()
        with lake.store.lock("somebody"):
            assert lake.retrain() == 5
            assert "is locked by run somebody" in capsys.readouterr().err
            assert len(lake.history()) == 1
        assert lake.pointers() == before
        assert lake.retrain() == 0
        outcomes = [record["outcome"] for record in lake.history()]
        assert outcomes == ["published", "locked", "unchanged"]
        assert lake.history()[1]["exit_code"] == 5

    def test_failed(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fails(*_: object, **__: object) -> None:
            raise RuntimeError("the disk\nis full")

        before = lake.pointers()
        with monkeypatch.context() as patched:
            patched.setattr(Fitting, "fit", fails)
            assert lake.retrain("--force") == 1
        assert "Traceback" in capsys.readouterr().err
        record = lake.last()
        assert (record["outcome"], record["exit_code"]) == ("failed", 1)
        assert record["sentence"] == "RuntimeError: the disk is full"
        assert lake.pointers() == before
        # The lock is free again.
        assert lake.retrain() == 0

    def test_stopped_after_the_switch(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def stopped(*_: object, **__: object) -> None:
            raise Interrupted

        with monkeypatch.context() as patched:
            patched.setattr(ModelStore, "prune", stopped)
            assert lake.retrain("--force", "--margin", "1") == 130
        version = lake.store.current()
        sentence = f"stopped by a signal; before that, {version} was published"
        assert f"retrain: {sentence}\n" in capsys.readouterr().err
        record = lake.last()
        assert (record["outcome"], record["exit_code"]) == ("interrupted", 130)
        assert (record["version"], record["sentence"]) == (version, sentence)
        assert len(lake.pointers()) == 2
        # It has done what it was to do.
        assert lake.retrain() == 0
        assert lake.last()["outcome"] == "unchanged"

    def test_pictures_that_fail_are_missed_and_nothing_else(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: object, **__: object) -> None:
            raise MemoryError("no room for a picture")

        with monkeypatch.context() as patched:
            for name in ("quality_picture", "learning_figure", "retrain_page"):
                patched.setattr(als_spark.nightly.run_log, name, fails)
            assert lake.retrain("--force", "--margin", "1") == 0
        record = lake.last()
        assert (record["outcome"], record["exit_code"]) == ("published", 0)
        assert any("the report could not be made (MemoryError" in w for w in record["warnings"])
        assert not (lake.path / "runs" / record["run"] / "report.html").exists()

    def test_killed_after_the_switch(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patched:
            # Its record stays as it was when the last phase began.
            patched.setattr(RunHistory, "finish_run", lambda *_: None)
            increments = ("--increments", lake.file("fresh.csv", fresh_lines()))
            assert lake.retrain(*increments, "--margin", "1") == 0
        version = lake.store.current()
        (run,) = {path.name for path in (lake.path / "runs").iterdir()} - {lake.last()["run"]}
        path = lake.path / "runs" / run / "run.json"
        record = json.loads(path.read_text())
        assert (record["status"], record["phase"]) == ("running", "publishing")
        # As if its process were gone.
        path.write_text(json.dumps({**record, "owner": None}))
        # It has done what it was to do.
        assert lake.retrain(*increments) == 0
        _, dead, record = lake.history()
        assert record["outcome"] == "unchanged"
        sentence = (
            "died while publishing: it was killed, or its machine was lost; before that, it "
            f"published {version}"
        )
        assert (dead["run"], dead["sentence"], dead["version"]) == (run, sentence, version)
        assert record["warnings"] == [f"run {run} {sentence}"]
        page = read_page(lake.report(run))
        assert sentence in page.text
        # What it knew is told: the data, their checks, and which of the two was better.
        assert "1,200" in page.text
        assert dead["comparison"]["verdict"] in page.text

    def test_old_versions_go(self, lake: Lake) -> None:
        assert lake.retrain("--force", "--margin", "1", "--keep", "1") == 0
        names = [version for version, _ in lake.pointers()]
        assert [info.name for info in lake.store.versions()] == names[1:]

    @pytest.mark.slow
    def test_mlflow(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = (lake.folder / "runs").as_uri()
        options = ("--mlflow", uri, "--mlflow-experiment", "nightly")
        assert lake.retrain(*options, "--force", "--margin", "1") == 0
        record = lake.last()
        client = importlib.import_module("mlflow").MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name("nightly")
        (run,) = client.search_runs([found.experiment_id])
        assert run.info.run_name == record["run"]
        assert run.data.metrics["challenger_rmse"] == record["challenger"]["rmse"]
        assert run.data.metrics["champion_rmse"] == record["champion"]["rmse"]
        assert run.data.tags["outcome"] == "published"
        assert run.data.tags["version"] == record["version"]
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]
        # Nothing was trained: there is nothing to log.
        assert lake.retrain(*options) == 0
        assert len(client.search_runs([found.experiment_id])) == 1


class TestDamage:
    def test_the_only_version(self, lake: Lake) -> None:
        ((old, _),) = lake.pointers()
        assert old is not None
        lake.damage(old)
        # These ratings were trained on, but their model is lost.
        assert lake.retrain() == 0
        record = lake.last()
        assert record["outcome"] == "published"
        assert "there was no champion" in record["sentence"]
        damaged, nothing = record["warnings"]
        assert damaged.startswith("the current version is damaged: ")
        assert nothing == "no older version is intact: there is nothing to compare with"
        assert lake.store.load().description["start"] == "cold"

    @pytest.mark.slow
    def test_the_next_model_is_trained_as_the_lost_ones_were(self, tmp_path: Path) -> None:
        lake = Lake(tmp_path)
        sources = ("--ratings", str(lake.base), "--store", str(lake.path), "--max-iter", "3")
        assert main([*sources, "--rank", "4", "--lambda", "0.03", "--exponent", "1"]) == 0
        ((old, _),) = lake.pointers()
        assert old is not None
        lake.damage(old)
        # A lambda alone belongs to the objective that was before.
        assert main([*sources, "--lambda", "0.05"]) == 0
        model = lake.store.load()
        found = (model.rank, model.description["lambda_reg"], model.description["exponent"])
        assert found == (4, 0.05, 1.0)

    def test_the_current_pointer(self, lake: Lake) -> None:
        today = lake.file("today.csv", fresh_lines())
        assert lake.retrain("--increments", today, "--margin", "0.2") == 0
        (first, _), (second, _) = lake.pointers()
        (lake.path / "pointers" / "0000000002.json").write_bytes(b"{")
        assert lake.retrain("--increments", today, "--margin", "1") == 0
        damaged, back = lake.last()["warnings"]
        assert "the current pointer pointers/0000000002.json cannot be read" in damaged
        assert back == f"rolled back to version {first}, which readers get until a new one"
        assert lake.last()["outcome"] == "published"
        assert lake.store.current() not in (first, second)

    @pytest.mark.slow
    def test_an_older_version_takes_over_whatever_becomes_of_the_challenger(
        self, lake: Lake
    ) -> None:
        today = lake.file("today.csv", fresh_lines())
        assert lake.retrain("--increments", today, "--margin", "0.2") == 0
        (old, _), (new, _) = lake.pointers()
        assert new is not None
        lake.damage(new)
        useless = ("--rank", "1", "--max-iter", "1", "--margin", "0")
        assert lake.retrain("--increments", today, *useless) == 3
        record = lake.last()
        assert record["sentence"].startswith(f"kept version {old}: ")
        assert f"rolled back to version {old}" in record["warnings"][1]
        # What is kept is what readers get.
        assert lake.store.current() == old
        assert lake.store.load().rank == 3
        assert lake.pointers()[2:] == [(old, "rollback")]
        assert lake.retrain("--increments", today, "--margin", "0.2") == 0
        assert lake.last()["previous_version"] == old

    @pytest.mark.slow
    def test_after_a_rollback(self, lake: Lake) -> None:
        today = lake.file("today.csv", fresh_lines(0.5))
        assert lake.retrain("--increments", today, "--margin", "0.2") == 0
        (old, _), (new, _) = lake.pointers()
        assert lake.store.rollback(run="a person") == old
        # The same ratings do not bring back what a person has taken away.
        assert lake.retrain("--increments", today) == 0
        assert lake.last()["outcome"] == "unchanged"
        assert lake.store.current() == old
        more = lake.file("more.csv", fresh_lines())
        assert lake.retrain("--increments", more, "--margin", "0.2") == 0
        record = lake.last()
        assert record["previous_version"] == record["comparison"]["champion"]["version"] == old
        assert record["version"] not in (old, new)
        assert str(old) in record["training"]["reason"]
