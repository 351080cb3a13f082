"""Where things lie in a model store, and how its small files are written.

::

    store.json                  marks the directory as a model store
    versions/<version>/         a model's files and manifest.json; never changed
    pointers/<number>.json      the highest-numbered one names the current version
    locks/<number>.json         the highest-numbered one is the lock, held or released
    readers/<version>.<token>.json   leases: somebody is reading this version
    pruning/<version>.json      tombstones: this version is about to be removed
    staging/                    what is not yet, or no longer, in its place
    runs/<run id>/              run.json of each run, with its reports
    history.jsonl               a line for each finished run
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from als_spark.errors import DataError
from als_spark.store.files import SCRATCH, SCRATCH_SUFFIX, Files

STORE_FORMAT = "als_spark.store/1"
MARK = "store.json"
VERSIONS, POINTERS, LOCKS = "versions", "pointers", "locks"
READERS, PRUNING, RUNS = "readers", "pruning", "runs"
HISTORY = "history.jsonl"
MANIFEST = "manifest.json"

_DIGITS = 10
# What the tools of a file system may leave in an otherwise empty directory.
_NOBODYS = {"lost+found"}


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def time_text(time: datetime) -> str:
    """Write a time in UTC as ISO 8601, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def read_time(text: object) -> datetime:
    """Read a time; ValueError if it is none, or in no known zone."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no time")
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return time


def stamp(time: datetime) -> str:
    """Write a time in UTC as part of a file name: ``20261125T034055Z``."""
    return time.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def encode(value: Any) -> bytes:
    """Write a value as JSON, for reading by people too; NaN is refused, since it is not JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def decode(data: bytes) -> dict[str, Any]:
    """Read a JSON object; ValueError if it is none."""
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def numbered(folder: str, number: int) -> str:
    """Return the path of a numbered file."""
    return f"{folder}/{number:0{_DIGITS}}.json"


def numbers_in(files: Files, folder: str) -> list[int]:
    """Return the numbers of the numbered files in a folder, lowest first."""
    stems = [name.removesuffix(".json") for name in files.names(folder) if name.endswith(".json")]
    return sorted(int(stem) for stem in stems if len(stem) == _DIGITS and stem.isdecimal())


def is_store(files: Files, label: str) -> bool:
    """Tell a model store from an absent or empty directory, and refuse anything else.

    Parameters
    ----------
    files : Files
        The directory.
    label : str
        How messages call it.

    Raises
    ------
    DataError
        If the directory holds something else, or a store of another format.
    """
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
        raise DataError(
            f"{label}/{MARK}: format {mark.get('format')!r} is not {STORE_FORMAT!r}: use the "
            "version of als_spark that made the store"
        )
    return True


def mark_store(files: Files, label: str, now: datetime) -> None:
    """Make an absent or empty directory a model store; leave one as it is.

    Raises
    ------
    DataError
        If the directory holds something else.
    """
    if not is_store(files, label):
        # False if somebody else has just done the same.
        files.create(MARK, encode({"format": STORE_FORMAT, "created": time_text(now)}))


def _check_empty(files: Files, label: str) -> None:
    remedy = "give an empty or a new directory"
    if not files.exists(""):
        return
    names = [name for name in files.names("") if name not in _NOBODYS]
    # A run killed while it wrote the mark leaves the mark's temporary file.
    if names == [SCRATCH]:
        names = [name for name in files.names(SCRATCH) if not name.endswith(SCRATCH_SUFFIX)]
    if names:
        raise DataError(
            f"{label} holds something else ({names[0]}) and is no model store (no {MARK}): {remedy}"
        )
