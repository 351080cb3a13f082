"""The grid on a backend, and the collecting of its points."""

from __future__ import annotations

import itertools
import math
import threading
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from als_spark.solve.objective import Objective
from als_spark.train.backend import Factors
from als_spark.train.grid import SweepCollector, grid_specs, run_grid
from als_spark.train.metrics import ErrorSums
from als_spark.train.records import (
    IterationRecord,
    Judge,
    ModelSpec,
    PointResult,
    RankingMeans,
    TrainingOptions,
)
from als_spark.train.start import initial_factors
from als_spark.train.state import LoopState
from tests import reference
from tests.conftest import Triples, local_backend, random_triples

OPTIONS = TrainingOptions(tol=0.1, dtype="float64", max_iter=40)
NAN = math.nan


def trained(point: int, rank: int = 2, reg: float = 1.0) -> LoopState:
    """A model that can be told by its factors, which hold its point."""
    factors = Factors(np.full((1, rank), point), np.full((1, rank), point))
    history = tuple(IterationRecord(point, rank, reg, t, 9.5, 0.1, 0.25) for t in (1, 2, 3))
    spec = ModelSpec(point, rank, Objective(reg))
    return LoopState(spec, factors, evaluations=3, converged=True, stopped=True, history=history)


def sums_of(mse: float, count: int = 10) -> dict:
    if math.isnan(mse):
        return {"train": ErrorSums(1.0, 1.0, 1), "test": ErrorSums(cold=count)}
    return {"train": ErrorSums(1.0, 1.0, 1), "test": ErrorSums(mse * count, mse, count)}


class TestGridSpecs:
    def test_rank_by_rank(self):
        assert grid_specs([5, 1], [2.0, 0.5]) == [
            ModelSpec(0, 5, Objective(2.0)),
            ModelSpec(1, 5, Objective(0.5)),
            ModelSpec(2, 1, Objective(2.0)),
            ModelSpec(3, 1, Objective(0.5)),
        ]

    def test_objectives(self):
        objectives = [Objective(0.1, exponent=1.0), Objective(3.0)]
        specs = grid_specs([4], objectives)
        assert [spec.objective for spec in specs] == objectives

    def test_source_grid(self):
        specs = grid_specs((1, 5, 20, 50), (1, 2, 4, 6))
        assert [spec.point for spec in specs] == list(range(16))
        assert len({(spec.rank, spec.objective.reg) for spec in specs}) == 16


