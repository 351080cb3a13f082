"""Partition the grid: every executor gets the packed ratings, and a task trains a whole model.

A model is a Spark job of one task, so its result is there as soon as it is done, and a run that is
stopped keeps what it has. Largest models go first. Tasks report their iterations to the driver by
datagrams: a report that is lost, as on a network that lets none through, costs nothing but a step
of the progress bar.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict
from functools import partial
from typing import NamedTuple

from pyspark import Broadcast, SparkContext, inheritable_thread_target
from pyspark.sql import SparkSession

from als_spark.errors import SolveError
from als_spark.spark.session import broadcasted, default_partitions
from als_spark.spark.worker import prepare_worker
from als_spark.train.backend import Factors
from als_spark.train.grid import SweepCollector
from als_spark.train.local import LocalBackend
from als_spark.train.loop import ModelSpec, OnIteration, TrainedModel, TrainingOptions, train_models
from als_spark.train.metrics import ErrorSums
from als_spark.train.records import IterationRecord
from als_spark.types import SplitName

REPORT_SECONDS = 0.2
"""A task reports at most this often."""


class ReportAddress(NamedTuple):
    """Where tasks report to; the token keeps strangers' datagrams out."""

    host: str
    port: int
    token: str


def run_grid_on_executors(
    session: SparkSession,
    backend: LocalBackend,
    specs: Sequence[ModelSpec],
    options: TrainingOptions,
    collector: SweepCollector,
    *,
    starts: Sequence[Factors] | None = None,
    on_iteration: OnIteration | None = None,
) -> None:
    """Train all points of a grid, a Spark task each; see :func:`als_spark.train.grid.run_grid`.

    Parameters
    ----------
    session : SparkSession
    backend : LocalBackend
        All ratings; broadcast once.
    specs, options, collector, starts, on_iteration
        As in :func:`als_spark.train.grid.run_grid`. Iterations are reported a few times a second,
        not one by one; the histories of the results are complete.
    """
    context = session.sparkContext
    largest_first = sorted(
        range(len(specs)), key=lambda k: (-specs[k].rank, specs[k].reg, specs[k].point)
    )
    n_threads = min(len(specs), default_partitions(context))
    group = f"als_spark-grid-{secrets.token_hex(4)}"
    with (
        broadcasted(context, backend) as shared,
        _Receiver(context, on_iteration) as receiver,
    ):

        def train(k: int) -> None:
            spec = specs[k]
            context.setJobGroup(group, f"ALS model d={spec.rank} λ={spec.reg:g}")
            work = [(spec, starts[k] if starts is not None else None)]
            run = partial(
                train_partition, backend=shared, options=options, report_to=receiver.address
            )
            # One partition, one task: the model.
            for returned in context.parallelize(work, 1).mapPartitions(run).collect():
                if isinstance(returned, SolveError):
                    raise returned
                collector.add(*returned)

        # A thread of its own in the JVM too, which ends with it. From PySpark 4 on the session is
        # asked for; 3.5 would take it for the function.
        takes_session = int(session.version.split(".")[0]) >= 4
        in_thread: Callable[..., Callable[[int], None]] = (
            inheritable_thread_target(session) if takes_session else inheritable_thread_target
        )
        pool = ThreadPoolExecutor(n_threads, thread_name_prefix="als_spark-grid")
        futures = [pool.submit(in_thread(train), k) for k in largest_first]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _cancel(context, group)
            raise
        pool.shutdown()


def train_partition(
    work: Iterable[tuple[ModelSpec, Factors | None]],
    *,
    backend: Broadcast[LocalBackend],
    options: TrainingOptions,
    report_to: ReportAddress | None,
) -> Iterator[tuple[TrainedModel, Mapping[SplitName, ErrorSums]] | SolveError]:
    """Train the models of a partition: the function that runs on an executor.

    A system without a solution is returned, not raised (see
    :func:`als_spark.spark.train.partitioned.solve_partition`).
    """
    prepare_worker()
    report = _Sender(report_to) if report_to is not None else None
    for spec, start in work:
        starts = None if start is None else [start]
        try:
            (trained,) = train_models(
                backend.value, [spec], options, starts=starts, on_iteration=report
            )
        except SolveError as error:
            yield error
            continue
        (sums,) = backend.value.errors([trained.factors], "")
        yield trained, sums


def _cancel(context: SparkContext, group: str) -> None:
    # Where the interrupt has taken the JVM down too, there is nothing left to cancel.
    if context._jsc is not None:
        try:
            context.cancelJobGroup(group)
        except Exception:  # noqa: BLE001 - py4j raises many kinds for a JVM that is gone
            return


class _Sender:
    """Reports iterations from a task, a few a second, without ever waiting or failing."""

    def __init__(self, address: ReportAddress) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._last = 0.0

    def __call__(self, record: IterationRecord) -> None:
        now = time.monotonic()
        if now - self._last < REPORT_SECONDS:
            return
        self._last = now
        message = json.dumps({"token": self._address.token, "record": asdict(record)})
        try:
            self._socket.sendto(message.encode(), (self._address.host, self._address.port))
        except OSError:
            return


class _Receiver:
    """Receives the tasks' reports on the driver, in a thread of its own."""

    def __init__(self, context: SparkContext, on_iteration: OnIteration | None) -> None:
        self._on_iteration = on_iteration
        self.address: ReportAddress | None = None
        self._socket: socket.socket | None = None
        self._closed = threading.Event()
        if on_iteration is None:
            return
        # The address at which the executors reach the driver anyway.
        host = context.getConf().get("spark.driver.host", "127.0.0.1") or "127.0.0.1"
        try:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            local = context.master is not None and context.master.startswith("local")
            self._socket.bind(("127.0.0.1" if local else "", 0))
        except OSError:
            return
        self._socket.settimeout(0.2)
        port = self._socket.getsockname()[1]
        self.address = ReportAddress("127.0.0.1" if local else host, port, secrets.token_hex(8))
        self._thread = threading.Thread(target=self._listen, daemon=True, name="als_spark-reports")

    def __enter__(self) -> _Receiver:
        if self.address is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        if self.address is not None:
            self._thread.join()
        if self._socket is not None:
            self._socket.close()

    def _listen(self) -> None:
        assert self._socket is not None
        assert self.address is not None
        assert self._on_iteration is not None
        while not self._closed.is_set():
            try:
                message = json.loads(self._socket.recv(4096))
                if message["token"] == self.address.token:
                    self._on_iteration(IterationRecord(**message["record"]))
            except TimeoutError:
                continue
            except (ValueError, KeyError, TypeError, OSError):
                # Somebody else's datagram.
                continue
