"""What Spark says of files that it cannot read, in one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from als_spark.errors import ChangedRatingsError, ConfigError, DataError


@contextmanager
def unreadable_files_are_named(label: str) -> Iterator[None]:
    """Turn Spark's failure to read a file of the source, met in a pass, into a DataError.

    And ratings that have changed between two passes; and the failure of workers to start, into a
    ConfigError. Others pass through.
    """
    try:
        with workers_are_explained():
            yield
    except (PySparkException, Py4JJavaError) as error:
        if changed := _CHANGED.search(str(error)):
            raise DataError(f"{label}: {changed[1]}") from error
        if not _broke_while_reading(error):
            raise
        raise DataError(
            f"{label}: cannot be read: {reason(error)}: mend or replace the file"
        ) from error


@contextmanager
def workers_are_explained() -> Iterator[None]:
    """Turn the failure of an interpreter of the workers, met in a pass, into a ConfigError.

    Other failures pass through.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        problem = worker_problem("\n".join([str(error), *_messages(error)]))
        if problem is None:
            raise
        raise ConfigError(
            f"{problem}: set PYSPARK_PYTHON to {sys.executable}, or to one like it on every "
            "machine, before the session starts"
        ) from error


_VERSIONS = re.compile(
    r"Python in worker has different version:? \(?([\d.' ,]+?)\)? than that in driver:? ([\d.]+\d)"
)
_NO_PACKAGE = re.compile(
    r"ModuleNotFoundError: No module named '(als_spark|numpy|scipy|pyarrow|threadpoolctl)"
)
_NO_PROGRAM = re.compile(r"Cannot run program \"([^\"]*)\"")


def worker_problem(text: str) -> str | None:
    """Say what is wrong with the interpreter of the workers, if that is what an error tells of."""
    if found := _VERSIONS.search(text):
        worker = ".".join(re.findall(r"\d+", found[1])[:2])
        return f"the workers run Python {worker}, and this program Python {found[2]}"
    if found := _NO_PACKAGE.search(text):
        return f"the Python of the workers has no package {found[1]}"
    if found := _NO_PROGRAM.search(text):
        return f"the workers have no program {found[1]}"
    return None


_CHANGED = re.compile(rf"{ChangedRatingsError.__name__}: (.+)")
"""What a worker says of them."""
_READ_FAILURE = re.compile(
    "FAILED_READ_FILE|CANNOT_READ_FILE_FOOTER|Encountered error while reading file"
    "|cannot be converted in file"
)
"""How the supported versions of Spark say that a file of a source cannot be read."""
_FILE_SCAN = "org.apache.spark.sql.execution.datasources.FileScanRDD"
"""What reads the files: Spark 3.5 lets some of its failures through without a word on the file."""


def _broke_while_reading(error: PySparkException | Py4JJavaError) -> bool:
    if any(_READ_FAILURE.search(message) for message in _messages(error)):
        return True
    causes = _java_causes(error)
    frames = causes[-1].getStackTrace() if causes else []
    return any(frame.getClassName().startswith(_FILE_SCAN) for frame in frames)


def _java_causes(error: PySparkException | Py4JJavaError) -> list[Any]:
    """Return an error of the JVM and its causes, the outermost first."""
    # Spark's Python exceptions keep the one of the JVM to themselves.
    java: Any = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    causes: list[Any] = []
    while java is not None and len(causes) < 12:
        causes.append(java)
        java = java.getCause()
    return causes


def _messages(error: PySparkException | Py4JJavaError) -> list[str]:
    """First lines of what an error and its causes say, the outermost first."""
    texts = [str(error)] if isinstance(error, PySparkException) else []
    texts += [str(java.getMessage() or "") for java in _java_causes(error)]
    return [text.strip().splitlines()[0] for text in texts if text.strip()]


def reason(error: PySparkException | Py4JJavaError) -> str:
    """Put what was said about a file, or said first, together with its root cause."""
    messages = [message for message in _messages(error) if not message.startswith("Job aborted")]
    if not messages:
        return "Spark does not say why"
    about_file = [message for message in messages if _READ_FAILURE.search(message)]
    said = _plain_message(about_file[-1] if about_file else messages[0])
    cause = _plain_message(messages[-1])
    return said if cause in said else f"{said} ({cause})"


def _plain_message(message: str) -> str:
    """Take Spark's names and codes of errors off."""
    return re.sub(r"^\[[A-Z_.]+\] |\s*SQLSTATE: \w{5}|\s*Details:$", "", message).rstrip(". ")
