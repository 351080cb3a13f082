"""Model files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from als_spark.errors import DataError
from als_spark.model.factor_files import StoredSide, write_side
from als_spark.model.factor_model import FactorModel
from als_spark.model.files import (
    FACTOR_FILES,
    MODEL_FILES,
    MODEL_FORMAT,
    load_model,
    save_model,
)
from als_spark.model.ids import IdIndex
from als_spark.model.recommend import recommend
from als_spark.train.backend import Factors
from als_spark.train.metrics import SideStats
from als_spark.types import SIDES

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
        for side in SIDES:
            found, saved = loaded.side(side), model.side(side)
            # What has no training rating comes last, without its random start.
            trained = saved.stats.degrees > 0
            rows = np.concatenate([np.flatnonzero(trained), np.flatnonzero(~trained)])
            assert trained.sum() == rows.size - 1
            assert found.ids.ids.equals(saved.ids.ids.take(pa.array(rows)))
            assert found.factors.dtype == dtype
            np.testing.assert_array_equal(found.factors[:-1], saved.factors[rows[:-1]])
            assert not found.factors[-1].any()
            np.testing.assert_array_equal(found.stats.degrees, saved.stats.degrees[rows])
            np.testing.assert_array_equal(found.stats.sums, saved.stats.sums[rows])
            assert found.stats.degrees.dtype == np.int32
        users, items = USER_IDS[kind].to_pylist(), ["item 0", "item 4", "nothing", "item 2"]
        np.testing.assert_array_equal(loaded.predict(users, items), model.predict(users, items))
        assert recommend(loaded).sort_by("user").equals(recommend(model).sort_by("user"))
        # Once more, what was read: the same files.
        save_model(loaded, tmp_path / "again")
        assert load_model(tmp_path / "again").description == loaded.description
        for path in (tmp_path / "new" / "model").glob("*.parquet"):
            assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()

    def test_description(self, tmp_path):
        save_model(make_model(), tmp_path)
        expected = {
            "lambda_reg": 0.5,
            "exponent": 1.0,
            "objective_of_lambda": "λ·n",
            "format": "als_spark.model/1",
            "rank": 3,
            "n_users": 3,
            "n_items": 4,
            "n_untrained_users": 1,
            "n_untrained_items": 1,
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
            "untrained_users.parquet",
            "untrained_items.parquet",
        }
        assert pq.read_table(tmp_path / "untrained_users.parquet").to_pydict() == {"id": [-3]}
        table = pq.read_table(tmp_path / "user_factors.parquet")
        assert table.schema.names == ["id", "n_ratings", "sum_ratings", "factors"]
        assert table.schema.field("factors").type == pa.list_(pa.float32(), 3)
        assert table.num_rows == 3
        assert table.to_pylist()[2] == {
            "id": 0,
            "n_ratings": 2,
            "sum_ratings": 5.25,
            "factors": model.factors.users[3].tolist(),
        }

    def test_a_folder_whose_name_looks_like_a_partition(self, tmp_path):
        # Parquet readers may take "id=9" in a path for a column.
        save_model(make_model(), tmp_path / "id=9" / "n_ratings=1")
        loaded = load_model(tmp_path / "id=9" / "n_ratings=1")
        assert loaded.users.ids.to_pylist() == [7, 2**62, 0, -3]
        assert loaded.user_stats.degrees.tolist() == [3, 1, 2, 0]

    def test_saving_over_an_older_model(self, tmp_path):
        save_model(make_model("string", rank=2), tmp_path)
        save_model(make_model("int", rank=4), tmp_path)
        assert load_model(tmp_path).rank == 4
        # Nor does anything of it stay where all rows are trained.
        whole = make_model()
        ones = [SideStats(np.ones(n, np.int32), np.ones(n)) for n in (4, 5)]
        whole = replace(whole, user_stats=ones[0], item_stats=ones[1])
        whole.description["n_untrained_users"] = 3
        save_model(whole, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == set(MODEL_FILES)
        assert load_model(tmp_path).users.ids.equals(USER_IDS["int"])

    def test_a_model_of_earlier_days_has_them_among_the_others(self, tmp_path):
        model = make_model()
        for side in SIDES:
            own = StoredSide(*model.side(side))
            write_side(tmp_path / FACTOR_FILES[side], own)
        said = {"format": MODEL_FORMAT, "rank": 3, "n_users": 4, "n_items": 5, "dtype": "float32"}
        (tmp_path / "model.json").write_text(json.dumps(said))
        loaded = load_model(tmp_path)
        assert loaded.users.ids.equals(model.users.ids)
        for found, saved in zip(loaded.factors, model.factors, strict=True):
            np.testing.assert_array_equal(found, saved)


class TestUnreadableModels:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        save_model(make_model(), tmp_path / "model")
        return tmp_path / "model"

    @pytest.mark.parametrize(
        "missing", [*MODEL_FILES, "untrained_users.parquet", "untrained_items.parquet"]
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

    @pytest.mark.parametrize(
        "name", ["user_factors.parquet", "item_factors.parquet", "untrained_items.parquet"]
    )
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
            (pa.array([[1.0, 2.0, 3.0]] * 3), "factors of type list<"),
            (pa.array([1.0] * 3), "factors of type double"),
            (pa.array([[1, 2, np.nan]] * 3, pa.list_(pa.float32(), 3)), "that are not finite"),
            (pa.array([[1, 2, np.inf]] * 3, pa.list_(pa.float32(), 3)), "that are not finite"),
            (pa.array([[1, 2, None]] * 3, pa.list_(pa.float32(), 3)), ""),
            (pa.array([[1, 2, 3]] * 2 + [None], pa.list_(pa.float32(), 3)), ""),
        ],
        ids=["list", "double", "nan", "infinity", "null", "null row"],
    )
    def test_unusable_factors(self, folder, factors, cause):
        path = folder / "user_factors.parquet"
        table = pq.read_table(path)
        pq.write_table(table.set_column(3, "factors", factors), path)
        with pytest.raises(DataError, match=f"holds no readable model .*{cause}"):
            load_model(folder)

    @pytest.mark.parametrize(
        ("ids", "cause"),
        [
            ([-3, 5], "holds 2 ids, model.json speaks of 1"),
            ([7], "column id: 1 ids have factors"),
            (["x"], "column id: ids of type string, where the factors' are int64"),
            ([None], "column id: ids of type null"),
            (pa.array([None], pa.int64()), "column id: 1 values are missing"),
        ],
    )
    def test_unusable_ids_without_ratings(self, folder, ids, cause):
        pq.write_table(pa.table({"id": ids}), folder / "untrained_users.parquet")
        with pytest.raises(DataError, match=f"no readable .*untrained_users.parquet.*{cause}"):
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
        pq.write_table(pq.read_table(path).slice(0, 2), path)
        with pytest.raises(DataError, match=r"\(3, 4, 3, 3\), the files hold \(2, 4, 3, 3\)"):
            load_model(folder)
