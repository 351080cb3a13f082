"""``jobs/evaluate.py`` against NumPy on the stored factors."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from als_spark.model.factor_model import FactorModel
from jobs.evaluate import main
from jobs.sweep import main as sweep
from tests.chunks import BY_TASKS
from tests.conftest import random_triples
from tests.jobs.nightly import BASE, FRESH, Lake
from tests.pages import pictures, read_page, warnings_of

FILES = {"metrics.json", "breakdown.png", "calibration.png", "report.html", "_ALS_SPARK"}


@pytest.fixture(scope="module")
def lake(spark: object, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with a model and newer ratings, some of which are of new users and items."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    assert lake.retrain("--dtype", "float64") == 0
    strange = ["9001,3,4.5,5", "9001,9009,2,5", "4,9009,3.5,5"]
    lake.file("fresh.csv", [*FRESH.lines(), *strange])
    return lake


def fresh(lake: Lake) -> list[tuple[int, int, float]]:
    rows = (line.split(",") for line in (lake.folder / "fresh.csv").read_text().splitlines()[1:])
    return [(int(user), int(item), float(rating)) for user, item, rating, _ in rows]


def predict(model: FactorModel, user: int, item: int) -> float:
    """Product of the factors, else the mean training rating of the user, of the item, of all."""
    users, items = model.users.ids.to_pylist(), model.items.ids.to_pylist()
    if user in users and item in items:
        row, column = users.index(user), items.index(item)
        return float(model.factors.users[row] @ model.factors.items[column])
    for ids, stats, key in ((users, model.user_stats, user), (items, model.item_stats, item)):
        if key in ids:
            return float(stats.sums[ids.index(key)] / stats.degrees[ids.index(key)])
    return float(model.user_stats.sums.sum() / model.user_stats.degrees.sum())


@pytest.mark.usefixtures("drawn")
def test_errors_and_rankings(
    lake: Lake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="als_spark")
    out = tmp_path / "out"
    ratings, model, top = fresh(lake), lake.store.load(), 4
    options = ["--store", str(lake.path), "--ratings", lake.parquet("fresh.csv")]
    options += ["--exclude-seen", str(lake.base), "--top", str(top), "--relevant-from", "3.5"]
    assert main([*options, "--output", str(out)]) == 0
    assert BY_TASKS in caplog.text
    assert {path.name for path in out.iterdir()} == FILES
    record = json.loads((out / "metrics.json").read_text())
    metrics = record["metrics"]
    errors = np.array([rating - predict(model, user, item) for user, item, rating in ratings])
    assert metrics["count"] == len(ratings)
    assert metrics["cold"] == 3
    assert metrics["mse"] == pytest.approx(np.mean(errors**2), rel=1e-9)
    assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-9)
    assert metrics["mae"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-9)
    seen = set(zip(BASE.users.tolist(), BASE.items.tolist(), strict=True))
    relevant: dict[int, set[int]] = {}
    for user, item, rating in ratings:
        if rating >= 3.5:
            relevant.setdefault(user, set()).add(item)
    popular = model.items.ids.to_numpy()[np.lexsort((model.items.ids, -model.item_stats.degrees))]
    recalls, precisions, gains, recommended = [], [], [], set()
    for user, wanted in relevant.items():
        left = [i for i in model.items.ids.to_pylist() if (user, i) not in seen]
        if user in model.users.ids.to_pylist():
            best = sorted(left, key=lambda item: -predict(model, user, item))[:top]
        else:
            best = popular[:top].tolist()
        hits = [item in wanted for item in best]
        recommended |= set(best)
        recalls.append(sum(hits) / len(wanted))
        precisions.append(sum(hits) / top)
        ideal = sum(1 / math.log2(k + 2) for k in range(min(len(wanted), top)))
        gains.append(sum(hit / math.log2(k + 2) for k, hit in enumerate(hits)) / ideal)
    assert metrics["ranking_users"] == len(relevant)
    assert metrics["recall"] == pytest.approx(np.mean(recalls), rel=1e-9)
    assert metrics["precision"] == pytest.approx(np.mean(precisions), rel=1e-9)
    assert metrics["ndcg"] == pytest.approx(np.mean(gains), rel=1e-9)
    assert metrics["coverage"] == pytest.approx(len(recommended) / len(model.items), rel=1e-9)
    for bins in (record["by_user"], record["by_item"]):
        assert sum(entry["count"] for entry in bins) == len(ratings)
    assert record["by_user"][0]["count"] == 2
    version = lake.store.current()
    assert record["model"]["version"] == version
    said = capsys.readouterr().out
    # Which of the two does better is a matter of the draw; that it is said is not.
    own, theirs = (r["by_source"]["model"] for r in (record, record["baselines"]["popular"]))
    assert own["users"] == theirs["users"] == len(relevant) - 1
    assert record["by_source"]["popular"]["users"] == 1
    better = [
        record["baselines"]["biases"]["rmse"] < metrics["rmse"],
        theirs["ndcg"] > own["ndcg"],
    ]
    words = ("worse than the biases alone", "the popular items make better lists")
    assert len(record["warnings"]) == sum(better)
    for expected, text in zip(better, words, strict=True):
        assert any(text in warning for warning in record["warnings"]) == expected
        assert (text in said) == expected
    rmse = record["baselines"]["biases"]["rmse"]
    assert f"biases alone (damped means of users and items): RMSE {rmse:.4f}, MAE" in said
    assert "the model's, users that the model knows" in said
    assert f"version {version} of {lake.path} on {len(ratings)} ratings:" in said
    assert f"rmse      {metrics['rmse']:.4f}" in said
    page = read_page((out / "report.html").read_text())
    drawn = [picture for _, picture in pictures(page)]
    assert drawn == [(out / f"{name}.png").read_bytes() for name in ("breakdown", "calibration")]
    assert f"{metrics['rmse']:.4f}" in page.text
    assert "popular items, users that the model knows" in page.text


@pytest.mark.slow
def test_a_folder_without_what_was_seen_and_with_bad_rows(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    twice = lake.file("twice.csv", [*FRESH.lines()[:20], *FRESH.lines()[:5], "1,2,x,9"])
    folder = lake.path / "versions" / str(lake.store.current())
    options = ["--model", str(folder), "--ratings", twice, "--output", str(out)]
    assert main(options) == 2
    assert "1 unusable row: rating is not a number" in capsys.readouterr().err
    assert not out.exists()
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    assert main([*options, "--bad-rows", "drop"]) == 2
    assert "holds 'thesis.txt', which no earlier evaluate has written" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    (out / "thesis.txt").unlink()
    assert main([*options, "--bad-rows", "drop"]) == 0
    assert {path.name for path in out.iterdir()} == FILES
    record = json.loads((out / "metrics.json").read_text())
    assert record["metrics"]["count"] == 20
    assert record["data"]["bad_rows"] == 1
    assert record["data"]["duplicates"] == 5
    bad, repeated, seen = record["warnings"]
    assert bad.startswith("unusable rows left out: rating is not a number")
    assert repeated == "5 repeated ratings of a pair: took the last"
    assert "--exclude-seen" in seen
    assert set(record["warnings"]) <= set(warnings_of(read_page((out / "report.html").read_text())))


@pytest.mark.slow
@pytest.mark.slow
def test_what_is_to_be_found_may_be_recommended_though_it_was_seen(
    lake: Lake, tmp_path: Path
) -> None:
    """Ratings measured on that are in the file of what was seen too, with one of no user."""
    pairs = [f"{user},{item},no rating,5" for user, item, _ in fresh(lake)]
    seen = lake.file("all.csv", [*lake_lines(lake), *pairs, ",3,4,5"])
    options = ["--store", str(lake.path), "--ratings", str(lake.folder / "fresh.csv")]
    options += ["--top", "4", "--relevant-from", "3.5", "--bad-rows", "drop"]
    records = []
    for path in (str(lake.base), seen):
        out = tmp_path / "out"
        assert main([*options, "--exclude-seen", path, "--output", str(out)]) == 0
        records.append(json.loads((out / "metrics.json").read_text()))
    assert records[0]["metrics"] == records[1]["metrics"]
    assert records[0]["metrics"]["recall"] > 0
    (warning,) = records[1]["warnings"]
    assert warning.startswith(
        f"unusable rows of {seen} left out: 1: user is missing (1 row, such as"
    )


@pytest.mark.slow
def test_inputs_that_have_no_effect(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    lines = ["9001.0,9003,4.5,5", "9001,9009,2,5", "9004,9009,3.5,5"]
    strange, pairs = lake.file("strange.csv", lines), lake.file("pairs.csv", ["9001,3,1,5"])
    options = ["--store", str(lake.path), "--ratings", strange, "--output", str(out)]
    none = ["--ranking-users", "0"]
    wanted = [
        (
            ["--exclude-seen", pairs, *none],
            f"{pairs}: none of its 1 pairs is of a user and an item",
        ),
        (["--relevant-from", "1e308"], "--relevant-from 1e+308: no rating of "),
        (none, f"{strange}: 3 of 3 ratings are cold: none is of a user and an item that the model"),
    ]
    for words, message in wanted:
        assert main([*options, *words, "--strict"]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
        assert not out.exists()
    assert main([*options, "--exclude-seen", pairs, "--relevant-from", "1e308"]) == 0
    said = capsys.readouterr().out
    assert "cold: 3 of 3 ratings, of users or items without training ratings, are pred" in said
    record = json.loads((out / "metrics.json").read_text())
    for (_, message), warning in zip(wanted, record["warnings"][:3], strict=True):
        assert warning.startswith(message)
    assert record["warnings"][1].endswith(
        "the highest is 4.5, so there are no ranking measures: give a smaller one"
    )
    assert record["warnings"][3:] == [
        "1 user id written with decimals, such as 9001.0: read as 9001"
    ]
    counts = ("changed_ids", "cold_ratings", "seen_pairs", "seen_pairs_known")
    assert [record["data"][name] for name in counts] == [1, 3, 1, 0]
    page = read_page((out / "report.html").read_text())
    assert set(record["warnings"]) <= set(warnings_of(page))


def test_the_ratings_that_the_model_was_trained_on(lake: Lake, tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = lake.path / "versions" / str(lake.store.current())
    options = ["--model", str(folder), "--ratings", str(lake.base), "--ranking-users", "0"]
    assert main([*options, "--strict", "--output", str(out)]) == 0
    (warning,) = json.loads((out / "metrics.json").read_text())["warnings"]
    assert warning.startswith(
        "these are the ratings that the model was trained on, but for the share 0.1 that it held"
    )


@pytest.mark.slow
def test_the_ratings_that_a_sweep_was_trained_on(spark: SparkSession, tmp_path: Path) -> None:
    t = random_triples(12, 8, 60)
    lines = [f"{u},{i},{r},{k}" for k, (u, i, r) in enumerate(zip(*t[:3], strict=True))]
    header = "user,item,rating,timestamp"
    same, other = tmp_path / "same.csv", tmp_path / "other.csv"
    (tmp_path / "ratings.csv").write_text("\n".join([header, *lines]) + "\n")
    # In another order, and another kind of file; and as many others.
    same.write_text("\n".join(line.replace(",", "\t") for line in [header, *lines[::-1]]) + "\n")
    moved = [f"99{lines[0][lines[0].index(',') :]}", *lines[1:]]
    other.write_text("\n".join([header, *moved]) + "\n")
    swept, found = tmp_path / "swept", {}
    words = ["--ranks", "2", "--lambdas", "1", "--max-iter", "2", "--refit"]
    assert sweep(["--ratings", f"{tmp_path}/ratings.csv", *words, "--output", str(swept)]) == 0
    folder = swept / "best_model"
    for model, ratings in ((folder, same), (folder, other), (folder / "before_refit", same)):
        options = ["--model", str(model), "--ratings", str(ratings), "--ranking-users", "0"]
        out = tmp_path / f"out{len(found)}"
        assert main([*options, "--output", str(out)]) == 0
        warnings = json.loads((out / "metrics.json").read_text())["warnings"]
        found[model.name, ratings.name] = [w for w in warnings if "trained on" in w]
    counts = json.loads((swept / "run.json").read_text())["data"]["ratings"]
    share = counts["test"] / len(lines)
    assert found["best_model", "other.csv"] == []
    (refitted,) = found["best_model", "same.csv"]
    assert refitted.startswith("these are the ratings that the model was trained on: its errors")
    (before,) = found["before_refit", "same.csv"]
    assert f"trained on, but for the share {share:.3g} that it held out: " in before
    assert 0 < share < 0.5


def lake_lines(lake: Lake) -> list[str]:
    return lake.base.read_text().splitlines()[1:]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "nowhere"], "nowhere"),
        (["--store", "nowhere"], "--store nowhere: there is no model store: check the path"),
        (["--store", "{store}", "--version", "1999"], "has no version called '1999'"),
        (["--store", "{store}", "--model", "x"], "--store and --model: give one of the two"),
        (["--model", "x", "--version", "y"], "--version y: versions are in a store"),
    ],
)
def test_no_such_model(
    lake: Lake,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    says: str,
) -> None:
    words = [option.format(store=lake.path) for option in options]
    ratings = ["--ratings", str(lake.folder / "fresh.csv")]
    assert main([*words, *ratings, "--output", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
