"""The picture of errors by activity and popularity, read back from its artists."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from als_spark.report.figures.breakdown import Bin, bins_of, breakdown_figure
from als_spark.report.figures.drawing import png_of, save_figure
from tests.figures import check_texts, lay_out, legend_labels, line, words

LABELS = ["0", "1–5", "6–20", "21–50", "51–200", "201–1,000", "over 1,000"]
COUNTS = [0, 120, 999, 3_400, 12_345, 999_499, 1_234_567]
EMPTY = Bin("none", 0, math.nan, math.nan)


def bins(factor: float = 1.0, n: int = 7) -> list[Bin]:
    return [
        Bin(label, count, factor * (1.4 - 0.1 * k), 0.7)
        if count
        else Bin(label, 0, *[math.nan] * 2)
        for k, (label, count) in enumerate(zip(LABELS[:n], COUNTS, strict=False))
    ]


def errors_of(panel: Axes, label: str) -> list[float]:
    return np.asarray(line(panel, label).get_ydata(), float).tolist()


def sides(figure: Figure) -> list[tuple[Axes, Axes]]:
    """Upper and lower panel of each side."""
    half = len(figure.axes) // 2
    return list(zip(figure.axes[:half], figure.axes[half:], strict=True))


def test_both_sides_show_the_root_errors_and_the_counts() -> None:
    figure = breakdown_figure(bins(), bins(0.9), note="on 26,000 held-out ratings")
    (by_user, users), (by_item, items) = sides(figure)
    for upper, lower, found in ((by_user, users, bins()), (by_item, items, bins(0.9))):
        expected = [math.sqrt(one.mse) if one.count else math.nan for one in found]
        np.testing.assert_allclose(errors_of(upper, "RMSE"), expected, rtol=1e-15)
        assert [bar.get_height() for bar in lower.patches] == COUNTS
        assert [text.get_text() for text in lower.get_xticklabels()] == LABELS
        shown = [text.get_text() for text in lower.texts]
        assert shown == ["0", "120", "999", "3.4k", "12k", "999k", "1.2M"]
        # The bin without ratings is marked, so that it is not taken for a missing one.
        assert np.asarray(line(upper, "no ratings").get_xdata(), float).tolist() == [0]
        assert lower.get_ylim()[1] > max(COUNTS)
    assert by_user.get_ylim() == by_item.get_ylim()
    assert by_user.get_title() == "by activity of the user"
    assert items.get_xlabel() == "training ratings of the item"
    assert legend_labels(figure) == ["no ratings"]
    assert "on 26,000 held-out ratings" in words(figure)
    lay_out(figure)
    check_texts(figure)


def test_several_models_stand_side_by_side_with_marks_of_their_own() -> None:
    both = {"challenger": bins(), "champion": bins(1.1)}
    figure = breakdown_figure(both, both)
    upper, _ = sides(figure)[0]
    ours, theirs = line(upper, "challenger"), line(upper, "champion")
    for drawn, found in ((ours, bins()), (theirs, bins(1.1))):
        np.testing.assert_allclose(
            np.asarray(drawn.get_ydata(), float), [one.rmse for one in found], rtol=1e-15
        )
    gaps = np.asarray(theirs.get_xdata(), float) - np.asarray(ours.get_xdata(), float)
    assert np.all((gaps > 0.1) & (gaps < 0.5))
    assert ours.get_marker() != theirs.get_marker()
    assert ours.get_color() != theirs.get_color()
    assert legend_labels(figure) == ["challenger", "champion", "no ratings"]
    lay_out(figure)
    check_texts(figure)


@pytest.mark.parametrize(
    ("by_user", "by_item", "title"),
    [
        (bins(n=3), [], "by activity of the user"),
        ({}, {"a": bins(n=3)}, "by popularity of the item"),
    ],
)
def test_a_side_without_bins_is_left_out(by_user: object, by_item: object, title: str) -> None:
    figure = breakdown_figure(by_user, by_item)  # type: ignore[arg-type]
    ((upper, lower),) = sides(figure)
    assert upper.get_title() == title
    assert [label.get_rotation() for label in lower.get_xticklabels()] == [0] * 3
    lay_out(figure)
    check_texts(figure)


def test_many_labels_are_slanted() -> None:
    _, lower = sides(breakdown_figure(bins(), []))[0]
    assert {label.get_rotation() for label in lower.get_xticklabels()} == {35}


def test_full_bins_need_no_legend_and_empty_ones_no_scale() -> None:
    figure = breakdown_figure(bins()[1:3], [])
    assert legend_labels(figure) == []
    figure = breakdown_figure([EMPTY], [EMPTY])
    assert legend_labels(figure) == ["no ratings"]
    lay_out(figure)
    check_texts(figure)


def test_no_bins_are_an_error() -> None:
    for nothing in ([], {}, {"a": []}):
        with pytest.raises(ValueError, match="no bins to draw"):
            breakdown_figure(nothing, [])  # type: ignore[arg-type]


def test_models_with_different_bins_are_an_error() -> None:
    with pytest.raises(ValueError, match="the models have different bins by popularity"):
        breakdown_figure(bins(), {"a": bins(), "b": bins(n=4)})


def test_bins_are_read_from_records() -> None:
    records = [
        {"label": "1–5", "count": 3, "mse": 4, "mae": 1.5},
        {"label": "6–20", "count": 0, "mse": None, "mae": None},
        {"label": "more"},
    ]
    full, empty, bare = bins_of(records)
    assert full == Bin("1–5", 3, 4.0, 1.5)
    assert full.rmse == 2.0
    for one, label in ((empty, "6–20"), (bare, "more")):
        assert (one.label, one.count) == (label, 0)
        assert math.isnan(one.mse)
        assert math.isnan(one.mae)
        assert math.isnan(one.rmse)
    assert bins_of(None) == []


@pytest.mark.parametrize("mse", [math.nan, math.inf, -1.0])
def test_an_error_that_is_none_has_no_root(mse: float) -> None:
    assert math.isnan(Bin("a", 1, mse, 0.0).rmse)


def test_equal_bins_give_an_equal_file(tmp_path: Path) -> None:
    path = tmp_path / "breakdown.png"
    save_figure(breakdown_figure(bins(), bins(n=4), note="a note"), path)
    assert path.read_bytes() == png_of(breakdown_figure(bins(), bins(n=4), note="a note"))


def test_a_path_is_no_formula():
    note = "version 1 of /lake/$a_$/store"
    figure = breakdown_figure(bins(), [], note=note)
    assert png_of(figure)
    assert note in words(figure)
