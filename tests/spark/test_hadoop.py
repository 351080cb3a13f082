"""The store's files through Hadoop, on a mount of the local disk: the way of hdfs:// and s3a://."""

from __future__ import annotations

from pathlib import Path

import pytest

from als_spark.errors import ConfigError, DataError
from als_spark.spark.hadoop import HadoopTree
from als_spark.spark.store_files import files_at, store_at
from als_spark.store.files import LocalFiles
from als_spark.store.store import open_store
from tests.files_contract import FilesContract
from tests.store_tools import make_folder, value_of


@pytest.fixture
def mount(spark, tmp_path):
    """A URI of the test's folder, on a file system with another name."""
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    (tmp_path / "mounted").mkdir()
    name = f"store{abs(hash(str(tmp_path)))}"
    hadoop.set(f"fs.viewfs.mounttable.{name}.link./disk", f"file://{tmp_path}/mounted")
    return f"viewfs://{name}/disk"


class TestHadoopFiles(FilesContract):
    # Hadoop's local client starts a chmod for each file.
    writing = 0.1
    replaces_at_once = False

    @pytest.fixture
    def files(self, spark, mount):
        return files_at(spark, f"{mount}/new/store")


class TestWithoutFileContext(FilesContract):
    """As on file systems that only have Hadoop's older interface."""

    writing = 0.1
    replaces_at_once = False

    @pytest.fixture
    def files(self, spark, mount):
        files = files_at(spark, f"{mount}/new/store")
        files._tree._context = None
        return files


def test_the_rename_of_the_older_interface_fails(spark, mount, monkeypatch):
    files = files_at(spark, f"{mount}/s")
    files._tree._context = None
    files.create("one/x", b"")

    class System:
        def __getattr__(self, name):
            return getattr(real, name)

        def rename(self, source, target):
            return False

    real = files._tree._system
    files._tree._system = System()
    with pytest.raises(FileNotFoundError, match=r"cannot rename .*one to .*two"):
        files.rename("one", "two")


def test_a_scheme_without_the_younger_interface(spark, mount):
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    key = "fs.AbstractFileSystem.viewfs.impl"
    before = hadoop.get(key)
    hadoop.unset(key)
    try:
        assert HadoopTree(spark, f"{mount}/s")._context is None
    finally:
        hadoop.set(key, before)
    assert HadoopTree(spark, f"{mount}/s")._context is not None


def test_an_address_without_a_host(spark, mount):
    # As hdfs:///folder: the host is that of the default file system.
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    before = hadoop.get("fs.defaultFS")
    hadoop.set("fs.defaultFS", mount.removesuffix("disk"))
    try:
        files = files_at(spark, "viewfs:///disk/s")
        assert files._tree._context is not None
        for data in (b"old", b"new"):
            files.replace("a/x", data)
        files.rename("a", "b")
        assert files_at(spark, f"{mount}/s").read("b/x") == b"new"
    finally:
        hadoop.set("fs.defaultFS", before)


def test_what_is_not_there_below_the_root(spark):
    # The first parent that is there is the root itself, as on a new HDFS.
    tree = HadoopTree(spark, "file:///")
    assert tree.resolved("file:///no-such-folder/x") == "file:/no-such-folder/x"
    assert tree.resolved("file:///") == "file:/"


@pytest.mark.spark35
def test_exceptions_that_pyspark_renames(spark):
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    hadoop.set("fs.misnamed.impl", "org.apache.hadoop.fs.RawLocalFileSystem")
    with pytest.raises(ConfigError, match=r"IllegalArgumentException: Wrong FS: .*check the addre"):
        files_at(spark, "misnamed:///x")


def test_an_answer_that_was_lost(spark, mount, monkeypatch):
    files = files_at(spark, f"{mount}/s")
    real = files._tree.rename

    def rename(source, target):
        real(source, target)
        raise OSError("connection reset")

    monkeypatch.setattr(files._tree, "rename", rename)
    assert files.create("a/x", b"x")
    assert not files.create("a/x", b"x")
    assert files.read("a/x") == b"x"


def test_a_failure_is_not_hidden(spark, mount, monkeypatch):
    files = files_at(spark, f"{mount}/s")

    def rename(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(files._tree, "rename", rename)
    with pytest.raises(OSError, match="disk full"):
        files.create("a/x", b"x")
    assert files.names("staging") == []


@pytest.mark.parametrize("uri", ["nosuch://x/y", "viewfs://nomount/x"])
def test_file_systems_that_do_not_answer(spark, uri):
    with pytest.raises(ConfigError, match=f"{uri}: its file system does not answer .*: check the"):
        store_at(spark, uri)


def test_a_store_over_there_is_the_store_here(spark, mount, tmp_path):
    models = [make_folder(tmp_path / str(k), k, n_items=3 + k) for k in (1, 2, 3)]
    store = store_at(spark, f"{mount}/store/")
    assert store.label == f"{mount}/store"
    assert not store.exists()
    assert store.current() is None
    names = []
    for k, folder in enumerate(models):
        with store.lock(f"run-{k}") as lock:
            store.recover()
            names.append(store.publish(folder, run=f"run-{k}", check=lock.check))
            store.history.finish_run(f"run-{k}", "published", {})
            store.history.gather(running=[f"run-{k}"])
    here = open_store(tmp_path / "mounted" / "store")
    for side in (store, here):
        assert value_of(side.load()) == 3
        assert value_of(side.load(names[0])) == 1
        assert side.verify() == []
        assert [info.name for info in side.versions()] == names
        assert [record["run"] for record in side.history.read_history()] == [
            "run-0",
            "run-1",
            "run-2",
        ]
    with store.open() as folder:
        assert folder.name == names[2]
        assert (folder / "reports" / "report.html").read_text() == "<p>3</p>"
        assert not any(path.name.startswith(".") for path in folder.rglob("*"))
    assert not folder.exists()
    assert store.rollback(run="r") == names[1]
    assert store.prune(1) == [names[0]]
    assert value_of(here.load()) == 2
    (tmp_path / "mounted" / "store" / "versions" / names[1] / "model.json").write_text("{}")
    # Hadoop's local client has checksums of its own; HDFS has them too.
    (tmp_path / "mounted" / "store" / "versions" / names[1] / ".model.json.crc").unlink()
    with pytest.raises(DataError, match=r"model\.json: has 2 bytes, not"):
        store.load()
    assert [problem.kind for problem in store.verify()] == ["size"]
    assert store.rollback(names[2], run="r") == names[2]
    assert store.recover() == []


def test_store_at_local_paths(spark, tmp_path):
    for path in (str(tmp_path / "a b"), (tmp_path / "a b").as_uri()):
        store = store_at(spark, path)
        assert isinstance(store.files, LocalFiles)
        assert store.files.local("") == Path(tmp_path / "a b")
