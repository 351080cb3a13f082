"""The lock of a model store: one run at a time.

Each acquisition is a file ``locks/<number>.json`` of its own, created exclusively, and the
highest-numbered one is the lock. It holds who has it and until when, or that it was released.
Nobody ever removes or overwrites the lock of somebody else, so no two takers of a stale lock can
harm each other: both try to create the next number, and one does. Whoever holds a lower number
than the highest has lost the lock. The highest-numbered file is never deleted, so a number is
never used twice; a taker who was so slow that the file below which he looked is history sees a
higher number after creating his own, and steps back.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

from als_spark.errors import LockLost, StoreLocked
from als_spark.store.files import Files
from als_spark.store.heartbeat import Heartbeat
from als_spark.store.layout import (
    LOCKS,
    decode,
    encode,
    numbered,
    numbers_in,
    read_time,
    time_text,
    utc_now,
)
from als_spark.store.owner import Life, Owner, life_of, this_process

logger = logging.getLogger(__name__)

LOCK_TTL = timedelta(minutes=10)
_TRIES = 10
_PAUSE = 0.05


class StoreLock:
    """The right to write into a store; a context manager.

    A lock is taken over when it has expired, or when its owner is a process of this machine that
    is gone. Expiry compares the owner's clock with the taker's: clocks must agree to well within
    the time to live.

    Parameters
    ----------
    files : Files
        The store's.
    label : str
        How messages call the store.
    run : str
        Id of the run that wants the lock.
    ttl : timedelta
        Time to live; a thread renews the lock every third of it.
    clock : callable
        Gives the time, in UTC.
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
        self._files = files
        self._label = label
        self._run = run
        self._ttl = ttl
        self._clock = clock
        self._owner = this_process()
        self._token = ""
        self._number = 0
        self._acquired = self._expires = datetime.min
        # The renewing thread and the run use the same fields.
        self._mutex = threading.RLock()
        self._heartbeat: Heartbeat | None = None

    @property
    def run(self) -> str:
        """Id of the run that wants or has the lock."""
        return self._run

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        StoreLocked
            If another run holds it.
        """
        try:
            self._take()
            self._heartbeat = Heartbeat(
                self._ttl.total_seconds() / 3, self._renew, f"the lock of {self._label}"
            )
            self._heartbeat.start()
        except BaseException:
            self.release()
            raise

    def check(self) -> None:
        """Make sure that the lock is still held.

        Raises
        ------
        LockLost
            If somebody else has taken it over, or it was released or deleted.
        """
        with self._mutex:
            if self._number and self._clock() >= self._expires:
                # The machine slept, or the file system was away. Nobody has taken the lock over
                # if the next number is still to be had.
                self._renew()
            if not self._is_ours():
                raise LockLost(
                    f"{self._label}: run {self._run} no longer holds the lock: another run may "
                    "have taken it over after it expired; nothing more is published"
                )

    def release(self) -> None:
        """Give the lock back, if it is still held."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat = None
        with self._mutex:
            if self._is_ours():
                record = self._record(self._token, self._acquired, self._expires)
                record["released"] = time_text(self._clock())
                self._files.replace(numbered(LOCKS, self._number), encode(record))
            self._number = 0

    def __enter__(self) -> StoreLock:
        """Take the lock."""
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        """Create a numbered lock; False if somebody else has that number or a higher one."""
        token = secrets.token_hex(8)
        now = self._clock()
        record = self._record(token, now, now + self._ttl)
        path = numbered(LOCKS, number)
        try:
            if not self._files.create(path, encode(record)):
                return False
        except BaseException:
            # Perhaps it was created none the less; then nobody is to wait for it.
            with suppress(OSError, ValueError):
                if decode(self._files.read(path)).get("token") == token:
                    self._files.replace(path, encode({**record, "released": time_text(now)}))
            raise
        numbers = numbers_in(self._files, LOCKS)
        if numbers[-1:] != [number]:
            self._files.remove(path)
            return False
        self._token, self._number = token, number
        self._acquired, self._expires = now, now + self._ttl
        for older in numbers[:-1]:
            self._files.remove(numbered(LOCKS, older))
        return True

    def _renew(self) -> None:
        with self._mutex:
            now = self._clock()
            if not self._number or self._highest() != self._number:
                return
            if now >= self._expires:
                self._claim(self._number + 1)
                return
            expires = now + self._ttl
            record = self._record(self._token, self._acquired, expires)
            self._files.replace(numbered(LOCKS, self._number), encode(record))
            self._expires = expires

    def _is_ours(self) -> bool:
        if not self._number or self._highest() != self._number:
            return False
        try:
            record = decode(self._files.read(numbered(LOCKS, self._number)))
        except (FileNotFoundError, ValueError):
            return False
        return record.get("token") == self._token

    def _highest(self) -> int:
        return max(numbers_in(self._files, LOCKS), default=0)

    def _record(self, token: str, acquired: datetime, expires: datetime) -> dict[str, Any]:
        return {
            "run": self._run,
            "owner": self._owner.as_record(),
            "token": token,
            "acquired": time_text(acquired),
            "expires": time_text(expires),
            "released": None,
        }


def holder_of(files: Files, label: str, number: int, ttl: timedelta, now: datetime) -> str | None:
    """Say who holds a numbered lock, as the message of :class:`StoreLocked`; None if it is free.

    Parameters
    ----------
    files : Files
        The store's.
    label : str
        How messages call the store.
    number : int
        Of the lock.
    ttl : timedelta
        After which an unreadable lock counts as stale. A lock from the future of another clock is
        watched for half of it.
    now : datetime
        The time, in UTC.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or not at the moment.
    """
    path = numbered(LOCKS, number)
    try:
        data = files.read(path)
        record = decode(data)
        owner = Owner.from_record(record.get("owner"))
        acquired, expires = read_time(record.get("acquired")), read_time(record.get("expires"))
    except ValueError:
        return _unreadable(files, f"{label}/{path}", path, ttl, now)
    life = life_of(owner)
    if record.get("released") is not None or expires <= now or life is Life.DEAD:
        return None
    if acquired > now + ttl and life is Life.UNKNOWN and not _changes(files, path, data, ttl):
        # Taken by a clock that was ahead, for perhaps years, and its owner is silent.
        return None
    return (
        f"{label} is locked by run {record.get('run')} ({owner}) since {time_text(acquired)}, "
        f"until {time_text(expires)} unless renewed: wait for that run, or stop it"
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


def _unreadable(files: Files, name: str, path: str, ttl: timedelta, now: datetime) -> str | None:
    until = files.modified(path) + ttl.total_seconds()
    if until <= now.timestamp():
        return None
    return (
        f"{name} is unreadable, so somebody may hold the lock, until "
        f"{time_text(datetime.fromtimestamp(until, now.tzinfo))} at most: wait until then"
    )
