"""``jobs/recommend.py``: the best items of every user, written as files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from als_spark.cli.config.stored import RecommendConfig
from als_spark.cli.program import EXIT_DONE, job_main, say
from als_spark.cli.spark_job import (
    job_with_output,
    open_seen,
    open_source,
    tell_rows,
    tell_source,
    unknown_pairs,
    warn_of_no_effect,
)
from als_spark.cli.spark_paths import check_files_read
from als_spark.cli.stored import OpenLargeModel, OpenModel, open_large_model, open_model
from als_spark.files.places import table_name
from als_spark.model.foldin import FoldedRows
from als_spark.model.large_model import AnyModel
from als_spark.model.risk import Risk
from als_spark.report.progress import ProgressReporter
from als_spark.spark.output import spark_output
from als_spark.spark.predict.recommend import recommend_for_all, similar_items_for_all
from als_spark.spark.read.bad_rows import refuse_bad_rows
from als_spark.spark.read.columns import union_typed
from als_spark.spark.read.failures import unreadable_files_are_named
from als_spark.spark.read.id_lists import ListedIds, read_ids
from als_spark.spark.read.new_users import NewRatings, read_new_ratings
from als_spark.spark.read.seen import KnownIds
from als_spark.spark.read.sources import (
    Source,
    SourceOptions,
)
from als_spark.spark.session import described
from als_spark.types import Side


def _run(config: RecommendConfig) -> int:
    with (
        job_with_output("recommend", config, config.output, spark_output) as (job, target),
        ExitStack() as stack,
    ):
        session, progress = job.session, job.progress
        # What solves users, and what is similar, needs the items whole.
        whole = config.fold_in is not None or config.recommend_for == "similar-items"
        near: list[Side] = ["item"] if whole else []
        with progress.phase("reading the model"):
            # What is not known of a row is with the factors of both sides.
            opened: OpenLargeModel | OpenModel
            risk = None
            if config.risk == "neutral":
                opened = open_large_model(session, config, stack, near)
            else:
                opened = open_model(session, config, intervals=True)
                risk = _risk(config, opened)
        progress.write(
            f"{opened.label}: {len(opened.model.users):,} users, {len(opened.model.items):,} items"
        )
        with (
            unreadable_files_are_named(_label(config)),
            _answers(config, session, opened.model, progress, risk) as answers,
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
    config: RecommendConfig,
    session: SparkSession,
    model: AnyModel,
    progress: ProgressReporter,
    risk: Risk | None,
) -> Iterator[DataFrame]:
    side: Side = "user" if config.recommend_for == "users" else "item"
    listed = seen = new = folded = None
    with progress.phase("looking at the files"):
        if config.users is not None:
            listed = _read_listed(config, session, side, progress)
        ids = None if listed is None else listed.ids
        if config.fold_in is not None:
            source = _source(session, config, config.fold_in)
            tell_source(progress, source)
            new = read_new_ratings(session, source, model, ids)
            refuse_bad_rows(new.label, new.bad, config.bad_rows)
            tell_rows(progress, new)
            folded = new.fold_in(model)
            _tell_folded(config, new, folded, progress)
        if listed is not None:
            _tell_known(config, listed, model, side, folded, progress)
        if config.exclude_seen is not None:
            source = _source(session, config, config.exclude_seen, need_rating=False)
            tell_source(progress, source)
            known = KnownIds(model.users.ids, model.items.ids)
            # Users who are unknown get popular items, and these are not among them.
            more = ids if side == "user" else None
            for users in (more, None if folded is None else folded.ids.ids):
                known = known if users is None else known.more_users(users)
            opened = open_seen(session, source, known, config.bad_rows, progress)
            warn_of_no_effect(progress, unknown_pairs(opened), strict=config.strict)
            seen = opened.pairs
        if seen is not None and new is not None:
            seen = union_typed([seen, new.pairs(session)])
            n_pairs, label = new.table.num_rows, new.label
            progress.write(f"{n_pairs:,} pairs of new users in {label} are not recommended")
    least = config.min_ratings
    if least > 1:
        found: Side = "user" if config.recommend_for == "items" else "item"
        degrees = model.side(found).stats.degrees
        n_often, n_rated = (int(np.count_nonzero(degrees >= n)) for n in (least, 1))
        progress.write(
            f"{n_often:,} of {n_rated:,} {found}s have {least:,} training ratings or more, and may "
            "be recommended"
        )
    if config.recommend_for == "similar-items":
        with similar_items_for_all(
            session, model, top=config.top, ids=ids, min_ratings=least
        ) as answers:
            yield answers
        return
    with recommend_for_all(
        session,
        model,
        side=side,
        top=config.top,
        ids=ids,
        seen=seen,
        folded=folded,
        min_ratings=least,
        risk=risk,
    ) as answers:
        yield answers


def _risk(config: RecommendConfig, opened: OpenModel) -> Risk:
    """Say what is recommended by, in the place of predictions."""
    assert config.risk != "neutral"
    assert opened.intervals is not None
    coverage = 0.9 if config.coverage is None else config.coverage
    return Risk(config.risk, opened.intervals, coverage, config.seed or 0)


def _read_listed(
    config: RecommendConfig, session: SparkSession, side: Side, progress: ProgressReporter
) -> ListedIds:
    assert config.users is not None
    listed = read_ids(
        session,
        config.users,
        side,
        config.user_col if side == "user" else config.item_col,
        encoding=config.encoding,
        quoting=config.quoting,
        null_words=config.null_words,
    )
    table = table_name(config.users)
    frame = session.read.text(config.users) if table is None else session.table(table)
    check_files_read(session, config, frame, listed.label)
    refuse_bad_rows(listed.label, listed.bad, config.bad_rows)
    tell_rows(progress, listed)
    missing = f"; {listed.n_missing:,} rows have none" if listed.n_missing else ""
    progress.write(f"{len(listed.ids):,} ids to recommend for{missing}")
    return listed


def _tell_known(
    config: RecommendConfig,
    listed: ListedIds,
    model: AnyModel,
    side: Side,
    folded: FoldedRows | None,
    progress: ProgressReporter,
) -> None:
    """Tell how many of the listed ids the model does not know, and what becomes of them."""
    own = model.side(side)
    known = np.append(own.stats.known, False)[own.ids.rows_of(listed.ids)]
    if folded is not None:
        known |= folded.ids.rows_of(listed.ids) >= 0
    n, n_unknown = known.size, int(known.size - np.count_nonzero(known))
    fate = "get the popular items" if side == "user" else "are left out"
    if n_unknown == n:
        words = (
            f"{listed.label}: the model knows none of its {n:,} {side} ids, which {fate}: give ids "
            "that the model was trained on"
        )
        warn_of_no_effect(progress, words, strict=config.strict)
    elif n_unknown:
        progress.write(f"{n_unknown:,} of {n:,} {side} ids are unknown: they {fate}")


def _tell_folded(
    config: RecommendConfig, new: NewRatings, folded: FoldedRows, progress: ProgressReporter
) -> None:
    """Tell how many users are folded in, from which ratings."""
    words, n_new = None, new.table.num_rows
    if n_new == 0:
        words = (
            f"{new.label}: none of its {new.n_ratings:,} ratings is of a user that the model does "
            "not know and that is asked for, so nobody is folded in: give ratings of new users"
        )
    elif len(folded.ids) == 0:
        words = (
            f"{new.label}: none of its {n_new:,} ratings of new users is of an item that the model "
            "knows, so nobody is folded in: give ratings with the ids that the model was trained on"
        )
    warn_of_no_effect(progress, words, strict=config.strict)
    told = f"{len(folded.ids):,} users folded in"
    if new.n_duplicates:
        told += f"; {new.n_duplicates:,} repeated ratings of a pair: took the last"
    if folded.n_unknown:
        told += f"; {folded.n_unknown:,} ratings of unknown items"
    progress.write(told)


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
        null_words=config.null_words,
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
