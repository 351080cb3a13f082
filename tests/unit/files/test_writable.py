"""What is known of a folder before the work, and what an error says of it afterwards."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from als_spark.errors import ConfigError
from als_spark.files import writable
from als_spark.files.local import LocalTree
from als_spark.files.outputs import check_local_target
from als_spark.files.writable import check_writable, full_disk, is_mount_point, place_problem


class TestCheck:
    @pytest.mark.parametrize("name", ["", "there", "new", "new/er/est", "link/new", "blank s/ü"])
    def test_what_can_be_made_is_not_made(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "there").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "there")
        before = sorted(tmp_path.rglob("*"))
        check_writable(tmp_path / name, "--store x")
        assert sorted(tmp_path.rglob("*")) == before

    def test_relative(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        check_writable(Path("new"), "--store new")

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("file", "/file is a file: give another folder"),
            ("file/a/b", "/file is a file: give another folder"),
            ("loop", "cannot be written (Too many levels of symbolic links): give another"),
            ("loop/a", "cannot be written (Too many levels of symbolic links): give another"),
            ("one/a", "cannot be written (Too many levels of symbolic links): give another"),
            ("dangling", "/dangling is a link to nowhere, which is not there: make that folder"),
            ("dangling/a", "/dangling is a link to nowhere, which is not there: make that folder"),
            ("x" * 300, "cannot be written (File name too long): give another folder"),
        ],
    )
    def test_the_way_there(self, tmp_path: Path, name: str, says: str) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "loop").symlink_to("loop")
        (tmp_path / "one").symlink_to("two")
        (tmp_path / "two").symlink_to("one")
        (tmp_path / "dangling").symlink_to("nowhere")
        with pytest.raises(ConfigError, match=f"^--store x: .*{re.escape(says)}"):
            check_writable(tmp_path / name, "--store x")

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="a file system of Linux")
    @pytest.mark.parametrize("name", ["/proc/als_spark", "/proc/als_spark/deep", "/proc/self"])
    def test_a_file_system_that_takes_nothing(self, name: str) -> None:
        # Also to root, whom permission bits do not stop.
        with pytest.raises(ConfigError, match=r"/proc\S* is not writable \(.+\): give another"):
            check_writable(Path(name), "--store x")

    @pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
    def test_what_the_system_says(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        def mkdir(path: str, *_mode: int) -> None:
            raise OSError(code, os.strerror(code), path)

        monkeypatch.setattr(os, "mkdir", mkdir)
        with pytest.raises(ConfigError, match=re.escape(f"writable ({os.strerror(code)}): give")):
            check_writable(tmp_path / "new", "--store x")

    def test_links_of_an_output(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to("loop")
        (tmp_path / "dangling").symlink_to("new")
        with pytest.raises(ConfigError, match="--output o: this is a link that leads in a circle"):
            check_local_target(tmp_path / "loop", "sweep", "--output o")
        # It will be made where the link leads to.
        check_local_target(tmp_path / "dangling", "sweep", "--output o")


class TestMountPoint:
    def test_of_another_file_system(self) -> None:
        assert is_mount_point(Path("/"))

    def test_a_bind_mount(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "out put"
        folder.mkdir()
        (tmp_path / "link").symlink_to(folder)
        name = str(folder).replace(" ", r"\040")
        line = rf"36 35 0:41 /x {name} rw,noatime master:1 - ext4 /dev/root rw,errors=continue"
        (tmp_path / "mountinfo").write_text(f"22 1 0:1 / / rw - ext4 /dev/root rw\n{line}\n")
        monkeypatch.setattr(writable, "_MOUNTS", tmp_path / "mountinfo")
        assert is_mount_point(folder)
        assert is_mount_point(tmp_path / "link")
        assert not is_mount_point(tmp_path)
        with pytest.raises(ConfigError, match="a mount point cannot be replaced by a rename"):
            check_local_target(folder, "sweep", "--output o")

    def test_other_systems(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writable, "_MOUNTS", tmp_path / "none")
        assert not is_mount_point(tmp_path)


class TestProblems:
    @pytest.mark.parametrize(
        ("code", "says"),
        [
            (errno.ENOSPC, "No space left on device (/s/a): free some space, and run it again"),
            (errno.EROFS, "Read-only file system (/s/a): give another folder"),
            (errno.ELOOP, "Too many levels of symbolic links (/s/a): give another folder"),
            (errno.EACCES, "no permission (/s/a): ask its owner"),
            (errno.EIO, None),
            (errno.ENOENT, None),
        ],
    )
    def test_of_a_folder(self, code: int, says: str | None) -> None:
        error = OSError(code, os.strerror(code), "/s/a")
        assert place_problem(error, Path("/s")) == says
        assert place_problem(error, Path("/s/a")) == says
        assert place_problem(error, Path("/other")) is None
        assert place_problem(error, Path("/s/ab")) is None

    def test_relative(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        error = PermissionError(errno.EACCES, "no", str(tmp_path / "models" / "store.json"))
        assert place_problem(error, Path("models")) is not None

    def test_of_another_file_system(self) -> None:
        assert (
            place_problem(PermissionError("x: no"), None) == "no permission (x: no): ask its owner"
        )
        assert place_problem(OSError("x: no"), None) is None

    def test_a_full_disk_somewhere_in_the_chain(self) -> None:
        said = "No space left on device: free some space, and run it again"
        full = OSError(errno.ENOSPC, "x")
        assert full_disk(full) == said
        assert full_disk(OSError(errno.ENOSPC, "x", "/a")) == f"/a: {said}"
        outer = RuntimeError("a task failed")
        outer.__cause__ = full
        assert full_disk(outer) == said
        assert full_disk(RuntimeError("java.io.IOException: No space left on device\nat x")) == said
        assert full_disk(RuntimeError("x")) is None

    @pytest.mark.parametrize("name", ["write", "copy"])
    def test_an_error_of_a_full_disk_names_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        source, target = tmp_path / "a", tmp_path / "b"
        source.write_bytes(b"x")

        def fail(*_handles: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", fail)
        work = {
            "write": lambda: LocalTree().write(str(target), b"x"),
            "copy": lambda: LocalTree().copy_in(source, str(target)),
        }
        with pytest.raises(OSError, match="No space left on device") as info:
            work[name]()
        assert info.value.filename == str(target)
