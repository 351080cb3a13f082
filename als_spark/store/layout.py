"""Where things lie in a model store, how its small files are written, and its pointers.

::

    store.json                  marks the directory as a model store
    versions/<version>/         a model's files and manifest.json; never changed
    pointers/<number>.json      the highest-numbered one names the current version
    locks/<number>.json         the highest-numbered one is the lock, held or released
    readers/<version>.<token>.json   leases: a process reads this version
    pruning/<version>.json      tombstones: this version is about to be removed
    staging/                    what is not yet, or no longer, in its place
    runs/<run id>/              run.json of each run, with its reports
    history.jsonl               a line for each finished run

A pointer is created once and never changed. Switching the store to another version is creating the
pointer of the next number, which one process can do, and one only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, TypeAdapter, ValidationError

from als_spark.errors import DataError
from als_spark.files.json_files import decode, encode, shortened
from als_spark.files.trees import is_inner_name
from als_spark.store.files import SCRATCH, SCRATCH_SUFFIX, Files

STORE_FORMAT = "als_spark.store/1"
MARK = "store.json"
VERSIONS, POINTERS, LOCKS = "versions", "pointers", "locks"
READERS, PRUNING, RUNS = "readers", "pruning", "runs"
HISTORY = "history.jsonl"
MANIFEST = "manifest.json"

T = TypeVar("T")


def _within_reach(time: datetime) -> datetime:
    if not _YEARS[0] <= time.year < _YEARS[1]:
        raise ValueError("no time of a clock")
    return time


_YEARS = (1900, 9000)
"""At the ends of what Python's calendar has, times can be neither added to nor put into UTC."""
Moment = Annotated[AwareDatetime, AfterValidator(_within_reach)]
"""A time in a file, with its zone."""

_DIGITS = 10
# As :func:`numbered` writes them; the longest are of 64 bits still.
_NUMBER = re.compile(rf"[0-9]{{{_DIGITS}}}|[1-9][0-9]{{{_DIGITS},17}}")
# What the tools of a file system may leave in an otherwise empty directory.
_IGNORED = {"lost+found"}


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def time_text(time: datetime) -> str:
    """Write a time in UTC as ISO 8601, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def stamp(time: datetime) -> str:
    """Write a time in UTC as part of a file name: ``20261125T034055Z``."""
    return time.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def parse(kind: TypeAdapter[T], data: bytes | Mapping[str, Any]) -> T:
    """Read a JSON object of a given type; keys that the type does not have are passed over.

    The ValueError names, in one line, the first key whose value is of another type, and the value.
    """
    # As JSON, where an array may be a tuple, and a text a time.
    text = json.dumps(data if isinstance(data, Mapping) else decode(data))
    try:
        return kind.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        found = "" if first["type"] == "missing" else f" is {shortened(repr(first['input']))}"
        raise ValueError(f"{place}{found}: {first['msg']}".removeprefix(": ")) from None


def is_version_name(name: str) -> bool:
    """Tell whether a text can be the name of a version: that of a folder in :data:`VERSIONS`."""
    return is_inner_name(name) and "/" not in name


def numbered(folder: str, number: int) -> str:
    """Return the path of a numbered file."""
    return f"{folder}/{number:0{_DIGITS}}.json"


def numbers_in(files: Files, folder: str) -> list[int]:
    """Return the numbers of the numbered files in a folder, lowest first."""
    stems = [name.removesuffix(".json") for name in files.names(folder) if name.endswith(".json")]
    return sorted(int(stem) for stem in stems if _NUMBER.fullmatch(stem))


def is_store(files: Files, label: str) -> bool:
    """Tell a model store from an absent or empty directory; DataError if it is neither."""
    try:
        mark = decode(files.read(MARK))
    except (FileNotFoundError, NotADirectoryError):
        _check_empty(files, label)
        return False
    except ValueError as error:
        raise DataError(
            f"{label}/{MARK} is no JSON object: give the directory of a model store, or write "
            f'{{"format": "{STORE_FORMAT}"}} into the file again'
        ) from error
    if mark.get("format") != STORE_FORMAT:
        found = shortened(repr(mark.get("format")))
        raise DataError(
            f"{label}/{MARK}: format {found} is not {STORE_FORMAT!r}: use the version of als_spark "
            "that made the store"
        )
    return True


def mark_store(files: Files, label: str, now: datetime) -> None:
    """Make an absent or empty directory a model store; DataError if it holds something else."""
    if not is_store(files, label):
        # False if another process has just done the same.
        files.create(MARK, encode({"format": STORE_FORMAT, "created": time_text(now)}))


def _check_empty(files: Files, label: str) -> None:
    names = [name for name in files.names("") if name not in _IGNORED]
    # A run killed while it wrote the mark leaves the mark's temporary file.
    if names == [SCRATCH]:
        names = [name for name in files.names(SCRATCH) if not name.endswith(SCRATCH_SUFFIX)]
    if names:
        raise DataError(
            f"{label} holds something else ({names[0]}) and is no model store (no {MARK}): give an "
            "empty or a new directory"
        )


Action = Literal["publish", "rollback", "fence"]
"""``fence`` repeats the pointer before it, to use up a number: see ``ModelStore.recover``."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """A switch of the store to a version."""

    number: int
    """1 is the first; the highest names the current version."""
    version: str | None
    """None for a fence in a store without a version."""
    sha256: str
    """SHA-256 of the version's manifest file, in hexadecimal; "" without a version."""
    published: str
    """When the pointer was created, in UTC, ISO 8601."""
    action: Action
    run: str
    """Id of the run that created it."""


