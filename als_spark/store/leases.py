"""Leases: a reader's sign that a version must not be removed.

The pruner first writes a tombstone for the version, then lists the leases; a reader first writes
its lease, then looks for a tombstone. Whichever way the two interleave, one of them sees the
other.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from als_spark.store.files import Files
from als_spark.store.heartbeat import Heartbeat
from als_spark.store.layout import READERS, decode, encode, read_time, time_text
from als_spark.store.owner import Life, Owner, life_of, this_process

LEASE_TTL = timedelta(hours=1)


@contextmanager
def leased(
    files: Files,
    version: str,
    *,
    ttl: timedelta = LEASE_TTL,
    clock: Callable[[], datetime],
) -> Iterator[bool]:
    """Hold a lease on a version for the duration of the block.

    Parameters
    ----------
    files : Files
        The store's.
    version : str
        Its name.
    ttl : timedelta
        Time to live; a thread renews the lease every third of it.
    clock : callable
        Gives the time, in UTC.

    Yields
    ------
    bool
        False for a reader who may not write, or cannot: he reads without a lease.
    """
    path = f"{READERS}/{version}.{secrets.token_hex(8)}.json"
    owner = this_process().as_record()

    def content() -> bytes:
        record = {"version": version, "owner": owner, "expires": time_text(clock() + ttl)}
        return encode(record)

    try:
        files.create(path, content())
    except OSError:
        yield False
        return
    heartbeat = Heartbeat(
        ttl.total_seconds() / 3,
        lambda: files.replace(path, content()),
        f"the reader's lease of {version}",
    )
    try:
        heartbeat.start()
        yield True
    finally:
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
            record = decode(files.read(path))
            owner, expires = (
                Owner.from_record(record.get("owner")),
                read_time(record.get("expires")),
            )
        except ValueError:
            # Unreadable: as if it had been given at its last writing.
            return files.modified(path) + LEASE_TTL.total_seconds() > now.timestamp()
    except FileNotFoundError:
        return False
    return expires > now and life_of(owner) is not Life.DEAD
