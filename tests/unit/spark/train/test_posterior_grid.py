"""A sweep of methods that learn their prior, on ratings in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from als_spark.errors import ConfigError, SolveError
from als_spark.model.ids import IdIndex
from als_spark.solve.objective import Objective
from als_spark.spark.train import per_model
from als_spark.spark.train import posterior as module
from als_spark.spark.train.per_model import posterior_partition
from als_spark.spark.train.posterior import PosteriorGrid, fitting
from als_spark.spark.train.run import PreparedRatings
from als_spark.train.bayes.loop import train_posterior, train_posteriors
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.grid import SweepCollector
from als_spark.train.local import LocalBackend
from als_spark.train.metrics import SideStats
from als_spark.train.records import IterationRecord, Judge
from tests.conftest import Triples, local_backend, random_triples

FEW: dict[str, Any] = {"dtype": "float64", "seed": 3}
VARIATIONAL = [PosteriorOptions(rank=rank, tol=0, max_iter=3, **FEW) for rank in (1, 3)]
SAMPLE = [PosteriorOptions("sample", rank=2, burn_in=2, samples=8, n_features=2, **FEW)]
RIDGE = [
    PosteriorOptions("ridge", rank=2, n_features=2, reg=reg, max_iter=3, **FEW)
    for reg in (1.0, 9.0)
]


def some_ratings() -> tuple[Triples, Triples]:
    """Training ratings without any of user 0 and item 1, and held-out ones of all."""
    train, test = random_triples(), random_triples(seed=1)
    kept = (train.users != 0) & (train.items != 1)
    train = train._replace(
        users=train.users[kept], items=train.items[kept], ratings=train.ratings[kept]
    )
    return train, test


TRAIN, TEST = some_ratings()
COLD = ~np.isin(TEST.users, TRAIN.users) | ~np.isin(TEST.items, TRAIN.items)


def prepared() -> PreparedRatings:
    """Ratings as far as the grid knows them, trained on one after the other."""
    backend = local_backend(TRAIN, TEST, cold_start="initial")
    stats = {
        side: SideStats.of(n, [backend.blocks[side]])
        for side, n in (("user", backend.n_users), ("item", backend.n_items))
    }

    def train(*arguments: Any) -> None:
        train_posteriors(backend, *arguments)

    ids = [IdIndex(list(range(n))) for n in (backend.n_users, backend.n_items)]
    return cast(
        "PreparedRatings",
        SimpleNamespace(
            backend=backend,
            stats=stats,
            summary=SimpleNamespace(users=ids[0], items=ids[1]),
            placement=SimpleNamespace(train_posteriors=train),
        ),
    )


def swept(
    grid: list[PosteriorOptions], judge: Judge | None = None
) -> tuple[PosteriorGrid, SweepCollector, list[IterationRecord]]:
    told: list[IterationRecord] = []
    collector = SweepCollector("test", judge=judge or Judge())
    found = PosteriorGrid(prepared(), grid, collector)
    found.train(told.append)
    return found, collector, told


def alone(options: PosteriorOptions) -> Any:
    known = prepared()
    return train_posterior(cast("LocalBackend", known.backend), known.stats["user"], options)


@pytest.mark.parametrize(
    "grid", [VARIATIONAL, SAMPLE, RIDGE], ids=["variational", "sample", "ridge"]
)
def test_errors_are_those_of_the_posterior_s_own_predictions(grid: list[PosteriorOptions]) -> None:
    assert COLD.any()
    _, collector, _ = swept(grid)
    outcome = collector.outcome()
    assert outcome is not None
    for point, options in zip(outcome.points, grid, strict=True):
        left = alone(options).predict(TEST.users, TEST.items) - TEST.ratings
        assert point.errors["test"].mse == pytest.approx(np.mean(left**2), rel=1e-9)
        assert point.errors["test"].mae == pytest.approx(np.mean(np.abs(left)), rel=1e-9)
        assert (point.errors["test"].count, point.errors["test"].cold) == (COLD.size, COLD.sum())
        left = alone(options).predict(TRAIN.users, TRAIN.items) - TRAIN.ratings
        assert point.errors["train"].mse == pytest.approx(np.mean(left**2), rel=1e-9)


def test_the_best_comes_with_all_that_it_is_served_by() -> None:
    found, collector, told = swept(VARIATIONAL)
    outcome = collector.outcome()
    assert outcome is not None
    assert found.best is not None
    best = outcome.points[outcome.best]
    assert found.best.result is best
    assert best.errors["test"].mse == min(p.errors["test"].mse for p in outcome.points)
    users, items = outcome.best_factors.collect()
    left = np.einsum("nd,nd->n", users[TEST.users], items[TEST.items]) - TEST.ratings
    assert best.errors["test"].mse == pytest.approx(np.mean(left**2), rel=1e-9)
    assert found.best.intervals is not None
    assert found.best.description["posterior"]["rank"] == best.rank
    assert [(record.point, record.iteration) for record in told] == [
        (point, iteration) for point in (0, 1) for iteration in (1, 2, 3)
    ]
    assert {record.reg for record in told} == {None}
    assert list(best.history) == [record for record in told if record.point == outcome.best]


def test_what_is_learnt_stands_in_the_place_of_lambda() -> None:
    learnt: Mapping[str, float] | None
    (variational, *_), (sample,) = (
        swept(grid)[1].outcome().points for grid in (VARIATIONAL, SAMPLE)
    )
    assert variational.reg is None
    learnt = variational.learnt
    assert learnt == {"noise_deviation": alone(VARIATIONAL[0]).noise_deviation}
    record = variational.as_record()
    assert (record["lambda_reg"], record["converged"]) == (None, False)
    assert record["objective"] == variational.history[-1].objective
    assert list(sample.learnt or {}) == ["noise_deviation", "r_hat", "effective_samples"]
    record = sample.as_record()
    assert record["lambda_reg"] is record["converged"] is record["objective"] is None
    assert record["noise_deviation"] > 0


def test_a_ridge_keeps_its_lambda() -> None:
    outcome = swept(RIDGE)[1].outcome()
    assert outcome is not None
    assert [point.as_record()["lambda_reg"] for point in outcome.points] == [1.0, 9.0]
    assert [point.spec.objective for point in outcome.points] == [Objective(1.0), Objective(9.0)]
    assert {point.learnt is None for point in outcome.points} == {True}


def test_a_rank_that_is_too_large_is_refused_before_any_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LARGEST_TABLE", 40 * 8 * 12)
    collector = SweepCollector("test")
    with pytest.raises(ConfigError, match="`rank=3` with `method=variational`: what is known of"):
        PosteriorGrid(prepared(), VARIATIONAL, collector).train(lambda _: None)
    assert collector.outcome() is None


def test_fewer_samples_of_many_rows_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="als_spark")
    known, options = prepared(), PosteriorOptions("sample", rank=2)
    fitting(known, options)
    assert not caplog.messages
    n_rows = max(stats.degrees.size for stats in known.stats.values())
    # 3 numbers a row, of 4 bytes.
    limit = 7 * n_rows * 3 * 4
    for where in ("als_spark.train.bayes.options", "als_spark.spark.train.posterior"):
        monkeypatch.setattr(f"{where}.LARGEST_TABLE", limit)
    fitting(known, options)
    (message,) = caplog.messages
    assert (
        message
        == f"7 samples of each row are kept: 20 of {n_rows} rows would take more than 0.0 GB"
    )


class TestTask:
    """What an executor runs where the grid is partitioned."""

    def run(self) -> list[Any]:
        known = prepared()
        shared = SimpleNamespace(value=(known.backend, known.stats["user"]))
        return list(posterior_partition(iter(VARIATIONAL), known=cast("Any", shared)))

    def test_whole_posteriors(self) -> None:
        for found, options in zip(self.run(), VARIATIONAL, strict=True):
            np.testing.assert_array_equal(found.items, alone(options).items)

    def test_a_system_without_a_solution_is_returned(self, monkeypatch: pytest.MonkeyPatch) -> None:
        train: Callable[..., Any] = train_posterior

        def failing(*arguments: Any) -> Any:
            if arguments[-1].n_factors == 1:
                raise SolveError("user", 4, 0.0, "user 4")
            return train(*arguments)

        monkeypatch.setattr(per_model, "train_posterior", failing)
        error, found = self.run()
        assert isinstance(error, SolveError)
        assert found.options.n_factors == VARIATIONAL[1].n_factors
