"""Records of a run, and which point is the best."""

from __future__ import annotations

import json
import math
import random

import pytest

from als_spark.solve.objective import Objective
from als_spark.train.records import (
    RANKING_MEASURES,
    ErrorMeans,
    Judge,
    ModelSpec,
    PointResult,
    RankingMeans,
    best_point,
)

NAN = math.nan


def point(rank: int, reg: float, **mse: float) -> PointResult:
    errors = {name: ErrorMeans(value, value / 2, 10) for name, value in mse.items()}
    return PointResult(ModelSpec(0, rank, Objective(reg)), 7, 7, True, 12.5, 0.1, errors)  # type: ignore[arg-type]


class TestBestPoint:
    def test_smallest_error_of_the_chosen_part(self):
        points = [
            point(1, 1, train=3, validation=1, test=2),
            point(5, 1, train=2, validation=3, test=1),
            point(20, 1, train=1, validation=2, test=3),
        ]
        assert best_point(points, "train") == 2
        assert best_point(points, "validation") == 0
        assert best_point(points, "test") == 1

    def test_ties_go_to_the_smaller_rank_then_the_larger_ridge(self):
        points = [point(5, 9, test=1), point(1, 2, test=1), point(1, 4, test=1)]
        points += [point(1, 8, test=1.5)]
        assert best_point(points, "test") == 2

    def test_full_ties_go_to_the_first(self):
        assert best_point([point(5, 2, test=1)] * 3, "test") == 0

    @pytest.mark.parametrize("unusable", [NAN, math.inf])
    def test_points_without_a_finite_error_are_passed_over(self, unusable):
        points = [point(1, 1, test=unusable), point(2, 1, test=8), point(3, 1, test=unusable)]
        assert best_point(points, "test") == 1

    @pytest.mark.parametrize("points", [[], [point(1, 1, test=NAN)]])
    def test_none_to_choose(self, points):
        with pytest.raises(ValueError, match="no point has a finite test error"):
            best_point(points, "test")

    def test_order_does_not_matter(self):
        points = [point(rank, reg, test=1) for rank in (1, 5, 20) for reg in (1, 2, 4)]
        for seed in range(5):
            shuffled = random.Random(seed).sample(points, len(points))
            best = shuffled[best_point(shuffled, "test")]
            assert (best.rank, best.reg) == (1, 4)


class TestErrorMeans:
    def test_rmse(self):
        assert ErrorMeans(6.25, 1.0, 3).rmse == 2.5
        assert ErrorMeans(0.0, 0.0, 3).rmse == 0.0
        assert math.isnan(ErrorMeans(NAN, NAN, 0).rmse)


class TestAsRecord:
    def test_every_key(self):
        errors = {
            "train": ErrorMeans(4.0, 1.5, 80),
            "validation": ErrorMeans(9.0, 2.5, 10, 1),
            "test": ErrorMeans(16.0, 3.5, 11, 2),
        }
        spec = ModelSpec(3, 20, Objective(4.0, exponent=1.0))
        result = PointResult(spec, 61, 64, False, 321.5, 1.23456, errors)  # type: ignore[arg-type]
        assert result.as_record(best=True) == {
            "d": 20,
            "lambda_reg": 4.0,
            "train_mse": 4.0,
            "train_mae": 1.5,
            "train_rmse": 2.0,
            "val_mse": 9.0,
            "val_mae": 2.5,
            "val_rmse": 3.0,
            "n_val": 10,
            "n_val_cold": 1,
            "test_mse": 16.0,
            "test_mae": 3.5,
            "test_rmse": 4.0,
            "n_test": 11,
            "n_test_cold": 2,
            "iterations": 61,
            "evaluations": 64,
            "converged": False,
            "objective": 321.5,
            "seconds": 1.235,
            "best": True,
        }

    def test_contract_keys_without_a_test_part(self):
        # Readers of results.json rely on them: design, §1.
        record = point(5, 2, train=1).as_record()
        keys = {"d", "lambda_reg", "train_mse", "train_mae", "test_mse", "test_mae"}
        assert keys <= set(record)
        assert record["test_mse"] is None
        assert record["test_mae"] is None
        assert record["n_test"] == 0
        assert not any(key.startswith("val_") for key in record)
        assert record["best"] is False

    def test_is_strict_json_whatever_the_errors(self):
        spec = ModelSpec(0, 1, Objective(1.0))
        result = PointResult(spec, 1, 1, True, math.inf, 0.0, {"train": ErrorMeans(NAN, NAN, 0)})
        record = json.loads(json.dumps(result.as_record(), allow_nan=False))
        assert record["objective"] is None
        assert record["train_rmse"] is None


