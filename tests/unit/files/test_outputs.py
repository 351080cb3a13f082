"""What a run may replace, and how the new result takes the place of the old."""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from als_spark.errors import ConfigError
from als_spark.files.local import LocalTree
from als_spark.files.outputs import (
    FORMAT,
    MANIFEST,
    check_local_target,
    check_replaceable,
    replaced_folder,
)
from als_spark.files.trees import is_inner_name, remove_ours, strangers

TREE = LocalTree()


def tree(root: Path) -> dict[str, str | None]:
    """Content of every file below a folder; None for folders, the target of links."""
    found: dict[str, str | None] = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.name != MANIFEST:
            found[name] = None if path.is_dir() else path.read_text()
    return found


def write(target: Path, *names: str, kind="sweep", text="new", subfolder=None) -> None:
    """Run a job that writes files."""
    with replaced_folder(target, kind) as staged:
        for name in names:
            (staged.content / name).parent.mkdir(parents=True, exist_ok=True)
            (staged.content / name).write_text(text)
        staged.subfolder = subfolder


def check(target: Path, kind="sweep") -> None:
    check_local_target(target, kind, f"--output {target}")


@pytest.fixture
def out(tmp_path):
    """A folder with the result of an earlier sweep."""
    write(tmp_path / "out", "run.json", "best_model/model.json", text="old")
    return tmp_path / "out"


