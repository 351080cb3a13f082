"""Constants of the estimates, as `scripts/bench.sh calibrate` has measured them.

On 2 cores of an Intel Xeon, `local[2]`, 2026-11-28 (see docs/benchmarks.md).
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
        1: Seconds(6.3e-9, 0.04e-6),
        10: Seconds(26.9e-9, 0.7e-6),
        20: Seconds(45.6e-9, 3.04e-6),
        50: Seconds(116e-9, 11.2e-6),
        100: Seconds(273e-9, 39.3e-6),
        200: Seconds(984e-9, 101e-6),
    },
    "float64": {
        1: Seconds(7.1e-9, 0.04e-6),
        10: Seconds(31.1e-9, 1.24e-6),
        20: Seconds(74.1e-9, 2.52e-6),
        50: Seconds(187e-9, 14.1e-6),
        100: Seconds(537e-9, 43.8e-6),
        200: Seconds(1740e-9, 143e-6),
    },
}
"""By rank."""
POSTERIOR_ROWS = 4.7
"""Solutions of float64 systems that drawing a row, or finding its moments, takes."""
COVARIANCE_SECONDS = 0.86e-9
"""CPU seconds of a rating for each number of a covariance."""
JOB_SECONDS = 0.054
"""Of a half-step with one Python task a core, besides what it computes and sends."""
SHUFFLE_JOB_SECONDS = 0.123
"""The same where factors are shuffled: two stages, and blocks that are persisted."""
TASK_SECONDS = 0.010
"""More for each further task of a core."""
BROADCAST_RATE = 211e6
"""Bytes a second from the driver's Python into the workers' copies, but for the network."""
COLLECT_RATE = 146e6
"""Bytes a second from the workers to the driver's Python, but for the network."""
SUM_RATE = 405e6
"""Bytes a second of solved rows that the driver puts in their places, sums, and prepares."""
PIPE_RATE = 445e6
"""Bytes a second that a worker reads from its JVM."""
SHUFFLE_RATE = 97e6
"""Bytes a second that a core sends through a shuffle and reads again, but for the network."""
WORKER_BASE = 170 << 20
"""Memory of a Python worker with its libraries."""
DRIVER_BASE = 142 << 20
"""Memory of the driver's Python with its libraries."""
JVM_RATING = 0.5
"""Bytes of a rating of one side in an executor's JVM, beyond its index and its value."""
NUMBER_BYTES = 71
"""Bytes of a rating while a worker checks and counts a chunk of ratings."""
PLACE_BYTES = 62
"""Bytes of each user and item in a worker that packs: it looks up the places of all ids."""
CHUNK_ID_BYTES = 83
"""Bytes of each id of each chunk in the driver's Python, while it merges what the chunks have."""
CHUNK_ID_JVM_BYTES = 24
"""The same in the driver's JVM."""
ROW_BYTES = 80
"""Bytes of each user and item in the driver's Python: id, counts, sums, places."""
CHUNK_RATING_BYTES = 8
"""Bytes of a rating in the chunks that executors keep until the ratings are packed."""
JVM_BASE = 110 << 20
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
