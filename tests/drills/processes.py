"""Retrainings as processes of their own, each in a group that can be killed whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
QUICK_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""For Sparks that are over before the JVM's second compiler and its parallel collector pay."""
SUBMIT = (
    "--master local[2] --driver-memory 1g --conf spark.ui.enabled=false "
    f'--driver-java-options "{QUICK_JVM}" pyspark-shell'
)
"""Small and quick to start: a drill runs Spark a hundred times on a few thousand ratings."""
LONGEST = 600.0
"""Seconds after which a run that does not end is a failure."""


class Job:
    """A job of ``jobs/`` in a process group of its own, whose log is a file.

    Parameters
    ----------
    log : Path
        Takes standard output and standard error.
    name : str
        Of the job; or of another module, such as ``tests.drills.fit``, with a dot.
    options : sequence of str
    """

    def __init__(self, log: Path, name: str, options: Sequence[str]) -> None:
        self._log = log
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable}
        environment.setdefault("PYSPARK_SUBMIT_ARGS", SUBMIT)
        program = ["-m", name] if "." in name else [str(ROOT / "jobs" / f"{name}.py")]
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, *program, *options],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Number of the process, and of its group."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def ended(self) -> bool:
        """Tell whether it is over."""
        return self._process.poll() is not None

    def wait(self, seconds: float = LONGEST) -> int:
        """Wait for its end; return its exit code. One that does not end is killed."""
        try:
            return self._process.wait(seconds)
        except BaseException:
            self.kill()
            raise

    def wait_until(self, condition: Callable[[], bool], seconds: float = LONGEST) -> bool:
        """Wait until something is so; False if the process has ended before."""
        deadline = time.monotonic() + seconds
        try:
            while not condition():
                if self.ended():
                    return False
                if time.monotonic() > deadline:
                    raise TimeoutError(f"waited {seconds:g} s in vain:\n{self.log}")
                time.sleep(0.002)
        except BaseException:
            self.kill()
            raise
        return True

    def terminate(self) -> None:
        """Send SIGTERM to Python alone, as an init system may."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill Python and its JVM, neither of which can do anything about it."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
