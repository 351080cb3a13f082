"""``jobs/inspect_ratings.py``: a look at ratings before anything is trained on them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from als_spark.cli.config.inspect import InspectConfig
from als_spark.cli.config.settings import in_options
from als_spark.cli.program import EXIT_DONE, job_main, say
from als_spark.cli.spark_job import (
    SparkJob,
    all_versions,
    job_progress,
    open_ratings,
    spark_job,
    tables_record,
)
from als_spark.files.places import local_path
from als_spark.report.overview import overview_text
from als_spark.report.progress import writable
from als_spark.spark.read.overview import Overview, first_rows, id_warnings, look_over
from als_spark.spark.read.sources import Source

_MANY_FEW = 0.5
"""Share of the items with few ratings from which on they are told of."""


def _run(config: InspectConfig) -> int:
    with job_progress("inspect") as progress, spark_job("inspect", progress) as job:
        record = _inspect(config, job)
    if config.as_json:
        say(json.dumps(record, indent=2, allow_nan=False))
    else:
        block = "█" if writable(sys.stdout, "█") == "█" else "#"
        say(writable(sys.stdout, overview_text(record, block=block)))
    return EXIT_DONE


def _inspect(config: InspectConfig, job: SparkJob) -> dict[str, Any]:
    progress = job.progress
    with progress.phase("looking at the ratings"):
        source = open_ratings(
            job.session, config, config.ratings, config.table, need_timestamp=False
        )
        rows = first_rows(source)
    with progress.phase("counting"):
        overview = look_over(job.session, source)
        ids = id_warnings(job.session, source, overview)
    return {
        "source": _source_record(source, config),
        "first_rows": rows,
        "data": overview.as_record(),
        "warnings": [in_options(warning) for warning in _warnings(source, overview, ids)],
        "versions": all_versions(job.session),
        "seconds": job.seconds,
    }


def _source_record(source: Source, config: InspectConfig) -> dict[str, Any]:
    files = [file for part in source.parts for file in part.frame.inputFiles()]
    paths = [local_path(file) for file in files]
    sizes = [path.stat().st_size for path in paths if path is not None and path.is_file()]
    return {
        "label": source.label,
        "read": source.words,
        "parts": source.part_records(),
        "files": len(files) or None,
        "bytes": sum(sizes) if files and len(sizes) == len(files) else None,
        "encoding": config.encoding if any(part.is_text for part in source.parts) else None,
        **tables_record([source.version]),
    }


def _warnings(source: Source, overview: Overview, ids: Sequence[str]) -> Iterator[str]:
    """Say what a job would stumble over, and what the numbers may mean."""
    for line in overview.bad.lines:
        yield f'unusable: {line}: jobs stop on such rows, or leave them out with `bad_rows="drop"`'
    yield from overview.changed.lines
    yield from ids
    likely = next((part.encoding for part in source.parts if part.encoding), None)
    if likely is not None:
        yield f'the text seems to be of another encoding: try `encoding="{likely}"`'
    if overview.repeats:
        yield (
            f"{overview.repeated_pairs:,} pairs of a user and an item have several ratings, "
            f"{overview.repeats:,} more than one each: choose with "
            '`duplicates="mean"` or `duplicates="last"`'
        )
    if overview.untimed:
        yield f"{overview.untimed:,} ratings have no timestamp that can be read"
    if overview.lowest == overview.highest:
        yield (
            f"all ratings are {overview.lowest:g}: there is nothing to predict, unless they are "
            "taken for implicit feedback (--implicit)"
        )
    elif overview.lowest < 0:
        yield "some ratings are negative"
    if overview.latest > 1e11:
        yield "the timestamps are not in seconds: only their order counts"
    if overview.items.few > _MANY_FEW:
        yield (
            f"{100 * overview.items.few:.0f} % of the items have fewer than 5 ratings: what "
            "is learned of these is little more than noise"
        )


main = job_main(InspectConfig, _run, "stopped")
