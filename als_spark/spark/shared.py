"""Broadcasts of which the workers of an executor share one copy: arrays are mapped, not unpickled.

PySpark keeps a broadcast on each executor as a file, from which every Python worker unpickles a
copy of its own. Here the broadcast is one string of bytes, with the arrays in it as they are in
memory, so that a worker maps the file and makes arrays that are views of it: the memory is that of
the page cache, once a machine in local mode, else once an executor.
"""

from __future__ import annotations

import mmap
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

from pyspark import Broadcast, SparkContext

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

MAGIC = b"als_spark arrays"
"""Where the bytes begin in the file, in which a pickle is around them."""
ALIGNED = 64
"""Arrays begin at multiples of it, in the file."""
_NUMBER = 8
"""Bytes of a number."""
_BEGINNING = 64
"""In how many of its first bytes the file has the magic."""


class HasValue(Protocol[T_co]):
    """What tasks get of a broadcast, of either kind."""

    @property
    def value(self) -> T_co:
        """The value."""
        ...


class SharedBroadcast(Generic[T]):
    """A broadcast whose arrays are shared by the workers of an executor; they are read-only.

    Parameters
    ----------
    broadcast : Broadcast of bytes
        Of what :func:`pack` has made.
    """

    def __init__(self, broadcast: Broadcast[bytes]) -> None:
        self._broadcast = broadcast

    def __repr__(self) -> str:
        """Say what it is of."""
        return f"<SharedBroadcast of {self._broadcast!r}>"

    @property
    def value(self) -> T:
        """The value, made anew each time: but for arrays that costs next to nothing."""
        path = getattr(self._broadcast, "_path", None)
        found = None if path is None else map_file(path)
        # Where Spark encrypts its files, and wherever else it should keep them in another way.
        value: T = unpack(memoryview(self._broadcast.value)) if found is None else unpack(found)
        return value

    def unpersist(self) -> None:
        """Free the executors' copies, without waiting; they are sent again if need be."""
        self._broadcast.unpersist(blocking=False)

    def destroy(self, *, blocking: bool = False) -> None:
        """Remove it from everywhere, without waiting unless told."""
        self._broadcast.destroy(blocking=blocking)


def share(context: SparkContext, value: T) -> SharedBroadcast[T]:
    """Broadcast a value whose arrays the workers share."""
    return SharedBroadcast(context.broadcast(pack(value)))


@contextmanager
def shared(context: SparkContext, value: T) -> Iterator[SharedBroadcast[T]]:
    """Share a value for the duration of the block: see :func:`share`."""
    handle = share(context, value)
    try:
        yield handle
    finally:
        handle.destroy()


def pack(value: Any) -> bytes:
    """Pickle a value into bytes in which arrays lie aligned, if a file has them as a pickle."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    raw = [buffer.raw() for buffer in buffers]
    head = pickle.dumps((pickled, [part.nbytes for part in raw]))
    begin = len(MAGIC) + 2 * _NUMBER + len(head)
    size = begin + sum(part.nbytes + ALIGNED for part in raw)
    place = prefix_length(size)
    numbers = [number.to_bytes(_NUMBER, "little") for number in (place, len(head))]
    parts: list[bytes | memoryview] = [MAGIC, *numbers, head]
    at = begin
    for part in raw:
        padding = -(place + at) % ALIGNED
        parts += [bytes(padding), part]
        at += padding + part.nbytes
    return b"".join([*parts, bytes(size - at)])


def prefix_length(size: int) -> int:
    """Bytes that a pickle has before a string of so many bytes, at least 256."""
    # Those of less than 64 KB are within a frame, whose opcode and length come first.
    framed = 9 if size < 1 << 16 else 0
    return 2 + framed + (5 if size < 1 << 32 else 9)


def map_file(path: str) -> memoryview | None:
    """Map the bytes of :func:`pack` in the file of a broadcast; None if they are not there."""
    with open(path, "rb") as file:
        place = file.read(_BEGINNING).find(MAGIC)
        if place < 0:
            return None
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[place:]


def unpack(packed: memoryview) -> Any:
    """Put together what :func:`pack` has taken apart; arrays are views of it."""
    begin = len(MAGIC) + 2 * _NUMBER
    place, length = (
        int.from_bytes(packed[first : first + _NUMBER], "little")
        for first in (len(MAGIC), len(MAGIC) + _NUMBER)
    )
    pickled, sizes = pickle.loads(packed[begin : begin + length])
    at, buffers = begin + length, []
    for size in sizes:
        at += -(place + at) % ALIGNED
        buffers.append(packed[at : at + size])
        at += size
    return pickle.loads(pickled, buffers=buffers)
