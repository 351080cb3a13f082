"""Ctrl-C and SIGTERM: a flag that jobs read between their Spark calls.

The first signal only sets the flag of :func:`stop_on_signals`. The job reads it where nothing is
half done, between two Spark calls, by :meth:`StopFlag.check`, which raises :class:`Interrupted`. A
Spark call that goes on for longer than :data:`PATIENCE` seconds is cancelled, and fails. A second
Ctrl-C raises on the spot.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

PATIENCE = 2.0
"""Seconds that a Spark call may go on after the first signal: one that ends by itself leaves no
worker torn from its task, and no stack trace of one."""
SAME_KEYSTROKE = 0.5
"""Seconds within which a second signal counts as the first: several parents may pass one on."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM; the text, if there is one, says what has become of the run."""


class StopFlag:
    """Whether this process was told to stop. Made by :func:`stop_on_signals`."""

    def __init__(self) -> None:
        self.requested = False
        """Whether a signal came."""
        self._acknowledged = False
        self._first = 0.0
        self._cancel_jobs: Callable[[], object] | None = None

    def check(self) -> None:
        """Raise :class:`Interrupted` if a signal came that nobody has acknowledged.

        Only in the main thread: what is raised elsewhere stops nothing.
        """
        if self.requested and not self._acknowledged and _in_main_thread():
            self.acknowledge()
            raise Interrupted

    def acknowledge(self) -> None:
        """Say that the signal is being followed: it raises, and cancels, nothing more."""
        self._acknowledged = True

    def attach(self, cancel_jobs: Callable[[], object]) -> None:
        """Take the way to cancel the Spark call at hand, and Ctrl-C back from PySpark.

        Parameters
        ----------
        cancel_jobs : callable
            ``SparkContext.cancelAllJobs``. A context that starts takes Ctrl-C for itself, so this
            comes after its start.
        """
        self._cancel_jobs = cancel_jobs
        if self is _active:
            _install(self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.requested:
            self.requested = True
            self._first = now
            threading.Thread(target=self._cancel, name="als_spark-cancel", daemon=True).start()
        elif number == signal.SIGINT and now - self._first > SAME_KEYSTROKE:
            raise Interrupted

    def _cancel(self) -> None:
        """Cancel the Spark jobs at hand, again and again until somebody acknowledges."""
        time.sleep(PATIENCE)
        while not self._acknowledged:
            if self._cancel_jobs is not None:
                # After Ctrl-C there may be no JVM to answer.
                with suppress(Exception):
                    self._cancel_jobs()
            time.sleep(PATIENCE / 2)


_active: StopFlag | None = None


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Let Ctrl-C and SIGTERM set a flag for the duration of the block.

    A block inside another shares its flag. Outside of the main thread, which alone hears signals,
    the flag is never set.
    """
    global _active
    if _active is not None and _in_main_thread():
        yield _active
        return
    flag = StopFlag()
    if not _in_main_thread():
        yield flag
        return
    _active = flag
    before = _install(flag._on_signal)
    try:
        yield flag
    finally:
        flag.acknowledge()
        _active = None
        _restore(before)


@contextmanager
def signals_ignored() -> Iterator[None]:
    """Do not hear Ctrl-C and SIGTERM during the block: it is short, and the job's last."""
    before = _install(lambda *_: None) if _in_main_thread() else {}
    try:
        yield
    finally:
        _restore(before)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _install(handler: Callable[[int, FrameType | None], Any]) -> Mapping[int, Any]:
    """Set the handler of both signals; return what they had."""
    return {number: signal.signal(number, handler) for number in _SIGNALS}


def _restore(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