class TestReplacedFolder:
    def test_new(self, tmp_path):
        target = tmp_path / "a" / "b" / "out"
        with replaced_folder(target, "sweep") as staged:
            (staged.content / "results").write_text("new")
            assert not target.exists()
        assert tree(tmp_path) == {"a": None, "a/b": None, "a/b/out": None, "a/b/out/results": "new"}

    def test_the_manifest_lists_all_files(self, out):
        record = json.loads((out / MANIFEST).read_text())
        assert record == {
            "format": FORMAT,
            "kind": "sweep",
            "files": [MANIFEST, "best_model/model.json", "run.json"],
        }

    def test_relative_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write(Path("out"), "results")
        assert tree(tmp_path) == {"out": None, "out/results": "new"}

    def test_replaces_the_whole_of_an_older_one(self, tmp_path, out):
        with replaced_folder(out, "sweep") as staged:
            (staged.content / "results").write_text("new")
            assert tree(out) == {
                "best_model": None,
                "best_model/model.json": "old",
                "run.json": "old",
            }
        assert tree(tmp_path) == {"out": None, "out/results": "new"}

    def test_permissions_are_those_of_any_new_folder(self, tmp_path):
        (tmp_path / "plain").mkdir()
        write(tmp_path / "out")
        assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_failure_leaves_the_old_folder_and_no_litter(self, tmp_path, out, error):
        before = tree(tmp_path)
        with pytest.raises(error), replaced_folder(out, "sweep") as staged:  # noqa: PT012 - its block
            (staged.content / "half").write_text("half")
            raise error
        assert tree(tmp_path) == before

    def test_failure_leaves_no_new_folders(self, tmp_path):
        with (
            pytest.raises(RuntimeError),
            replaced_folder(tmp_path / "a" / "b" / "out", "sweep"),
        ):
            raise RuntimeError
        assert tree(tmp_path) == {}

    def test_failure_leaves_what_others_have_put_there(self, tmp_path):
        target = tmp_path / "a" / "b" / "out"
        with pytest.raises(RuntimeError), replaced_folder(target, "sweep"):  # noqa: PT012 - its block
            (tmp_path / "a" / "theirs").write_text("theirs")
            raise RuntimeError
        assert tree(tmp_path) == {"a": None, "a/theirs": "theirs"}

    def test_through_a_link(self, tmp_path, out):
        (tmp_path / "link").symlink_to(out)
        write(tmp_path / "link", "results")
        assert tree(tmp_path) == {"link": f"-> {out}", "out": None, "out/results": "new"}

    def test_subfolder(self, out):
        before = tree(out)
        write(out, "points", subfolder="interrupted")
        assert tree(out) == {**before, "interrupted": None, "interrupted/points": "new"}
        # All of it is the sweep's.
        check(out)
        write(out, "results")
        assert tree(out) == {"results": "new"}

    def test_subfolder_of_a_new_folder(self, tmp_path):
        write(tmp_path / "out", subfolder="interrupted")
        assert tree(tmp_path) == {"out": None, "out/interrupted": None}
        check(tmp_path / "out")

    def test_subfolder_is_replaced(self, tmp_path):
        for text in ("first", "second"):
            write(tmp_path / "out", text, text=text, subfolder="interrupted")
        assert tree(tmp_path / "out") == {"interrupted": None, "interrupted/second": "second"}

    def test_files_of_others_in_the_subfolder(self, tmp_path, out):
        write(out, "points", subfolder="interrupted")
        (out / "interrupted" / "notes").write_text("mine")
        with pytest.raises(ConfigError, match="'interrupted/notes'"):
            check(out)
        write(out, "others", subfolder="interrupted")
        assert tree(out / "interrupted") == {"others": "new", "notes": "mine"}

    @pytest.mark.parametrize("subfolder", [None, "interrupted"])
    @pytest.mark.parametrize("there", [True, False])
    def test_the_last_step_fails(self, tmp_path, monkeypatch, subfolder, there):
        target = tmp_path / "out"
        if there:
            write(target, "old", text="old", subfolder="interrupted")
        before = tree(tmp_path)
        real = os.rename

        def rename(path, new):
            if Path(path).name == "content":
                raise OSError("no space left")
            real(path, new)

        monkeypatch.setattr(os, "rename", rename)
        with pytest.raises(OSError, match="no space"):
            write(target, subfolder=subfolder)
        assert tree(tmp_path) == before

    @pytest.mark.parametrize("dies_at", range(1, 12))
    @pytest.mark.parametrize("method", ["before", "after"])
    def test_killed_at_any_step(self, tmp_path, out, monkeypatch, dies_at, method):
        """The old result is whole, or the new one; the next run sees to it."""
        old = tree(out)
        steps = 0

        def mortal(name):
            real = getattr(os, name)

            def call(*arguments, **words):
                nonlocal steps
                steps += 1
                if steps > dies_at or (steps == dies_at and method == "before"):
                    raise MemoryError
                result = real(*arguments, **words)
                if steps == dies_at:
                    raise MemoryError
                return result

            return call

        with monkeypatch.context() as patch:
            for name in ("rename", "unlink", "rmdir"):
                patch.setattr(os, name, mortal(name))
            # Nothing is tidied up after a kill either.
            with suppress(MemoryError):
                write(out, "results", "deep/er")
        new = {"results": "new", "deep": None, "deep/er": "new"}
        if out.exists():
            assert tree(out) in (old, new)
        else:
            (kept,) = tmp_path.glob(".out.*.new/replaced")
            assert tree(kept) == old
            with pytest.raises(RuntimeError), replaced_folder(out, "sweep"):
                raise RuntimeError
            assert tree(out) == old
        # Half of an old result is never put back.
        shutil.move(out, tmp_path / "moved")
        with pytest.raises(RuntimeError), replaced_folder(out, "sweep"):
            raise RuntimeError
        assert not out.exists() or tree(out) == old
        write(out, "results", "deep/er")
        assert tree(out) == new


