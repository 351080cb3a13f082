"""What the driver does in a half-step over partitioned ratings, with an exchange without Spark."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from als_spark.errors import SolveError
from als_spark.solve.blocks import build_block
from als_spark.solve.objective import Objective
from als_spark.spark.planner import Sizes, half_step_bytes, plan
from als_spark.spark.train import partitioned
from als_spark.spark.train.exchange import SharedSums, TrainSlice, solve_partition
from als_spark.spark.train.partitioned import PartitionedRatings, errors_of_partition
from als_spark.train.backend import Factors, HalfStep
from als_spark.train.grid import SweepCollector, grid_specs, run_grid
from als_spark.train.metrics import ErrorSums, EvaluationPart, SideStats
from als_spark.train.records import TrainingOptions
from tests.conftest import local_backend, random_triples

T = random_triples()
# Ratings of 0 and below, which count less where feedback is implicit.
T = T._replace(ratings=T.ratings - 2)
BY_USER = (T.users, T.items, 40, 30)
BY_ITEM = (T.items, T.users, 30, 40)
SIZES = Sizes(40, 30, 400, (2, 3), 8, 2)


def block(rows, columns, n_rows, n_columns, chosen):
    return build_block(
        rows[chosen],
        columns[chosen],
        T.ratings[chosen],
        n_rows=n_rows,
        n_columns=n_columns,
        dtype=np.float64,
    )


def slices_of(side, shared_row):
    """Two blocks of a side by the parity of the row; one row shared by the parity of its column."""
    rows, columns, *sizes = BY_USER if side == "user" else BY_ITEM
    shared = rows == shared_row
    for b in (0, 1):
        yield TrainSlice(
            side, (b, 0), False, block(rows, columns, *sizes, ~shared & (rows % 2 == b))
        )
        yield TrainSlice(
            side, (b, 1), True, block(rows, columns, *sizes, shared & (columns % 2 == b))
        )


SLICES = {"user": list(slices_of("user", 0)), "item": list(slices_of("item", 3))}


class ListExchange:
    """An exchange over lists: what a new one has to do."""

    def __init__(self, context, slices, side, partitions):
        assert context is None
        self.side, self.slices = side, slices[side]
        self.partitions = list(partitions)
        self.groups = []

    def solve(self, steps, label):
        assert label
        self.groups.append(len(steps))
        solvers = [step.row_solver() for step in steps]
        broadcast = SimpleNamespace(value=solvers)
        parts = list(solve_partition(self.slices, side=self.side, solvers=broadcast))
        for part in parts:
            if isinstance(part, SolveError):
                raise part
        shared = [part for part in parts if isinstance(part, SharedSums)]
        return [part for part in parts if not isinstance(part, SharedSums)], shared


@pytest.fixture
def ratings(monkeypatch):
    monkeypatch.setattr(partitioned, "EXCHANGES", {"broadcast": ListExchange})
    stats = {
        side: SideStats.of(n_rows, [block(rows, columns, n_rows, n_columns, rows >= 0)])
        for side, (rows, columns, n_rows, n_columns) in (("user", BY_USER), ("item", BY_ITEM))
    }
    rows = {
        side: {part.number: part.ratings.rows for part in parts if not part.shared}
        for side, parts in SLICES.items()
    }
    resources = ExitStack()
    positives = {
        "user": np.bincount(T.users[T.ratings > 0], minlength=40),
        "item": np.bincount(T.items[T.ratings > 0], minlength=30),
    }
    chosen = plan(SIZES, "ratings")
    return PartitionedRatings(None, SLICES, rows, None, stats, positives, chosen, resources)


def step(rank, reg, nu, n_fixed, n_rows, **more):
    rng = np.random.default_rng(rank)
    fixed, current = rng.normal(size=(n_fixed, rank)), rng.normal(size=(n_rows, rank))
    degrees = np.bincount(T.items if n_fixed == 30 else T.users, minlength=n_fixed)
    return HalfStep(fixed, current, Objective(reg, nu, **more), degrees)


@pytest.mark.parametrize("side", ["user", "item"])
def test_a_half_step_is_that_of_one_process(ratings, side):
    n_rows, n_fixed = (40, 30) if side == "user" else (30, 40)
    sizes, implicit = (n_fixed, n_rows), {"implicit": True, "alpha": 2.0}
    steps = [
        step(2, 0.5, 0.0, *sizes),
        step(3, 0.1, 1.0, *sizes),
        step(3, 0.1, 1.0, *sizes, **implicit),
        step(4, 0.1, 1.0, *sizes, nonnegative=True),
        step(4, 0.1, 1.0, *sizes, nonnegative=True, **implicit),
    ]
    wanted = local_backend(T).solve(side, steps, "")
    for found, expected in zip(ratings.solve(side, steps, "a step"), wanted, strict=True):
        np.testing.assert_allclose(found.factors, expected.factors, rtol=1e-9, atol=1e-12)
        assert found.loss == pytest.approx(expected.loss, rel=1e-9)
    for positive in (False, True):
        np.testing.assert_array_equal(
            ratings.degrees(side, positive=positive),
            local_backend(T).degrees(side, positive=positive),
        )


def test_blocks_of_each_side_are_in_partitions_of_their_own(ratings):
    exchanges = ratings.exchanges
    assert (exchanges["user"].partitions, exchanges["item"].partitions) == ([0, 1], [2, 3])


def test_models_go_in_the_groups_of_the_plan(ratings, monkeypatch):
    steps = [step(2, 0.5, 0.0, 30, 40)] * 3
    whole = ratings.solve("user", steps, "x")
    pairs = half_step_bytes(30, [2, 2], 8)
    monkeypatch.setattr(ratings, "plan", replace(ratings.plan, worker_bytes=pairs))
    grouped = ratings.solve("user", steps, "x")
    assert ratings.exchanges["user"].groups == [3, 2, 1]
    for one, other in zip(whole, grouped, strict=True):
        np.testing.assert_array_equal(one.factors, other.factors)


def test_a_shared_row_without_a_solution_is_named(ratings):
    # Only the shared row: the others would fail first.
    ratings.exchanges["user"].slices = [part for part in SLICES["user"] if part.shared]
    nothing = HalfStep(np.zeros((30, 2)), np.zeros((40, 2)), Objective(0.0))
    with pytest.raises(SolveError) as info:
        ratings.solve("user", [nothing], "x")
    assert (info.value.side, info.value.row) == ("user", 0)


def test_its_resources_end_with_it(ratings):
    ended = []
    ratings.resources.callback(ended.append, True)
    assert ratings.backend is ratings
    ratings.close()
    assert ended == [True]


def test_a_grid_is_trained_on_it_as_in_one_process(ratings, monkeypatch):
    local = local_backend(T)
    monkeypatch.setattr(ratings, "errors", local.errors)
    options = TrainingOptions(tol=0.0, max_iter=4, dtype="float64")
    heard = []
    outcomes = []
    for train in (ratings.train, lambda *a, **k: run_grid(local, *a, **k)):
        collector = SweepCollector("train")
        train(grid_specs([2, 3], [0.5]), options, collector, on_iteration=heard.append)
        outcomes.append(collector.outcome())
    assert len(heard) == 16
    for one, other in zip(*(outcome.points for outcome in outcomes), strict=True):
        assert one.objective == pytest.approx(other.objective, rel=1e-9)


def test_errors_of_training_slices_and_held_out_parts():
    rng = np.random.default_rng(0)
    models = [Factors(rng.normal(size=(40, d)), rng.normal(size=(30, d))) for d in (2, 3)]
    held = block(*BY_USER, T.users < 9)
    parts = [*SLICES["user"], EvaluationPart("test", held, ErrorSums(1.0, 1.0, 1, 1))]
    found = list(errors_of_partition(parts, models=SimpleNamespace(value=models)))
    assert [split for split, _ in found] == ["train"] * 4 + ["test"]
    for k, model in enumerate(models):
        (expected,) = local_backend(T).errors([model], "")
        train = ErrorSums.by_split((split, sums[k]) for split, sums in found)["train"]
        assert train.count == 400
        assert train.squared == pytest.approx(expected["train"].squared, rel=1e-10)
        test = found[-1][1][k]
        errors = T.ratings - np.einsum("nd,nd->n", model.users[T.users], model.items[T.items])
        errors = errors[T.users < 9]
        assert test.squared == pytest.approx(1.0 + errors @ errors, rel=1e-10)
        assert (test.count, test.cold) == (1 + errors.size, 1)
