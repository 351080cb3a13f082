"""``jobs/train.py``: one model, into a model store or a folder."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from als_spark.cli.batch_options import TRAIN
from als_spark.cli.config.batch import Spec, TrainConfig
from als_spark.cli.fitting import (
    cold_start,
    fit,
    make_ready,
    measure,
    training_record,
    training_settings,
    write_version,
)
from als_spark.cli.program import EXIT_DONE, exits_if_locked, run_program
from als_spark.cli.run_log import RunLog
from als_spark.cli.spark_job import (
    all_versions,
    open_ratings,
    refuse_bad_rows,
    rounded_seconds,
    spark_job,
    unwritable_is_usage,
)
from als_spark.cli.stored import permission_is_usage, store_of
from als_spark.cli.tracking import check_tracking, config_record
from als_spark.errors import ConfigError
from als_spark.model.files import check_replaceable, local_path, write_json
from als_spark.report.progress import ProgressReporter
from als_spark.spark.output import output_folder
from als_spark.spark.read.snapshot import read_snapshot
from als_spark.spark.read.sources import unreadable_files_are_named

RUN_FILE = "run.json"

logger = logging.getLogger("als_spark.train")


def main(argv: Sequence[str] | None = None) -> int:
    """Train a model.

    Parameters
    ----------
    argv : sequence of str, optional
        Options; those of the process if not given.

    Returns
    -------
    int
        0 done; 2 the input or an option is unusable; 5 another run is at work on the store; 130
        stopped by Ctrl-C or SIGTERM; 1 anything else.
    """
    work = exits_if_locked("train", lambda: _run(TRAIN.parse(argv)))
    return run_program("train", work, "stopped; nothing was published or written")


def _run(config: TrainConfig) -> int:
    if config.mlflow is not None:
        check_tracking(config.mlflow)
    spec = config.spec(None if config.from_sweep is None else best_of_sweep(config.from_sweep))
    if config.output is not None and (folder := local_path(config.output)) is not None:
        with unwritable_is_usage("--output", config.output):
            check_replaceable(folder, RUN_FILE)
    with ProgressReporter(1, logger=logger) as progress, spark_job("train", progress) as job:
        if config.output is not None:
            words = _into_folder(config, spec, job.session, progress)
        else:
            words = _into_store(config, spec, job.session, progress)
    print(words)
    return EXIT_DONE


def best_of_sweep(folder: str) -> Spec:
    """Return the best point of a sweep's output folder.

    Raises
    ------
    ConfigError
        If the folder holds no results of a sweep.
    """
    path = local_path(folder)
    try:
        if path is None:
            raise OSError("only folders of this machine are read")
        records = json.loads((path / "results.json").read_text(encoding="utf-8"))
        run = json.loads((path / "run.json").read_text(encoding="utf-8"))
        best = next(record for record in records if record["best"])
        return Spec(int(best["d"]), float(best["lambda_reg"]), float(run["config"]["exponent"]))
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        reason = " ".join(str(error).split()) or "no point is marked as the best"
        raise ConfigError(
            f"--from-sweep {folder}: no results of a sweep there ({reason}): give the output "
            "folder of jobs/sweep.py, with results.json and run.json in it"
        ) from error


def _into_folder(
    config: TrainConfig, spec: Spec, session: SparkSession, progress: ProgressReporter
) -> str:
    assert config.output is not None
    with ExitStack() as stack:
        with unwritable_is_usage("--output", config.output):
            staged = stack.enter_context(output_folder(session, config.output, RUN_FILE))
        trained = _Trained(config, spec, session, progress)
        trained.write(staged.content)
        run = {
            **trained.facts,
            "config": config_record(config),
            "seconds": rounded_seconds(
                progress.phase_seconds, sum(progress.phase_seconds.values())
            ),
        }
        write_json(staged.content / RUN_FILE, run)
    return f"{trained.sentence}\nThe model is in {config.output.rstrip('/')}."


def _into_store(
    config: TrainConfig, spec: Spec, session: SparkSession, progress: ProgressReporter
) -> str:
    assert config.store is not None
    with permission_is_usage("--store", config.store), ExitStack() as stack:
        store = store_of(session, config.store)
        log = RunLog(store, "train", config, progress)
        lock = store.lock(log.run, ttl=timedelta(minutes=config.lock_minutes))
        stack.enter_context(log.recorded(lock))
        store.recover()
        based_on, previous = store.pointer_number(), store.current()
        trained = _Trained(config, spec, session, progress)
        log.record |= trained.facts
        with tempfile.TemporaryDirectory(prefix="als_spark-") as name, progress.phase("publishing"):
            trained.write(Path(name))
            version = store.publish(Path(name), run=log.run, expected=based_on, check=lock.check)
            store.prune(config.keep, check=lock.check)
        log.record |= {"version": version, "previous_version": previous}
        log.end("published", f"published {version}: {trained.sentence}")
    return f"{trained.sentence}\nPublished as version {version} of {config.store}."


class _Trained:
    """A model trained and measured, with what is told of it."""

    def __init__(
        self, config: TrainConfig, spec: Spec, session: SparkSession, progress: ProgressReporter
    ) -> None:
        self._config = config
        self._versions = all_versions(session)
        with progress.phase("looking at the ratings"):
            source = open_ratings(
                session,
                config,
                config.ratings,
                config.table,
                need_timestamp=config.split == "time" or config.duplicates == "last",
            )
        with ExitStack() as stack:
            stack.enter_context(unreadable_files_are_named(source.label))
            with progress.phase("reading and checking ratings"):
                reading = read_snapshot(session, [source], config.duplicates)
                snapshot = stack.enter_context(reading)
            refuse_bad_rows(snapshot, config.bad_rows)
            for doubt in snapshot.warnings:
                progress.write(f"warning: {doubt}")
            ready = make_ready(session, snapshot, spec.rank, config, progress, stack)
            with progress.phase("training"):
                start = cold_start("a model of its own")
                self.fitted = fit(session, ready.prepared, spec, config, start, progress)
            self._metrics: dict[str, Any] = {}
            if ready.prepared.n_ratings.get("test", 0):
                with progress.phase("evaluating"):
                    found = measure(session, ready, {"model": self.fitted.model}, config)
                self._metrics = dict(found["model"].metrics)
            self._data = ready.facts
        self.facts = {
            "source": {"label": snapshot.label},
            "data": {
                **self._data.as_record(),
                "bad_rows": snapshot.n_bad,
                "duplicates": snapshot.n_duplicates,
            },
            "settings": training_settings(config, spec),
            "training": training_record(self.fitted),
            "challenger": self._metrics or None,
            "versions": self._versions,
        }

    @property
    def sentence(self) -> str:
        """What came out, for people."""
        result, model = self.fitted.result, self.fitted.model
        ended = "converged" if result.converged else "stopped by the cap"
        rmse, n = self._metrics.get("rmse"), self._metrics.get("count")
        measured = "" if rmse is None else f", RMSE {rmse:.4f} on {n:,} held-out ratings"
        return (
            f"d={result.rank}, lambda={result.reg:g}, exponent={model.description['exponent']:g}: "
            f"{ended} after {result.iterations} iterations{measured}"
        )

    def write(self, folder: Path) -> None:
        """Write the model with all that is kept of it."""
        write_version(
            folder,
            self.fitted.model,
            metrics={
                "held_out": self._metrics or None,
                "train": self.fitted.result.as_record(),
            },
            fingerprint=self._data.as_record(),
            config=config_record(self._config),
            versions=self._versions,
        )
