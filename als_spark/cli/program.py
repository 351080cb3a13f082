"""What every job does around its work: logging, exit codes, Ctrl-C."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

from als_spark.cli.config.settings import JobConfig, in_options
from als_spark.cli.missing import refuse_missing
from als_spark.cli.options import parse
from als_spark.cli.paths import given_paths
from als_spark.cli.streams import hold_streams, lost_output
from als_spark.errors import LockLost, PublishConflict, StoreLocked, UserError
from als_spark.files.writable import full_disk
from als_spark.redaction import redact

C = TypeVar("C", bound=JobConfig)

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
EXIT_KEPT, EXIT_DATA_CHECK, EXIT_LOCKED = 3, 4, 5
"""Of the jobs that work on a model store."""


def run_program(name: str, work: Callable[[], int], interrupted: str) -> int:
    """Run a job's work and turn what goes wrong into a message and an exit code.

    Parameters
    ----------
    name : str
        Of the job, for its messages.
    work : callable
        Returns the exit code.
    interrupted : str
        What to say after Ctrl-C, where the exception itself does not say it.

    Returns
    -------
    int
        That of ``work``; 2 the user's input or configuration is wrong; 5 another run holds the
        lock of the store; 130 stopped by Ctrl-C or SIGTERM; 1 anything else.
    """
    hold_streams()
    configure_logging()
    if threading.current_thread() is threading.main_thread():
        # A shell's background jobs inherit deafness to Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = _run(name, work, interrupted)
    lost = lost_output()
    if lost is None:
        return code
    _complain(name, f"what standard output should have shown is lost ({lost}); files are whole")
    return code or EXIT_FAILED


def _run(name: str, work: Callable[[], int], interrupted: str) -> int:
    try:
        return work()
    except StoreLocked as error:
        _complain(name, str(error))
        return EXIT_LOCKED
    except UserError as error:
        _complain(name, in_options(str(error)))
        return EXIT_USAGE
    except (LockLost, PublishConflict) as error:
        # Neither input nor defect: another process came in between.
        _complain(name, str(error))
        return EXIT_FAILED
    except KeyboardInterrupt as error:
        _complain(name, str(error) or interrupted)
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last resort of a program
        full = full_disk(error)
        if full is not None:
            _complain(name, full)
            return EXIT_USAGE
        print(redact(traceback.format_exc()), end="", file=sys.stderr)
        return EXIT_FAILED


def say(text: str) -> None:
    """Print a result of a job, without keys and passwords."""
    print(redact(text))


def _complain(name: str, text: str) -> None:
    """Tell what is wrong, in one line."""
    print(f"{name}: {redact(' '.join(text.split()))}", file=sys.stderr)


def job_main(
    kind: type[C],
    work: Callable[[C], int],
    interrupted: str = "stopped before any point was finished; nothing written",
) -> Callable[[Sequence[str] | None], int]:
    """Return the ``main`` of a job: it takes the options, those of the process if None.

    The job's configuration ``kind`` lists its exit codes.
    """

    def main(argv: Sequence[str] | None = None) -> int:
        def start() -> int:
            config = parse(kind, argv)
            refuse_missing(given_paths(config))
            return work(config)

        return run_program(kind.command, start, interrupted)

    main.__doc__ = f"{kind.about} Exit codes: {kind.exit_codes}."
    return main


def configure_logging() -> None:
    """Log to standard error, a line each; the packages that chat over py4j stay quiet."""
    ours = logging.StreamHandler(sys.stderr)
    ours.setFormatter(_Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[ours])
    for handler in logging.getLogger().handlers:
        # py4j tells, with tracebacks and on the root logger too, of calls that Ctrl-C breaks off.
        # What fails otherwise comes as an exception anyway.
        handler.addFilter(_not_of_py4j)


class _Formatter(logging.Formatter):
    """Keeps keys and passwords out of the log, and of its tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        return redact(super().format(record))


def _not_of_py4j(record: logging.LogRecord) -> bool:
    return "py4j" not in record.pathname
