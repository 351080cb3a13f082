"""What a cluster gives a training: executors, cores, memory, network; stated, or of a session."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from als_spark.errors import ConfigError
from als_spark.spark.planner import memory_bytes, worker_limit

GBIT = 1e9 / 8
"""Bytes a second."""
IDLE = "spark.dynamicAllocation.cachedExecutorIdleTimeout"
_UNITS = {
    "us": 1e-6,
    "ms": 1e-3,
    "": 1.0,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_DEFAULT_HEAP = "1g"
_LEAST_OVERHEAD = 384 << 20
_OVERHEAD_FACTOR = {"yarn": 0.1, "k8s": 0.4}
"""Share of the heap that a container has beyond it, by default, for a Python program."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a training can use.

    Attributes
    ----------
    executors : int
        JVMs that run tasks; 1 in local mode, where the driver's does.
    cores : int
        Tasks that an executor runs at a time, each with a Python worker.
    executor_memory, driver_memory : int
        Heaps in bytes; in local mode there is one.
    overhead : int or None
        Bytes that a container has beyond its heap, of YARN or Kubernetes, which kills one that
        takes more; None where nothing watches.
    worker_limit : int or None
        Bytes that Spark allows a Python worker (``spark.executor.pyspark.memory``).
    network : float
        Bytes a second between two machines.
    local : bool
        Whether the driver runs the tasks itself.
    machine : int or None
        Memory of the driver's machine, where that is known.
    idle : float or None
        Seconds without a task after which dynamic allocation gives an executor back with the blocks
        that it holds (``spark.dynamicAllocation.cachedExecutorIdleTimeout``); None: never.
    outlived : bool
        Whether what is checkpointed outlives executors: the context has a checkpoint directory.
    """

    executors: int
    cores: int
    executor_memory: int
    driver_memory: int
    overhead: int | None = None
    worker_limit: int | None = None
    network: float = 10 * GBIT
    local: bool = False
    machine: int | None = None
    idle: float | None = None
    outlived: bool = False

    @property
    def all_cores(self) -> int:
        """Tasks that the cluster runs at a time."""
        return self.executors * self.cores


def memory_words(size: float) -> str:
    """Write a size as Spark reads it, rounded up."""
    gigabytes = -(-int(size) // (1 << 30))
    return f"{gigabytes}g" if size >= 4 << 30 else f"{-(-int(size) // (128 << 20)) * 128}m"


STATED = ("executors", "cores", "memory", "driver", "machine", "overhead", "worker", "network")
_COUNTED_EXAMPLE = "users=1e6,items=1e5,ratings=1e8"
_STATED_EXAMPLE = "executors=10,cores=8,memory=16g,driver=8g"


def stated(text: str) -> Resources:
    """Read a cluster as ``--cluster`` states it, such as ``executors=10,cores=8,memory=16g``.

    ``memory`` and ``driver`` are the heaps of an executor and of the driver, ``machine`` is the
    memory of the driver's machine, ``overhead`` what an
    executor's container has beyond its heap, ``worker`` what a Python worker may use, ``network``
    Gbit/s between two machines.

    Raises
    ------
    ConfigError
        If a member is missing, unknown or unusable.
    """
    given = pairs_of(text, "cluster", STATED, _STATED_EXAMPLE)
    sizes: dict[str, int | None] = {}
    for name in ("memory", "driver", "machine", "overhead", "worker"):
        if name not in given:
            continue
        sizes[name] = memory_bytes(given[name])
        if not sizes[name]:
            raise ConfigError(f"`cluster={text}`: {name}={given[name]}: use a size such as 16g")
    numbers = {
        name: _positive(given[name], "cluster", text, name, 1e6, whole=name != "network")
        for name in ("executors", "cores", "network")
        if name in given
    }
    for name in ("executors", "cores", "memory"):
        if name not in given:
            raise ConfigError(f"`cluster={text}`: {name} is missing: use {_STATED_EXAMPLE}")
    memory = sizes["memory"] or 0
    return Resources(
        int(numbers["executors"]),
        int(numbers["cores"]),
        memory,
        sizes.get("driver") or memory,
        sizes.get("overhead"),
        sizes.get("worker"),
        numbers.get("network", 10.0) * GBIT,
        machine=sizes.get("machine"),
    )


COUNTED = ("users", "items", "ratings")
LARGEST_COUNTED = 10**15


def counted(text: str) -> tuple[int, int, int]:
    """Read counts as ``--counts`` has them, such as ``users=1e6,items=1e5,ratings=1e8``.

    Raises
    ------
    ConfigError
        If one is missing, unknown or unusable, or there are more rows than ratings.
    """
    given = pairs_of(text, "counts", COUNTED, _COUNTED_EXAMPLE)
    numbers = {}
    for name in COUNTED:
        if name not in given:
            raise ConfigError(f"`counts={text}`: {name} is missing: use {_COUNTED_EXAMPLE}")
        numbers[name] = int(_positive(given[name], "counts", text, name, LARGEST_COUNTED))
    users, items, ratings = numbers["users"], numbers["items"], numbers["ratings"]
    if ratings < max(users, items) or ratings > users * items:
        raise ConfigError(
            f"`counts={text}`: {ratings:,} ratings of {users:,} users and {items:,} items: each "
            "has at least one, and each pair at most one: check the numbers"
        )
    return users, items, ratings


def pairs_of(text: str, option: str, known: tuple[str, ...], example: str) -> dict[str, str]:
    """Split ``name=value,...``, each name of the known ones, and none twice.

    Raises
    ------
    ConfigError
    """
    given: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if name not in known or not equals or name in given:
            problem = "is there twice" if name in given else f"is none of {', '.join(known)}"
            raise ConfigError(
                f"`{option}={text}`: {part.strip() or repr(name)} {problem}: use {example}"
            )
        given[name] = value
    return given


def _positive(
    value: str, option: str, text: str, name: str, most: float, *, whole: bool = True
) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= most or (whole and number != int(number)):
        range_ = f"whole number from 1 to {most:g}" if whole else f"number above 0, up to {most:g}"
        raise ConfigError(f"`{option}={text}`: {name}={value}: use a {range_}")
    return number


def of_settings(
    conf: Mapping[str, str], *, heap: int, cores: int, executors: int, machine: int | None = None
) -> Resources:
    """Read the settings of a session.

    Parameters
    ----------
    conf : mapping of str to str
    heap : int
        Of the driver's JVM, which may have been told by other ways than a setting.
    cores : int
        Tasks that the cluster runs at a time, as Spark has it now.
    executors : int
        That have come.
    machine : int, optional
        Memory of the driver's machine.
    """
    master = conf.get("spark.master", "local")
    limit = worker_limit(conf)
    if master.startswith("local") and not master.startswith("local-cluster"):
        return Resources(1, cores, heap, heap, worker_limit=limit, local=True, machine=machine)
    asked = _whole(conf.get("spark.executor.instances"))
    n = max(executors, asked or 0, 1)
    own = _whole(conf.get("spark.executor.cores")) or max(-(-cores // n), 1)
    memory = memory_bytes(conf.get("spark.executor.memory", _DEFAULT_HEAP))
    memory = memory or (1 << 30)
    return Resources(
        *(n, own, memory, heap, _overhead(conf, master, memory), limit),
        machine=machine,
        idle=_idle_seconds(conf),
    )


def _idle_seconds(conf: Mapping[str, str]) -> float | None:
    """Seconds after which an executor that holds blocks is given back; None: never."""
    if conf.get("spark.dynamicAllocation.enabled", "false").strip().lower() != "true":
        return None
    return time_seconds(conf.get(IDLE, ""))


def time_seconds(text: str) -> float | None:
    """Read a time as Spark writes it: 90s, 10m, 2h, 600 (seconds); None if it is none."""
    found = re.fullmatch(r"(\d+)([a-z]*)", text.strip().lower())
    if found is None or found[2] not in _UNITS:
        return None
    return int(found[1]) * _UNITS[found[2]]


def _overhead(conf: Mapping[str, str], master: str, heap: int) -> int | None:
    """Bytes that a container has beyond its heap; None where nothing watches."""
    kind = "k8s" if master.startswith("k8s") else master
    if kind not in _OVERHEAD_FACTOR:
        return None
    stated = memory_bytes(conf.get("spark.executor.memoryOverhead", ""))
    factors = ("spark.executor.memoryOverheadFactor", "spark.kubernetes.memoryOverheadFactor")
    factor = next((conf[name] for name in factors if name in conf), None)
    if stated is None:
        share = _OVERHEAD_FACTOR[kind] if factor is None else float(factor)
        stated = max(int(share * heap), _LEAST_OVERHEAD)
    return stated + (memory_bytes(conf.get("spark.executor.pyspark.memory", "")) or 0)


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdigit() else None


def machine_memory() -> int | None:
    """Memory of this machine in bytes; None where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