class TestFilesOfOthers:
    def test_what_came_during_the_run_is_kept(self, tmp_path, out, caplog):
        with replaced_folder(out, "sweep") as staged:
            (staged.content / "results").write_text("new")
            (out / "ratings.csv").write_text("mine")
            (out / "best_model" / "notes").write_text("mine")
            (out / "empty").mkdir()
            (out / "link").symlink_to(tmp_path)
        assert tree(tmp_path) == {
            "out": None,
            "out/results": "new",
            "out/ratings.csv": "mine",
            "out/best_model": None,
            "out/best_model/notes": "mine",
            "out/empty": None,
            "out/link": f"-> {tmp_path}",
        }
        assert f"{out}/ratings.csv was not written by an earlier sweep: kept" in caplog.text

    def test_where_the_name_is_taken_it_is_kept_beside(self, tmp_path, out, caplog):
        with replaced_folder(out, "sweep") as staged:
            (staged.content / "results").write_text("new")
            (out / "results").write_text("mine")
        (beside,) = tmp_path.glob("out.kept-*")
        assert tree(beside) == {"results": "mine"}
        assert tree(out) == {"results": "new"}
        assert str(beside) in caplog.text
        assert {path.name for path in tmp_path.iterdir()} == {"out", beside.name}

    @pytest.mark.parametrize("there", ["file", "folder", "link", "other kind"])
    def test_the_target_is_another_one_by_then(self, tmp_path, there):
        target = tmp_path / "out"
        elsewhere = tmp_path / "elsewhere"
        write(elsewhere, "model.json", text="mine", kind="train")
        with replaced_folder(target, "sweep") as staged:
            (staged.content / "results").write_text("new")
            if there == "file":
                target.write_text("mine")
            elif there == "folder":
                target.mkdir()
                (target / "x").write_text("mine")
            elif there == "link":
                target.symlink_to(elsewhere)
            else:
                write(target, "model.json", text="mine", kind="train")
        found = tree(tmp_path)
        assert found["out/results"] == "new"
        assert found["elsewhere/model.json"] == "mine"
        kept = [text for name, text in found.items() if not name.startswith("elsewhere")]
        assert "mine" in kept or f"-> {elsewhere}" in kept

    def test_nothing_is_deleted_through_a_link(self, tmp_path, out):
        theirs = tmp_path / "theirs"
        (out / "best_model").rename(theirs)
        (out / "best_model").symlink_to(theirs)
        (out / "run.json").unlink()
        (out / "run.json").symlink_to(theirs / "model.json")
        with pytest.raises(ConfigError, match="'best_model', which no earlier sweep has written"):
            check(out)
        write(out, "results")
        assert (theirs / "model.json").read_text() == "old"

    def test_hard_links_lose_nothing(self, tmp_path, out):
        os.link(out / "run.json", tmp_path / "mine.json")
        check(out)
        write(out, "results")
        assert (tmp_path / "mine.json").read_text() == "old"

    @pytest.mark.parametrize("name", ["../mine", "/mine", "best_model/../../mine", "a//b", "."])
    def test_a_manifest_that_leads_out_is_none(self, tmp_path, out, name):
        (tmp_path / "mine").write_text("mine")
        record = json.loads((out / MANIFEST).read_text())
        record["files"].append(name)
        (out / MANIFEST).write_text(json.dumps(record))
        with pytest.raises(ConfigError, match="which no earlier sweep has written"):
            check(out)
        write(out, "results")
        assert (tmp_path / "mine").read_text() == "mine"
        assert not is_inner_name(name)


