"""The account of a run on a model store: begun at once, ended whatever happens."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import als_spark
from als_spark.cli.config.batch import ModelConfig
from als_spark.cli.program import (
    EXIT_DATA_CHECK,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_KEPT,
    EXIT_LOCKED,
    EXIT_USAGE,
    Interrupted,
    interrupts_wait,
)
from als_spark.cli.spark_job import rounded_seconds
from als_spark.cli.tracking import config_record, log_run
from als_spark.errors import StoreLocked, UserError
from als_spark.report.figures.drawing import png_of
from als_spark.report.figures.learning import learning_figure, training_of
from als_spark.report.figures.quality import quality_picture
from als_spark.report.pages.retrain import retrain_page
from als_spark.report.progress import ProgressReporter
from als_spark.store.history import DIED, new_run_id
from als_spark.store.layout import RUNS
from als_spark.store.lock import StoreLock
from als_spark.store.store import ModelStore

EXIT_CODES = {
    "published": EXIT_DONE,
    "unchanged": EXIT_DONE,
    "kept": EXIT_KEPT,
    "data_check_failed": EXIT_DATA_CHECK,
    "locked": EXIT_LOCKED,
    "bad_input": EXIT_USAGE,
    "interrupted": EXIT_INTERRUPTED,
    "failed": EXIT_FAILED,
}
"""How a run on a store can end, and what its process then tells the scheduler."""
HISTORY_PICTURE = "history.png"
REPORT = "report.html"


class RunLog:
    """The record of a run, its report, and its line in the store's history.

    Parameters
    ----------
    store : ModelStore
    job : str
        Name of the job.
    config : ModelConfig
    progress : ProgressReporter
        Has the seconds of each phase.

    Attributes
    ----------
    run : str
        Id of the run.
    record : dict
        What is known so far, as the report takes it; fill it in.
    pictures : dict of str to bytes
        For the report; more are added at the end.
    """

    def __init__(
        self, store: ModelStore, job: str, config: ModelConfig, progress: ProgressReporter
    ) -> None:
        self._store = store
        self._config = config
        self._progress = progress
        self._clock = time.perf_counter()
        self.run = new_run_id()
        self.pictures: dict[str, bytes] = {}
        self.record: dict[str, Any] = {
            "run": self.run,
            "job": job,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "warnings": [],
            "config": config_record(config),
            "versions": {"als_spark": als_spark.__version__},
        }

    def add_warning(self, text: str) -> None:
        """Tell something that somebody should read in the morning."""
        self.record["warnings"].append(text)
        self._progress.write(f"warning: {text}")

    def end(self, outcome: str, sentence: str) -> None:
        """Say how the run has ended."""
        self.record |= {
            "outcome": outcome,
            "exit_code": EXIT_CODES[outcome],
            "sentence": sentence,
        }

    @contextmanager
    def recorded(self, lock: StoreLock) -> Iterator[None]:
        """Begin the record, hold the lock for the block, and end the record whatever happens.

        An exception of the block goes on. The store's history and its picture are brought up to
        date at both ends. Ctrl-C and SIGTERM are not heard while the record is being ended.

        Raises
        ------
        StoreLocked
            If another run holds the lock; that too is recorded.
        """
        self._store.history.start_run(self.run, self.record)
        self._progress.on_phase = self._note_phase
        try:
            lock.acquire()
        except BaseException as error:
            self._fail(error)
            raise
        try:
            try:
                self._tell_of_the_dead(self._gather())
                yield
            except BaseException as error:
                with interrupts_wait():
                    self._fail(error)
                if isinstance(error, KeyboardInterrupt):
                    raise Interrupted(str(self.record["sentence"])) from error
                raise
            with interrupts_wait():
                self._finish()
        finally:
            with interrupts_wait():
                # The run is over either way; what the history lacks, the next run adds.
                with suppress(Exception):
                    lock.check()
                    self._gather()
                lock.release()

    def _note_phase(self, name: str) -> None:
        """Keep what is known so far, for the case that the run is killed."""
        self.record["phase"] = name
        # What fails here fails again where it matters.
        with suppress(Exception):
            self._store.history.note_run(self.run, _brief(self.record))

    def _gather(self) -> list[dict[str, Any]]:
        """Bring history and picture up to date; return the records that are new or changed."""
        history = self._store.history
        changed = set(history.gather(running=[self.run], published=self._published()))
        records = history.read_history()
        if changed:
            with self._optional(HISTORY_PICTURE):
                self._store.files.replace(HISTORY_PICTURE, quality_picture(records))
        return [record for record in records if record["run"] in changed]

    def _tell_of_the_dead(self, records: list[dict[str, Any]]) -> None:
        """Write the reports of runs that could not do so themselves, and warn of them."""
        for record in records:
            if record.get("outcome") == DIED:
                self.add_warning(f"run {record['run']} {record['sentence']}")
                with self._optional("its report"):
                    page = retrain_page(record, {}).encode()
                    self._store.files.replace(f"{RUNS}/{record['run']}/{REPORT}", page)

    def _fail(self, error: BaseException) -> None:
        outcome, sentence = _outcome_of(error)
        version = None
        with suppress(Exception):
            version = self._published().get(self.run)
        if version is not None:
            self.record["version"] = version
            sentence += f"; before that, {version} was published"
        elif outcome == "interrupted":
            sentence += "; the store is as it was"
        self.end(outcome, sentence)
        # The first failure is the one to tell of.
        with suppress(Exception):
            self._finish()

    def _published(self) -> dict[str, str]:
        """Return the versions that runs have published, by run, as the store has them."""
        return {
            pointer.run: pointer.version
            for pointer in self._store.pointers()
            if pointer.action == "publish" and pointer.version is not None
        }

    def _finish(self) -> None:
        record = self.record
        record["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        record["seconds"] = rounded_seconds(
            self._progress.phase_seconds, time.perf_counter() - self._clock
        )
        attachments: dict[str, bytes | Path] = {}
        with self._optional("the report"):
            attachments[REPORT] = self._report().encode()
        self._store.history.finish_run(
            self.run, str(record["outcome"]), _brief(record), attachments
        )

    def _report(self) -> str:
        record = self.record
        if record.get("training"):
            with self._optional("the learning curve"):
                curve = learning_figure([training_of(record["training"])])
                self.pictures["learning.png"] = png_of(curve)
        with self._optional("the picture of the history"):
            past = self._store.history.read_history()
            self.pictures["quality.png"] = quality_picture([*past, record])
        page = retrain_page(record, self.pictures)
        if self._config.mlflow is not None and record.get("training"):
            problem = self._track(self._config.mlflow, page)
            if problem:
                self.add_warning(problem)
                page = retrain_page(record, self.pictures)
        return page

    @contextmanager
    def _optional(self, what: str) -> Iterator[None]:
        """Go on without a report or picture: what a run has done does not hang on how it looks."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever drawing may run into
            self.add_warning(f"{what} could not be made ({type(error).__name__}: {error})")

    def _track(self, uri: str, page: str) -> str | None:
        record = self.record
        comparison = record.get("comparison") or {}
        metrics = {
            f"{role}_{name}": value
            for role in ("challenger", "champion")
            for name, value in (record.get(role) or {}).items()
        }
        training = dict(record["training"])
        training.pop("history", None)
        with tempfile.TemporaryDirectory(prefix="als_spark-") as name:
            report = Path(name) / "report.html"
            report.write_text(page, encoding="utf-8")
            return log_run(
                uri,
                self._config.mlflow_experiment,
                self.run,
                {**record["config"], "training": training},
                metrics,
                {
                    "outcome": str(record["outcome"]),
                    "version": str(record.get("version")),
                    "verdict": str(comparison.get("verdict")),
                },
                report,
            )

    @property
    def exit_code(self) -> int:
        """The exit code of the outcome."""
        return int(self.record["exit_code"])


def _brief(record: dict[str, Any]) -> dict[str, Any]:
    """Leave out the training's curve: the report has it, a line of the history need not."""
    training = {k: v for k, v in (record.get("training") or {}).items() if k != "history"}
    brief: dict[str, Any] = _finite({**record, "training": training or None})
    return brief


def _finite(value: Any) -> Any:
    """Leave out what JSON has no words for: NaN and infinite numbers become null."""
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _outcome_of(error: BaseException) -> tuple[str, str]:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, StoreLocked):
        return "locked", text
    if isinstance(error, UserError):
        return "bad_input", text
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "stopped by a signal"
    return "failed", f"{type(error).__name__}: {text}"
