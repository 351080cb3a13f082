"""The model store: what readers get, whatever happens to the files."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import time
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from als_spark.errors import ConfigError, DataError, LockLost, PublishConflict
from als_spark.store import maintenance, reading
from als_spark.store.files import LocalFiles
from als_spark.store.layout import Pointer, Pointers, utc_now
from als_spark.store.leases import leased
from als_spark.store.manifest import Manifest, list_files
from als_spark.store.store import ModelStore, open_store
from tests.store_tools import Clock, make_folder, value_of

FIRST = "20261125T034055Z"


class RemoteFiles(LocalFiles):
    """Files that have to be downloaded, as those of other file systems."""

    def local(self, path):
        return None


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of the models 1 to 6; each has another number of items, so other sizes."""
    root = tmp_path_factory.mktemp("models")
    return {k: make_folder(root / str(k), k, n_items=2 + k) for k in range(1, 7)}


@pytest.fixture(autouse=True)
def without_fsync(monkeypatch):
    """No machine fails here; what is synchronised, and when, is tested with the files."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "new" / "store"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(root, clock):
    return ModelStore(LocalFiles(root), "STORE", clock=clock)


@pytest.fixture
def publish(store, clock, models):
    """Publish some models, a day apart."""

    def publish_all(*values):
        names = []
        for value in values:
            clock.forward(days=1)
            names.append(store.publish(models[value], run=f"run-{value}"))
        return names

    return publish_all


@pytest.fixture
def quick(monkeypatch):
    """Let readers not wait before they try again."""
    monkeypatch.setattr(reading, "_PAUSE", 0.0)


def tree(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


class TestPublishing:
    def test_an_empty_store(self, store, root):
        for _ in range(2):
            assert store.current() is None
            assert store.versions() == []
            assert store.pointers() == []
            assert store.pointer_number() == 0
            assert store.verify() == []
            assert store.recover() == []
            assert store.prune(1) == []
            assert not store.exists()
            with pytest.raises(DataError, match="STORE holds no model yet: publish one first"):
                store.load()
            with pytest.raises(DataError, match="STORE has no version called 'x'"):
                store.load("x")
            assert not root.exists() or not any(root.iterdir())
            root.mkdir(parents=True, exist_ok=True)

    def test_publish_and_load(self, store, models, root):
        assert store.publish(models[3], run="run-3") == FIRST
        assert store.exists()
        assert store.current() == FIRST
        assert value_of(store.load()) == 3
        (info,) = store.versions()
        assert (info.name, info.current, info.published, info.complete) == (FIRST, True, 1, True)
        assert info.created == "2026-11-25T03:40:55.000+00:00"
        folder = root / "versions" / FIRST
        manifest = json.loads((folder / "manifest.json").read_text())
        found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
        assert found == {*manifest["files"], "manifest.json"}
        assert "reports/report.html" in found
        assert info.size == sum((folder / name).stat().st_size for name in manifest["files"])
        pointer = json.loads((root / "pointers" / "0000000001.json").read_text())
        assert pointer == {
            "number": 1,
            "version": FIRST,
            "sha256": pointer["sha256"],
            "published": "2026-11-25T03:40:55.000+00:00",
            "action": "publish",
            "run": "run-3",
        }
        assert tree(models[3]).keys() == manifest["files"].keys()

    def test_checksums_as_others_compute_them(self, store, models, root):
        store.publish(models[1], run="r")
        folder = root / "versions" / FIRST
        manifest = json.loads((folder / "manifest.json").read_text())
        lines = "".join(f"{e['sha256']}  {name}\n" for name, e in manifest["files"].items())
        subprocess.run(["sha256sum", "-c"], cwd=folder, input=lines, text=True, check=True)
        said = store.pointers()[0].sha256
        told = subprocess.check_output(["sha256sum", folder / "manifest.json"], text=True)
        assert told.split()[0] == said

    def test_names_in_the_same_second(self, store, models):
        names = [store.publish(models[1 + k % 6], run="r") for k in range(11)]
        assert names == [FIRST, *(f"{FIRST}-{k}" for k in range(2, 12))]
        assert [info.name for info in store.versions()] == names
        assert store.current() == f"{FIRST}-11"

    def test_a_name_is_not_given_twice(self, store, models):
        store.publish(models[1], run="r")
        store.publish(models[2], run="r")
        assert store.prune(1) == [FIRST]
        assert store.publish(models[3], run="r") == f"{FIRST}-3"

    def test_the_name_is_taken_in_the_last_moment(self, store, models, monkeypatch):
        real = LocalFiles.rename

        def rename(self, source, target):
            monkeypatch.setattr(LocalFiles, "rename", real)
            self.create(f"{target}/x", b"")
            real(self, source, target)

        monkeypatch.setattr(LocalFiles, "rename", rename)
        assert store.publish(models[1], run="r") == f"{FIRST}-2"
        assert value_of(store.load()) == 1

    @pytest.mark.parametrize(
        "missing", ["model.json", "user_factors.parquet", "item_factors.parquet"]
    )
    def test_no_model(self, store, tmp_path, missing, root):
        folder = make_folder(tmp_path / "model", 1)
        (folder / missing).unlink()
        with pytest.raises(DataError, match=f"holds no model to publish .no {missing}.: use save"):
            store.publish(folder, run="r")
        assert not root.exists()

    def test_a_manifest_of_the_callers(self, store, tmp_path):
        folder = make_folder(tmp_path / "model", 1)
        (folder / "manifest.json").write_text("{}")
        with pytest.raises(DataError, match=r"has a manifest\.json, which is the store's: give"):
            store.publish(folder, run="r")

    def test_conflict_known_at_once(self, store, models, publish, root):
        publish(1, 2)
        before = tree(root)
        for expected in (0, 1, 3):
            message = f"STORE: run late decided upon pointer {expected}, but 2 is the current one"
            with pytest.raises(PublishConflict, match=message):
                store.publish(models[3], run="late", expected=expected)
        assert tree(root) == before
        store.publish(models[3], run="r", expected=2)
        assert value_of(store.load()) == 3

    def test_conflict_in_the_last_moment(self, store, models, publish, root, clock):
        publish(1)

        def check():
            publish(2)

        with pytest.raises(PublishConflict, match="nothing was switched; run it again"):
            store.publish(models[3], run="late", expected=1, check=check)
        assert value_of(store.load()) == 2
        assert len(store.versions()) == 2
        assert store.recover() == []

    @pytest.mark.parametrize("error", [LockLost, KeyboardInterrupt])
    def test_the_check_fails(self, store, models, publish, root, error):
        publish(1)
        before = tree(root)

        def check():
            raise error

        with pytest.raises(error):
            store.publish(models[2], run="r", check=check)
        assert tree(root) == before

    def test_interrupted_after_the_switch(self, store, models, monkeypatch):
        real = Pointers.create

        def create(self, pointer):
            real(self, pointer)
            raise KeyboardInterrupt

        monkeypatch.setattr(Pointers, "create", create)
        with pytest.raises(KeyboardInterrupt):
            store.publish(models[1], run="r")
        assert value_of(store.load()) == 1
        assert store.verify() == []

    def test_a_copy_that_is_cut_off(self, store, models, monkeypatch, root):
        real = LocalFiles.upload

        def upload(self, folder, path):
            real(self, folder, path)
            (root / path / "metrics.json").write_bytes(b"")

        monkeypatch.setattr(LocalFiles, "upload", upload)
        with pytest.raises(OSError, match="is not what was written: publish again"):
            store.publish(models[1], run="r")
        assert store.current() is None
        assert store.recover() == []

    def test_with_a_lock(self, store, models):
        with store.lock("run", ttl=timedelta(seconds=30)) as lock:
            store.publish(models[1], run="run", check=lock.check)
        lock = store.lock("late")
        with pytest.raises(LockLost):
            store.publish(models[2], run="late", check=lock.check)
        assert value_of(store.load()) == 1


class TestWhatIsNoStore:
    @pytest.mark.parametrize("name", ["thesis.tex", "runs/a", "staging/a"])
    def test_something_else_is_refused(self, store, models, root, name):
        path = root / name
        path.parent.mkdir(parents=True)
        path.write_text("mine")
        message = r"STORE holds something else \(.*\) and is no model store \(no store\.json\)"
        for work in (
            store.current,
            store.versions,
            store.recover,
            store.verify,
            store.load,
            lambda: store.prune(1),
            lambda: store.lock("r"),
            lambda: store.publish(models[1], run="r"),
            lambda: store.rollback(run="r"),
            lambda: store.history.start_run("r", {}),
        ):
            with pytest.raises(DataError, match=message):
                work()
        assert tree(root) == {name: b"mine"}

    def test_what_file_systems_put_there(self, store, models, root):
        (root / "lost+found").mkdir(parents=True)
        (root / ".snapshot").mkdir()
        (root / "staging").mkdir()
        (root / "staging" / "0123.tmp").touch()
        store.publish(models[1], run="r")
        assert store.recover() == ["staging/0123.tmp"]

    @pytest.mark.parametrize("text", ["", "[]", "\x00"])
    def test_a_broken_mark(self, store, root, text):
        root.mkdir(parents=True)
        (root / "store.json").write_text(text)
        with pytest.raises(DataError, match=r"STORE/store\.json is no JSON object: give the dir"):
            store.current()

    def test_another_format(self, store, root):
        root.mkdir(parents=True)
        (root / "store.json").write_text('{"format": "als_spark.store/9"}')
        with pytest.raises(DataError, match=r"'als_spark\.store/9' is not 'als_spark\.store/1'"):
            store.current()

    def test_a_file(self, tmp_path):
        (tmp_path / "x").touch()
        with pytest.raises(DataError, match="/x is a file: give the directory of a model store"):
            open_store(tmp_path / "x")

    def test_another_file_system(self):
        with pytest.raises(ConfigError, match="hdfs:///x is not on this machine: open it"):
            open_store("hdfs:///x")

    def test_a_file_uri(self, tmp_path):
        store = open_store((tmp_path / "a b").as_uri())
        assert store.label == str(tmp_path / "a b")
        assert store.files.local("x") == tmp_path / "a b" / "x"

    def test_open_store(self, tmp_path, models):
        store = open_store(str(tmp_path / "s"))
        assert store.label == str(tmp_path / "s")
        store.publish(models[2], run="r")
        assert value_of(open_store(tmp_path / "s").load()) == 2
        assert store.files.names("versions") == [store.current()]


class TestNaming:
    def test_by_name_and_beginning(self, store, publish):
        names = publish(1, 2, 3)
        assert value_of(store.load(names[0])) == 1
        assert value_of(store.load(names[1][:8])) == 2
        assert value_of(store.load("current")) == 3
        assert store.resolve() == names[2]
        with store.open(names[0]) as folder:
            assert folder.name == names[0]

    @pytest.mark.parametrize(
        ("called", "several"),
        [
            ("2026", r"several versions \(20261126T034055Z, 20261127T034055Z\)"),
            ("x", "no version"),
            ("", "no version"),
        ],
    )
    def test_not_one(self, store, publish, called, several):
        publish(1, 2)
        with pytest.raises(DataError, match=f"STORE has {several} called '{called}': see jobs/st"):
            store.load(called)

    def test_a_name_that_begins_others(self, store, models):
        for value in (1, 2, 3):
            store.publish(models[value], run="r")
        assert value_of(store.load(FIRST)) == 1

    def test_what_no_pointer_names_cannot_be_had(self, store, publish, root, models):
        publish(1)
        (root / "versions" / "20250101T000000Z").mkdir()
        with pytest.raises(DataError, match="no version called '2025'"):
            store.load("2025")


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "missing": (lambda v: (v / "model.json").unlink(), "missing", r"model\.json: is missing"),
    "size": (
        lambda v: cut(v / "user_factors.parquet"),
        "size",
        r"user_f\S+: has [\d,]+ bytes",
    ),
    "checksum": (
        lambda v: flip(v / "item_factors.parquet"),
        "checksum",
        r"item_f\S+: has another content \(SHA-256\) than the manifest says",
    ),
    "unknown": (lambda v: (v / "x").touch(), "unknown file", "/x: is not in the manifest"),
    "nested": (lambda v: flip(v / "reports/report.html"), "checksum", "reports/report.html: has"),
    "manifest": (lambda v: flip(v / "manifest.json"), "manifest", "manifest.json: is not the one"),
    "forged": (
        lambda v: (v / "manifest.json").write_text('{"format": "als_spark.store/1"}'),
        "manifest",
        "manifest.json: is not the one that was published",
    ),
}


def pointer_bytes(**changes):
    usual = {"number": 2, "version": "v", "sha256": "", "published": "", "action": "publish"}
    return json.dumps({**usual, "run": "", **changes}).encode()


class TestDamage:
    @pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
    @pytest.mark.parametrize(("damage", "kind", "detail"), DAMAGE.values(), ids=DAMAGE)
    def test_readers_never_get_it(self, store, publish, root, damage, kind, detail, remote):
        old, new = publish(1, 2)
        damage(root / "versions" / new)
        reader = ModelStore((RemoteFiles if remote else LocalFiles)(root), "STORE")
        remedy = r": switch to an intact version: jobs/store\.py rollback --store STORE$"
        with pytest.raises(
            DataError, match=f"^STORE: version {new} is damaged: .*{detail}.*{remedy}"
        ):
            reader.load()
        with pytest.raises(DataError, match=detail):
            reader.load(new[:8])
        assert value_of(reader.load(old)) == 1
        (problem,) = reader.verify()
        assert (problem.version, problem.kind) == (new, kind)
        assert re.search(detail, str(problem))
        assert reader.verify(new) == [problem]
        assert reader.verify(old) == []
        assert store.recover() == []
        assert store.rollback(run="r") == old
        assert value_of(reader.load()) == 1
        assert not any(root.glob("readers/*"))

    @pytest.mark.parametrize("name", ["manifest.json", ""])
    def test_the_current_one_is_gone(self, store, publish, root, quick, name):
        old, new = publish(1, 2)
        if name:
            store.files.remove(f"versions/{new}/{name}")
        else:
            shutil.rmtree(root / "versions" / new)
        message = f"^STORE: version {new} is missing or being removed: switch to an intact"
        for reader in (store, ModelStore(RemoteFiles(root), "STORE")):
            with pytest.raises(DataError, match=message):
                reader.load()
            (problem,) = reader.verify()
            assert (problem.version, problem.kind) == (new, "missing")
        assert store.recover() == []
        assert store.rollback(run="r") == old
        assert value_of(store.load()) == 1

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"[]",
            b"{}",
            pointer_bytes(number=3),
            pointer_bytes(version=None),
            pointer_bytes(action="x"),
            pointer_bytes(run=None),
        ],
    )
    def test_a_damaged_pointer(self, publish, root, content, clock, models):
        old, new = publish(1, 2)
        (root / "pointers" / "0000000002.json").write_bytes(content)
        store = ModelStore(LocalFiles(root), "STORE", clock=clock)
        message = r"the current pointer pointers/0000000002\.json cannot be read \(.*\): switch to"
        for work in (store.current, store.load, lambda: store.prune(1)):
            with pytest.raises(DataError, match=message):
                work()
        assert [problem.kind for problem in store.verify()] == ["pointer"]
        assert not any(info.current for info in store.versions())
        # What it named may be the only copy of something.
        assert store.recover() == []
        assert (root / "versions" / new).is_dir()
        assert store.rollback(run="r") == old
        assert value_of(store.load()) == 1
        assert store.pointer_number() == 3
        store.publish(models[3], run="r")
        assert value_of(store.load()) == 3

    def test_a_manifest_that_was_published_unreadable(self, store, publish, root):
        (name,) = publish(1)
        path = root / "versions" / name / "manifest.json"
        for text, detail in (
            ('{"format": "x"}', "format 'x' is not"),
            ('{"format": "als_spark.store/1"}', "version: Field required"),
            (
                '{"format": "als_spark.store/1", "version": "", "created": "", "files": {"x": 1}}',
                "files.x is 1: ",
            ),
            (
                '{"format": "als_spark.store/1", "version": "", "created": "", "files": {"x": {}}}',
                "files.x.size: Field required",
            ),
        ):
            path.write_text(text)
            for pointer in root.glob("pointers/*"):
                pointer.unlink()
            # Named by no pointer: nothing to compare the manifest with.
            (problem,) = ModelStore(LocalFiles(root), "STORE").verify()
            assert problem.kind == "manifest"
            assert detail in problem.detail

    def test_intact_but_no_model(self, store, tmp_path):
        folder = make_folder(tmp_path / "m", 1)
        (folder / "model.json").write_text("{}")
        store.publish(folder, run="r")
        with pytest.raises(DataError, match="format None is not"):
            store.load()


class TestRollback:
    def test_step_by_step(self, store, publish, models, clock):
        names = publish(1, 2, 3)
        assert store.rollback(run="a") == names[1]
        assert store.rollback(run="b") == names[0]
        with pytest.raises(DataError, match="no intact version older than the current one"):
            store.rollback(run="c")
        assert value_of(store.load()) == 1
        publish(4)
        # Not to what was gone back from, as long as there is another.
        assert store.rollback(run="d") == names[0]
        actions = "".join(pointer.action[0] for pointer in store.pointers())
        assert actions == "ppprrpr"
        assert [info.published for info in store.versions()] == [3, 2, 1, 1]

    def test_to(self, store, publish):
        names = publish(1, 2, 3)
        assert store.rollback(names[0][:8], run="a") == names[0]
        assert store.rollback(names[2], run="a") == names[2]
        assert value_of(store.load()) == 3
        with pytest.raises(DataError, match="is the current version already: give another one"):
            store.rollback("current", run="a")

    def test_never_to_a_damaged_one(self, store, publish, root):
        names = publish(1, 2, 3, 4)
        flip(root / "versions" / names[2] / "user_factors.parquet")
        shutil.rmtree(root / "versions" / names[1])
        with pytest.raises(DataError, match=f"version {names[2]} is damaged .*: roll back"):
            store.rollback(names[2], run="a")
        assert store.rollback(run="a") == names[0]

    def test_conflict(self, store, publish):
        publish(1, 2)
        with pytest.raises(PublishConflict, match="run a decided upon pointer 2, but 3 is"):
            store.rollback(run="a", check=lambda: publish(3) and None)
        assert value_of(store.load()) == 3

    def test_a_tombstone_in_the_way(self, store, publish, root):
        names = publish(1, 2)
        store.files.create(f"pruning/{names[0]}.json", b"{}")
        # Without the lock, somebody may be at it.
        with pytest.raises(DataError, match=f"version {names[0]} is being removed"):
            store.rollback(run="a")
        assert value_of(store.load()) == 2
        store.rollback(run="a", check=lambda: None)
        assert value_of(store.load()) == 1

    def test_a_pruner_that_comes_while_it_is_at_it(self, store, publish, clock, root):
        names = publish(1, 2, 3)
        pruner = ModelStore(LocalFiles(root), "STORE", clock=clock)
        # What is about to become current is not removed, and the pruner goes on to the others.
        pruned = []
        real = type(store)._switch

        def switch(*args):
            pruned.extend(pruner.prune(1))
            return real(*args)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(type(store), "_switch", switch)
            assert store.rollback(names[0], run="a") == names[0]
        assert pruned == [names[1]]
        assert value_of(store.load()) == 1

    def test_what_was_gone_back_from_is_the_last_resort(self, store, publish, root):
        names = publish(1, 2, 3)
        assert store.rollback(run="a") == names[1]
        publish(4)
        assert store.rollback(run="b") == names[1]
        publish(5)
        for name in names[:2]:
            flip(root / "versions" / name / "user_factors.parquet")
        # Better than a damaged one.
        store.rollback(run="c")
        assert value_of(store.load()) == 4
        store.rollback(names[2], run="d")
        publish(6)
        # Somebody has gone back to it: it is as good as the others.
        assert store.rollback(run="e") == names[2]


class BadSectors(LocalFiles):
    """Files some of which the disk has and does not give."""

    bad: tuple[str, ...] = ()
    tries = 0

    def _check(self, path):
        if any(path.endswith(name) for name in self.bad):
            self.tries += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def read(self, path):
        self._check(path)
        return super().read(path)

    def local(self, path):
        return None

    def download(self, source, folder):
        for name in self.sizes(source):
            self._check(f"{source}/{name}")
        super().download(source, folder)


@pytest.mark.usefixtures("quick")
class TestUnreadable:
    @pytest.fixture
    def files(self, root):
        return BadSectors(root)

    @pytest.fixture
    def store(self, files, clock):
        return ModelStore(files, "STORE", clock=clock)

    def test_a_manifest(self, store, files, publish, root):
        names = publish(1, 2, 3)
        files.bad = (f"{names[0]}/manifest.json",)
        assert store.recover() == []
        assert [info.complete for info in store.versions()] == [False, True, True]
        (problem,) = store.verify()
        assert problem.kind == "unreadable"
        assert str(problem) == f"versions/{names[0]}: cannot be read (Input/output error)"
        # Whose the report is, only the manifest says.
        assert store.prune(2) == []
        shutil.rmtree(root / "versions" / names[0] / "reports")
        assert store.prune(2) == [names[0]]

    def test_factors(self, store, files, publish):
        names = publish(1, 2)
        files.bad = (f"{names[1]}/item_factors.parquet",)
        message = f"version {names[1]} is damaged: versions/{names[1]}: cannot be read"
        with pytest.raises(DataError, match=message):
            store.load()
        # Perhaps it was the network.
        assert files.tries > 3
        assert store.recover() == []
        assert store.rollback(run="a") == names[0]
        assert value_of(store.load()) == 1

    def test_an_old_pointer(self, store, files, publish):
        names = publish(1, 2, 3)
        files.bad = ("pointers/0000000001.json",)
        other = ModelStore(files, "STORE", clock=utc_now)
        assert other.recover() == []
        assert other.pointer_number() == 3
        (problem,) = other.verify()
        assert str(problem) == (
            "pointers/0000000001.json: cannot be read ([Errno 5] Input/output error: "
            "'pointers/0000000001.json')"
        )
        assert other.rollback(run="a") == names[1]

    def test_the_current_pointer(self, store, files, publish):
        names = publish(1, 2, 3)
        files.bad = ("pointers/0000000003.json",)
        other = ModelStore(files, "STORE", clock=utc_now)
        with pytest.raises(DataError, match=r"the current pointer \S+ cannot be read"):
            other.load()
        assert other.rollback(run="a") == names[1]
        assert value_of(other.load()) == 2


class TestPruning:
    def test_keeps_the_newest(self, store, publish):
        names = publish(1, 2, 3, 4, 5)
        assert store.prune(2) == names[:3]
        assert [info.name for info in store.versions()] == names[3:]
        assert store.prune(2) == []
        assert store.verify() == []
        assert store.recover() == []

    def test_never_the_current_one(self, store, publish, monkeypatch):
        names = publish(1, 2, 3, 4)
        store.rollback(names[0], run="r")
        moved = []
        real = LocalFiles.rename

        def rename(self, source, target):
            moved.append(source)
            real(self, source, target)

        monkeypatch.setattr(LocalFiles, "rename", rename)
        assert store.prune(1) == names[1:3]
        # Not even for a moment.
        assert moved == [f"versions/{name}" for name in names[1:3]]
        assert value_of(store.load()) == 1

    def test_damaged_ones_do_not_count(self, store, publish, root):
        names = publish(1, 2, 3)
        cut(root / "versions" / names[1] / "model.json")
        assert store.prune(2) == [names[1]]

    @pytest.mark.parametrize("keep", [0, -1])
    def test_at_least_one(self, store, publish, keep):
        publish(1)
        with pytest.raises(DataError, match=f"cannot keep {keep} versions: keep at least 1"):
            store.prune(keep)

    def test_not_what_somebody_reads(self, store, publish, clock):
        names = publish(1, 2, 3)
        with store.open(names[0]) as folder:
            assert store.prune(1) == [names[1]]
            assert (folder / "model.json").is_file()
            assert value_of(store.load(names[0])) == 1
        assert store.prune(1) == [names[0]]

    def test_expired_leases_and_those_of_the_dead_do_not_count(self, store, publish, clock, root):
        names = publish(1, 2, 3)
        with leased(store.files, names[0], clock=clock) as has_lease:
            assert has_lease
            clock.forward(minutes=61)
            with leased(store.files, names[1], clock=clock):
                (path,) = root.glob(f"readers/{names[1]}*")
                record = json.loads(path.read_text())
                record["owner"]["started"] -= 1
                path.write_text(json.dumps(record))
                assert len(store.recover()) == 2
                assert store.prune(1) == names[:2]

    @pytest.mark.parametrize("content", ["", "{}", '{"owner": 3}'])
    def test_an_unreadable_lease_counts_for_an_hour(self, publish, root, content):
        names = publish(1, 2)
        store = open_store(root)
        path = root / "readers" / f"{names[0]}.abc.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        assert store.prune(1) == []
        assert store.recover() == []
        old = path.stat().st_mtime - 3601
        os.utime(path, (old, old))
        assert store.prune(1) == [names[0]]
        assert store.recover() == [f"readers/{path.name}"]

    def test_a_lease_that_comes_before_the_listing_saves(self, store, publish, monkeypatch):
        names = publish(1, 2)
        stack = ExitStack()
        real = LocalFiles.replace

        def replace(self, path, data):
            if path.startswith("pruning/"):
                # The reader's lease is there, the reader has not yet looked for a tombstone.
                stack.enter_context(leased(self, names[0], clock=store._clock))
            real(self, path, data)

        monkeypatch.setattr(LocalFiles, "replace", replace)
        assert store.prune(1) == []
        assert store.files.names("pruning") == []
        monkeypatch.undo()
        assert value_of(store.load(names[0])) == 1
        stack.close()
        assert store.prune(1) == [names[0]]

    def test_a_reader_after_the_listing_sees_the_tombstone(
        self, store, publish, monkeypatch, quick
    ):
        names = publish(1, 2)
        real = maintenance.live_leases
        seen = []

        def live_leases(files, version, now):
            found = real(files, version, now)
            with pytest.raises(DataError, match="is missing or being removed"):
                store.load(names[0])
            seen.append(version)
            return found

        monkeypatch.setattr(maintenance, "live_leases", live_leases)
        assert store.prune(1) == [names[0]]
        assert seen == [names[0]]
        with pytest.raises(DataError, match="no version called"):
            store.load(names[0])

    def test_rolled_back_to_under_the_pruner(self, store, publish, monkeypatch):
        names = publish(1, 2, 3)
        real = LocalFiles.rename

        def rename(self, source, target):
            if source == f"versions/{names[0]}":
                # With the lock, which the pruner has lost.
                store.rollback(names[0], run="other", check=lambda: None)
            real(self, source, target)

        monkeypatch.setattr(LocalFiles, "rename", rename)
        assert store.prune(1) == [names[1]]
        assert value_of(store.load()) == 1
        assert store.verify() == []

    def test_the_check_is_asked_before_each(self, store, publish):
        names = publish(1, 2, 3, 4)
        asked = []

        def check():
            asked.append(len(store.versions()))
            if len(asked) == 2:
                raise LockLost("lost")

        with pytest.raises(LockLost):
            store.prune(1, check=check)
        assert asked == [4, 3]
        assert [info.name for info in store.versions()] == names[1:]


class TestRecovering:
    def test_nothing_to_do(self, store, publish, root):
        publish(1, 2)
        before = tree(root)
        assert store.recover() == []
        assert tree(root) == before

    def test_leftovers(self, store, publish, root, models):
        names = publish(1, 2, 3)
        files = store.files
        half = "staging/0123456789abcdef"
        files.upload(models[4], half)
        files.create(f"{half}/manifest.json", Manifest("", "", list_files(models[4])).encoded())
        files.create(f"pruning/{names[1]}.json", b"{}")
        files.remove(f"versions/{names[0]}/model.json")
        files.create("versions/20300101T000000Z/model.json", b"{}")
        assert store.recover() == [
            half,
            f"pruning/{names[1]}.json",
            f"versions/{names[0]}",
            "versions/20300101T000000Z",
        ]
        assert [info.name for info in store.versions()] == names[1:]
        assert value_of(store.load()) == 3
        assert store.recover() == []

    def test_the_sleeping_publisher_does_not_name_what_is_gone(self, store, publish, models):
        # It slept between its last look at the lock and the creation of the pointer.
        names = publish(1)

        def check():
            assert len(store.recover()) == 1

        with pytest.raises(PublishConflict, match="decided upon pointer 1, but 2 is the current"):
            store.publish(models[2], run="sleeper", check=check)
        assert value_of(store.load()) == 1
        assert store.versions()[0].published == 1
        assert store.pointers()[-1] == Pointer(
            2, names[0], store.pointers()[0].sha256, store.pointers()[1].published, "fence", ""
        )

    def test_the_same_in_a_store_without_a_version(self, store, models):
        with pytest.raises(PublishConflict):
            store.publish(models[2], run="sleeper", check=lambda: store.recover() and None)
        assert store.current() is None
        assert store.versions() == []
        with pytest.raises(DataError, match="holds no model yet"):
            store.load()
        store.publish(models[2], run="r")
        assert value_of(store.load()) == 2

    def test_the_number_of_the_fence_is_taken(self, store, publish, models, monkeypatch):
        publish(1)
        store.files.upload(models[2], "versions/20300101T000000Z")
        monkeypatch.setattr(Pointers, "create", lambda self, pointer: False)
        assert store.recover() == []
        assert store.files.exists("versions/20300101T000000Z")


class TestReaders:
    def test_without_the_right_to_write(self, publish, root, monkeypatch):
        # Not by the mode of the folder: root may write anywhere.
        publish(1)

        def refuse(*_arguments):
            raise PermissionError(13, "read-only")

        monkeypatch.setattr(LocalFiles, "replace", refuse)
        monkeypatch.setattr(LocalFiles, "remove", refuse)
        assert value_of(open_store(root).load()) == 1
        assert not (root / "readers").exists() or not any((root / "readers").iterdir())

    def test_a_remote_store_is_copied(self, publish, root):
        (name,) = publish(1)
        store = ModelStore(RemoteFiles(root), "STORE")
        with store.open() as folder:
            assert folder.name == name
            assert root not in folder.parents
            assert tree(folder) == tree(root / "versions" / name)
            assert len(store.files.names("readers")) == 1
        assert not folder.exists()
        assert store.files.names("readers") == []
        assert value_of(store.load()) == 1

    def test_a_lease_is_renewed_while_it_is_held(self, store, publish, clock, root):
        (name,) = publish(1)
        with leased(store.files, name, ttl=timedelta(seconds=0.3), clock=clock):
            (path,) = root.glob("readers/*")
            before = path.read_bytes()
            clock.forward(minutes=5)
            end = time.monotonic() + 10
            while path.read_bytes() == before and time.monotonic() < end:
                time.sleep(0.01)
            assert b"03:45:55.3" in path.read_bytes()

    def test_the_current_version_goes_while_it_is_opened(self, store, publish, monkeypatch, models):
        publish(1)
        real = LocalFiles.exists
        moved = []

        def exists(self, path):
            if path.startswith("pruning/") and not moved:
                moved.append(path)
                publish(2)
                store.prune(1)
                assert store.files.names("versions") == [store.current()]
            return real(self, path)

        monkeypatch.setattr(LocalFiles, "exists", exists)
        assert value_of(store.load()) == 2
        assert moved

    def test_damage_seen_while_the_pointer_moves(self, store, publish, monkeypatch, root):
        names = publish(1)
        flip(root / "versions" / names[0] / "model.json")
        real = reading.folder_problems

        def folder_problems(folder, version, sha256):
            if version == names[0]:
                publish(2)
            return real(folder, version, sha256)

        monkeypatch.setattr(reading, "folder_problems", folder_problems)
        assert value_of(store.load()) == 2

    def test_the_model_before_a_refit(self, store, publish, tmp_path, root):
        publish(1)
        assert value_of(store.load_before_refit()) == 1, "no refit: the model itself"
        refitted = make_folder(tmp_path / "refitted", 3)
        make_folder(refitted / "before_refit", 2)
        name = store.publish(refitted, run="r")
        assert value_of(store.load()) == 3
        assert value_of(store.load_before_refit()) == 2
        flip(root / "versions" / name / "before_refit" / "user_factors.parquet")
        with pytest.raises(DataError, match=r"damaged: .*before_refit/user_factors\.parquet"):
            store.load()

    def test_gone_after_it_was_verified(self, store, publish, monkeypatch, quick, root):
        names = publish(1, 2)
        real = reading.load_model

        def load_model(folder: Path):
            if folder.name == names[1]:
                store.rollback(run="r")
                shutil.rmtree(root / "versions" / names[1])
            return real(folder)

        monkeypatch.setattr(reading, "load_model", load_model)
        assert value_of(store.load()) == 1

    def test_gone_every_time(self, store, publish, monkeypatch, quick):
        (name,) = publish(1)

        def load_model(folder: Path):
            raise DataError("gone")

        @contextmanager
        def open_(self, version):
            yield Path("/nowhere/at/all")

        monkeypatch.setattr(reading, "load_model", load_model)
        monkeypatch.setattr(ModelStore, "open", open_)
        with pytest.raises(DataError, match=f"version {name} is missing or being removed"):
            store.load()


class TestFilesOfOthers:
    """What the store has not written, no command of it deletes."""

    @pytest.fixture
    def mine(self, root, publish, models):
        """Put files and links everywhere in a store that has much to clean up."""
        names = publish(1, 2, 3, 4)
        for name in (
            *("staging/ratings.csv", "staging/0123456789abcdef/notes.txt", "staging/abcd.tmp/x"),
            *("pruning/notes.json", "readers/notes.json", "locks/notes.json", "notes.txt"),
            *("versions/backup/model.json", f"versions/{names[0]}.bak/model.json"),
            *(f"versions/{names[0]}/ratings.csv", f"versions/{names[1]}/.hidden"),
            *(f"staging/{names[0]}.01234567/mine/x", "runs/mine/report.html"),
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("mine")
        # Somebody's copy of a version under a name such as the store's.
        shutil.copytree(root / "versions" / names[3], root / "versions" / f"{names[3]}-2")
        outside = make_folder(root.parent / "outside", 5)
        (root / "staging" / "00000000000000aa").symlink_to(outside)
        (root / "staging" / "00000000000000bb.tmp").symlink_to(outside / "model.json")
        (root / "versions" / "20200101T000000Z").symlink_to(outside)
        return names

    @pytest.mark.parametrize("quick", [False, True], ids=["local", "remote"])
    def test_stay(self, root, clock, mine, quick, caplog):
        store = ModelStore((RemoteFiles if quick else LocalFiles)(root), "STORE", clock=clock)
        before = tree(root.parent)
        with store.lock("run") as lock:
            assert store.recover() == []
            # The first two hold files of others.
            assert store.prune(1, check=lock.check) == [mine[2]]
            store.rollback(mine[1], run="run", check=lock.check)
            store.history.gather()
        after = tree(root.parent)
        gone = before.keys() - after.keys()
        assert {name.split("/")[2] for name in gone} == {mine[2]}
        assert all(after[name] == before[name] for name in before.keys() - gone)
        for name in ("staging/ratings.csv", f"versions/{mine[0]}/ratings.csv", "20200101T000000Z"):
            assert name in caplog.text

    def test_a_version_that_is_a_link_is_not_followed(self, root, store, publish):
        names = publish(1, 2, 3)
        elsewhere = root.parent / "elsewhere"
        (root / "versions" / names[0]).rename(elsewhere)
        (root / "versions" / names[0]).symlink_to(elsewhere)
        before = tree(elsewhere)
        assert store.prune(1) == [names[1]]
        assert tree(elsewhere) == before
        assert (root / "versions" / names[0]).is_symlink()

    def test_a_manifest_that_names_other_folders(self, root, store, publish):
        names = publish(1, 2)
        (root / "mine").write_text("mine")
        path = root / "versions" / names[0] / "manifest.json"
        path.write_text(path.read_text().replace("reports/report.html", "../../mine"))
        store.recover()
        store.prune(1)
        assert (root / "mine").read_text() == "mine"
