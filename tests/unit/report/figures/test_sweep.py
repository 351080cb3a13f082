"""The figures, read back from their artists: what a reader would see, not how it was drawn."""

from __future__ import annotations

import functools
import gc
import itertools
import math
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from als_spark.report.figures import sweep as plots
from als_spark.report.figures.convergence import convergence_figure
from als_spark.report.figures.heatmap import heatmap_figure
from als_spark.solve.objective import Objective
from als_spark.train.records import (
    ErrorMeans,
    IterationRecord,
    Judge,
    ModelSpec,
    PointResult,
    RankingMeans,
)
from als_spark.types import SplitName
from tests.figures import (
    check_texts,
    chunks,
    lay_out,
    legend_labels,
    line,
    panels,
    shown_texts,
    words,
)

NAN = math.nan
TOL = 1e-3
NOTE = "λ multiplies Σ|u|² + Σ|v|² (frequency exponent 0: the plain ridge)"
ROOT = Path(__file__).resolve().parents[4]


def history(point: int, rank: int, reg: float, n: int) -> tuple[IterationRecord, ...]:
    return tuple(
        IterationRecord(
            point, rank, reg, t, 5e4 * (1 + math.exp(-t / 3)), 40 * math.exp(-t / 4), 0.01 * t
        )
        for t in range(1, n + 1)
    )


def make_point(
    rank: int = 5,
    reg: float = 2.0,
    *,
    index: int = 0,
    converged: bool = True,
    iterations: int = 30,
    **errors: tuple[float, float],
) -> PointResult:
    """A point with MSE and MAE by split."""
    parts = errors or {"train": (0.5, 0.6), "test": (1.0, 0.8)}
    records = history(index, rank, reg, iterations)
    return PointResult(
        spec=ModelSpec(0, rank, Objective(reg)),
        iterations=iterations,
        evaluations=iterations,
        converged=converged,
        objective=records[-1].objective if records else NAN,
        seconds=1.5,
        errors={name: ErrorMeans(mse, mae, 100) for name, (mse, mae) in parts.items()},  # type: ignore[misc]
        history=records,
    )


def make_grid(
    ranks: Sequence[int], regs: Sequence[float], *, validation: bool = False
) -> list[PointResult]:
    """Errors that behave like real ones: train falls with d, test rises with d at small λ."""
    points = []
    for index, (rank, reg) in enumerate(itertools.product(ranks, regs)):
        g, s = math.log(rank) / math.log(50), reg / (reg + 2)
        train, test = 0.78 - 0.55 * g * (1 - s / 2) + 0.02 * reg, 0.85 + 0.75 * g * (1 - s)
        errors = {"train": (train, 0.85 * train**0.5), "test": (test, 0.78 * test**0.5)}
        if validation:
            errors["validation"] = (1.05 * test, 0.8 * test**0.5)
        points.append(
            make_point(
                rank,
                float(reg),
                index=index,
                converged=index % 5 != 4,
                iterations=20 + 3 * (index % 11),
                **errors,
            )
        )
    return points


def with_errors(point: PointResult, **errors: tuple[float, float]) -> PointResult:
    means = {name: ErrorMeans(mse, mae, 10) for name, (mse, mae) in errors.items()}
    return replace(point, errors={**point.errors, **means})  # type: ignore[arg-type]


def scaled(point: PointResult, factor: float) -> PointResult:
    return with_errors(
        point, **{name: (factor * m.mse, factor**0.5 * m.mae) for name, m in point.errors.items()}
    )


