"""Features of users and items for the training of one model: read, told of, and noted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from pyspark.sql import SparkSession

from als_spark.nightly.run_log import RunNotes
from als_spark.spark.prepare.row_features import (
    PlacedFeatures,
    RowFeatures,
    build_features,
    place_features,
)
from als_spark.spark.read.bad_rows import noun
from als_spark.spark.read.failures import unreadable_files_are_named
from als_spark.spark.read.row_features import read_feature_columns
from als_spark.spark.read.sources import Source, SourceOptions
from als_spark.spark.train.run import PreparedRatings
from als_spark.types import BadRows, Side


class FeatureSource(NamedTuple):
    """Where features of a side come from; all columns but that of the ids if none is named."""

    source: SourceOptions
    columns: tuple[str, ...] = ()


def read_features(
    session: SparkSession,
    sources: Mapping[Side, FeatureSource],
    open_source: Callable[[SparkSession, SourceOptions], Source],
    bad_rows: BadRows,
    notes: RunNotes,
) -> dict[Side, RowFeatures]:
    """Read features, and tell of them.

    Raises
    ------
    DataError
        If a source has no usable features, an id twice, or unusable rows that must not be.
    """
    found: dict[Side, RowFeatures] = {}
    for side, (options, chosen) in sources.items():
        with (
            notes.progress.phase(f"reading features of {side}s"),
            unreadable_files_are_named(options.label),
        ):
            source = open_source(session, options)
            frame = read_feature_columns(source, side, chosen, bad_rows=bad_rows)
            found[side] = build_features(frame)
        notes.progress.write(found[side].words)
        if frame.bad.n:
            notes.add_warning(
                f"{frame.label}: {frame.bad.n:,} unusable {noun(frame.bad.n)} left out: {frame.bad}"
            )
        for words in found[side].left_out:
            notes.add_warning(f"{frame.label}: no feature of {words}")
    return found


def place_all(
    features: Mapping[Side, RowFeatures], prepared: PreparedRatings, notes: RunNotes
) -> dict[Side, PlacedFeatures]:
    """Put features into the order of the rows that are trained; tell of rows without, and note all.

    Raises
    ------
    DataError
        If no rated row has features.
    """
    placed: dict[Side, PlacedFeatures] = {}
    record: dict[str, Any] = {}
    for side, own in features.items():
        degrees = prepared.stats[side].degrees
        index = {"user": prepared.summary.users, "item": prepared.summary.items}[side]
        found = placed[side] = place_features(own, index, degrees)
        rated = int((degrees > 0).sum())
        known = int((found.there[: degrees.size] & (degrees > 0)).sum())
        more = int(found.there.sum()) - known
        notes.progress.write(
            f"{known:,} of {rated:,} rated {side}s have features"
            + (f"; {more:,} {side}s more are known by their features alone" if more else "")
        )
        if found.n_without:
            notes.add_warning(
                f"{found.n_without:,} rated {side}s have no features in {own.label}: they get the "
                "mean ones"
            )
        if found.n_unlike:
            notes.add_warning(
                f"{found.n_unlike:,} {side} ids in {own.label} are no whole numbers, as those of "
                "the ratings are: left out"
            )
        record[side] = {
            **own.as_record(),
            "rated_with": known,
            "rated_without": found.n_without,
            "by_features_alone": more,
        }
    if record:
        notes.record = replace(notes.record, features=record)
    return placed
