"""Compact numbering and routing of fixed factors: in- and out-blocks, without Spark."""

from __future__ import annotations

import numpy as np
import pytest

from als_spark.solve.blocks import build_block
from als_spark.solve.objective import Objective
from als_spark.solve.routing import SHARED_ROW, CompactFactors, Needs, rows_of_block
from tests.conftest import random_triples

T = random_triples()
USERS, ITEMS = 40, 30


def test_the_example():
    block_of = np.array([0, 1, 0, SHARED_ROW, 1, 0])
    # 6 is the padding.
    needs = Needs.of([np.array([5, 1, 6]), np.array([3, 2, 5])], block_of)
    assert needs.columns.tolist() == [1, 2, 3, 5]
    assert {source: rows.tolist() for source, rows in needs.sources.items()} == {0: [1, 3], 1: [0]}
    assert needs.shared.tolist() == [2]
    own = rows_of_block(block_of, 0)
    assert own.tolist() == [0, 2, 5]
    sent = np.searchsorted(own, needs.columns[needs.sources[0]])
    assert sent.tolist() == [1, 2]


def test_nothing_is_needed():
    needs = Needs.of([np.array([6, 6])], np.zeros(6, np.int32))
    assert (needs.columns.size, dict(needs.sources), needs.shared.size) == (0, {}, 0)
    (factors,) = CompactFactors(needs, np.zeros(0, int), [np.zeros((0, 3))]).finish()
    assert factors.shape == (0, 3)
    assert rows_of_block(np.array([1, 1]), 0).size == 0


@pytest.mark.parametrize(
    "objective",
    [
        Objective(0.5),
        Objective(0.1, 1.0, implicit=True, alpha=2.0),
        Objective(0.1, implicit=True, nonnegative=True),
        Objective(0.2, bias_reg=0.3, mean=1.5),
    ],
)
@pytest.mark.parametrize("n_blocks", [1, 3, 50])
def test_a_compact_block_is_solved_to_the_same_bits(objective, n_blocks):
    rng = np.random.default_rng(n_blocks)
    block_of = rng.integers(-1, n_blocks, ITEMS)
    # Of few users, who have not rated all items.
    some = T.users < 5
    triples = T.users[some], T.items[some], T.ratings[some]
    block = build_block(*triples, n_rows=USERS, n_columns=ITEMS)
    degrees = np.bincount(T.items, minlength=ITEMS)
    models = [rng.normal(size=(ITEMS, objective.columns(rank))) for rank in (2, 4)]

    needs = Needs.of([block.indices], block_of)
    assert 0 < needs.columns.size < ITEMS
    shared = rows_of_block(block_of, SHARED_ROW)
    parts = CompactFactors(needs, shared, [model[shared] for model in models])
    for source in reversed(needs.sources):
        own = rows_of_block(block_of, source)
        at = np.searchsorted(own, needs.columns[needs.sources[source]])
        parts.take(source, [model[own][at] for model in models])
    small = needs.compact(block)
    assert small.n_columns == needs.columns.size
    np.testing.assert_array_equal(needs.columns[small.triples()[1]], block.triples()[1])
    for model, compact in zip(models, parts.finish(), strict=True):
        np.testing.assert_array_equal(compact, model[needs.columns])
        whole = objective.row_solver(model, degrees)
        gram = model.T @ model
        part = objective.row_solver(compact, gram=gram)
        found, loss = part.solve(small, side="user")
        wanted, other = whole.solve(block, side="user")
        if objective.implicit:
            np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)
        else:
            np.testing.assert_array_equal(found, wanted)
        assert loss == pytest.approx(other, rel=1e-12)


def test_factors_that_have_not_arrived_are_noticed():
    needs = Needs.of([np.array([0, 1])], np.array([0, 1]))
    parts = CompactFactors(needs, np.zeros(0, int), [np.zeros((0, 2))])
    parts.take(1, [np.ones((1, 2))])
    with pytest.raises(RuntimeError, match=r"blocks \[0\] have not arrived"):
        parts.finish()
