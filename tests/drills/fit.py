"""A program with the estimator, as a process that a drill kills: see :mod:`tests.drills.driver`.

``python -m tests.drills.fit RATINGS CHECKPOINTS OUTPUT`` fits three models on a csv file with a
checkpoint directory: one alone, whose factors are shuffled, and two together, whose factors are
broadcast. What came of them goes into a JSON file, in one step.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession

from als_spark import ALS, ALSModel

PARTITIONS = 2
LINE = "%(asctime)s %(message)s"
"""As the jobs write theirs, so that a drill reads both alike."""


def main(argv: list[str] | None = None) -> int:
    """Fit, and write what came of it."""
    ratings, checkpoints, output = sys.argv[1:] if argv is None else argv
    logging.basicConfig(level=logging.INFO, format=LINE, datefmt="%H:%M:%S", stream=sys.stderr)
    log = logging.getLogger("tests.drills.fit")
    logging.getLogger("py4j").setLevel(logging.ERROR)
    builder = SparkSession.builder.appName("als_spark drill")
    session = builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    try:
        session.sparkContext.setLogLevel("OFF")
        session.sparkContext.setCheckpointDir(checkpoints)
        frame = frame_of(session, ratings)
        log.info("training ...")
        found = fit_all(frame)
        log.info("writing results ...")
        target = Path(output)
        written = target.with_name(f"{target.name}.tmp")
        written.write_text(json.dumps(found), encoding="utf-8")
        os.replace(written, target)
    finally:
        session.stop()
    return 0


def frame_of(session: SparkSession, ratings: str) -> DataFrame:
    """Read ratings, in as many partitions each time."""
    frame = session.read.csv(ratings, header=True, inferSchema=True)
    frame = frame.selectExpr("userId AS user", "movieId AS item", "rating")
    frame = frame.repartition(PARTITIONS, "user").cache()
    frame.count()
    return frame


def fit_all(frame: DataFrame) -> list[dict[str, Any]]:
    """Return what comes of the three models."""
    als = ALS(rank=6, maxIter=24, seed=1, regParam=0.1, checkpointInterval=2)
    models = [als.setExchange("shuffle").fit(frame)]
    als.setExchange("broadcast")
    models += als.fit(frame, [{als.rank: 3}, {als.regParam: 0.4, als.implicitPrefs: True}])
    return [record_of(model) for model in models]


def record_of(model: ALSModel) -> dict[str, Any]:
    """Return all that must be the same, whatever has happened on the way."""
    digest = hashlib.sha256()
    for side in model.side_factors:
        digest.update(json.dumps(side.ids.to_pylist()).encode())
        digest.update(np.ascontiguousarray(side.factors).tobytes())
    history = [(record.objective, record.change) for record in model.summary.iterations]
    return {"factors": digest.hexdigest(), "history": history}


if __name__ == "__main__":
    sys.exit(main())
