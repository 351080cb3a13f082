"""Jobs with more users than a process may hold the factors of: nobody brings them to the driver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from als_spark.cli import evaluate, recommend, retrain, sweep, train
from als_spark.model.factor_files import read_side
from als_spark.model.files import FACTOR_FILES
from als_spark.model.stored_factors import StoredFactors
from als_spark.spark import planner
from als_spark.spark.train.factor_blocks import DistributedFactors
from als_spark.store.store import open_store

N_USERS, N_ITEMS, RANK = 60, 20, 2
COMMON = ["--placement", "ratings", "--dtype", "float64", "--max-iter", "3", "--tol", "0"]


def refuse(*_: object) -> None:
    raise AssertionError("a side was brought to the driver")


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the users, not the items, too many from when it is called, and forbids to collect."""

    def begin() -> None:
        limit = 8 * RANK * (N_USERS + N_ITEMS) // 2
        monkeypatch.setattr(planner, "BROADCAST_SHARE", planner.WORKER_BYTES // limit)
        monkeypatch.setattr(DistributedFactors, "collect", refuse)
        monkeypatch.setattr(StoredFactors, "collect", refuse)

    return begin


def write_ratings(path: Path, seed: int, share: float) -> Path:
    rng = np.random.default_rng(seed)
    lines = ["user,item,rating"]
    for pair in np.flatnonzero(rng.random(N_USERS * N_ITEMS) < share):
        user, item = divmod(int(pair), N_ITEMS)
        lines.append(f"{user},{item},{1 + (user * item + int(rng.integers(3))) % 5}")
    path.write_text("\n".join(lines))
    return path


def close(one: Any, two: Any, without: tuple[str, ...] = ()) -> None:
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one.keys() - set(without):
            close(one[key], two[key], without)
    elif isinstance(one, list):
        assert len(one) == len(two)
        for own, other in zip(one, two, strict=True):
            close(own, other, without)
    elif isinstance(one, float):
        assert one == pytest.approx(two, rel=1e-8, abs=1e-12)
    else:
        assert one == two


def same_files(folder: Path, other: Path) -> None:
    for side in FACTOR_FILES:
        own, same = (read_side(place / FACTOR_FILES[side]) for place in (folder, other))
        assert own.ids.ids.equals(same.ids.ids)
        np.testing.assert_allclose(own.factors, same.factors, rtol=0, atol=1e-9)


def answers(folder: Path) -> dict[Any, Any]:
    lines = [line for part in folder.glob("part-*") for line in part.read_text().splitlines()]
    return {row["user"]: row for row in map(json.loads, lines)}


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_sweep_evaluate_and_recommend(tmp_path: Path, far: Any) -> None:
    ratings = str(write_ratings(tmp_path / "ratings.csv", 1, 0.4))
    grid = ["--ranks", str(RANK), "--lambdas", "1", "--judge", "ndcg", "--accelerate", "--refit"]
    found = []
    for name in ("near", "far"):
        if name == "far":
            far()
        out = tmp_path / name
        argv = ["--ratings", ratings, *COMMON, *grid, "--output", str(out / "sweep")]
        exchange = ["--exchange", "broadcast"] if name == "near" else []
        assert sweep.main([*argv, *exchange]) == 0
        model = ["--model", str(out / "sweep" / "best_model")]
        argv = [*model, "--ratings", ratings, "--top", "3", "--output", str(out / "evaluated")]
        assert evaluate.main(argv) == 0
        argv = [*model, "--exclude-seen", ratings, "--format", "json", "--top", "3"]
        assert recommend.main([*argv, "--output", str(out / "top")]) == 0
        run = json.loads((out / "sweep" / "run.json").read_text())
        results = json.loads((out / "sweep" / "results.json").read_text())
        metrics = json.loads((out / "evaluated" / "metrics.json").read_text())
        found.append((run, results, metrics, answers(out / "top")))
    (run, results, metrics, top), (far_run, *others) = found
    assert run["exchange"] == {"user": "broadcast", "item": "broadcast"}
    assert far_run["exchange"] == {"user": "broadcast", "item": "shuffle"}
    for place in ("best_model", "best_model/before_refit"):
        same_files(tmp_path / "far" / "sweep" / place, tmp_path / "near" / "sweep" / place)
    assert results[0]["test_ndcg"] > 0
    close(results, others[0], ("seconds",))
    assert len(top) > N_USERS - 5
    close(top, others[2])
    kept = ("metrics", "by_user", "by_item", "by_source", "baselines")
    close({key: metrics[key] for key in kept}, {key: others[1][key] for key in kept})


@pytest.mark.slow
def test_train_and_retrain(spark: SparkSession, tmp_path: Path, far: Any) -> None:
    first = str(write_ratings(tmp_path / "first.csv", 1, 0.4))
    second = str(write_ratings(tmp_path / "second.csv", 2, 0.5))
    model = ["--rank", str(RANK), "--lambda", "1"]
    runs = {}
    for name in ("near", "far"):
        if name == "far":
            far()
        store = ["--store", str(tmp_path / name)]
        assert train.main(["--ratings", first, *COMMON, *model, *store]) == 0
        # From the factors of the first, which is compared with it.
        argv = ["--ratings", second, *COMMON, *store, "--margin", "1", "--refit"]
        assert retrain.main(argv) == 0
        opened = open_store(tmp_path / name)
        assert len(opened.versions()) == 2
        last = opened.history.read_history()[-1]
        runs[name] = (opened.load(), opened.load_before_refit(), last)
    for key in ("challenger", "champion"):
        assert runs["far"][2][key]["rmse"] > 0
        close(runs["far"][2][key], runs["near"][2][key])
    for own, same in zip(runs["far"][:2], runs["near"][:2], strict=True):
        for side in FACTOR_FILES:
            one, two = own.side(side), same.side(side)
            assert one.ids.ids.equals(two.ids.ids)
            np.testing.assert_allclose(one.factors, two.factors, rtol=0, atol=1e-9)
        assert own.description["start"] == same.description["start"] == "warm"
    # Executors read the store where it is, the driver its copy.
    hadoop: Any = spark.sparkContext._jsc
    mount = "fs.viewfs.mounttable.farjobs.link./stores"
    hadoop.hadoopConfiguration().set(mount, f"file://{tmp_path}")
    found = []
    for store in (tmp_path / "near", "viewfs://farjobs/stores/far"):
        out = tmp_path / f"top {len(found)}"
        argv = ["--store", str(store), "--exclude-seen", second, "--top", "3"]
        assert recommend.main([*argv, "--format", "json", "--output", str(out)]) == 0
        found.append(answers(out))
    assert len(found[0]) == N_USERS
    close(*found)
