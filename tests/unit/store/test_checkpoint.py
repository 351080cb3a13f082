"""A training that is killed and continued from its folder: the same bits, and no half folder."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from als_spark.errors import ConfigError, DataError
from als_spark.solve.objective import Objective
from als_spark.store.arrays import read_array, write_array
from als_spark.store.checkpoint import IDENTITY, RECORD, CheckpointFolder
from als_spark.store.files import LocalFiles
from als_spark.train.checkpoint import Interval
from als_spark.train.grid import SweepCollector, run_grid
from als_spark.train.records import ModelSpec, PointResult, TrainingOptions
from tests.conftest import local_backend, random_triples

SPECS = [
    ModelSpec(0, 1, Objective(6.0)),
    ModelSpec(1, 3, Objective(0.1, exponent=1.0, bias_reg=0.2)),
    ModelSpec(2, 4, Objective(0.1, exponent=1.0)),
    ModelSpec(3, 7, Objective(0.5, exponent=0.5)),
]
IDENTITY_OF = {"job": "sweep", "version": "1", "config": {"tol": 0.02, "ranks": (1, 4)}}
ALWAYS = Interval(1)
DATA, PLAN = {"ratings": 7}, {"placement": "ratings", "blocks": 2}


class Killed(BaseException):
    """The process is gone."""


def opened(
    path: Path, every: Interval = ALWAYS, restart: bool = False, **changed: Any
) -> CheckpointFolder:
    folder = CheckpointFolder(LocalFiles(path), "--checkpoint DIR", every)
    identity = {name: changed.get(name, value) for name, value in IDENTITY_OF.items()}
    folder.check(identity, restart=restart)
    folder.begin(identity, changed.get("data", DATA), changed.get("plan", PLAN))
    return folder


def run(backend, options, folder=None, kill_at=None) -> SweepCollector:
    collector, heard = SweepCollector("train"), []

    def on_iteration(record) -> None:
        heard.append(record)
        if len(heard) == kill_at:
            raise Killed

    run_grid(backend, SPECS, options, collector, on_iteration=on_iteration, checkpoint=folder)
    return collector


def assert_same(one: SweepCollector, other: SweepCollector) -> None:
    a, b = one.outcome(), other.outcome()
    assert a is not None
    assert b is not None
    assert [plain(p) for p in a.points] == [plain(p) for p in b.points]
    assert a.best == b.best
    for left, right in zip(a.best_factors, b.best_factors, strict=True):
        assert left.dtype == right.dtype
        assert left.tobytes() == right.tobytes()


def plain(point: PointResult) -> PointResult:
    history = tuple(replace(record, seconds=0.0) for record in point.history)
    return replace(point, seconds=0.0, history=history)


@pytest.mark.parametrize(
    ("accelerate", "every"),
    [(True, Interval(2)), (False, Interval(3)), (True, Interval(seconds=1e9))],
)
def test_killed_again_and_again(triples, tmp_path, accelerate, every):
    options = TrainingOptions(tol=0.02, max_iter=12, accelerate=accelerate)
    backend = local_backend(triples)
    undisturbed = run(backend, options)
    kills = 0
    # Without states a killed process must get as far as a finished point by itself.
    for at in (1, 6, 17, 40):
        try:
            last = run(backend, options, opened(tmp_path / "c", every), at)
            break
        except Killed:
            kills += 1
    else:
        last = run(backend, options, opened(tmp_path / "c", every))
    assert kills > 1
    assert_same(undisturbed, last)
    again = opened(tmp_path / "c", every)
    assert again.n_finished == len(SPECS)
    assert_same(undisturbed, run(backend, options, again, 1))
    again.remove()
    assert not (tmp_path / "c").exists()


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A folder with finished points and running ones."""
    tmp_path = tmp_path_factory.mktemp("checkpoint")
    triples = random_triples()
    each = [replace(TrainingOptions(tol=0.0, max_iter=20), max_iter=n) for n in (3, 20, 4, 20)]
    with pytest.raises(Killed):
        run(local_backend(triples), each, opened(tmp_path / "c"), 24)
    names = [entry.name for entry in sorted((tmp_path / "c").iterdir())]
    assert any(name.startswith("point-") for name in names)
    assert sum(name.startswith("states-") for name in names) == 2
    return tmp_path / "c"


