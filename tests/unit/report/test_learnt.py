"""What people see of a sweep whose λ is learnt: table, advice, progress, page, pictures."""

from __future__ import annotations

import io
import logging
import math
from dataclasses import replace
from typing import Any

import pytest

from als_spark.report.advice import edges, next_command, warn_unsettled
from als_spark.report.figures.convergence import convergence_figure
from als_spark.report.figures.samples import samples_figure, sampling_figure
from als_spark.report.figures.sweep import selected_figure, sweep_pictures
from als_spark.report.pages.sweep import sweep_page
from als_spark.report.progress import ProgressReporter
from als_spark.report.table import results_table
from als_spark.solve.objective import Objective
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.records import ErrorMeans, IterationRecord, ModelSpec, PointResult
from tests.figures import check_texts, lay_out, legend_labels, line, words
from tests.pages import pictures, read_page, rows_of, section_of, tables, warnings_of

NAN, INF = math.nan, math.inf
NOTE = PosteriorOptions().note


def record(rank: int, k: int, *, sampled: bool = False) -> IterationRecord:
    """An iteration; the noise of draws goes up and down."""
    objective = NAN if sampled else 900 + 100 / k
    change = INF if k == 1 or sampled else 0.1**k
    noise = 0.8 + 1 / k + (0.01 * (-1) ** k if sampled else 0)
    return IterationRecord(rank, rank, None, k, objective, change, 0.1 * k, noise=noise)


def make_point(
    rank: int, mse: float, *, r_hat: float | None = None, converged: bool = True, n: int = 12
) -> PointResult:
    """A point of ``variational``, or with an R-hat of ``sample``."""
    learnt = {"noise_deviation": 0.75 + rank / 1000}
    sampled = r_hat is not None
    if r_hat is not None:
        learnt |= {"r_hat": r_hat, "effective_samples": 61.4}
    history = tuple(record(rank, k, sampled=sampled) for k in range(1, n + 1))
    return PointResult(
        spec=ModelSpec(0, rank, Objective(0.0)),
        iterations=n,
        evaluations=n,
        converged=converged and not sampled,
        objective=history[-1].objective,
        seconds=1.5,
        errors={"train": ErrorMeans(0.5, 0.6, 80), "test": ErrorMeans(mse, 0.7, 20, 3)},
        history=history,
        learnt=learnt,
    )


VARIATIONAL = [make_point(4, 0.9), make_point(8, 0.8), make_point(16, 0.85, converged=False)]
SAMPLE = [make_point(4, 0.9, r_hat=1.01), make_point(8, 0.8, r_hat=1.5)]


class TestTable:
    def test_noise_in_the_place_of_lambda(self) -> None:
        groups, names, _, *rows = results_table(VARIATIONAL, 1, "test").split("\n")
        measures = ["RMSE", "MAE"] * 2
        assert names.split() == ["d", *measures, "noise", "iterations", "converged", "seconds"]
        assert rows[1].split() == [
            *("*", "8", "0.7071", "0.6000", "0.8944", "0.7000", "0.7580", "12", "yes", "1.5"),
        ]
        assert rows[2].split()[-2] == "cap"
        # The names of the parts stand above their columns.
        assert groups.index("- train") < names.index("RMSE") + 6 < groups.index("- test")
        text = results_table(VARIATIONAL, 1, "test")
        assert "* best: d=8, the smallest test MSE (0.8000)." in text
        assert "noise: the learnt standard deviation of a rating's noise" in text
        assert "lambda" not in text

    def test_samples_have_r_hat_and_no_stopping_rule(self) -> None:
        text = results_table(SAMPLE, 1, "test")
        header, row = text.split("\n")[1], text.split("\n")[4]
        assert header.split()[-4:] == ["noise", "R-hat", "iterations", "seconds"]
        assert row.split()[-4:] == ["0.7580", "1.5000", "12", "1.5"]
        assert "cap" not in text
        assert "Warning: 1 of 2 models has draws that have not settled (R-hat above 1.1)" in text


