"""The nightly retraining, and the recommendations after it, as an Airflow DAG (2.4 or newer).

Exit codes of the retraining:
    0    published; also: nothing new, the snapshot was trained on already
    1    anything else: the traceback is in the log
    2    bad input or configuration: one line says what, and the remedy
    3    kept the champion: the challenger was worse
    4    data check failed: nothing changed
    5    locked: another run is at work on the store
    130  stopped by SIGTERM or Ctrl-C
Here 3 skips the task and what follows it, 2 and 4 fail it at once, all else is tried again.

To install: run scripts/package.sh in the checkout, which every worker must see at ROOT; copy this
file into the DAG folder; `pip install apache-airflow-providers-apache-spark` on the workers, and
give the connection `spark_default` the cluster's address, deploy mode client. All paths are
examples.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

try:
    from airflow.sdk import DAG
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowSkipException,
    )
except ImportError:  # Airflow 2, and the first of 3
    from airflow import DAG
    from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException

ROOT = "/opt/als_spark"
STORE = "hdfs:///als_spark/store"
# The folder of the day on which the run is due. `ds` would be the day before in Airflow 2, but not
# in Airflow 3.
RATINGS = "hdfs:///ratings/{{ data_interval_end | ds }}"
RECOMMENDATIONS = "hdfs:///als_spark/recommendations/{{ data_interval_end | ds }}"

KEPT_CHAMPION = 3
NOT_AGAIN = (2, 4)  # the same input fails the same way


class RetrainOperator(SparkSubmitOperator):
    """spark-submit with the exit codes of the retraining, for deploy mode client.

    In cluster mode spark-submit does not hand on the exit code: every failure is tried again.
    """

    def execute(self, context):
        """Run the job; tell the exit codes apart."""
        try:
            return super().execute(context)
        except AirflowException as error:
            # The operator has the code in its message alone, after the command.
            found = re.search(r"Error code is: (\d+)", str(error))
            code = int(found[1]) if found else None
            if code == KEPT_CHAMPION:
                raise AirflowSkipException("kept the champion: the challenger was worse") from error
            if code in NOT_AGAIN:
                raise AirflowFailException(f"exit code {code}: {error}") from error
            raise


# How scripts/package.sh says to submit: executors bring their Python in an archive.
SUBMIT = {
    "conn_id": "spark_default",
    "properties_file": f"{ROOT}/conf/spark-yarn.conf",
    "py_files": f"{ROOT}/dist/als_spark.zip",
    "archives": f"{ROOT}/dist/als_spark_env.tar.gz#environment",
    "conf": {
        "spark.pyspark.python": "./environment/bin/python",
        "spark.pyspark.driver.python": f"{ROOT}/.venv/bin/python",
        # The properties file names it relative to the checkout, but Airflow starts elsewhere.
        "spark.driver.extraJavaOptions": (
            f"-Dlog4j2.configurationFile=file:{ROOT}/conf/log4j2.properties"
        ),
    },
}

with DAG(
    dag_id="als_spark_retrain",
    schedule="30 3 * * *",
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),  # noqa: UP017 - Airflow's older Pythons
    # Nights that were missed are in the newest snapshot.
    catchup=False,
    max_active_runs=1,
    # For 1 and 5; an hour of patience with another run on the store.
    default_args={"retries": 2, "retry_delay": timedelta(minutes=30)},
    tags=["als_spark"],
) as dag:
    retrain = RetrainOperator(
        task_id="retrain",
        name="als_spark retrain",
        application=f"{ROOT}/jobs/retrain.py",
        application_args=[
            *("--ratings", RATINGS),
            *("--store", STORE),
            *("--config", f"{ROOT}/conf/retrain.toml"),
        ],
        execution_timeout=timedelta(hours=8),
        **SUBMIT,
    )
    recommend = SparkSubmitOperator(
        task_id="recommend",
        name="als_spark recommend",
        application=f"{ROOT}/jobs/recommend.py",
        application_args=[
            *("--store", STORE),
            *("--output", RECOMMENDATIONS),
            *("--top", "10"),
        ],
        execution_timeout=timedelta(hours=4),
        **SUBMIT,
    )
    retrain >> recommend
