"""What a notebook shows of public objects: one readable line, however much they hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import als_spark
from als_spark import (
    FactorModel,
    LocalBackend,
    ModelSpec,
    Objective,
    SweepCollector,
    TrainingOptions,
    build_block,
    continue_training,
    fold_in,
    grid_specs,
    open_store,
    start_states,
)
from als_spark.model.ids import IdIndex
from als_spark.train.grid import run_grid
from als_spark.train.metrics import SideStats


@pytest.fixture(scope="module")
def objects():
    users, items = np.nonzero(np.random.default_rng(0).random((400, 250)) < 0.3)
    values = np.tile([1.0, 3.0, 5.0], users.size)[: users.size]
    by_user = build_block(users, items, values, n_rows=400, n_columns=250)
    by_item = build_block(items, users, values, n_rows=250, n_columns=400)
    backend, options = LocalBackend(by_user, by_item), TrainingOptions(max_iter=2)
    specs = grid_specs([2, 3], [Objective(0.1, exponent=1.0)])
    collector = SweepCollector(selected_on="train")
    before = repr(collector)
    run_grid(backend, specs, options, collector)
    states = continue_training(backend, start_states(backend, specs, options), options)
    sides = IdIndex(pa.array(range(400))), IdIndex(pa.array([str(k) for k in range(250)]))
    stats = SideStats.of(400, [by_user]), SideStats.of(250, [by_item])
    model = FactorModel(*sides, states[0].factors, *stats, specs[0].objective.as_record())
    return {
        f"<RatingBlock: {users.size:,} ratings, 400 rows, 250 columns>": by_user,
        f"<LocalBackend: {users.size:,} ratings of 400 users and 250 items>": backend,
        "<LoopState: rank 2, λ = 0.1, 2 iterations, stopped>": states[0],
        "<HeldFactors: 400 users, 250 items, rank 2, float32>": states[0].factors,
        "<FactorModel: 400 users, 250 items, rank 2, λ = 0.1>": model,
        "<IdIndex: 250 ids, string>": model.items,
        f"<SideStats: {users.size:,} ratings of 400 rows>": model.user_stats,
        "<FoldedRows: 1 users, rank 2, 1 ratings left out>": fold_in(
            model, "user", [9, 9], ["1", "none"], [4.0, 5.0]
        ),
        "<ModelStore /nowhere/at/all>": open_store("/nowhere/at/all"),
        "<SweepCollector: 0 points, none the best>": before,
        "<SweepOutcome: the best of 2 points is d = 3, λ = 0.1: train MSE ": collector.outcome(),
        "<SweepCollector: the best of 2 points is d = 3, λ = 0.1: train MSE ": collector,
        "ModelSpec(point=0, rank=2, objective=Objective(reg=0.1, exponent=0.0, ": ModelSpec(
            0, 2, Objective(0.1)
        ),
    }


def test_one_line_each(objects):
    for expected, given in objects.items():
        text = given if isinstance(given, str) else repr(given)
        assert text.startswith(expected)
        assert len(text) < 200
        assert "\n" not in text


def test_names_can_be_completed():
    assert {"ALS", "best_model", "start_session"} <= set(dir(als_spark))
    assert set(als_spark.__all__) <= set(dir(als_spark))
