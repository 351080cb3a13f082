"""The pointers of a store: which version is current, and which were before.

A pointer is a small file that is created once and never changed. Switching the store to another
version is creating the pointer of the next number, which one process can do, and one only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from als_spark.store.files import Files
from als_spark.store.layout import POINTERS, decode, encode, numbered, numbers_in

Action = Literal["publish", "rollback", "fence"]
"""``fence`` repeats the pointer before it, to use up a number: see ``ModelStore.recover``."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """A switch of the store to a version.

    Attributes
    ----------
    number : int
        1 is the first; the highest names the current version.
    version : str or None
        Name of the version; None for a fence in a store without one.
    sha256 : str
        Of the version's manifest file, in hexadecimal; "" without a version.
    published : str
        When the pointer was created, in UTC, ISO 8601.
    action : {"publish", "rollback", "fence"}
        Why.
    run : str
        Id of the run that created it.
    """

    number: int
    version: str | None
    sha256: str
    published: str
    action: Action
    run: str

    def as_record(self) -> dict[str, Any]:
        """Return the attributes as JSON has them."""
        return asdict(self)

    @staticmethod
    def from_record(record: dict[str, Any], number: int) -> Pointer:
        """Read what :meth:`as_record` wrote; ValueError if it is something else."""
        texts = [record.get(name) for name in ("sha256", "published", "action", "run")]
        if not all(isinstance(text, str) for text in texts) or texts[2] not in get_args(Action):
            raise ValueError("a key is missing")
        version = record.get("version")
        if not (isinstance(version, str) or (version is None and texts[2] == "fence")):
            raise ValueError("it names no version")
        if record.get("number") != number:
            raise ValueError(f"it has the number {record.get('number')!r}")
        return Pointer(number, version, *texts)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Trail:
    """All pointers of a store at one time.

    Attributes
    ----------
    number : int
        The highest; 0 if there are no pointers.
    pointers : tuple of Pointer
        Those that can be read, lowest number first.
    damaged : mapping of int to str
        What is wrong with the others, by their number.
    """

    number: int
    pointers: tuple[Pointer, ...]
    damaged: dict[int, str]

    @property
    def latest(self) -> Pointer | None:
        """The pointer that counts; None if there is none, or it cannot be read."""
        if not self.pointers or self.pointers[-1].number != self.number:
            return None
        return self.pointers[-1]

    def naming(self, version: str) -> list[Pointer]:
        """Return the pointers to a version, fences left out."""
        return [p for p in self.pointers if p.version == version and p.action != "fence"]

    def published(self) -> list[str]:
        """Return the versions that were ever current, in the order of their first publishing."""
        named = (p.version for p in self.pointers if p.action != "fence")
        return list(dict.fromkeys(version for version in named if version is not None))

    def left(self) -> set[str]:
        """Return the versions that a roll-back went away from, and nobody back to."""
        left: set[str] = set()
        before: str | None = None
        for pointer in self.pointers:
            if pointer.action == "rollback" and before is not None:
                left.add(before)
            if pointer.action != "fence" and pointer.version is not None:
                left.discard(pointer.version)
            before = pointer.version
        return left


class Pointers:
    """Reads and creates the pointers of a store; what was read once is remembered.

    Parameters
    ----------
    files : Files
        The store's.
    """

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
                record = decode(self._files.read(numbered(POINTERS, number)))
            except FileNotFoundError as error:
                raise ValueError("it is gone") from error
            except PermissionError:
                raise
            except OSError as error:
                raise ValueError(str(error)) from error
            self._known[number] = Pointer.from_record(record, number)
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
        return self._files.create(numbered(POINTERS, pointer.number), encode(pointer.as_record()))
