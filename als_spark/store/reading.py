"""Reading a model store: what there is, and models whose files are those that were published."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from als_spark.errors import DataError
from als_spark.model.factor_model import FactorModel
from als_spark.model.files import load_before_refit, load_model
from als_spark.store.files import Files
from als_spark.store.layout import (
    MANIFEST,
    POINTERS,
    PRUNING,
    VERSIONS,
    Pointer,
    Pointers,
    Trail,
    is_store,
    numbered,
    utc_now,
)
from als_spark.store.leases import leased
from als_spark.store.manifest import Manifest, Problem, folder_problems, quick_problems, unreadable

T = TypeVar("T")
CURRENT = "current"
"""What callers may say instead of the name of the current version."""

_TRIES = 8
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """A version in the store."""

    name: str
    created: str | None
    """When it was put into the store, in UTC, ISO 8601; None if its manifest cannot be read."""
    size: int | None
    """Bytes of its files; None if its manifest cannot be read."""
    current: bool
    """Whether readers get this one."""
    published: int
    """How often it was made current, roll-backs included; 0 for what a killed run left."""
    complete: bool
    """Whether all files are there, with the sizes of the manifest. Checksums: ``verify``."""


class _Gone(Exception):
    """The version vanished while it was being opened."""


class StoreReader:
    """A model store, as readers need it: no lock, and no right to write.

    Everywhere, ``version`` is a name, the beginning of one, or "current", the default. Every method
    raises DataError if the directory holds something else than a store, or if there is no such
    version, or not one only.

    Attributes
    ----------
    files, label : Files, str
        The store's directory, and what messages call it.
    """

    def __init__(
        self, files: Files, label: str, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.files = files
        self.label = label
        self._clock = clock
        self._pointers = Pointers(files)

    def __repr__(self) -> str:
        """Name the store's directory."""
        return f"<{type(self).__name__} {self.label}>"

    def exists(self) -> bool:
        """Tell a store from an absent or empty directory."""
        return is_store(self.files, self.label)

    def pointers(self) -> list[Pointer]:
        """Return the switches of the store, oldest first, as far as they can be read."""
        return list(self._trail().pointers)

    def pointer_number(self) -> int:
        """Return the number of the current pointer, 0 if there is none: see ``publish``."""
        return self._trail().number

    def current(self) -> str | None:
        """Return the name of the current version; None if there is none yet.

        Raises
        ------
        DataError
            If the current pointer cannot be read.
        """
        pointer = self._current_pointer()
        return None if pointer is None else pointer.version

    def versions(self) -> list[VersionInfo]:
        """Return all versions, oldest first."""
        trail = self._trail()
        found = []
        for name in sorted(self.files.names(VERSIONS), key=_age):
            complete = not quick_problems(self.files, name, trail.sha256_of(name))
            published, manifest = len(trail.naming(name)), self._manifest(name)
            created, size = (None, None) if manifest is None else (manifest.created, manifest.size)
            current = name == trail.current
            found.append(VersionInfo(name, created, size, current, published, complete))
        return found

    def resolve(self, version: str | None = None) -> str:
        """Return the full name of a version."""
        return self._resolve(version)[0]

    @contextmanager
    def open(self, version: str | None = None) -> Iterator[Path]:
        """Give the folder of a version, verified, and keep it from being pruned during the block.

        It is called as the version: the store's own, which must not be changed, or a copy of one on
        another file system. A reader without the right to write into the store gets it too, but
        nothing then keeps the pruner away.

        Raises
        ------
        DataError
            If its files are not those that were published.
        """
        with ExitStack() as stack:
            yield self._opened(version, stack)

    def load(self, version: str | None = None) -> FactorModel:
        """Read a model, verified.

        Raises
        ------
        DataError
            If its files are not those that were published.
        """
        return self.read(version, load_model)

    def load_before_refit(self, version: str | None = None) -> FactorModel:
        """Read the model that a version was measured by, verified.

        Of a version that was refitted on all ratings, that is the model before the refit; of any
        other, the same as :meth:`load`.

        Raises
        ------
        DataError
            If its files are not those that were published.
        """
        return self.read(version, load_before_refit)

    def read(self, version: str | None, read: Callable[[Path], T]) -> T:
        """Read something of a version's folder, verified.

        Raises
        ------
        DataError
            If its files are not those that were published; or what ``read`` raises.
        """
        for _ in range(_TRIES):
            with self.open(version) as folder:
                try:
                    return read(folder)
                except DataError:
                    # Without a lease it may have been pruned between the two.
                    if (folder / MANIFEST).is_file():
                        raise
        raise self._missing(self.resolve(version))

    def verify(self, version: str | None = None) -> list[Problem]:
        """Compare versions with their manifests, and these with the pointers.

        Without a version: all of them, and the pointers themselves.
        """
        if version is not None:
            return self._deep_problems(*self._resolve(version))
        trail = self._trail()
        problems = []
        for number, why in trail.damaged.items():
            file, detail = numbered(POINTERS, number), f"cannot be read ({why})"
            problems.append(Problem(str(number), file, "pointer", detail))
        names = set(self.files.names(VERSIONS))
        if trail.current is not None:
            names.add(trail.current)
        for name in sorted(names, key=_age):
            problems += self._deep_problems(name, trail.sha256_of(name))
        return problems

    def _trail(self) -> Trail:
        return self._pointers.trail() if self.exists() else Trail(0, (), {})

    def _current_pointer(self) -> Pointer | None:
        number = self._pointers.highest() if self.exists() else 0
        if number == 0:
            return None
        try:
            return self._pointers.read(number)
        except ValueError as error:
            raise DataError(
                f"{self.label}: the current pointer {numbered(POINTERS, number)} cannot be read "
                f"({error}): {self._remedy()}"
            ) from error

    def _resolve(self, version: str | None) -> tuple[str, str]:
        """Return the name of a version and the SHA-256 of its manifest."""
        if version is None or version == CURRENT:
            pointer = self._current_pointer()
            if pointer is None or pointer.version is None:
                raise DataError(f"{self.label} holds no model yet: publish one first")
            return pointer.version, pointer.sha256
        trail = self._trail()
        there = self.files.names(VERSIONS)
        published = [name for name in trail.published() if name in there]
        called = [version] if version in published else []
        called = called or [name for name in published if version and name.startswith(version)]
        if len(called) != 1:
            several = f"several versions ({', '.join(called[:3])})" if called else "no version"
            raise DataError(
                f"{self.label} has {several} called {version!r}: see jobs/store.py list"
            )
        return called[0], trail.naming(called[0])[-1].sha256

    def _opened(self, version: str | None, stack: ExitStack) -> Path:
        for attempt in range(_TRIES):
            time.sleep(_PAUSE * attempt)
            number = self._pointers.highest()
            name, sha256 = self._resolve(version)
            with ExitStack() as trial:
                try:
                    folder, problems = self._attempt(name, sha256, trial)
                except (_Gone, FileNotFoundError):
                    continue
                if not problems:
                    stack.push(trial.pop_all())
                    return folder
            if problems[0].kind == "unreadable" and attempt < _TRIES - 1:
                # A file system that is busy, or a node of it that is away, answers the next time.
                continue
            there = self.files.exists(f"{VERSIONS}/{name}/{MANIFEST}")
            if there and self._pointers.highest() == number:
                raise DataError(
                    f"{self.label}: version {name} is damaged: {problems[0]}: {self._remedy()}"
                )
        raise self._missing(name)

    def _attempt(self, name: str, sha256: str, trial: ExitStack) -> tuple[Path, list[Problem]]:
        trial.enter_context(leased(self.files, name, clock=self._clock))
        if self.files.exists(f"{PRUNING}/{name}.json"):
            raise _Gone
        folder, problems = self._checked(name, sha256, trial)
        if any(p.kind != "unreadable" for p in problems) and not (folder / MANIFEST).is_file():
            raise _Gone
        return folder, problems

    def _checked(
        self, name: str, sha256: str | None, stack: ExitStack
    ) -> tuple[Path, list[Problem]]:
        """Return a version's folder on this machine, and what is wrong with it."""
        folder = self.files.local(f"{VERSIONS}/{name}")
        if folder is None:
            parent = stack.enter_context(tempfile.TemporaryDirectory(prefix="als_spark-"))
            folder = Path(parent) / name
            try:
                self.files.download(f"{VERSIONS}/{name}", folder)
            except (FileNotFoundError, PermissionError):
                raise
            except OSError as error:
                # Another file system checks what it reads, and refuses what is damaged.
                return folder, [unreadable(name, error)]
        return folder, folder_problems(folder, name, sha256)

    def _deep_problems(self, name: str, sha256: str | None) -> list[Problem]:
        with ExitStack() as stack:
            try:
                return self._checked(name, sha256, stack)[1]
            except FileNotFoundError:
                file = f"{VERSIONS}/{name}/{MANIFEST}"
                return [Problem(name, file, "missing", "is missing")]

    def _manifest(self, name: str) -> Manifest | None:
        try:
            return Manifest.decoded(self.files.read(f"{VERSIONS}/{name}/{MANIFEST}"))
        except PermissionError:
            raise
        except (OSError, ValueError):
            return None

    def _missing(self, name: str) -> DataError:
        return DataError(
            f"{self.label}: version {name} is missing or being removed: {self._remedy()}"
        )

    def _remedy(self) -> str:
        return f"switch to an intact version: jobs/store.py rollback --store {self.label}"


def _age(name: str) -> tuple[str, int]:
    """Sort names of versions by time: "-10" comes after "-9"."""
    base, _, count = name.partition("-")
    return base, int(count) if count.isdecimal() else 1