class TestCheck:
    def test_nothing_there(self, tmp_path):
        check(tmp_path / "a" / "b" / "out")
        assert tree(tmp_path) == {}

    def test_empty_folder(self, tmp_path):
        check(tmp_path)

    def test_earlier_output(self, out):
        check(out)

    @pytest.mark.parametrize(
        "name", ["thesis.tex", ".hidden", "best_model/mine", "mine/x", "interrupted/x", "a b/ö"]
    )
    def test_a_file_of_others(self, out, name):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
        before = tree(out)
        message = rf"--output {out}: the folder is not empty and holds '{name}', which no earlier s"
        with pytest.raises(ConfigError, match=message):
            check(out)
        assert tree(out) == before

    def test_how_many(self, out):
        for k in range(3):
            (out / f"mine{k}").touch()
        with pytest.raises(ConfigError, match=r"'mine0'.*, the first of 3 such entries: give"):
            check(out)

    def test_very_many(self, tmp_path):
        for k in range(1001):
            (tmp_path / f"mine{k}").touch()
        with pytest.raises(ConfigError, match="the first of 1000 or more such"):
            check(tmp_path)

    def test_an_empty_folder_of_others(self, out):
        (out / "mine").mkdir()
        with pytest.raises(ConfigError, match="'mine/'"):
            check(out)

    @pytest.mark.parametrize("kind", ["train", "evaluate", "recommend"])
    def test_the_output_of_another_job(self, out, kind):
        with pytest.raises(ConfigError, match=f"holds the output of sweep, which {kind} does not"):
            check(out, kind)

    @pytest.mark.parametrize("content", ["", "{}", "[]", "\x00", '{"format": "x/9"}'])
    def test_a_broken_manifest(self, out, content):
        (out / MANIFEST).write_text(content)
        with pytest.raises(ConfigError, match="which no earlier sweep has written"):
            check(out)

    def test_checksums_of_hadoop_beside_listed_files(self, out):
        (out / ".run.json.crc").touch()
        check(out)
        (out / ".mine.crc").touch()
        with pytest.raises(ConfigError, match=r"'\.mine\.crc'"):
            check(out)

    def test_file(self, tmp_path):
        (tmp_path / "out").write_text("")
        with pytest.raises(ConfigError, match=r"--output .*/out: this is a file: give a folder"):
            check(tmp_path / "out")

    def test_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="/file is a file: give another folder"):
            check(tmp_path / "file" / "out")

    @pytest.mark.parametrize("name", ["out", "earlier", "new/out"])
    def test_not_writable(self, tmp_path, monkeypatch, name):
        # Not by the mode of the folder: root may write anywhere.
        write(tmp_path / "earlier", "run.json")
        real = os.mkdir

        def mkdir(path, *mode):
            if Path(path).parent == tmp_path:
                raise OSError(errno.EROFS, "Read-only file system")
            real(path, *mode)

        monkeypatch.setattr(os, "mkdir", mkdir)
        says = rf"{tmp_path} is not writable \(Read-only file system\): give another folder"
        with pytest.raises(ConfigError, match=says):
            check(tmp_path / name)

    def test_mount_point(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path)
        with pytest.raises(ConfigError, match="a mount point cannot be replaced by a rename"):
            check(tmp_path)

    def test_relative_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        check(Path("out"))


MODEL = ("model.json", "user_factors.parquet", "item_factors.parquet")
LEGACY = {
    "sweep": {
        "run.json": '{"points": {}, "selected_on": "test"}',
        "results.json": "[]",
        **dict.fromkeys(("history.json", "report.html", "rejected/rejected.jsonl"), ""),
        **dict.fromkeys(("sweep.png", "selected.png", "heatmap.png", "convergence.png"), ""),
        **{f"best_model/{name}": "" for name in MODEL},
    },
    "train": {
        "run.json": '{"settings": {}, "training": {}}',
        **dict.fromkeys(("metrics.json", "fingerprint.json", "config.json", "versions.json"), "{}"),
        **dict.fromkeys(MODEL, ""),
    },
    "evaluate": {
        "metrics.json": '{"metrics": {}, "by_user": []}',
        **dict.fromkeys(("breakdown.png", "report.html"), ""),
    },
    "recommend": {
        MANIFEST: "Written by als_spark, whose next run with this folder as its output replaces "
        "it.\n",
        **dict.fromkeys(("_SUCCESS", "part-0.parquet", ".part-0.parquet.crc"), ""),
    },
}


