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
from als_spark.cli.options import parse
from als_spark.errors import LockLost, PublishConflict, StoreLocked, UserError

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
    configure_logging()
    if threading.current_thread() is threading.main_thread():
        # scripts/run.sh starts the JVM deaf to Ctrl-C, so that it outlives it, and a child
        # inherits that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return work()
    except StoreLocked as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_LOCKED
    except UserError as error:
        print(f"{name}: {in_options(' '.join(str(error).split()))}", file=sys.stderr)
        return EXIT_USAGE
    except (LockLost, PublishConflict) as error:
        # Neither input nor defect: another process came in between.
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt as error:
        print(f"{name}: {str(error) or interrupted}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception:  # noqa: BLE001 - the last resort of a program
        traceback.print_exc()
        return EXIT_FAILED


def job_main(
    kind: type[C],
    work: Callable[[C], int],
    interrupted: str = "stopped before any point was finished; nothing written",
) -> Callable[[Sequence[str] | None], int]:
    """Return the ``main`` of a job: it takes the options, those of the process if None.

    The job's configuration ``kind`` lists its exit codes.
    """

    def main(argv: Sequence[str] | None = None) -> int:
        return run_program(kind.command, lambda: work(parse(kind, argv)), interrupted)

    main.__doc__ = f"{kind.about} Exit codes: {kind.exit_codes}."
    return main


def configure_logging() -> None:
    """Log to standard error, a line each; the packages that chat over py4j stay quiet."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    for handler in logging.getLogger().handlers:
        # py4j tells, with tracebacks and on the root logger too, of calls that Ctrl-C breaks off.
        # What fails otherwise comes as an exception anyway.
        handler.addFilter(_not_of_py4j)


def _not_of_py4j(record: logging.LogRecord) -> bool:
    return "py4j" not in record.pathname
