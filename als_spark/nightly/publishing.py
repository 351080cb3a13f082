"""A trained model with the record of its run, as a version of a store has it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from als_spark.files.json_files import write_json
from als_spark.model.files import BEFORE_REFIT, save_refitted
from als_spark.model.intervals import IntervalModel, save_intervals
from als_spark.model.large_model import AnyModel
from als_spark.nightly.fitting import Fitted
from als_spark.nightly.run_log import RunLog
from als_spark.nightly.run_record import RunRecord


def write_version(folder: Path, fitted: Fitted, record: RunRecord) -> None:
    """Write a model with all that a version of a store keeps of its run.

    Of a model that was refitted, the one that was measured is kept beside it: the next challenger
    starts there and is compared with it, on ratings that neither was trained on.
    """
    write_models(
        *(folder, fitted.model, fitted.intervals, fitted.refitted, fitted.refitted_intervals)
    )
    for name, content in record.version_files.items():
        if name == "metrics.json":
            content = {**content, "train": fitted.result.as_record()}
        write_json(folder / name, content)


def write_models(
    folder: Path,
    model: AnyModel,
    intervals: IntervalModel | None,
    refitted: AnyModel | None,
    refitted_intervals: IntervalModel | None,
) -> None:
    """Write a model, or the refitted one with the model beside it; each with its intervals."""
    save_refitted(model, refitted, folder)
    if intervals is not None and refitted is None:
        save_intervals(intervals, folder)
    elif intervals is not None and refitted_intervals is not None:
        save_intervals(refitted_intervals, folder)
        save_intervals(intervals, folder / BEFORE_REFIT)


def publish(log: RunLog, fitted: Fitted, expected: int, keep: int) -> str:
    """Publish a model as the version after pointer ``expected``; ``keep`` versions stay."""
    store, check = log.store, log.lock.check
    with (
        tempfile.TemporaryDirectory(prefix="als_spark-") as name,
        log.progress.phase("publishing"),
    ):
        write_version(Path(name), fitted, log.record)
        version = store.publish(Path(name), run=log.run, expected=expected, check=check)
        log.record = replace(log.record, version=version)
        pruned = store.prune(keep, check=check)
    if pruned:
        log.progress.write(f"removed old versions: {', '.join(pruned)}")
    return version
