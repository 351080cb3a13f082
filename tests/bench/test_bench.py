"""The benchmarks can be run: one command a question, a JSON file and a plot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from scripts.bench.common import bench_parser
from tests.conftest import ROOT

QUESTIONS = (
    *("mllib", "setup", "cmfrec", "notebook", "accelerate", "growth", "roofline", "recommend"),
    *("implicit", "exchange", "limits", "lists", "estimator", "overview", "accuracy"),
    "posterior",
)


@pytest.mark.parametrize("words", [[], ["speed"], ["mllib cmfrec"]])
def test_an_unknown_question_is_one_line_and_exit_code_2(words: list[str]) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "bench.sh", *words], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "usage: scripts/bench.sh QUESTION" in line
    assert all(question in line for question in (*QUESTIONS, "all"))
    assert done.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_takes_the_same_options(question: str) -> None:
    done = run(question, "--help")
    for option in ("--quick", "--output DIR", "--repeats N"):
        assert option in done.stdout


@pytest.mark.parametrize("name", ["file", "file/of/this"])
def test_where_nothing_can_be_written_is_told_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        bench_parser("").parse_args(["--output", str(tmp_path / name)])
    assert ended.value.code == 2
    *_, last = capsys.readouterr().err.splitlines()
    words = f"argument --output: {tmp_path / 'file'} is not a directory that can be written in"
    assert last.endswith(words)
    new = bench_parser("").parse_args(["--output", str(tmp_path / "a" / "b")]).output
    assert new == tmp_path / "a" / "b"
    assert not new.exists()


def test_accuracy_quickly(tmp_path: Path) -> None:
    run("accuracy", "--quick", "--repeats", "1", "--output", str(tmp_path))
    methods = json.loads((tmp_path / "accuracy.json").read_text())["methods"]
    assert {"ridge with biases", "variational, features", "sample"} <= methods.keys()
    # The ratings spread by about 0.9 around their mean, their noise by 0.5.
    assert all(0.4 < row["rmse"] < 0.9 for row in methods.values())


@pytest.mark.slow
def test_accuracy_without_tuning_quickly(tmp_path: Path) -> None:
    quick = ["--data", "synthetic", "--quick", "--repeats", "1"]
    run("accuracy", *quick, "--output", str(tmp_path))
    result = json.loads((tmp_path / "accuracy-synthetic.json").read_text())
    assert result["true_noise"] == 0.8
    for method, own in result["untuned"].items():
        assert own["rmse"] == result["methods"][method]["rmse"]
        assert own["over_own"] >= 1


@pytest.mark.slow
def test_posterior_quickly(tmp_path: Path) -> None:
    run("posterior", "--quick", "--output", str(tmp_path))
    result = json.loads((tmp_path / "posterior.json").read_text())
    for place in ("bare", "spark"):
        assert result["targets"].keys() <= result[place].keys()
        assert result[place]["ridge"]["cpu_over_ridge"] == 1
    assert all(row["worker_bytes"] > 0 for row in result["spark"].values())
    assert (tmp_path / "posterior.png").stat().st_size > 10_000


@pytest.mark.slow
def test_accelerate_quickly(tmp_path: Path) -> None:
    run("accelerate", "--quick", "--repeats", "1", "--output", str(tmp_path))
    result = json.loads((tmp_path / "accelerate.json").read_text())
    assert result["machine"]["cores"] == os.cpu_count()
    assert result["points"]
    for point in result["points"]:
        assert point["accelerated"]["objective"] <= point["plain"]["objective"]
        assert point["accelerated"]["evaluations"] >= point["accelerated"]["iterations"]
        assert point["iterations_ratio"] > 1.2
    assert (tmp_path / "accelerate.png").stat().st_size > 10_000


@pytest.mark.slow
def test_recommend_quickly(tmp_path: Path) -> None:
    words = ("--quick", "--dresses", "pip", "--output", str(tmp_path))
    run("recommend", *words)
    result = json.loads((tmp_path / "recommend.json").read_text())
    (row,) = result["dresses"]["pip"]["ranks"]
    # Everybody has been answered, as MLlib would; the benchmark stops where scores differ.
    assert row["agreement"]["users"] == result["users"]
    assert row["agreement"]["share_of_equal_items"] > 0.99
    assert all(seconds > 0 for seconds in row["seconds"].values())
    assert (tmp_path / "recommend.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.skipif(find_spec("implicit") is None, reason="a peer, which scripts/bench.sh installs")
def test_lists_quickly(tmp_path: Path, movielens: Path) -> None:
    words = ("--quick", "--repeats", "1", "--data", str(movielens))
    run("lists", *words, "--output", str(tmp_path))
    result = json.loads((tmp_path / "lists.json").read_text())
    assert set(result["cuts"]) == {"by time", "by user"}
    for cut in result["cuts"].values():
        ndcg = cut["groups"]["all users"]["ndcg"]
        assert all(0 < value < 1 for value in ndcg.values())
        for found in cut["groups"].values():
            for which, compared in found["ours_minus"].items():
                difference = found["ndcg"]["als_spark"] - found["ndcg"][which]
                assert compared["difference"] == pytest.approx(difference)
                assert compared["low"] <= compared["difference"] <= compared["high"]
        assert 0.5 < cut["explicit_rmse"]["after"] < 1.5
    known = result["cuts"]["by user"]["groups"]["users with earlier ratings"]
    assert known["ours_minus"]["implicit"]["low"] > -0.05
    assert known["ndcg"]["als_spark"] > known["ndcg"]["popular items"]
    assert (tmp_path / "lists.png").stat().st_size > 10_000


@pytest.mark.slow
def test_estimator_quickly(tmp_path: Path, movielens: Path) -> None:
    run(
        "estimator",
        "--quick",
        "--repeats",
        "1",
        "--data",
        str(movielens),
        "--output",
        str(tmp_path),
    )
    result = json.loads((tmp_path / "estimator.json").read_text())
    assert "JavaBLAS" in result["blas"] or "VectorBLAS" in result["blas"]
    validated = result["cross_validation"]
    for ours, theirs in zip(validated["ours"]["rmse"], validated["mllib"]["rmse"], strict=True):
        assert 0 < ours < theirs + 0.05
    assert validated["mllib_over_ours"] > 0
    assert result["overhead"]["estimator_over_direct"] > 0
    assert [row["name"] for row in result["quality"]] == ["explicit", "implicit", "nonnegative"]
    for row in result["quality"]:
        assert 0.9 < row["objective_ours_over_mllib"] < result["targets"]["objective"]
        assert row["rmse_ours_minus_mllib"] < 0.02
    assert (tmp_path / "estimator.png").stat().st_size > 10_000


def run(question: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"scripts.bench.{question}", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )


@pytest.mark.slow
def test_roofline_quickly(tmp_path: Path) -> None:
    run("roofline", "--quick", "--repeats", "1", "--output", str(tmp_path))
    (row,) = json.loads((tmp_path / "roofline.json").read_text())["ranks"]
    assert row["bare_iteration"] > 0
    shares = row["shares"]
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares[part] for part in ("products", "factorisations", "gathering")) > 0