@pytest.mark.parametrize(
    ("best", "more", "said", "options"),
    [
        (1, {"n_features": 20}, [], None),
        (1, {}, [], "--implicit-features 20"),
        (2, {"n_features": 20}, ["d = 16, is the largest of the grid"], "--ranks 16,32,64"),
        (0, {}, ["d = 4, is the smallest of the grid: a smaller one may be better still (--ranks)"],
         "--ranks 1,2,4 --implicit-features 20"),
        (1, {"n_features": 9, "for_lists": True, "beaten": True}, [],
         "--method ridge --implicit-features 0 --implicit --exponent 0.5 --lambdas 0.5,1,2,4"),
        (1, {"beaten": True, "n_features": 9}, [], None),
    ],
)  # fmt: skip
def test_advice_names_no_lambda(
    best: int, more: dict[str, Any], said: list[str], options: str | None
) -> None:
    point, ranks = VARIATIONAL[best], (4, 8, 16)
    found = list(edges(point, ranks, ()))
    assert len(found) == len(said)
    assert all(words in line for words, line in zip(said, found, strict=True))
    more = {"beaten": False, "method": "variational", **more}
    command = next_command(point, ranks, (), **more)
    assert (command is None) == (options is None)
    assert options is None or f"the same command with {options}, and another" in str(command)


def test_a_rank_of_one_leaves_nothing_open() -> None:
    assert list(edges(make_point(1, 0.5), (1, 4), ())) == []


def test_a_ridge_towards_a_mean_stays_one() -> None:
    spec = ModelSpec(0, 16, Objective(40.0))
    point = PointResult(spec, 1, 1, True, 1.0, 1.0, {"test": ErrorMeans(1.0, 1.0, 10)})
    grid = (8, 16, 32), (10.0, 20.0, 40.0)
    command = next_command(point, *grid, beaten=True, method="ridge", n_features=20)
    assert "with --lambdas 40,80,160, and" in str(command)


def test_draws_that_have_settled_need_no_warning() -> None:
    assert warn_unsettled([SAMPLE[0], make_point(2, 1.0, r_hat=NAN), *VARIATIONAL]) is None