def shapes() -> dict[str, tuple[list[PointResult], int | None, SplitName]]:
    source = make_grid([1, 5, 20, 50], [1, 2, 4, 6])
    diverged = [*source[:12], scaled(source[12], 100), *source[13:]]
    broken = with_errors(source[5], train=(NAN, NAN), test=(math.inf, NAN))
    half = with_errors(source[6], test=(NAN, NAN))
    everywhere_nan = [
        with_errors(p, train=(NAN, NAN), test=(NAN, NAN)) for p in make_grid([1, 5], [1, 2])
    ]
    return {
        "source grid": (source, 0, "test"),
        "validation": (make_grid([1, 5, 20], [1, 4], validation=True), 3, "validation"),
        "one point": (make_grid([20], [4]), 0, "test"),
        "3 ranks, 8 lambdas": (make_grid([1, 5, 20], [0.5, 1, 2, 4, 6, 8, 12, 16]), 9, "test"),
        "7 lambdas": (make_grid([5, 10], [0.001 * 4**k for k in range(7)]), 2, "test"),
        "13 lambdas": (make_grid([5, 10], [0.001 * 2**k for k in range(13)]), 4, "test"),
        "one rank": (make_grid([20], [1, 2, 4, 6, 8]), 2, "test"),
        "40 ranks": (make_grid(range(2, 42), [1, 4]), 0, "test"),
        "diverged": (diverged, 0, "test"),
        "interrupted": ([*source[:5], broken, half, *source[7:10]], 0, "test"),
        "nothing finite": (everywhere_nan, None, "test"),
        "exact fit": (
            [make_point(r, 1.0, train=(0.0, 0.0), test=(0.0, 0.0)) for r in (1, 2)],
            0,
            "test",
        ),
        "perfect train": ([make_point(1, 1.0, train=(0.0, 0.0), test=(1.0, 0.8))], 0, "test"),
        "huge": (
            [make_point(r, 1.0, train=(v, v), test=(v, v)) for r, v in ((1, 1.0), (2, 1e30))],
            0,
            "test",
        ),
        "no test part": (
            [make_point(r, g, train=(0.5 / r, 0.4)) for r in (1, 2) for g in (1.0, 2.0)],
            2,
            "train",
        ),
    }


SHAPES = shapes()
BUILDERS = {
    "sweep": plots.sweep_figure,
    "selected": plots.selected_figure,
    "heatmap": heatmap_figure,
    "convergence": lambda *args, **more: convergence_figure(*args, tol=TOL, **more),
}


# For each figure, the shapes that it lays out in ways of their own.
LAYOUTS = {
    "sweep": (
        "source grid",
        "validation",
        "one point",
        "13 lambdas",
        "40 ranks",
        "diverged",
        "interrupted",
        "nothing finite",
        "huge",
    ),
    "selected": ("source grid", "validation", "one point", "40 ranks", "diverged", "huge"),
    "heatmap": (
        "source grid",
        "validation",
        "one point",
        "7 lambdas",
        "40 ranks",
        "interrupted",
        "nothing finite",
        "huge",
    ),
    # Draws no errors: all that counts is how many ranks and λ there are.
    "convergence": ("one point", "7 lambdas", "40 ranks", "nothing finite"),
}

FigureOf = Callable[[str, str], Figure]


