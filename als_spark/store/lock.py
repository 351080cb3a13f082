"""The lock of a model store: one run at a time.

Each acquisition is a file ``locks/<number>.json`` of its own, created exclusively, and the
highest-numbered one is the lock. It holds who has it and until when, or that it was released.
No process removes or overwrites the lock of another one, so two contenders for a stale lock
cannot harm each other: both try to create the next number, and one does. The process that holds a
lower number than the highest has lost the lock. The highest-numbered file is never deleted, so a
number is never used twice.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from als_spark.errors import LockLost, StoreLocked
from als_spark.files.json_files import encode
from als_spark.store.files import Files
from als_spark.store.layout import LOCKS, Moment, numbered, numbers_in, parse, time_text, utc_now
from als_spark.store.leases import Heartbeat
from als_spark.store.owner import Life, Owner, life_of, this_process

logger = logging.getLogger(__name__)

LOCK_TTL = timedelta(minutes=10)
_TRIES = 10
_PAUSE = 0.05


@dataclass(frozen=True)
class _Held:
    """The content of a lock's file."""

    run: str
    owner: Owner
    token: str
    acquired: Moment
    expires: Moment
    released: str | None = None

    def encoded(self) -> bytes:
        times = {"acquired": time_text(self.acquired), "expires": time_text(self.expires)}
        return encode({**asdict(self), **times})


_HELD = TypeAdapter(_Held)


class StoreLock:
    """The right of a run to write into a store; a context manager.

    A lock is taken over when its time to live ``ttl`` has passed, or when its owner is a process of
    this machine that is gone. Expiry compares the owner's clock with the contender's: clocks must
    agree to well within the time to live. A thread renews the lock every third of it.
    """

    def __init__(
        self,
        files: Files,
        label: str,
        run: str,
        *,
        ttl: timedelta = LOCK_TTL,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.run = run
        self._files = files
        self._label = label
        self._ttl = ttl
        self._clock = clock
        self._owner = this_process()
        self._number = 0
        self._held: _Held | None = None
        # The renewing thread and the run use the same fields.
        self._mutex = threading.RLock()
        self._heartbeat: Heartbeat | None = None

    def acquire(self) -> None:
        """Take the lock; StoreLocked if another run holds it."""
        try:
            self._take()
            self._heartbeat = Heartbeat(self._ttl, self._renew, f"the lock of {self._label}")
        except BaseException:
            self.release()
            raise

    def check(self) -> None:
        """Raise LockLost if another run has taken the lock over, or it was released or deleted."""
        with self._mutex:
            if self._held is not None and self._clock() >= self._held.expires:
                # The machine was suspended, or the file system away. The lock is still ours if the
                # next number is free.
                self._renew()
            if not self._is_ours():
                raise LockLost(
                    f"{self._label}: run {self.run} no longer holds the lock: another run may "
                    "have taken it over after it expired; nothing more is published"
                )

    def release(self) -> None:
        """Give the lock back, if it is still held."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat = None
        with self._mutex:
            if self._held is not None and self._is_ours():
                self._write(replace(self._held, released=time_text(self._clock())))
            self._number, self._held = 0, None

    def __enter__(self) -> StoreLock:
        """Take the lock."""
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lock back."""
        self.release()

    def _take(self) -> None:
        for _ in range(_TRIES):
            highest = self._highest()
            if highest:
                try:
                    holder = holder_of(self._files, self._label, highest, self._ttl, self._clock())
                except FileNotFoundError:
                    # Not known to be free: its successor has removed it, or it is being renewed on
                    # a file system where replacing takes two steps.
                    time.sleep(_PAUSE)
                    continue
                if holder is not None:
                    raise StoreLocked(holder)
            if self._claim(highest + 1):
                return
        raise StoreLocked(f"{self._label}: other runs keep taking the lock: try again later")

    def _claim(self, number: int) -> bool:
        """Create a numbered lock; False if another contender has that number or a higher one."""
        now = self._clock()
        held = _Held(self.run, self._owner, secrets.token_hex(8), now, now + self._ttl)
        path = numbered(LOCKS, number)
        try:
            if not self._files.create(path, held.encoded()):
                return False
        except BaseException:
            # If it was created none the less, no other run must wait for it.
            with suppress(OSError, ValueError):
                if parse(_HELD, self._files.read(path)).token == held.token:
                    self._files.replace(path, replace(held, released=time_text(now)).encoded())
            raise
        numbers = numbers_in(self._files, LOCKS)
        # A slow contender whose number is no longer the highest deletes it and gives up.
        if numbers[-1:] != [number]:
            self._files.remove(path)
            return False
        self._number, self._held = number, held
        for older in numbers[:-1]:
            self._files.remove(numbered(LOCKS, older))
        return True

    def _renew(self) -> None:
        with self._mutex:
            if self._held is None or self._highest() != self._number:
                return
            now = self._clock()
            if now >= self._held.expires:
                self._claim(self._number + 1)
                return
            renewed = replace(self._held, expires=now + self._ttl)
            self._write(renewed)
            self._held = renewed

    def _write(self, held: _Held) -> None:
        self._files.replace(numbered(LOCKS, self._number), held.encoded())

    def _is_ours(self) -> bool:
        if self._held is None or self._highest() != self._number:
            return False
        with suppress(FileNotFoundError, ValueError):
            found = parse(_HELD, self._files.read(numbered(LOCKS, self._number)))
            return found.token == self._held.token
        return False

    def _highest(self) -> int:
        return max(numbers_in(self._files, LOCKS), default=0)


def holder_of(files: Files, label: str, number: int, ttl: timedelta, now: datetime) -> str | None:
    """Say who holds a numbered lock, as the message of :class:`StoreLocked`; None if it is free.

    An unreadable lock counts as stale when ``ttl`` has passed since it was written. A lock from the
    future of another clock is watched for half of ``ttl``.
    """
    path = numbered(LOCKS, number)
    data = files.read(path)
    try:
        held = parse(_HELD, data)
    except ValueError:
        until = datetime.fromtimestamp(files.modified(path), now.tzinfo) + ttl
        return (
            None
            if until <= now
            else (
                f"{label}/{path} is unreadable, so somebody may hold the lock, until "
                f"{time_text(until)} at most: wait until then"
            )
        )
    life = life_of(held.owner)
    if held.released is not None or held.expires <= now or life is Life.DEAD:
        return None
    if held.acquired > now + ttl and life is Life.UNKNOWN and not _changes(files, path, data, ttl):
        # Taken by a clock that was ahead, for perhaps years, and its owner is silent.
        return None
    return (
        f"{label} is locked by run {held.run} ({held.owner}) since {time_text(held.acquired)}, "
        f"until {time_text(held.expires)} unless renewed: wait for that run, or stop it"
    )


def _changes(files: Files, path: str, data: bytes, ttl: timedelta) -> bool:
    """Wait whether a lock is renewed, which takes a third of its time to live."""
    until = time.monotonic() + ttl.total_seconds() / 2
    logger.info("%s is dated in the future: waiting whether its owner renews it", path)
    while time.monotonic() < until:
        time.sleep(min(ttl.total_seconds() / 20, 1.0))
        try:
            if files.read(path) != data:
                return True
        except FileNotFoundError:
            return True
    return False
