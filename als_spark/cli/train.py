"""``jobs/train.py``: one model, into a model store or a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from als_spark.cli.checkpoints import begin_checkpoint, open_checkpoint
from als_spark.cli.config.settings import config_record, in_options
from als_spark.cli.config.train import TrainConfig
from als_spark.cli.from_sweep import best_of_sweep
from als_spark.cli.nightly import fit_options, run_log
from als_spark.cli.paths import place_is_usage
from als_spark.cli.plan import plan_model
from als_spark.cli.program import EXIT_DONE, job_main, say
from als_spark.cli.spark_job import SparkJob, all_versions, job_progress, job_with_output, spark_job
from als_spark.cli.spark_paths import check_paths
from als_spark.cli.stored import store_of
from als_spark.files.json_files import write_json
from als_spark.nightly.fit_options import FitOptions
from als_spark.nightly.publishing import write_version
from als_spark.nightly.run_log import RunNotes, new_record
from als_spark.nightly.run_record import Spec
from als_spark.nightly.tracking import check_tracking
from als_spark.nightly.train import outcome_words, train_into_store, train_model
from als_spark.spark.output import output_folder
from als_spark.spark.read.sources import SourceOptions
from als_spark.spark.train.run import PreparedRatings
from als_spark.store.checkpoint import CheckpointFolder
from als_spark.train.records import ModelSpec

RUN_FILE = "run.json"


def _run(config: TrainConfig) -> int:
    best: Spec | None = None
    sweep = config.from_sweep
    if sweep is not None:
        found = best_of_sweep(sweep)
        if isinstance(found, Spec):
            config.refuse_prior()
            best = found
        else:
            config = config.with_sweep(found)
    if config.plan:
        rank = config.spec(best).rank if config.posterior is None else config.posterior.n_factors
        return plan_model(config, rank, config.posterior)
    if config.mlflow is not None:
        check_tracking(config.mlflow)
    if config.posterior is not None:
        spec = Spec(config.posterior.n_factors, config.posterior.objective)
        work = _into_store if config.output is None else _into_folder
        say(work(config, spec, config.method_words(config.posterior)))
        return EXIT_DONE
    spec = config.spec(best)
    source = None if sweep is None else f"the sweep in {sweep}"
    work = _into_store if config.output is None else _into_folder
    say(work(config, spec, config.objective_words(spec, source)))
    return EXIT_DONE


def _into_folder(config: TrainConfig, spec: Spec, objective: str) -> str:
    assert config.output is not None
    with job_with_output("train", config, config.output, output_folder) as (job, staged):
        job.progress.write(objective)
        record = new_record("train", config_record(config), all_versions(job.session))
        notes = RunNotes(record, job.progress, in_options)
        options, remove = _options(job, config)
        job.when_written.append(remove)
        fitted = train_model(job.session, _ratings(config), options, spec, notes)
        write_version(staged.content, fitted, notes.record)
        run = replace(notes.record, seconds=job.seconds)
        write_json(staged.content / RUN_FILE, run.as_dict())
    return f"{outcome_words(fitted, notes)}\nThe model is in {config.output.rstrip('/')}."


def _into_store(config: TrainConfig, spec: Spec, objective: str) -> str:
    assert config.store is not None
    with (
        job_progress("train") as progress,
        spark_job("train", progress) as job,
        place_is_usage("--store", config.store),
    ):
        progress.write(objective)
        check_paths(job.session, config)
        log = run_log(store_of(job.session, config.store), "train", config, progress)
        # Within the record too, which says what the exit code says.
        with log.recorded(), place_is_usage("--store", config.store):
            log.record = replace(log.record, versions=all_versions(job.session))
            options, remove = _options(job, config)
            words = train_into_store(job.session, _ratings(config), options, spec, config.keep, log)
        remove()
    return f"{words}\nPublished as version {log.record.version} of {config.store}."


def _options(job: SparkJob, config: TrainConfig) -> tuple[FitOptions, Callable[[], None]]:
    """Return how to train, and what deletes the checkpoint at the end."""
    options, folder = fit_options(config), open_checkpoint(job.session, config)
    if folder is None:
        return options, lambda: None

    def begin(
        prepared: PreparedRatings, specs: Sequence[ModelSpec], tell: Callable[[str], None]
    ) -> CheckpointFolder:
        for line in begin_checkpoint(folder, config, prepared, specs):
            tell(line)
        return folder

    return replace(options, checkpoint=begin), folder.remove


def _ratings(config: TrainConfig) -> SourceOptions:
    need_timestamp = config.split == "time" or config.duplicates == "last"
    return config.source(config.ratings, config.table, timestamp=need_timestamp)


main = job_main(TrainConfig, _run, "stopped; nothing was published or written")
