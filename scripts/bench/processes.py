"""Memory of the processes of a Spark session that this process has started, as Linux counts it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Peaks(NamedTuple):
    """Peak resident bytes since the last :func:`reset`."""

    driver: int
    """This process."""
    jvm: int
    worker: int
    """The largest Python worker, with what it shares of others."""


def descendants() -> Iterator[int]:
    """Numbers of the processes that this process has started, and theirs."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text()
        except OSError:
            continue
        parent = int(text.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(status.parent.name))
    pending = [os.getpid()]
    while pending:
        for child in children.get(pending.pop(), []):
            pending.append(child)
            yield child


def field(process: int | str, name: str) -> str:
    """Return a field of the status of a process; nothing of one that is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return ""
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return fields.get(name, "").strip()


def resident(process: int | str = "self", name: str = "VmRSS") -> int:
    """Resident bytes of a process; its peak is the field VmHWM."""
    return int((field(process, name) or "0 kB").split()[0]) * 1024


def cpu_seconds() -> float:
    """Seconds of CPU of this process and all that it has started, those that are gone included."""
    ticks = 0
    for process in (os.getpid(), *descendants()):
        try:
            text = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            continue
        # Of the process, and of its children that have ended.
        ticks += sum(map(int, text.rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def peaks() -> Peaks:
    """Return the peaks of all processes."""
    jvm = worker = 0
    for process in descendants():
        peak = resident(process, "VmHWM")
        if field(process, "Name") == "java":
            jvm = max(jvm, peak)
        else:
            worker = max(worker, peak)
    return Peaks(resident(name="VmHWM"), jvm, worker)


def reset() -> None:
    """Let the peaks of all processes begin anew."""
    for process in ("self", *descendants()):
        try:
            Path(f"/proc/{process}/clear_refs").write_text("5")
        except OSError:
            continue
