"""Standard streams that are closed, full, or read by nobody: each program is a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PROGRAM = """\
import os, sys, tempfile
from contextlib import suppress
from als_spark.cli.program import run_program, say

def work():
    file = tempfile.TemporaryFile()
    assert file.fileno() > 2
    say("the result")
    with suppress(OSError):
        os.write(2, b"the JVM\\n")
    print("a warning", file=sys.stderr, flush=True)
    open("done", "w").close()
    return CODE

sys.exit(run_program("sweep", work, ""))
"""
LOST = "sweep: what standard output should have shown is lost (No space left on device); "


def run(folder: Path, streams: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    program = folder / "program.py"
    program.write_text(PROGRAM.replace("CODE", str(code)))
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" "{program}" {streams}'],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (folder / "done").exists()
    assert program.read_text() == PROGRAM.replace("CODE", str(code))
    return done


@pytest.mark.parametrize(
    ("streams", "out", "err"),
    [
        ("", "the result\n", "the JVM\na warning\n"),
        ("2>&-", "the result\n", ""),
        (">&-", "", "the JVM\na warning\n"),
        ("<&- >&- 2>&-", "", ""),
        ("2>/dev/full", "the result\n", ""),
    ],
)
def test_a_run_goes_on_and_ends_as_it_would(tmp_path, streams, out, err):
    if "full" in streams and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    done = run(tmp_path, streams, code=3)
    assert (done.returncode, done.stdout) == (3, out)
    # What the operating system refuses, the JVM's stand-in here does not catch.
    assert done.stderr == err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("code", "ended"), [(0, 1), (3, 3)])
def test_a_result_that_nobody_could_read_is_told(tmp_path, code, ended):
    done = run(tmp_path, ">/dev/full", code)
    assert done.returncode == ended
    assert done.stderr == f"the JVM\na warning\n{LOST}files are whole\n"


def test_a_reader_who_has_read_enough_is_no_fault(tmp_path):
    done = run(tmp_path, "| true; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "the JVM\na warning\n"


def test_one_file_for_both_keeps_everything(tmp_path):
    for mode in (">", ">>"):
        run(tmp_path, f"{mode} log{len(mode)} 2>&1")
    once, appended = (sorted((tmp_path / f"log{k}").read_text().splitlines()) for k in (1, 2))
    assert once == appended == ["a warning", "the JVM", "the result"]
