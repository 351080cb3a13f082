"""How the tests start Spark."""

from __future__ import annotations

import os
import sys

from pyspark.sql import SparkSession

from als_spark.spark.session import SESSION_DEFAULTS, local_defaults
from tests.drills.processes import QUICK_JVM

QUICK_START = dict.fromkeys(("SPARK_SUBMIT_OPTS", "SPARK_LAUNCHER_OPTS"), QUICK_JVM)
"""Environment of the Sparks that tests start as processes of their own."""


TABLE_EXTENSIONS = (
    "io.delta.sql.DeltaSparkSessionExtension",
    "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
)
DELTA_CATALOG = "org.apache.spark.sql.delta.catalog.DeltaCatalog"


def make_session() -> SparkSession:
    """Start a session of two local cores, quiet and without a web page."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[2]").appName("als_spark tests")
    for key, value in {**SESSION_DEFAULTS, **local_defaults()}.items():
        builder = builder.config(key, value)
    tables = os.environ.get("ALS_SPARK_TEST_TABLES")
    if tables is not None:
        # The JARs of Delta Lake and Iceberg: see tests/spark/read/test_tables.py.
        builder = (
            builder.config("spark.jars", tables)
            .config("spark.sql.extensions", ",".join(TABLE_EXTENSIONS))
            .config("spark.sql.catalog.spark_catalog", DELTA_CATALOG)
        )
    return (
        builder.config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.extraJavaOptions", QUICK_JVM)
        .config("spark.sql.shuffle.partitions", "4")
        .getOrCreate()
    )