@pytest.fixture(scope="module", autouse=True)
def no_collection() -> Iterator[None]:
    """Figures are all cycles: looking through them for garbage would take a quarter of the time."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def figure_of() -> FigureOf:
    """Makes the figure of a name and a shape once; tests that change it must not use this."""

    @functools.cache
    def build(name: str, shape: str) -> Figure:
        points, best, selected_on = SHAPES[shape]
        return BUILDERS[name](points, best, selected_on, objective_note=NOTE)

    return build


def titled(figure: Figure, title: str) -> Axes:
    """The panel whose title is this, a best mark aside."""
    (found,) = [axes for axes in panels(figure) if axes.get_title().removeprefix("★ ") == title]
    return found


def values(point: PointResult) -> list[float]:
    return [value for means in point.errors.values() for value in (means.mse, means.mae)]


# ------------------------------------------------------------------------ every shape, every figure


@pytest.mark.parametrize(
    ("name", "shape"), [(name, shape) for name, shapes in LAYOUTS.items() for shape in shapes]
)
def test_texts_neither_overlap_nor_leave_the_picture(
    name: str, shape: str, figure_of: FigureOf
) -> None:
    figure = figure_of(name, shape)
    lay_out(figure)
    check_texts(figure)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("sweep", shape) for shape in SHAPES]
    + [("selected", shape) for shape in SHAPES if SHAPES[shape][1] is not None],
)
def test_every_error_is_drawn_inside_the_axes(name: str, shape: str, figure_of: FigureOf) -> None:
    points, best, _ = SHAPES[shape]
    figure = figure_of(name, shape)
    wanted = points if name == "sweep" else [p for p in points if p.reg == points[best or 0].reg]
    expected = sorted(value for p in wanted for value in values(p) if math.isfinite(value))
    drawn = []
    for axes in panels(figure):
        low, high = axes.get_ylim()
        left, right = axes.get_xlim()
        for artist in axes.lines:
            if " M" not in str(artist.get_label()):
                continue
            x, y = np.asarray(artist.get_xdata(), float), np.asarray(artist.get_ydata(), float)
            kept = np.isfinite(y)
            assert np.all((low < y[kept]) & (y[kept] < high))
            assert np.all((left < x) & (x < right))
            drawn += y[kept].tolist()
    np.testing.assert_allclose(sorted(drawn), expected, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_panels_of_the_sweep_share_one_scale(shape: str, figure_of: FigureOf) -> None:
    figure = figure_of("sweep", shape)
    regs = sorted({point.reg for point in SHAPES[shape][0]})
    assert [axes.get_title().removeprefix("★ ") for axes in panels(figure)] == [
        f"λ = {reg:g}" for reg in regs
    ]
    assert len({axes.get_ylim() for axes in panels(figure)}) == 1
    assert len({axes.get_xlim() for axes in panels(figure)}) == 1


@pytest.mark.parametrize("name", ["sweep", "heatmap", "convergence"])
def test_no_points_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="no points to draw: the sweep has finished none"):
        BUILDERS[name]([], None, "test")


@pytest.mark.parametrize("name", BUILDERS)
def test_the_objective_and_the_choice_stand_on_the_figure(name: str, figure_of: FigureOf) -> None:
    text = words(figure_of(name, "validation"))
    assert NOTE in text
    assert "best: d = 5, λ = 4, chosen on its validation MSE" in text


def test_a_long_note_is_wrapped() -> None:
    note = " ".join(["the ridge of a row is multiplied by its count"] * 8)
    figure = heatmap_figure(make_grid([1, 5], [1, 2]), 0, "test", objective_note=note)
    lay_out(figure)
    for text in shown_texts(figure):
        assert text.get_window_extent().x0 >= 0
        assert text.get_window_extent().x1 <= figure.bbox.width


# -------------------------------------------------------------------------------------------- sweep


def test_sweep_draws_the_four_errors_of_each_lambda(figure_of: FigureOf) -> None:
    points = SHAPES["source grid"][0]
    figure = figure_of("sweep", "source grid")
    for reg in (1.0, 2.0, 4.0, 6.0):
        axes = titled(figure, f"λ = {reg:g}")
        row = [point for point in points if point.reg == reg]
        assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "5", "20", "50"]
        for split, metric in itertools.product(("train", "test"), ("mse", "mae")):
            drawn = line(axes, f"{split} {metric.upper()}")
            expected = [getattr(point.errors[split], metric) for point in row]  # type: ignore[index]
            np.testing.assert_array_equal(drawn.get_ydata(), expected)
            np.testing.assert_array_equal(drawn.get_xdata(), axes.get_xticks())
        assert not [artist for artist in axes.lines if "validation" in str(artist.get_label())]


def test_train_and_test_differ_by_more_than_colour(figure_of: FigureOf) -> None:
    axes = panels(figure_of("sweep", "validation"))[0]
    splits = [line(axes, f"{split} MSE") for split in ("train", "validation", "test")]
    assert len({artist.get_linestyle() for artist in splits}) == 3
    okabe_ito = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    colours = {artist.get_color() for artist in splits}
    assert len(colours) == 3
    assert colours <= okabe_ito
    assert line(axes, "test MSE").get_marker() != line(axes, "test MAE").get_marker()


@pytest.mark.parametrize("name", ["sweep", "selected"])
def test_axes_are_labelled_with_units(name: str, figure_of: FigureOf) -> None:
    text = words(figure_of(name, "source grid"))
    assert "MSE: squared rating units" in text
    assert "MAE: rating units" in text
    assert "rank d (number of factors)" in text


@pytest.mark.parametrize(
    ("shape", "place", "split"),
    [("source grid", 6, "test"), ("validation", 3, "validation"), ("interrupted", 8, "test")],
)
@pytest.mark.parametrize("name", ["sweep", "selected"])
def test_best_point_is_marked_at_its_place(
    name: str, shape: str, place: int, split: SplitName
) -> None:
    points = SHAPES[shape][0]
    figure = BUILDERS[name](points, place, split)
    marks = [
        (axes, artist)
        for axes in panels(figure)
        for artist in axes.lines
        if artist.get_marker() == "*"
    ]
    ((axes, star),) = marks
    if name == "sweep":
        assert axes.get_title() == f"★ λ = {points[place].reg:g}"
    (x,), (y,) = star.get_xdata(), star.get_ydata()
    labels = dict(
        zip(axes.get_xticks(), (t.get_text() for t in axes.get_xticklabels()), strict=True)
    )
    assert labels[x] == str(points[place].rank)
    assert y == points[place].errors[split].mse


def test_no_best_point_marks_nothing_and_says_so(figure_of: FigureOf) -> None:
    figure = figure_of("sweep", "nothing finite")
    assert not [a for axes in panels(figure) for a in axes.lines if a.get_marker() == "*"]
    assert "no best point: no finite test error" in words(figure)


def test_gaps_are_left_open_and_marked(figure_of: FigureOf) -> None:
    points = SHAPES["interrupted"][0]  # of λ = 2: d = 1, d = 5 without errors, d = 20; no d = 50
    figure = figure_of("sweep", "interrupted")
    axes = titled(figure, "λ = 2")
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "5", "20"]
    drawn = np.asarray(line(axes, "test MSE").get_ydata(), float)
    np.testing.assert_array_equal(np.isnan(drawn), [False, True, False])
    (crosses,) = [a for a in axes.lines if a.get_marker() == "x"]
    np.testing.assert_array_equal(crosses.get_xdata(), [1])
    # λ = 4: a point that has train errors only, and none at d = 20.
    (crosses,) = [a for a in titled(figure, "λ = 4").lines if a.get_marker() == "x"]
    np.testing.assert_array_equal(crosses.get_xdata(), [1, 2])
    assert not [a for a in titled(figure, "λ = 1").lines if a.get_marker() == "x"]
    assert "no result" in legend_labels(figure)
    assert "no result" not in legend_labels(plots.sweep_figure(points[:4], 0, "test"))


@pytest.mark.parametrize("shape", ["source grid", "validation", "3 ranks, 8 lambdas"])
def test_scale_is_linear_and_fitted_where_no_point_is_far_off(
    shape: str, figure_of: FigureOf
) -> None:
    axes = panels(figure_of("sweep", shape))[0]
    finite = [value for point in SHAPES[shape][0] for value in values(point)]
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "linear"
    assert (max(finite) - min(finite)) / (high - low) > 0.7


def test_one_point_far_off_does_not_flatten_the_others(figure_of: FigureOf) -> None:
    points = SHAPES["diverged"][0]
    figure = figure_of("sweep", "diverged")
    usual = [value for k, point in enumerate(points) if k != 12 for value in values(point)]
    for axes in panels(figure):
        heights = [
            axes.transAxes.inverted().transform(axes.transData.transform((0, value)))[1]
            for value in (min(usual), max(usual), max(values(points[12])))
        ]
        assert heights[1] - heights[0] > 0.35
        assert heights[1] < heights[2] < 0.99
    labels = [text.get_text() for text in panels(figure)[0].get_yticklabels()]
    assert labels == ["0", "0.5", "1", "1.5", "10", "100"]
    assert "linear to 1.5, logarithmic above" in words(figure)


@pytest.mark.parametrize("factor", [2.5, 9, 40, 1e3, 1e40])
def test_the_far_part_of_the_scale_has_ticks_too(factor: float) -> None:
    points = make_grid([1, 5, 20], [1, 2, 4])
    top = 3.3 * factor
    points[8] = with_errors(points[8], test=(top, top))
    figure = plots.sweep_figure(points, 0, "test")
    axes = panels(figure)[0]
    bend = float(words(figure).split("linear to ")[1].split(",")[0])
    low, high = axes.get_ylim()
    assert low < 0 < bend < top < high
    beyond = [tick for tick in axes.get_yticks() if bend < tick <= high]
    assert 1 <= len(beyond) <= 4


@pytest.mark.parametrize("regs", [[1], [1, 2, 4, 8]])
def test_legend_keeps_the_two_errors_of_a_split_together(regs: list[float]) -> None:
    figure = plots.sweep_figure(make_grid([1, 5, 20, 50], regs, validation=True), 0, "test")
    lay_out(figure)
    (legend,) = figure.findobj(Legend)
    at = {text.get_text(): text.get_window_extent() for text in legend.get_texts()}
    for split in ("train", "validation", "test"):
        assert at[f"{split} MSE"].x0 == pytest.approx(at[f"{split} MAE"].x0, abs=1)
        assert at[f"{split} MSE"].y0 > at[f"{split} MAE"].y0


@pytest.mark.parametrize("n", [1, 2, 13, 60])
def test_labels_of_ranks_stay_few_and_name_both_ends(n: int) -> None:
    figure = plots.sweep_figure(make_grid(range(1, n + 1), [1.0]), 0, "test")
    labels = [text.get_text() for text in panels(figure)[0].get_xticklabels()]
    assert len(labels) == min(n, 12)
    assert (labels[0], labels[-1]) == ("1", str(n))


# ----------------------------------------------------------------------------------------- selected


def test_selected_shows_the_lambda_of_the_best_alone_with_its_numbers() -> None:
    points = SHAPES["validation"][0]  # (1,1) (1,4) (5,1) (5,4) (20,1) (20,4)
    figure = plots.selected_figure(points, 3, "validation")
    (axes,) = panels(figure)
    expected = [points[k].errors["test"].mse for k in (1, 3, 5)]
    np.testing.assert_array_equal(line(axes, "test MSE").get_ydata(), expected)
    labels = legend_labels(figure)
    for split, metric in itertools.product(("train", "validation", "test"), ("mse", "mae")):
        number = getattr(points[3].errors[split], metric)  # type: ignore[index]
        assert f"{split} {metric.upper()} = {number:.3f}" in labels
    (legend,) = figure.findobj(Legend)
    assert legend.get_title().get_text() == "d = 5, λ = 4\n29 iterations, converged"
    assert "best d = 5" in words(figure)


def test_selected_says_when_the_cap_stopped_it() -> None:
    points = [make_point(1, 2.0, converged=False), make_point(5, 2.0)]
    points[1] = with_errors(points[1], test=(NAN, NAN))
    figure = plots.selected_figure(points, 0, "test")
    (legend,) = figure.findobj(Legend)
    assert "30 iterations, stopped by the cap" in legend.get_title().get_text()
    assert "no result" in legend_labels(figure)


# ------------------------------------------------------------------------------------------ heatmap


def luminance(colour: Sequence[float]) -> float:
    """WCAG 2 relative luminance."""
    parts = np.asarray(colour[:3])
    parts = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(parts @ [0.2126, 0.7152, 0.0722])


def contrast(one: Sequence[float], two: Sequence[float]) -> float:
    dark, light = sorted([luminance(one), luminance(two)])
    return (light + 0.05) / (dark + 0.05)


def cell_texts(axes: Axes) -> dict[tuple[float, float], Text]:
    return {text.get_position(): text for text in axes.texts}


@pytest.mark.parametrize("shape", ["source grid", "diverged", "3 ranks, 8 lambdas", "one point"])
def test_heatmap_has_every_number_in_its_cell_and_legible(shape: str, figure_of: FigureOf) -> None:
    points = SHAPES[shape][0]
    axes = panels(figure_of("heatmap", shape))[0]
    ranks = [int(text.get_text()) for text in axes.get_xticklabels()]
    regs = [float(text.get_text()) for text in axes.get_yticklabels()]
    texts = cell_texts(axes)
    assert len(texts) == len(points)
    (image,) = axes.images
    assert not axes.yaxis_inverted()  # a larger λ stands higher
    for point in points:
        text = texts[ranks.index(point.rank), regs.index(point.reg)]
        assert float(text.get_text()) == pytest.approx(point.errors["test"].mse, rel=2e-3)
        cell = image.cmap(image.norm(point.errors["test"].mse))
        assert contrast(to_rgba(text.get_color()), cell) >= 4.5


def test_heatmap_frames_the_best_cell(figure_of: FigureOf) -> None:
    points = SHAPES["validation"][0]
    for axes in panels(figure_of("heatmap", "validation"))[:2]:
        frames = {patch.get_xy() for patch in axes.patches}
        assert frames == {(0.5, 0.5)}  # around column 1 (d = 5), row 1 (λ = 4)
    plain = heatmap_figure(points, None, "validation")
    assert not panels(plain)[0].patches


def test_heatmap_of_a_choice_on_validation_shows_both_maps_in_one_colour_scale(
    figure_of: FigureOf,
) -> None:
    points = SHAPES["validation"][0]
    left, right, _ = panels(figure_of("heatmap", "validation"))
    assert left.get_title() == "validation MSE (the best is chosen here)"
    assert right.get_title() == "test MSE (not used for the choice)"
    assert left.images[0].get_clim() == right.images[0].get_clim()
    assert float(cell_texts(left)[1, 1].get_text()) == pytest.approx(
        points[3].errors["validation"].mse, rel=1e-3
    )
    assert float(cell_texts(right)[1, 1].get_text()) == pytest.approx(
        points[3].errors["test"].mse, rel=1e-3
    )


def test_heatmap_colour_bar_names_the_error_and_its_unit(figure_of: FigureOf) -> None:
    figure = figure_of("heatmap", "source grid")
    assert panels(figure)[-1].get_ylabel() == "mean squared error\n(squared rating units)"
    assert panels(figure)[0].images[0].cmap.name == "viridis_r"


def test_heatmap_hatches_cells_without_a_result() -> None:
    points = SHAPES["interrupted"][0]  # 3 ranks by 4 λ: two not trained, two without a test error
    axes = panels(heatmap_figure(points, None, "test"))[0]
    hatched = {(p.get_x() + 0.5, p.get_y() + 0.5) for p in axes.patches if p.get_hatch()}
    assert hatched == {(1, 1), (1, 2), (2, 2), (2, 3)}
    assert hatched.isdisjoint(cell_texts(axes))


def test_heatmap_keeps_its_colours_for_the_usual_values(figure_of: FigureOf) -> None:
    points = SHAPES["diverged"][0]
    (image,) = panels(figure_of("heatmap", "diverged"))[0].images
    usual = [p.errors["test"].mse for k, p in enumerate(points) if k != 12]
    assert image.get_clim() == (min(usual), max(usual))
    assert image.cmap(image.norm(points[12].errors["test"].mse)) == to_rgba("black")
    assert image.colorbar is not None
    assert image.colorbar.extend == "max"
    (image,) = panels(figure_of("heatmap", "source grid"))[0].images
    assert image.colorbar is not None
    assert image.colorbar.extend == "neither"


def ranked_grid() -> list[PointResult]:
    points = make_grid([1, 5, 20], [1, 4], validation=True)
    ndcgs = [0.05, 0.09, 0.12, 0.31, 0.08, 0.11]
    return [
        replace(
            point,
            rankings={
                "validation": RankingMeans(ndcg, 0.2, 0.1, 0.1, 0.5, 20, 5, 4.0),
                "test": RankingMeans(ndcg / 2, 0.2, 0.1, 0.1, 0.5, 20, 5, 4.0),
            },
        )
        for point, ndcg in zip(points, ndcgs, strict=True)
    ]


def test_heatmap_of_a_ranking_measure() -> None:
    points, judge = ranked_grid(), Judge("ndcg", 5)
    figure = heatmap_figure(points, 3, "validation", judge=judge)
    left, right, bar = panels(figure)
    assert left.get_title() == "validation NDCG@5 (the best is chosen here)"
    assert bar.get_ylabel() == "NDCG@5"
    for axes, split in ((left, "validation"), (right, "test")):
        texts = cell_texts(axes)
        for point in points:
            text = texts[[1, 5, 20].index(point.rank), [1, 4].index(point.reg)]
            value = point.rankings[split].ndcg  # type: ignore[index]
            assert float(text.get_text()) == pytest.approx(value, abs=6e-4)
    (image,) = left.images
    # Dark is bad: here a small value. None is off the scale, however far above the others.
    assert luminance(image.cmap(image.norm(0.05))) < luminance(image.cmap(image.norm(0.31)))
    assert image.get_clim() == (0.025, 0.31)
    assert "best (largest validation NDCG@5)" in legend_labels(figure)


@pytest.mark.parametrize("measure", ["rmse", "mae"])
def test_heatmap_of_another_error(measure: str) -> None:
    points = make_grid([1, 5], [1, 4])
    figure = heatmap_figure(points, 0, "test", judge=Judge(measure))  # type: ignore[arg-type]
    axes, bar = panels(figure)
    text = cell_texts(axes)[0, 0].get_text()
    assert float(text) == pytest.approx(getattr(points[0].errors["test"], measure), abs=6e-4)
    assert bar.get_ylabel().endswith("\n(rating units)")


@pytest.mark.parametrize("name", ["sweep", "selected", "convergence"])
def test_the_other_figures_name_the_judge(name: str) -> None:
    builder = BUILDERS[name]
    figure = builder(ranked_grid(), 3, "validation", judge=Judge("ndcg", 5))
    assert "chosen on its validation NDCG@5 of 0.310" in words(figure)
    assert "MSE of" not in words(figure)


# -------------------------------------------------------------------------------------- convergence


def stacked(figure: Figure, reg: float) -> tuple[Axes, Axes]:
    """The two panels of a λ: the objective, and the steps in the panel right below it."""
    upper = titled(figure, f"λ = {reg:g}")
    (lower,) = [
        axes for axes in panels(figure) if place(axes) == (place(upper)[0] + 1, place(upper)[1])
    ]
    return upper, lower


def place(axes: Axes) -> tuple[int, int]:
    """Row and column of a panel."""
    spec = axes.get_subplotspec()
    assert spec is not None
    return spec.rowspan.start, spec.colspan.start


@pytest.mark.parametrize("shape", ["source grid", "7 lambdas"])
def test_convergence_draws_objective_and_steps(shape: str, figure_of: FigureOf) -> None:
    points = SHAPES[shape][0]
    figure = figure_of("convergence", shape)
    assert len(panels(figure)) == 2 * len({point.reg for point in points})
    for point in points:
        upper, lower = stacked(figure, point.reg)
        objectives = np.array([record.objective for record in point.history])
        changes = np.array([record.change for record in point.history])
        excess = line(upper, f"d = {point.rank}")
        np.testing.assert_allclose(
            np.asarray(excess.get_ydata()), (objectives / objectives[-1] - 1)[:-1], rtol=1e-6
        )
        np.testing.assert_array_equal(excess.get_xdata(), range(1, len(objectives)))
        steps = line(lower, f"d = {point.rank}")
        np.testing.assert_allclose(np.asarray(steps.get_ydata()), abs(np.diff(changes)))
        np.testing.assert_array_equal(steps.get_xdata(), range(2, len(changes) + 1))
        for axes, artist in ((upper, excess), (lower, steps)):
            assert axes.get_yscale() == "log"
            assert axes.get_ylim()[0] < min(artist.get_ydata())
            assert max(artist.get_ydata()) < axes.get_ylim()[1]
            assert axes.get_xlim()[0] < 1
            assert len(point.history) < axes.get_xlim()[1]


def test_convergence_shows_the_tolerance() -> None:
    points = make_grid([1, 5], [1, 2])
    figure = convergence_figure(points, 0, "test", tol=1e-7)
    for reg in (1, 2):
        lower = stacked(figure, reg)[1]
        assert [1e-7, 1e-7] in [list(artist.get_ydata()) for artist in lower.lines]
        assert lower.get_ylim()[0] < 1e-7
    assert "tolerance 1e-07" in legend_labels(figure)
    without = convergence_figure(points, 0, "test", tol=0)
    assert not [label for label in legend_labels(without) if "tolerance" in label]


def test_convergence_tells_capped_points_apart() -> None:
    points = [
        make_point(1, 1.0, converged=True),
        make_point(5, 1.0, converged=False, iterations=40),
    ]
    figure = convergence_figure(points, 0, "test", tol=TOL)
    for axes, shift in zip(stacked(figure, 1.0), (1, 0), strict=True):
        ends = {a.get_marker(): a for a in axes.lines if a.get_marker() in ("o", "X")}
        assert list(ends["o"].get_xdata()) == [30 - shift]
        assert list(ends["X"].get_xdata()) == [40 - shift]
        assert ends["X"].get_markerfacecolor() == line(axes, "d = 5").get_color()
    assert "stopped by the iteration cap" in legend_labels(figure)
    one_kind = convergence_figure(points[:1], 0, "test", tol=TOL)
    assert "stopped by the iteration cap" not in legend_labels(one_kind)


def test_convergence_tells_ranks_apart_and_stresses_the_best() -> None:
    points, _, _ = SHAPES["source grid"]
    figure = convergence_figure(points, 4, "test", tol=TOL)
    upper = stacked(figure, 1.0)[0]
    drawn = [line(upper, f"d = {rank}") for rank in (1, 5, 20, 50)]
    assert len({artist.get_color() for artist in drawn}) == 4
    dashes = {str(artist._unscaled_dash_pattern) for artist in drawn}  # type: ignore[attr-defined]
    assert len(dashes) == 4
    widths = [artist.get_linewidth() for artist in drawn]
    assert widths.index(max(widths)) == 1
    assert all(contrast(artist.get_color(), (1, 1, 1)) > 1.8 for artist in drawn)


def test_convergence_of_many_ranks_keeps_the_legend_short(figure_of: FigureOf) -> None:
    figure = figure_of("convergence", "40 ranks")
    named = [label for label in legend_labels(figure) if label.startswith("d = ")]
    assert len(named) == 8
    assert (named[0], named[-1]) == ("d = 2", "d = 41")


def records(*pairs: tuple[float, float]) -> tuple[IterationRecord, ...]:
    return tuple(
        IterationRecord(0, 5, 2.0, t, objective, change, 0.0)
        for t, (objective, change) in enumerate(pairs, start=1)
    )


@pytest.mark.parametrize(
    ("pairs", "excess", "steps"),
    [
        pytest.param([], [], [], id="no history"),
        pytest.param([(10.0, 3.0)], [], [], id="one iteration"),
        pytest.param([(10.0, 3.0), (10.0, 3.0)], [], [], id="nothing moves"),
        pytest.param([(4.0, 3.0), (2.0, 2.0), (8.0, 4.0)], [1.0, 3.0], [1.0, 2.0], id="rises"),
        pytest.param([(NAN, 3.0), (4.0, math.inf), (2.0, 1.0)], [1.0], [], id="not finite"),
        pytest.param([(4.0, 3.0), (0.0, 1.0)], [1.0], [2.0], id="to zero"),
    ],
)
def test_convergence_of_odd_histories(
    pairs: list[tuple[float, float]], excess: list[float], steps: list[float]
) -> None:
    point = replace(make_point(), history=records(*pairs))
    figure = convergence_figure([point], 0, "test", tol=TOL)
    for axes, expected in zip(stacked(figure, 2.0), (excess, steps), strict=True):
        drawn = [a for a in axes.lines if a.get_label() == "d = 5"]
        assert [list(a.get_ydata()) for a in drawn] == ([expected] if expected else [])


def test_one_run_much_longer_than_the_others_makes_the_iteration_axis_logarithmic() -> None:
    points = [make_point(rank, 1.0, iterations=20) for rank in (1, 2, 3)]
    figure = convergence_figure(points, 0, "test", tol=TOL)
    assert panels(figure)[0].get_xscale() == "linear"
    points.append(make_point(4, 1.0, iterations=900))
    figure = convergence_figure(points, 0, "test", tol=TOL)
    for axes in panels(figure):
        assert axes.get_xscale() == "log"
        assert axes.get_xlim()[1] > 900


# -------------------------------------------------------------------------------------------- files


def save_all(folder: Path, points: list[PointResult], best: int, on: SplitName) -> list[Path]:
    paths = [folder / f"{name}.png" for name in BUILDERS]
    pictures = plots.sweep_pictures(points, best, on, tol=TOL, objective_note=NOTE)
    assert list(pictures) == [path.name for path in paths]
    for path in paths:
        path.write_bytes(pictures[path.name])
    return paths


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The four files of a small grid."""
    return save_all(tmp_path_factory.mktemp("saved"), make_grid([1, 5], [1]), 1, "test")


def test_files_hold_no_time_or_version_and_are_150_dpi(saved: list[Path]) -> None:
    for path in saved:
        parts = chunks(path.read_bytes())
        assert {kind for kind, _ in parts} <= {b"IHDR", b"pHYs", b"IDAT", b"IEND"}
        per_metre = struct.unpack(">I", dict(parts)[b"pHYs"][:4])[0]
        assert per_metre * 0.0254 == pytest.approx(150, abs=0.1)


RERUN = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("test_plots_rerun", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
module.save_all(pathlib.Path(sys.argv[2]), module.make_grid([1, 5], [1]), 1, "test")
assert "matplotlib.pyplot" not in sys.modules
assert "pyspark" not in sys.modules
import matplotlib
assert matplotlib.rcParams == matplotlib.rcParamsOrig
"""


def test_another_process_writes_the_same_bytes_and_touches_no_global_state(
    saved: list[Path], tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", RERUN, __file__, str(tmp_path)]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    for path in saved:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
