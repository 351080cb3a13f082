"""The picture of quality over runs, read back from its artists."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.dates import num2date
from matplotlib.figure import Figure

from als_spark.report.figures import quality
from als_spark.report.figures.drawing import png_of
from als_spark.report.figures.quality import quality_figure, quality_picture
from als_spark.report.format import OUTCOMES
from tests.figures import check_texts, chunks, lay_out, legend_labels, words

FIRST = datetime(2026, 1, 3, 2, 0, tzinfo=UTC)
MARKED = [label for label, _ in OUTCOMES.values()]


def record(
    outcome: str = "kept",
    *,
    day: float = 0.0,
    challenger: float | None = None,
    champion: float | None = None,
    version: str | None = None,
) -> dict[str, Any]:
    return {
        "run": f"run-{day}",
        "started": (FIRST + timedelta(days=day)).isoformat(),
        "job": "retrain",
        "outcome": outcome,
        "version": version,
        "challenger": None if challenger is None else {"rmse": challenger, "mae": 0.7},
        "champion": None if champion is None else {"rmse": champion, "mae": 0.7},
        "iterations": 9,
    }


def nights(count: int) -> list[dict[str, Any]]:
    """Runs of a store: most compare, some fail in every way there is."""
    draw, records = random.Random(3), []
    others = [name for name in OUTCOMES if name not in ("published", "kept")]
    for k in range(count):
        if k % 5 == 3:
            records.append(record(others[k // 5 % len(others)], day=k))
            continue
        error = 0.9 - 0.02 * math.log1p(k / 20) + draw.gauss(0, 0.004)
        before = None if k == 0 else error + draw.gauss(0, 0.003)
        better = before is None or error < before
        records.append(
            record(
                "published" if better else "kept",
                day=k,
                challenger=error,
                champion=before,
                version=f"v{k}" if better else None,
            )
        )
    return records


def panel_of(figure: Figure) -> Axes:
    (panel,) = figure.axes
    return panel


def points(panel: Axes, label: str) -> list[tuple[float, float]]:
    """Places and heights of the artist of a label."""
    (found,) = [artist for artist in panel.lines if artist.get_label() == label]
    return list(zip(*(np.asarray(data, float).tolist() for data in found.get_data()), strict=True))


@pytest.mark.parametrize("count", [1, 2, 14, 60, 400])
def test_every_run_has_one_mark_and_texts_keep_apart(count: int) -> None:
    records = nights(count)
    figure = quality_figure(records)
    panel = panel_of(figure)
    marks = [
        (place, str(artist.get_label()))
        for artist in panel.lines
        if artist.get_label() in MARKED
        for place in np.asarray(artist.get_xdata(), float)
    ]
    assert [label for _, label in sorted(marks)] == [OUTCOMES[r["outcome"]][0] for r in records]
    if count > 1:
        starts = [datetime.fromisoformat(r["started"]) for r in records]
        for (place, _), start in zip(sorted(marks), starts, strict=True):
            assert abs(num2date(place) - start) < timedelta(seconds=1)
    lay_out(figure)
    check_texts(figure)


def test_lines_hold_the_errors_and_marks_lie_on_the_challengers() -> None:
    records = [
        record("published", day=0, challenger=0.90, version="a"),
        record("kept", day=1, challenger=0.91, champion=0.905),
        record("failed", day=2),
        record("published", day=3, challenger=0.87, champion=0.88, version="b"),
        # Compared, then failed: its error is known, yet its mark is that of a failure.
        record("died", day=4, challenger=0.86, champion=0.87),
    ]
    panel = panel_of(quality_figure(records))
    assert [y for _, y in points(panel, "challenger")] == [0.90, 0.91, 0.87, 0.86]
    assert [y for _, y in points(panel, "champion")] == [0.905, 0.88, 0.87]
    assert [y for _, y in points(panel, "published")] == [0.90, 0.87]
    assert [y for _, y in points(panel, "champion kept")] == [0.91]
    low, high = panel.get_ylim()
    (band,) = panel.patches
    ((_, failed),) = points(panel, "failed")
    ((_, died),) = points(panel, "died")
    assert low < failed == died < band.get_y() + band.get_height() < 0.86
    assert high > 0.91
    assert [t.get_text() for t in panel.get_yticklabels(minor=True)] == ["not compared"]
    assert all(tick > failed for tick in panel.get_yticks())


def test_without_such_runs_there_is_no_foot() -> None:
    panel = panel_of(quality_figure([record("kept", challenger=0.9, champion=0.9)]))
    assert not panel.patches
    assert "not compared" not in [t.get_text() for t in panel.get_yticklabels(minor=True)]


def test_a_run_before_any_measure_says_so() -> None:
    figure = quality_figure([{"outcome": "bad_input"}, {"outcome": "published", "version": 3}])
    assert "no run has been measured yet" in words(figure)
    assert "last published: 3" in words(figure)
    assert legend_labels(figure) == ["published", "bad input"]
    lay_out(figure)


@pytest.mark.parametrize(
    ("days", "by_time"),
    [
        ([0], False),
        ([0, 5], True),
        ([0, 0], False),
        (list(range(14)), True),
        ([*range(7), *range(37, 44)], True),  # a month without runs
        ([*(k / 100 for k in range(12)), 30], False),  # an afternoon, and a month later
        ([0, 1, None, 3], False),
    ],
)
def test_the_axis_is_time_where_times_are_spread(days: list[float | None], by_time: bool) -> None:
    records = [record(day=day or 0, challenger=0.9 + k / 100) for k, day in enumerate(days)]
    for known, day in zip(records, days, strict=True):
        if day is None:
            known["started"] = None
    figure = quality_figure(records)
    panel = panel_of(figure)
    label = "start of the run (UTC)" if by_time else "run, in their order"
    assert panel.get_xlabel() == label
    places = [x for x, _ in points(panel, "champion kept")]
    if not by_time:
        assert places == list(range(1, len(days) + 1))
        assert all(tick == int(tick) for tick in panel.get_xticks())
    lay_out(figure)
    check_texts(figure)


def test_runs_are_put_in_the_order_of_their_times() -> None:
    records = [record(day=day, challenger=0.8 + day / 100) for day in (2, 0, 1)]
    heights = [y for _, y in points(panel_of(quality_figure(records)), "challenger")]
    assert heights == pytest.approx([0.8, 0.81, 0.82])


@pytest.mark.parametrize("who", ["challenger", "champion"])
def test_a_run_far_off_does_not_flatten_the_others(who: str) -> None:
    records = [record(day=k, challenger=0.9 + k / 1000, champion=0.9) for k in range(10)]
    records[4][who] = {"rmse": 47.0}
    figure = quality_figure(records)
    panel = panel_of(figure)
    assert panel.get_ylim()[1] < 1
    assert "beyond the scale (up to 47.0)" in legend_labels(figure)
    (arrows,) = [artist for artist in panel.lines if artist.get_marker() == "^"]
    assert list(np.asarray(arrows.get_xdata(), float)) == [points(panel, "challenger")[4][0]]
    kept = points(panel, "champion kept")
    assert kept[4][1] == (panel.get_ylim()[1] if who == "challenger" else 0.904)
    assert [y for _, y in points(panel, who)][4] == 47.0
    lay_out(figure)
    check_texts(figure)


def test_few_squares_mark_the_champion_and_many_do_not() -> None:
    for count, marker in ((20, "s"), (60, "None")):
        records = [record(day=k, challenger=0.9, champion=0.91) for k in range(count)]
        panel = panel_of(quality_figure(records))
        (drawn,) = [artist for artist in panel.lines if artist.get_label() == "champion"]
        assert drawn.get_marker() == marker


@pytest.mark.parametrize(
    ("records", "note"),
    [
        ([record("kept", challenger=0.9)], "1 run, nothing published"),
        ([record("failed"), record("failed", day=1)], "2 runs, nothing published"),
        (
            [record("published", challenger=0.87654, champion=0.91, version="v7")],
            "last published: v7 on 2026-01-03, RMSE 0.877 (the champion before: 0.910)",
        ),
        (
            [record("published", challenger=0.87654), record("failed", day=3)],
            "last published on 2026-01-03, RMSE 0.877",
        ),
    ],
)
def test_the_note_tells_of_the_last_publication(records: list[dict[str, Any]], note: str) -> None:
    assert note in words(quality_figure(records)).split("\n")


def test_an_unknown_outcome_and_odd_measures_are_shown_too() -> None:
    odd = [
        {"outcome": "postponed", "challenger": {"rmse": "n/a"}, "champion": 3},
        {"outcome": None, "challenger": {"rmse": math.inf}},
    ]
    figure = quality_figure([*odd, record("kept", challenger=0.9)])
    assert set(legend_labels(figure)) == {"challenger", "champion kept", "postponed", "None"}


def test_no_records_are_an_error() -> None:
    with pytest.raises(ValueError, match="no runs to draw: the history is empty"):
        quality_figure([])


def test_the_picture_holds_no_time_and_equal_records_give_equal_bytes() -> None:
    picture = quality_picture(nights(14))
    assert picture == png_of(quality_figure(nights(14)))
    assert {kind for kind, _ in chunks(picture)} <= {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def test_the_same_runs_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []

    def draw(figure: Figure) -> bytes:
        drawn.append(figure)
        return f"picture {len(drawn)}".encode()

    monkeypatch.setattr(quality, "png_of", draw)
    records = [*nights(3), {"outcome": "failed"}]
    first = quality_picture(records)
    # What the picture does not show may differ.
    assert quality_picture([{**record, "host": "another"} for record in records]) == first
    assert len(drawn) == 1
    assert quality_picture([*records, record("kept", challenger=0.9)]) != first
    assert quality_picture(records) != first  # Only the last one is kept.
    assert len(drawn) == 3
