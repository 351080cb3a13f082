"""Removing versions: pruned ones, and what killed runs have left."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from als_spark.store.files import SCRATCH, Files
from als_spark.store.layout import (
    PRUNING,
    READERS,
    VERSIONS,
    Pointer,
    Pointers,
    Trail,
    encode,
    time_text,
)
from als_spark.store.leases import dead_leases, live_leases
from als_spark.store.manifest import quick_problems


class Maintenance:
    """What only the holder of the lock does."""

    def __init__(self, files: Files, pointers: Pointers, clock: Callable[[], datetime]) -> None:
        self._files = files
        self._pointers = pointers
        self._clock = clock

    def prune(self, keep: int, check: Callable[[], None] | None) -> list[str]:
        """Remove all published versions but the newest; see ``ModelStore.prune``."""
        trail = self._pointers.trail()
        there = set(self._files.names(VERSIONS))
        published = [name for name in trail.published() if name in there]
        intact = [name for name in published if not self._problems(name, trail)]
        kept = {*intact[-keep:], trail.current}
        removed = []
        for name in published:
            if name not in kept:
                if check is not None:
                    check()
                if self._prune_one(name):
                    removed.append(name)
        return removed

    def recover(self) -> list[str]:
        """Remove what killed runs have left; see ``ModelStore.recover``."""
        removed = [f"{SCRATCH}/{name}" for name in self._files.names(SCRATCH)]
        removed += [f"{PRUNING}/{name}" for name in self._files.names(PRUNING)]
        removed += [f"{READERS}/{name}" for name in dead_leases(self._files, self._clock())]
        for path in removed:
            self._files.remove(path)
        for name in self._abandoned():
            self.remove_version(name)
            removed.append(f"{VERSIONS}/{name}")
        return removed

    def remove_version(self, name: str) -> None:
        """Remove a version that nobody reads."""
        parked = f"{SCRATCH}/{name}.{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):
            # First out of sight, which is one step where deleting is many.
            self._files.rename(f"{VERSIONS}/{name}", parked)
        self._files.remove(parked)

    def _prune_one(self, name: str) -> bool:
        tombstone = f"{PRUNING}/{name}.json"
        self._files.replace(tombstone, encode({"since": time_text(self._clock())}))
        pruned = False
        if not live_leases(self._files, name, self._clock()):
            parked = f"{SCRATCH}/{name}.{secrets.token_hex(4)}"
            self._files.rename(f"{VERSIONS}/{name}", parked)
            # A run that has taken the lock over meanwhile may have rolled back to this version.
            if self._pointers.trail().current == name:
                self._files.rename(parked, f"{VERSIONS}/{name}")
            else:
                self._files.remove(parked)
                pruned = True
        self._files.remove(tombstone)
        return pruned

    def _problems(self, name: str, trail: Trail) -> list[str]:
        problems = quick_problems(self._files, name, trail.sha256_of(name))
        return [problem.kind for problem in problems]

    def _abandoned(self) -> list[str]:
        """Return the versions that no pointer named, and those that have lost files."""
        trail = self._pointers.trail()
        if trail.damaged:
            # An unreadable pointer may name any of them.
            return []
        names = [name for name in self._files.names(VERSIONS) if name != trail.current]
        unnamed = [name for name in names if not trail.naming(name)]
        if unnamed and not self._fence(trail):
            return []
        broken = [name for name in names if "missing" in self._problems(name, trail)]
        return sorted({*unnamed, *broken})

    def _fence(self, trail: Trail) -> bool:
        """Use up the next number.

        The run that left a version without a pointer may live: asleep for so long that its lock
        has expired, between its last look at the lock and the creation of the pointer. That it
        would name a version which is gone. So its number must be taken before.
        """
        sha256 = "" if trail.latest is None else trail.latest.sha256
        now = time_text(self._clock())
        fence = Pointer(trail.number + 1, trail.current, sha256, now, "fence", "")
        return self._pointers.create(fence)
