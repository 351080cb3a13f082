"""Which process owns a lock or a lease, and whether it still lives."""

from __future__ import annotations

import getpass
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

PROC = Path("/proc")
_ENDED = ("Z", "X", "x")
"""States of a process of which only the exit status is left."""


class Life(Enum):
    """What is known about a process."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, so that it can be told from a later one of the same number.

    Attributes
    ----------
    host, user : str
        Where it runs, and whose it is.
    pid : int
        Its number.
    started : int or None
        Clock ticks between the start of the machine and its own; None where /proc does not tell.
    boot : str or None
        Id of this start of the machine.
    pid_namespace : str or None
        The numbering that ``pid`` belongs to: each container has one of its own.
    """

    host: str
    user: str
    pid: int
    started: int | None = None
    boot: str | None = None
    pid_namespace: str | None = None

    def as_record(self) -> dict[str, Any]:
        """Return the attributes as JSON has them."""
        return asdict(self)

    @staticmethod
    def from_record(record: object) -> Owner:
        """Read what :meth:`as_record` wrote; ValueError if it is something else."""
        if not isinstance(record, Mapping):
            raise ValueError("no owner")
        fields: dict[str, Any] = {}
        for name, kind in (("host", str), ("user", str), ("pid", int)):
            if not isinstance(record.get(name), kind):
                raise ValueError(f"no {name} of the owner")
            fields[name] = record[name]
        for name, kind in (("started", int), ("boot", str), ("pid_namespace", str)):
            value = record.get(name)
            fields[name] = value if isinstance(value, kind) else None
        return Owner(**fields)

    def __str__(self) -> str:
        """Name the process as messages do."""
        return f"{self.user}@{self.host}, process {self.pid}"


def this_process() -> Owner:
    """Describe the running process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        user = str(os.getuid())
    return Owner(
        host=platform.node(),
        user=user,
        pid=os.getpid(),
        started=_stat_of(os.getpid())[1],
        boot=_boot(),
        pid_namespace=_namespace(),
    )


def life_of(owner: Owner) -> Life:
    """Tell whether a process lives, as far as this machine can know.

    The same start of the machine and the same numbering of processes are needed to tell by
    number. Where /proc says neither, the name of the host has to do.
    """
    pairs = ((_boot(), owner.boot), (_namespace(), owner.pid_namespace))
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        return Life.UNKNOWN
    if any(None in pair for pair in pairs) and owner.host != platform.node():
        return Life.UNKNOWN
    if not _has_process(owner.pid):
        return Life.DEAD
    state, started = _stat_of(owner.pid)
    another = None not in (started, owner.started) and started != owner.started
    return Life.DEAD if state in _ENDED or another else Life.ALIVE


def _has_process(pid: int) -> bool:
    if pid <= 0:
        # For kill() these mean groups of processes.
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _boot() -> str | None:
    return _text(PROC / "sys" / "kernel" / "random" / "boot_id")


def _namespace() -> str | None:
    try:
        return str((PROC / "self" / "ns" / "pid").readlink())
    except OSError:
        return None


def _stat_of(pid: int) -> tuple[str, int | None]:
    """Return the state of a process and when it started; "" and None where /proc hides it."""
    text = _text(PROC / str(pid) / "stat")
    if text is None:
        return "", None
    # The second field is the program's name in brackets, and may hold anything.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None
