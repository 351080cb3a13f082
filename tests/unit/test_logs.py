"""The tests' reading of logs tells the driver's tracebacks from the workers'."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.logs import driver_tracebacks

WORKER = """\
Traceback (most recent call last):
Traceback (most recent call last):
  File "/x/pyspark.zip/pyspark/daemon.py", line 264, in manager
  File "/x/pyspark.zip/pyspark/daemon.py", line 95, in worker
BrokenPipeError: [Errno 32] Broken pipe
ERROR Executor: Exception in task 1.0: [PYTHON_EXCEPTION] Traceback (most recent call last):
  File "/x/als_spark/spark/train/partitioned.py", line 197, in solve_partition
FileNotFoundError: [Errno 2] No such file or directory
Exception in thread "Executor task launch worker" java.lang.OutOfMemoryError
"""


def test_workers_may_complain():
    assert driver_tracebacks(WORKER) == []


@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError",
        "class C:\n    def __del__(self): raise ValueError\nC()",
        "import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()",
        "import atexit\natexit.register(lambda: 1 / 0)",
    ],
)
def test_the_driver_may_not(tmp_path, body):
    job = tmp_path / "jobs" / "job.py"
    job.parent.mkdir()
    job.write_text(body)
    done = subprocess.run([sys.executable, job], capture_output=True, text=True, timeout=180)
    assert driver_tracebacks(WORKER + done.stderr)
