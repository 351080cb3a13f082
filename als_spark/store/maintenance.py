"""Removing versions: pruned ones, and what killed runs have left.

Only what the store has written is removed: names of its own patterns, and of a version the files
that its manifest lists. Anything else stays, with a warning.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from als_spark.files.json_files import encode
from als_spark.model.files import BEFORE_REFIT, MODEL_FILES, UNTRAINED_FILES
from als_spark.store.files import SCRATCH, SCRATCH_SUFFIX, Files
from als_spark.store.layout import (
    MANIFEST,
    PRUNING,
    READERS,
    VERSIONS,
    Pointer,
    Pointers,
    Trail,
    time_text,
)
from als_spark.store.leases import dead_leases, live_leases
from als_spark.store.manifest import Manifest, quick_problems

_OF_A_MODEL = (*MODEL_FILES, *UNTRAINED_FILES.values())
USUAL_FILES = (
    *_OF_A_MODEL,
    *(f"{BEFORE_REFIT}/{name}" for name in _OF_A_MODEL),
    *("metrics.json", "fingerprint.json", "config.json", "versions.json"),
)
"""Files of a version that may be deleted where its manifest is lost: what the jobs publish."""

_NAME = r"\d{8}T\d{6}Z(-\d+)?"
_VERSION = re.compile(_NAME)
_TEMPORARY = re.compile(r"[0-9a-f]+" + re.escape(SCRATCH_SUFFIX))
_STAGED = re.compile(rf"[0-9a-f]{{16}}|(?P<version>{_NAME})\.[0-9a-f]{{8}}")
_TOMBSTONE = re.compile(_NAME + r"\.json")
_LEASE = re.compile(_NAME + r"\.[0-9a-f]+\.json")

logger = logging.getLogger("als_spark.store")


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
            if name in kept:
                continue
            if check is not None:
                check()
            if self._prune_one(name):
                removed.append(name)
        return removed

    def recover(self) -> list[str]:
        """Remove what killed runs have left; see ``ModelStore.recover``."""
        removed = self._clear_scratch()
        dead = set(dead_leases(self._files, self._clock()))
        leases = [name for name in self._own_files(READERS, _LEASE) if name in dead]
        tombstones = self._own_files(PRUNING, _TOMBSTONE)
        for folder, names in ((PRUNING, tombstones), (READERS, leases)):
            for name in names:
                self._files.remove(f"{folder}/{name}")
                removed.append(f"{folder}/{name}")
        versions = [name for name in self._abandoned() if self.remove_version(name)]
        return removed + [f"{VERSIONS}/{name}" for name in versions]

    def remove_version(self, name: str) -> bool:
        """Remove a version without readers; False if something in it is not the store's."""
        if self._is_strange(name):
            return False
        parked = f"{SCRATCH}/{name}.{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):
            # First out of sight, which is one step where deleting is many.
            self._files.rename(f"{VERSIONS}/{name}", parked)
        return self.remove_staged(parked, name)

    def remove_staged(self, path: str, version: str | None = None) -> bool:
        """Remove the files of a version from a folder of ``staging/``; tell if all are gone."""
        kept = self._files.remove_ours(path, self._files_of(path, version))
        if kept:
            _warn(f"{path}/{kept[0]}", "is not in the version's manifest: left alone")
        return not kept

    def _clear_scratch(self) -> list[str]:
        removed = []
        temporary = set(self._own_files(SCRATCH, _TEMPORARY))
        for name in self._files.names(SCRATCH):
            path = f"{SCRATCH}/{name}"
            match = _STAGED.fullmatch(name)
            if name in temporary:
                self._files.remove(path)
                removed.append(path)
            elif match is None:
                _warn(path, "is not the store's: left alone")
            elif self.remove_staged(path, match["version"]):
                removed.append(path)
        return removed

    def _own_files(self, folder: str, pattern: re.Pattern[str]) -> list[str]:
        """Return the plain files of a pattern in a folder of the store."""
        names = [name for name in self._files.names(folder) if pattern.fullmatch(name)]
        strange = {path.partition("/")[0] for path in self._files.strangers(folder, names)}
        return [name for name in names if name not in strange]

    def _is_strange(self, name: str) -> bool:
        """Tell whether a version's folder holds what is not in its manifest, or is a link."""
        folder = f"{VERSIONS}/{name}"
        found = self._files.strangers(folder, self._files_of(folder, name))
        if found:
            path = folder if found == ["."] else f"{folder}/{found[0]}"
            _warn(path, f"is not the store's: version {name} is not removed; move it away")
        return bool(found)

    def _files_of(self, folder: str, version: str | None) -> list[str]:
        """Return the names that may be deleted from a folder of a version."""
        try:
            manifest = Manifest.decoded(self._files.read(f"{folder}/{MANIFEST}"))
        except (OSError, ValueError):
            return [*USUAL_FILES, MANIFEST]
        if version is not None and manifest.version != version:
            # A copy of a version that a person has made.
            return []
        # The manifest last: a run that is killed leaves a folder that the next one understands.
        return [*manifest.files, MANIFEST]

    def _prune_one(self, name: str) -> bool:
        if self._is_strange(name):
            return False
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
                self.remove_staged(parked, name)
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
        # A folder of another name is not the store's.
        names = [name for name in self._files.names(VERSIONS) if _VERSION.fullmatch(name)]
        names = [name for name in names if name != trail.current]
        unnamed = [name for name in names if not trail.naming(name) and not self._is_strange(name)]
        if unnamed and not self._fence(trail):
            return []
        broken = [name for name in names if "missing" in self._problems(name, trail)]
        return sorted({*unnamed, *broken})

    def _fence(self, trail: Trail) -> bool:
        """Use up the next number; False if another run has taken it.

        The run that left a version without a pointer may still live: suspended between its last
        look at the lock and the creation of the pointer. That pointer would name a version which is
        gone, so its number must be taken before.
        """
        sha256 = "" if trail.latest is None else trail.latest.sha256
        now = time_text(self._clock())
        fence = Pointer(trail.number + 1, trail.current, sha256, now, "fence", "")
        return self._pointers.create(fence)


def _warn(path: str, what: str) -> None:
    logger.warning("%s in the model store %s", path, what)
