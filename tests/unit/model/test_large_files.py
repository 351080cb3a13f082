"""Models of which a side comes in pieces, or stays in its file, without Spark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from als_spark.errors import DataError
from als_spark.model.factor_files import read_side, write_pieces
from als_spark.model.factor_model import FactorModel
from als_spark.model.files import FACTOR_FILES, load_large, load_model, save_model
from als_spark.model.ids import IdIndex
from als_spark.model.large_model import LargeModel
from als_spark.model.recommend import Asked
from als_spark.model.stored_factors import StoredFactors
from als_spark.spark.predict.far_rows import grouped, put_in
from als_spark.train.backend import HeldFactors
from als_spark.train.metrics import SideStats
from als_spark.types import SIDES
from tests.conftest import random_model


def saved(folder: Path) -> tuple[FactorModel, LargeModel]:
    save_model(random_model(), folder)
    addresses = {side: f"file://{folder}/{FACTOR_FILES[side]}" for side in SIDES}
    large = load_large(folder, addresses)
    assert isinstance(large, LargeModel)
    return load_model(folder), large


def test_a_side_that_stays_in_its_file(tmp_path: Path) -> None:
    model, large = saved(tmp_path)
    assert repr(large).startswith("<LargeModel: ")
    for side in SIDES:
        own, same = large.side(side), model.side(side)
        assert isinstance(own.factors, StoredFactors)
        assert own.factors.shape == same.factors.shape
        assert own.factors.dtype == same.factors.dtype
        assert own.ids.ids.equals(same.ids.ids)
        np.testing.assert_array_equal(own.stats.degrees, same.stats.degrees)
    collected = large.collect()
    for one, two in zip(collected.factors, model.factors, strict=True):
        np.testing.assert_array_equal(one, two)
    # From its file into another.
    save_model(large, tmp_path / "again")
    for name in FACTOR_FILES.values():
        assert pq.read_table(tmp_path / "again" / name).equals(pq.read_table(tmp_path / name))


def test_a_damaged_file_is_told_though_its_factors_are_not_read(tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / FACTOR_FILES["user"]
    table = pq.read_table(path)
    numbers = pa.array([[1.0]] * table.num_rows)
    for broken, words in (
        (table.drop_columns("factors"), "no columns called factors"),
        (table.set_column(3, "factors", numbers), "column factors: factors of type list"),
        (table.slice(1), "the folder mixes two models"),
    ):
        pq.write_table(broken, path)
        with pytest.raises(DataError, match=words):
            load_large(tmp_path, {"user": str(path)})


@pytest.mark.parametrize("heights", [[5], [2, 2, 1], [1, 1, 1, 1, 1]])
def test_pieces_make_the_file_of_the_whole(tmp_path: Path, heights: list[int]) -> None:
    factors = np.arange(10.0).reshape(5, 2)
    ids, stats = IdIndex(pa.array(list("edcba"))), SideStats(np.array([2, 0, 1, 3, 0]), np.ones(5))
    pieces = np.split(factors, np.cumsum(heights)[:-1])
    path = tmp_path / "side.parquet"
    n_trained, untrained = write_pieces(path, ids, stats, iter(pieces))
    assert (n_trained, untrained.ids.to_pylist()) == (3, ["d", "a"])
    side = read_side(path)
    assert side.ids.ids.to_pylist() == ["e", "c", "b"]
    np.testing.assert_array_equal(side.factors, factors[[0, 2, 3]])
    np.testing.assert_array_equal(side.stats.degrees, [2, 1, 3])
    with pytest.raises(RuntimeError, match="factors of 4 rows, where the side has 5"):
        write_pieces(path, ids, stats, iter([factors[:4]]))


def test_groups_have_the_kept_rows_in_order() -> None:
    factors = np.arange(14.0).reshape(7, 2)
    kept = np.array([True, False, True, True, False, True, True])
    groups = list(grouped(iter(np.split(factors, [3, 4])), kept, 2 * 16))
    assert [len(group) for group in groups] == [2, 3]
    np.testing.assert_array_equal(np.concatenate(groups), factors[kept])
    assert list(grouped(iter([factors]), np.zeros(7, bool), 8)) == []


def test_a_slice_whose_factors_are_missing_is_told() -> None:
    part = Asked("model", pa.array([7, 8, 9]), np.zeros((0, 2)), np.arange(3))
    pieces: list[Any] = [
        (np.array([2, 0]), np.array([[5.0, 6.0], [1.0, 2.0]]).tobytes()),
        (np.array([1]), np.array([[3.0, 4.0]]).tobytes()),
    ]
    whole = put_in(part, pieces, np.float64)
    np.testing.assert_array_equal(whole.factors, [[1, 2], [3, 4], [5, 6]])
    with pytest.raises(DataError, match="1 rows of the model have no factors"):
        put_in(part, pieces[:1], np.float64)


def test_a_large_model_may_have_one_array(tmp_path: Path) -> None:
    model, large = saved(tmp_path)
    mixed = LargeModel(
        model.users,
        model.items,
        HeldFactors(large.factors.users, model.factors.items),
        model.user_stats,
        model.item_stats,
        model.description,
    )
    assert mixed.rank == model.rank
    save_model(mixed, tmp_path / "mixed")
    again = load_model(tmp_path / "mixed")
    np.testing.assert_array_equal(again.factors.users, model.factors.users)
