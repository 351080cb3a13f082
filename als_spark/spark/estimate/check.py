"""The estimate of a training that is about to begin: stop it where it could only fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pyspark import SparkContext

from als_spark.errors import ConfigError
from als_spark.spark.estimate.estimate import estimate_plan
from als_spark.spark.estimate.resources import Resources, machine_memory, of_settings
from als_spark.spark.estimate.work import Workload
from als_spark.spark.planner import Plan
from als_spark.spark.session import count_executors, default_partitions


def of_session(context: SparkContext) -> Resources:
    """Read what a session has: its settings, the heap of its JVM, the executors that have come."""
    java: Any = context._jvm
    assert java is not None
    found = of_settings(
        dict(context.getConf().getAll()),
        heap=int(java.java.lang.Runtime.getRuntime().maxMemory()),
        cores=default_partitions(context),
        executors=count_executors(context),
        machine=machine_memory(),
    )
    return replace(found, outlived=context.getCheckpointDir() is not None)


def check_plan(
    decided: Plan, resources: Resources, workload: Workload, warn: Callable[[str], None]
) -> None:
    """Stop a training that could only fail, or lose factors; warn of what may be too small for it.

    Raises
    ------
    ConfigError
        With what is too small, and the setting to change.
    """
    estimate = estimate_plan(decided, resources, workload)
    for finding in estimate.findings:
        if finding.certain:
            raise ConfigError(f"this training {finding.fate}: {finding}")
        warn(finding.words)