class RemoteFiles(LocalFiles):
    """Files that have to be copied to this machine, as those of other file systems."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fetched: list[str] = []

    def local(self, path: str) -> Any:
        return None

    def fetch(self, path: str, target: Path) -> None:
        self.fetched.append(path)
        super().fetch(path, target)


class TestFolder:
    @pytest.fixture
    def path(self, first, tmp_path) -> Path:
        return Path(shutil.copytree(first, tmp_path / "c"))

    def test_two_states_are_kept_and_counted_on(self, path):
        before = sorted(path.glob("states-*"))
        folder = opened(path)
        states = folder.running()
        assert states
        assert all(not state.stopped or state.spec.point not in folder._done for state in states)
        folder._last = (0, 0.0)
        folder.keep_states(states)
        after = sorted(path.glob("states-*"))
        assert after[0] == before[1]
        assert len(after) == 2

    def test_each_file_is_copied_once_from_another_file_system(self, path):
        files = RemoteFiles(path)
        folder = CheckpointFolder(files, "--checkpoint DIR", ALWAYS)
        folder.check(IDENTITY_OF)
        folder.begin(IDENTITY_OF, DATA, PLAN)
        here = opened(path)
        for mine, theirs in zip(here.running(), folder.running(), strict=True):
            for one, other in zip(mine.factors, theirs.factors, strict=True):
                assert one.tobytes() == other.tobytes()
        states = max(path.glob("states-*"))
        assert sorted(files.fetched) == sorted(
            file.relative_to(path).as_posix() for file in states.glob("*.parquet")
        )
        (states / Path(files.fetched[0]).name).unlink()
        with pytest.raises(DataError, match=r"parquet: is missing: give `restart=`"):
            folder.running()

    @pytest.mark.parametrize("kind", ["states", "point"])
    def test_a_folder_without_its_record_is_not_taken(self, path, kind):
        last = max(path.glob(f"{kind}-*"))
        (last / RECORD).unlink()
        folder = opened(path)
        assert not last.exists()
        assert folder.running()
        if kind == "point":
            assert folder.n_finished == len(list(path.glob("point-*")))

    @pytest.mark.parametrize("kind", ["states", "point"])
    @pytest.mark.parametrize(
        ("file", "damage"),
        [
            *(("*.parquet", damage) for damage in ("flipped", "cut", "empty", "gone")),
            *((RECORD, damage) for damage in ("flipped", "cut", "empty")),
        ],
    )
    def test_damage_is_named(self, path, kind, file, damage):
        found = max(path.glob(f"{kind}-*/{file}"))
        data = bytearray(found.read_bytes())
        if damage == "gone":
            found.unlink()
        else:
            # A digit of the record, so that it stays JSON.
            place = next(k for k in range(len(data) // 3, len(data)) if 48 <= data[k] < 56)
            data[place] ^= 1
            found.write_bytes({"flipped": data, "cut": data[:-9], "empty": b""}[damage])
        folder = opened(path)
        words = f"--checkpoint DIR/{found.parent.name}/{found.name}: .*give `restart=`"
        with pytest.raises(DataError, match=words):
            folder.running() if kind == "states" else list(folder.finished())
        assert opened(path, restart=True).n_finished == 0
        assert {entry.name for entry in path.iterdir()} <= {IDENTITY, "staging"}

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"job": "train"}, 'the job had "sweep", and has "train"'),
            ({"version": "2"}, "the version of als_spark"),
            ({"config": {"tol": 0.1, "ranks": (1, 4)}}, '"tol": 0.02, and has "tol": 0.1'),
            ({"data": {"ratings": 8}}, 'the ratings had "ratings": 7, and has "ratings": 8'),
            ({"plan": {"placement": "grid"}}, '`placement="ratings"` was chosen'),
        ],
    )
    def test_another_training_is_refused(self, path, changed, words):
        with pytest.raises(ConfigError, match=f"--checkpoint DIR: .*{words}.*give `restart=`"):
            opened(path, **changed)
        assert opened(path, restart=True, **changed).running() == []

    def test_other_blocks_are_told(self, path):
        folder = CheckpointFolder(LocalFiles(path), "DIR", Interval(1))
        folder.check(IDENTITY_OF)
        (words,) = folder.begin(IDENTITY_OF, DATA, {**PLAN, "blocks": 3})
        assert "agree to rounding" in words

    @pytest.mark.parametrize("content", [b"{", b"{}", b'{"format": "als_spark.store/1"}', b"[1]"])
    def test_an_identity_that_is_none(self, path, content):
        (path / IDENTITY).write_bytes(content)
        with pytest.raises(DataError, match=f"--checkpoint DIR/{IDENTITY}: "):
            opened(path)

    @pytest.mark.parametrize("restart", [False, True])
    def test_a_foreign_folder_is_left_alone(self, path, restart):
        (path / "thesis.tex").write_text("mine")
        before = sorted(path.rglob("*"))
        with pytest.raises(ConfigError, match=r"holds 'thesis.tex', which is of no checkpoint"):
            opened(path, restart=restart)
        assert sorted(path.rglob("*")) == before


def test_bits_of_an_array(tmp_path):
    array = np.array([[0.0, -0.0, 1e-45], [math.pi, -math.inf, math.nan]], np.float32)
    for own in (array, array.astype(np.float64), array[:0]):
        write_array(tmp_path / "a.parquet", own)
        again = read_array(tmp_path / "a.parquet")
        assert (again.dtype, again.shape, again.tobytes()) == (own.dtype, own.shape, own.tobytes())


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "m", "10s", "", "1h", "9" * 12])
def test_no_interval(text):
    with pytest.raises(ConfigError, match=r"--checkpoint-every .*not usable"):
        Interval.parse(text)


def test_intervals():
    assert Interval.parse("5") == Interval(iterations=5)
    assert Interval.parse("10m") == Interval(seconds=600.0)
    assert not Interval(5).is_over(4, 1e9)
    assert Interval(5).is_over(5, 0)
    assert not Interval(seconds=60).is_over(10**9, 59)
    assert Interval(seconds=60).is_over(0, 60)
