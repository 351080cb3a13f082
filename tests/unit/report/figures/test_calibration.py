"""The picture of what was observed against what was predicted, read back from its artists."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes

from als_spark.report.figures.calibration import calibration_figure
from tests.figures import check_texts, lay_out, words

TENTHS = [{"count": 9, "predicted": 2.0 + 0.3 * k, "observed": 2.1 + 0.25 * k} for k in range(10)]
INTERVALS = [{"coverage": level, "observed": level - 0.02} for level in (0.1, 0.5, 0.9)]


def marks(panel: Axes) -> list[tuple[float, float]]:
    (found,) = [artist for artist in panel.lines if artist.get_marker() == "o"]
    x, y = (np.asarray(values, float).tolist() for values in found.get_data())
    return list(zip(x, y, strict=True))


def test_tenths_and_intervals_stand_beside_the_diagonal() -> None:
    figure = calibration_figure(TENTHS, INTERVALS, note="models/current")
    tenths, intervals = figure.axes
    assert marks(tenths) == [(part["predicted"], part["observed"]) for part in TENTHS]
    assert marks(intervals) == [(part["coverage"], part["observed"]) for part in INTERVALS]
    assert tenths.get_xlim() == tenths.get_ylim()
    assert intervals.get_xlim() == intervals.get_ylim() == (0, 1)
    assert "models/current" in words(figure)
    lay_out(figure)
    check_texts(figure)


def test_a_model_without_intervals_has_one_panel() -> None:
    figure = calibration_figure(TENTHS[:1], [])
    (tenths,) = figure.axes
    low, high = tenths.get_xlim()
    assert low < 2.0 < 2.1 < high
    lay_out(figure)
    check_texts(figure)
    with pytest.raises(ValueError, match="no predictions to draw"):
        calibration_figure([], INTERVALS)
