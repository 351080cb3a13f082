"""Model files, and folders that appear whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from als_spark.errors import ConfigError, DataError
from als_spark.model.factor_model import FactorModel
from als_spark.model.files import (
    check_replaceable,
    json_ready,
    load_model,
    replaced_folder,
    save_model,
    write_json,
)
from als_spark.model.ids import IdIndex
from als_spark.train.backend import Factors
from als_spark.train.metrics import SideStats

USER_IDS = {
    "int": pa.array([7, -3, 2**62, 0], pa.int64()),
    "string": pa.array(["7", "", "é", "a b"]),
}


def make_model(kind: str = "int", dtype=np.float32, rank: int = 3, n_items: int = 5) -> FactorModel:
    rng = np.random.default_rng(0)
    return FactorModel(
        IdIndex(USER_IDS[kind]),
        IdIndex(pa.array([f"item {k}" for k in range(n_items)])),
        # As the Fortran-ordered transpose: the files hold rows, however the factors lie in memory.
        Factors(
            rng.random((rank, 4)).astype(dtype).T,
            rng.standard_normal((n_items, rank)).astype(dtype),
        ),
        SideStats(np.array([3, 0, 1, 2], np.int32), np.array([9.5, 0.0, 4.0, 5.25])),
        SideStats(np.arange(n_items, dtype=np.int32), 1.5 * np.arange(n_items)),
        {"lambda_reg": 0.5, "exponent": 1.0, "objective_of_lambda": "λ·n"},
    )


def tree(folder: Path) -> dict[str, str | None]:
    """Everything below a folder: the text of the files, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


class TestRoundTrip:
    @pytest.mark.parametrize("kind", ["int", "string"])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_everything_comes_back(self, tmp_path, kind, dtype):
        model = make_model(kind, dtype)
        save_model(model, tmp_path / "new" / "model")
        loaded = load_model(str(tmp_path / "new" / "model"))
        assert loaded.users.ids.equals(model.users.ids)
        assert loaded.items.ids.equals(model.items.ids)
        for found, saved in zip(loaded.factors, model.factors, strict=True):
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, saved)
        for found, saved in (
            (loaded.user_stats, model.user_stats),
            (loaded.item_stats, model.item_stats),
        ):
            np.testing.assert_array_equal(found.degrees, saved.degrees)
            np.testing.assert_array_equal(found.sums, saved.sums)
            assert found.degrees.dtype == np.int32
        users, items = USER_IDS[kind].to_pylist(), ["item 0", "item 4", "nothing", "item 2"]
        np.testing.assert_array_equal(loaded.predict(users, items), model.predict(users, items))

    def test_description(self, tmp_path):
        save_model(make_model(), tmp_path)
        expected = {
            "lambda_reg": 0.5,
            "exponent": 1.0,
            "objective_of_lambda": "λ·n",
            "format": "als_spark.model/1",
            "rank": 3,
            "n_users": 4,
            "n_items": 5,
            "dtype": "float32",
        }
        assert json.loads((tmp_path / "model.json").read_text(encoding="utf-8")) == expected
        assert load_model(tmp_path).description == expected

    def test_the_files_as_others_read_them(self, tmp_path):
        model = make_model()
        save_model(model, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {
            "model.json",
            "user_factors.parquet",
            "item_factors.parquet",
        }
        table = pq.read_table(tmp_path / "user_factors.parquet")
        assert table.schema.names == ["id", "n_ratings", "sum_ratings", "factors"]
        assert table.schema.field("factors").type == pa.list_(pa.float32(), 3)
        assert table.to_pylist()[3] == {
            "id": 0,
            "n_ratings": 2,
            "sum_ratings": 5.25,
            "factors": model.factors.users[3].tolist(),
        }

    def test_a_folder_whose_name_looks_like_a_partition(self, tmp_path):
        # Parquet readers may take "id=9" in a path for a column.
        save_model(make_model(), tmp_path / "id=9" / "n_ratings=1")
        loaded = load_model(tmp_path / "id=9" / "n_ratings=1")
        assert loaded.users.ids.equals(USER_IDS["int"])
        assert loaded.user_stats.degrees.tolist() == [3, 0, 1, 2]

    def test_saving_over_an_older_model(self, tmp_path):
        save_model(make_model("string", rank=2), tmp_path)
        save_model(make_model("int", rank=4), tmp_path)
        assert load_model(tmp_path).rank == 4


class TestUnreadableModels:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        save_model(make_model(), tmp_path / "model")
        return tmp_path / "model"

    @pytest.mark.parametrize(
        "missing", ["model.json", "user_factors.parquet", "item_factors.parquet"]
    )
    def test_missing_file(self, folder, missing):
        (folder / missing).unlink()
        with pytest.raises(DataError, match=f"holds no readable model .*{missing}"):
            load_model(folder)

    def test_no_folder(self, tmp_path):
        message = r"nowhere holds no readable model .*give the folder that has model\.json"
        with pytest.raises(DataError, match=message):
            load_model(tmp_path / "nowhere")

    @pytest.mark.parametrize("text", ["", "{", "[1, 2]", '"als_spark.model/1"', "\udcff"])
    def test_description_is_no_json_object(self, folder, text):
        (folder / "model.json").write_text(text, encoding="utf-8", errors="surrogateescape")
        with pytest.raises(DataError, match="holds no readable model"):
            load_model(folder)

    @pytest.mark.parametrize("name", ["user_factors.parquet", "item_factors.parquet"])
    @pytest.mark.parametrize("keep", [0, 100, -20])
    def test_cut_off_file(self, folder, name, keep):
        path = folder / name
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(DataError, match="holds no readable model") as info:
            load_model(folder)
        assert "\n" not in str(info.value)

    @pytest.mark.parametrize("column", ["id", "n_ratings", "sum_ratings", "factors"])
    def test_missing_column(self, folder, column):
        path = folder / "item_factors.parquet"
        pq.write_table(pq.read_table(path).drop_columns([column]), path)
        with pytest.raises(DataError, match=f"holds no readable model .*{column}"):
            load_model(folder)

    @pytest.mark.parametrize(
        ("factors", "cause"),
        [
            (pa.array([[1.0, 2.0, 3.0]] * 4), "factors of type list<"),
            (pa.array([1.0] * 4), "factors of type double"),
            (pa.array([[1, 2, np.nan]] * 4, pa.list_(pa.float32(), 3)), "that are not finite"),
            (pa.array([[1, 2, np.inf]] * 4, pa.list_(pa.float32(), 3)), "that are not finite"),
            (pa.array([[1, 2, None]] * 4, pa.list_(pa.float32(), 3)), ""),
            (pa.array([[1, 2, 3]] * 3 + [None], pa.list_(pa.float32(), 3)), ""),
        ],
        ids=["list", "double", "nan", "infinity", "null", "null row"],
    )
    def test_unusable_factors(self, folder, factors, cause):
        path = folder / "user_factors.parquet"
        table = pq.read_table(path)
        pq.write_table(table.set_column(3, "factors", factors), path)
        with pytest.raises(DataError, match=f"holds no readable model .*{cause}"):
            load_model(folder)

    @pytest.mark.parametrize("said", ["als_spark.model/2", None])
    def test_another_format(self, folder, said):
        path = folder / "model.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": said}))
        message = rf"format {said!r} is not 'als_spark\.model/1': read the model with the version"
        with pytest.raises(DataError, match=message):
            load_model(folder)

    @pytest.mark.parametrize("other", [{"rank": 2}, {"n_items": 6}], ids=["rank", "items"])
    @pytest.mark.parametrize("name", ["item_factors.parquet", "model.json"])
    def test_files_of_two_models(self, folder, tmp_path, other, name):
        save_model(make_model(**other), tmp_path / "other")
        (folder / name).write_bytes((tmp_path / "other" / name).read_bytes())
        with pytest.raises(DataError, match="the folder mixes two models; copy it again"):
            load_model(folder)

    def test_users_of_another_model(self, folder):
        path = folder / "user_factors.parquet"
        pq.write_table(pq.read_table(path).slice(0, 3), path)
        with pytest.raises(DataError, match=r"\(4, 5, 3, 3\), the files hold \(3, 5, 3, 3\)"):
            load_model(folder)


