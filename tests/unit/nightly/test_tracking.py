"""The record in MLflow, read back from a folder by MLflow's own client."""

from __future__ import annotations

import importlib
import math
import os
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from als_spark.cli.config.retrain import RetrainConfig
from als_spark.cli.config.settings import config_record
from als_spark.cli.config.stored import EvaluateConfig
from als_spark.cli.config.train import TrainConfig
from als_spark.errors import ConfigError
from als_spark.nightly.tracking import (
    LONGEST_NAME,
    LONGEST_PARAM,
    LONGEST_TAG,
    METRICS_A_BATCH,
    PARAMS_A_BATCH,
    check_tracking,
    finite_metrics,
    flat_params,
    log_run,
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> str:
    """An address of MLflow's file store, which its newer versions want to be asked for."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "runs").as_uri()


def client_of(uri: str):
    mlflow = importlib.import_module("mlflow")
    return mlflow.MlflowClient(tracking_uri=uri)


def only_run(uri: str, experiment: str = "nightly"):
    client = client_of(uri)
    found = client.get_experiment_by_name(experiment)
    (run,) = client.search_runs([found.experiment_id])
    return run


def log(uri: str, params=None, metrics=None, tags=None, artefacts: Path | None = None):
    return log_run(uri, "nightly", "2024-05-01", params or {}, metrics or {}, tags or {}, artefacts)


class TestReadBack:
    def test_values(self, folder):
        params = {"rank": 20, "training": {"tol": 1e-3, "stop": {"max_iter": 50}}, "ranks": (1, 5)}
        metrics = {"test_rmse": np.float32(0.875), "ndcg@10": 0.25, "n_users": 610}
        assert log(folder, params, metrics, {"outcome": "published"}) is None
        run = only_run(folder)
        assert run.info.run_name == "2024-05-01"
        assert run.info.status == "FINISHED"
        assert run.data.params == {
            "rank": "20",
            "training.tol": "0.001",
            "training.stop.max_iter": "50",
            "ranks": "[1, 5]",
        }
        assert run.data.metrics == {"test_rmse": 0.875, "ndcg_at_10": 0.25, "n_users": 610.0}
        assert run.data.tags["outcome"] == "published"

    def test_the_second_run_joins_the_experiment(self, folder):
        for _ in range(2):
            assert log(folder) is None
        client = client_of(folder)
        experiment = client.get_experiment_by_name("nightly")
        assert len(client.search_runs([experiment.experiment_id])) == 2

    def test_numbers_that_are_none_are_left_out(self, folder):
        metrics = {"a": None, "b": math.nan, "c": math.inf, "d": 0.0}
        assert log(folder, metrics=metrics) is None
        assert only_run(folder).data.metrics == {"d": 0.0}

    def test_long_values_are_cut(self, folder, recwarn):
        params, tags = {"p": "x" * 9000, "n" * 300: 1, "l": ["y" * 9000]}, {"t": "z" * 9000}
        assert log(folder, params, tags=tags) is None
        data = only_run(folder).data
        assert data.params == {"p": "x" * 6000, "n" * 250: "1", "l": '["' + "y" * 5998}
        assert data.tags["t"] == "z" * 8000

    def test_more_values_than_go_into_one_request(self, folder):
        params = {f"p{number}": number for number in range(PARAMS_A_BATCH + 1)}
        metrics = {f"m{number}": float(number) for number in range(METRICS_A_BATCH + 1)}
        assert log(folder, params, metrics) is None
        data = only_run(folder).data
        assert data.params == {name: str(value) for name, value in params.items()}
        assert data.metrics == metrics

    def test_artefacts_of_a_folder_and_of_a_file(self, folder, tmp_path):
        kept = tmp_path / "kept"
        (kept / "plots").mkdir(parents=True)
        (kept / "run.json").write_text("{}")
        (kept / "plots" / "errors.png").write_bytes(b"png")
        assert log(folder, artefacts=kept) is None
        run_id = only_run(folder).info.run_id
        client = client_of(folder)
        assert [file.path for file in client.list_artifacts(run_id)] == ["plots", "run.json"]
        assert log_run(folder, "other", "name", {}, {}, {}, kept / "run.json") is None
        run_id = only_run(folder, "other").info.run_id
        assert [file.path for file in client.list_artifacts(run_id)] == ["run.json"]

    @pytest.mark.parametrize(
        "name", ["a:b", "../up", "/root", "a//b", ".", "é ü", "x" * 249 + "/y"]
    )
    def test_any_name_is_made_valid(self, folder, name):
        assert log(folder, {name: 1}, {name: 2.0}, {name: "t"}) is None
        run = only_run(folder)
        (param,), (metric,) = run.data.params, run.data.metrics
        assert param == metric
        assert param in run.data.tags

    def test_the_environment_and_standard_output_are_left_as_they_were(self, folder, capfd):
        before = dict(os.environ)
        assert log(folder, {"rank": 1}, {"rmse": 1.0}) is None
        assert dict(os.environ) == before
        assert capfd.readouterr() == ("", "")


class TestConfigRecord:
    @pytest.mark.parametrize(
        ("address", "kept"),
        [
            ("https://me:secret@mlflow.example/path", "https://***@mlflow.example/path"),
            ("https://secret@mlflow.example", "https://***@mlflow.example"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("/srv/me@home/runs", "/srv/me@home/runs"),
            (None, None),
        ],
    )
    @pytest.mark.parametrize("kind", [TrainConfig, RetrainConfig])
    def test_no_password_is_kept(self, kind, address, kept):
        config = kind(ratings="r.csv", store="s", mlflow=address)
        record = config_record(config)
        assert record["mlflow"] == kept
        assert config.mlflow == address
        assert "secret" not in str(record)

    def test_all_else_is_as_it_was_given(self):
        config = RetrainConfig(ratings="r", store="s", increments=("a", "b"), max_growth=math.inf)
        record = config_record(config)
        planning = {"plan", "counts", "cluster", "as_json"}
        fields = set(RetrainConfig.model_fields) - planning
        assert record.keys() == fields - {"reg"} | {"lambda_reg"}
        assert (record["increments"], record["max_growth"]) == (["a", "b"], "inf")
        assert "mlflow" not in config_record(EvaluateConfig(ratings="r", store="s", output="o"))


class TestFlattening:
    @pytest.mark.parametrize(
        ("params", "flat"),
        [
            ({}, {}),
            ({"a": {}}, {"a": "{}"}),
            ({"a": None, "b": True}, {"a": "None", "b": "True"}),
            ({"a": {"b": {"c": 1}}, "a.d": 2}, {"a.b.c": "1", "a.d": "2"}),
            ({"paths": [Path("/x"), "é"]}, {"paths": '["/x", "é"]'}),
            ({"path": Path("/x")}, {"path": "/x"}),
            ({1: "one"}, {"1": "one"}),
        ],
    )
    def test_params(self, params, flat):
        assert flat_params(params) == flat

    def test_metrics(self):
        assert finite_metrics({"a/b": np.float64(2), "c": -math.inf, "$d": 1}) == {
            "a/b": 2.0,
            "_d": 1.0,
        }


def test_limits_are_those_of_mlflow():
    theirs = importlib.import_module("mlflow.utils.validation")
    assert theirs.MAX_ENTITY_KEY_LENGTH == LONGEST_NAME
    assert theirs.MAX_PARAM_VAL_LENGTH == LONGEST_PARAM
    assert theirs.MAX_TAG_VAL_LENGTH == LONGEST_TAG
    assert theirs.MAX_PARAMS_TAGS_PER_BATCH == PARAMS_A_BATCH
    assert theirs.MAX_METRICS_PER_BATCH == METRICS_A_BATCH


class TestCheck:
    def test_takes_a_folder_and_a_server_that_need_not_run(self, folder):
        check_tracking(folder)
        check_tracking("http://127.0.0.1:9")

    def test_a_folder_that_mlflow_refuses(self, tmp_path, monkeypatch):
        monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
        with pytest.raises(
            ConfigError,
            match=r"^MLflow at /.*not taken \(.*maintenance mode.*ALLOW_FILE_STORE=true$",
        ):
            check_tracking(str(tmp_path / "refused"))

    def test_an_address_of_no_kind_that_it_knows(self):
        with pytest.raises(
            ConfigError, match=r"^MLflow at ftp://\*\*\*@x/runs: not taken"
        ) as caught:
            check_tracking("ftp://me:secret@x/runs")
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("call", [check_tracking, log])
    def test_without_mlflow(self, monkeypatch, call):
        monkeypatch.setitem(sys.modules, "mlflow", None)
        with pytest.raises(
            ConfigError, match=r"not installed \(.*mlflow.*\): pip install 'als_spark\[mlflow\]'$"
        ):
            call("http://127.0.0.1:9")


class TestServerThatFails:
    def test_nobody_listens(self, monkeypatch):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        warning = log(f"http://me:secret@127.0.0.1:{port}")
        assert warning.startswith(f"MLflow at http://***@127.0.0.1:{port}: not logged (API request")
        assert "secret" not in warning
        assert "\n" not in warning

    def test_somebody_listens_and_never_answers(self, monkeypatch):
        # That the user's own patience is kept to, too.
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            start = time.monotonic()
            warning = log(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "not logged" in warning
        assert time.monotonic() - start < 20

    def test_a_refused_folder_is_no_failure_after_the_work(self, tmp_path, monkeypatch):
        monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
        assert "not logged (The filesystem" in log(str(tmp_path / "refused"))

    def test_a_run_that_breaks_off_is_marked(self, folder, tmp_path):
        warning = log(folder, {"rank": 3}, artefacts=tmp_path / "nowhere")
        run = only_run(folder)
        assert f"run {run.info.run_id} is incomplete (" in warning
        assert run.info.status == "FAILED"
        assert run.data.params == {"rank": "3"}
