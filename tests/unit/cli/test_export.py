"""``jobs/export.py`` on this machine: no Spark is started."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from als_spark.cli import export
from als_spark.store.store import open_store
from jobs.export import main
from tests.store_tools import make_folder


@pytest.fixture(autouse=True)
def no_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    def starts(*_: object, **__: object) -> None:
        raise AssertionError("Spark was started")

    monkeypatch.setattr(export, "spark_job", starts)
    monkeypatch.setattr(subprocess, "Popen", starts)


def test_a_folder_and_a_version_of_a_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = make_folder(tmp_path / "model", 2), tmp_path / "out"
    assert main(["--model", str(folder), "--output", str(out)]) == 0
    written = {"user_vectors.npy", "item_vectors.npy", "user_ids.npy", "item_ids.json"}
    assert {path.name for path in out.iterdir()} == {*written, "export.json", "_ALS_SPARK"}
    record = json.loads((out / "export.json").read_text())
    assert (record["to"], record["metric"], record["version"]) == ("npy", "inner-product", None)
    assert record["model"] == record["config"]["model"] == str(folder)
    assert np.load(out / record["users"]["vectors"]).tolist() == [[2.0, 2.0]] * 2
    assert "2 users and 3 items, vectors of 2 numbers\nWritten to" in capsys.readouterr().out
    store = open_store(tmp_path / "store")
    names = [store.publish(make_folder(tmp_path / str(k), k), run="r") for k in (3, 4)]
    words = ["--store", str(tmp_path / "store"), "--output", str(out), "--to", "parquet"]
    assert main([*words, "--version", names[0], "--metric", "cosine"]) == 0
    # What another run has written goes.
    assert {path.name for path in out.iterdir()} == {
        *("users.parquet", "items.parquet", "export.json", "_ALS_SPARK"),
    }
    record = json.loads((out / "export.json").read_text())
    assert (record["to"], record["metric"], record["version"]) == ("parquet", "cosine", names[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "csv"], "--to csv: not usable: use one of npy, parquet, faiss-ready"),
        (["--metric", "l2"], "--metric l2: not usable: use one of inner-product, cosine"),
        (["--store", "nowhere"], "--store and --model: give one of the two"),
    ],
)
def test_unusable_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    folder, out = make_folder(tmp_path / "model", 2), tmp_path / "out"
    assert main(["--model", str(folder), "--output", str(out), *words]) == 2
    assert capsys.readouterr().err.startswith(f"export: {message}")
    assert not out.exists()


def test_what_is_in_the_way_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = make_folder(tmp_path / "model", 2), tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    assert main(["--model", str(folder), "--output", str(out)]) == 2
    assert "holds 'thesis.txt', which no earlier export has written" in capsys.readouterr().err
    (folder / "model.json").write_text("{}")
    assert main(["--model", str(folder), "--output", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()
    assert main(["--model", str(folder), "--output", str(folder / "in")]) == 2
