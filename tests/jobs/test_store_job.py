"""``jobs/store.py``: a model store from the command line."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from als_spark.errors import PublishConflict
from als_spark.nightly.run_record import read_records
from als_spark.report.figures.quality import quality_picture
from als_spark.store.history import RunHistory
from als_spark.store.store import ModelStore, open_store
from jobs.store import main
from tests.conftest import ROOT
from tests.store_tools import make_folder, value_of

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store of the models 1, 2 and 3."""
    store = open_store(tmp_path / "store")
    for value in (1, 2, 3):
        store.publish(make_folder(tmp_path / str(value), value), run=f"run-{value}")
    return store


def names(store: ModelStore) -> list[str]:
    return [info.name for info in store.versions()]


def run(store: ModelStore, *options: str) -> int:
    return main([options[0], "--store", store.label, *options[1:]])


def test_list(store: ModelStore, capsys: Captured) -> None:
    first, second, third = names(store)
    store.files.replace(f"versions/{first}/model.json", b"")
    store.files.remove(f"versions/{second}/manifest.json")
    assert run(store, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        *("version", "created", "(UTC)", "size"),
        "times",
        "current",
        "complete",
    ]
    found = {line[:2]: line.split() for line in lines[4:5]}
    assert found["* "][1] == third
    assert found["* "][-2:] == ["1", "yes"]
    assert lines[2].split()[0] == first
    assert lines[2].split()[-1] == "NO"
    assert lines[3].split() == [second, "-", "-", "1", "NO"]
    assert run(store, "list", "--json") == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["version"] for record in records] == [first, second, third]
    assert [record["current"] for record in records] == [False, False, True]
    assert [record["complete"] for record in records] == [False, False, True]
    assert records[1]["size"] is None
    assert records[2]["size"] > 100


def test_an_empty_list(tmp_path: Path, capsys: Captured) -> None:
    store = open_store(tmp_path)
    with store.lock("r"):
        pass
    assert run(store, "list") == 0
    assert capsys.readouterr().out == f"{tmp_path} holds no version yet.\n"
    assert run(store, "current") == 2
    assert "holds no model yet: publish one first" in capsys.readouterr().err
    assert run(store, "current", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"version": None, "pointer": 0}


def test_current_and_show(store: ModelStore, capsys: Captured) -> None:
    first, _, third = names(store)
    assert run(store, "current") == 0
    assert capsys.readouterr().out == f"{third}\n"
    assert run(store, "current", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"version": third, "pointer": 3}
    assert run(store, "show") == 0
    out = capsys.readouterr().out
    for text in (f"{third} (current)", "user_factors.parquet", '"test_rmse": 0.3', "run-3"):
        assert text in out
    store.files.remove(f"versions/{first}/x")
    assert run(store, "show", "--version", first, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["version"], record["current"]) == (first, False)
    assert record["metrics"] == {"test_rmse": 0.1}
    assert record["files"]["model.json"].keys() == {"size", "sha256"}
    assert [pointer["run"] for pointer in record["pointers"]] == ["run-1"]


def test_a_version_without_metrics(tmp_path: Path, capsys: Captured) -> None:
    store = open_store(tmp_path / "store")
    folder = make_folder(tmp_path / "m", 1)
    (folder / "metrics.json").unlink()
    store.publish(folder, run="")
    assert run(store, "show") == 0
    assert "metrics" not in capsys.readouterr().out


def test_rollback(store: ModelStore, capsys: Captured) -> None:
    first, second, third = names(store)
    assert run(store, "rollback") == 0
    assert capsys.readouterr().out == (f"{second} is now the current version of {store.label}.\n")
    assert value_of(store.load()) == 2
    assert run(store, "rollback", "--to", third) == 0
    assert value_of(store.load()) == 3
    assert store.pointers()[-1].action == "rollback"
    assert run(store, "rollback", "--to", "nothing") == 2
    assert "has no version called 'nothing'" in capsys.readouterr().err
    assert run(store, "rollback", "--to", first) == 0
    assert run(store, "rollback") == 2
    # All that was done is on record, for people and for the next training.
    lines = store.history.read_history()
    assert [(line["previous_version"], line["rolled_back_to"]) for line in lines] == [
        (third, second),
        (second, third),
        (third, first),
    ]
    assert lines[0]["sentence"] == f"rolled back to {second} from {third}"
    records, problems = read_records(lines)
    assert problems == []
    assert {(record.outcome, record.version) for record in records} == {("rolled_back", None)}
    assert quality_picture([record.as_dict() for record in records]).startswith(b"\x89PNG")


