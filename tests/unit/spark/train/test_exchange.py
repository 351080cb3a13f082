"""What executors do in a half-step, on lists of slices; no Spark."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from als_spark.errors import SolveError
from als_spark.solve.blocks import build_block, split_block
from als_spark.solve.objective import Objective
from als_spark.spark.train.exchange import SharedSums, SolvedSlice, TrainSlice, solve_partition
from tests.conftest import random_triples

T = random_triples()
BLOCK = build_block(T.users, T.items, T.ratings, n_rows=40, n_columns=30, dtype=np.float64)
MODELS = [(3, Objective(0.5)), (7, Objective(2.0, 1.0))]


def solver_of(rank, objective):
    return objective.row_solver(np.random.default_rng(rank).normal(size=(30, rank)))


def solve(slices, models=MODELS, side="user"):
    broadcast = SimpleNamespace(value=[solver_of(*model) for model in models])
    return list(solve_partition(iter(slices), side=side, solvers=broadcast))


def test_every_slice_is_solved_for_every_model():
    slices = [
        TrainSlice("user", (4, k), False, part) for k, part in enumerate(split_block(BLOCK, 1500))
    ]
    assert len(slices) > 1
    solved = solve(slices)
    assert [part.number for part in solved] == [part.number for part in slices]
    for k, model in enumerate(MODELS):
        whole, loss = solver_of(*model).solve(BLOCK, side="user")
        found = np.zeros((40, model[0]))
        for part, piece in zip(slices, solved, strict=True):
            assert isinstance(piece, SolvedSlice)
            found[part.ratings.rows] = piece.factors[k]
        np.testing.assert_allclose(found[BLOCK.rows], whole, rtol=1e-10)
        assert sum(piece.losses[k] for piece in solved) == pytest.approx(loss, rel=1e-10)


def test_of_shared_rows_come_normal_equations():
    (found,) = solve([TrainSlice("item", (1, 0), True, BLOCK)], side="item")
    assert isinstance(found, SharedSums)
    assert found.number == (1, 0)
    assert found.rows is BLOCK.rows
    for sums, model in zip(found.sums, MODELS, strict=True):
        expected = solver_of(*model).accumulate(BLOCK)
        np.testing.assert_array_equal(sums.stacks, expected.stacks)
        np.testing.assert_array_equal(sums.squares, expected.squares)


def test_a_system_without_a_solution_is_returned_and_the_next_slice_solved():
    first = np.zeros(1, np.int32)
    ill = build_block(first, first, np.ones(1), n_rows=1, n_columns=30, dtype=np.float64)
    parts = [TrainSlice("item", (0, 0), False, ill), TrainSlice("item", (0, 1), True, BLOCK)]
    error, other = solve(parts, [(2, Objective(0.0))], side="item")
    assert isinstance(error, SolveError)
    assert (error.side, error.row) == ("item", 0)
    assert isinstance(other, SharedSums)


def test_no_slices():
    assert solve([]) == []
