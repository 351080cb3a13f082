"""What every job does around its work: logging, exit codes, Ctrl-C."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from als_spark.cli.config.settings import in_options
from als_spark.errors import LockLost, PublishConflict, StoreLocked, UserError

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
EXIT_KEPT, EXIT_DATA_CHECK, EXIT_LOCKED = 3, 4, 5
"""Of the jobs that work on a model store."""


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
"""The last is our own: it reminds of the others."""
_PAUSE = 0.005
"""Seconds until a signal is heard again that was raised where nobody could hear it."""
_PATIENCE = 2.0
"""Seconds that a signal waits for the end of a call of Spark."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM. A KeyboardInterrupt, since py4j drops a half-read answer only for one."""


def run_program(
    name: str,
    work: Callable[[], int],
    interrupted: str = "stopped before any point was finished; nothing written",
) -> int:
    """Run a job's work and turn what goes wrong into a message and an exit code.

    Parameters
    ----------
    name : str
        Of the job, for its messages.
    work : callable
        Returns the exit code.
    interrupted : str
        What to say after Ctrl-C, where the exception itself does not say it.

    Returns
    -------
    int
        0 done; 2 the user's input or configuration is wrong; 130 stopped by Ctrl-C or SIGTERM; 1
        anything else.
    """
    configure_logging()
    if threading.current_thread() is threading.main_thread():
        # scripts/run.sh starts the JVM deaf to Ctrl-C, so that it outlives it, and a child
        # inherits that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return work()
    except UserError as error:
        print(f"{name}: {in_options(' '.join(str(error).split()))}", file=sys.stderr)
        return EXIT_USAGE
    except (LockLost, PublishConflict) as error:
        # Neither input nor defect: another process came in between.
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt as error:
        print(f"{name}: {str(error) or interrupted}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception:  # noqa: BLE001 - the last resort of a program
        traceback.print_exc()
        return EXIT_FAILED


def exits_if_locked(name: str, work: Callable[[], int]) -> Callable[[], int]:
    """Wrap the work of a job on a model store: exit code 5 if another run holds the store's lock.

    Parameters
    ----------
    name : str
        Of the job, for its messages.
    work : callable
        Returns the exit code.
    """

    def wrapped() -> int:
        try:
            return work()
        except StoreLocked as error:
            print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
            return EXIT_LOCKED

    return wrapped


def configure_logging() -> None:
    """Log to standard error, a line each; the packages that chat over py4j stay quiet."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    for handler in logging.getLogger().handlers:
        # py4j tells, with tracebacks and on the root logger too, of calls that Ctrl-C breaks off.
        # What fails otherwise comes as an exception anyway.
        handler.addFilter(_not_of_py4j)


def _not_of_py4j(record: logging.LogRecord) -> bool:
    return "py4j" not in record.pathname


@contextmanager
def interrupts_raise() -> Iterator[Callable[[], bool]]:
    """Make Ctrl-C and SIGTERM raise :class:`Interrupted`; give a function that tells if one came.

    It is raised between two calls of Spark if one ends within seconds: what is torn from the
    middle of its work, workers and broadcasts among them, fills the terminal with stack traces.
    PySpark's own handler first asks the JVM to cancel its jobs, which tears too, and fails where
    Ctrl-C has reached the JVM, as it does under spark-submit.
    """
    raiser = _Raiser()
    if threading.current_thread() is not threading.main_thread():
        yield raiser.came
        return
    before = {number: signal.signal(number, raiser) for number in _SIGNALS}
    hook, sys.unraisablehook = sys.unraisablehook, raiser.note_lost
    try:
        yield raiser.came
    finally:
        raiser.end()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


class _Raiser:
    """A handler of signals that raises once, and chooses where."""

    def __init__(self) -> None:
        self._came = self._raised = False
        self._latest = 0.0
        self._hook = sys.unraisablehook
        self._watching = False

    def came(self) -> bool:
        """Tell if there was a signal, raised or not."""
        return self._came

    def __call__(self, number: int, frame: FrameType | None) -> None:
        # Once: a second Ctrl-C must not break off the writing of what there is.
        if self._raised:
            return
        if not self._came:
            if number == signal.SIGALRM:
                return
            self._came = True
            self._latest = time.monotonic() + _PATIENCE
        left = self._latest - time.monotonic()
        if left > 0 and _calls_spark(frame):
            _alarm(max(left, _PAUSE))
            self._watching = True
            sys.setprofile(self._watch)
        else:
            self._raise()

    def _watch(self, frame: FrameType, event: str, _detail: object) -> None:
        """Raise at the end of a call of Spark: the interpreter tells of every call and return."""
        if not _calls_spark(frame.f_back if event == "return" else frame):
            self._raise()

    def _raise(self) -> None:
        self.end()
        raise Interrupted

    def note_lost(self, lost: sys.UnraisableHookArgs) -> None:
        """Take back what was raised in a finaliser, or in a callback: nobody was there to hear."""
        if isinstance(lost.exc_value, Interrupted):
            self._raised = False
            _alarm(_PAUSE)
        else:
            self._hook(lost)

    def end(self) -> None:
        """Hear nothing more."""
        self._raised = True
        _alarm(0)
        if self._watching:
            # What somebody measures until then, is over too.
            sys.setprofile(None)


def _alarm(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _calls_spark(frame: FrameType | None) -> bool:
    # The standard library is called by both.
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package in ("py4j", "pyspark"):
            return True
        if package not in sys.stdlib_module_names:
            return False
        frame = frame.f_back
    return False


@contextmanager
def interrupts_noted() -> Iterator[Callable[[], None]]:
    """Note Ctrl-C and SIGTERM; give a function that raises :class:`Interrupted` if one came.

    For the start of Spark: what is raised while it forks is lost, and leaves locks behind. Blocks
    of :func:`interrupts_raise` inside of this one raise as always.
    """
    came = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        came.set()

    def raise_noted() -> None:
        if came.is_set():
            raise Interrupted

    if threading.current_thread() is not threading.main_thread():
        yield raise_noted
        return
    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield raise_noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Do not hear Ctrl-C and SIGTERM during the block: it is short, and the job's last."""
    with interrupts_noted():
        yield
