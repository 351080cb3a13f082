"""The store's files on this machine."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from als_spark.store.files import SCRATCH, LocalFiles, MisplacedError
from tests.files_contract import ExclusiveFilesContract, root_of


class TestLocalFiles(ExclusiveFilesContract):
    @pytest.fixture
    def files(self, tmp_path):
        return LocalFiles(root_of(tmp_path))


class TestWithoutHardLinks(ExclusiveFilesContract):
    @pytest.fixture
    def files(self, tmp_path, monkeypatch):
        def link(source, target):
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", link)
        return LocalFiles(root_of(tmp_path))


class TestDetails:
    @pytest.fixture
    def files(self, tmp_path):
        return LocalFiles(tmp_path)

    def test_a_link_whose_answer_was_lost(self, files, monkeypatch):
        real = os.link

        def link(source, target):
            real(source, target)
            raise FileExistsError(errno.EEXIST, "there already, said the server")

        monkeypatch.setattr(os, "link", link)
        assert files.create("x", b"x")
        assert files.read("x") == b"x"

    def test_a_link_that_came_too_late(self, files, monkeypatch):
        real = os.link

        def link(source, target):
            Path(target).write_bytes(b"theirs")
            real(source, target)

        monkeypatch.setattr(os, "link", link)
        assert not files.create("x", b"ours")
        assert files.read("x") == b"theirs"

    @pytest.mark.parametrize("method", ["create", "replace"])
    def test_other_failures_are_not_hidden(self, files, monkeypatch, method):
        def fail(*_arguments):
            raise OSError(errno.ENOSPC, "no space left")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=r"No space left on device: .*/staging/"):
            getattr(files, method)("x", b"x")
        assert not files.exists("x")
        assert files.names(SCRATCH) == []

    def test_link_fails_for_another_reason(self, files, monkeypatch):
        def link(source, target):
            raise OSError(errno.EIO, "broken")

        monkeypatch.setattr(os, "link", link)
        with pytest.raises(OSError, match="broken"):
            files.create("x", b"x")

    @pytest.mark.parametrize("method", ["create", "replace"])
    def test_scratch_that_is_always_cleared(self, files, monkeypatch, method):
        real = os.fsync

        def fsync(handle):
            path = Path(os.readlink(f"/proc/self/fd/{handle}"))
            real(handle)
            if path.suffix == ".tmp":
                path.unlink()

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(FileNotFoundError):
            getattr(files, method)("x", b"x")

    def test_file_systems_without_fsync_of_folders(self, files, monkeypatch):
        real = os.fsync

        def fsync(handle):
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "not of folders")
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        assert files.create("a/x", b"x")

    def test_other_users_may_read(self, files):
        before = os.umask(0o022)
        try:
            files.create("x", b"")
        finally:
            os.umask(before)
        assert stat.S_IMODE(files.local("x").stat().st_mode) == 0o644

    def test_everything_is_on_the_disk_before_it_is_named(self, files, monkeypatch, tmp_path):
        synced = []
        real = os.fsync

        def fsync(handle):
            synced.append(os.readlink(f"/proc/self/fd/{handle}"))
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        (tmp_path / "model" / "sub").mkdir(parents=True)
        (tmp_path / "model" / "sub" / "x").write_bytes(b"x")
        files.upload(tmp_path / "model", "staging/one")
        for name in ("sub/x", "sub", ""):
            assert str(tmp_path / "staging" / "one" / name).rstrip("/") in synced
        synced.clear()
        files.rename("staging/one", "versions/one")
        assert synced[-2:] == [str(tmp_path / "versions"), str(tmp_path / "staging")]
        synced.clear()
        files.create("pointers/1", b"")
        assert ".tmp" in synced[-2]
        assert synced[-1] == str(tmp_path / "pointers")

    def test_rename_onto_a_folder_of_the_last_moment(self, files, monkeypatch):
        files.create("one/x", b"")
        real = Path.rename

        def rename(path, target):
            target.mkdir()
            (target / "y").touch()
            return real(path, target)

        monkeypatch.setattr(Path, "rename", rename)
        with pytest.raises(FileExistsError):
            files.rename("one", "two")

    def test_removing_by_two(self, files):
        for k in range(200):
            path = files.local(f"a/{k % 7}/{k}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        ours = list(files.sizes("a"))
        threads = [threading.Thread(target=files.remove_ours, args=("a", ours)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not files.exists("a")

    def test_a_link_to_a_folder_is_removed_alone(self, files, tmp_path):
        files.create("theirs/x", b"x")
        (tmp_path / "link").symlink_to(tmp_path / "theirs")
        files.remove("link")
        assert files.read("theirs/x") == b"x"
        assert not files.exists("link")

    def test_relative_root(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        files = LocalFiles(Path("store"))
        monkeypatch.chdir("/")
        files.create("x", b"x")
        assert (tmp_path / "store" / "x").read_bytes() == b"x"

    @pytest.mark.parametrize("folder", ["x", "x/y"])
    def test_a_file_in_the_place_of_a_folder(self, files, tmp_path, folder):
        files.create("x", b"")
        message = rf"{tmp_path}/x is a file, where the store keeps a folder: move it elsewhere$"
        with pytest.raises(MisplacedError, match=message):
            files.names(folder)
        for write in (files.create, files.replace):
            with pytest.raises(MisplacedError, match=message):
                write(f"{folder}/name", b"1")

    def test_a_folder_in_the_place_of_a_file(self, files, tmp_path):
        files.create("x/y", b"")
        message = rf"{tmp_path}/x is a folder, where the store keeps a file: move it elsewhere$"
        with pytest.raises(MisplacedError, match=message):
            files.read("x")
        with pytest.raises(MisplacedError, match=message):
            files.replace("x", b"1")

    def test_a_file_in_the_place_of_the_scratch_folder(self, files, tmp_path):
        (tmp_path / SCRATCH).write_bytes(b"")
        with pytest.raises(MisplacedError, match=f"/{SCRATCH} is a file, where the store keeps"):
            files.replace("runs/1", b"1")