class TestOutputsOfTheFirstVersion:
    """0.1.0 wrote no manifests."""

    @pytest.fixture(params=LEGACY)
    def kind(self, request, tmp_path):
        for name, text in LEGACY[request.param].items():
            (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "out" / name).write_text(text)
        return request.param

    def test_are_replaced(self, kind, tmp_path):
        check(tmp_path / "out", kind)
        write(tmp_path / "out", "results", kind=kind)
        assert tree(tmp_path) == {"out": None, "out/results": "new"}

    @pytest.mark.parametrize("name", ["ratings.csv", "part/part-0", "best_model/mine"])
    def test_files_of_others(self, kind, tmp_path, name):
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("mine")
        with pytest.raises(ConfigError, match=f"'{name}', which no earlier {kind}"):
            check(tmp_path / "out", kind)

    def test_are_not_another_jobs(self, kind, tmp_path):
        for other in LEGACY.keys() - {kind}:
            with pytest.raises(ConfigError, match=f"holds the output of {kind}, which {other}"):
                check(tmp_path / "out", other)

    def test_a_document_of_that_name(self, tmp_path):
        (tmp_path / "run.json").write_text('{"job": "mine"}')
        with pytest.raises(ConfigError, match=r"'run\.json', which no earlier sweep has written"):
            check(tmp_path)


class TestTrees:
    def test_a_folder_that_is_a_link(self, tmp_path, out):
        (tmp_path / "link").symlink_to(out)
        assert list(strangers(TREE, str(tmp_path / "link"), ["run.json"])) == ["."]
        assert remove_ours(TREE, str(tmp_path / "link"), ["run.json"]) == ["."]
        assert (out / "run.json").exists()

    def test_nothing_there(self, tmp_path):
        assert list(strangers(TREE, str(tmp_path / "none"), ["x"])) == []
        assert remove_ours(TREE, str(tmp_path / "none"), ["x"]) == []

    @pytest.mark.parametrize("gone", ["files", "folder"])
    def test_another_process_removes_the_same(self, tmp_path, gone):
        class Contested(LocalTree):
            def entries(self, folder):
                if folder.endswith("/b"):
                    shutil.rmtree(folder)
                    if gone == "files":
                        os.mkdir(folder)
                return super().entries(folder)

        (tmp_path / "v" / "b").mkdir(parents=True)
        for name in ("a", "b/y"):
            (tmp_path / "v" / name).touch()
        assert remove_ours(Contested(), str(tmp_path / "v"), ["a", "b/y"]) == []
        assert not (tmp_path / "v").exists()

    def test_killed_while_removing(self, tmp_path, monkeypatch):
        """The list is there as long as anything that it names; the next run removes the rest."""
        ours = ["b/c/y", "a", "z/x", "list"]
        steps = ("unlink", "rmdir")

        def run(dies_at: int) -> None:
            for name in steps:
                real = getattr(os, name)

                def mortal(path, real=real):
                    nonlocal dies_at
                    dies_at -= 1
                    if dies_at < 0:
                        raise MemoryError
                    real(path)

                monkeypatch.setattr(os, name, mortal)
            with suppress(MemoryError):
                assert remove_ours(TREE, str(tmp_path / "v"), ours) == []
            monkeypatch.undo()

        for dies_at in range(9):
            for name in ours:
                (tmp_path / "v" / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "v" / name).touch()
            run(dies_at)
            left = [path for path in (tmp_path / "v").rglob("*") if path.is_file()]
            assert not left or tmp_path / "v" / "list" in left
            assert list(strangers(TREE, str(tmp_path / "v"), ours)) == []
            assert remove_ours(TREE, str(tmp_path / "v"), ours) == []
            assert not (tmp_path / "v").exists()

    def test_the_label_is_the_callers(self, tmp_path):
        (tmp_path / "mine").touch()
        with pytest.raises(ConfigError, match=r"^FOLDER: the folder is not empty"):
            check_replaceable(TREE, str(tmp_path), "train", "FOLDER")