class TestCollector:
    def test_before_the_first_point(self):
        assert SweepCollector("test").outcome() is None

    @pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
    def test_best_whatever_the_order_of_arrival(self, order):
        # Points 1 and 3 tie: the smaller rank wins.
        models = [trained(0, 1), trained(1, 5), trained(2, 5), trained(3, 2)]
        errors = [3.0, 2.0, 4.0, 2.0]
        collector = SweepCollector("test")
        for point in order:
            collector.add(models[point], sums_of(errors[point]))
        outcome = collector.outcome()
        assert outcome is not None
        assert [point.rank for point in outcome.points] == [1, 5, 5, 2]
        assert outcome.best == 3
        assert outcome.best_factors.users.tolist() == [[3, 3]]
        assert outcome.selected_on == "test"

    def test_the_judge_s_best_whatever_the_order_of_arrival(self):
        models = [trained(0, 1), trained(1, 5), trained(2, 2)]
        ndcgs, judge = [0.1, 0.3, NAN], Judge("ndcg")
        for order in itertools.permutations(range(3)):
            collector = SweepCollector("test", judge=judge)
            for point in order:
                ranked = RankingMeans(ndcgs[point], 0.1, 0.1, 0.1, 0.5, 9, 10, 4.0)
                collector.add(models[point], sums_of(1.0 + ndcgs[point]), {"test": ranked})
            outcome = collector.outcome()
            assert outcome is not None
            assert (outcome.best, outcome.judge) == (1, judge)
            assert outcome.best_factors.users.tolist() == [[1] * 5]

    def test_a_judge_without_its_measure_chooses_nothing(self):
        collector = SweepCollector("test", judge=Judge("map"))
        collector.add(trained(0), sums_of(1.0))
        assert collector.outcome() is None

    def test_factors_are_asked_for_of_the_best_yet_alone(self):
        asked = []

        def keep(point, error):
            result = PointResult(
                *(ModelSpec(point, 2, Objective(1.0)), 1, 1, True, 1.0, 1.0),
                errors={split: part.means() for split, part in sums_of(error).items()},
            )
            factors = trained(point).plain_factors
            return collector.keep(result, lambda: asked.append(point) or factors)

        collector = SweepCollector("test")
        found = [keep(point, error) for point, error in enumerate((3.0, 4.0, 2.0, NAN))]
        assert found == [True, False, True, False]
        assert asked == [0, 2]
        assert collector.outcome().best_factors.items[0, 0] == 2

    def test_cut_short(self):
        # Positions are among the finished points, not in the grid.
        collector = SweepCollector("test")
        collector.add(trained(7), sums_of(2.0))
        collector.add(trained(4), sums_of(3.0))
        outcome = collector.outcome()
        assert outcome is not None
        assert len(outcome.points) == 2
        assert outcome.best == 1
        assert outcome.best_factors.items[0, 0] == 7

    def test_chooses_on_the_part_it_is_told(self):
        collector = SweepCollector("train")
        collector.add(trained(0), {"train": ErrorSums(5.0, 1.0, 1), "test": ErrorSums(0, 0, 1)})
        collector.add(trained(1), {"train": ErrorSums(4.0, 1.0, 1), "test": ErrorSums(9, 3, 1)})
        outcome = collector.outcome()
        assert outcome is not None
        assert (outcome.best, outcome.selected_on) == (1, "train")

    def test_the_result_of_a_point(self):
        seen: list[tuple[int, PointResult]] = []
        collector = SweepCollector("test", lambda *args: seen.append(args))
        collector.add(trained(6, 3, 1.5), sums_of(4.0))
        ((position, result),) = seen
        assert position == 6
        assert (result.rank, result.reg, result.iterations, result.converged) == (3, 1.5, 3, True)
        assert (result.objective, result.seconds) == (9.5, 0.25)
        assert (result.errors["test"].mse, result.errors["test"].mae) == (4.0, 0.4)
        outcome = collector.outcome()
        assert outcome is not None
        assert outcome.points == (result,)

    def test_no_point_has_an_error_to_choose_by(self):
        # Every test rating was cold and dropped: that is for the caller to report.
        seen = []
        collector = SweepCollector("test", lambda *args: seen.append(args))
        collector.add(trained(0), sums_of(NAN))
        collector.add(trained(1), sums_of(NAN))
        assert collector.outcome() is None
        assert len(seen) == 2

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_points_without_an_error_are_never_the_best(self, order):
        errors = [NAN, 2.0, NAN]
        collector = SweepCollector("test")
        for point in order:
            collector.add(trained(point), sums_of(errors[point]))
        outcome = collector.outcome()
        assert outcome is not None
        assert (len(outcome.points), outcome.best) == (3, 1)
        assert outcome.best_factors.users[0, 0] == 1

    def test_from_several_threads(self):
        collector = SweepCollector("test")
        barrier = threading.Barrier(4)

        def add(first: int) -> None:
            barrier.wait()
            for point in range(first, 200, 4):
                collector.add(trained(point), sums_of(1 + abs(point - 77)))

        threads = [threading.Thread(target=add, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outcome = collector.outcome()
        assert outcome is not None
        assert (len(outcome.points), outcome.best) == (200, 77)
        assert outcome.best_factors.users[0, 0] == 77


class TestRunGrid:
    SPECS = grid_specs((1, 4), (1.0, 3.0))

    @pytest.fixture
    def parts(self) -> tuple[Triples, Triples]:
        whole = random_triples(n_ratings=500, seed=4)
        held_out = np.random.default_rng(0).random(500) < 0.2
        train, test = (
            whole._replace(
                users=whole.users[part], items=whole.items[part], ratings=whole.ratings[part]
            )
            for part in (~held_out, held_out)
        )
        return train, test

    def test_against_the_notebook(self, parts):
        train, test = parts
        collector = SweepCollector("test")
        run_grid(local_backend(train, test, cold_start="initial"), self.SPECS, OPTIONS, collector)
        outcome = collector.outcome()
        assert outcome is not None
        mses = []
        for spec, result in zip(self.SPECS, outcome.points, strict=True):
            start = initial_factors(train.n_users, train.n_items, spec.rank, OPTIONS.seed)
            twin = reference.notebook_als(
                *train[:3], start, spec.objective.reg, tol=OPTIONS.tol, max_iter=OPTIONS.max_iter
            )
            assert (result.rank, result.reg) == (spec.rank, spec.objective.reg)
            assert (result.iterations, result.converged) == (twin.iterations, twin.converged)
            assert len(result.history) == twin.iterations
            for split, part in (("train", train), ("test", test)):
                expected = reference.errors(*part[:3], twin.users, twin.items)
                means = result.errors[split]
                assert (means.mse, means.mae) == pytest.approx(expected, rel=1e-8)
                assert means.count == part.users.size
            mses.append(result.errors["test"].mse)
            if min(mses) == mses[-1]:
                best = twin
        assert len({result.iterations for result in outcome.points}) > 1
        assert outcome.best == int(np.argmin(mses))
        np.testing.assert_allclose(outcome.best_factors.users, best.users, rtol=0, atol=1e-8)

    def test_starts_and_records_reach_the_training(self, parts):
        train, test = parts
        records = []
        starts = [initial_factors(train.n_users, train.n_items, s.rank, 99) for s in self.SPECS]
        collector = SweepCollector("test")
        run_grid(
            local_backend(train, test),
            self.SPECS,
            replace(OPTIONS, max_iter=2),
            collector,
            starts=starts,
            on_iteration=records.append,
        )
        assert [(record.iteration, record.point) for record in records] == [
            (iteration, point) for iteration in (1, 2) for point in range(4)
        ]
        outcome = collector.outcome()
        assert outcome is not None
        twin = reference.notebook_als(*train[:3], starts[0], 1.0, max_iter=2)
        assert outcome.points[0].objective == pytest.approx(twin.objective, rel=1e-10)

    def test_errors_are_asked_for_when_models_finish_and_once_each(self, parts):
        backend = local_backend(*parts)
        asked: list[str] = []
        real = backend.errors

        def spy(models, label):
            asked.append(label)
            return real(models, label)

        backend.errors = spy
        specs = [ModelSpec(0, 1, Objective(1.0)), ModelSpec(1, 4, Objective(2.5))]
        run_grid(backend, specs, replace(OPTIONS, max_iter=1), SweepCollector("test"))
        assert asked == ["ALS errors of d=1 λ=1, d=4 λ=2.5"]
        asked.clear()
        run_grid(backend, specs, OPTIONS, SweepCollector("test"))
        assert sorted(asked) == ["ALS errors of d=1 λ=1", "ALS errors of d=4 λ=2.5"]

    def test_a_collector_that_needs_no_errors_costs_no_pass(self, parts):
        class Keep:
            needs_errors = False
            kept: ClassVar[list] = []

            def add(self, trained, sums, rankings):
                self.kept.append((trained.spec, sums, rankings))

        backend = local_backend(*parts)
        backend.errors = None
        run_grid(backend, self.SPECS, replace(OPTIONS, max_iter=1), Keep())
        assert Keep.kept == [(spec, {}, {}) for spec in self.SPECS]
