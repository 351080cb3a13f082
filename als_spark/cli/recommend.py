"""``jobs/recommend.py``: the best items of every user, written as files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from als_spark.cli.config.batch import RecommendConfig
from als_spark.cli.program import EXIT_DONE, job_main, say
from als_spark.cli.spark_job import (
    job_with_output,
    open_seen,
    open_source,
    tell_bad_rows,
    tell_source,
)
from als_spark.cli.spark_paths import check_files_read
from als_spark.cli.stored import open_model
from als_spark.model.factor_model import FactorModel
from als_spark.report.progress import ProgressReporter
from als_spark.spark.output import spark_output
from als_spark.spark.predict.recommend import recommend_for_all, similar_items_for_all
from als_spark.spark.read.bad_rows import refuse_bad_rows
from als_spark.spark.read.columns import union_typed
from als_spark.spark.read.failures import unreadable_files_are_named
from als_spark.spark.read.id_lists import read_ids
from als_spark.spark.read.new_users import read_new_ratings
from als_spark.spark.read.sources import (
    Source,
    SourceOptions,
)
from als_spark.spark.session import described
from als_spark.types import Side


def _run(config: RecommendConfig) -> int:
    with job_with_output("recommend", config, config.output, spark_output) as (job, target):
        session, progress = job.session, job.progress
        with progress.phase("reading the model"):
            opened = open_model(session, config)
        progress.write(
            f"{opened.label}: {len(opened.model.users):,} users, {len(opened.model.items):,} items"
        )
        with (
            unreadable_files_are_named(_label(config)),
            _answers(config, session, opened.model, progress) as answers,
            progress.phase("recommending"),
            described(session.sparkContext, "writing recommendations"),
        ):
            # Not coalesced: as few tasks as files would also compute the answers.
            chosen = answers if config.files is None else answers.repartition(config.files)
            rows = _write(chosen, config.format, target)
    say(f"{rows:,} rows of recommendations are in {config.output.rstrip('/')}.")
    return EXIT_DONE


@contextmanager
def _answers(
    config: RecommendConfig, session: SparkSession, model: FactorModel, progress: ProgressReporter
) -> Iterator[DataFrame]:
    side: Side = "user" if config.recommend_for == "users" else "item"
    ids = seen = folded = None
    with progress.phase("looking at the files"):
        if config.users is not None:
            column = config.user_col if side == "user" else config.item_col
            ids = read_ids(
                session,
                config.users,
                side,
                column,
                encoding=config.encoding,
                quoting=config.quoting,
            )
            check_files_read(session, config, session.read.text(config.users), config.users)
            progress.write(f"{len(ids):,} ids to recommend for")
        if config.exclude_seen is not None:
            source = _source(session, config, config.exclude_seen, need_rating=False)
            tell_source(progress, source)
            seen = open_seen(session, source, config.bad_rows, progress).pairs
        if config.fold_in is not None:
            source = _source(session, config, config.fold_in)
            tell_source(progress, source)
            new = read_new_ratings(session, source, model, ids)
            refuse_bad_rows(new.label, new.bad, config.bad_rows)
            tell_bad_rows(progress, new)
            folded = new.fold_in(model)
            progress.write(
                f"{len(folded.ids):,} users folded in"
                + (f"; {folded.n_unknown:,} ratings of unknown items" if folded.n_unknown else "")
            )
            if seen is not None:
                seen = union_typed([seen, new.pairs(session)])
                n_pairs, label = new.table.num_rows, new.label
                progress.write(f"{n_pairs:,} pairs of new users in {label} are not recommended")
    if config.recommend_for == "similar-items":
        with similar_items_for_all(session, model, top=config.top, ids=ids) as answers:
            yield answers
        return
    with recommend_for_all(
        session, model, side=side, top=config.top, ids=ids, seen=seen, folded=folded
    ) as answers:
        yield answers


def _source(
    session: SparkSession, config: RecommendConfig, path: str, *, need_rating: bool = True
) -> Source:
    columns = {"user": config.user_col, "item": config.item_col, "rating": config.rating_col}
    # What the job calls --format is that of its output.
    options = SourceOptions(
        path,
        columns=columns,
        need_rating=need_rating,
        format_option=False,
        encoding=config.encoding,
        quoting=config.quoting,
    )
    return open_source(config, session, options)


def _write(answers: DataFrame, kind: str, target: str) -> int:
    """Write into an empty folder; return the rows, counted on their way."""
    counted = Observation("recommendations")
    observed = answers.observe(counted, F.count(F.lit(1)).alias("rows"))
    observed.write.mode("append").format(kind).save(target)
    return int(counted.get["rows"])


def _label(config: RecommendConfig) -> str:
    files = (config.users, config.exclude_seen, config.fold_in)
    return " + ".join(file for file in files if file is not None)


main = job_main(RecommendConfig, _run, "stopped; nothing written")
