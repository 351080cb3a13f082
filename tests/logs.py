"""What a job that was stopped may have on its terminal, and what it may not."""

from __future__ import annotations

import re

_OF_THE_DRIVER = re.compile(
    r'File ".*/jobs/\w+\.py", line \d+|^Exception ignored in|^Exception in thread [^"]|in atexit'
)


def driver_tracebacks(log: str) -> list[str]:
    """Return the lines of a job's output that only a traceback of its driver has.

    Where a call of Spark takes too long to be waited for, workers lose their JVM, and JVM and
    workers say so with stack traces of their own, line by line between each other.
    """
    return [line for line in log.splitlines() if _OF_THE_DRIVER.search(line)]
