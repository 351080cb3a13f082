"""JSON files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from als_spark.files.json_files import json_ready, write_json


def test_written_for_people(tmp_path):
    write_json(tmp_path / "x.json", {"λ": [1, 2.5], "name": "é"})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"λ": [1, 2.5], "name": "é"}
    assert "λ" in text
    assert text.count("\n") > 3
    assert text.endswith("}\n")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_refused_before_the_file_is_touched(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"value": value})
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
