"""What is given in the place of a Spark DataFrame, and which Python the workers have."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from als_spark import ALS, PrepareOptions, prepare_ratings, save_model, source_from_frame
from als_spark.errors import ConfigError
from als_spark.spark.read.failures import worker_problem
from als_spark.spark.session import use_this_interpreter

FRAMES = [
    (
        pd.DataFrame({"user": [1]}),
        r"pandas.DataFrame: make one with spark.createDataFrame\(frame\)",
    ),
    (
        pa.table({"user": [1]}),
        r"pyarrow.Table: make one with spark.createDataFrame\(table.to_pandas",
    ),
    (np.zeros((2, 3)), r"numpy.ndarray: make one with spark.createDataFrame\(array.tolist"),
    (
        type("DataFrame", (), {"__module__": "polars.dataframe.frame"})(),
        r"polars.DataFrame: make one",
    ),
    ([(1, 2, 3.0)], "not a list: give one, such as spark.createDataFrame makes"),
]


@pytest.mark.parametrize(("frame", "words"), FRAMES, ids=[type(f).__name__ for f, _ in FRAMES])
def test_other_frames_are_told_how_to_become_one(frame, words):
    with pytest.raises(ConfigError, match=f"source_from_frame takes a Spark DataFrame, .*{words}"):
        source_from_frame(frame)
    with pytest.raises(ConfigError, match=words):
        prepare_ratings(None, frame, PrepareOptions())
    with pytest.raises(ConfigError, match=f"ALS.fit takes a Spark DataFrame, .*{words}"):
        ALS.fitMultiple(SimpleNamespace(copy=lambda _: None), frame, [{}])


def test_a_model_is_saved_where_text_says(tmp_path):
    with pytest.raises(ConfigError, match="save_model takes no str: give a FactorModel"):
        save_model("model", tmp_path)
    with pytest.raises(ConfigError, match=r"save_model takes no .*: give model.toFactorModel\(\)"):
        save_model(SimpleNamespace(toFactorModel=None), tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "x: Python in worker has different version: 3.10 than that in driver: 3.11, PySpark",
            "the workers run Python 3.10, and this program Python 3.11",
        ),
        (
            "x: Python in worker has different version (3, 9) than that in driver 3.12, PySpark",
            "the workers run Python 3.9, and this program Python 3.12",
        ),
        (
            "x\nModuleNotFoundError: No module named 'als_spark.spark'; y",
            "the Python of the workers has no package als_spark",
        ),
        (
            'java.io.IOException: Cannot run program "/no/python": error=2',
            "the workers have no program /no/python",
        ),
        ("ModuleNotFoundError: No module named 'somebody'", None),
        ("Python", None),
    ],
)
def test_what_is_wrong_with_the_workers(text, problem):
    assert worker_problem(text) == problem


@pytest.mark.parametrize(
    ("master", "chosen", "variable", "at_start", "expected"),
    [
        ("local[2]", None, None, "python3", sys.executable),
        ("local[2]", "/of/conf", None, "python3", "/of/conf"),
        # Set before the session started, and after it, as a cell of a notebook may do.
        ("local[2]", None, "/of/env", "/of/env", "/of/env"),
        ("local[2]", None, "/of/env", "python3", "/of/env"),
        ("local[2]", "/of/conf", "/later", "/of/env", "/of/env"),
        ("spark://a:7077", None, None, "python3", "python3"),
        ("spark://a:7077", None, "/later", "python3", "python3"),
    ],
)
def test_the_interpreter_of_a_session_that_runs(
    monkeypatch, master, chosen, variable, at_start, expected
):
    monkeypatch.delenv("PYSPARK_PYTHON", raising=False)
    if variable:
        monkeypatch.setitem(os.environ, "PYSPARK_PYTHON", variable)
    conf = SimpleNamespace(get=lambda _, usual: chosen or usual)
    context = SimpleNamespace(master=master, pythonExec=at_start, getConf=lambda: conf)
    use_this_interpreter(context)
    assert context.pythonExec == expected
