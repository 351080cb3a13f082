"""``--plan`` of ratings that are counted, and trainings that are stopped before they begin."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from als_spark.cli import retrain, sweep, train
from als_spark.spark.prepare.place import Packing

N_USERS, N_ITEMS = 30, 6
PAIRS = [(user, item) for user in range(N_USERS) for item in range(N_ITEMS) if (user + item) % 3]
TINY = "spark.executor.pyspark.memory"


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    file = tmp_path / "ratings.csv"
    rows = [f"{user},{item},{1 + (user * item) % 5}" for user, item in PAIRS]
    file.write_text("\n".join(["user,item,rating", *rows, "9,,3"]) + "\n")
    return file


@pytest.fixture
def no_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("packed ratings")

    monkeypatch.setattr(Packing, "place", refuse)


@pytest.mark.slow
@pytest.mark.usefixtures("no_packing")
def test_counted_ratings_on_this_session(
    spark: SparkSession, ratings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--plan", "--ratings", str(ratings), "--json"]
    output = tmp_path / "out"
    assert sweep.main([*words, "--output", str(output)]) == 0
    record = json.loads(capsys.readouterr().out)
    # Few ids are counted exactly, and the row without an item is none of the ratings.
    assert record["counts"] == {"users": N_USERS, "items": N_ITEMS, "ratings": len(PAIRS)}
    assert record["counted"].startswith("counted in ")
    cluster = record["cluster"]
    assert (cluster["local"], cluster["cores"]) == (True, spark.sparkContext.defaultParallelism)
    runtime = spark.sparkContext._jvm.java.lang.Runtime.getRuntime()  # type: ignore[union-attr]
    assert cluster["driver_memory"] == runtime.maxMemory()
    assert record["plan"]["placement"] == "grid"
    assert record["trainable"] is True
    assert not output.exists()
    # Of a stated cluster, and with increments.
    stated = ["--cluster", "executors=3,cores=2,memory=4g", "--increments", str(ratings)]
    assert retrain.main([*words, *stated]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["counts"]["ratings"], record["cluster"]["executors"]) == (2 * len(PAIRS), 3)


@pytest.mark.usefixtures("no_packing")
def test_what_could_only_run_out_of_memory_is_not_begun(
    spark: SparkSession,
    ratings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Of the driver alone: the workers have been started.
    monkeypatch.setattr(spark.sparkContext, "_conf", spark.sparkContext.getConf().set(TINY, "1k"))
    jobs: dict[str, Callable[[list[str]], int]] = {"sweep": sweep.main, "train": train.main}
    for name, main in jobs.items():
        output = tmp_path / name
        words = ["--ratings", str(ratings), "--bad-rows", "drop", "--output", str(output)]
        assert main(words) == 2
        (said,) = [line for line in capsys.readouterr().err.splitlines() if TINY in line]
        assert said.startswith(f"{name}: this training could only run out of memory: the packed")
        assert f"use --placement ratings, or --conf {TINY}=" in said
        assert not output.exists()
    # The plan says the same.
    assert train.main([*words, "--plan"]) == 2
    assert "the training could only run out of memory: the packed" in capsys.readouterr().out


@pytest.mark.slow
def test_what_may_be_too_small_is_told(
    spark: SparkSession,
    ratings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(spark.sparkContext, "_conf", spark.sparkContext.getConf().set(TINY, "9m"))
    words = ["--ratings", str(ratings), "--bad-rows", "drop", "--max-iter", "1"]
    assert train.main([*words, "--output", str(tmp_path / "out")]) == 0
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    (warning,) = [words for words in run["warnings"] if TINY in words]
    assert warning.startswith("a Python worker may need ")
    assert f"use --conf {TINY}=" in warning
