"""Features in the order of the rows that they belong to."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from als_spark.errors import DataError
from als_spark.model.ids import IdIndex
from als_spark.spark.prepare.row_features import RowFeatures, place_features, place_sides
from als_spark.spark.read.feature_columns import FeatureColumn

COLUMNS = (
    FeatureColumn("year", "number", (), 2),
    FeatureColumn("genres", "list", ("Drama", "War"), 0, 3),
)
TABLE = np.array(
    [[1.0, 1, 0], [0.5, 1, 1], [-1.0, 0, 1], [-0.5, 0, 0], [7.0, 1, 1]],
)


def test_rows_are_placed_centred_and_scaled():
    features = RowFeatures(
        "item", "films", pa.array(["12", "3", "40", "5", "x"]), TABLE, COLUMNS, ("title: rare",)
    )
    index = IdIndex(pa.array([5, 3, 8, 12], pa.int64()))
    # 5 has no training rating, 8 no features; 40 has no rating, and x is no id of theirs.
    found = place_features(features, index, np.array([0, 4, 2, 1]))
    assert found.new_ids.to_pylist() == [40]
    assert found.there.tolist() == [True, True, False, True, True]
    assert (found.n_without, found.n_unlike) == (1, 1)
    rows = TABLE[[3, 1, 0, 2]]
    centred = rows - TABLE[[1, 0]].mean(axis=0)
    learnt_from = centred[[1, 2]]
    centred[:, 0] /= np.sqrt(np.mean(learnt_from[:, 0] ** 2))
    centred[:, 1:] /= np.sqrt(np.mean(learnt_from[:, 1:] ** 2))
    np.testing.assert_allclose(found.table[[0, 1, 3, 4]], centred)
    assert not found.table[2].any()
    # In any order of the ids, with text for ids too.
    order = [4, 2, 0, 3, 1]
    texts = IdIndex(pa.array(["5", "3", "8", "12"]))
    shuffled = RowFeatures(
        "item", "films", features.ids.take(pa.array(order)), TABLE[order], COLUMNS
    )
    other = place_features(shuffled, texts, np.array([0, 4, 2, 1]))
    assert other.new_ids.to_pylist() == ["40", "x"]
    np.testing.assert_allclose(other.table[:5], found.table)
    assert features.as_record()["columns"][1] == {
        "name": "genres",
        "kind": "list",
        "values": 2,
        "rare_values": 3,
        "missing": 0,
    }
    assert features.words == (
        "features of items in films: year (number, missing in 2 rows), genres (list, 2 values and "
        "3 rare ones left out)"
    )


def test_rows_of_a_side_are_counted_by_what_they_have():
    features = RowFeatures("item", "films", pa.array(["12", "3", "40", "5", "x"]), TABLE, COLUMNS)
    # Of those with features 5 has no training rating, and 40 none at all; 8 has no features.
    prepared = SimpleNamespace(
        summary=SimpleNamespace(items=IdIndex(pa.array([5, 3, 8, 12], pa.int64()))),
        stats={"item": SimpleNamespace(degrees=np.array([0, 4, 2, 1]))},
    )
    placed = place_sides({"item": features}, prepared)
    assert placed.record["item"] == {
        **features.as_record(),
        "rated_with": 2,
        "rated_without": 1,
        "by_features_alone": 2,
    }
    ids, there = placed.further["item"]
    assert (ids.to_pylist(), there.tolist()) == ([40], [True, True, False, True, True])
    alone = place_features(features, prepared.summary.items, np.array([0, 4, 2, 1]))
    np.testing.assert_array_equal(placed.tables["item"], alone.table)


def test_ids_that_are_none_of_the_ratings_are_refused():
    features = RowFeatures("user", "people", pa.array(["1", "2"]), np.ones((2, 3)), COLUMNS)
    index = IdIndex(pa.array([7, 2], pa.int64()))
    words = r"^people: none of its 2 ids is of a rated user, such as 1: the ratings have .* as 7"
    with pytest.raises(DataError, match=words):
        place_features(features, index, np.array([3, 0]))


def test_a_fingerprint_is_that_of_ids_columns_and_numbers():
    def of(ids, table, columns=COLUMNS, label="films"):
        return RowFeatures("item", label, pa.array(ids), table, columns).fingerprint

    ids = ["12", "3", "40", "5", "6"]
    first = of(ids, TABLE)
    # How Spark has summed a mean does not count, nor does the name of the source.
    assert of(ids, TABLE + 1e-13, label="elsewhere") == first
    assert of(ids, np.where(TABLE == 0, -0.0, TABLE)) == first
    others = [
        of([*ids[:-1], "7"], TABLE),
        of(ids, TABLE + np.eye(5, 3)),
        of(ids, TABLE, (COLUMNS[0], COLUMNS[1]._replace(values=("Drama", "Noir")))),
    ]
    assert len({first, *others}) == 4
