"""Progress, seen as a person at the terminal sees it, and as a log file does."""

from __future__ import annotations

import fcntl
import gc
import io
import logging
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from als_spark.report.progress import ProgressReporter
from als_spark.solve.objective import Objective
from als_spark.train.records import ErrorMeans, IterationRecord, ModelSpec, PointResult

ROOT = Path(__file__).resolve().parents[3]
NEVER = 3600.0  # seconds between drawings: what shows then was drawn by an event


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and can tell what its screen shows."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        text.encode(self._encoding)
        return super().write(text)

    def screen(self) -> list[str]:
        return render(self.getvalue())


def render(text: str) -> list[str]:
    """Lines of a screen after the text: a carriage return goes back, later writing covers."""
    lines: list[list[str]] = [[]]
    column = 0
    for character in text:
        if character == "\n":
            lines.append([])
            column = 0
        elif character == "\r":
            column = 0
        else:
            line = lines[-1]
            line[column : column + 1] = character
            column += 1
    return ["".join(line).rstrip() for line in lines]


def record(point: int = 0, iteration: int = 1, *, reg: float = 4.0) -> IterationRecord:
    return IterationRecord(point, 20, reg, iteration, 51234.5, 2.5 / iteration, 0.1 * iteration)


def result(*, converged: bool = True, iterations: int = 207, rank: int = 20) -> PointResult:
    errors = {"test": ErrorMeans(1.0, 0.8, 10)}
    return PointResult(
        ModelSpec(0, rank, Objective(4.0)), iterations, iterations, converged, 51234.5, 3.2, errors
    )  # type: ignore[arg-type]


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.002)


@pytest.fixture
def logger() -> logging.Logger:
    return logging.getLogger("test.progress")


@contextmanager
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


# --------------------------------------------------------------------------------- on a terminal


def test_terminal_shows_a_line_for_each_finished_point_above_one_bar() -> None:
    terminal = Terminal()
    with no_thread_left(), ProgressReporter(3, stream=terminal, refresh_seconds=NEVER) as progress:
        progress.on_iteration(record(0))
        progress.on_iteration(record(1))
        progress.on_finished(0, result())
        progress.on_iteration(record(2, 7, reg=0.5))
        progress.on_finished(1, result(iterations=1, converged=False))
        *above, bar = terminal.screen()
        assert above == [
            "d=20 λ=4: 207 iterations, objective 51234.5, 3.2 s",
            "d=20 λ=4: 1 iteration (the cap: not converged), objective 51234.5, 3.2 s",
        ]
        assert bar.startswith("training 2/3 |")
        assert bar.endswith("1 running, d=20 λ=0.5 iteration 7, change 0.357")
    *above_after, bar, fresh = terminal.screen()
    assert above_after == above
    assert bar.startswith("training 2/3 |")
    assert fresh == ""


def test_bar_follows_records_by_itself() -> None:
    terminal = Terminal()
    with ProgressReporter(2, stream=terminal, refresh_seconds=0.002) as progress:
        for iteration in (3, 4, 90):
            progress.on_iteration(record(0, iteration))
            shown = f"1 running, d=20 λ=4 iteration {iteration}, change {2.5 / iteration:.3g}"
            wait_for(lambda shown=shown: terminal.screen()[-1].endswith(shown))  # type: ignore[misc]


def test_bar_tells_of_the_model_heard_of_last() -> None:
    terminal = Terminal()
    with ProgressReporter(2, stream=terminal, refresh_seconds=NEVER) as progress:
        for point, iteration in ((0, 5), (1, 3), (0, 6)):
            progress.on_iteration(record(point, iteration))
        progress.write("now")
        assert "2 running, d=20 λ=4 iteration 6," in terminal.screen()[-1]


def test_records_cost_the_loop_no_drawing() -> None:
    terminal = Terminal()
    with ProgressReporter(2, stream=terminal, refresh_seconds=NEVER) as progress:
        start = time.perf_counter()
        for iteration in range(1, 20_001):
            progress.on_iteration(record(iteration % 2, iteration))
        assert time.perf_counter() - start < 2.0  # some 0.02 s; a drawing each would take minutes
        assert terminal.getvalue() == ""


