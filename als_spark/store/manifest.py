"""The manifest of a version, and whether the version's files are those that it lists."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from als_spark.files.trees import is_inner_name
from als_spark.store.files import Files, LocalFiles, visible_files
from als_spark.store.layout import MANIFEST, STORE_FORMAT, VERSIONS, decode, encode


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version consists of.

    Attributes
    ----------
    version : str
        Its name.
    created : str
        When it was put into the store, in UTC, ISO 8601.
    files : mapping of str to (int, str)
        Size in bytes and SHA-256 of each file, by its path in the version's folder.
    """

    version: str
    created: str
    files: Mapping[str, tuple[int, str]]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.files.values())

    def encoded(self) -> bytes:
        """Return the content of the manifest's file."""
        files = {name: {"size": size, "sha256": sha} for name, (size, sha) in self.files.items()}
        return encode(
            {
                "format": STORE_FORMAT,
                "version": self.version,
                "created": self.created,
                "files": files,
            }
        )

    @staticmethod
    def decoded(data: bytes) -> Manifest:
        """Read the content of a manifest's file; ValueError if it is something else."""
        record = decode(data)
        if record.get("format") != STORE_FORMAT:
            raise ValueError(f"format {record.get('format')!r} is not {STORE_FORMAT!r}")
        version, created, files = (record.get(key) for key in ("version", "created", "files"))
        if not (isinstance(version, str) and isinstance(created, str) and isinstance(files, dict)):
            raise ValueError("a key is missing")
        return Manifest(
            version, created, {name: _file_of(name, entry) for name, entry in files.items()}
        )


def list_files(folder: Path) -> dict[str, tuple[int, str]]:
    """Return size and SHA-256 of each file below a folder, by its path within it."""
    return {
        name: (path.stat().st_size, sha256_of(path)) for name, path in visible_files(folder).items()
    }


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a version, or with a pointer.

    Attributes
    ----------
    version : str
        Its name; of a pointer, its number.
    file : str
        The file that is concerned, from the store's directory.
    kind : {"missing", "size", "checksum", "unreadable", "unknown file", "manifest", "pointer"}
        What is wrong.
    detail : str
        The same in words.
    """

    version: str
    file: str
    kind: Literal[
        "missing", "size", "checksum", "unreadable", "unknown file", "manifest", "pointer"
    ]
    detail: str

    def __str__(self) -> str:
        """Name the file and what is wrong with it."""
        return f"{self.file}: {self.detail}"


def quick_problems(files: Files, version: str, sha256: str | None) -> list[Problem]:
    """Compare the names and sizes of a version's files with its manifest.

    Parameters
    ----------
    files : Files
        The store's.
    version : str
        Its name.
    sha256 : str or None
        Of the manifest, as the pointer has it; None does not compare.
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
    place = f"{VERSIONS}/{version}/"
    path = f"{folder}/{MANIFEST}".lstrip("/")
    try:
        data = files.read(path)
    except FileNotFoundError:
        return [Problem(version, place + MANIFEST, "missing", "is missing")]
    except PermissionError:
        raise
    except OSError as error:
        return [unreadable(version, place + MANIFEST, error)]
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        detail = "is not the one that was published"
        return [Problem(version, place + MANIFEST, "manifest", detail)]
    try:
        manifest = Manifest.decoded(data)
    except ValueError as error:
        detail = f"cannot be read ({error})"
        return [Problem(version, place + MANIFEST, "manifest", detail)]
    found = files.sizes(folder)
    found.pop(MANIFEST, None)
    problems = []
    for name, (size, sha) in manifest.files.items():
        if name not in found:
            problems.append(Problem(version, place + name, "missing", "is missing"))
        elif found[name] != size:
            detail = f"has {found[name]:,} bytes, not {size:,}"
            problems.append(Problem(version, place + name, "size", detail))
        elif problem := _content_problem(version, place, name, sha, hash_of):
            problems.append(problem)
    problems += [
        Problem(version, place + name, "unknown file", "is not in the manifest")
        for name in sorted(found.keys() - manifest.files.keys())
    ]
    return problems


def _content_problem(
    version: str, place: str, name: str, sha256: str, hash_of: Callable[[str], str | None]
) -> Problem | None:
    """Compare the content of a file with its manifest; None if it is the same, or not looked at."""
    try:
        found = hash_of(name)
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as error:
        return unreadable(version, place + name, error)
    if found in (None, sha256):
        return None
    detail = "has another content (SHA-256) than the manifest says"
    return Problem(version, place + name, "checksum", detail)


def unreadable(version: str, file: str, error: OSError) -> Problem:
    """Return the problem of a file that the file system has but does not give."""
    return Problem(version, file, "unreadable", f"cannot be read ({error.strerror or error})")


def _file_of(name: str, entry: object) -> tuple[int, str]:
    if not is_inner_name(name):
        raise ValueError(f"{name!r} is no file of the version")
    if not isinstance(entry, dict):
        raise ValueError(f"nothing about {name}")
    size, sha = entry.get("size"), entry.get("sha256")
    if not isinstance(size, int) or not isinstance(sha, str):
        raise ValueError(f"no size or checksum of {name}")
    return size, sha
