"""``jobs/train.py``: one model, into a model store or a folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from pyspark.sql import SparkSession

from als_spark.cli.config.batch import TrainConfig
from als_spark.cli.config.record import config_record
from als_spark.cli.nightly import fit_options, read_options, run_log, source_options
from als_spark.cli.options import parse
from als_spark.cli.program import EXIT_DONE, exits_if_locked, run_program
from als_spark.cli.spark_job import all_versions, open_source, spark_job
from als_spark.cli.spark_paths import check_output, check_paths, open_output
from als_spark.cli.stored import permission_is_usage, store_of
from als_spark.errors import ConfigError
from als_spark.files.json_files import write_json
from als_spark.files.places import local_path
from als_spark.nightly.run_log import new_record
from als_spark.nightly.run_record import Spec, rounded_seconds
from als_spark.nightly.tracking import check_tracking
from als_spark.nightly.train import TrainOptions, train_into_store, train_model
from als_spark.report.progress import ProgressReporter
from als_spark.solve.objective import Objective

RUN_FILE = "run.json"

logger = logging.getLogger("als_spark.train")


def main(argv: Sequence[str] | None = None) -> int:
    """Train a model.

    Parameters
    ----------
    argv : sequence of str, optional
        Options; those of the process if not given.

    Returns
    -------
    int
        0 done; 2 the input or an option is unusable; 5 another run is at work on the store; 130
        stopped by Ctrl-C or SIGTERM; 1 anything else.
    """
    work = exits_if_locked("train", lambda: _run(parse(TrainConfig, argv)))
    return run_program("train", work, "stopped; nothing was published or written")


def _run(config: TrainConfig) -> int:
    if config.mlflow is not None:
        check_tracking(config.mlflow)
    spec = config.spec(None if config.from_sweep is None else best_of_sweep(config.from_sweep))
    options = train_options(config, spec)
    if config.output is not None:
        check_output(config.output, "train")
    with ProgressReporter(1, logger=logger) as progress, spark_job("train", progress) as job:
        source = None if config.from_sweep is None else f"the sweep in {config.from_sweep}"
        progress.write(config.objective_words(spec, source))
        if config.output is not None:
            words = _into_folder(config, options, job.session, progress)
        else:
            words = _into_store(config, options, job.session, progress)
    print(words)
    return EXIT_DONE


def best_of_sweep(folder: str) -> Spec:
    """Return the best point of a sweep's output folder.

    Raises
    ------
    ConfigError
        If the folder holds no results of a sweep.
    """
    path = local_path(folder)
    try:
        if path is None:
            raise OSError("only folders of this machine are read")
        records = json.loads((path / "results.json").read_text(encoding="utf-8"))
        run = json.loads((path / "run.json").read_text(encoding="utf-8"))
        best = next(record for record in records if record["best"])
        objective = {**best, "exponent": run["config"]["exponent"]}
        return Spec(int(best["d"]), Objective.from_record(objective, "the best point"))
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        reason = " ".join(str(error).split()) or "no point is marked as the best"
        raise ConfigError(
            f"--from-sweep {folder}: no results of a sweep there ({reason}): give the output "
            "folder of jobs/sweep.py, with results.json and run.json in it"
        ) from error


def _into_folder(
    config: TrainConfig, options: TrainOptions, session: SparkSession, progress: ProgressReporter
) -> str:
    assert config.output is not None
    record = new_record("train", config_record(config), all_versions(session))

    def warn(text: str) -> None:
        nonlocal record
        record = replace(record, warnings=(*record.warnings, text))
        progress.write(f"warning: {text}")

    with ExitStack() as stack:
        staged = stack.enter_context(open_output(session, config, config.output, "train"))
        trained = train_model(session, options, progress, lambda: record, warn)
        trained.write(staged.content)
        phases = progress.phase_seconds
        run = replace(trained.record, seconds=rounded_seconds(phases, sum(phases.values())))
        write_json(staged.content / RUN_FILE, run.as_dict())
    return f"{trained.sentence}\nThe model is in {config.output.rstrip('/')}."


def _into_store(
    config: TrainConfig, options: TrainOptions, session: SparkSession, progress: ProgressReporter
) -> str:
    assert config.store is not None
    with permission_is_usage("--store", config.store), ExitStack() as stack:
        check_paths(session, config)
        log = run_log(store_of(session, config.store), "train", config, progress)
        stack.enter_context(log.recorded())
        log.record = replace(log.record, versions=all_versions(session))
        trained = train_into_store(session, options, config.keep, log)
    return f"{trained.sentence}\nPublished as version {log.record.version} of {config.store}."


def train_options(config: TrainConfig, spec: Spec) -> TrainOptions:
    """Turn the configuration into the parameters of a training."""
    need_timestamp = config.split == "time" or config.duplicates == "last"
    return TrainOptions(
        source_options(config, config.ratings, config.table, need_timestamp=need_timestamp),
        partial(open_source, config),
        read_options(config),
        fit_options(config),
        spec,
    )
