"""What every job on Spark does: its session, Ctrl-C, its sources, what it tells of its data."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pyspark.sql import DataFrame, SparkSession

import als_spark
from als_spark.cli.config.ratings import RatingsConfig
from als_spark.cli.config.settings import JobConfig, in_options
from als_spark.cli.interrupts import Interrupted, StopFlag, stop_on_signals
from als_spark.cli.launch import prepare_launch
from als_spark.cli.spark_paths import Opener, check_files_read, check_output, open_output
from als_spark.cli.waiting import executors_awaited
from als_spark.errors import DataError
from als_spark.files.outputs import Kind
from als_spark.nightly.run_record import rounded_seconds
from als_spark.report.overview import run_lines
from als_spark.report.progress import ProgressReporter
from als_spark.spark.read.bad_rows import noun, refuse_bad_rows
from als_spark.spark.read.facts import TableVersion
from als_spark.spark.read.id_lists import ListedIds
from als_spark.spark.read.new_users import NewRatings
from als_spark.spark.read.seen import KnownIds, SeenPairs, read_seen
from als_spark.spark.read.sources import Source, SourceOptions, read_source
from als_spark.spark.session import described, quiet_spark, start_session, versions
from als_spark.spark.train.run import PreparedRatings
from als_spark.types import BadRows

T = TypeVar("T")


class SparkJob(NamedTuple):
    """A job that has its session."""

    session: SparkSession
    stop: StopFlag
    """Set by Ctrl-C and SIGTERM."""
    progress: ProgressReporter
    began: datetime
    clock: float
    """Of ``time.perf_counter()``, when it began."""
    when_written: list[Callable[[], None]]
    """Called once the output is in its place."""

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each phase, and of the whole until now."""
        return rounded_seconds(self.progress.phase_seconds, time.perf_counter() - self.clock)


@contextmanager
def job_with_output(
    kind: Kind, config: JobConfig, output: str, folder: Opener[T], n_points: int = 1
) -> Iterator[tuple[SparkJob, T]]:
    """Run a job whose results take the place of its output folder when the block ends.

    ``folder`` opens it: :func:`als_spark.spark.output.output_folder`, or ``spark_output`` there.
    """
    check_output(output, kind)
    with (
        job_progress(kind, n_points) as progress,
        spark_job(kind, progress) as job,
    ):
        with open_output(job.session, config, output, kind, folder) as target:
            yield job, target
        for finish in job.when_written:
            finish()


def job_progress(name: str, n_points: int = 1) -> ProgressReporter:
    """Return what shows the progress of a job, in its own log."""
    return ProgressReporter(n_points, logger=logging.getLogger(f"als_spark.{name}"))


@contextmanager
def spark_job(name: str, progress: ProgressReporter) -> Iterator[SparkJob]:
    """Start Spark for a job, or take the session that is there; Ctrl-C and SIGTERM then stop it.

    The flag of the signals is read at every phase and every iteration that ``progress`` is told.
    """
    began, clock = datetime.now(UTC), time.perf_counter()
    with stop_on_signals() as stop, ExitStack() as stack:
        with progress.phase("starting Spark"):
            session = stack.enter_context(job_session(name))
        stop.attach(session.sparkContext.cancelAllJobs)
        stack.enter_context(
            executors_awaited(session, lambda words: progress.write(f"warning: {words}"))
        )
        progress.checkpoint = stop.check
        try:
            stop.check()
            yield SparkJob(session, stop, progress, began, clock, [])
        except Exception as error:
            # A call that was cancelled, or whose JVM the signal has ended too.
            if stop.requested:
                raise Interrupted from error
            raise
        finally:
            stop.acknowledge()


@contextmanager
def job_session(name: str) -> Iterator[SparkSession]:
    """Start a session, and stop it after the block; or take the one that is there."""
    ours = SparkSession.getActiveSession() is None
    if ours:
        prepare_launch()
    session = start_session(f"als_spark {name}")
    try:
        if ours:
            quiet_spark(session)
        yield session
    finally:
        if ours:
            # After Ctrl-C there may be no JVM to answer.
            with suppress(Exception):
                session.stop()


def open_ratings(
    session: SparkSession,
    config: RatingsConfig,
    path: str | None,
    table: str | None = None,
    *,
    need_timestamp: bool,
    need_rating: bool = True,
) -> Source:
    """Open a source of ratings with the columns and the format that a configuration names."""
    options = config.source(path, table, timestamp=need_timestamp, rating=need_rating)
    return open_source(config, session, options)


def open_source(config: JobConfig, session: SparkSession, options: SourceOptions) -> Source:
    """Open a source, none of whose files may lie in what the job writes."""
    source = read_source(session, options)
    for part in source.parts:
        check_files_read(session, config, part.frame, source.label)
    return source


