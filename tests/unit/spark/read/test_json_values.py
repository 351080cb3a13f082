"""What stands behind the first value of a text of JSON."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from als_spark.spark.read.json_values import _may_go_on, find_rests, rest_of


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ('{"a": 1}', ""),
        ('{"a": 1},', ""),
        ('{"a": 1} xyz', ""),
        ('{"a": [{"b": "}{"}, {"b": 1}]}', ""),
        ('{"a": 1}{"a": 2}', '{"a": 2}'),
        ('\ufeff {"a": 1}, {"a": 2},', '{"a": 2},'),
        ('[{"a": 1}]\r\n[{"a": 2}]', '[{"a": 2}]'),
        ('{"a": 1', ""),
        ("[" * 100_000, ""),
    ],
)
def test_rest_of(text: str, rest: str) -> None:
    assert rest_of(text) == rest


def test_find_rests() -> None:
    lines = ['{"a": 1}{"a": 2}', '{"a": [{}, {}]}']
    batch = pa.record_batch({"file": ["x", "y"], "value": lines})
    (found,) = find_rests([batch])
    assert found.to_pylist() == [{"file": "x", "value": '{"a": 2}'}]


@pytest.mark.parametrize(
    ("text", "expected"), [("", False), ('[[1], {"a": [2]}]\n', False), ("[1]\n\n[2]", True)]
)
def test_which_arrays_are_read_whole(text: str, expected: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    assert _may_go_on(path) is expected
