"""A copy of the checkout in which the scripts can be run.

No test touches the environment that runs it: the copy gets a ``.venv`` of its own, in a fraction
of a second. A stand-in for ``uv`` makes it, a new environment that borrows the packages of the
running one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pyspark

from tests.spark.session import QUICK_START

ROOT = Path(__file__).resolve().parents[2]
PYSPARK = Path(pyspark.__file__).parent

# `uv venv` and `uv pip install`, as far as scripts/lib/environment.sh uses them. FAKE_UV says
# what the installation of the project does: nothing special, `fail`, or `hang`.
FAKE_UV = f"""\
#!{sys.executable}
import os, pathlib, shutil, subprocess, sys, time

with open(os.environ["FAKE_UV_LOG"], "a") as log:
    print(*sys.argv[1:], file=log)
arguments = sys.argv[1:]
if arguments[0] == "venv":
    python = arguments[arguments.index("--python") + 1]
    command = [python, "-m", "venv", "--clear", "--without-pip", arguments[-1]]
    raise SystemExit(subprocess.call(command))
assert arguments[:2] == ["pip", "install"], arguments
if "--editable" in arguments:
    if os.environ.get("FAKE_UV") == "fail":
        print("no such package", file=sys.stderr)
        raise SystemExit(1)
    if os.environ.get("FAKE_UV") == "hang":
        time.sleep(600)
    time.sleep(0.2)
    python = pathlib.Path(arguments[arguments.index("--python") + 1])
    packages = next(python.parents[1].glob("lib/python*/site-packages"))
    (packages / "borrowed.pth").write_text({sysconfig.get_path("purelib")!r} + os.linesep)
    if not (packages / "pyspark").exists():
        (packages / "pyspark").symlink_to({str(PYSPARK)!r})
        shutil.copy({str(PYSPARK / "bin" / "spark-submit")!r}, python.parent)
"""


class Checkout:
    """A copy of the project with the stand-in for uv first on PATH."""

    def __init__(self, folder: Path) -> None:
        # A folder of any name should do.
        self.root = folder / "check out"
        self.venv = self.root / ".venv"
        for name in ("als_spark", "jobs", "scripts", "conf"):
            shutil.copytree(
                ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        for name in ("pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.root)
        self.bin = folder / "bin"
        self.log = folder / "uv.log"
        self.program("uv", FAKE_UV)
        # Nothing of the user's own Spark, and nothing of the run that these tests are part of.
        self.env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SPARK_", "PYSPARK_", "ALS_SPARK_", "PYTHON"))
            and key not in {"MASTER", "VIRTUAL_ENV"}
        }
        self.env |= {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "ALS_SPARK_PYTHON": sys.executable,
            "FAKE_UV_LOG": str(self.log),
            **QUICK_START,
            # Machines that run other tests at the same time are slow.
            "ALS_SPARK_CLUSTER_TIMEOUT": "180",
        }

    def program(self, name: str, text: str) -> Path:
        """Put a program on PATH."""
        self.bin.mkdir(parents=True, exist_ok=True)
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def job(self, name: str, text: str) -> None:
        (self.root / "jobs" / f"{name}.py").write_text(text)

    def start(self, *command: str, **env: str) -> subprocess.Popen[str]:
        """Start a script in a process group of its own, from a directory that is not the root."""
        return subprocess.Popen(
            [str(self.root / command[0]), *command[1:]],
            cwd=self.bin,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*command, **env)
        try:
            out, err = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def bash(self, commands: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run commands after sourcing the shared set-up."""
        script = f"set -euo pipefail\nsource '{self.root}/scripts/lib/environment.sh'\n{commands}\n"
        return subprocess.run(
            ["bash", "-c", script],
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def installs(self) -> list[str]:
        """Return what uv was asked to do, and forget it."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def only_line(text: str) -> str:
    (line,) = text.splitlines()
    return line
