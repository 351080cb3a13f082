"""The table of results, parsed back from its text."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from als_spark.report.table import results_table
from als_spark.solve.objective import Objective
from als_spark.train.records import ErrorMeans, Judge, Measure, ModelSpec, PointResult, RankingMeans
from als_spark.types import SplitName

NAN = math.nan


def make_point(
    rank: int, reg: float, *, converged: bool = True, seconds: float = 1.25, **errors: float
) -> PointResult:
    means = {name: ErrorMeans(mse, mse / 2, 10) for name, mse in errors.items()}
    return PointResult(
        ModelSpec(0, rank, Objective(reg)), 10 * rank, 10 * rank, converged, 1.0, seconds, means
    )  # type: ignore[arg-type]


def make_grid(*, validation: bool = False) -> list[PointResult]:
    points = []
    for rank, reg in itertools.product((1, 5, 20, 50), (1.0, 2.0, 4.0, 6.5)):
        errors = {"train": 1 / rank, "test": 1 + rank / 100 + reg / 1000}
        if validation:
            errors["validation"] = 2 + rank / 100
        points.append(make_point(rank, reg, **errors))
    return points


def rows(table: str) -> list[str]:
    """The lines between the rule and the empty line."""
    lines = table.split("\n")
    rule = next(k for k, line in enumerate(lines) if set(line) == {"-"})
    return lines[rule + 1 : lines.index("")]


def caption(table: str) -> str:
    return table.split("\n\n", 1)[1]


def cells(line: str) -> list[str]:
    return line.removeprefix("*").split()


def test_every_number_is_read_back() -> None:
    points = make_grid(validation=True)
    parsed = [cells(line) for line in rows(results_table(points, 3, "validation"))]
    assert len(parsed) == len(points)
    for found, point in zip(parsed, points, strict=True):
        assert (int(found[0]), float(found[1])) == (point.rank, point.reg)
        errors = [
            value
            for split in ("train", "validation", "test")
            for value in (point.errors[split].rmse, point.errors[split].mae)  # type: ignore[index]
        ]
        assert [float(cell) for cell in found[2:8]] == pytest.approx(errors, abs=6e-5)
        assert found[8:] == [str(point.iterations), "yes", "1.2"]


def test_header_names_the_columns() -> None:
    groups, names, *_ = results_table(make_grid(validation=True), 0, "validation").split("\n")
    assert names.split() == [
        "d",
        "lambda",
        *["RMSE", "MAE"] * 3,
        "iterations",
        "converged",
        "seconds",
    ]
    assert groups.replace("-", " ").split() == ["train", "validation", "test"]
    groups, names, *_ = results_table(make_grid(), 0, "test").split("\n")
    assert names.split().count("RMSE") == 2
    assert "validation" not in groups


@pytest.mark.parametrize("validation", [True, False])
def test_columns_are_aligned_on_their_right_and_fit_100(validation: bool) -> None:
    points = make_grid(validation=validation)
    points[5] = make_point(1000, 0.00123, converged=False, seconds=12345.6, train=NAN, test=12345.0)
    points[6] = make_point(7, 1e-5, train=123.456, test=0.0)
    table = results_table(points, 5, "test")
    assert max(map(len, table.split("\n"))) <= 100
    assert table.isascii()
    assert all(line == line.rstrip() for line in table.split("\n"))
    _, names, *_ = table.split("\n")
    ends = [end for end in range(1, len(names) + 1) if names[end - 1 : end + 1].rstrip() != ""]
    ends = [end for end in ends if end == len(names) or names[end] == " "]
    for line in rows(table):
        own = [end for end in range(1, len(line) + 1) if line[end - 1] != " "]
        own = [end for end in own if (end == len(line) or line[end] == " ") and end > 1]
        assert own == ends


def test_group_names_stand_over_their_columns() -> None:
    groups, names, *_ = results_table(make_grid(validation=True), 0, "validation").split("\n")
    columns = [at for at in range(len(names)) if names.startswith(("RMSE", "MAE"), at)]
    for k, split in enumerate(("train", "validation", "test")):
        first, second = columns[2 * k], columns[2 * k + 1]
        assert first - 3 <= groups.index(split) <= second


@pytest.mark.parametrize("best", [0, 7, 15])
def test_best_row_alone_is_marked(best: int) -> None:
    lines = rows(results_table(make_grid(), best, "test"))
    assert [k for k, line in enumerate(lines) if line.startswith("*")] == [best]
    assert sum(line.count("*") for line in lines) == 1


def test_missing_and_non_finite_values_are_dashes() -> None:
    points = [
        make_point(1, 1.0, train=0.5, test=1.0),
        make_point(2, 1.0, train=NAN, test=math.inf, validation=1.5),
    ]
    first, second = (cells(line) for line in rows(results_table(points, 0, "test")))
    assert first[2:8] == ["0.7071", "0.2500", "-", "-", "1.0000", "0.5000"]
    assert second[2:8] == ["-", "-", "1.2247", "0.7500", "-", "-"]


def test_capped_points_are_told_apart() -> None:
    points = [make_point(1, 1.0, test=1.0), make_point(2, 1.0, converged=False, test=2.0)]
    table = results_table(points, 0, "test")
    assert [cells(line)[-2] for line in rows(table)] == ["yes", "cap"]
    assert "cap: stopped by the cap on iterations" in caption(table)
    assert "cap" not in results_table(points[:1], 0, "test")


def test_choice_on_the_test_error_is_called_optimistic() -> None:
    text = caption(results_table(make_grid(), 2, "test"))
    assert "* best: d=1, lambda=4, the smallest test MSE (1.0140)." in text
    assert "optimistic: the test ratings chose it" in text
    assert "--validation-fraction 0.1" in text


def test_choice_on_the_validation_error_leaves_the_test_error_untouched() -> None:
    text = caption(results_table(make_grid(validation=True), 2, "validation"))
    assert "* best: d=1, lambda=4, the smallest validation MSE (2.0100)." in text
    assert "test error is untouched" in text
    assert "optimistic" not in text
    assert "--validation-fraction" not in text


@pytest.mark.parametrize("selected_on", ["test", "validation"])
def test_without_a_best_point_the_caption_says_why(selected_on: SplitName) -> None:
    point = replace(make_point(1, 1.0, test=NAN), converged=True)
    table = results_table([point], None, selected_on)
    assert "*" not in table
    assert f"No best point: no point has a finite {selected_on} error." in caption(table)


def test_no_points_give_a_header_alone() -> None:
    table = results_table([], None, "test")
    assert rows(table) == []
    assert table.split("\n")[1].split() == ["d", "lambda", "iterations", "converged", "seconds"]


def test_units_are_given() -> None:
    text = caption(results_table(make_grid(), 0, "test"))
    assert "RMSE and MAE in rating units." in text


def means_of(ndcg: float, recall: float = 0.25) -> RankingMeans:
    return RankingMeans(ndcg, recall, ndcg / 2, ndcg / 3, 0.5, 20, 5, 4.0)


def with_rankings(points: list[PointResult], ndcgs: list[float]) -> list[PointResult]:
    return [
        replace(point, rankings={"test": means_of(ndcg)})
        for point, ndcg in zip(points, ndcgs, strict=True)
    ]


class TestRankings:
    POINTS = with_rankings([make_point(1, reg, train=1.0, test=2.0) for reg in (1, 2)], [0.25, 0.5])
    JUDGE = Judge("ndcg", 5)

    def test_a_column_of_the_judge_beside_the_errors(self) -> None:
        table = results_table(self.POINTS, 1, "test", judge=self.JUDGE)
        groups, names, *_ = table.split("\n")
        measures = ["RMSE", "MAE", "RMSE", "MAE", "NDCG@5"]
        assert names.split() == ["d", "lambda", *measures, "iterations", "converged", "seconds"]
        assert groups.replace("-", " ").split() == ["train", "test"]
        assert [cells(row)[6] for row in rows(table)] == ["0.2500", "0.5000"]
        # The name of the group stands over its columns.
        assert groups.rstrip().endswith("-")
        assert len(groups.rstrip()) == names.index("NDCG@5") + len("NDCG@5")
        assert "* best: d=1, lambda=2, the largest test NDCG@5." in caption(table)
        assert "Its test NDCG@5 is optimistic" in caption(table)

    def test_another_measure_of_the_judge(self) -> None:
        table = results_table(self.POINTS, 0, "test", judge=Judge("recall", 5))
        assert [cells(row)[6] for row in rows(table)] == ["0.2500", "0.2500"]
        assert "recall@5" in table

    @pytest.mark.parametrize(
        ("popular", "warning"),
        [
            (0.2, None),
            (0.3, "1 of 2 models ranks worse than the popular items (test NDCG@5 below 0.3000)."),
            (0.6, "2 of 2 models, the best among them, rank worse than the popular items"),
        ],
    )
    def test_popular_items(self, popular: float, warning: str | None) -> None:
        baseline = {"test": means_of(popular)}
        text = caption(
            results_table(self.POINTS, 1, "test", judge=self.JUDGE, popular=baseline)  # type: ignore[arg-type]
        )
        assert f"test NDCG@5 {popular:.4f} (20 users)" in text
        if warning is None:
            assert "Warning" not in text
        else:
            assert f"Warning: {warning}" in text

    def test_beside_an_error_that_judges(self) -> None:
        table = results_table(self.POINTS, 0, "test", judge=Judge("mse", 5))
        assert "NDCG@5" in table.split("\n")[1]
        assert "the smallest test MSE (2.0000)." in caption(table)

    def test_without_a_best_point(self) -> None:
        text = caption(results_table(self.POINTS, None, "test", judge=self.JUDGE))
        assert "no point has a finite test NDCG@5." in text


class TestBiases:
    POINTS = (make_point(1, 1, train=1.0, test=4.0), make_point(1, 2, train=1.0, test=9.0))

    @pytest.mark.parametrize(
        ("rmse", "judge", "warning"),
        [
            (3.0, "mse", None),
            (2.5, "mse", "1 of 2 models predicts worse than the biases alone (test RMSE above 2.5"),
            (1.5, "rmse", "2 of 2 models, the best among them, predict worse than the biases"),
            (1.5, "ndcg", "(test RMSE above 1.5000)."),
            (2.0, "mae", "(test MAE above 1.0000)."),
        ],
    )
    def test_beside_the_errors(self, rmse: float, judge: Measure, warning: str | None) -> None:
        biases = {"test": ErrorMeans(rmse**2, rmse / 2, 10)}
        table = results_table(self.POINTS, 0, "test", judge=Judge(judge), biases=biases)  # type: ignore[arg-type]
        note = f"Biases alone (damped means of users and items): test RMSE {rmse:.4f}, MAE"
        assert note in caption(table)
        assert table.isascii()
        if warning is None:
            assert "Warning" not in table
        else:
            assert "Warning: " in caption(table)
            assert warning in caption(table)

    def test_a_part_without_them(self) -> None:
        biases = {"train": ErrorMeans(0.1, 0.1, 10)}
        assert "Warning" not in results_table(self.POINTS, 0, "test", biases=biases)  # type: ignore[arg-type]
