"""A cluster that gives no executor: Spark waits for ever, and the job says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pyspark.sql import SparkSession

from als_spark.spark.cluster import ask_master, no_executor_words
from als_spark.spark.session import count_executors

PATIENCE = 30.0
"""Seconds without an executor after which the job says so."""
_PAUSE = 1.0


@contextmanager
def executors_awaited(session: SparkSession, tell: Callable[[str], None]) -> Iterator[None]:
    """Tell, once, if no executor has come for a while; only where the session is on a cluster."""
    context = session.sparkContext
    master = str(context.master)
    if master.startswith("local"):
        yield
        return
    conf = context.getConf()

    def words(seconds: float) -> str:
        names = ("spark.executor.cores", "spark.executor.memory")
        settings = {name: conf.get(name, None) for name in names}
        return no_executor_words(master, settings, ask_master(master), seconds)

    with watched(lambda: count_executors(context), lambda seconds: tell(words(seconds))):
        yield


@contextmanager
def watched(
    count: Callable[[], int], tell: Callable[[float], None], patience: float = PATIENCE
) -> Iterator[None]:
    """Count from another thread during the block; tell after ``patience`` seconds of none."""
    ended, began = threading.Event(), time.monotonic()

    def watch() -> None:
        # A session that ends meanwhile has nobody to ask.
        with suppress(Exception):
            while not ended.wait(min(_PAUSE, patience)) and count() == 0:
                waited = time.monotonic() - began
                if waited >= patience:
                    tell(waited)
                    return

    thread = threading.Thread(target=watch, name="als_spark-executors", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
