"""``jobs/recommend.py``: the best items of every user, written as files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pyarrow as pa
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from als_spark.batch_config import RecommendConfig
from als_spark.blocks import Side
from als_spark.cli.batch_options import RECOMMEND
from als_spark.cli.program import EXIT_DONE, run_program
from als_spark.cli.running import refuse_bad_rows, spark_job
from als_spark.cli.stored import open_model
from als_spark.foldin import FoldedRows, fold_in
from als_spark.model import FactorModel
from als_spark.report.progress import ProgressReporter
from als_spark.spark.filesystem import spark_output
from als_spark.spark.id_files import read_ids
from als_spark.spark.recommend import recommend_for_all, similar_items_for_all
from als_spark.spark.session import described
from als_spark.spark.snapshot import read_snapshot
from als_spark.spark.sources import SourceOptions, read_source, unreadable_files_are_named
from als_spark.spark.validation import rated_pairs

logger = logging.getLogger("als_spark.recommend")


def main(argv: Sequence[str] | None = None) -> int:
    """Write recommendations.

    Parameters
    ----------
    argv : sequence of str, optional
        Options; those of the process if not given.

    Returns
    -------
    int
        0 done; 2 the input or an option is unusable; 130 stopped by Ctrl-C or SIGTERM; 1 anything
        else.
    """
    return run_program("recommend", lambda: _run(RECOMMEND.parse(argv)), "stopped; nothing written")


def _run(config: RecommendConfig) -> int:
    with (
        ProgressReporter(1, logger=logger) as progress,
        spark_job("recommend", progress) as job,
        ExitStack() as stack,
    ):
        session = job.session
        target = stack.enter_context(spark_output(session, config.output))
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
            chosen = answers if config.files is None else answers.coalesce(config.files)
            rows = _write(chosen, config.format, target)
    print(f"{rows:,} rows of recommendations are in {config.output.rstrip('/')}.")
    return EXIT_DONE


@contextmanager
def _answers(
    config: RecommendConfig, session: SparkSession, model: FactorModel, progress: ProgressReporter
) -> Iterator[DataFrame]:
    side: Side = "user" if config.recommend_for == "users" else "item"
    columns = {"user": config.user_col, "item": config.item_col, "rating": config.rating_col}
    ids = seen = folded = None
    with progress.phase("looking at the files"):
        if config.users is not None:
            ids = read_ids(session, config.users, side, columns[side])
            progress.write(f"{len(ids):,} ids to recommend for")
        if config.exclude_seen is not None:
            source = read_source(session, SourceOptions(config.exclude_seen, columns=columns))
            seen = rated_pairs(source)
        if config.fold_in is not None:
            folded = _fold_in(session, config, model, ids)
            progress.write(
                f"{len(folded.ids):,} users folded in"
                + (f"; {folded.n_unknown:,} ratings of unknown items" if folded.n_unknown else "")
            )
    if config.recommend_for == "similar-items":
        with similar_items_for_all(session, model, top=config.top, ids=ids) as answers:
            yield answers
        return
    with recommend_for_all(
        session, model, side=side, top=config.top, ids=ids, seen=seen, folded=folded
    ) as answers:
        yield answers


def _fold_in(
    session: SparkSession, config: RecommendConfig, model: FactorModel, ids: pa.Array | None
) -> FoldedRows:
    """Solve users that the model does not know, of those that are asked for."""
    assert config.fold_in is not None
    columns = {"user": config.user_col, "item": config.item_col, "rating": config.rating_col}
    source = read_source(session, SourceOptions(config.fold_in, columns=columns))
    with read_snapshot(session, [source], "last") as snapshot:
        refuse_bad_rows(snapshot, "error")
        with described(session.sparkContext, f"reading {config.fold_in}"):
            rows = snapshot.ratings.select("user", "item", "rating").collect()
    users = pa.array([str(row.user) for row in rows], pa.string())
    known = model.users.rows_of(users)
    # A user without a training rating is not known, though the model may hold its start.
    new = [
        row
        for row, at in zip(rows, known.tolist(), strict=True)
        if at < 0 or model.user_stats.degrees[at] == 0
    ]
    if ids is not None:
        wanted = set(ids.cast(pa.string()).to_pylist())
        new = [row for row in new if str(row.user) in wanted]
    return fold_in(
        model,
        "user",
        [str(row.user) for row in new],
        [str(row["item"]) for row in new],
        [row.rating for row in new],
    )


def _write(answers: DataFrame, kind: str, target: str) -> int:
    """Write into an empty folder; return the rows, counted on their way."""
    counted = Observation("recommendations")
    observed = answers.observe(counted, F.count(F.lit(1)).alias("rows"))
    observed.write.mode("append").format(kind).save(target)
    return int(counted.get["rows"])


def _label(config: RecommendConfig) -> str:
    files = (config.users, config.exclude_seen, config.fold_in)
    return " + ".join(file for file in files if file is not None)
