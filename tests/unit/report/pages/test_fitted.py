"""A model in a notebook."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from als_spark.report.pages.fitted import HEIGHT, WIDTH, curve, model_view


def places(values: list[float]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (point.split(",") for point in curve(values).split())]


class TestCurve:
    def test_equal_ratios_are_equal_steps(self):
        assert places([1000.0, 100.0, 10.0]) == [(0, 0), (WIDTH / 2, HEIGHT / 2), (WIDTH, HEIGHT)]

    def test_what_has_no_logarithm(self):
        assert places([2.0, 1.0, 0.0]) == [(0, 0), (WIDTH / 2, HEIGHT / 2), (WIDTH, HEIGHT)]

    def test_a_level_line(self):
        assert {y for _, y in places([3.0, 3.0])} == {HEIGHT}

    @pytest.mark.parametrize("values", [[], [1.0]])
    def test_no_line(self, values):
        assert curve(values) == ""


class TestModelView:
    def test_everything_is_escaped_and_there(self):
        text = model_view("<ALS> & Co", {"users": 1234}, {"userCol": "<b>u</b>"}, [9.5, 3.25])
        tree = ET.fromstring(text)
        assert tree.find("p/strong").text == "<ALS> & Co"
        cells = [(row.find("th").text, row.find("td").text) for row in tree.iter("tr")]
        assert cells == [("users", "1,234"), ("userCol", "<b>u</b>")]
        assert "from 9.5 to 3.25" in tree.find("svg/title").text
        assert tree.find("svg/polyline").get("points") == curve([9.5, 3.25])

    def test_without_a_history(self):
        tree = ET.fromstring(model_view("ALS", {"users": 1}, {}, []))
        assert tree.find("svg") is None
        assert tree.find("details") is None
