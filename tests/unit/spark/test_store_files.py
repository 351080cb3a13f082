"""The rules of a store in an object store, on a stand-in for one; tests/cluster has a real one."""

from __future__ import annotations

import os
import secrets

import pytest

from als_spark.errors import ConfigError, DataError
from als_spark.files.local import LocalTree
from als_spark.spark.store_files import ObjectFiles
from als_spark.store.store import ModelStore
from tests.files_contract import ExclusiveFilesContract, root_of
from tests.store_tools import make_folder, value_of


class Objects(LocalTree):
    """What the store asks of S3: objects that are created once, and writes in place."""

    creates_alone = True

    def create(self, path: str, data: bytes) -> bool:
        self.make_folder(os.path.dirname(path))
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return self.read(path) == data
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        return True

    def write(self, path: str, data: bytes) -> None:
        """Let an object appear when it is closed."""
        hidden = f"{path}.{secrets.token_hex(4)}"
        super().write(hidden, data)
        os.replace(hidden, path)

    def rename(self, source: str, target: str) -> None:
        # Folders are moved object by object: nothing may count on one step.
        assert not os.path.isdir(source) or "staging" not in source, source
        super().rename(source, target)


class TestObjectFiles(ExclusiveFilesContract):
    scratch = ()

    @pytest.fixture
    def files(self, tmp_path):
        return ObjectFiles(Objects(), str(root_of(tmp_path)))

    def test_one_of_many_creates(self, files, monkeypatch):
        # Of those that come too late, none has found the object there before.
        monkeypatch.setattr(Objects, "exists", lambda self, path: False)
        super().test_one_of_many_creates(files)

    def test_a_folder_in_the_place_of_a_file(self, files):
        files.create("x/y", b"")
        for write in (files.create, files.replace):
            with pytest.raises(DataError, match="x is a folder, where the store keeps a file"):
                write("x", b"")

    def test_two_that_settle_at_once(self, files, monkeypatch):
        for k in "12":
            files.create(f"staging/{k}/x", k.encode())
        monkeypatch.setattr(files, "exists", lambda path: False)
        files.settle("staging/1", "versions/v", "list", b"of 1")
        with pytest.raises(FileExistsError):
            files.settle("staging/2", "versions/v", "list", b"of 2")
        assert files.sizes("versions/v") == {"list": 4, "x": 1}
        assert files.read("versions/v/x") == b"1"
        assert files.read("staging/2/x") == b"2"


def test_a_store_of_objects(tmp_path, monkeypatch):
    store = ModelStore(ObjectFiles(Objects(), str(tmp_path / "store")), "there")
    names = [store.publish(make_folder(tmp_path / str(k), k), run="r") for k in (1, 2, 3)]
    assert value_of(store.load()) == 3
    assert store.rollback(run="r") == names[1]
    assert store.verify() == []
    assert store.recover() == []
    monkeypatch.setattr(Objects, "creates_alone", False)
    assert value_of(store.load()) == 2
    for write in (lambda: store.publish(tmp_path / "1", run="r"), store.lock("r").acquire):
        with pytest.raises(ConfigError, match="store: cannot be written as a model store"):
            write()
    assert store.pointer_number() == 4
