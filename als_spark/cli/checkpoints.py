"""The checkpoint of a job: what it is of, and where."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

import als_spark
from als_spark.cli.config.checkpoint import CheckpointConfig
from als_spark.cli.config.settings import config_record
from als_spark.cli.paths import place_is_usage
from als_spark.files.places import local_path
from als_spark.spark.store_files import files_at
from als_spark.spark.train.run import PreparedRatings
from als_spark.store.checkpoint import CheckpointFolder
from als_spark.store.files import LocalFiles
from als_spark.train.records import ModelSpec
from als_spark.types import SIDES

UNDECIDING = {
    *("checkpoint", "checkpoint_every", "restart", "output", "store", "keep", "lock_minutes"),
    *("mlflow", "mlflow_experiment"),
}
"""Options that change nothing in what is trained."""


def open_checkpoint(session: SparkSession, config: CheckpointConfig) -> CheckpointFolder | None:
    """Open the folder of ``--checkpoint``, before any work is done; None where it is not given.

    Raises
    ------
    ConfigError
        If it cannot be used, or is of another training.
    DataError
        If it is damaged.
    """
    if config.checkpoint is None:
        return None
    label, local = f"--checkpoint {config.checkpoint}", local_path(config.checkpoint)
    files = files_at(session, config.checkpoint) if local is None else LocalFiles(local)
    folder = CheckpointFolder(files, label.rstrip("/"), config.interval)
    with place_is_usage("--checkpoint", config.checkpoint):
        folder.check(_identity(config), restart=config.restart)
    return folder


def begin_checkpoint(
    folder: CheckpointFolder,
    config: CheckpointConfig,
    prepared: PreparedRatings,
    specs: Sequence[ModelSpec],
) -> list[str]:
    """Take up what the folder has; return what to tell people.

    Raises
    ------
    ConfigError
        If the ratings have changed.
    DataError
        If it is damaged.
    """
    models = [{"rank": spec.rank, **spec.objective.as_record()} for spec in specs]
    data = {**_data_record(prepared), "models": models}
    plan = prepared.plan
    placed = {
        "placement": plan.placement,
        "blocks": plan.n_blocks,
        "exchange": dict(plan.exchange),
    }
    assert config.checkpoint is not None
    with place_is_usage("--checkpoint", config.checkpoint):
        words = folder.begin(_identity(config), data, placed)
        running = folder.running()
    if not running and not folder.n_finished:
        return words
    done = f"{folder.n_finished} of {len(specs)} points were done"
    if not running:
        return [*words, f"resumed: {done}"]
    last = max(running, key=lambda state: state.iterations)
    objective = last.spec.objective
    where = f"resumed at iteration {last.iterations} of d={last.spec.rank} λ={objective.reg:g}"
    more = f" and {len(running) - 1} more" if len(running) > 1 else ""
    return [*words, f"{where}{more}; {done}"]


def _identity(config: CheckpointConfig) -> dict[str, Any]:
    fields = config_record(config).items()
    return {
        "job": config.command,
        "version": als_spark.__version__,
        "config": {name: value for name, value in fields if name not in UNDECIDING},
    }


def _data_record(prepared: PreparedRatings) -> dict[str, Any]:
    """Tell ratings, and which of them are trained on, from others."""
    digest = hashlib.sha256()
    for side in SIDES:
        stats = prepared.stats[side]
        digest.update(stats.degrees.astype(np.int64).tobytes())
        # The last bits of a sum depend on the order of its parts.
        digest.update(stats.sums.astype(np.float32).tobytes())
    summary = prepared.summary
    return {
        "users": len(summary.users),
        "items": len(summary.items),
        "parts": dict(prepared.n_ratings),
        "duplicates": prepared.n_duplicates,
        "fingerprint": summary.fingerprint,
        "histogram": [bar.as_record() for bar in summary.histogram],
        "training": digest.hexdigest(),
    }