def test_clock_of_a_phase_runs_on_without_events() -> None:
    terminal, clock = Terminal(), Clock()
    with (
        ProgressReporter(1, stream=terminal, refresh_seconds=0.002, clock=clock) as progress,
        progress.phase("reading ratings"),
    ):
        assert terminal.screen() == ["reading ratings ... 0.0 s"]
        for later in (0.4, 61.0, 7.0):  # 7.0: a shorter text leaves nothing of the longer one
            clock.now = 100.0 + later
            shown = {0.4: "0.4 s", 61.0: "1 min 01 s", 7.0: "7.0 s"}[later]
            wait_for(
                lambda shown=shown: terminal.screen() == [f"reading ratings ... {shown}"]  # type: ignore[misc]
            )
    assert terminal.screen() == ["reading ratings: 7.0 s", ""]


def test_phases_during_and_after_training_name_the_bar() -> None:
    terminal, clock = Terminal(), Clock()
    with ProgressReporter(1, stream=terminal, refresh_seconds=NEVER, clock=clock) as progress:
        with progress.phase("training"):
            progress.on_iteration(record())
            progress.on_finished(0, result())
        with progress.phase("evaluating"):
            assert terminal.screen()[-1].startswith("evaluating 1/1 |")
            clock.now += 1.5
    assert terminal.screen()[1:3] == ["training: 0.0 s", "evaluating: 1.5 s"]
    assert terminal.screen()[-2].startswith("training 1/1 |")


def test_the_bar_counts_finished_models_without_any_record_of_an_iteration() -> None:
    terminal, clock = Terminal(), Clock()
    with (
        ProgressReporter(2, stream=terminal, refresh_seconds=NEVER, clock=clock) as progress,
        progress.phase("training"),
    ):
        assert terminal.screen()[-1].startswith("training 0/2 |")
        assert terminal.screen()[-1].endswith("| 0.0 s")
        clock.now += 61.0
        progress.on_finished(0, result())
        assert terminal.screen()[-1].startswith("training 1/2 |")
        assert terminal.screen()[-1].endswith("| 1 min 01 s")


def test_a_gone_terminal_does_not_hold_up_the_bars_of_other_threads() -> None:
    gone, terminal = Gone(BrokenPipeError), Terminal()
    gone.there = False

    def show_another() -> None:
        with ProgressReporter(1, stream=terminal, refresh_seconds=NEVER) as progress:
            progress.on_finished(0, result())

    with (
        ProgressReporter(1, stream=gone, refresh_seconds=NEVER) as progress,
        progress.phase("training"),
    ):
        pass
    other = threading.Thread(target=show_another, daemon=True)
    other.start()
    other.join(timeout=10)
    assert not other.is_alive()
    assert terminal.screen()[-2].startswith("training 1/1 |")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("trained", [True, False])
def test_exceptions_leave_a_fresh_line_and_no_thread(
    error: type[BaseException], trained: bool
) -> None:
    terminal = Terminal()

    def run(progress: ProgressReporter) -> None:
        with progress, progress.phase("packing blocks"):
            if trained:
                progress.on_iteration(record())
            raise error

    with no_thread_left(), pytest.raises(error):
        run(progress := ProgressReporter(2, stream=terminal, refresh_seconds=0.002))
    screen = terminal.screen()
    assert screen[0] == "packing blocks: stopped after 0.0 s"
    assert screen[-1] == ""
    assert len(screen) == (3 if trained else 2)
    assert "packing blocks" in progress.phase_seconds


def test_close_may_be_called_twice_and_late_news_is_silent() -> None:
    terminal = Terminal()
    progress = ProgressReporter(2, stream=terminal, refresh_seconds=NEVER)
    progress.on_finished(0, result())
    progress.close()
    shown = terminal.getvalue()
    progress.close()
    progress.on_iteration(record(1))
    progress.on_finished(1, result())
    progress.write("late")
    with progress.phase("writing"):
        pass
    assert terminal.getvalue() == shown
    assert "writing" in progress.phase_seconds


