"""The vectors of a model for an index: searching them gives what the model recommends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from als_spark.errors import ConfigError
from als_spark.model.export import serving_vectors, write_export
from als_spark.model.factor_model import FactorModel
from als_spark.model.ids import IdIndex
from als_spark.model.recommend import recommend, similar_items
from als_spark.solve.biases import plain_side
from als_spark.solve.objective import Objective
from als_spark.train.backend import Factors
from als_spark.train.metrics import SideStats
from tests.conftest import ROOT
from tests.pages_of_docs import code_blocks

N_USERS, N_ITEMS = 80, 40
ZERO = 7
"""The item whose factors are zeros."""


def make_model(
    *, text: bool = False, dtype: Any = np.float32, objective: Objective | None = None
) -> FactorModel:
    """A model some of whose rows have no ratings, and factors longer than all others."""
    rng = np.random.default_rng(5)
    users, items = rng.standard_normal((N_USERS, 4)), rng.standard_normal((N_ITEMS, 4))
    if objective is not None:
        mean = objective.mean
        users = plain_side(users, "user", scale=1.0, mean=mean)
        items = plain_side(items, "item", scale=1.0, mean=mean)
    degrees = [np.arange(n, dtype=np.int32) % 5 for n in (N_USERS, N_ITEMS)]
    for factors, of_side in zip((users, items), degrees, strict=True):
        factors[of_side == 0] *= 1000
    items[ZERO] = 0
    names = pa.array([f"item {k}\n\0" for k in range(N_ITEMS)])
    return FactorModel(
        IdIndex(pa.array(np.arange(N_USERS))),
        IdIndex(names if text else pa.array(np.arange(N_ITEMS) * 10)),
        Factors(users.astype(dtype), items.astype(dtype)),
        *(SideStats(of_side, 3.0 * of_side) for of_side in degrees),
        {} if objective is None else objective.as_record(),
    )


def exported(folder: Path, record: dict[str, Any], side: str) -> tuple[list[Any], np.ndarray]:
    """Ids and vectors, as the record says where they are."""
    files = record[f"{side}s"]
    if files["vectors"].endswith(".parquet"):
        table = pq.read_table(folder / files["vectors"])
        return table["id"].to_pylist(), np.array(table["vector"].to_pylist())
    vectors = np.load(folder / files["vectors"])
    path = folder / files["ids"]
    ids = np.load(path).tolist() if path.suffix == ".npy" else json.loads(path.read_text("utf-8"))
    return ids, vectors


@pytest.mark.parametrize("target", ["npy", "parquet", "faiss-ready"])
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_best_products_are_the_recommendations(
    tmp_path: Path, target: Any, text: bool, dtype: str
) -> None:
    model = make_model(text=text, dtype=dtype)
    record = write_export(tmp_path, model, target, "inner-product")
    (user_ids, users), (item_ids, items) = (
        exported(tmp_path, record, side) for side in ("user", "item")
    )
    assert record["dtype"] == ("float32" if target == "faiss-ready" else dtype)
    assert (record["columns"], record["biases"]) == (4, False)
    assert [record["users"][key] for key in ("rows", "left_out_without_ratings")] == [64, 16]
    assert [record["items"][key] for key in ("rows", "left_out_without_ratings")] == [32, 8]
    assert (users.shape, items.shape) == ((64, 4), (32, 4))
    if target != "parquet":
        assert users.dtype == items.dtype == record["dtype"]
        assert users.flags.c_contiguous
    found = recommend(model, top=5)
    for answer in found.to_pylist():
        if answer["source"] != "model":
            assert answer["user"] not in user_ids
            continue
        products = items @ users[user_ids.index(answer["user"])]
        best = np.argsort(-products)[:5]
        assert [item_ids[k] for k in best] == [r["item"] for r in answer["recommendations"]]


def test_biases_are_in_the_product_and_not_in_the_cosine(tmp_path: Path) -> None:
    objective = Objective(0.1, bias_reg=0.1, mean=3.25)
    model = make_model(dtype=np.float64, objective=objective)
    record = write_export(tmp_path, model, "npy", "inner-product")
    assert (record["columns"], record["biases"]) == (model.rank, True)
    (user_ids, users), (item_ids, items) = (
        exported(tmp_path, record, side) for side in ("user", "item")
    )
    predicted = model.predict(np.repeat(user_ids, len(item_ids)), item_ids * len(user_ids))
    np.testing.assert_allclose((users @ items.T).ravel(), predicted, rtol=1e-12)
    vectors = serving_vectors(model, "item", "cosine").vectors
    latent = model.factors.items[1, :-2]
    np.testing.assert_allclose(vectors[0], latent / np.linalg.norm(latent), rtol=1e-12)


def test_the_best_cosines_are_the_similar_items(tmp_path: Path) -> None:
    model = make_model(dtype=np.float64)
    model.factors.items[9] = [3e-300, 0, 4e-300, 0]
    record = write_export(tmp_path, model, "npy", "cosine")
    assert (record["items"]["rows"], record["items"]["left_out_zero"]) == (31, 1)
    ids, vectors = exported(tmp_path, record, "item")
    assert ZERO * 10 not in ids
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(vectors[ids.index(90)], [0.6, 0, 0.8, 0], rtol=1e-12)
    for answer in similar_items(model, [10, 20, 380], top=3).to_pylist():
        cosines = vectors @ vectors[ids.index(answer["item"])]
        best = np.argsort(-cosines)[1:4]
        assert [ids[k] for k in best] == [r["item"] for r in answer["recommendations"]]


def test_labels_are_ids_where_faiss_can_have_them(tmp_path: Path) -> None:
    model = make_model(text=True)
    record = write_export(tmp_path, model, "faiss-ready", "inner-product")
    said = [record[side]["labels_are"] for side in ("users", "items")]
    assert said == ["ids", "rows"]
    labels = np.load(tmp_path / "user_labels.npy")
    assert labels.dtype == np.int64
    assert labels.tolist() == exported(tmp_path, record, "user")[0]
    assert np.load(tmp_path / "item_labels.npy").tolist() == list(range(32))
    # -1 is its word for nothing.
    negative = FactorModel(
        IdIndex(pa.array(np.arange(N_USERS) - 5)),
        *(model.items, model.factors, model.user_stats, model.item_stats),
    )
    record = write_export(tmp_path, negative, "faiss-ready", "inner-product")
    assert record["users"]["labels_are"] == "rows"
    assert np.load(tmp_path / "user_labels.npy").tolist() == list(range(64))


def test_numbers_too_large_for_faiss(tmp_path: Path) -> None:
    model = make_model(dtype=np.float64)
    model.factors.items[3, 0] = 1e39
    with pytest.raises(ConfigError, match="--to faiss-ready: a factor of the items is too large"):
        write_export(tmp_path, model, "faiss-ready", "inner-product")
    assert write_export(tmp_path, model, "npy", "inner-product")["dtype"] == "float64"


def test_the_example_of_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="the extra `test` has it")
    model = make_model()
    folder = tmp_path / "results" / "index"
    folder.mkdir(parents=True)
    write_export(folder, model, "faiss-ready", "inner-product")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    (block,) = code_blocks(ROOT / "docs" / "serving.md", "python")
    exec(block, names)
    (answer,) = recommend(model, [73], top=10).to_pylist()
    assert answer["source"] == "model"
    assert names["found"][0].tolist() == [r["item"] for r in answer["recommendations"]]
    scores = [r["score"] for r in answer["recommendations"]]
    np.testing.assert_allclose(names["scores"][0], scores, rtol=1e-5)
