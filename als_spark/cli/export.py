"""``jobs/export.py``: the vectors of a model for serving; Spark only for other file systems."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import als_spark
from als_spark.cli.config.export import ExportConfig
from als_spark.cli.config.settings import config_record, paths_of
from als_spark.cli.interrupts import stop_on_signals
from als_spark.cli.program import EXIT_DONE, job_main, say
from als_spark.cli.spark_job import job_progress, spark_job
from als_spark.cli.spark_paths import check_output, local_output, open_output
from als_spark.cli.stored import open_model
from als_spark.files.json_files import write_json
from als_spark.files.places import local_path
from als_spark.model.export import write_export
from als_spark.redaction import redact
from als_spark.spark.output import output_folder

EXPORT_FILE = "export.json"


def _run(config: ExportConfig) -> int:
    check_output(config.output, "export")
    with job_progress("export") as progress, ExitStack() as stack:
        session = None
        if any(local_path(path) is None for _, _, path in paths_of(config)):
            session = stack.enter_context(spark_job("export", progress)).session
        else:
            progress.checkpoint = stack.enter_context(stop_on_signals()).check
        with progress.phase("reading the model"):
            opened = open_model(session, config)
        if session is None:
            staged = stack.enter_context(local_output(config.output, "export"))
        else:
            opening = open_output(session, config, config.output, "export", output_folder)
            staged = stack.enter_context(opening)
        with progress.phase("writing the vectors"):
            record = write_export(staged.content, opened.model, config.to, config.metric)
            said = {
                "model": redact(opened.label),
                "version": opened.version,
                **record,
                "config": config_record(config),
                "versions": {"als_spark": als_spark.__version__},
            }
            write_json(staged.content / EXPORT_FILE, said)
    say(_words(config, record))
    return EXIT_DONE


def _words(config: ExportConfig, record: dict[str, Any]) -> str:
    users, items = record["users"]["rows"], record["items"]["rows"]
    lines = [f"{users:,} users and {items:,} items, vectors of {record['columns']} numbers"]
    for side in ("users", "items"):
        for key, why in (("without_ratings", "without training ratings"), ("zero", "of zeros")):
            left_out = record[side][f"left_out_{key}"]
            if left_out:
                lines.append(f"left out: {left_out:,} {side} {why}")
    lines.append(f"Written to {config.output.rstrip('/')}; {EXPORT_FILE} describes the files.")
    return "\n".join(lines)


main = job_main(ExportConfig, _run, "stopped; nothing written")