def ranked(rank: int, reg: float, **ndcg: float) -> PointResult:
    """A point whose other measures are of the same order, but with others at the top."""
    rankings = {
        name: RankingMeans(value, 1 - value, value / 2, value / 3, 0.5, 20, 10, 4.0)
        for name, value in ndcg.items()
    }
    errors = dict.fromkeys(ndcg, ErrorMeans(2.0, 1.0, 10))
    return PointResult(
        ModelSpec(0, rank, Objective(reg)), 7, 7, True, 12.5, 0.1, errors, rankings=rankings
    )  # type: ignore[arg-type]


class TestJudge:
    def test_the_largest_ranking_measure(self):
        points = [ranked(1, 1, test=0.2), ranked(5, 1, test=0.4), ranked(9, 1, test=0.3)]
        chosen = {name: best_point(points, "test", Judge(name)) for name in RANKING_MEASURES}
        assert chosen == {"ndcg": 1, "recall": 0, "precision": 1, "map": 1}

    def test_of_the_part_that_it_is_asked_on(self):
        points = [ranked(1, 1, validation=0.2, test=0.4), ranked(1, 1, validation=0.3, test=0.1)]
        assert best_point(points, "validation", Judge("ndcg")) == 1
        assert best_point(points, "test", Judge("ndcg")) == 0

    def test_the_smallest_error(self):
        points = [point(1, 1, test=4), point(2, 1, test=1)]
        for measure in ("mse", "rmse", "mae"):
            judge = Judge(measure)
            assert best_point(points, "test", judge) == 1
            assert not judge.is_ranking
        assert [Judge(m).value(points[0], "test") for m in ("mse", "rmse", "mae")] == [4, 2, 2]

    def test_ties_go_to_the_simpler_model(self):
        points = [ranked(5, 9, test=0.5), ranked(1, 2, test=0.5), ranked(1, 4, test=0.5)]
        assert best_point(points, "test", Judge("map")) == 2

    def test_points_without_a_finite_measure_are_passed_over(self):
        points = [ranked(1, 1, test=NAN), ranked(2, 1, test=0.1), point(1, 1, test=0.0)]
        assert best_point(points, "test", Judge("ndcg")) == 1
        with pytest.raises(ValueError, match="no point has a finite test NDCG@10 to choose by"):
            best_point(points[::2], "test", Judge("ndcg"))

    @pytest.mark.parametrize(
        ("judge", "words"),
        [
            (Judge(), "smallest test MSE"),
            (Judge("mae"), "smallest test MAE"),
            (Judge("ndcg", 5), "largest test NDCG@5"),
            (Judge("recall", 20), "largest test recall@20"),
            (Judge("map"), "largest test MAP@10"),
        ],
    )
    def test_aim(self, judge, words):
        assert judge.aim("test") == words


class TestRankingRecord:
    def test_keys_of_each_part(self):
        record = ranked(1, 1, validation=0.5, test=NAN).as_record()
        assert record["val_ndcg"] == 0.5
        assert record["val_map"] == pytest.approx(0.5 / 3)
        assert (record["n_val_users"], record["val_coverage"]) == (20, 0.5)
        assert record["test_ndcg"] is record["test_precision"] is None
        json.dumps(record, allow_nan=False)