def test_a_roll_back_that_cannot_be_noted_is_done(
    store: ModelStore, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second, third = names(store)
    store.files.replace(f"pointers/{store.pointer_number():08}.json", b"damaged")
    monkeypatch.setattr(RunHistory, "finish_run", lambda *_: 1 / 0)
    assert run(store, "rollback", "--to", second) == 0
    assert store.current() == second
    assert "warning: the roll-back is not in the history" in capsys.readouterr().out
    assert third in names(store)


def test_a_roll_back_leaves_unfinished_runs_to_the_next_training(store: ModelStore) -> None:
    dead = json.dumps({"run": "dead", "status": "running", "owner": None}).encode()
    store.files.replace("runs/dead/run.json", dead)
    assert run(store, "rollback") == 0
    assert [line["status"] for line in store.history.read_history()] == ["rolled_back"]
    assert "dead" in store.history.gather()


def test_prune(store: ModelStore, capsys: Captured) -> None:
    first, second, third = names(store)
    store.files.create("staging/0123456789abcdef.tmp", b"")
    assert run(store, "prune", "--keep", "1") == 0
    out = capsys.readouterr().out
    assert "removed  staging/0123456789abcdef.tmp (left by a run that was killed)" in out
    assert f"removed  {first}\nremoved  {second}\n2 versions pruned, 1 stays." in out
    assert names(store) == [third]


def test_verify(store: ModelStore, capsys: Captured) -> None:
    first, second, _ = names(store)
    assert run(store, "verify") == 0
    assert capsys.readouterr().out == "All versions are as published.\n"
    path = f"versions/{second}/item_factors.parquet"
    data = bytearray(store.files.read(path))
    data[len(data) // 2] ^= 1
    store.files.replace(path, bytes(data))
    assert run(store, "verify") == 1
    assert f"{path}: has another content (SHA-256)" in capsys.readouterr().out
    assert run(store, "verify", "--version", first) == 0
    assert capsys.readouterr().out == "The version is as published.\n"
    assert run(store, "verify", "--version", second) == 1
    assert run(store, "verify", "--version", "x") == 2


def test_a_roll_back_does_not_wait_for_a_run(
    store: ModelStore, capsys: Captured, tmp_path: Path
) -> None:
    _, second, third = names(store)
    with store.lock("nightly", ttl=timedelta(minutes=1)) as lock, store.open() as folder:
        shutil.copytree(folder, tmp_path / "new", ignore=shutil.ignore_patterns("manifest.json"))
        based_on = store.pointer_number()
        assert run(store, "rollback") == 0
        assert capsys.readouterr().out == (
            "A run is at work: it will find the store switched, and publish nothing.\n"
            f"{second} is now the current version of {store.label}.\n"
        )
        with pytest.raises(PublishConflict):
            store.publish(tmp_path / "new", run="nightly", expected=based_on, check=lock.check)
    assert store.current() == second
    assert names(store)[-1] == third
    assert store.history.read_history() == []
    store.history.gather()
    (line,) = store.history.read_history()
    assert (line["previous_version"], line["rolled_back_to"]) == (third, second)


def test_locked(store: ModelStore, capsys: Captured) -> None:
    before = names(store)
    with store.lock("nightly", ttl=timedelta(minutes=1)):
        assert run(store, "prune", "--keep", "1") == 5
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"store: {store.label} is locked by run nightly (")
    assert names(store) == before
    assert value_of(store.load()) == 3


@pytest.mark.parametrize("command", ["list", "show", "current", "rollback", "verify", "prune"])
def test_no_such_store(tmp_path: Path, capsys: Captured, command: str) -> None:
    target = tmp_path / "nowhere"
    keep = ["--keep", "1"] if command == "prune" else []
    assert main([command, "--store", str(target), *keep]) == 2
    assert capsys.readouterr().err == (
        f"store: --store {target}: there is no model store: check the path\n"
    )
    assert not target.exists()
    target.mkdir()
    (target / "mine").touch()
    assert main([command, "--store", target.as_uri(), *keep]) == 2
    assert "holds something else (mine) and is no model store" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["list"], "the following arguments are required: --store"),
        (["burn", "--store", "x"], "invalid choice: 'burn'"),
        (["prune", "--store", "x"], "the following arguments are required: --keep"),
        (["prune", "--store", "x", "--keep", "0"], "'0' is not a whole number above 0"),
        (["prune", "--store", "x", "--keep", "-1"], "is not a whole number above 0"),
        (["prune", "--store", "x", "--keep", "two"], "'two' is not a whole number above 0"),
        (["verify", "--store", "x", "--json"], "unrecognized arguments: --json"),
    ],
)
def test_unusable_options(argv: list[str], message: str, capsys: Captured) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_no_permission(
    store: ModelStore, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not by the mode of the folder: root may read anything.
    def read(*_arguments: object) -> bytes:
        raise PermissionError(13, "Permission denied", f"{store.label}/store.json")

    monkeypatch.setattr("als_spark.store.files.LocalFiles.read", read)
    assert run(store, "list") == 2
    assert f"no permission ({store.label}/store.json): ask its owner" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("loop", "Too many levels of symbolic links"),
        ("file/s", "there is no model store: check the path"),
        ("x" * 300, "File name too long"),
        ("b\udce9", "has the byte 0xe9 that is not of utf-8: rename it"),
        ("none", "there is no model store: check the path"),
    ],
)
@pytest.mark.parametrize("words", [["list"], ["rollback"], ["prune", "--keep", "1"]])
def test_places_where_no_store_can_be(
    tmp_path: Path, capsys: Captured, place: str, says: str, words: list[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    assert main([words[0], "--store", str(tmp_path / place), *words[1:]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("store: --store ")
    assert says in line


@pytest.mark.parametrize("words", [["rollback"], ["prune", "--keep", "1"]])
def test_a_store_on_a_read_only_file_system(
    store: ModelStore, capsys: Captured, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    def fail(path: str, *_more: object, **_words: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    for name in ("mkdir", "unlink", "rename", "link"):
        monkeypatch.setattr(os, name, fail)
    assert run(store, *words) == 2
    assert capsys.readouterr().err == (
        f"store: --store {store.label}: {store.label} is not writable (Read-only file system): "
        "give another folder\n"
    )
    # Reading needs no writing.
    assert run(store, "list") == 0
    assert run(store, "show") == 0


def test_a_full_disk(store: ModelStore, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    current = store.current()

    def fail(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        assert run(store, "rollback") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"store: --store {store.label}: No space left on device (")
    assert line.endswith("): free some space, and run it again")
    assert store.current() == current
    assert run(store, "verify") == 0


def test_local_stores_start_no_spark(store: ModelStore) -> None:
    code = (
        "import sys, jobs.store\n"
        f"assert jobs.store.main(['list', '--store', {store.label!r}]) == 0\n"
        "assert not {'pyspark', 'py4j', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=180)


def test_as_a_program_from_anywhere(store: ModelStore, tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "jobs" / "store.py", "current", "--store", "store"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{store.current()}\n"


def test_other_file_systems(
    spark: SparkSession, store: ModelStore, tmp_path: Path, capsys: Captured
) -> None:
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    hadoop.set("fs.viewfs.mounttable.storejob.link./models", f"file://{tmp_path}")
    target = "viewfs://storejob/models/store"
    first, second, third = names(store)
    assert main(["current", "--store", target]) == 0
    assert capsys.readouterr().out == f"{third}\n"
    assert main(["rollback", "--store", target]) == 0
    assert main(["verify", "--store", target]) == 0
    assert main(["prune", "--store", target, "--keep", "1"]) == 0
    assert names(store) == [second, third]
    assert value_of(store.load()) == 2
    assert first not in store.files.names("versions")
