"""What every implementation of the store's ``Files`` has to do; its tests subclass this."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from als_spark.store.files import SCRATCH, Files


class FilesContract:
    # Seconds in which the implementation writes a small file, more often than not.
    writing = 0.03
    # Hadoop's client of the local disk deletes what a rename is to replace.
    replaces_at_once = True
    # Folders of the root that writing a file makes.
    scratch = (SCRATCH,)

    @pytest.fixture
    def files(self) -> Files:
        raise NotImplementedError

    def test_an_absent_root_is_empty(self, files):
        assert files.names("") == []
        assert files.names("a/b") == []
        assert files.sizes("") == {}
        assert not files.exists("a")
        assert not files.exists("")
        files.remove("a/b")

    @pytest.mark.parametrize("data", [b"", b"text\n", bytes(range(256)) * 1000])
    def test_create_and_read(self, files, data):
        assert files.create("a/b/x.json", data)
        assert files.read("a/b/x.json") == data
        assert files.names("") == ["a", *self.scratch]
        assert files.names("a") == ["b"]
        assert files.exists("a/b")
        assert files.exists("")
        assert files.names(SCRATCH) == []

    def test_create_does_not_overwrite(self, files):
        assert files.create("x", b"first")
        assert not files.create("x", b"second")
        assert files.read("x") == b"first"
        assert files.names(SCRATCH) == []

    def test_replace(self, files):
        files.replace("a/x", b"one")
        files.replace("a/x", b"another one")
        files.replace("a/x", b"3")
        assert files.read("a/x") == b"3"
        assert files.sizes("") == {"a/x": 1}
        assert files.names(SCRATCH) == []

    def test_whoever_reads_finds_the_old_or_the_new(self, files):
        if not self.replaces_at_once:
            pytest.skip("its client has no such rename")
        files.replace("a/x", b"0" * 5000)
        stop = threading.Event()

        def write() -> None:
            try:
                for number in range(1, 10):
                    files.replace("a/x", str(number).encode() * 5000)
            finally:
                stop.set()

        seen = []
        thread = threading.Thread(target=write)
        thread.start()
        while not stop.is_set():
            seen.append(files.read("a/x"))
        thread.join()
        assert {len(found) for found in seen} <= {5000}
        assert all(len(set(found)) == 1 for found in seen)
        assert files.read("a/x") == b"9" * 5000

    def test_nothing_to_read(self, files):
        with pytest.raises(FileNotFoundError):
            files.read("a/x")
        files.create("a/y", b"")
        with pytest.raises(FileNotFoundError):
            files.read("a/x")
        with pytest.raises(FileNotFoundError):
            files.modified("a/x")

    def test_modified(self, files):
        files.create("a/x", b"")
        assert abs(files.modified("a/x") - time.time()) < 10

    def test_rename(self, files):
        files.create("old/sub/x", b"x")
        files.rename("old", "new/place")
        assert files.read("new/place/sub/x") == b"x"
        assert not files.exists("old")
        with pytest.raises(FileNotFoundError):
            files.rename("old", "newer")

    def test_rename_does_not_overwrite_or_nest(self, files):
        files.create("one/x", b"one")
        files.create("two/y", b"two")
        with pytest.raises(FileExistsError):
            files.rename("one", "two")
        assert files.sizes("one") == {"x": 3}
        assert files.sizes("two") == {"y": 3}

    def test_settle(self, files):
        for path in ("staging/one/x", "staging/one/deep/y", "staging/one/list", "staging/two/x"):
            files.create(path, path.encode())
        files.settle("staging/one", "versions/1", "list", b"whole")
        assert files.sizes("versions/1") == {"deep/y": 18, "list": 5, "x": 13}
        assert not files.exists("staging/one")
        with pytest.raises(FileExistsError):
            files.settle("staging/two", "versions/1", "list", b"other")
        assert files.read("versions/1/list") == b"whole"
        assert files.read("staging/two/x") == b"staging/two/x"

    def test_remove(self, files):
        for path in ("a/x", "a/b/y", "c"):
            files.create(path, b"")
        with pytest.raises(OSError, match="a"):
            files.remove("a")
        assert files.sizes("") == {"a/b/y": 0, "a/x": 0, "c": 0}
        files.remove("a/x")
        files.remove("a/b/y")
        files.remove("a/b")
        files.remove("a")
        files.remove("c")
        files.remove("c")
        assert not files.exists("a")
        assert files.sizes("") == {}

    def test_only_what_is_listed_is_removed(self, files):
        for path in ("a/x", "a/b/y", "a/b/.mine", "a/c/z", "a/x.txt"):
            files.create(path, b"")
        ours = ["x", "b/y", "c/z", "gone"]
        assert files.strangers("a", ours) == ["b/.mine", "x.txt"]
        assert files.remove_ours("a", ours) == ["b/.mine", "x.txt"]
        assert files.exists("a/b/.mine")
        assert not files.exists("a/c")
        assert files.remove_ours("a", ["x.txt", "b/.mine"]) == []
        assert not files.exists("a")
        assert files.remove_ours("a", ours) == []

    def test_upload_and_download(self, files, tmp_path):
        source = tmp_path / "source: 100% é#"
        (source / "deep" / "er").mkdir(parents=True)
        (source / ".hidden").mkdir()
        (source / ".hidden" / "x").write_bytes(b"hidden")
        for name in ("a.bin", "deep/b.bin", "deep/er/c.bin", ".secret", "deep/.crc"):
            (source / name).write_bytes(name.encode() * 100)
        files.upload(source, "staging/one")
        wanted = {"a.bin": 500, "deep/b.bin": 1000, "deep/er/c.bin": 1300}
        assert files.sizes("staging/one") == wanted
        assert files.names("staging/one") == ["a.bin", "deep"]
        target = tmp_path / "target" / "of it"
        files.fetch("staging/one/deep/b.bin", tmp_path / "b.bin")
        assert (tmp_path / "b.bin").read_bytes() == b"deep/b.bin" * 100
        files.download("staging/one", target)
        found = {
            path.relative_to(target).as_posix(): path.read_bytes()
            for path in target.rglob("*")
            if path.is_file()
        }
        assert found == {name: name.encode() * 100 for name in wanted}

    def test_what_is_on_this_machine(self, files):
        files.create("a/x", b"x")
        path = files.local("a/x")
        assert path is None or path.read_bytes() == b"x"

    def test_a_scratch_folder_that_is_cleared_all_the_time(self, files):
        # As the holder of the lock does while a reader writes its lease.
        stop = threading.Event()

        def clear() -> None:
            while not stop.is_set():
                for name in files.names(SCRATCH):
                    files.remove(f"{SCRATCH}/{name}")
                time.sleep(self.writing)

        thread = threading.Thread(target=clear)
        thread.start()
        try:
            for number in range(10):
                assert files.create(f"a/{number}", b"x" * number)
                files.replace("a/x", b"y" * number)
                assert files.read("a/x") == b"y" * number
        finally:
            stop.set()
            thread.join()
        assert files.sizes("a") == {**{f"{n}": n for n in range(10)}, "x": 9}


class ExclusiveFilesContract(FilesContract):
    """For those whose ``create`` keeps apart what happens at once."""

    def test_one_of_many_creates(self, files):
        for round_ in range(10):
            won: list[int] = []
            gate = threading.Barrier(4)

            def take(me: int, path: str, won: list[int], gate: threading.Barrier) -> None:
                gate.wait()
                if files.create(path, b"%d" % me):
                    won.append(me)

            path = f"p/{round_}"
            threads = [threading.Thread(target=take, args=(k, path, won, gate)) for k in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(won) == 1
            assert files.read(path) == b"%d" % won[0]


def root_of(folder: Path) -> Path:
    """A root that is not there yet, with a space in its name."""
    return folder / "new root" / "store"