def test_progress_tells_bound_and_noise(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with ProgressReporter(2, stream=io.StringIO(), log_seconds=0) as reporter:
        reporter.on_iteration(record(4, 3))
        reporter.on_finished(4, VARIATIONAL[0])
        reporter.on_iteration(record(8, 2, sampled=True))
        # Measured now and then, and told until the next time.
        reporter.on_iteration(replace(record(8, 3, sampled=True), rmse=0.87654))
        reporter.on_iteration(record(8, 4, sampled=True))
        reporter.on_finished(8, SAMPLE[1])
    assert [entry.message for entry in caplog.records] == [
        "0/2 points done, 1 running, d=4 iteration 3, change 0.001, bound -933.333, noise 1.133",
        "d=4: 12 iterations, bound -908.333, noise 0.754, 1.5 s (1/2 points done)",
        "1/2 points done, 1 running, d=8 iteration 2, noise 1.31",
        "1/2 points done, 1 running, d=8 iteration 3, held-out RMSE 0.8765, noise 1.123",
        "1/2 points done, 1 running, d=8 iteration 4, held-out RMSE 0.8765, noise 1.06",
        "d=8: 12 iterations, noise 0.758, 1.5 s (2/2 points done)",
    ]


RUN: dict[str, Any] = {
    "status": "complete",
    "config": {"ranks": [4, 8], "lambdas": None, "method": "sample", "cold_start": "prior"},
    "data": {"users": 10, "items": 20},
}


def test_the_page_says_that_lambda_is_learnt() -> None:
    drawn = sweep_pictures(SAMPLE, 1, "test", tol=0.0, objective_note=NOTE, burn_in=4)
    assert list(drawn) == ["sweep.png", "convergence.png"]
    page = read_page(sweep_page(SAMPLE, 1, "test", RUN, drawn, objective_note=NOTE))
    assert "rank d = 8, test MSE 0.8000" in page.one("header").text
    results = section_of(page, "Results")
    assert f"λ is learnt: {NOTE}." in results.text
    (table,) = tables(results)
    header, first, second = rows_of(table)
    assert "λ" not in header
    assert [header[k] for k in (1, -4, -3, -2, -1)] == ["d", "noise", "R-hat", "iterations", "time"]
    assert second[-4:-1] == ["0.7580", "1.5000", "12"]
    assert len(first) == len(header)
    found = warnings_of(page)
    assert any(
        "3 of 20 test ratings" in text and "prior means of their rows" in text for text in found
    )
    assert any(text.startswith("1 of 2 models has draws that have not settled") for text in found)
    assert not any("--lambdas" in text or "cap on iterations" in text for text in found)
    assert [alt for alt, _ in pictures(page)] == [
        "Lines of train and test errors against the rank",
        "Lines of the noise of every draw against the iteration",
    ]


def test_the_errors_are_one_picture() -> None:
    figure = selected_figure(VARIATIONAL, 1, "test", objective_note=NOTE)
    lay_out(figure)
    check_texts(figure)
    text = words(figure)
    assert "Errors against rank d\n" in text
    assert "d = 8\n12 iterations, converged\nlearnt noise 0.758" in text
    assert "λ" not in text


def test_the_bound_of_every_rank() -> None:
    figure = convergence_figure(VARIATIONAL, 1, "test", tol=1e-4, stop="bound", objective_note=NOTE)
    lay_out(figure)
    check_texts(figure)
    above, below = figure.axes
    assert above.get_ylabel() == "bound below its\nhighest value (fraction)"
    iterations, values = line(above, "d = 8").get_data()
    lowest = 900 + 100 / 12
    assert list(iterations) == list(range(1, 12))
    assert list(values) == pytest.approx([(900 + 100 / k - lowest) / lowest for k in range(1, 12)])
    iterations, values = line(below, "d = 8").get_data()
    assert list(iterations) == list(range(2, 13))
    assert list(values) == pytest.approx([0.1**k for k in range(2, 13)])
    assert "stopped by the iteration cap" in legend_labels(figure)
    assert "λ" not in words(figure)


def test_the_noise_of_every_draw() -> None:
    figure = samples_figure(SAMPLE, 1, "test", burn_in=4, objective_note=NOTE)
    lay_out(figure)
    check_texts(figure)
    (panel,) = figure.axes
    iterations, values = line(panel, "d = 8").get_data()
    assert list(iterations) == list(range(1, 13))
    assert list(values) == [one.noise for one in SAMPLE[1].history]
    low, high = panel.get_ylim()
    counted = [one.noise for one in SAMPLE[1].history if one.iteration > 4]
    assert low < min(counted)
    assert max(counted) < high < SAMPLE[1].history[0].noise
    assert legend_labels(figure) == [
        "d = 4\nR-hat 1.010\neffective draws 61",
        "d = 8\nR-hat 1.500\neffective draws 61",
        "burn-in: not counted",
    ]


def test_the_error_of_the_mean_of_the_draws() -> None:
    errors = {6: 0.93, 9: 0.9, 12: 0.89}
    history = [replace(one, rmse=errors.get(one.iteration, NAN)) for one in SAMPLE[1].history]
    figure = samples_figure([SAMPLE[0], replace(SAMPLE[1], history=history)], 1, "test", burn_in=4)
    lay_out(figure)
    check_texts(figure)
    noise, error = figure.axes
    assert list(line(noise, "d = 8").get_data()[1]) == [one.noise for one in history]
    assert [list(part) for part in line(error, "d = 8").get_data()] == [
        [*errors],
        [*errors.values()],
    ]
    assert noise.get_xlim() == error.get_xlim()
    # Of one training, as its record has it.
    samples = {
        "burn_in": 4,
        "noise": [one.noise for one in history],
        "rmse": [list(pair) for pair in errors.items()],
    }
    learnt = {"r_hat": 1.02, "effective_samples": None}
    figure = sampling_figure({"rank": 8, "samples": samples, "learnt": learnt})
    lay_out(figure)
    check_texts(figure)
    noise, error = figure.axes
    assert list(line(noise, "d = 8").get_data()[1]) == samples["noise"]
    assert [list(part) for part in line(error, "d = 8").get_data()] == [
        [*errors],
        [*errors.values()],
    ]
    assert legend_labels(figure) == ["d = 8\nR-hat 1.020", "burn-in: not counted"]
    assert "12 iterations" in words(figure)
