"""Tiny models and their stores, for the tests of the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from als_spark.files.json_files import write_json
from als_spark.model.factor_model import FactorModel
from als_spark.model.files import save_model
from als_spark.model.ids import IdIndex
from als_spark.train.backend import Factors
from als_spark.train.metrics import SideStats


def make_folder(folder: Path, value: int, n_items: int = 3) -> Path:
    """Write a model whose every number is ``value``, so that a mixture of two is seen."""
    sizes = {"users": 2, "items": n_items}
    stats = {
        side: SideStats(np.full(n, value, np.int32), np.full(n, float(value)))
        for side, n in sizes.items()
    }
    model = FactorModel(
        IdIndex(pa.array([10, 20])),
        IdIndex(pa.array([f"i{k}" for k in range(n_items)])),
        Factors(np.full((2, 2), float(value)), np.full((n_items, 2), float(value))),
        stats["users"],
        stats["items"],
        {"value": value},
    )
    save_model(model, folder)
    write_json(folder / "metrics.json", {"test_rmse": value / 10})
    (folder / "reports").mkdir(exist_ok=True)
    (folder / "reports" / "report.html").write_text(f"<p>{value}</p>")
    return folder


def value_of(model: FactorModel) -> int:
    """Return the number that a model of :func:`make_folder` consists of, after looking at all."""
    value = model.description["value"]
    assert isinstance(value, int)
    for numbers in (*model.factors, model.user_stats.sums, model.item_stats.degrees):
        assert (numbers == value).all()
    return value


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 25, 3, 40, 55, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **amount: float) -> None:
        self.now += timedelta(**amount)
