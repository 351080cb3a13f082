"""Broadcasts that workers map instead of unpickling them; no Spark."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from als_spark.solve.objective import Objective
from als_spark.spark.shared import ALIGNED, SharedBroadcast, map_file, pack, unpack


class Handle:
    """What PySpark has of a broadcast on an executor: a file, from which it unpickles."""

    def __init__(self, value, path):
        self._path = str(path)
        self.unpickled = 0
        with open(path, "wb") as file:
            pickle.dump(value, file, pickle.HIGHEST_PROTOCOL)

    @property
    def value(self):
        self.unpickled += 1
        with open(self._path, "rb") as file:
            return pickle.load(file)


def arrays_of(sizes):
    return [np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32) for n in sizes]


# Below and above what is in a frame of a pickle.
@pytest.mark.parametrize("sizes", [(), (0,), (1, 5), (3, 5000, 7), (20_000, 1)])
def test_arrays_are_aligned_views_of_the_file(tmp_path, sizes):
    value = {"arrays": arrays_of(sizes), "more": ("text", 5)}
    handle = Handle(pack(value), tmp_path / "file")
    found = SharedBroadcast(handle).value
    assert found["more"] == ("text", 5)
    assert handle.unpickled == 0
    for array, own in zip(found["arrays"], value["arrays"], strict=True):
        np.testing.assert_array_equal(array, own)
        if own.size:
            assert array.ctypes.data % ALIGNED == 0
            assert not array.flags.writeable
            assert not array.flags.owndata


def test_where_the_file_is_another_one_it_is_unpickled(tmp_path):
    value = arrays_of([4])
    packed = pack(value)
    encrypted = SimpleNamespace(value=packed)
    handle = Handle(packed, tmp_path / "file")
    (tmp_path / "file").write_bytes(bytes(100) + (tmp_path / "file").read_bytes())
    assert map_file(str(tmp_path / "file")) is None
    (array,) = SharedBroadcast(encrypted).value
    np.testing.assert_array_equal(array, value[0])
    # Not where it is expected, so not aligned: the same all the same.
    odd = memoryview(b"12345" + packed)[5:]
    np.testing.assert_array_equal(unpack(odd)[0], value[0])
    with pytest.raises(pickle.UnpicklingError):
        SharedBroadcast(handle).value  # noqa: B018


@pytest.mark.parametrize(
    "objective",
    [
        Objective(0.1),
        Objective(0.1, implicit=True),
        Objective(0.1, implicit=True, nonnegative=True),
        Objective(0.1, nonnegative=True),
        Objective(0.1, bias_reg=0.1),
    ],
)
def test_a_solver_is_the_same(tmp_path, objective, triples):
    from tests.conftest import local_backend

    block = local_backend(triples).blocks["user"]
    fixed = np.random.default_rng(0).normal(size=(triples.n_items, objective.columns(3)))
    solver = objective.row_solver(fixed, np.ones(triples.n_items, int))
    found = SharedBroadcast(Handle(pack([solver]), tmp_path / "file")).value[0]
    (factors, loss), (wanted, other) = (s.solve(block, side="user") for s in (found, solver))
    np.testing.assert_array_equal(factors, wanted)
    assert loss == other
    sums, expected = (s.accumulate(block) for s in (found, solver))
    np.testing.assert_array_equal(sums.stacks, expected.stacks)
