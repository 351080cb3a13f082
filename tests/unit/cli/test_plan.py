"""``--plan`` where counts and cluster are stated: no Spark is started."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from pyspark import SparkContext

from als_spark import __main__ as program
from als_spark.cli import retrain
from als_spark.cli.config.retrain import RetrainConfig
from als_spark.nightly.method import options_record
from als_spark.train.bayes.options import PosteriorOptions

COUNTS = ["--plan", "--counts", "users=1e6,items=1e5,ratings=1e8"]
CLUSTER = ["--cluster", "executors=10,cores=8,memory=32g,driver=16g"]


@pytest.fixture(autouse=True)
def no_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Spark was started")

    monkeypatch.setattr(SparkContext, "_ensure_initialized", refuse)


def record_of(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict:
    capsys.readouterr()
    assert program.main([*words, "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    grid = ["--ranks", "10,50", "--lambdas", "1,2", "--validation-fraction", "0.1"]
    assert program.main(["sweep", *COUNTS, *CLUSTER, *grid]) == 0
    text = capsys.readouterr().out
    for words in (
        "1,000,000 users, 100,000 items, 100,000,000 ratings (as given)",
        "4 models of rank 10 to 50, float32",
        "10 executors of 8 cores, heap 32.0 GB; driver's heap 16.0 GB; network 10 Gbit/s",
        "placement      ratings",
        "broadcast, to each executor",
        "Python worker, packing",
        "Assumed",
    ):
        assert words in text
    assert "Too small" not in text
    record = record_of(capsys, "sweep", *COUNTS, *CLUSTER, *grid)
    assert record["ranks"] == [10, 10, 50, 50]
    assert record["workload"]["train_share"] == pytest.approx(0.7)
    assert record["plan"]["exchange"] == {"user": "broadcast", "item": "broadcast"}
    method = [*COUNTS, *CLUSTER, "--method", "sample"]
    assert program.main(["sweep", *method]) == 0
    assert "the largest of 3, trained one by one, of rank 16, float32, sample" in (
        capsys.readouterr().out
    )
    record = record_of(capsys, "sweep", *method)
    assert (record["ranks"], record["one_by_one"]) == ([16], 3)
    assert record["workload"]["method"] == "sample"
    features = ["--implicit-features", "5", "--ranks", "4", "--exchange", "broadcast"]
    record = record_of(capsys, "sweep", *COUNTS, *CLUSTER, *features)
    assert record["workload"]["method"] == "ridge towards a mean"
    assert "needs all of them" in record["reasons"]["placement"]
    ranked = record_of(capsys, "sweep", *COUNTS, *CLUSTER, "--judge", "ndcg")
    assert ranked["workload"]["rankings"] is True


def test_what_could_only_fail_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--cluster", "executors=10,cores=8,memory=32g,driver=100m", "--rank", "50"]
    assert program.main(["train", *COUNTS, *small]) == 2
    text = capsys.readouterr().out
    assert (
        "Too small\n  - the training could only run out of memory: 191 MB of factors are collected "
        "at once"
    ) in text
    assert "use --exchange shuffle, or --conf spark.driver.memory=" in text
    record = record_of(capsys, "train", *COUNTS, *small, "--exchange", "shuffle")
    assert record["trainable"] is True
    assert {found["certain"] for found in record["too_small"]} == {False}


def test_the_model_that_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    stated = [*COUNTS, *CLUSTER]
    assert record_of(capsys, "train", *stated)["ranks"] == [10]
    assert record_of(capsys, "train", *stated, "--rank", "7")["ranks"] == [7]
    bayes = record_of(capsys, "train", *stated, "--method", "variational")
    assert (bayes["ranks"], bayes["workload"]["method"]) == ([16], "variational")
    assert record_of(capsys, "retrain", *stated)["ranks"] == [10]
    assert record_of(capsys, "retrain", *stated, "--dtype", "float64")["itemsize"] == 8


def test_the_rank_of_a_store_that_is_not_looked_up(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["retrain", *COUNTS, *CLUSTER, "--store", "hdfs://h/s"]
    assert program.main(words) == 2
    assert "the rank of its current version is not looked up there: give it with --rank" in (
        capsys.readouterr().err
    )
    assert record_of(capsys, *words, "--rank", "20")["ranks"] == [20]


def test_the_rank_of_the_current_version(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RetrainConfig(
        plan=True, counts="users=9,items=9,ratings=9", store=str(tmp_path / "none")
    )
    assert retrain.plan_choice(config) == (10, None)
    options = PosteriorOptions(rank=6, n_features=3, seed=9)
    ridge = {"lambda_reg": 1.0, "exponent": 0.0}
    described = {**ridge, "posterior": options_record(options)}
    model = SimpleNamespace(rank=9, description=described)
    store = SimpleNamespace(exists=lambda: True, current=lambda: "v1", load=lambda: model)
    monkeypatch.setattr(retrain, "store_of", lambda *_: store)
    # As the method of the version has it, not the rank of its factors.
    assert retrain.plan_choice(config) == (6, replace(options, seed=0, tol=3e-4))
    assert retrain.plan_choice(config.model_copy(update={"method": "ridge"})) == (9, None)
    model.description = ridge
    assert retrain.plan_choice(config) == (9, None)


def test_unusable_counts_are_named_as_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["sweep", "--plan", "--counts", "users=1"]) == 2
    assert "sweep: --counts users=1: items is missing: use" in capsys.readouterr().err
