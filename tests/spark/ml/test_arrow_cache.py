"""A session that caches DataFrames as Arrow, of several batches a partition, is used as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.spark.session import QUICK_START

PROGRAM = """
import json
from pyspark.sql import SparkSession
from als_spark import ALS
from tests.conftest import random_triples

session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
serializer = "org.apache.spark.sql.execution.columnar.ArrowCachedBatchSerializer"
spark = (
    session.config("spark.sql.cache.serializer", serializer)
    .config("spark.sql.inMemoryColumnarStorage.batchSize", "50")
    .config("spark.sql.execution.arrow.pythonUDF.columnarInput.enabled", "true")
    .getOrCreate()
)
drawn = random_triples(seed=3)
columns = (part.tolist() for part in drawn[:3])
plain = spark.createDataFrame([*zip(*columns)], "user int, item int, rating double").coalesce(2)
kept = plain.cache()
assert kept.count() == 400
again = spark.createDataFrame(kept.collect(), kept.schema).coalesce(2)
found = []
for frame in (kept, again):
    als = ALS(rank=3, maxIter=3, seed=1)
    model = als.fit(frame)
    predicted = model.transform(frame)
    rows = sorted((row.user, row.item, round(row.prediction, 4)) for row in predicted.collect())
    best = sorted(
        (row.user, [one.item for one in row.recommendations])
        for row in model.recommendForUserSubset(frame, 3).collect()
    )
    found.append([rows, best])
print(json.dumps(found))
"""


@pytest.mark.slow
def test_the_estimator_and_its_model(tmp_path: Path) -> None:
    environment = {**os.environ, **QUICK_START, "PYTHONPATH": str(ROOT)}
    environment["PYSPARK_PYTHON"] = sys.executable
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    kept, again = json.loads(done.stdout.splitlines()[-1])
    assert len(kept[0]) == 400
    assert kept == again
