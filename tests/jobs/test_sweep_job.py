"""The sweep as users run it: in process, and by spark-submit in a process of its own."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from als_spark.model.files import load_before_refit, load_model
from als_spark.model.intervals import load_intervals
from als_spark.report.pages.sweep import SWEEP_PICTURES
from als_spark.spark.read.sources import sample_ratings
from jobs.sweep import main
from jobs.train import main as train
from tests.conftest import ROOT
from tests.logs import driver_tracebacks
from tests.pages import pictures, read_page, section_of, warnings_of

SMALL = ["--ranks", "1,3", "--lambdas", "1,4", "--max-iter", "6"]
FILES = {
    *("results.json", "sweep.png", "selected.png", "heatmap.png", "convergence.png"),
    *("best_model", "run.json", "history.json", "report.html", "_ALS_SPARK"),
}


def results(folder: Path) -> list[dict[str, Any]]:
    found = json.loads((folder / "results.json").read_text())
    assert isinstance(found, list)
    return found


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: without_times(entry)
            for key, entry in value.items()
            if key not in ("seconds", "started", "output")
        }
    return [without_times(entry) for entry in value] if isinstance(value, list) else value


@pytest.mark.usefixtures("spark", "drawn")
def test_all_files_are_written_and_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    assert main([*SMALL, "--output", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == FILES
    records = results(out)
    assert [(r["d"], r["lambda_reg"]) for r in records] == [(1, 1), (1, 4), (3, 1), (3, 4)]
    wanted = {
        *("d", "lambda_reg", "train_mse", "train_mae", "test_mse", "test_mae", "train_rmse"),
        *("test_rmse", "iterations", "converged", "objective", "seconds", "n_test_cold", "best"),
    }
    for record in records:
        assert wanted <= set(record)
        assert record["train_rmse"] == pytest.approx(record["train_mse"] ** 0.5)
        assert (record["iterations"], record["converged"]) == (6, False)
    best = min(records, key=lambda record: record["test_mse"])
    assert [record["best"] for record in records] == [record is best for record in records]
    run = json.loads((out / "run.json").read_text())
    assert run["status"] == "complete"
    assert run["config"]["ranks"] == [1, 3]
    assert run["data"]["ratings"]["train"] + run["data"]["ratings"]["test"] == 1501
    assert run["blas_threads_per_worker"] == 1
    assert {"numpy", "spark", "python", "scipy", "pyarrow", "java"} <= set(run["versions"])
    assert run["seconds"]["training"] > 0
    biases = run["baselines"]["biases"]
    assert biases["test"]["count"] == run["data"]["ratings"]["test"]
    assert 0.8 < biases["test"]["rmse"] < 1.2
    history = json.loads((out / "history.json").read_text())
    for record, point in zip(records, history, strict=True):
        assert len(point["objective"]) == record["iterations"]
        assert point["objective"][-1] == record["objective"]
    page = read_page((out / "report.html").read_text())
    assert page.one("header").one("strong").text == "complete"
    assert f"test MSE {best['test_mse']:.4f}" in page.one("header").text
    assert pictures(page) == [
        (alt, (out / name).read_bytes()) for name, (alt, _) in SWEEP_PICTURES.items()
    ]
    assert "ridge λ|x|² for each row" in section_of(page, "Results").text
    assert json.loads(section_of(page, "Configuration").one("pre").text) == run["config"]
    printed = capsys.readouterr().out
    assert f"{best['test_mse']:.4f}" in printed
    assert "report.html" in printed
    assert "the test ratings chose it" in printed
    assert f"test RMSE {biases['test']['rmse']:.4f}" in printed
    worse = [record for record in records if record["test_rmse"] > biases["test"]["rmse"]]
    assert ("worse than the biases alone" in printed) == bool(worse)
    assert "Next to try: the same command with --" in printed
    assert str(out) in printed


@pytest.mark.usefixtures("spark", "drawn")
def test_a_method_that_learns_lambda(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, trained = tmp_path / "out", tmp_path / "trained"
    options = ["--method", "variational", "--max-iter", "3", "--dtype", "float64"]
    assert main([*options, "--ranks", "1,2", "--refit", "--output", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == FILES - {"selected.png", "heatmap.png"}
    records = results(out)
    assert [(record["d"], record["lambda_reg"]) for record in records] == [(1, None), (2, None)]
    run = json.loads((out / "run.json").read_text())
    assert (run["config"]["lambdas"], run["config"]["cold_start"]) == (None, "prior")
    assert run["exchange"] == {} or set(run["exchange"].values()) == {"broadcast"}
    for record, point in zip(records, json.loads((out / "history.json").read_text()), strict=True):
        assert point["objective"][-1] == record["objective"]
        assert point["change"][0] is None
        assert len(point["noise"]) == record["iterations"] == 3
    (best,) = [record for record in records if record["best"]]
    model = load_before_refit(out / "best_model")
    assert model.description["posterior"]["rank"] == best["d"]
    assert len(load_intervals(out / "best_model" / "before_refit").users) == len(model.users)
    # The one that is served has seen the test ratings too, and has intervals of its own.
    served, intervals = load_model(out / "best_model"), load_intervals(out / "best_model")
    assert served.user_stats.degrees.sum() == run["refit"]["ratings"] == 1501
    assert served.description["refit"] == run["refit"]
    known = served.user_stats.degrees > 0
    users, items = served.users.ids.filter(known).to_pylist(), served.items.ids.to_pylist()
    pairs = [(u, i) for u in users[:3] for i in items[:3]]
    found = intervals.predict(*zip(*pairs, strict=True), coverage=0.9)
    np.testing.assert_allclose(
        found.prediction, served.predict(*map(list, zip(*pairs, strict=True))), rtol=1e-6
    )
    printed = capsys.readouterr().out
    assert (
        f"Results, plots and the best model are in {out}: report.html, results.json, sweep.png, "
        in (printed)
    )
    assert "λ is learnt: variational: prior and noise of each user and item learnt" in printed
    sample = ["--ratings", sample_ratings(), "--test-fraction", "0.2", "--output", str(trained)]
    same = ["--max-iter", "3", "--dtype", "float64", "--ranking-users", "0"]
    assert train([*sample, *same, "--from-sweep", str(out)]) == 0
    own = load_model(trained)
    for mine, theirs in zip(own.factors, model.factors, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.usefixtures("spark")
def test_the_best_model_predicts_as_the_results_say(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    pairs = [(f"user-{u}", 10**15 + i) for u in range(25) for i in range(20) if rng.random() < 0.7]
    rows = [(u, i, float(rng.integers(1, 6))) for u, i in pairs]
    held_out = [row for row in rows if rng.random() < 0.2]
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    for path, part in ((train, [r for r in rows if r not in held_out]), (test, held_out)):
        lines = [f"{u},{i},{r}" for u, i, r in part]
        path.write_text("\n".join(["user,item,rating", *lines]) + "\n")
    out = tmp_path / "out"
    argv = ["--ratings", str(train), "--test", str(test), "--output", str(out), *SMALL]
    assert main([*argv, "--dtype", "float64", "--refit"]) == 0
    model = load_before_refit(out / "best_model")
    best = next(record for record in results(out) if record["best"])
    predicted = model.predict([u for u, _, _ in held_out], [i for _, i, _ in held_out])
    errors = np.array([r for _, _, r in held_out]) - predicted
    assert best["n_test"] == len(held_out)
    assert np.mean(errors**2) == pytest.approx(best["test_mse"], rel=1e-9)
    assert np.mean(np.abs(errors)) == pytest.approx(best["test_mae"], rel=1e-9)
    # The one that is served has seen the test ratings too.
    served, refit = (
        load_model(out / "best_model"),
        json.loads((out / "run.json").read_text())["refit"],
    )
    assert served.user_stats.degrees.sum() == refit["ratings"] == len(rows)
    assert refit["held_out_before"] == len(held_out)
    assert refit == served.description["refit"]
    assert refit["measured"] == "before the refit"
    predicted = served.predict([u for u, _, _ in rows], [i for _, i, _ in rows])
    squared = np.sum((np.array([r for _, _, r in rows]) - predicted) ** 2)
    ridge = best["lambda_reg"] * sum(np.sum(side**2) for side in served.factors)
    assert refit["objective"] == pytest.approx(squared + ridge, rel=1e-9)
    page = read_page((out / "report.html").read_text())
    (note,) = [text for text in warnings_of(page) if "refitted" in text]
    assert note.startswith(f"The best model was refitted on all {len(rows):,} ratings")


@pytest.mark.usefixtures("spark")
def test_with_a_validation_part_it_chooses_and_the_test_part_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    argv = [*SMALL, "--validation-fraction", "0.2", "--output", str(out)]
    assert main(argv) == 0
    records = results(out)
    best = min(records, key=lambda record: record["val_mse"])
    assert best["best"]
    assert all({"val_mse", "val_mae", "val_rmse", "n_val", "test_mse"} <= set(r) for r in records)
    run = json.loads((out / "run.json").read_text())
    assert run["selected_on"] == "validation"
    assert "smallest validation MSE" in capsys.readouterr().out


@pytest.mark.usefixtures("spark", "drawn")
@pytest.mark.parametrize("placement", ["ratings", pytest.param("grid", marks=pytest.mark.slow)])
def test_two_runs_with_one_seed_write_the_same_files(tmp_path: Path, placement: str) -> None:
    argv = [*SMALL, "--placement", placement, "--seed", "7"]
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        assert main([*argv, "--output", str(folder)]) == 0
    first, second = folders
    for path in sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file()):
        if path.suffix == ".json":
            ours, theirs = (json.loads((folder / path).read_text()) for folder in folders)
            assert without_times(ours) == without_times(theirs), path
        elif path.suffix == ".html":
            ours, theirs = (read_page((folder / path).read_text()) for folder in folders)
            assert pictures(ours) == pictures(theirs)
            assert warnings_of(ours) == warnings_of(theirs)
        else:
            assert (first / path).read_bytes() == (second / path).read_bytes(), path
    other = tmp_path / "other"
    assert main([*argv[:-1], "8", "--output", str(other)]) == 0
    assert results(other)[0]["test_mse"] != results(first)[0]["test_mse"]


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
def test_shuffled_factors_are_those_of_broadcast(tmp_path: Path) -> None:
    argv = ["--ranks", "2", "--lambdas", "1", "--max-iter", "2", "--dtype", "float64"]
    found = []
    for exchange in ("broadcast", "shuffle"):
        out = tmp_path / exchange
        assert main([*argv, "--exchange", exchange, "--output", str(out)]) == 0
        run = json.loads((out / "run.json").read_text())
        assert run["exchange"] == {"user": exchange, "item": exchange}
        assert run["config"]["exchange"] == exchange
        (point,) = results(out)
        errors = ("train_mse", "train_mae", "test_mse", "test_mae")
        numbers = [point[key] for key in ("objective", *errors)]
        numbers.append(run["baselines"]["biases"]["test"]["mse"])
        found.append((numbers, load_model(out / "best_model").factors))
    (numbers, factors), (others, wanted) = found
    np.testing.assert_allclose(numbers, others, rtol=1e-9)
    for own, same in zip(factors, wanted, strict=True):
        np.testing.assert_allclose(own, same, rtol=1e-7, atol=1e-9)


@pytest.mark.usefixtures("spark")
def test_a_second_run_replaces_the_first_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    tiny = ["--lambdas", "1", "--max-iter", "2", "--output", str(out)]
    assert main(["--ranks", "1", *tiny]) == 0
    # As if rows had been set aside.
    (out / "rejected").mkdir()
    (out / "rejected" / "rejected.jsonl").touch()
    record = json.loads((out / "_ALS_SPARK").read_text())
    record["files"].append("rejected/rejected.jsonl")
    (out / "_ALS_SPARK").write_text(json.dumps(record))
    assert main(["--ranks", "2", *tiny]) == 0
    assert [record["d"] for record in results(out)] == [2]
    assert {path.name for path in out.iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_other_file_systems_get_the_output_whole(spark: SparkSession, tmp_path: Path) -> None:
    # Hadoop's own client for the local disk, under another name: the way of hdfs:// and s3a://.
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    hadoop.set("fs.viewlocal.impl", "org.apache.hadoop.fs.viewfs.ViewFileSystem")
    hadoop.set("fs.viewfs.impl", "org.apache.hadoop.fs.viewfs.ViewFileSystem")
    hadoop.set("fs.viewfs.mounttable.disk.link./results", f"file://{tmp_path}")
    target = "viewfs://disk/results/deep/out"
    argv = ["--ranks", "2", "--lambdas", "1", "--max-iter", "2", "--output", target]
    assert main(argv) == 0
    out = tmp_path / "deep" / "out"
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == FILES
    assert main(argv) == 0
    visible = [path.name for path in out.parent.iterdir()]
    assert [name for name in visible if not name.endswith(".crc")] == ["out"]
    (out / "mine.csv").touch()
    assert main(argv) == 2
    assert (out / "mine.csv").exists()
    assert results(out)[0]["d"] == 2


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the job in a process group of its own, which does not outlive the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(program: str, *options: str, master: str = "local[2]") -> subprocess.Popen[str]:
        environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
        environment.pop("SPARK_HOME", None)
        spark_options = ["--master", master, "--conf", "spark.ui.enabled=false"]
        if program == "sweep.sh":
            environment["ALS_SPARK_SUBMIT_ARGS"] = shlex.join(spark_options)
            command = [ROOT / "scripts" / "sweep.sh"]
        else:
            command = [Path(sys.executable).parent / "spark-submit", *spark_options]
            command.append(ROOT / "jobs" / "sweep.py")
        process = subprocess.Popen(
            [str(word) for word in (*command, *options)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Read a process's output up to the line that a pattern is in."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if re.search(pattern, line):
            return read
    raise AssertionError(f"ended without {pattern!r}:\n{read}")


@pytest.mark.usefixtures("spark")
@pytest.mark.slow
def test_one_core_and_two_give_the_same(start: Start, tmp_path: Path) -> None:
    argv = ["--ranks", "1,3", "--lambdas", "2", "--max-iter", "4", "--dtype", "float64"]
    argv += ["--placement", "ratings", "--output"]
    folders = [tmp_path / "one", tmp_path / "two"]
    process = start("spark-submit", *argv, str(folders[0]), master="local[1]")
    log, _ = process.communicate(timeout=300)
    assert process.returncode == 0, log
    # The session of the tests has two.
    assert main([*argv, str(folders[1])]) == 0
    for cores, folder in enumerate(folders, 1):
        assert json.loads((folder / "run.json").read_text())["blocks_a_side"] == cores
    for one, two in zip(*map(results, folders), strict=True):
        assert one["iterations"] == two["iterations"]
        for key in ("train_mse", "train_mae", "test_mse", "test_mae", "objective"):
            assert one[key] == pytest.approx(two[key], rel=1e-9), key


# The first point shrinks to nothing and stops at once; the second would take hours.
ENDLESS = ["--ranks", "20", "--lambdas", "100000,0.0001", "--tol", "1e-12"]
ENDLESS += ["--max-iter", "1000000", "--dtype", "float64"]
FIRST_POINT = "d=20 (λ|lambda)=100000: "


def check_kept(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    assert [record["lambda_reg"] for record in results(folder)] == [100000]
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert load_model(folder / "best_model").rank == 20
    page = read_page((folder / "report.html").read_text())
    assert page.one("header").one("strong").text == "interrupted"
    assert "Stopped after 1 of 2 models." in page.one("header").text
    assert "of the grid" not in page.text


@pytest.mark.slow
def test_ctrl_c_keeps_the_finished_points(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text('{"points": {}, "selected_on": "test"}')
    (out / "results.json").write_text("[]")
    process = start("sweep.sh", *ENDLESS, "--placement", "grid", "--output", str(out))
    log = read_until(process, FIRST_POINT)
    # As a terminal does: to every process of the group.
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=300)
    assert process.returncode == 130, log + rest
    assert driver_tracebacks(rest) == []
    kept = out / "interrupted"
    assert f"1 of 2 points were finished and are kept in {kept}" in " ".join(rest.split())
    check_kept(kept)
    # The earlier results are as they were.
    assert results(out) == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_ctrl_c_under_plain_spark_submit(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start("spark-submit", *ENDLESS, "--placement", "grid", "--output", str(out))
    read_until(process, FIRST_POINT)
    # Ends the JVM too, and with it the way of the last words to the terminal.
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=300)
    assert process.returncode == 130
    deadline = time.monotonic() + 60
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    check_kept(out)


class StopsAt(logging.Handler):
    """Sends this process SIGINT soon after the sweep has told something."""

    def __init__(self, pattern: str) -> None:
        super().__init__()
        self._pattern = pattern
        self._timer: threading.Timer | None = None
        self._logger = logging.getLogger("als_spark.sweep")

    def emit(self, record: logging.LogRecord) -> None:
        if self._timer is None and re.search(self._pattern, record.getMessage()):
            # In the midst of the training, wherever that is by then.
            self._timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
            self._timer.start()

    def __enter__(self) -> None:
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(logging.NOTSET)
        if self._timer is not None:
            self._timer.join()


def still_active(spark: SparkSession) -> list[int]:
    """The Spark jobs that go on, after a while in which cancelled ones may end."""
    tracker = spark.sparkContext.statusTracker()
    deadline = time.monotonic() + 60
    while tracker.getActiveJobsIds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return list(tracker.getActiveJobsIds())


@pytest.mark.parametrize("placement", ["ratings", pytest.param("grid", marks=pytest.mark.slow)])
def test_an_interrupt_keeps_the_finished_points_and_ends_the_spark_jobs(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str], placement: str
) -> None:
    out = tmp_path / "out"
    with StopsAt(FIRST_POINT):
        code = main([*ENDLESS, "--placement", placement, "--output", str(out)])
    assert code == 130
    said = " ".join("".join(capsys.readouterr()).split())
    assert f"1 of 2 points were finished and are kept in {out}" in said
    check_kept(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert still_active(spark) == []


@pytest.mark.parametrize("placement", ["ratings", pytest.param("grid", marks=pytest.mark.slow)])
def test_an_interrupt_before_the_first_point_leaves_nothing(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str], placement: str
) -> None:
    endless = [option.replace("100000,", "") for option in ENDLESS]
    with StopsAt("training"):
        code = main([*endless, "--placement", placement, "--output", str(tmp_path / "out")])
    assert code == 130
    said = capsys.readouterr().err
    assert "sweep: stopped before any point was finished; nothing written" in said
    assert list(tmp_path.iterdir()) == []
    assert still_active(spark) == []


@pytest.mark.slow
@pytest.mark.usefixtures("spark", "drawn")
def test_a_ranking_measure_chooses_the_best_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    argv = [*SMALL, "--judge", "ndcg", "--top", "5", "--relevant-from", "3"]
    assert main([*argv, "--validation-fraction", "0.2", "--output", str(out)]) == 0
    records = results(out)
    best = max(records, key=lambda record: record["val_ndcg"])
    assert [record["best"] for record in records] == [record is best for record in records]
    assert best["val_ndcg"] > min(record["val_ndcg"] for record in records)
    for record in records:
        for split in ("val", "test"):
            names = [f"{split}_{name}" for name in ("ndcg", "recall", "precision", "map")]
            assert all(0 < record[name] < 1 for name in names)
            assert 0 < record[f"{split}_coverage"] <= 1
            assert record[f"n_{split}_users"] == 28
    ranking = json.loads((out / "run.json").read_text())["ranking"]
    assert (ranking["judge"], ranking["k"], ranking["relevant_from"]) == ("ndcg", 5, 3.0)
    popular = ranking["popular"]["validation"]["ndcg"]
    printed = capsys.readouterr().out
    assert "the largest validation NDCG@5." in printed
    assert f"{best['val_ndcg']:.4f}" in printed
    assert f"validation NDCG@5 {popular:.4f} (28 users)" in printed
    below = [record for record in records if record["val_ndcg"] < popular]
    assert ("worse than the popular items" in printed) == bool(below)
    page = read_page((out / "report.html").read_text())
    assert f"validation NDCG@5 {best['val_ndcg']:.4f}" in page.one("header").text
    assert "popular items" in section_of(page, "Rankings").text
    model = load_model(out / "best_model")
    assert model.rank == best["d"]


@pytest.mark.slow
@pytest.mark.usefixtures("spark")
@pytest.mark.usefixtures("spark", "drawn")
def test_ids_as_other_programs_leave_them_are_counted_everywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [(user, item) for user in range(1, 7) for item in range(1, 6)]
    lines = [f"{user},{item},{1 + (user * item) % 5}" for user, item in pairs]
    odd = ["1,6.0,3", "NULL,2,3", "2,NaN,3", "3,3,None", "1.2E+12,1,3", "007,1,4", "7,1,2"]
    file, out = tmp_path / "r.csv", tmp_path / "out"
    file.write_text("\n".join(["user,item,rating", *lines, *odd]))
    options = ["--ratings", str(file), "--output", str(out), "--ranks", "1", "--lambdas", "1"]
    assert main(options) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "user=1.2E+12, item=1, rating=3, in r.csv" in said
    assert said.endswith("--null-words says which words stand for nothing")
    with caplog.at_level(logging.INFO, "als_spark.sweep"):
        assert main([*options, "--bad-rows", "drop", "--max-iter", "3"]) == 0
    run = json.loads((out / "run.json").read_text())
    data = run["data"]
    lost = "user is in scientific notation, which may have lost digits"
    assert data["bad_rows_dropped"] == {
        **dict.fromkeys(
            [f"{role} is missing: a null word" for role in ("item", "rating", "user")], 1
        ),
        lost: 1,
    }
    assert (data["users"], data["items"], sum(data["ratings"].values())) == (8, 6, 33)
    assert data["changed_ids"] == {"item": 1}
    changed, zeros = data["warnings"]
    assert changed == "1 item id written with decimals, such as 6.0: read as 6"
    assert zeros.startswith("1 of 8 user ids have leading zeros, such as 007: all are read as text")
    told = warnings_of(read_page((out / "report.html").read_text()))
    assert set(data["warnings"]) <= set(told)
    assert f"1 rows were dropped: {lost}. They are in the folder rejected/." in told
    for words in (*data["warnings"], f"dropped 1 rows: {lost}"):
        assert words in caplog.text
    assert load_model(out / "best_model").items.are_integers
    users = load_model(out / "best_model").users
    assert sorted(users.ids.to_pylist()) == ["007", *map(str, range(1, 8))]


def test_nobody_to_rank_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    argv = [*SMALL, "--judge", "recall", "--relevant-from", "9", "--output", str(out)]
    assert main(argv) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no test rating of a user with training ratings is at least 9" in message
    assert "smaller --relevant-from" in message
    assert not out.exists()
