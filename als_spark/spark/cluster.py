"""A standalone cluster before and while it gives executors: is anybody there, and what has it.

Spark itself waits: a minute for a master that is not there, and for ever for executors that no
worker can hold, without a word but a warning that a quiet log does not show.
"""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from als_spark.errors import ConfigError

PROBE_SECONDS = 5.0
"""How long a master may take to accept a connection."""
_WEB_PORT = 8080

Connect = Callable[[tuple[str, int], float], Any]


def check_master(master: str, connect: Connect = socket.create_connection) -> None:
    """Refuse a standalone master where nobody accepts a connection; of several, one is enough.

    Other kinds of masters pass.

    Raises
    ------
    ConfigError
    """
    if not master.startswith("spark://"):
        return
    problems = []
    for place in master.removeprefix("spark://").split(","):
        found = re.fullmatch(r"(\[[^\]]+\]|[^:/@]+):(\d{1,5})/?", place)
        if found is None or not 0 < int(found[2]) < 65536:
            raise ConfigError(
                f"master {master}: {place} is no host and port: give it as spark://HOST:7077"
            )
        try:
            connect((found[1].strip("[]"), int(found[2])), PROBE_SECONDS).close()
        except OSError as error:
            reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or error
            problems.append(f"{place}: {reason}")
        else:
            return
    raise ConfigError(
        f"master {master}: nobody accepts a connection ({'; '.join(problems)}): check host and "
        "port, and that the master runs"
    )


def no_executor_words(
    master: str, settings: Mapping[str, str | None], offer: str | None, seconds: float
) -> str:
    """Say that no executor has come, what was asked for, and what to change.

    Parameters
    ----------
    master : str
    settings : mapping of str to str or None
        Settings of the session, by name.
    offer : str or None
        What the master has, from :func:`offer_of`; None if it is not known.
    seconds : float
        How long there has been none.
    """
    cores = settings.get("spark.executor.cores")
    memory = settings.get("spark.executor.memory") or "1g"
    asked = f"executors of {'' if cores is None else f'{_cores(int(cores))} and '}{memory}"
    has = f"; {offer}" if offer else ""
    return (
        f"no executor after {seconds:.0f} s: {master} was asked for {asked}{has}: ask for less "
        "(spark.executor.cores, spark.executor.memory), start larger workers, or wait for others "
        "to end"
    )


def offer_of(status: Mapping[str, Any]) -> str:
    """Say what a standalone master has, from the JSON of its web page."""
    workers = [w for w in status.get("workers", ()) if w.get("state") == "ALIVE"]
    if not workers:
        return "it has no worker"
    largest = max(workers, key=lambda w: (w.get("memoryfree", 0), w.get("coresfree", 0)))
    one = len(workers) == 1
    return (
        f"its {'worker has' if one else f'{len(workers)} workers have'} at most "
        f"{_cores(max(w.get('coresfree', 0) for w in workers))} and "
        f"{largest.get('memoryfree', 0)}m free"
    )


def _cores(number: int) -> str:
    return f"{number} core{'' if number == 1 else 's'}"


def ask_master(master: str, seconds: float = 2.0) -> str | None:
    """Ask the web page of a standalone master what it has; None where it cannot be asked.

    The page is looked for at its usual port, and at that after the master's, where
    ``scripts/cluster.sh`` has it; it must be that of this very master.
    """
    if not master.startswith("spark://"):
        return None
    # No proxy between a driver and its cluster.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for place in master.removeprefix("spark://").split(","):
        host, _, port = place.rpartition(":")
        for web_port in (_WEB_PORT, int(port) + 1):
            page = f"http://{host}:{web_port}/json/"
            try:
                with opener.open(page, timeout=seconds) as answer:
                    status = json.load(answer)
            except (OSError, ValueError):
                continue
            if isinstance(status, dict) and status.get("url") == f"spark://{place}":
                return offer_of(status)
    return None
