"""The manifest of a version, and whether the version's files are those that it lists."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import TypeAdapter

from als_spark.files.json_files import decode, encode, shortened
from als_spark.files.trees import is_inner_name
from als_spark.store.files import Files, LocalFiles
from als_spark.store.layout import MANIFEST, STORE_FORMAT, VERSIONS, parse


class FileEntry(NamedTuple):
    """Size in bytes, and SHA-256 in hexadecimal, of a file."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version consists of."""

    version: str
    """Name."""
    created: str
    """When it was put into the store, in UTC, ISO 8601."""
    files: Mapping[str, FileEntry]
    """Each file, by its path in the version's folder."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    def encoded(self) -> bytes:
        """Return the content of the manifest's file."""
        files = {name: entry._asdict() for name, entry in self.files.items()}
        return encode({"format": STORE_FORMAT, **asdict(self), "files": files})

    @staticmethod
    def decoded(data: bytes) -> Manifest:
        """Read the content of a manifest's file; ValueError if it is something else."""
        if (found := decode(data).get("format")) != STORE_FORMAT:
            raise ValueError(f"format {shortened(repr(found))} is not {STORE_FORMAT!r}")
        manifest = parse(_MANIFEST, data)
        for name in manifest.files:
            if not is_inner_name(name):
                raise ValueError(f"{name!r} is no file of the version")
        return manifest


_MANIFEST = TypeAdapter(Manifest)


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Return size and SHA-256 of each file below a folder, by its path within it."""
    return {
        name: FileEntry(size, sha256_of(folder / name))
        for name, size in LocalFiles(folder).sizes("").items()
    }


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


Kind = Literal["missing", "size", "checksum", "unreadable", "unknown file", "manifest", "pointer"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a version, or with a pointer."""

    version: str
    """Name of the version, or number of the pointer."""
    file: str
    """Path in the store."""
    kind: Kind
    detail: str
    """What is wrong, in a sentence."""

    def __str__(self) -> str:
        """Name the file and what is wrong with it."""
        return f"{self.file}: {self.detail}"


def quick_problems(files: Files, version: str, sha256: str | None) -> list[Problem]:
    """Compare the names and sizes of a version's files with its manifest.

    ``sha256`` is that of the manifest in the pointer; None skips this comparison.
    """
    return _problems(files, version, sha256, f"{VERSIONS}/{version}", lambda _name: None)


def folder_problems(folder: Path, version: str, sha256: str | None) -> list[Problem]:
    """Compare a version's folder on this machine with its manifest, checksums too."""
    return _problems(LocalFiles(folder), version, sha256, "", lambda name: sha256_of(folder / name))


def _problems(
    files: Files,
    version: str,
    sha256: str | None,
    folder: str,
    hash_of: Callable[[str], str | None],
) -> list[Problem]:
    def problem(name: str, kind: Kind, detail: str) -> Problem:
        return Problem(version, f"{VERSIONS}/{version}/{name}", kind, detail)

    try:
        data = files.read(f"{folder}/{MANIFEST}".lstrip("/"))
    except FileNotFoundError:
        return [problem(MANIFEST, "missing", "is missing")]
    except PermissionError:
        raise
    except OSError as error:
        return [problem(MANIFEST, "unreadable", _cannot_be_read(error))]
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        return [problem(MANIFEST, "manifest", "is not the one that was published")]
    try:
        manifest = Manifest.decoded(data)
    except ValueError as error:
        return [problem(MANIFEST, "manifest", f"cannot be read ({error})")]
    found = files.sizes(folder)
    found.pop(MANIFEST, None)
    problems = []
    for name, entry in manifest.files.items():
        if name not in found:
            problems.append(problem(name, "missing", "is missing"))
            continue
        if found[name] != entry.size:
            detail = f"has {found[name]:,} bytes, not {entry.size:,}"
            problems.append(problem(name, "size", detail))
            continue
        try:
            if hash_of(name) not in (None, entry.sha256):
                detail = "has another content (SHA-256) than the manifest says"
                problems.append(problem(name, "checksum", detail))
        except (FileNotFoundError, PermissionError):
            raise
        except OSError as error:
            problems.append(problem(name, "unreadable", _cannot_be_read(error)))
    unknown = sorted(found.keys() - manifest.files.keys())
    return problems + [problem(name, "unknown file", "is not in the manifest") for name in unknown]


def unreadable(version: str, error: OSError) -> Problem:
    """Return the problem of a version that the file system has but does not give."""
    return Problem(version, f"{VERSIONS}/{version}", "unreadable", _cannot_be_read(error))


def _cannot_be_read(error: OSError) -> str:
    return f"cannot be read ({error.strerror or error})"