def tell_source(progress: ProgressReporter, source: Source) -> None:
    """Tell how a source was understood."""
    for line in source.words:
        progress.write(line)


def tables_record(versions: Sequence[TableVersion | None]) -> dict[str, Any]:
    """Return the member ``tables`` of a run's record; none where no source has versions."""
    found = [asdict(version) for version in dict.fromkeys(versions) if version is not None]
    return {"tables": found} if found else {}


def all_versions(session: SparkSession) -> dict[str, Any]:
    """Versions of the package and of what a run's result may depend on."""
    return {"als_spark": als_spark.__version__, **versions(session)}


def data_facts(prepared: PreparedRatings) -> dict[str, Any]:
    """Sizes and range of prepared ratings, for the files of a run."""
    summary = prepared.summary
    return {
        "users": len(summary.users),
        "items": len(summary.items),
        "ratings": dict(prepared.n_ratings),
        "bad_rows_dropped": summary.bad.counts,
        "duplicate_pairs": prepared.n_duplicates,
        "changed_ids": dict(summary.changed.counts),
        "warnings": [*summary.changed.lines, *summary.odd_ids],
        "lowest_rating": summary.lowest,
        "highest_rating": summary.highest,
        **summary.as_record(),
    }


def tell_data(progress: ProgressReporter, prepared: PreparedRatings, duplicates: str) -> None:
    """Tell the sizes of prepared ratings, and what was dropped or resolved."""
    summary = prepared.summary
    parts = ", ".join(f"{count:,} {part}" for part, count in prepared.n_ratings.items())
    progress.write(f"{len(summary.users):,} users, {len(summary.items):,} items, ratings: {parts}")
    extremes = summary.lowest, summary.highest
    for line in run_lines(summary.as_record(), summary.first_rows, *extremes):
        progress.write(line)
    for problem, count in summary.bad.counts.items():
        progress.write(f"dropped {count:,} rows: {problem}")
    for words in (*summary.changed.lines, *summary.odd_ids):
        progress.write(f"warning: {words}")
    if prepared.n_duplicates:
        progress.write(
            f"{prepared.n_duplicates:,} pairs were rated more than once: took the {duplicates}"
        )


def write_rejected(session: SparkSession, rejected: DataFrame, folder: Path) -> None:
    """Write dropped rows, ``rejected/rejected.jsonl``, into a folder on this machine.

    They are streamed through the driver: they may be many, and the folder is the driver's.
    """
    folder = folder / "rejected"
    folder.mkdir()
    with (
        (folder / "rejected.jsonl").open("w", encoding="utf-8") as file,
        described(session.sparkContext, "setting bad rows aside"),
    ):
        for row in rejected.toLocalIterator():
            record = {"problem": row.problem, "row": row.raw}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def open_seen(
    session: SparkSession,
    source: Source,
    known: KnownIds,
    bad_rows: BadRows,
    progress: ProgressReporter,
) -> SeenPairs:
    """Read the pairs that are not to be recommended; tell how many they are."""
    seen = read_seen(session, source, known)
    refuse_bad_rows(seen.label, seen.bad, bad_rows)
    tell_rows(progress, seen)
    unknown = seen.n_pairs - seen.n_known
    progress.write(
        f"{seen.n_pairs:,} pairs in {seen.label} are not recommended"
        + (f"; {unknown:,} of them are of unknown users or items" if unknown else "")
    )
    return seen


def tell_rows(progress: ProgressReporter, read: SeenPairs | NewRatings | ListedIds) -> None:
    """Tell of the unusable rows that were left out, and of ids that are not as they were written.

    Nothing is told where there are none.
    """
    if read.bad.n:
        progress.write(
            f"{read.label}: left out {read.bad.n:,} unusable {noun(read.bad.n)}: {read.bad}"
        )
    for words in read.changed.lines:
        progress.write(f"{read.label}: {words}")


def warn_of_no_effect(progress: ProgressReporter, words: str | None, *, strict: bool) -> list[str]:
    """Tell of an input that has no effect, or stop; return what is told, for the files of a run.

    Raises
    ------
    DataError
        If it is to be strict.
    """
    if words is None:
        return []
    if strict:
        raise DataError(words)
    progress.write(f"warning: {in_options(words)}")
    return [words]


def unknown_pairs(seen: SeenPairs) -> str | None:
    """Say so if the model knows none of the pairs that are not to be recommended."""
    if seen.n_known:
        return None
    return (
        f"{seen.label}: none of its {seen.n_pairs:,} pairs is of a user and an item that the model "
        "knows: give pairs with the ids that the model was trained on"
    )
