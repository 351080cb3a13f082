"""Pairs that chunks hold more than once, and chunks as rows again: what runs on an executor."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from als_spark.spark.prepare.encode import encode_partition
from als_spark.spark.prepare.pack import Layout
from als_spark.spark.prepare.repeats import cut_pairs, find_repeats
from als_spark.spark.prepare.snapshot import decode_partition

USERS, ITEMS = [30, -10, 20, 30, 20], [5, 5, 7, 7, 5]


class Shared:
    """In the place of a broadcast."""

    def __init__(self, value: Any) -> None:
        self.value = value


def table(users: list[int], items: list[int], **more: pa.Array) -> pa.RecordBatch:
    columns = {
        "user": pa.array(users, pa.int64()),
        "item": pa.array(items, pa.int64()),
        "rating": pa.array([0.5 * k for k in range(len(users))]),
        **more,
        "bad": pa.nulls(len(users), pa.string()),
    }
    return pa.record_batch(list(columns.values()), names=list(columns))


@pytest.mark.parametrize(("again", "wanted"), [((20, 6), False), ((20, 7), True), ((-10, 5), True)])
def test_a_pair_of_two_chunks_is_found_in_its_block(again: tuple[int, int], wanted: bool) -> None:
    n_blocks = 2
    layout = Layout(
        *(pa.array([20, 30, -10]), pa.array([5, 7, 6])),
        {"user": np.arange(3, dtype=np.int32) % n_blocks, "item": np.zeros(0, np.int32)},
        np.array([4, 9], np.int32),
    )
    batches = [table(USERS, ITEMS), table([again[0]], [again[1]])]
    chunks = [chunk for batch in batches for chunk in encode_partition([batch])]
    cut = pa.Table.from_batches(cut_pairs(chunks, layout=Shared(layout)))
    found = []
    for key in (4, 9):
        own = cut.filter(pa.compute.equal(cut["key"], key)).column("piece").to_pylist()
        found += find_repeats([pickle.loads(piece) for piece in own], n_items=3)
    assert any(found) == wanted


def test_a_block_without_pieces_repeats_nothing() -> None:
    assert list(find_repeats([], n_items=3)) == [False]


@pytest.mark.parametrize("times", [None, [1.0, 2.5, 3.0, 4.0, 5.0]])
def test_chunks_become_the_rows_they_are_of(times: list[float] | None) -> None:
    more = {} if times is None else {"timestamp": pa.array(times)}
    batch = table(USERS, ITEMS, **more)
    rows = pa.Table.from_batches(decode_partition(encode_partition([batch])))
    assert rows.select(["user", "item", "rating"]) == pa.table(batch).select([0, 1, 2])
    assert rows.column("timestamp").to_pylist() == (times or [None] * 5)
