"""Half-steps of Bayesian factorisation against dense computations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from als_spark.errors import SolveError
from als_spark.solve.blocks import build_block
from als_spark.solve.column_sums import ColumnSums
from als_spark.solve.philox import normals, philox_words
from als_spark.solve.posterior import (
    Columns,
    Draw,
    FixedSide,
    PosteriorSolver,
    RowPriors,
    unpack,
)
from als_spark.solve.solver import add_sums

N_ROWS, N_COLUMNS, SIZE, MEAN = 30, 20, 4, 3.1


def random_spd(rng, n, size):
    roots = rng.normal(size=(n, size, size))
    return roots @ roots.transpose(0, 2, 1) / size + 0.1 * np.eye(size)


@pytest.fixture(scope="module")
def ratings():
    rng = np.random.default_rng(0)
    rated = rng.random((N_ROWS, N_COLUMNS)) < np.linspace(0.05, 0.9, N_ROWS)[:, None]
    rated[:, 0] = True
    rows, columns = np.nonzero(rated)
    return rows, columns, rng.integers(1, 6, rows.size).astype(float)


def make_solver(kind, draw=None, seed=1):
    rng = np.random.default_rng(seed)
    columns = Columns(SIZE, kind)
    table = np.zeros((N_COLUMNS, columns.total))
    columns.means(table)[:] = rng.normal(size=(N_COLUMNS, SIZE))
    if columns.n_covariances:
        columns.packed(table)[:] = columns.pack(random_spd(rng, N_COLUMNS, SIZE))
    scales = rng.uniform(0.5, 2, N_COLUMNS)
    priors = RowPriors(
        rng.normal(size=(N_ROWS, SIZE)),
        random_spd(rng, 1, SIZE)[0],
        rng.uniform(0.5, 2, N_ROWS),
        rng.uniform(0.5, 2, N_ROWS),
    )
    fixed = FixedSide.of(table, columns, scales, MEAN, "float64")
    return PosteriorSolver(columns, fixed, priors, draw), table, scales


def dense_row(solver, table, scales, columns, values, row, weights=None):
    """Mean, covariance and expected errors of a row, rating by rating, from the definition."""
    priors, layout = solver.priors, solver.columns
    gram, rhs, constant = np.zeros((SIZE, SIZE)), np.zeros(SIZE), 0.0
    for k, (column, value) in enumerate(zip(columns, values, strict=True)):
        y = layout.means(table)[column]
        spread = np.zeros((SIZE, SIZE))
        if layout.n_covariances:
            spread = unpack(layout.packed(table)[column][None], SIZE)[0]
        # Moments of (q, 1, v), where q = r − m − c falls as the bias c rises.
        first = np.concatenate([[value - MEAN - y[0], 1.0], y[1:]])
        turn = np.zeros((SIZE + 1, SIZE))
        turn[0, 0] = -1
        turn[2:, 1:] = np.eye(SIZE - 1)
        second = np.outer(first, first) + turn @ spread @ turn.T
        weight = scales[column] * (1 if weights is None else weights[k])
        gram += weight * second[1:, 1:]
        rhs += weight * second[0, 1:]
        constant += weight * second[0, 0]
    precision = priors.weights[row] * priors.precision
    system = precision + priors.noise[row] * gram
    covariance = np.linalg.inv(system)
    mean = covariance @ (precision @ priors.means[row] + priors.noise[row] * rhs)
    if layout.kind == "diagonal":
        covariance = np.diag(1 / np.diag(system))

    def errors(x, spread):
        return constant - 2 * x @ rhs + np.trace(gram @ (np.outer(x, x) + spread))

    return mean, covariance, errors


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", ["variational", "diagonal"])
def test_a_variational_half_step_is_the_dense_computation(ratings, kind, weighted):
    rows, columns, values = ratings
    weights = np.random.default_rng(3).uniform(0.5, 2, rows.size) if weighted else None
    block = build_block(rows, columns, values, n_rows=N_ROWS, n_columns=N_COLUMNS, weights=weights)
    solver, table, scales = make_solver(kind)
    solved, loss = solver.solve(block, side="user")
    layout = solver.columns
    for k, row in enumerate(block.rows):
        own = rows == row
        mean, covariance, errors = dense_row(
            solver,
            table,
            scales,
            columns[own],
            values[own],
            row,
            None if weights is None else weights[own],
        )
        np.testing.assert_allclose(layout.means(solved)[k], mean, rtol=1e-10, atol=1e-10)
        found = unpack(layout.packed(solved)[k][None], SIZE)[0]
        np.testing.assert_allclose(found, covariance, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(layout.errors(solved)[k], errors(mean, covariance), rtol=1e-9)
        log_det = np.linalg.slogdet(covariance)[1]
        np.testing.assert_allclose(layout.log_dets(solved)[k], log_det, rtol=1e-10)
    assert loss == pytest.approx(layout.errors(solved).sum())


def test_a_sampled_row_has_the_dense_mean_and_covariance(ratings):
    rows, columns, values = ratings
    block = build_block(rows, columns, values, n_rows=N_ROWS, n_columns=N_COLUMNS)
    solver, table, scales = make_solver("sample", Draw(5, 2))
    means = make_solver("mean")[0].solve(block, side="user")[0]
    solved, _ = solver.solve(block, side="user")
    drawn = normals(block.rows, SIZE, seed=5, iteration=2, side="user")
    for k, row in enumerate(block.rows):
        own = rows == row
        mean, covariance, errors = dense_row(solver, table, scales, columns[own], values[own], row)
        np.testing.assert_allclose(means[k, :SIZE], mean, rtol=1e-10, atol=1e-10)
        # x = mean + R e with R Rᵀ the covariance.
        root = np.linalg.inv(np.linalg.cholesky(np.linalg.inv(covariance))).T
        x = mean + root @ drawn[k]
        np.testing.assert_allclose(solved[k, :SIZE], x, rtol=1e-10, atol=1e-10)
        zero = np.zeros((SIZE, SIZE))
        np.testing.assert_allclose(solver.columns.errors(solved)[k], errors(x, zero), rtol=1e-9)


@pytest.mark.parametrize("kind", ["variational", "diagonal", "sample"])
@pytest.mark.parametrize("n_blocks", [3, 8])
def test_blocks_and_shared_rows_give_the_same(ratings, kind, n_blocks):
    rows, columns, values = ratings
    sizes = {"n_rows": N_ROWS, "n_columns": N_COLUMNS}
    whole = build_block(rows, columns, values, **sizes)
    solver = make_solver(kind, Draw(0, 1))[0]
    expected = np.zeros((N_ROWS, solver.columns.total))
    expected[whole.rows], loss = solver.solve(whole, side="item")
    found = np.zeros_like(expected)
    for part in range(n_blocks):
        own = rows % n_blocks == part
        block = build_block(rows[own], columns[own], values[own], **sizes)
        found[block.rows] = solver.solve(block, side="item")[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    # All rows are shared: their ratings are in every block.
    parts = []
    for part in range(n_blocks):
        own = columns % n_blocks == part
        block = build_block(rows[own], columns[own], values[own], **sizes)
        parts.append((block.rows, solver.accumulate(block)))
    together, sums = add_sums(parts)
    shared, shared_loss = solver.solve_sums(sums, together, np.bincount(rows), side="item")
    np.testing.assert_allclose(shared, expected[together], rtol=1e-9, atol=1e-12)
    assert shared_loss == pytest.approx(loss)


@pytest.mark.parametrize("kind", ["variational", "diagonal"])
def test_a_row_wider_than_the_workspace_is_summed_in_pieces(monkeypatch, ratings, kind):
    rows, columns, values = ratings
    weights = np.random.default_rng(3).uniform(0.5, 2, rows.size)
    block = build_block(rows, columns, values, n_rows=N_ROWS, n_columns=N_COLUMNS, weights=weights)
    solver = make_solver(kind)[0]
    expected = solver.solve(block, side="user")[0]
    monkeypatch.setattr("als_spark.solve.gram.WORKSPACE_BYTES", 200)
    monkeypatch.setattr("als_spark.solve.posterior.SUMMED_PLACES", 7)
    monkeypatch.setattr("als_spark.solve.posterior.PIECE", 3)
    np.testing.assert_allclose(solver.solve(block, side="user")[0], expected, rtol=1e-10)


@pytest.mark.parametrize("kind", ["variational", "diagonal", "sample", "mean"])
def test_one_mean_of_all_rows_is_that_of_each(ratings, kind):
    rows, columns, values = ratings
    block = build_block(rows, columns, values, n_rows=N_ROWS, n_columns=N_COLUMNS)
    solver = make_solver(kind, Draw(0, 1))[0]
    one = solver.priors.means[:1]
    each = replace(solver.priors, means=np.repeat(one, N_ROWS, axis=0))
    found, expected = (
        replace(solver, priors=priors).solve(block, side="user")[0]
        for priors in (replace(solver.priors, means=one), each)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["variational", "diagonal", "sample", "mean"])
def test_float32_is_as_float64_and_retried_there(ratings, kind):
    """Ratings beyond the squares of float32 are solved in float64."""
    rows, columns, values = ratings
    sizes = {"n_rows": N_ROWS, "n_columns": N_COLUMNS}
    solver = make_solver(kind, Draw(0, 1))[0]
    padded = solver.fixed.padded.astype(np.float32)
    single = replace(solver, fixed=replace(solver.fixed, padded=padded))
    block = build_block(rows, columns, values, **sizes)
    expected, found = (each.solve(block, side="user")[0] for each in (solver, single))
    assert (expected.dtype, found.dtype) == (np.float64, np.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    huge = build_block(rows, columns, np.where(rows == 3, 1e38, values), **sizes)
    fixed = replace(solver.fixed, padded=np.float32(1e3) * padded)
    solver, single = (
        replace(solver, fixed=replace(fixed, padded=fixed.padded.astype(dtype)))
        for dtype in (np.float64, np.float32)
    )
    expected, found = (each.solve(huge, side="user")[0] for each in (solver, single))
    # Squared errors are beyond float32.
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(single.accumulate(huge).stacks, solver.accumulate(huge).stacks)


def test_a_row_without_a_finite_posterior_is_named(ratings):
    rows, columns, values = ratings
    values = np.where(rows == 7, np.nan, values)
    block = build_block(rows, columns, values, n_rows=N_ROWS, n_columns=N_COLUMNS)
    solver = make_solver("variational")[0]
    solver.priors.noise[7] = np.nan
    with pytest.raises(SolveError) as caught:
        solver.solve(block, side="user")
    assert (caught.value.side, caught.value.row) == ("user", 7)


def test_philox_is_that_of_the_paper():
    """The known answers that come with Random123: counters and keys of zeros, and of ones."""
    zeros = tuple(np.zeros(1, np.uint64) for _ in range(4))
    found = [int(word[0]) for word in philox_words(zeros, (0, 0))]
    assert found == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = tuple(np.full(1, 0xFFFFFFFF, np.uint64) for _ in range(4))
    found = [int(word[0]) for word in philox_words(ones, (0xFFFFFFFF, 0xFFFFFFFF))]
    assert found == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


def test_normal_numbers_are_normal_and_of_their_row():
    rows = np.arange(20_000)
    drawn = normals(rows, 5, seed=1, iteration=3, side="user")
    assert drawn.mean() == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(5), atol=0.03)
    assert np.mean(drawn**4) == pytest.approx(3, abs=0.1)
    some = rows[::-7]
    np.testing.assert_array_equal(normals(some, 5, seed=1, iteration=3, side="user"), drawn[some])
    for other in ({"seed": 2}, {"iteration": 4}, {"side": "item"}):
        changed = normals(rows, 5, **{"seed": 1, "iteration": 3, "side": "user", **other})
        assert abs(np.corrcoef(changed.ravel(), drawn.ravel())[0, 1]) < 0.02


def test_column_sums_are_products_with_the_rated_or_not_matrix(ratings):
    rows, columns, values = ratings
    rated = np.zeros((N_ROWS, N_COLUMNS))
    rated[rows, columns] = 1
    wanted = np.random.default_rng(2).normal(size=(N_COLUMNS, 3))
    block = build_block(rows, columns, values, n_rows=N_ROWS, n_columns=N_COLUMNS)
    solver = ColumnSums(wanted)
    sums, loss = solver.solve(block, side="user")
    np.testing.assert_allclose(sums, (rated @ wanted)[block.rows], atol=1e-12)
    assert loss == 0
    parts = []
    for part in range(3):
        own = columns % 3 == part
        piece = build_block(
            rows[own], columns[own], values[own], n_rows=N_ROWS, n_columns=N_COLUMNS
        )
        parts.append((piece.rows, solver.accumulate(piece)))
    together, total = add_sums(parts)
    shared, _ = solver.solve_sums(total, together, np.bincount(rows), side="user")
    np.testing.assert_allclose(shared, rated @ wanted, atol=1e-12)
