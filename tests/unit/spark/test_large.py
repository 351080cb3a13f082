"""Models of a store on another file system: what is copied to this machine, and how often."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from als_spark.errors import DataError
from als_spark.model.factor_model import FactorModel
from als_spark.model.files import BEFORE_REFIT, DESCRIPTION_FILE
from als_spark.model.large_model import LargeModel
from als_spark.spark import planner
from als_spark.spark.large import load_from_store
from als_spark.store.files import LocalFiles
from als_spark.store.store import ModelStore
from tests.store_tools import make_folder

LABEL = "hdfs:///store"
SESSION: Any = SimpleNamespace(
    sparkContext=SimpleNamespace(
        master="spark://host:7077", getConf=lambda: SimpleNamespace(getAll=list)
    )
)


class RemoteFiles(LocalFiles):
    """Files that have to be downloaded."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.downloaded: list[str] = []

    def local(self, path: str) -> Any:
        return None

    def download(self, path: str, local_folder: Path) -> None:
        self.downloaded.append(path)
        super().download(path, local_folder)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with a version whose users are many, and that was refitted."""
    folder = make_folder(tmp_path / "model", 3, n_items=50)
    make_folder(folder / BEFORE_REFIT, 2, n_items=50)
    store = ModelStore(RemoteFiles(tmp_path / "store"), LABEL)
    store.publish(folder, run="r")
    return store


@pytest.mark.parametrize("before_refit", [False, True])
@pytest.mark.parametrize(("limit", "kind"), [(1 << 30, FactorModel), (1000, LargeModel)])
def test_a_version_is_copied_once(store, monkeypatch, limit, kind, before_refit):
    monkeypatch.setattr(planner, "usable_bytes", lambda _: limit)
    with ExitStack() as stack:
        model = load_from_store(SESSION, store, "current", stack, before_refit=before_refit)
        assert isinstance(model, kind)
        assert model.description["value"] == (2 if before_refit else 3)
        if kind is LargeModel:
            # Two users are few.
            (users, items) = model.factors
            assert users.shape == (2, 2)
            inside = f"/{BEFORE_REFIT}" if before_refit else ""
            place = f"{LABEL}/versions/{store.current()}{inside}/"
            assert str(items.address).startswith(place)
        assert store.files.downloaded == [f"versions/{store.current()}"]
    with ExitStack() as stack:
        near = load_from_store(SESSION, store, "current", stack, near=("item",))
        assert isinstance(near, FactorModel)


def test_a_damaged_description_is_told_by_whoever_loads(store, tmp_path):
    (path,) = (tmp_path / "store" / "versions").glob(f"*/{DESCRIPTION_FILE}")
    path.write_text("{")
    with (
        ExitStack() as stack,
        pytest.raises(DataError, match=r"damaged: .*json: has 1 by"),
    ):
        load_from_store(SESSION, store, "current", stack)
