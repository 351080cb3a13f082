"""A thread that keeps a lock or a lease alive."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger("als_spark.store")


class Heartbeat:
    """Call a function again and again in a daemon thread, until stopped.

    Parameters
    ----------
    seconds : float
        Between two calls.
    beat : callable
        What to call. Its exceptions are logged, and it is called again.
    what : str
        What it renews, for the log.
    """

    def __init__(self, seconds: float, beat: Callable[[], None], what: str) -> None:
        self._seconds = seconds
        self._beat = beat
        self._what = what
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"renew {what}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for a call that is under way."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self._beat()
            except Exception as error:  # noqa: BLE001 - any client of any file system may raise it
                logger.warning("cannot renew %s, trying again: %s", self._what, error)
