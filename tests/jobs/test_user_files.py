"""No job deletes a file of the user's: every input of every job inside of what the job writes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from als_spark.cli import spark_job as running
from als_spark.cli.config.retrain import RetrainConfig
from als_spark.cli.config.settings import option_name, option_types
from als_spark.cli.config.stored import EvaluateConfig, RecommendConfig
from als_spark.cli.config.sweep import SweepConfig
from als_spark.cli.config.train import TrainConfig
from als_spark.files.outputs import replaced_folder
from als_spark.store.store import open_store
from jobs import evaluate, recommend, retrain, store, sweep, train
from tests.store_tools import make_folder

CONFIGS: dict[str, Any] = {
    "sweep": SweepConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "recommend": RecommendConfig,
    "retrain": RetrainConfig,
}
MAINS: dict[str, Callable[[list[str]], int]] = {
    "sweep": sweep.main,
    "train": train.main,
    "evaluate": evaluate.main,
    "recommend": recommend.main,
    "retrain": retrain.main,
}
WORDS = {"encoding", "table", "user_col", "item_col", "rating_col", "timestamp_col", "version"}
WORDS |= {"mlflow_experiment", "null_words", "counts", "cluster", "checkpoint_every"}
WORDS |= {"user_feature_cols", "item_feature_cols"}
"""Options that take any text but a path."""
WRITTEN = ("output", "target store")


def roles(job: str) -> dict[str, str]:
    """Role of each option that takes a path."""
    types = option_types(CONFIGS[job])
    return {name: one.shown.role for name, one in types.items() if one.shown.role is not None}


CASES = [
    (job, target, name)
    for job in CONFIGS
    for target, role in roles(job).items()
    if role in WRITTEN
    for name in (*(n for n, r in roles(job).items() if r in ("input", "model", "store")), "config")
]


def digest(folder: Path) -> dict[str, str]:
    """Of all that is below a folder: the SHA-256 of files, where links lead."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def make_input(name: str, place: Path) -> Path:
    """Make what an option takes: a model, a store, the configuration or a file of ratings."""
    if name == "model":
        return make_folder(place / "mine", 1)
    if name == "store":
        found = open_store(place / "mine")
        found.publish(make_folder(place.parent / "unpublished", 1), run="r")
        return place / "mine"
    if name == "from_sweep":
        (place / "mine").mkdir()
        (place / "mine" / "results.json").write_text('[{"d": 1, "lambda_reg": 1, "best": true}]')
        (place / "mine" / "run.json").write_text('{"config": {"exponent": 0}}')
        return place / "mine"
    file = place / ("mine.toml" if name == "config" else "mine.csv")
    file.write_text("" if name == "config" else "user,item,rating\n10,i0,3\n20,i1,4\n")
    return file


def arguments(job: str, target: str, out: Path, name: str, path: str, desk: Path) -> list[str]:
    """Write a command line that is right but for the place of one input."""
    given = {target: str(out), name: path}
    if job != "recommend":
        given.setdefault("ratings", str(make_input("ratings", desk)))
    if job in ("evaluate", "recommend") and "store" not in given:
        given.setdefault("model", str(desk / "mine"))
        if not (desk / "mine").exists():
            make_input("model", desk)
    return [word for field, value in given.items() for word in (option_name(field), value)]


