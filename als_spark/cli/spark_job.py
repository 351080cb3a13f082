"""What every job on Spark does: its session, Ctrl-C, its sources, what it tells of its data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

import als_spark
from als_spark.cli.config.sweep import RatingsConfig
from als_spark.cli.program import Interrupted, interrupts_raise
from als_spark.errors import ConfigError, DataError
from als_spark.report.progress import ProgressReporter
from als_spark.spark.prepare.prepared import PreparedRatings
from als_spark.spark.read.new_users import NewRatings
from als_spark.spark.read.seen import SeenPairs, read_seen
from als_spark.spark.read.snapshot import Snapshot
from als_spark.spark.read.sources import Source, SourceOptions, read_source
from als_spark.spark.session import described, quiet_spark, start_session, versions


class SparkJob(NamedTuple):
    """A job that has its session."""

    session: SparkSession
    interrupted: Callable[[], bool]
    """Whether Ctrl-C or SIGTERM came."""


@contextmanager
def spark_job(name: str, progress: ProgressReporter) -> Iterator[SparkJob]:
    """Start Spark for a job, or take the session that is there; Ctrl-C and SIGTERM then raise.

    Parameters
    ----------
    name : str
        Of the job.
    progress : ProgressReporter
        Shows the start as a phase.
    """
    with progress.phase("starting Spark"):
        ours = SparkSession.getActiveSession() is None
        session = start_session(f"als_spark {name}")
        if ours:
            quiet_spark(session)
    # Only now: a SparkContext that starts takes Ctrl-C for itself.
    with interrupts_raise() as interrupted:
        try:
            yield SparkJob(session, interrupted)
        except Exception as error:
            # What an interrupt breaks off is tidied up by calls to the JVM, and these may fail too:
            # its answer was half read.
            if interrupted():
                raise Interrupted from error
            raise
        finally:
            if ours:
                # After Ctrl-C there may be no JVM to answer.
                with suppress(Exception):
                    session.stop()


@contextmanager
def unwritable_is_usage(option: str, target: str) -> Iterator[None]:
    """Blame the option, not the program, for a folder that cannot be made or looked at."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{option} {target}: cannot be written ({error.strerror}): give another folder"
        ) from error
    except PySparkException as error:
        raise ConfigError(
            f"{option} {target}: its file system does not answer ({error}): check the address"
        ) from error


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
    options = SourceOptions(path, table, config.format, config.columns, need_timestamp, need_rating)
    return read_source(session, options)


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
        "bad_rows_dropped": summary.problems,
        "duplicate_pairs": prepared.n_duplicates,
        "lowest_rating": summary.lowest,
        "highest_rating": summary.highest,
    }


def tell_data(progress: ProgressReporter, prepared: PreparedRatings, duplicates: str) -> None:
    """Tell the sizes of prepared ratings, and what was dropped or resolved."""
    summary = prepared.summary
    parts = ", ".join(f"{count:,} {part}" for part, count in prepared.n_ratings.items())
    progress.write(f"{len(summary.users):,} users, {len(summary.items):,} items, ratings: {parts}")
    for problem, count in summary.problems.items():
        progress.write(f"dropped {count:,} rows: {problem}")
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
    session: SparkSession, source: Source, bad_rows: str, progress: ProgressReporter
) -> SeenPairs:
    """Read the pairs that are not to be recommended; tell how many they are.

    Raises
    ------
    DataError
        If there are none, or there are unusable rows and these are not to be dropped.
    """
    seen = read_seen(session, source)
    refuse_bad_rows(seen, bad_rows)
    tell_bad_rows(progress, seen)
    progress.write(f"{seen.n_pairs:,} pairs in {seen.label} are not recommended")
    return seen


def tell_bad_rows(progress: ProgressReporter, read: SeenPairs | NewRatings) -> None:
    """Tell of the unusable rows that were left out, if there are any."""
    if read.n_bad:
        progress.write(
            f"{read.label}: left out {read.n_bad:,} unusable rows: {'; '.join(read.problems)}"
        )


def refuse_bad_rows(read: Snapshot | SeenPairs | NewRatings, bad_rows: str) -> None:
    """Stop on unusable rows, unless they are to be dropped.

    Raises
    ------
    DataError
        With counts, examples and the remedy.
    """
    if read.n_bad and bad_rows == "error":
        raise DataError(
            f"{read.label}: {read.n_bad:,} unusable rows: {'; '.join(read.problems)}: "
            "mend the data, or leave these rows out with --bad-rows drop"
        )


def rounded_seconds(phases: Mapping[str, float], total: float) -> dict[str, float]:
    """Seconds of each phase and of the whole, for the files of a run."""
    return {**{name: round(taken, 3) for name, taken in phases.items()}, "total": round(total, 3)}
