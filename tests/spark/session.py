"""How the tests start Spark."""

from __future__ import annotations

import os
import sys

from pyspark.sql import SparkSession

from als_spark.spark.session import SESSION_DEFAULTS, local_defaults

QUICK_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Tests are over before the JVM's second compiler and its parallel collector pay."""


def make_session() -> SparkSession:
    """Start a session of two local cores, quiet and without a web page."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[2]").appName("als_spark tests")
    for key, value in {**SESSION_DEFAULTS, **local_defaults()}.items():
        builder = builder.config(key, value)
    return (
        builder.config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.extraJavaOptions", QUICK_JVM)
        .config("spark.sql.shuffle.partitions", "4")
        .getOrCreate()
    )
