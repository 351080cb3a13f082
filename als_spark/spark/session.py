"""Session, job descriptions, broadcasts with an end, and the BLAS threads of the workers."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from py4j.protocol import Py4JJavaError
from pyspark import Broadcast, SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession

from als_spark.errors import ConfigError
from als_spark.files.writable import check_writable
from als_spark.redaction import redact
from als_spark.spark.cluster import check_master
from als_spark.spark.worker import blas_threads, prepare_worker

T = TypeVar("T")

_ARROW_PROPERTIES = {
    "arrow.enable_unsafe_memory_access": "true",
    "arrow.enable_null_check_for_get": "false",
}
SESSION_DEFAULTS = {
    # Factors are collected each half-step; they are as large as they are, and fit where they must.
    "spark.driver.maxResultSize": "0",
    # Spark's 10,000 rows a batch cost more in calls than in bytes.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "131072",
    # Timestamps written as text mean the same on every machine.
    "spark.sql.session.timeZone": "UTC",
    # One BLAS thread a Python worker, from its first import on (see prepare_worker).
    "spark.executorEnv.OPENBLAS_NUM_THREADS": "1",
    "spark.executorEnv.OMP_NUM_THREADS": "1",
    "spark.executorEnv.MKL_NUM_THREADS": "1",
    # Arrow's checks of every value that Spark writes take up to half of the time of the writing.
    "spark.executor.extraJavaOptions": " ".join(
        f"-D{name}={value}" for name, value in _ARROW_PROPERTIES.items()
    ),
}
"""Settings of a session that :func:`start_session` makes; whoever sets one of them wins."""


_UNCHOSEN = "python3"
"""What PySpark runs tasks with where nobody has said anything."""
_PYTHON = "spark.pyspark.python"
_SOCKETS = "/tmp"
"""Short: the path of a socket has about a hundred characters at most."""


def local_defaults() -> dict[str, str]:
    """Return more defaults of :func:`start_session`, where the tasks run on the driver's machine.

    JVM and Python workers then talk over Unix sockets: over TCP each small message waits for the
    acknowledgement of the one before, some 40 ms a task. PySpark 4.1 was the first that could;
    earlier ones pass over the settings. Its own switch ``PYSPARK_UDS_MODE`` wins.
    """
    able = hasattr(socket, "AF_UNIX") and os.access(_SOCKETS, os.W_OK | os.X_OK)
    if not able or "PYSPARK_UDS_MODE" in os.environ:
        return {}
    setting = "spark.python.unix.domain.socket"
    return {f"{setting}.enabled": "true", f"{setting}.dir": _SOCKETS}


def start_session(name: str) -> SparkSession:
    """Return the running session, or start one of this name with the defaults of the jobs.

    Raises
    ------
    ConfigError
        If Java ends as it starts, none of Spark's folders for temporary files can be written, or
        nobody answers at the address of a standalone master.
    """
    # Only with the JVM up does a conf hold what spark-submit was given, which wins over ours.
    try:
        SparkContext._ensure_initialized()
    except PySparkRuntimeError as error:
        if "JAVA_GATEWAY_EXITED" not in str(error):
            raise
        raise ConfigError(
            "Java ended as Spark started it, and has said why above: check the options of "
            "spark-submit (ALS_SPARK_SUBMIT_ARGS, PYSPARK_SUBMIT_ARGS) and spark-defaults.conf"
        ) from error
    conf = SparkConf()
    conf.setIfMissing("spark.app.name", name)
    conf.setIfMissing("spark.master", "local[*]")
    master = conf.get("spark.master", "")
    local = master.startswith("local")
    if SparkContext._active_spark_context is None:
        check_local_dirs(conf)
        check_master(master)
    for key, value in {**SESSION_DEFAULTS, **(local_defaults() if local else {})}.items():
        conf.setIfMissing(key, value)
    # In local mode the driver's JVM is the executor. Arrow reads these when it is first used.
    system = SparkContext._jvm.java.lang.System  # type: ignore[union-attr]
    for key, value in _ARROW_PROPERTIES.items():
        if system.getProperty(key) is None:
            system.setProperty(key, value)
    # A Python that starts the JVM itself counts as a shell, whose bar Spark switches on.
    conf.set("spark.ui.showConsoleProgress", "false")
    choose_interpreter(conf, local=local)
    return _get_or_create(SparkSession.builder.config(conf=conf))


def _get_or_create(builder: Any) -> SparkSession:
    """Start a session, a second time where the first met itself.

    On YARN in client mode Spark adds filters to the handlers of its web page, as the application
    master tells it to, while it attaches these: seen once in six starts of Spark 4.3 on a busy
    machine. The start that fails has stopped its context, so nothing of it is left.
    """
    try:
        session: SparkSession = builder.getOrCreate()
    except Py4JJavaError as error:
        if "java.util.ConcurrentModificationException" not in str(error):
            raise
        session = builder.getOrCreate()
    return session


def choose_interpreter(conf: SparkConf, *, local: bool) -> None:
    """Set the interpreter of the workers, ``PYSPARK_PYTHON``, before a session starts.

    spark-submit reads ``spark.pyspark.python`` where it starts the driver; PySpark does not, where
    Python starts the JVM. Workers on this machine run on this interpreter, since the ``python3`` on
    ``PATH`` may lack packages.
    """
    chosen = conf.get(_PYTHON, None)
    if chosen and "PYSPARK_GATEWAY_PORT" not in os.environ:
        os.environ["PYSPARK_PYTHON"] = chosen
    elif local and not chosen:
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)


def use_this_interpreter(context: SparkContext) -> None:
    """Let the tasks of a local session run on this interpreter, unless another one was chosen.

    For a session that the user has started: PySpark takes the ``python3`` on ``PATH``, which may be
    of another version than the interpreter of an environment that was not activated, or lack its
    packages. PySpark reads ``PYSPARK_PYTHON`` as the session starts; where it was set later, as a
    cell of a notebook may do, it is taken here. Of effect for all tasks that are made from now on.
    """
    if not str(context.master).startswith("local"):
        return
    chosen = os.environ.get("PYSPARK_PYTHON")
    if chosen and context.pythonExec != _UNCHOSEN:
        return
    context.pythonExec = chosen or context.getConf().get(_PYTHON, None) or sys.executable


def check_local_dirs(conf: SparkConf) -> None:
    """Refuse folders for Spark's temporary files none of which can be written.

    Spark would end the JVM without a word to Python.

    Raises
    ------
    ConfigError
    """
    if "CONTAINER_ID" in os.environ or "SPARK_EXECUTOR_DIRS" in os.environ:
        # Of YARN, and of executors that Spark starts on this machine.
        return
    name = "SPARK_LOCAL_DIRS"
    given = os.environ.get(name)
    if not given:
        name = "spark.local.dir"
        given = conf.get(name, None)
    if not given:
        return
    problems = []
    for folder in given.split(","):
        try:
            check_writable(Path(folder), f"{name} {given}")
        except ConfigError as error:
            problems.append(error)
        else:
            return
    raise problems[0]


def encoding_of_names() -> str:
    """Return the encoding that Spark's JVM has for the names of files of this machine."""
    SparkContext._ensure_initialized()
    jvm = SparkContext._jvm
    assert jvm is not None
    return str(jvm.java.lang.System.getProperty("sun.jnu.encoding"))