class Gone(Terminal):
    """A terminal whose window was closed."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        super().__init__()
        self.error = error
        self.there = True

    def write(self, text: str) -> int:
        if not self.there:
            raise self.error()
        return super().write(text)


@pytest.mark.parametrize(
    "error", [BrokenPipeError, lambda: OSError(5, "EIO"), lambda: ValueError("closed")]
)
@pytest.mark.parametrize("trained", [True, False])
def test_a_terminal_that_goes_away_stops_nothing(
    error: Callable[[], Exception], trained: bool
) -> None:
    terminal = Gone(error)
    with no_thread_left():
        progress = ProgressReporter(2, stream=terminal, refresh_seconds=0.002)
        if trained:
            progress.on_finished(0, result())
        terminal.there = False
        with progress, progress.phase("evaluating"):
            progress.on_iteration(record(1))
            progress.on_finished(1, result())
            progress.write("a line")
        wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("als_spark")])
    assert "evaluating" in progress.phase_seconds
    del progress
    gc.collect()  # a finaliser that wrote to the terminal would fail the test here


def test_a_terminal_without_greek_letters_gets_none() -> None:
    terminal = Terminal("ascii")  # its write raises UnicodeEncodeError on others
    with ProgressReporter(1, stream=terminal, refresh_seconds=NEVER) as progress:
        progress.on_iteration(record())
        progress.on_finished(0, result())
        progress.write("naïve")
        assert terminal.screen()[:2] == [
            "d=20 lambda=4: 207 iterations, objective 51234.5, 3.2 s",
            "na?ve",
        ]


@pytest.mark.parametrize(("columns", "fills"), [(0, 79), (60, 59), (200, 199)])
def test_bar_fits_the_width_of_a_real_terminal(
    columns: int, fills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = pty.openpty()
    try:
        size = struct.pack("HHHH", 0 if columns == 0 else 24, columns, 0, 0)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
        with (
            open(slave, "w", encoding="utf-8", closefd=False) as stream,
            monkeypatch.context() as patched,
        ):
            patched.setattr(sys, "stderr", stream)
            progress = ProgressReporter(4, refresh_seconds=NEVER)
            progress.on_iteration(record(1))
            progress.on_finished(0, result())
            progress.close()
        raw = b""
        while select.select([master], [], [], 0.05)[0]:
            raw += os.read(master, 100_000)
    finally:
        os.close(master)
        os.close(slave)
    line, bar, fresh = render(raw.decode().replace("\r\n", "\n"))
    assert line.startswith("d=20 λ=4: 207 iterations")
    assert bar.startswith("training 1/4 |")
    assert 50 < len(bar) <= fills
    assert fresh == ""


# ----------------------------------------------------------------------------- elsewhere: the log


def test_log_gets_each_phase_and_each_finished_point(
    caplog: pytest.LogCaptureFixture, logger: logging.Logger
) -> None:
    caplog.set_level(logging.INFO)
    stream, clock = io.StringIO(), Clock()
    with (
        no_thread_left(),
        ProgressReporter(2, stream=stream, logger=logger, clock=clock) as progress,
    ):
        assert [t.name for t in threading.enumerate() if t.name.startswith("als_spark")] == []
        with progress.phase("reading ratings"):
            clock.now += 3.21
        for point in (0, 1):
            progress.on_iteration(record(point))
            progress.on_finished(point, result())
        progress.write("12 of 16 points kept")
    assert stream.getvalue() == ""
    assert caplog.messages == [
        "reading ratings ...",
        "reading ratings: 3.2 s",
        "d=20 λ=4: 207 iterations, objective 51234.5, 3.2 s (1/2 points done)",
        "d=20 λ=4: 207 iterations, objective 51234.5, 3.2 s (2/2 points done)",
        "12 of 16 points kept",
    ]
    assert {(r.name, r.levelno) for r in caplog.records} == {("test.progress", logging.INFO)}


def test_log_tells_of_running_models_at_most_every_ten_seconds(
    caplog: pytest.LogCaptureFixture, logger: logging.Logger
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    with ProgressReporter(4, stream=io.StringIO(), logger=logger, clock=clock) as progress:
        for second in range(1, 36):
            clock.now = 100.0 + second
            for point in (0, 1, 2):
                progress.on_iteration(record(point, 2 * second))
    assert caplog.messages == [
        "0/4 points done, 3 running, d=20 λ=4 iteration 20, change 0.125, objective 51234.5",
        "0/4 points done, 3 running, d=20 λ=4 iteration 40, change 0.0625, objective 51234.5",
        "0/4 points done, 3 running, d=20 λ=4 iteration 60, change 0.0417, objective 51234.5",
    ]


def test_default_logger_is_the_modules(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with ProgressReporter(1, stream=io.StringIO()) as progress:
        progress.write("hello")
    assert [r.name for r in caplog.records] == ["als_spark.report.progress"]


def test_no_handler_and_no_level_is_set(logger: logging.Logger) -> None:
    names = ("", "als_spark", "als_spark.report", "als_spark.report.progress", logger.name)
    before = [(logging.getLogger(n).handlers[:], logging.getLogger(n).level) for n in names]
    for stream in (io.StringIO(), Terminal()):
        with ProgressReporter(1, stream=stream, logger=logger) as progress:
            progress.on_iteration(record())
            progress.on_finished(0, result())
    after = [(logging.getLogger(n).handlers[:], logging.getLogger(n).level) for n in names]
    assert after == before


def test_default_stream_is_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReporter(1) as progress:  # captured, so no terminal
        progress.write("to the log")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stream", [object(), io.StringIO()])
def test_a_stream_that_cannot_tell_is_no_terminal(
    stream: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    if isinstance(stream, io.StringIO):
        stream.close()
    with ProgressReporter(1, stream=stream) as progress:  # type: ignore[arg-type]
        progress.write("to the log")
    assert caplog.messages == ["to the log"]


# ------------------------------------------------------------------------------------ any order


def test_late_and_repeated_news_changes_nothing() -> None:
    terminal = Terminal()
    with ProgressReporter(2, stream=terminal, refresh_seconds=NEVER) as progress:
        progress.on_iteration(record(0, 9))
        progress.on_iteration(record(0, 8))
        progress.write("-")
        assert "iteration 9," in terminal.screen()[-1]
        progress.on_finished(0, result())
        progress.on_finished(0, result())
        progress.on_iteration(record(0, 10))  # late: the point has finished
        progress.write("-")
    assert len([line for line in terminal.screen() if "207 iterations" in line]) == 1
    bar = terminal.screen()[-2]
    assert bar.startswith("training 1/2 |")
    assert "running" not in bar


def test_a_point_may_finish_without_a_record() -> None:
    terminal = Terminal()
    with ProgressReporter(1, stream=terminal, refresh_seconds=NEVER) as progress:
        progress.on_finished(0, result())
    assert terminal.screen()[-2].startswith("training 1/1 |")


def test_many_threads_at_once() -> None:
    terminal = Terminal()
    failures: list[BaseException] = []

    def train(progress: ProgressReporter, point: int) -> None:
        try:
            for iteration in range(1, 301):
                progress.on_iteration(record(point, iteration))
            progress.on_finished(point, result(rank=point))
        except BaseException as error:
            failures.append(error)
            raise

    with ProgressReporter(12, stream=terminal, refresh_seconds=0.0005) as progress:
        threads = [threading.Thread(target=train, args=(progress, k)) for k in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    *lines, bar, fresh = terminal.screen()
    assert sorted(int(line.split()[0].removeprefix("d=")) for line in lines) == list(range(12))
    assert bar.startswith("training 12/12 |")
    assert fresh == ""


# --------------------------------------------------------------------------------------- phases


def test_seconds_of_phases_add_up_by_name() -> None:
    clock, begun = Clock(), []
    progress = ProgressReporter(1, stream=io.StringIO(), clock=clock)
    progress.on_phase = begun.append
    for name, seconds in (("reading", 2.0), ("evaluating", 1.0), ("reading", 0.5)):
        with progress.phase(name):
            clock.now += seconds
    with progress.phase("outer"):
        clock.now += 1.0
        with progress.phase("inner"):
            clock.now += 2.0
    assert progress.phase_seconds == pytest.approx(
        {"reading": 2.5, "evaluating": 1.0, "inner": 2.0, "outer": 3.0}
    )
    assert list(progress.phase_seconds) == ["reading", "evaluating", "inner", "outer"]
    assert begun == ["reading", "evaluating", "reading", "outer", "inner"]


def test_inner_phase_is_shown_and_then_the_outer_again() -> None:
    terminal, clock = Terminal(), Clock()
    with (
        ProgressReporter(1, stream=terminal, refresh_seconds=NEVER, clock=clock) as progress,
        progress.phase("outer"),
    ):
        with progress.phase("inner"):
            assert terminal.screen()[-1] == "inner ... 0.0 s"
            clock.now += 2.0
        assert terminal.screen() == ["inner: 2.0 s", "outer ... 2.0 s"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125.4, "2 min 05 s"),
        (3599.6, "1 h 00 min"),
        (3600 + 59 * 60, "1 h 59 min"),
    ],
)
def test_durations_are_written_for_a_person(
    seconds: float, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    with (
        ProgressReporter(1, stream=io.StringIO(), clock=clock) as progress,
        progress.phase("reading"),
    ):
        clock.now += seconds
    assert caplog.messages[-1] == f"reading: {text}"


def test_importing_progress_and_table_loads_neither_matplotlib_nor_pyspark() -> None:
    code = (
        "import sys, als_spark.report.progress, als_spark.report.table\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'matplotlib', 'pyspark'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
