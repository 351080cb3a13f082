"""A configuration as the files of a run keep it."""

from __future__ import annotations

from typing import Any

from als_spark.cli.config.settings import JobConfig
from als_spark.files.json_files import json_ready
from als_spark.nightly.tracking import without_password


def config_record(config: JobConfig) -> dict[str, Any]:
    """Return a configuration as the files of a run and MLflow keep it.

    Parameters
    ----------
    config : JobConfig
        Configuration of any job. λ is ``lambda_reg``, as in all files; user and password of its
        ``mlflow``, if it has one, are blotted out.
    """
    fields = json_ready(config.model_dump())
    record = {"lambda_reg" if name == "reg" else name: value for name, value in fields.items()}
    if record.get("mlflow") is not None:
        record["mlflow"] = without_password(record["mlflow"], record["mlflow"])
    return record
