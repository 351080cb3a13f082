"""The picture of one or two trainings, read back from its artists."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.lines import Line2D

from als_spark.report.figures.drawing import png_of
from als_spark.report.figures.learning import Training, learning_figure, training_of
from als_spark.train.records import IterationRecord
from tests.figures import check_texts, lay_out, legend_labels, line, words


def history(n: int, objective: float = 5e4, excess: float = 0.4) -> list[IterationRecord]:
    return [
        IterationRecord(
            0, 20, 0.1, t, objective * (1 + excess * math.exp(-t / 3)), 40 * 0.8**t, 0.1 * t
        )
        for t in range(1, n + 1)
    ]


WARM = Training("challenger", "warm", history(9, excess=0.05), True)
COLD = Training("reference", "cold", history(64, 5.02e4), False)


def test_both_trainings_are_drawn_with_all_values() -> None:
    figure = learning_figure([WARM, COLD], objective_note="ridge λ|x|²")
    left, right = figure.axes
    for training in (WARM, COLD):
        name = f"{training.label} ({training.start} start)"
        for panel, key in ((left, "objective"), (right, "change")):
            x, y = line(panel, name).get_data()
            assert list(x) == [r.iteration for r in training.history]
            assert list(y) == [getattr(r, key) for r in training.history]
            low, high = panel.get_ylim()
            assert low < min(y)
            assert max(y) < high
    assert (left.get_yscale(), right.get_yscale()) == ("linear", "log")
    text = words(figure)
    assert "challenger (warm start): 9 iterations; reference (cold start): 64 iterations" in text
    assert "ridge λ|x|²" in text
    assert left.get_xlim() == right.get_xlim()
    lay_out(figure)
    check_texts(figure)


def test_warm_and_cold_differ_by_dashes_and_ends_by_marks() -> None:
    figure = learning_figure([WARM, COLD])
    assert legend_labels(figure) == [
        "challenger (warm start)",
        "reference (cold start)",
        "ended by the stopping rule",
        "stopped by the iteration cap",
    ]
    for panel in figure.axes:
        warm, cold = line(panel, WARM.name), line(panel, COLD.name)
        assert (warm.get_linestyle(), cold.get_linestyle()) == ("-", "--")
        assert warm.get_color() != cold.get_color()
        for training, drawn, marker in ((WARM, warm, "o"), (COLD, cold, "X")):
            (end,) = [artist for artist in panel.lines if artist.get_marker() == marker]
            assert isinstance(end, Line2D)
            assert list(end.get_xdata()) == [len(training.history)]
            assert list(end.get_ydata()) == list(drawn.get_ydata())[-1:]


def test_one_training_of_one_iteration() -> None:
    figure = learning_figure([Training("", "cold", history(1), True)])
    assert legend_labels(figure) == ["cold start", "ended by the stopping rule"]
    assert "cold start: 1 iteration" in words(figure).split("\n")
    for panel in figure.axes:
        assert list(panel.get_xticks()) == [1]
        assert list(line(panel, "cold start").get_xdata()) == [1]
    lay_out(figure)
    check_texts(figure)


def test_values_that_no_axis_can_hold_are_left_out() -> None:
    records = [
        IterationRecord(0, 2, 1.0, t, objective, change, 0.0)
        for t, (objective, change) in enumerate(
            [(9.0, 5.0), (math.nan, math.inf), (8.0, 0.0), (7.0, math.nan)], 1
        )
    ]
    left, right = learning_figure([Training("a", "warm", records, True)]).axes
    assert list(line(left, "a (warm start)").get_ydata()) == [9.0, 8.0, 7.0]
    assert list(line(right, "a (warm start)").get_ydata()) == [5.0]


def test_a_training_without_iterations_draws_nothing() -> None:
    figure = learning_figure([Training("a", "warm", [], False)])
    assert "a (warm start): 0 iterations" in words(figure)
    assert all(not panel.lines for panel in figure.axes)
    lay_out(figure)


def test_a_start_far_above_the_rest_keeps_the_rest_apart() -> None:
    records = [
        IterationRecord(0, 2, 1.0, t, 1e9 if t == 1 else 100.0 - t, 1.0, 0.0) for t in range(1, 30)
    ]
    figure = learning_figure([Training("", "cold", records, True)])
    assert "logarithmic above" in words(figure)
    assert np.isfinite(figure.axes[0].get_ylim()).all()


def test_no_training_is_an_error() -> None:
    with pytest.raises(ValueError, match="no training to draw"):
        learning_figure([])


def test_a_training_is_read_from_its_record() -> None:
    record = {
        "start": "warm",
        "rank": 20,
        "lambda_reg": 0.1,
        "converged": True,
        "history": [[1, 9.5, 3.0], [2, None, None]],
    }
    training = training_of(record, "challenger")
    assert (training.label, training.start, training.converged) == ("challenger", "warm", True)
    first, second = training.history
    assert (first.rank, first.reg, first.iteration) == (20, 0.1, 1)
    assert (first.objective, first.change, second.iteration) == (9.5, 3.0, 2)
    assert math.isnan(second.objective)
    assert math.isnan(second.change)
    bare = training_of({"start": None, "history": None})
    assert bare == Training("", "cold", [], False)
    learning_figure([training, bare])


def test_equal_trainings_give_equal_bytes() -> None:
    first, second = (png_of(learning_figure([WARM], objective_note="a note")) for _ in range(2))
    assert first == second
