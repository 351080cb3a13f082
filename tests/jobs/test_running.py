"""What every job on Spark does when it is interrupted."""

from __future__ import annotations

import os
import signal

import pytest

from als_spark.cli.program import Interrupted
from als_spark.cli.spark_job import spark_job
from als_spark.report.progress import ProgressReporter

pytestmark = pytest.mark.usefixtures("spark")


def test_an_interrupt_stays_one_whatever_fails_on_its_way_out() -> None:
    def work() -> None:
        with ProgressReporter(1) as progress, spark_job("test", progress) as job:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                assert job.interrupted()
                raise ConnectionError("Answer from Java side is empty")

    with pytest.raises(Interrupted) as caught:
        work()
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_what_fails_by_itself_is_no_interrupt() -> None:
    def work() -> None:
        with ProgressReporter(1) as progress, spark_job("test", progress):
            raise ConnectionError("Answer from Java side is empty")

    with pytest.raises(ConnectionError, match="Answer from Java side is empty"):
        work()
