"""Leases, a reader's sign that a version must not be removed, and what keeps them alive.

The pruner first writes a tombstone for the version, then lists the leases; a reader first writes
its lease, then looks for a tombstone. Whichever way the two interleave, one of them sees the
other.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from als_spark.files.json_files import encode
from als_spark.store.files import Files
from als_spark.store.layout import READERS, Moment, parse, time_text
from als_spark.store.owner import Life, Owner, life_of, this_process

logger = logging.getLogger("als_spark.store")

LEASE_TTL = timedelta(hours=1)


class Heartbeat:
    """Calls a function every third of a time to live, in a daemon thread, until stopped.

    Exceptions of the function are logged, with ``what`` it renews, and it is called again.
    """

    def __init__(self, ttl: timedelta, beat: Callable[[], None], what: str) -> None:
        self._seconds = ttl.total_seconds() / 3
        self._beat = beat
        self._what = what
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"renew {what}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for a call that is under way."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self._beat()
            except Exception as error:  # noqa: BLE001 - any client of any file system may raise it
                logger.warning("cannot renew %s, trying again: %s", self._what, error)


@dataclass(frozen=True)
class _Lease:
    owner: Owner
    expires: Moment


_LEASE = TypeAdapter(_Lease)


@contextmanager
def leased(
    files: Files, version: str, *, ttl: timedelta = LEASE_TTL, clock: Callable[[], datetime]
) -> Iterator[bool]:
    """Hold a lease on a version during the block, and renew it.

    Yields False to a reader that cannot write, and so reads without a lease.
    """
    path = f"{READERS}/{version}.{secrets.token_hex(8)}.json"
    owner = asdict(this_process())

    def content() -> bytes:
        expires = time_text(clock() + ttl)
        return encode({"version": version, "owner": owner, "expires": expires})

    try:
        # No other process has the name.
        files.replace(path, content())
    except OSError:
        yield False
        return
    heartbeat = None
    try:
        what = f"the reader's lease of {version}"
        heartbeat = Heartbeat(ttl, lambda: files.replace(path, content()), what)
        yield True
    finally:
        if heartbeat is not None:
            heartbeat.stop()
        with suppress(OSError):
            files.remove(path)


def live_leases(files: Files, version: str, now: datetime) -> list[str]:
    """Return the names of the leases on a version that still count."""
    return [
        name
        for name in files.names(READERS)
        if name.partition(".")[0] == version and _counts(files, name, now)
    ]


def dead_leases(files: Files, now: datetime) -> list[str]:
    """Return the names of the leases that have expired, or whose process is gone."""
    return [name for name in files.names(READERS) if not _counts(files, name, now)]


def _counts(files: Files, name: str, now: datetime) -> bool:
    path = f"{READERS}/{name}"
    try:
        try:
            lease = parse(_LEASE, files.read(path))
        except ValueError:
            # Unreadable: as if it had been given at its last writing.
            return files.modified(path) + LEASE_TTL.total_seconds() > now.timestamp()
    except FileNotFoundError:
        return False
    return lease.expires > now and life_of(lease.owner) is not Life.DEAD
