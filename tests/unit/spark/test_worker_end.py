"""Workers of PySpark's daemon whose sockets are closed: a session ends, with no JVM in the test."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from typing import IO

import pytest

DAEMON = "import runpy; runpy.run_module('pyspark.daemon', run_name='__main__', alter_sys=True)"
PREPARED = f"from als_spark.spark.worker import end_quietly; end_quietly(); {DAEMON}"
BROKEN = f"import os; os.getpid = None; {PREPARED}"


def read_int(stream: IO[bytes]) -> int:
    return int(struct.unpack("!i", stream.read(4))[0])


def complaints(code: str) -> str:
    """Start a daemon and a worker, close the worker's socket, and return what they say of it."""
    environment = {
        **os.environ,
        "SPARK_REUSE_WORKER": "1",
        "PYTHON_UNIX_DOMAIN_ENABLED": "true",
        "PYTHON_WORKER_FACTORY_SOCK_DIR": "/tmp",
        "PYTHON_DAEMON_KILL_WORKER_ON_FLUSH_FAILURE": "1",
    }
    daemon = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert daemon.stdin is not None
    assert daemon.stdout is not None
    assert daemon.stderr is not None
    try:
        path = daemon.stdout.read(read_int(daemon.stdout)).decode()
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as stream:
            connection.connect(path)
            started = stream.read(4)
        if started:
            # The worker has ended when nobody but us may have its process id.
            deadline = time.monotonic() + 60
            worker = struct.unpack("!i", started)[0]
            while os.path.exists(f"/proc/{worker}") and time.monotonic() < deadline:
                time.sleep(0.01)
        else:
            time.sleep(0.5)
        daemon.stdin.close()
        return daemon.stderr.read().decode()
    finally:
        daemon.kill()
        daemon.wait()
        daemon.stdout.close()
        daemon.stderr.close()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_worker_that_outlives_its_session_says_nothing() -> None:
    # If PySpark's daemon says nothing by itself one day, this is of no use any more.
    assert "BrokenPipeError" in complaints(DAEMON)
    assert complaints(PREPARED) == ""


def test_other_ends_of_a_worker_are_told() -> None:
    assert "'NoneType' object is not callable" in complaints(BROKEN)
