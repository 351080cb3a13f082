"""Sides that stay on the executors: what needs no Spark."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from als_spark.ml.als import ALS
from als_spark.ml.errors import InvalidArgument
from als_spark.ml.factors import SideFactors, joined_stats
from als_spark.ml.far import FarSide, chunk_of_piece, directions_of
from als_spark.ml.model import ALSModel
from als_spark.ml.sides import Parts, Sides
from als_spark.ml.training import start_of
from als_spark.model.ids import IdIndex
from als_spark.spark.arrow import table_from_bytes
from als_spark.train.metrics import SideStats
from als_spark.train.start import initial_factors


def far_side(n: int, columns: int) -> FarSide:
    """One of which nothing can be had but the ids."""
    nowhere: Any = SimpleNamespace(hold=lambda _: None)
    return FarSide(pa.array(np.arange(n)[::-1], pa.int32()), columns, nowhere, nowhere)


def test_a_piece_is_a_table() -> None:
    factors = np.arange(6, dtype=np.float32).reshape(3, 2)
    (data,) = chunk_of_piece((factors[::-1], pa.array(["a", "b", "c"])))
    assert table_from_bytes(bytes(data)).to_pydict() == {
        "id": ["a", "b", "c"],
        "features": [[4, 5], [2, 3], [0, 1]],
    }


@pytest.mark.parametrize("cosine", [True, False])
def test_directions(cosine: bool) -> None:
    lists = pa.array([[3.0, 4.0], [0.0, 0.0]], pa.list_(pa.float32()))
    batch = pa.record_batch({"id": pa.array([7, 8]), "factors": lists})
    (found,) = directions_of([batch], rank=2, cosine=cosine)
    wanted = [[0.6, 0.8], [0, 0]] if cosine else [[3, 4], [0, 0]]
    assert found.to_pydict() == {"id": [7, 8], "factors": wanted}
    assert found.schema.field("factors").type.value_type == pa.float64()


def test_statistics_are_joined_where_both_are_known() -> None:
    own = SideStats(np.array([1, 2, 3], np.int32), np.array([1.0, 2.0, 3.0]))
    more = SideStats(np.array([9], np.int32), np.array([0.5]))
    kept = np.array([2, 0], np.int32)
    found = joined_stats(own, kept, more)
    assert found is not None
    assert found.degrees.tolist() == [3, 1, 9]
    assert found.sums.tolist() == [3.0, 1.0, 0.5]
    assert joined_stats(None, kept, more) is None


def test_users_that_are_elsewhere_start_as_usual() -> None:
    rng = np.random.default_rng(0)
    items = SideFactors.of(np.array([3, 5, 9]), rng.normal(size=(3, 2)).astype(np.float32))
    model = ALSModel()
    session: Any = None
    model._sides = Sides(session, Parts(far_side(4, 2), items))
    als = ALS(rank=2, seed=1, initialModel=model)
    ids = IdIndex(pa.array([0, 1, 2])), IdIndex(pa.array([5, 6]))
    start = start_of(als, *ids)
    assert start is not None
    # No rows: the backend draws them.
    assert start.users.shape == (0, 2)
    np.testing.assert_array_equal(start.items[0], items.factors[1])
    np.testing.assert_array_equal(start.items[1], initial_factors(3, 2, 2, 1).items[1])
    # Without an iteration they would be the result: then they have to come.
    with pytest.raises(AttributeError):
        start_of(als.copy({als.maxIter: 0}), *ids)


def test_sizes_of_a_side_that_is_elsewhere() -> None:
    model = ALSModel()
    session: Any = None
    model._sides = Sides(session, Parts(far_side(4, 2), far_side(3, 2)))
    assert "4" in model._repr_html_()
    assert [len(ids) for ids in model.side_ids] == [4, 3]
    assert far_side(4, 2).latent(2).columns == 2


@pytest.mark.parametrize("running", [True, False])
def test_a_model_is_released_after_its_session_too(running: bool) -> None:
    done: list[str] = []
    jvm = object() if running else None
    session: Any = SimpleNamespace(sparkContext=SimpleNamespace(_jsc=jvm))
    model, side = ALSModel(), far_side(4, 2)
    side.persisted.release = lambda _: done.append("persisted")  # type: ignore[method-assign]
    model._sides = Sides(session, Parts(side, SideFactors.of(np.arange(3), np.ones((3, 2)))))
    broadcast: Any = SimpleNamespace(unpersist=lambda: done.append("broadcast"))
    model._sides._broadcasts["item"] = broadcast
    copy = model.copy()
    model.release()
    assert done == (["broadcast", "persisted"] if running else ["persisted"])
    for released in (model, copy):
        assert "rank=2" in repr(released)
        with pytest.raises(InvalidArgument, match="was released: fit it again, or load it"):
            _ = released.rank
        # Again does no harm.
        released.release()
    assert len(done) == 1 + running