class TestReplacedFolder:
    def test_new(self, tmp_path):
        target = tmp_path / "a" / "b" / "out"
        with replaced_folder(target) as staged:
            (staged.content / "results").write_text("new")
            assert not target.exists()
        assert tree(tmp_path) == {"a": None, "a/b": None, "a/b/out": None, "a/b/out/results": "new"}

    def test_relative_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with replaced_folder(Path("out")) as staged:
            (staged.content / "results").write_text("new")
        assert tree(tmp_path) == {"out": None, "out/results": "new"}

    def test_replaces_the_whole_of_an_older_one(self, tmp_path):
        target = tmp_path / "out"
        target.mkdir()
        (target / "old").write_text("old")
        with replaced_folder(target) as staged:
            (staged.content / "results").write_text("new")
            assert tree(target) == {"old": "old"}
        assert tree(tmp_path) == {"out": None, "out/results": "new"}

    def test_permissions_are_those_of_any_new_folder(self, tmp_path):
        (tmp_path / "plain").mkdir()
        with replaced_folder(tmp_path / "out"):
            pass
        assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_failure_leaves_the_old_folder_and_no_litter(self, tmp_path, error):
        target = tmp_path / "out"
        target.mkdir()
        (target / "old").write_text("old")
        with pytest.raises(error), replaced_folder(target) as staged:  # noqa: PT012 - its block
            (staged.content / "half").write_text("half")
            raise error
        assert tree(tmp_path) == {"out": None, "out/old": "old"}

    def test_failure_leaves_no_new_folders(self, tmp_path):
        with pytest.raises(RuntimeError), replaced_folder(tmp_path / "a" / "b" / "out"):
            raise RuntimeError
        assert tree(tmp_path) == {}

    def test_failure_leaves_what_others_have_put_there(self, tmp_path):
        target = tmp_path / "a" / "b" / "out"
        with pytest.raises(RuntimeError), replaced_folder(target):  # noqa: PT012 - its block
            (tmp_path / "a" / "theirs").write_text("theirs")
            raise RuntimeError
        assert tree(tmp_path) == {"a": None, "a/theirs": "theirs"}

    def test_subfolder(self, tmp_path):
        target = tmp_path / "out"
        target.mkdir()
        (target / "old").write_text("old")
        with replaced_folder(target) as staged:
            (staged.content / "points").write_text("new")
            staged.subfolder = "interrupted"
        assert tree(tmp_path) == {
            "out": None,
            "out/interrupted": None,
            "out/interrupted/points": "new",
            "out/old": "old",
        }

    def test_subfolder_of_a_new_folder(self, tmp_path):
        with replaced_folder(tmp_path / "out") as staged:
            staged.subfolder = "interrupted"
        assert tree(tmp_path) == {"out": None, "out/interrupted": None}

    def test_subfolder_is_replaced(self, tmp_path):
        for text in ("first", "second"):
            with replaced_folder(tmp_path / "out") as staged:
                (staged.content / text).write_text(text)
                staged.subfolder = "interrupted"
        assert tree(tmp_path / "out") == {"interrupted": None, "interrupted/second": "second"}

    @pytest.mark.parametrize("subfolder", [None, "interrupted"])
    @pytest.mark.parametrize("there", [True, False])
    def test_the_last_step_fails(self, tmp_path, monkeypatch, subfolder, there):
        target = tmp_path / "out"
        if there:
            (target / "interrupted").mkdir(parents=True)
            (target / "interrupted" / "old").write_text("old")
        before = tree(tmp_path)
        real = Path.rename

        def rename(path: Path, new: Path) -> Path:
            if path.name == "content":
                raise OSError("no space left")
            return real(path, new)

        monkeypatch.setattr(Path, "rename", rename)
        with pytest.raises(OSError, match="no space"), replaced_folder(target) as staged:
            staged.subfolder = subfolder
        assert tree(tmp_path) == before