@pytest.fixture
def no_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused, is refused before Spark is started."""

    def start(_name: str) -> SparkSession:
        raise AssertionError("Spark was started")

    monkeypatch.setattr(running, "start_session", start)


def test_every_option_that_takes_a_path_has_a_role() -> None:
    for job, config in CONFIGS.items():
        types = option_types(config)
        texts = {name for name, one in types.items() if one.base is str and not one.words}
        assert texts == roles(job).keys() | (texts & WORDS), job
        assert any(role in WRITTEN for role in roles(job).values())
    inputs = {"ratings", "test", "increments", "exclude_seen", "users", "fold_in", "from_sweep"}
    inputs |= {"user_features", "item_features"}
    assert inputs == {name for _, _, name in CASES} - {"model", "store", "config"}


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize("way", ["direct", "dots", "link", "linked output", "linked file", "uri"])
@pytest.mark.parametrize(("job", "target", "name"), CASES)
def test_an_input_inside_of_what_is_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    job: str,
    target: str,
    name: str,
    way: str,
) -> None:
    home, desk = tmp_path / "home", tmp_path / "desk"
    out = home / "out"
    (out / "deep").mkdir(parents=True)
    desk.mkdir()
    mine = make_input(name, out / "deep")
    path = {
        "direct": str(mine),
        "dots": f"{desk}/../home/out/deep/../deep/{mine.name}",
        "link": str(tmp_path / "link" / "deep" / mine.name),
        "linked output": str(mine),
        "linked file": str(tmp_path / "file"),
        "uri": f"file://{mine}",
    }[way]
    if way == "uri" and name == "config":
        path = str(mine)
    (tmp_path / "link").symlink_to(out)
    (tmp_path / "file").symlink_to(mine)
    place = tmp_path / "link" if way == "linked output" else out
    argv = arguments(job, target, place, name, path, desk)
    before = digest(tmp_path)
    assert MAINS[job](argv) == 2
    assert digest(tmp_path) == before
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{job}: {option_name(name)} {path}: lies in {option_name(target)} ")


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize(("job", "target", "name"), CASES)
def test_an_input_that_is_what_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], job: str, target: str, name: str
) -> None:
    (tmp_path / "desk").mkdir()
    mine = make_input(name, tmp_path)
    argv = arguments(job, target, mine, name, str(mine), tmp_path / "desk")
    before = digest(tmp_path)
    assert MAINS[job](argv) == 2
    assert digest(tmp_path) == before
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize("job", [job for job in CONFIGS if "output" in roles(job)])
@pytest.mark.parametrize(
    "kind", ["mine", "other kind", "model", "store", "in a model", "in a store"]
)
def test_an_output_that_holds_or_lies_in_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], job: str, kind: str
) -> None:
    (tmp_path / "desk").mkdir()
    out = tmp_path / "out"
    if kind == "mine":
        with replaced_folder(out, job) as staged:  # type: ignore[arg-type]
            (staged.content / "ours").touch()
        (out / "ratings.csv").write_text("mine")
    elif kind == "other kind":
        other = "train" if job == "sweep" else "sweep"
        with replaced_folder(out, other) as staged:
            (staged.content / "theirs").touch()
    else:
        holder = make_input(kind.rpartition(" ")[2], tmp_path)
        out = holder if not kind.startswith("in") else holder / "below" / "out"
    ratings = str(make_input("ratings", tmp_path / "desk"))
    name = "fold_in" if job == "recommend" else "ratings"
    argv = arguments(job, "output", out, name, ratings, tmp_path / "desk")
    before = digest(tmp_path)
    assert MAINS[job](argv) == 2
    assert digest(tmp_path) == before
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{job}: --output {out}: ")


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize("job", ["train", "retrain"])
@pytest.mark.parametrize("below", ["nested", "versions/x", "staging/x", "runs/a/b"])
@pytest.mark.parametrize("kind", ["model", "store"])
def test_a_store_in_a_model_or_a_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], job: str, below: str, kind: str
) -> None:
    holder = make_input(kind, tmp_path)
    ratings = str(make_input("ratings", tmp_path))
    argv = ["--ratings", ratings, "--store", f"{holder}/{below}"]
    before = digest(tmp_path)
    assert MAINS[job](argv) == 2
    # One that is there already, as earlier versions took it.
    (holder / below).mkdir(parents=True)
    shutil.copytree(make_input("store", holder / below), holder / below, dirs_exist_ok=True)
    assert MAINS[job](argv) == 2
    what = "model" if kind == "model" else "model store"
    line = (
        f"{job}: --store {holder}/{below}: lies in the {what} {holder}: give a folder outside of "
        "it\n"
    )
    assert capsys.readouterr().err == 2 * line
    shutil.rmtree(holder / below.partition("/")[0]) if kind == "model" else None
    assert before.items() <= digest(tmp_path).items()


PLACES = [
    ("{tmp}/file/s", "{tmp}/file is a file: give another folder"),
    ("{tmp}/loop", "(Too many levels of symbolic links): give another folder"),
    ("{tmp}/loop/s", "(Too many levels of symbolic links): give another folder"),
    ("/proc/als_spark/s", "/proc is not writable ("),
    ("{tmp}/" + "x" * 300, "(File name too long): give another folder"),
    ("{tmp}/readonly/s", "{tmp}/readonly is not writable (Read-only file system): give another"),
    ("{tmp}/b\udce9", r"{tmp}/b\udce9: has the byte 0xe9 that is not of utf-8: rename it"),
    ("models:v1", "models:v1: what stands before a colon is taken for a file system, unless"),
]


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize(
    ("job", "option"),
    [(job, name) for job in CONFIGS for name, role in roles(job).items() if role in WRITTEN],
)
@pytest.mark.parametrize(("place", "says"), PLACES)
def test_a_place_that_cannot_be_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    job: str,
    option: str,
    place: str,
    says: str,
) -> None:
    """Told before Spark is started, which is before the work."""
    (tmp_path / "desk").mkdir()
    (tmp_path / "readonly").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    real = os.mkdir

    def mkdir(path: str | Path, *mode: int) -> None:
        if str(path).startswith(f"{tmp_path}/readonly/"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        real(path, *mode)

    name = "fold_in" if job == "recommend" else "ratings"
    ratings = str(make_input("ratings", tmp_path / "desk"))
    target = place.format(tmp=tmp_path)
    argv = arguments(job, option, Path("unused"), name, ratings, tmp_path / "desk")
    argv[argv.index("unused")] = target
    before = digest(tmp_path)
    monkeypatch.setattr(os, "mkdir", mkdir)
    assert MAINS[job](argv) == 2
    assert digest(tmp_path) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{job}: {option_name(option)} ")
    if place.endswith("loop") and option == "output":
        says = "this is a link that leads in a circle: give a folder"
    assert says.format(tmp=tmp_path) in line


@pytest.mark.usefixtures("no_spark")
@pytest.mark.parametrize("job", list(CONFIGS))
def test_bytes_that_are_no_text_in_every_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], job: str
) -> None:
    (tmp_path / "desk").mkdir()
    for name in roles(job):
        if name == "mlflow":
            continue
        target = next(field for field, role in roles(job).items() if role in WRITTEN)
        argv = arguments(job, target, tmp_path / "out", name, "b\udce9", tmp_path / "desk")
        assert MAINS[job](argv) == 2
        (line,) = capsys.readouterr().err.splitlines()
        option = option_name(name)
        assert line.startswith(rf"{job}: {option} b\udce9: has the byte 0xe9 that is not of utf-8")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "m", 1)


RATINGS = "user,item,rating\n10,i0,3\n20,i1,4\n"


def recommended(out: Path, model: Path, *more: str) -> int:
    return recommend.main(["--model", str(model), "--output", str(out), "--files", "1", *more])


def evaluated(out: Path, model: Path, *more: str) -> int:
    options = ["--model", str(model), "--output", str(out), "--ranking-users", "0"]
    return evaluate.main([*options, *more])


def test_an_earlier_output_is_replaced_and_nothing_else(
    spark: SparkSession, tmp_path: Path, model: Path
) -> None:
    (tmp_path / "ratings.csv").write_text(RATINGS)
    for folder in (tmp_path / "out.kept", tmp_path / ".out", tmp_path / "out2"):
        folder.mkdir()
        (folder / "notes").write_text("mine")
    out = tmp_path / "out"
    for run in range(2):
        before = {n: d for n, d in digest(tmp_path).items() if n.partition("/")[0] != "out"}
        assert recommended(out, model, "--users", str(tmp_path / "ratings.csv")) == 0
        after = {n: d for n, d in digest(tmp_path).items() if n.partition("/")[0] != "out"}
        assert after == before
        assert len(list(out.glob("part-*"))) == 1, run
    # A hard link to a file of the output is a file of its own, as an input too.
    (part,) = out.glob("part-*")
    os.link(part, tmp_path / "mine.parquet")
    kept = (tmp_path / "mine.parquet").read_bytes()
    assert recommended(out, model, "--users", str(tmp_path / "mine.parquet")) == 0
    assert (tmp_path / "mine.parquet").read_bytes() == kept


@pytest.mark.parametrize("way", ["braces", "table", "folder of links"])
def test_files_that_are_found_once_they_are_read(
    spark: SparkSession, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "ratings.csv").write_text(RATINGS)
    source = ("--ratings", f"{tmp_path}/{{nothing,out}}/ratings.csv")
    if way == "table":
        spark.read.option("header", True).csv(str(out)).createOrReplaceTempView("mine")
        source = ("--table", "mine")
    elif way == "folder of links":
        (tmp_path / "lake").mkdir()
        (tmp_path / "lake" / "a.csv").symlink_to(out / "ratings.csv")
        source = ("--ratings", str(tmp_path / "lake"))
    # Put there between the first look and the reading, as far as the job knows.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("als_spark.cli.spark_paths.check_local_target", lambda *_: None)
        patch.setattr("als_spark.spark.output.check_local_target", lambda *_: None)
        before = digest(tmp_path)
        assert evaluated(out, model, *source) == 2
    assert digest(tmp_path) == before
    assert "lies in --output" in capsys.readouterr().err


def test_another_name_of_the_file_system(
    spark: SparkSession, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    hadoop.set("fs.viewfs.mounttable.mine.link./disk", f"file://{tmp_path}")
    shutil.copytree(model, tmp_path / "out")
    (tmp_path / "out" / "ratings.csv").write_text(RATINGS)
    (tmp_path / "ratings.csv").write_text(RATINGS)
    here, there = str(tmp_path), "viewfs://mine/disk"
    before = digest(tmp_path)
    for a, b in ((here, there), (there, here), (there, there)):
        argv = ["--output", f"{a}/out", "--model", f"{b}/out", "--ratings", f"{b}/ratings.csv"]
        assert evaluate.main(argv) == 2
        argv = ["--output", f"{a}/out/x", "--model", f"{b}/out", "--ratings", f"{b}/ratings.csv"]
        assert evaluate.main(argv) == 2
        argv = ["--output", f"{a}/out", "--model", str(model), "--ratings", f"{b}/out/ratings.csv"]
        assert evaluate.main(argv) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "evaluate: " in line]
        assert len(lines) == 3
        assert digest(tmp_path) == before
    assert train.main(["--ratings", f"{here}/ratings.csv", "--store", f"{there}/out/new"]) == 2
    says = f"--store {there}/out/new: lies in the model {here}/out: give a folder outside of it"
    assert says in capsys.readouterr().err
    assert digest(tmp_path) == before


@pytest.mark.slow
def test_a_failed_run_and_files_that_came_meanwhile(
    spark: SparkSession, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ratings.csv").write_text(RATINGS)
    out, source = tmp_path / "out", ("--ratings", str(tmp_path / "ratings.csv"))
    assert evaluated(out, model, *source) == 0
    before = digest(tmp_path)
    (tmp_path / "bad.csv").write_text("user,item,rating\n10,i0,x\n")
    assert evaluated(out, model, "--ratings", str(tmp_path / "bad.csv")) == 2
    (tmp_path / "bad.csv").unlink()
    assert digest(tmp_path) == before
    real = running.open_ratings

    def open_ratings(*arguments: Any, **words: Any) -> Any:
        (out / "mine.csv").write_text("mine")
        return real(*arguments, **words)

    monkeypatch.setattr("als_spark.cli.evaluate.open_ratings", open_ratings)
    assert evaluated(out, model, *source) == 0
    assert (out / "mine.csv").read_text() == "mine"
    # Which the next run asks to be moved.
    assert evaluated(out, model, *source) == 2


def test_the_store_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "store"
    made = open_store(place)
    names = [made.publish(make_folder(tmp_path / "m", k), run="r") for k in range(3)]
    for name in ("staging/ratings.csv", f"versions/{names[0]}/ratings.csv", "versions/mine/x"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("mine")
    before = digest(tmp_path)
    assert store.main(["prune", "--store", str(place), "--keep", "1"]) == 0
    assert store.main(["rollback", "--store", str(place), "--to", names[0]]) == 2
    after = digest(tmp_path)
    gone = before.keys() - after.keys()
    assert gone
    assert all(name.startswith(f"store/versions/{names[1]}") for name in gone)
    assert all(after[name] == before[name] for name in before.keys() - gone)
    capsys.readouterr()
