"""JSON files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from als_spark.errors import DataError
from als_spark.files.json_files import decode, decode_value, json_ready, write_json


def test_written_for_people(tmp_path):
    write_json(tmp_path / "x.json", {"λ": [1, 2.5], "name": "é"})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"λ": [1, 2.5], "name": "é"}
    assert "λ" in text
    assert text.count("\n") > 3
    assert text.endswith("}\n")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_refused_before_the_file_is_touched(tmp_path, value):
    message = (
        rf"^test\.1\.mse is {value}: the numbers that it comes from are too large: use smaller"
    )
    with pytest.raises(DataError, match=message):
        write_json(tmp_path / "x.json", {"n": 1, "test": [{"mse": 1.0}, {"mse": value}]})
    assert list(tmp_path.iterdir()) == []


def test_json_ready():
    values = {"path": Path("a/b"), "ranks": (1, 5), "tol": 0.5, "table": None, "list": [2]}
    assert json_ready(values) == {
        "path": "a/b",
        "ranks": [1, 5],
        "tol": 0.5,
        "table": None,
        "list": [2],
    }


HUGE = "1" + 399 * "0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "it is nested more than 50 levels deep"),
        ("[" * 100_000 + "]" * 100_000, "it is nested more than 50 levels deep"),
        ('{"a":' * 60 + "1" + "}" * 60, "it is nested more than 50 levels deep"),
        ('{"a": {"b": [1, NaN]}}', "a.b.1 is NaN: no finite number"),
        ('{"a": -Infinity}', "a is -Infinity: no finite number"),
        ('{"a": 1e400}', "a is 1e400: no finite number"),
        (f'{{"a": {HUGE}}}', f"a is {HUGE[:79]}…: an integer of more than 64 bits"),
        (f'{{"a": {HUGE}{5000 * "0"}}}', f"a is {HUGE[:79]}…: an integer of more than 64 bits"),
        ('{"a": -9223372036854775809}', "a is -9223372036854775809: an integer of more than 64"),
        ('{"a": "\\ud800"}', "a has half a character in it: "),
        ('{"\\udfff": 1}', "it has half a character in it: "),
        (b'{"a": "\xff"}', "it is not UTF-8"),
        ("NaN", "it is NaN: no finite number"),
        ("1", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("", "Expecting value"),
    ],
)
def test_values_that_no_record_has(text: str | bytes, message: str) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ValueError, match="^" + re.escape(message)) as info:
        decode(data)
    assert len(str(info.value)) < 300
    assert len(str(info.value).splitlines()) == 1


def test_values_at_the_limits() -> None:
    least, most = -(2**63), 2**64 - 1
    value = [least, most, 1e308, 5e-324, "\N{SMILING FACE WITH OPEN MOUTH}", None, True, {"": []}]
    assert decode_value(json.dumps(value).encode()) == value
    deep = json.loads("[" * 50 + "]" * 50)
    assert decode_value(json.dumps(deep).encode()) == deep
