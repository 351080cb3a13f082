"""Whether a folder of this machine can be written, found out before the work and not after it."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from als_spark.errors import ConfigError

_MOUNTS = Path("/proc/self/mountinfo")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PLACE = (
    *_FULL,
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EBUSY),
)
"""Of errors that tell something of a path, and nothing of the program."""
_SAID_OF_FULL = re.compile("No space left on device|Disk quota exceeded")
"""By the JVM, whose exceptions have no numbers."""


def check_writable(folder: Path, label: str) -> None:
    """Refuse a folder in which nothing can be made, by making something: permission bits tell less.

    The folder need not be there; then it must be possible to make it. ``label`` is what messages
    call it.

    Raises
    ------
    ConfigError
        If the way there leads over a file, a name that is too long, or a link that leads nowhere or
        in a circle; or if the file system takes nothing there.
    """
    place = _deepest(folder, label)
    probe = place / f".als_spark-{secrets.token_hex(8)}"
    try:
        os.mkdir(probe)
    except OSError as error:
        raise ConfigError(
            f"{label}: {place} is not writable ({error.strerror}): give another folder"
        ) from error
    finally:
        with suppress(OSError):
            os.rmdir(probe)


def _deepest(folder: Path, label: str) -> Path:
    """Return the deepest folder that is there, of a path."""
    place = Path(os.path.abspath(folder))
    while True:
        try:
            found = os.stat(place)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(place):
                raise ConfigError(
                    f"{label}: {place} is a link to {os.readlink(place)}, which is not there: make "
                    "that folder, or give another one"
                ) from None
            place = place.parent
        except OSError as error:
            raise ConfigError(
                f"{label}: cannot be written ({error.strerror}): give another folder"
            ) from error
        else:
            if not stat.S_ISDIR(found.st_mode):
                raise ConfigError(f"{label}: {place} is a file: give another folder")
            return place


def is_mount_point(folder: Path) -> bool:
    """Tell a mount point, also that of a folder of the same file system (a bind mount)."""
    if os.path.ismount(folder):
        return True
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        # Other systems than Linux.
        return False
    # Blanks and the like are in octal there.
    points = (line.split(b" ")[4] for line in lines)
    plain = {re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), p) for p in points}
    return os.fsencode(os.path.realpath(folder)) in plain


def place_problem(error: OSError, folder: Path | None) -> str | None:
    """Say what an error tells of a folder, and the remedy; None if it tells nothing of it.

    Of a folder of another file system, which is None here, an error names no file.
    """
    where = error.filename
    if where is not None and folder is not None:
        named = Path(os.path.abspath(os.fsdecode(where)))
        if not named.is_relative_to(os.path.abspath(folder)):
            return None
    if isinstance(error, PermissionError):
        return f"no permission ({where or error}): ask its owner"
    if error.errno not in _PLACE or where is None:
        return None
    reason = os.strerror(error.errno)
    if error.errno in _FULL:
        return f"{reason} ({where}): free some space, and run it again"
    return f"{reason} ({where}): give another folder"


def full_disk(error: BaseException | None) -> str | None:
    """Say that a disk is full, and the remedy, if that is why something has failed."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{os.strerror(error.errno)}: free some space, and run it again"
        found = _SAID_OF_FULL.search(str(error))
        if found is not None:
            return f"{found[0]}: free some space, and run it again"
        error = error.__cause__ or error.__context__
    return None
