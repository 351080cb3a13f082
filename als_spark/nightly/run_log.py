"""The account of a run on a model store: begun at once, ended whatever happens."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from als_spark.errors import StoreLocked, UserError
from als_spark.files.writable import full_disk
from als_spark.nightly.run_record import RunRecord, read_records, rounded_seconds
from als_spark.nightly.tracking import log_run
from als_spark.report.figures.drawing import png_of
from als_spark.report.figures.learning import learning_figure, training_of
from als_spark.report.figures.quality import quality_picture
from als_spark.report.figures.samples import sampling_figure
from als_spark.report.pages.retrain import retrain_page
from als_spark.report.progress import ProgressReporter
from als_spark.store.history import DIED, new_run_id
from als_spark.store.layout import RUNS
from als_spark.store.store import ModelStore

Outcome = Literal[
    "published",
    "unchanged",
    "kept",
    "data_check_failed",
    "locked",
    "bad_input",
    "interrupted",
    "failed",
]
"""How a run on a store can end."""
HISTORY_PICTURE = "history.png"
REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class Tracking:
    """Where runs are logged: the address of an MLflow server or folder, and the experiment."""

    uri: str
    experiment: str


def new_record(job: str, config: Mapping[str, Any], versions: Mapping[str, Any]) -> RunRecord:
    """Return the record of a run that begins now."""
    return RunRecord(new_run_id(), job, _now(), config, versions)


class RunNotes:
    """What is known of a run, and who is told.

    Attributes
    ----------
    record : RunRecord
        What is known so far; replace it as more is.
    progress : ProgressReporter
        Has the seconds of each phase.
    say : callable
        Puts a message of the library, which names parameters, into the words of the run's caller.
    """

    def __init__(
        self, record: RunRecord, progress: ProgressReporter, say: Callable[[str], str] = str
    ) -> None:
        self.record = record
        self.progress = progress
        self.say = say

    def add_warning(self, text: str) -> None:
        """Tell something that somebody should read in the morning."""
        text = self.say(text)
        self.record = replace(self.record, warnings=(*self.record.warnings, text))
        self.progress.write(f"warning: {text}")


class RunLog(RunNotes):
    """The record of a run, its report, and its line in the store's history.

    Parameters
    ----------
    store, record, progress, say
        ``record`` is of :func:`new_record`; ``say`` also speaks in the report.
    ttl : timedelta
        Time to live of the lock.
    exit_codes : mapping of outcome to int
        What the run's process tells the scheduler.
    shield : callable
        A context manager in which Ctrl-C and SIGTERM are not heard.
    tracking : Tracking, optional
    """

    def __init__(
        self,
        store: ModelStore,
        record: RunRecord,
        progress: ProgressReporter,
        *,
        ttl: timedelta,
        exit_codes: Mapping[Outcome, int],
        shield: Callable[[], AbstractContextManager[object]],
        say: Callable[[str], str] = str,
        tracking: Tracking | None = None,
    ) -> None:
        super().__init__(record, progress, say)
        self.pictures: dict[str, bytes] = {}
        """For the report; more are added at the end."""
        self.store = store
        self.lock = store.lock(record.run, ttl=ttl)
        self._exit_codes = exit_codes
        self._shield = shield
        self._tracking = tracking
        self._clock = time.perf_counter()

    @property
    def run(self) -> str:
        """Id of the run."""
        return self.record.run

    @property
    def exit_code(self) -> int:
        """The exit code of the outcome."""
        assert self.record.exit_code is not None
        return self.record.exit_code

    def end(self, outcome: Outcome, sentence: str) -> None:
        """Say how the run has ended."""
        self.record = replace(
            self.record,
            outcome=outcome,
            exit_code=self._exit_codes[outcome],
            sentence=self.say(sentence),
        )

    def past_runs(self) -> list[RunRecord]:
        """Return the records of the finished runs, oldest first; warn of damaged lines."""
        records, problems = read_records(self.store.history.read_history())
        for problem in problems:
            if problem not in self.record.warnings:
                self.add_warning(problem)
        return records

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Begin the record, hold the lock for the block, and end the record whatever happens.

        An exception of the block goes on. The store's history and its picture are brought up to
        date at both ends. Ctrl-C and SIGTERM are not heard while the record is being ended.

        Raises
        ------
        StoreLocked
            If another run holds the lock; that too is recorded.
        """
        self.store.history.start_run(self.run, self.record.as_dict())
        self.progress.on_phase = self._note_phase
        try:
            self.lock.acquire()
        except BaseException as error:
            self._fail(error)
            raise
        try:
            try:
                self._tell_of_the_dead(self._gather())
                yield
            except BaseException as error:
                with self._shield():
                    self._fail(error)
                if isinstance(error, KeyboardInterrupt):
                    raise KeyboardInterrupt(self.record.sentence) from error
                raise
            with self._shield():
                self._finish()
        finally:
            with self._shield():
                # The run is over either way; what the history lacks, the next run adds.
                with suppress(Exception):
                    self.lock.check()
                    self._gather()
                self.lock.release()

    def _note_phase(self, name: str) -> None:
        """Keep what is known so far, for the case that the run is killed."""
        self.record = replace(self.record, phase=name)
        # What fails here fails again where it matters.
        with suppress(Exception):
            self.store.history.note_run(self.run, self.record.brief.as_dict())

    def _gather(self) -> list[RunRecord]:
        """Bring history and picture up to date; return the records that are new or changed."""
        history = self.store.history
        changed = set(history.gather(running=[self.run], published=self._published()))
        if history.n_damaged:
            lines = "line" if history.n_damaged == 1 else "lines"
            text = f"history.jsonl: {history.n_damaged} damaged {lines} left out"
            if text not in self.record.warnings:
                self.add_warning(text)
        records = self.past_runs()
        if changed:
            with self._optional(HISTORY_PICTURE):
                self.store.files.replace(HISTORY_PICTURE, _draw_quality(records))
        return [record for record in records if record.run in changed]

    def _tell_of_the_dead(self, records: list[RunRecord]) -> None:
        """Write the reports of runs that could not do so themselves, and warn of them."""
        for record in records:
            if record.outcome == DIED:
                self.add_warning(f"run {record.run} {record.sentence}")
                with self._optional("its report"):
                    page = retrain_page(record.as_dict(), {}).encode()
                    self.store.files.replace(f"{RUNS}/{record.run}/{REPORT}", page)

    def _fail(self, error: BaseException) -> None:
        outcome, sentence = _outcome_of(error)
        version = None
        with suppress(Exception):
            version = self._published().get(self.run)
        if version is not None:
            self.record = replace(self.record, version=version)
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
            for pointer in self.store.pointers()
            if pointer.action == "publish" and pointer.version is not None
        }

    def _finish(self) -> None:
        seconds = rounded_seconds(self.progress.phase_seconds, time.perf_counter() - self._clock)
        self.record = replace(self.record, finished=_now(), seconds=seconds)
        attachments: dict[str, bytes | Path] = {}
        with self._optional("the report"):
            attachments[REPORT] = self._report().encode()
        self.store.history.finish_run(
            self.run, str(self.record.outcome), self.record.brief.as_dict(), attachments
        )

    def _report(self) -> str:
        record = self.record.as_dict()
        if self.record.training is not None:
            with self._optional("the learning curve"):
                self.pictures |= _draw_training(record["training"])
        with self._optional("the picture of the history"):
            self.pictures["quality.png"] = _draw_quality([*self.past_runs(), self.record])
        page = retrain_page(self.record.as_dict(), self.pictures)
        if self._tracking is not None and self.record.training is not None:
            problem = self._track(self._tracking, page)
            if problem:
                self.add_warning(problem)
                page = retrain_page(self.record.as_dict(), self.pictures)
        return page

    @contextmanager
    def _optional(self, what: str) -> Iterator[None]:
        """Go on without a report or picture: its failure is a warning."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever drawing may run into
            self.add_warning(f"{what} could not be made ({type(error).__name__}: {error})")

    def _track(self, tracking: Tracking, page: str) -> str | None:
        record, comparison = self.record, self.record.comparison
        metrics = {
            f"{role}_{name}": value
            for role, found in (("challenger", record.challenger), ("champion", record.champion))
            for name, value in (found or {}).items()
        }
        training = record.brief.as_dict()["training"]
        with tempfile.TemporaryDirectory(prefix="als_spark-") as name:
            report = Path(name) / REPORT
            report.write_text(page, encoding="utf-8")
            return log_run(
                tracking.uri,
                tracking.experiment,
                self.run,
                {**record.config, "training": training},
                metrics,
                {
                    "outcome": str(record.outcome),
                    "version": str(record.version),
                    "verdict": str(None if comparison is None else comparison.verdict),
                },
                report,
            )


def _draw_training(training: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw how a training went: a picture by its file name."""
    if training.get("samples") is not None:
        return {"samples.png": png_of(sampling_figure(training))}
    return {"learning.png": png_of(learning_figure([training_of(training)]))}


def _draw_quality(records: list[RunRecord]) -> bytes:
    return quality_picture([record.as_dict() for record in records])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _outcome_of(error: BaseException) -> tuple[Outcome, str]:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, StoreLocked):
        return "locked", text
    if isinstance(error, UserError):
        return "bad_input", text
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "stopped by a signal"
    if full := full_disk(error):
        return "bad_input", full
    return "failed", f"{type(error).__name__}: {text}"
