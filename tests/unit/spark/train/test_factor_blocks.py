"""On how many executors a block of factors lies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from als_spark.spark.persisted import replicated_level


def context_of(master: str | None, members: int) -> Any:
    """A Spark context of a cluster: the driver is one of its members."""
    tracker = SimpleNamespace(getExecutorInfos=lambda: [None] * members)
    scala = SimpleNamespace(statusTracker=lambda: tracker)
    return SimpleNamespace(master=master, _jsc=SimpleNamespace(sc=lambda: scala))


@pytest.mark.parametrize(
    ("master", "members", "copies"),
    [
        *(("local[2]", 1, 1), ("local-cluster[2,1,1024]", 3, 2), (None, 1, 1)),
        *(("yarn", 1, 1), ("spark://host:7077", 2, 1), ("yarn", 3, 2), ("yarn", 9, 2)),
    ],
)
def test_a_block_lies_on_two_executors_where_there_are_two(
    master: str | None, members: int, copies: int
) -> None:
    level = replicated_level(context_of(master, members))
    assert level.replication == copies
    assert (level.useDisk, level.useMemory, level.deserialized) == (True, True, True)
