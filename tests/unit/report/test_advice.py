"""What a grid leaves open: edges, and the command to try next."""

from __future__ import annotations

import pytest

from als_spark.report.advice import edges, next_command
from als_spark.solve.objective import Objective
from als_spark.train.records import ErrorMeans, ModelSpec, PointResult


def point(rank: int, reg: float, exponent: float = 0.0, *, implicit: bool = False) -> PointResult:
    spec = ModelSpec(0, rank, Objective(reg, exponent, implicit))
    return PointResult(spec, 1, 1, True, 1.0, 1.0, {"test": ErrorMeans(1.0, 1.0, 10)})


GRID = (2, 5, 20), (0.5, 1.0, 4.0)


@pytest.mark.parametrize(
    ("best", "grid", "said", "options"),
    [
        (point(5, 1.0), GRID, [], None),
        (point(20, 1.0), GRID, ["d = 20, is the largest of"], "--ranks 20,40,80"),
        (point(2, 1.0), GRID, ["d = 2, is the smallest of"], "--ranks 1,2"),
        (point(5, 0.5), GRID, ["0.5, is the smallest of"], "--lambdas 0.125,0.25,0.5"),
        (point(5, 4.0), GRID, ["4, is the largest of"], "--lambdas 4,8,16"),
        (
            point(20, 4.0),
            GRID,
            ["d = 20, is the largest of", "4, is the largest of"],
            "--lambdas 4,8,16 --ranks 20,40,80",
        ),
        (point(5, 0.0), ((2, 5, 20), (0.0, 1.0)), [], None),
        (point(5, 2.0), ((5,), (2.0,)), [], None),
        (point(10_000, 1.0), ((5, 10_000), (1.0,)), ["d = 10000, is the largest of"], None),
        (point(6000, 1.0), ((5, 6000), (1.0,)), ["d = 6000"], "--ranks 6000,10000"),
        (
            point(1, 2.0),
            ((1, 5, 20), (1.0, 2.0, 4.0)),
            ["d = 1, is the smallest there is"],
            "--exponent 1 --lambdas 0.05,0.1,0.2",
        ),
        (
            point(1, 2.0),
            ((1, 5), (1.0, 2.0, 4.0)),
            ["d = 1, is the smallest there is"],
            "--exponent 1 --lambdas 0.05,0.1,0.2 --ranks 10,20,50",
        ),
        (
            point(1, 0.1, 1.0),
            ((1, 5), (0.05, 0.1, 0.2)),
            ["d = 1, is the smallest there is"],
            None,
        ),
        (
            point(1, 2.0, implicit=True),
            ((1, 5), (1.0, 2.0, 4.0)),
            ["d = 1, is the smallest there is"],
            None,
        ),
    ],
)
def test_edges_and_next_command(
    best: PointResult,
    grid: tuple[tuple[int, ...], tuple[float, ...]],
    said: list[str],
    options: str | None,
) -> None:
    found = list(edges(best, *grid))
    assert len(found) == len(said)
    for one, wanted in zip(found, said, strict=True):
        assert wanted in one
    following = next_command(best, *grid, beaten=False)
    if options is None:
        assert following is None
    else:
        assert following is not None
        assert f"the same command with {options}, and another --output" in following


@pytest.mark.parametrize(
    ("best", "options"),
    [
        (point(5, 1.0), "--exponent 1 --lambdas 0.05,0.1,0.2"),
        (point(20, 1.0), "--exponent 1 --lambdas 0.05,0.1,0.2 --ranks 20,40,80"),
        (point(5, 1.0, 1.0), None),
        (point(5, 0.5, 1.0), "--lambdas 0.125,0.25,0.5"),
    ],
)
def test_a_model_that_the_biases_beat(best: PointResult, options: str | None) -> None:
    following = next_command(best, *GRID, beaten=True)
    assert (following is None) == (options is None)
    if following is not None:
        assert f"with {options}, and" in following


@pytest.mark.parametrize(
    ("best", "beaten", "options"),
    [
        (point(5, 1.0), True, "--implicit --exponent 0.5 --lambdas 0.5,1,2,4"),
        (point(20, 0.1, 1.0), True, "--implicit --exponent 0.5 --lambdas 0.5,1,2,4"),
        (point(5, 1.0), False, None),
        (point(20, 1.0), False, "--ranks 20,40,80"),
        (point(5, 4.0, implicit=True), True, "--lambdas 4,8,16"),
    ],
)
def test_lists(best: PointResult, beaten: bool, options: str | None) -> None:
    following = next_command(best, *GRID, beaten=beaten, for_lists=True)
    assert (following is None) == (options is None)
    if following is not None:
        assert f"with {options}, and" in following


def test_a_lone_lambda_that_the_biases_beat() -> None:
    following = next_command(point(5, 1.0, 1.0), (5,), (1.0,), beaten=True)
    assert following is not None
    assert "with --lambdas 0.5,1,2, and" in following
