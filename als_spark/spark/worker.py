"""What a Python worker of an executor does before a task: it serves many, one after the other."""

from __future__ import annotations

import gc
import sys

import threadpoolctl
from pyspark import TaskContext

_n_modules = 0


def prepare_worker() -> None:
    """Leave this process one BLAS thread, and take its modules out of the garbage collection.

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
    _n_modules = len(sys.modules)


def blas_threads() -> list[int]:
    """Threads of each BLAS library loaded in this process."""
    return [
        int(library["num_threads"])
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    ]
