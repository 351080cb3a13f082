"""The model store: publish, read, verify, roll back, prune and recover.

::

    store = open_store(path)
    with store.lock(run) as lock:
        store.recover()
        based_on = store.pointer_number()
        ...                                   # train into a folder of your own
        store.publish(folder, run=run, expected=based_on, check=lock.check)
    model = store.load()

Readers need no lock. Those who write hold it: :meth:`ModelStore.publish` and
:meth:`ModelStore.rollback` are safe without (of two that switch at once, one gets
:class:`~als_spark.errors.PublishConflict`), the others are not.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from als_spark.errors import ConfigError, DataError, PublishConflict
from als_spark.files.places import local_path
from als_spark.model.files import MODEL_FILES
from als_spark.store.files import SCRATCH, LocalFiles
from als_spark.store.history import RunHistory
from als_spark.store.layout import (
    MANIFEST,
    PRUNING,
    VERSIONS,
    Action,
    Pointer,
    Trail,
    mark_store,
    stamp,
    time_text,
)
from als_spark.store.leases import leased
from als_spark.store.lock import LOCK_TTL, StoreLock
from als_spark.store.maintenance import Maintenance
from als_spark.store.manifest import FileEntry, Manifest, list_files
from als_spark.store.reading import StoreReader


class ModelStore(StoreReader):
    """A model store on any file system.

    Wherever a method takes ``check``, that is the ``check`` of the lock: it is called right before
    each step that cannot be taken back, and raises if the lock was lost. Every method raises
    DataError if the directory holds something else than a store.
    """

    @property
    def history(self) -> RunHistory:
        """The records of the runs."""
        return RunHistory(self.files, self.label, clock=self._clock)

    def lock(self, run: str, *, ttl: timedelta = LOCK_TTL) -> StoreLock:
        """Return the lock of the store for a run, to be taken by ``with``; mark the store first."""
        mark_store(self.files, self.label, self._clock())
        return StoreLock(self.files, self.label, run, ttl=ttl, clock=self._clock)

    def publish(
        self,
        folder: Path,
        *,
        run: str,
        expected: int | None = None,
        check: Callable[[], None] | None = None,
    ) -> str:
        """Put a model into the store and make it current, in one step for readers.

        Parameters
        ----------
        folder : Path
            A model as :func:`~als_spark.model.files.save_model` writes it, and whatever else is to
            be kept with it. It is copied; names that begin with a dot are left out.
        run : str
            Id of the run.
        expected : int, optional
            The :meth:`pointer_number` that the caller has decided upon; the one that is found if
            not given.

        Raises
        ------
        DataError
            If the folder holds no model.
        PublishConflict
            If the store was switched meanwhile. Nothing is left behind.
        """
        _check_publishable(folder)
        mark_store(self.files, self.label, self._clock())
        trail = self._trail()
        based_on = trail.number if expected is None else expected
        if trail.number != based_on:
            raise self._conflict(run, based_on)
        staged = f"{SCRATCH}/{secrets.token_hex(8)}"
        placed: list[str] = []
        try:
            listed = list_files(folder)
            # Should this run be killed, the list says what of the folder may be removed.
            preliminary = Manifest("", time_text(self._clock()), listed)
            self.files.replace(f"{staged}/{MANIFEST}", preliminary.encoded())
            self.files.upload(folder, staged)
            self._compare_sizes(staged, listed)
            sha256 = self._place(staged, listed, set(trail.published()), placed)
            switched = self._switch(based_on, placed[0], sha256, "publish", run, check)
        except BaseException:
            # The machine may be failing; what stays behind, recover() finds.
            with suppress(Exception):
                self._discard(staged, placed)
            raise
        if not switched:
            self._discard(staged, placed)
            raise self._conflict(run, based_on)
        return placed[0]

    def rollback(
        self, to: str | None = None, *, run: str, check: Callable[[], None] | None = None
    ) -> str:
        """Make an older version current again and return its name; only one that is intact.

        Without ``to``, that is the newest intact one that was first published before the current
        one, and one that was left by a roll-back itself only if there is no other. Without
        ``check``, that is without the lock, a version that is being pruned is refused.

        Raises
        ------
        DataError
            If the version is damaged, or current already.
        PublishConflict
            If the store was switched meanwhile.
        """
        trail = self._trail()
        now = trail.current
        if to is None:
            version, sha256 = self._previous(trail, now)
        else:
            version, sha256 = self._resolve(to)
            if version == now:
                raise DataError(
                    f"{self.label}: {version} is the current version already: give another one"
                )
            if problems := self._deep_problems(version, sha256):
                raise DataError(
                    f"{self.label}: version {version} is damaged ({problems[0]}): roll back to "
                    "another one"
                )
        tombstone = f"{PRUNING}/{version}.json"
        if check is not None:
            # A pruner that was killed has left it: readers would wait for nothing.
            self.files.remove(tombstone)
        # A pruner that is at work sees the lease, or has written the tombstone before.
        with leased(self.files, version, clock=self._clock):
            manifest = f"{VERSIONS}/{version}/{MANIFEST}"
            if self.files.exists(tombstone) or not self.files.exists(manifest):
                raise DataError(
                    f"{self.label}: version {version} is being removed: roll back to another one"
                )
            if not self._switch(trail.number, version, sha256, "rollback", run, check):
                raise self._conflict(run, trail.number)
        return version

    def prune(self, keep: int, *, check: Callable[[], None] | None = None) -> list[str]:
        """Remove published versions but the ``keep`` newest intact ones; hold the lock.

        Never the current version, one with a reader, or one whose folder holds anything that is not
        in its manifest (a warning names it). What was never published is for :meth:`recover`.

        Returns
        -------
        list of str
            Names of the versions that were removed.

        Raises
        ------
        DataError
            If ``keep`` is less than 1, or the current pointer cannot be read.
        """
        if keep < 1:
            raise DataError(f"cannot keep {keep} versions: keep at least 1")
        self._current_pointer()
        return self._maintenance().prune(keep, check)

    def recover(self) -> list[str]:
        """Remove what killed runs have left, and return its paths in the store; hold the lock.

        That is what runs have put into ``staging/``, versions that no pointer ever named or that
        have lost files (never the current one), tombstones, and leases that have expired or whose
        process is gone. What the store has not written stays, with a warning; so does a version
        that holds such a thing.
        """
        return self._maintenance().recover() if self.exists() else []

    def _maintenance(self) -> Maintenance:
        return Maintenance(self.files, self._pointers, self._clock)

    def _previous(self, trail: Trail, now: str | None) -> tuple[str, str]:
        """Return the newest intact version that was first published before the current one."""
        published = trail.published()
        older = published[: published.index(now)] if now in published else published
        there = set(self.files.names(VERSIONS))
        left = trail.left()
        # The newest first; those that a roll-back left after all others.
        candidates = [name for name in reversed(older) if name not in left]
        candidates += [name for name in reversed(older) if name in left]
        for name in candidates:
            sha256 = trail.naming(name)[-1].sha256
            if name in there and not self._deep_problems(name, sha256):
                return name, sha256
        raise DataError(
            f"{self.label} has no intact version older than the current one: publish a new one"
        )

    def _place(
        self, staged: str, listed: dict[str, FileEntry], used: set[str], placed: list[str]
    ) -> str:
        """Give a staged folder its manifest and a name; return the SHA-256 of the manifest."""
        now = self._clock()
        for count in itertools.count(1):
            name = stamp(now) if count == 1 else f"{stamp(now)}-{count}"
            # A name is never given twice, not even after its version was pruned.
            if name in used or self.files.exists(f"{VERSIONS}/{name}"):
                continue
            content = Manifest(name, time_text(now), listed).encoded()
            # Noted before the step, which may be interrupted.
            placed[:] = [name]
            try:
                self.files.settle(staged, f"{VERSIONS}/{name}", MANIFEST, content)
            except FileExistsError:
                placed.clear()
                continue
            return hashlib.sha256(content).hexdigest()
        raise AssertionError("unreachable")

    def _switch(
        self,
        based_on: int,
        version: str,
        sha256: str,
        action: Action,
        run: str,
        check: Callable[[], None] | None,
    ) -> bool:
        pointer = Pointer(based_on + 1, version, sha256, time_text(self._clock()), action, run)
        if check is not None:
            check()
        return self._pointers.create(pointer)

    def _discard(self, staged: str, placed: list[str]) -> None:
        self._maintenance().remove_staged(staged)
        # Interrupted in the last step, the pointer may be there none the less.
        if placed and not self._pointers.trail().naming(placed[0]):
            self._maintenance().remove_version(placed[0])

    def _compare_sizes(self, staged: str, listed: dict[str, FileEntry]) -> None:
        found = self.files.sizes(staged)
        found.pop(MANIFEST, None)
        if found != {name: entry.size for name, entry in listed.items()}:
            raise OSError(f"{self.label}/{staged} is not what was written: publish again")

    def _conflict(self, run: str, based_on: int) -> PublishConflict:
        return PublishConflict(
            f"{self.label}: run {run} decided upon pointer {based_on}, but "
            f"{self._pointers.highest()} is the current one: nothing was switched; run it again"
        )


def _check_publishable(folder: Path) -> None:
    for name in MODEL_FILES:
        if not (folder / name).is_file():
            raise DataError(f"{folder} holds no model to publish (no {name}): use save_model")
    if (folder / MANIFEST).exists():
        raise DataError(
            f"{folder} has a {MANIFEST}, which is the store's: give the file another name"
        )


def open_store(path: str | Path) -> ModelStore:
    """Return the model store in a directory of this machine, or in its ``file:`` URI.

    An absent or empty directory is an empty store, made one by the first write.

    Raises
    ------
    DataError
        If the path is a file. What else the directory may hold is found at the first use.
    ConfigError
        If it is of another file system.
    """
    found = path if isinstance(path, Path) else local_path(path)
    if found is None:
        raise ConfigError(f"{path} is not on this machine: open it with store_at and a session")
    if found.exists() and not found.is_dir():
        raise DataError(f"{found} is a file: give the directory of a model store")
    return ModelStore(LocalFiles(found), str(found))
