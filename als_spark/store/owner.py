"""Which process owns a lock or a lease, and whether it still lives."""

from __future__ import annotations

import getpass
import os
import platform
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import psutil
from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator

PROC = Path("/proc")
_ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
"""Of such a process only the exit status is left."""


class Life(Enum):
    """What is known about a process."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


def _or_none(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError:
        return None


_Detail = WrapValidator(_or_none)
"""A detail that cannot be read is one that is not known."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, so that it can be told from a later one of the same number."""

    host: str
    user: str
    pid: int
    started: Annotated[int | None, _Detail] = None
    """Clock ticks between the start of the machine and that of the process."""
    boot: Annotated[str | None, _Detail] = None
    """Id of this start of the machine."""
    pid_namespace: Annotated[str | None, _Detail] = None
    """The numbering that ``pid`` belongs to: each container has one of its own."""

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
    pid = os.getpid()
    return Owner(platform.node(), user, pid, _state_of(pid)[1], _boot(), _namespace())


def life_of(owner: Owner) -> Life:
    """Tell whether a process lives, as far as this machine can know.

    The same start of the machine and the same numbering of processes are needed to tell by
    number. Where the system says neither, the name of the host has to do.
    """
    pairs = ((_boot(), owner.boot), (_namespace(), owner.pid_namespace))
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        return Life.UNKNOWN
    if any(None in pair for pair in pairs) and owner.host != platform.node():
        return Life.UNKNOWN
    if not _has_process(owner.pid):
        return Life.DEAD
    status, started = _state_of(owner.pid)
    another = None not in (started, owner.started) and started != owner.started
    return Life.DEAD if status in _ENDED or another else Life.ALIVE


def _has_process(pid: int) -> bool:
    # psutil.pid_exists takes a process that /proc hides from this user for none.
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


def _state_of(pid: int) -> tuple[str | None, int | None]:
    """Return the status of a process and when it started; None where the system hides it."""
    try:
        while True:
            # The time of the start of the machine moves when the clock is set.
            boot = psutil.boot_time()
            process = psutil.Process(pid)
            seconds = process.create_time() - boot
            if psutil.boot_time() == boot:
                return process.status(), round(seconds * os.sysconf("SC_CLK_TCK"))
    except (psutil.Error, OSError):
        return None, None


def _boot() -> str | None:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or None
    except OSError:
        return None


def _namespace() -> str | None:
    try:
        return str((PROC / "self/ns/pid").readlink())
    except OSError:
        return None