_POINTER = TypeAdapter(Pointer)


@dataclass(frozen=True, slots=True)
class Trail:
    """All pointers of a store at one time."""

    number: int
    """The highest; 0 if there are no pointers."""
    pointers: tuple[Pointer, ...]
    """Those that can be read, lowest number first."""
    damaged: dict[int, str]
    """What is wrong with the others, by their number."""

    @property
    def latest(self) -> Pointer | None:
        """The pointer that counts; None if there is none, or it cannot be read."""
        if not self.pointers or self.pointers[-1].number != self.number:
            return None
        return self.pointers[-1]

    @property
    def current(self) -> str | None:
        """The version that readers get, as far as the latest pointer can be read."""
        return None if self.latest is None else self.latest.version

    def naming(self, version: str) -> list[Pointer]:
        """Return the pointers to a version, fences left out."""
        return [p for p in self.pointers if p.version == version and p.action != "fence"]

    def sha256_of(self, version: str) -> str | None:
        """Return the SHA-256 of a version's manifest; None if no pointer names the version."""
        named = self.naming(version)
        return named[-1].sha256 if named else None

    def published(self) -> list[str]:
        """Return the versions that were ever current, in the order of their first publishing."""
        named = (p.version for p in self.pointers if p.action != "fence")
        return list(dict.fromkeys(version for version in named if version is not None))

    def left(self) -> set[str | None]:
        """Return the versions that a roll-back left, and no later one made current again."""
        left: set[str | None] = set()
        before: str | None = None
        for pointer in self.pointers:
            if pointer.action == "rollback":
                left.add(before)
            if pointer.action != "fence":
                left.discard(pointer.version)
            before = pointer.version
        return left


class Pointers:
    """Reads and creates the pointers of a store; what was read once is remembered."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._known: dict[int, Pointer] = {}

    def highest(self) -> int:
        """Return the number of the current pointer; 0 if there is none."""
        return max(numbers_in(self._files, POINTERS), default=0)

    def read(self, number: int) -> Pointer:
        """Return a pointer; ValueError if it cannot be read."""
        if number not in self._known:
            try:
                pointer = parse(_POINTER, self._files.read(numbered(POINTERS, number)))
            except FileNotFoundError as error:
                raise ValueError("it is gone") from error
            except PermissionError:
                raise
            except OSError as error:
                raise ValueError(str(error)) from error
            if pointer.version is None and pointer.action != "fence":
                raise ValueError("it names no version")
            if pointer.version is not None and not is_version_name(pointer.version):
                raise ValueError(
                    f"it names {shortened(repr(pointer.version))}, which is no version"
                )
            if pointer.number != number:
                raise ValueError(f"it has the number {pointer.number}")
            self._known[number] = pointer
        return self._known[number]

    def trail(self) -> Trail:
        """Return all pointers."""
        numbers = numbers_in(self._files, POINTERS)
        found, damaged = [], {}
        for number in numbers:
            try:
                found.append(self.read(number))
            except ValueError as error:
                damaged[number] = str(error)
        return Trail(max(numbers, default=0), tuple(found), damaged)

    def create(self, pointer: Pointer) -> bool:
        """Make a pointer the current one; False if its number is taken."""
        return self._files.create(numbered(POINTERS, pointer.number), encode(asdict(pointer)))
