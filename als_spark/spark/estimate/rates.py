"""Constants of the estimates, as `scripts/bench.sh calibrate` has measured them.

Of one run, on 2 cores of an Intel Xeon, `local[2]`, 2026-11-28 (see docs/benchmarks.md).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import NamedTuple

from als_spark.types import DType


class Seconds(NamedTuple):
    """CPU seconds of a core."""

    rating: float
    """Of a rating in one half-step."""
    row: float
    """Of the solution of a row."""


KERNELS: dict[DType, dict[int, Seconds]] = {
    "float32": {
        1: Seconds(5.3e-9, 0.042e-6),
        10: Seconds(19.2e-9, 0.73e-6),
        20: Seconds(29.7e-9, 3.0e-6),
        50: Seconds(104e-9, 11.5e-6),
        100: Seconds(258e-9, 34.6e-6),
        200: Seconds(875e-9, 102e-6),
    },
    "float64": {
        1: Seconds(6.6e-9, 0.034e-6),
        10: Seconds(28.5e-9, 1.2e-6),
        20: Seconds(47.4e-9, 3.1e-6),
        50: Seconds(188e-9, 13.6e-6),
        100: Seconds(488e-9, 49.7e-6),
        200: Seconds(1735e-9, 150e-6),
    },
}
"""By rank."""
POSTERIOR_ROWS = 1.9
"""Solutions of float64 systems that drawing a row, or finding its moments, takes."""
COVARIANCE_SECONDS = 1.0e-9
"""CPU seconds of a rating for each number of a covariance."""
JOB_SECONDS = 0.049
"""Of a Spark job with one Python task a core."""
TASK_SECONDS = 0.0084
"""More for each further task of a core."""
BROADCAST_RATE = 313e6
"""Bytes a second from the driver's Python into the workers' copies, but for the network."""
COLLECT_RATE = 137e6
"""Bytes a second from the workers to the driver's Python, but for the network."""
PIPE_RATE = 599e6
"""Bytes a second that a worker reads from its JVM."""
SHUFFLE_RATE = 95e6
"""Bytes a second that a core sends through a shuffle and reads again, but for the network."""
WORKER_BASE = 92 << 20
"""Memory of a Python worker with its libraries."""
DRIVER_BASE = 142 << 20
"""Memory of the driver's Python with its libraries."""
JVM_RATING = 0.5
"""Bytes of a rating of one side in an executor's JVM, beyond its index and its value."""
NUMBER_BYTES = 121
"""Bytes of a rating while a worker checks and counts a chunk of ratings."""
PLACE_BYTES = 100
"""Bytes of each user and item in a worker that packs: it looks up the places of all ids."""
CHUNK_ID_BYTES = 90
"""Bytes of each id of each chunk in the driver's Python, while it merges what the chunks have."""
CHUNK_ID_JVM_BYTES = 24
"""The same in the driver's JVM."""
ROW_BYTES = 80
"""Bytes of each user and item in the driver's Python: id, counts, sums, places."""
CHUNK_RATING_BYTES = 8
"""Bytes of a rating in the chunks that executors keep until the ratings are packed."""
JVM_BASE = 200 << 20
"""Heap of a JVM that has a Spark session."""


def seconds_of(rank: int, dtype: DType) -> Seconds:
    """Return the seconds of a rank: between two that were measured, by powers of the rank."""
    known = KERNELS[dtype]
    ranks = sorted(known)
    at = min(max(bisect_left(ranks, rank), 1), len(ranks) - 1)
    low, high = ranks[at - 1], ranks[at]
    share = math.log(rank / low) / math.log(high / low)
    pairs = zip(known[low], known[high], strict=True)
    return Seconds(*(first * (second / first) ** share for first, second in pairs))
