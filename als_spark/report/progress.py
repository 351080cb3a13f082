"""Progress of a run: one bar on a terminal, plain log lines elsewhere.

The driver job feeds it: phases (``reading ratings``, ``packing blocks``, ...) by a context manager,
training by the same :class:`~als_spark.train.records.IterationRecord` that feeds log, history and
plots. Records may come from several threads, of several models at once, in any order; a lost or a
late one does no harm.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TextIO

from tqdm import tqdm

from als_spark.redaction import redact
from als_spark.report.format import duration
from als_spark.train.records import IterationRecord, PointResult

__all__ = ["ProgressReporter", "writable"]

TRAINING = "training"
"""The phase in which models are trained: from then on the bar counts them."""

# The last line of a terminal, whose text the reporter sets; tqdm draws it over what was there.
# No watchdog thread, and a lock that belongs to this process alone.
_Line: Any = type(
    "_Line", (tqdm,), {"monitor_interval": 0, "text": "", "__str__": lambda line: line.text}
)
_Line.set_lock(threading.RLock())
_BAR_FORMAT = "{desc} {n_fmt}/{total_fmt} |{bar}| {unit}{postfix}"


class ProgressReporter:
    """Shows a run's progress: a bar on a terminal, lines in a log elsewhere.

    On a terminal a thread redraws the last line a few times a second: the clock runs on during long
    Spark jobs, and a record costs the training loop no more than a dictionary entry. The bar counts
    finished points; it appears when training begins. Elsewhere a logger gets every phase, every
    finished point with the count so far, and now and then what is running. No handler is added and
    no level set. A terminal that goes away silences the reporter; it never stops a run.

    Use it as a context manager, or call :meth:`close`: the terminal is then left with the cursor on
    a fresh line, after an exception and Ctrl-C too.

    Parameters
    ----------
    n_points : int
        Points of the grid.
    stream : text stream, optional
        Where the bar goes if it is a terminal (``isatty()``); standard error by default.
    logger : logging.Logger, optional
        Where lines go if ``stream`` is no terminal; this module's own by default.
    refresh_seconds : float
        Seconds between two drawings of the bar.
    log_seconds : float
        Least seconds between two log lines on running models.
    clock : callable
        Returns monotonic seconds.

    Attributes
    ----------
    phase_seconds : dict of str to float
        Seconds of each phase that has ended, in the order of their first ends. Phases of one name
        add up. A phase inside another counts in both.
    on_phase : callable or None
        Called with the name of each phase that begins.
    checkpoint : callable or None
        Called at the begin of each phase and with each iteration; what it raises stops the run.
    """

    def __init__(
        self,
        n_points: int,
        *,
        stream: TextIO | None = None,
        logger: logging.Logger | None = None,
        refresh_seconds: float = 0.2,
        log_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.phase_seconds: dict[str, float] = {}
        self.on_phase: Callable[[str], None] | None = None
        self.checkpoint: Callable[[], None] | None = None
        self._n_points = n_points
        self._stream = sys.stderr if stream is None else stream
        self._logger = logging.getLogger(__name__) if logger is None else logger
        self._log_seconds = log_seconds
        self._clock = clock
        self._lock = threading.RLock()
        self._running: dict[int, IterationRecord] = {}  # the most recently heard of comes last
        self._finished: set[int] = set()
        self._phases: list[tuple[str, float]] = []
        self._start = self._last_log = clock()
        self._line: Any = None
        self._closed = False
        self._on_terminal = _is_terminal(self._stream)
        self._lambda = "λ" if writable(self._stream, "λ") == "λ" else "lambda"
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None
        if self._on_terminal:
            self._ticker = threading.Thread(
                target=self._tick, args=(refresh_seconds,), name="als_spark-progress", daemon=True
            )
            self._ticker.start()

    def __enter__(self) -> ProgressReporter:
        """Return the reporter itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close, whatever has happened."""
        self.close()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Show what the run does inside the ``with`` block, and record its seconds.

        Parameters
        ----------
        name : str
            What is done, in plain words: ``reading ratings``.
        """
        if self.checkpoint is not None:
            self.checkpoint()
        start = self._clock()
        entry = (name, start)
        with self._lock:
            self._phases.append(entry)
            self._draw()
        if not self._on_terminal and not self._closed:
            self._logger.info("%s ...", name)
        if self.on_phase is not None:
            self.on_phase(name)
        verb = "stopped after "
        try:
            yield
            verb = ""
        finally:
            seconds = self._clock() - start
            with self._lock:
                self._phases.remove(entry)
                self.phase_seconds[name] = self.phase_seconds.get(name, 0.0) + seconds
            self.write(f"{name}: {verb}{duration(seconds)}")

    def on_iteration(self, record: IterationRecord) -> None:
        """Take note of an iteration; cheap, and raises only what ``checkpoint`` does.

        Parameters
        ----------
        record : IterationRecord
            One iteration of one model. A record of a finished point, or older than what is known of
            the point, changes nothing.
        """
        if self.checkpoint is not None:
            self.checkpoint()
        with self._lock:
            known = self._running.get(record.point)
            late = known is not None and known.iteration > record.iteration
            if self._closed or late or record.point in self._finished:
                return
            self._running.pop(record.point, None)
            if known is not None and math.isnan(record.rmse):
                # Measured now and then: the last one stands until the next.
                record = replace(record, rmse=known.rmse)
            self._running[record.point] = record
            if self._on_terminal or self._clock() - self._last_log < self._log_seconds:
                return
            self._last_log = self._clock()
            line = f"{len(self._finished)}/{self._n_points} points done, {self._news()}"
            line += _reached(record)
        self._logger.info("%s", line)

    def on_finished(self, point_index: int, point: PointResult) -> None:
        """Take note of a finished point and show a line on it; told twice, it shows one.

        Parameters
        ----------
        point_index : int
            Position of the point in the grid.
        point : PointResult
            The result.
        """
        with self._lock:
            self._running.pop(point_index, None)
            if point_index in self._finished:
                return
            self._finished.add(point_index)
            done = f" ({len(self._finished)}/{self._n_points} points done)"
        cap = " (the cap: not converged)" if point.ended_by_rule is False else ""
        plural = "" if point.iterations == 1 else "s"
        count = done if self._n_points > 1 and not self._on_terminal else ""  # the bar has it
        self.write(
            f"{self._place(point.rank, point.reg)}: {point.iterations} iteration{plural}{cap}"
            f"{_reached(point)}, {duration(point.seconds)}{count}"
        )

    def write(self, line: str) -> None:
        """Show a line: above the bar on a terminal, else in the log; without keys and passwords.

        Parameters
        ----------
        line : str
            Text without a line break at its end.
        """
        line = redact(line)
        with self._lock:
            if self._closed:
                return
            if self._on_terminal:
                self._guarded(lambda: self._write_above(line))
                return
        self._logger.info("%s", line)

    def close(self) -> None:
        """Stop showing, and leave the cursor on a fresh line; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._draw()
            self._closed = True
            self._stop.set()
            self._guarded(self._leave_terminal)
        if self._ticker is not None and self._ticker is not threading.current_thread():
            self._ticker.join(timeout=2.0)

    def _tick(self, seconds: float) -> None:
        """Redraw until told to stop; what the ticker thread runs."""
        while not self._stop.wait(seconds):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        """Draw the last line of the terminal anew."""
        if self._on_terminal and not self._closed:
            self._guarded(self._redraw)

    def _redraw(self) -> None:
        if self._line is None:
            # 20 rows are not asked of the terminal: told of 0 rows, tqdm would draw nothing.
            # With a delay it does not draw while it is made, which leaves tqdm's lock taken if the
            # terminal is gone.
            self._line = _Line(file=self._stream, nrows=20, position=0, delay=1)
            self._line.delay = 0
        self._line.text = self._text()
        # Under our lock alone: tqdm's own would stay taken if Ctrl-C came while it draws.
        self._line.refresh(nolock=True)

    def _text(self) -> str:
        """Write the innermost phase and its clock; with the bar once models are trained."""
        name, start = self._phases[-1] if self._phases else ("", self._start)
        clock, columns = duration(self._clock() - start), _columns(self._stream)
        if not self._counts:
            return f"{name} ... {clock}"[:columns] if name else ""
        text: str = tqdm.format_meter(
            len(self._finished),
            self._n_points,
            0,
            ncols=columns,
            prefix=name or TRAINING,
            ascii=self._line.ascii,
            unit=clock,
            bar_format=_BAR_FORMAT,
            postfix=self._news(),
        )
        return text

    @property
    def _counts(self) -> bool:
        """Whether there are models to count: training has begun."""
        training = any(name == TRAINING for name, _ in self._phases)
        return bool(training or self._running or self._finished or TRAINING in self.phase_seconds)

    def _write_above(self, line: str) -> None:
        if self._line is not None:
            self._line.clear(nolock=True)
        self._stream.write(writable(self._stream, line) + "\n")
        self._stream.flush()
        self._draw()

    def _leave_terminal(self) -> None:
        if self._line is not None:
            self._line.leave = self._counts
            self._line.close()

    def _guarded(self, draw: Callable[[], None]) -> None:
        """Draw, and fall silent if the terminal is gone."""
        try:
            draw()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._on_terminal = False
            self._closed = True
            self._stop.set()
            if self._line is not None:
                self._line.disable = True  # else its finaliser would write again

    def _news(self) -> str:
        """How many models run, and where the one heard of last stands."""
        if not self._running:
            return ""
        last = next(reversed(self._running.values()))
        place = f"{len(self._running)} running, {self._place(last.rank, last.reg)}"
        change = f", change {last.change:.3g}" if math.isfinite(last.change) else ""
        rmse = f", held-out RMSE {last.rmse:.4f}" if math.isfinite(last.rmse) else ""
        return f"{place} iteration {last.iteration}{change}{rmse}"

    def _place(self, rank: int, reg: float | None) -> str:
        return f"d={rank}" + ("" if reg is None else f" {self._lambda}={reg:g}")


def _reached(of: IterationRecord | PointResult) -> str:
    """Say how far a training has come: its objective, or its bound and the noise; none of NaN."""
    if of.reg is not None:
        return f", objective {of.objective:.6g}"
    noise = of.noise if isinstance(of, IterationRecord) else (of.learnt or {})["noise_deviation"]
    bound = f", bound {-of.objective:.6g}" if math.isfinite(of.objective) else ""
    return f"{bound}, noise {noise:.4g}"


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # no such method, or a closed stream
        return False


def _columns(stream: TextIO) -> int:
    """Columns that a line may fill; for 80 if the terminal does not tell, as over some relays."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (AttributeError, OSError, ValueError):
        columns = 0
    return (columns or 80) - 1  # in the last column some terminals wrap


def writable(stream: TextIO, text: str) -> str:
    """Return the text with what the stream's encoding lacks replaced by question marks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, errors="replace").decode(encoding)
