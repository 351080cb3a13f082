"""What a Python worker of an executor does before a task: it serves many, one after the other."""

from __future__ import annotations

import gc
import sys
import traceback
from typing import Any

import threadpoolctl
from pyspark import TaskContext

_n_modules = 0
_print_exc = traceback.print_exc


def prepare_worker() -> None:
    """Leave this process one BLAS thread, and take its modules out of the garbage collection.

    And let it end without a traceback when its session ends.

    Each core has a worker already. And PySpark collects garbage after every task, which with the
    modules of NumPy, SciPy and Arrow takes longer than a half-step of small data; what is frozen is
    passed over. Called at the start of every task; does something only if modules have been
    imported since the last call in this process.
    """
    global _n_modules
    if len(sys.modules) == _n_modules:
        return
    threadpoolctl.threadpool_limits(limits=1)
    if TaskContext.get() is not None:
        gc.freeze()
        end_quietly()
    _n_modules = len(sys.modules)


def end_quietly() -> None:
    """Let PySpark's daemon say nothing of a worker that finds its socket closed.

    The JVM closes the sockets of idle workers as the session ends, and ends the daemon, and with it
    the workers, after that. A worker that is quicker writes to its socket, which a Unix socket
    refuses at once, and the daemon prints the exception, or its first line, among the lines of the
    job. So does a worker of whose rows Spark has enough.
    """
    traceback.print_exc = _print_unless_closed


def _print_unless_closed(*args: Any, **options: Any) -> None:
    error = sys.exc_info()[1]
    outermost = None if error is None else error.__traceback__
    if (
        isinstance(error, (BrokenPipeError, ConnectionResetError))
        and outermost is not None
        and outermost.tb_frame.f_code.co_filename.endswith("pyspark/daemon.py")
    ):
        return
    _print_exc(*args, **options)


def blas_threads() -> list[int]:
    """Threads of each BLAS library loaded in this process."""
    return [
        int(library["num_threads"])
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    ]