class TestCheckReplaceable:
    def test_nothing_there(self, tmp_path):
        check_replaceable(tmp_path / "a" / "b" / "out", "run.json")
        assert tree(tmp_path) == {}

    def test_empty_folder(self, tmp_path):
        check_replaceable(tmp_path, "run.json")

    def test_earlier_output(self, tmp_path):
        (tmp_path / "run.json").write_text("{}")
        (tmp_path / "results.json").write_text("[]")
        check_replaceable(tmp_path, "run.json")

    def test_something_else(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("")
        with pytest.raises(ConfigError, match=r"not empty and holds no earlier output \(no run\.j"):
            check_replaceable(tmp_path, "run.json")

    def test_marker_that_is_a_folder(self, tmp_path):
        (tmp_path / "run.json").mkdir()
        with pytest.raises(ConfigError, match="not empty"):
            check_replaceable(tmp_path, "run.json")

    def test_file(self, tmp_path):
        (tmp_path / "out").write_text("")
        with pytest.raises(ConfigError, match=r"--output .*/out: this is a file: give a folder"):
            check_replaceable(tmp_path / "out", "run.json")

    def test_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="/file is not writable: give another folder"):
            check_replaceable(tmp_path / "file" / "out", "run.json")

    @pytest.mark.parametrize("name", ["out", "earlier", "new/out"])
    def test_not_writable(self, tmp_path, monkeypatch, name):
        # Not by the mode of the folder: root may write anywhere.
        (tmp_path / "earlier").mkdir()
        (tmp_path / "earlier" / "run.json").write_text("{}")
        real = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and real(path, mode))
        with pytest.raises(ConfigError, match=f"{tmp_path} is not writable: give another folder"):
            check_replaceable(tmp_path / name, "run.json")

    def test_relative_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        check_replaceable(Path("out"), "run.json")


class TestJson:
    def test_written_for_people(self, tmp_path):
        write_json(tmp_path / "x.json", {"λ": [1, 2.5], "name": "é"})
        text = (tmp_path / "x.json").read_text(encoding="utf-8")
        assert json.loads(text) == {"λ": [1, 2.5], "name": "é"}
        assert "λ" in text
        assert text.count("\n") > 3
        assert text.endswith("}\n")

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_nan_is_refused_before_the_file_is_touched(self, tmp_path, value):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "x.json", {"value": value})
        assert tree(tmp_path) == {}

    def test_json_ready(self):
        values = {"path": Path("a/b"), "ranks": (1, 5), "tol": 0.5, "table": None, "list": [2]}
        assert json_ready(values) == {
            "path": "a/b",
            "ranks": [1, 5],
            "tol": 0.5,
            "table": None,
            "list": [2],
        }