def quiet_spark(session: SparkSession) -> None:
    """Keep Spark's log below errors, unless the session was given a log configuration."""
    options = session.sparkContext.getConf().get("spark.driver.extraJavaOptions", "") or ""
    if "log4j" not in options and "SPARK_CONF_DIR" not in os.environ:
        session.sparkContext.setLogLevel("ERROR")
    _quiet_accumulators(session.sparkContext)


def _quiet_accumulators(context: SparkContext) -> None:
    """Keep PySpark from printing a stack trace where it reads accumulators of a JVM that has ended.

    That it has, as after a signal to both processes, whoever waits for it tells.
    """
    server: Any = getattr(context, "_accumulatorServer", None)
    if server is None:
        return
    tell = server.handle_error

    def handle_error(*request: Any) -> None:
        if not isinstance(sys.exception(), (EOFError, ConnectionError)):
            tell(*request)

    server.handle_error = handle_error


@contextmanager
def described(context: SparkContext, text: str) -> Iterator[None]:
    """Give the Spark jobs that the block starts a description, for whoever reads the Spark UI.

    Keys and passwords are blotted out of it: event logs keep it.
    """
    before = context.getLocalProperty("spark.job.description")
    context.setJobDescription(redact(text))
    try:
        yield
    finally:
        context.setLocalProperty("spark.job.description", before)  # type: ignore[arg-type]


@contextmanager
def broadcasted(context: SparkContext, value: T) -> Iterator[Broadcast[T]]:
    """Broadcast a value for the duration of the block, and remove it from everywhere at the end."""
    handle = context.broadcast(value)
    try:
        yield handle
    finally:
        # Not waiting for the executors' answers saves a round trip each half-step.
        handle.destroy(blocking=False)


def blas_threads_of_workers(context: SparkContext) -> int:
    """Ask one task a core for the BLAS threads of its worker; return the most."""
    n_tasks = default_partitions(context)
    with described(context, "checking the BLAS threads of the workers"):
        found = context.parallelize(range(n_tasks), n_tasks).mapPartitions(_count_threads).collect()
    return max(found)


def _count_threads(tasks: Iterable[int]) -> Iterator[int]:
    prepare_worker()
    for _ in tasks:
        yield max(blas_threads(), default=1)


def count_executors(context: SparkContext) -> int:
    """Return the executors that have come; the driver of a local session is none."""
    java: Any = context._jsc
    return int(java.sc().getExecutorMemoryStatus().size()) - 1


def default_partitions(context: SparkContext) -> int:
    """Return the tasks that the cluster runs at a time."""
    return max(int(context.defaultParallelism), 1)


def versions(session: SparkSession) -> dict[str, Any]:
    """Versions of what a run's result may depend on."""
    import platform

    import numpy
    import pyarrow
    import scipy

    jvm = session.sparkContext._jvm
    assert jvm is not None
    return {
        "python": platform.python_version(),
        "spark": session.version,
        "java": jvm.java.lang.System.getProperty("java.version"),
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "pyarrow": pyarrow.__version__,
    }
