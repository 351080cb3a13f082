"""Model files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from als_spark.errors import DataError
from als_spark.model.factor_model import FactorModel
from als_spark.model.files import load_model, save_model
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
