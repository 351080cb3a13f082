"""Features of users and items for the training of one model: read, told of, and noted."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pyspark.sql import SparkSession

from als_spark.errors import ConfigError, DataError, UserError
from als_spark.files.places import TABLE
from als_spark.model.factor_model import FactorModel
from als_spark.model.featured import with_featured
from als_spark.model.intervals import IntervalModel
from als_spark.model.large_model import AnyModel
from als_spark.nightly.run_log import RunNotes
from als_spark.redaction import BLOT, redact
from als_spark.spark.output import place_of
from als_spark.spark.prepare.row_features import (
    PlacedSides,
    RowFeatures,
    build_features,
    place_sides,
)
from als_spark.spark.read.bad_rows import noun
from als_spark.spark.read.failures import unreadable_files_are_named
from als_spark.spark.read.row_features import read_feature_columns
from als_spark.spark.read.sources import Source, SourceOptions
from als_spark.spark.train.run import PreparedRatings
from als_spark.types import SIDES, BadRows, Side

NONE = "none"
"""In the place of a path: no features, whatever an earlier model has."""


class FeatureSource(NamedTuple):
    """Where features of a side come from; all columns but that of the ids if none is named."""

    source: SourceOptions
    columns: tuple[str, ...] = ()
    remembered: str | None = None
    """The model whose features are read again; None: the place is given."""


class ReadFeatures(NamedTuple):
    """Features of a side, and where a later run finds them."""

    rows: RowFeatures
    path: str
    """Of this machine: from the root; keys and passwords are blotted out."""
    chosen: tuple[str, ...]

    def as_record(self) -> dict[str, Any]:
        """Return what decides a training, and where the features are."""
        fingerprint = self.rows.fingerprint
        return {"path": self.path, "chosen": list(self.chosen), "fingerprint": fingerprint}


def remembered_path(record: Any, side: Side, origin: str) -> str:
    """Return where the features are that an earlier model was trained with.

    Parameters
    ----------
    record : anything that a file may hold
        Of the side: what :meth:`ReadFeatures.as_record` gave.
    side : {"user", "item"}
    origin : str
        What to call the model.

    Raises
    ------
    ConfigError
        If it does not say where they are.
    """
    path = record.get("path") if isinstance(record, Mapping) else None
    if not isinstance(path, str) or not path:
        raise ConfigError(
            f"{origin} has features of {side}s, and does not say where they are: {_remedy(side)}"
        )
    if BLOT in path:
        raise ConfigError(
            f"{origin} has features of {side}s from {path}, whose password is not kept: "
            + _remedy(side)
        )
    return path


def remembered_columns(record: Any, side: Side, origin: str) -> tuple[str, ...]:
    """Return which columns of features an earlier model was trained with; none: all."""
    chosen = record.get("chosen", []) if isinstance(record, Mapping) else []
    if not isinstance(chosen, list) or not all(isinstance(name, str) and name for name in chosen):
        raise ConfigError(
            f"{origin} does not say which columns of {side}s it has features of: give them with "
            f"`{side}_feature_cols=`"
        )
    return tuple(chosen)


def _remedy(side: Side) -> str:
    return f'give them with `{side}_features=`, or `{side}_features="{NONE}"` to train without them'


def read_features(
    session: SparkSession,
    sources: Mapping[Side, FeatureSource],
    open_source: Callable[[SparkSession, SourceOptions], Source],
    bad_rows: BadRows,
    notes: RunNotes,
) -> dict[Side, ReadFeatures]:
    """Read features, and tell of them.

    Raises
    ------
    DataError
        If a source is not there, has no usable features, an id twice, or unusable rows that must
        not be.
    """
    found: dict[Side, ReadFeatures] = {}
    for side, (options, chosen, origin) in sources.items():
        with (
            notes.progress.phase(f"reading features of {side}s"),
            unreadable_files_are_named(options.label),
        ):
            try:
                source = open_source(session, options)
            except UserError as error:
                if origin is None:
                    raise
                raise DataError(
                    f"{error} (features of {side}s as {origin} has them, which are read again: "
                    f'`{side}_features=` says where they are now, `{side}_features="{NONE}"` '
                    "trains without them)"
                ) from error
            frame = read_feature_columns(source, side, chosen, bad_rows=bad_rows)
            rows = build_features(frame)
        found[side] = ReadFeatures(rows, _lasting(session, options), chosen)
        notes.progress.write(rows.words)
        if frame.bad.n:
            notes.add_warning(
                f"{frame.label}: {frame.bad.n:,} unusable {noun(frame.bad.n)} left out: {frame.bad}"
            )
        for words in rows.left_out:
            notes.add_warning(f"{frame.label}: no feature of {words}")
    return found


def _lasting(session: SparkSession, options: SourceOptions) -> str:
    """Return where a source is, for runs that begin in other folders."""
    if options.path is None:
        return f"{TABLE}{options.table}"
    local = isinstance(place_of(session, options.path, read_by_spark=True), Path)
    if local and not options.path.startswith("file:"):
        return os.path.abspath(options.path)
    return redact(options.path)


def features_record(features: Mapping[Side, ReadFeatures]) -> dict[str, Any] | None:
    """Return the features as the settings of a run have them; None without any."""
    return {side: own.as_record() for side, own in features.items()} or None


def place_all(features: Mapping[Side, ReadFeatures], prepared: PreparedRatings) -> PlacedSides:
    """Put features into the order of the rows that are trained; their record has their places.

    Raises
    ------
    DataError
        If no rated row has features.
    """
    placed = place_sides({side: read.rows for side, read in features.items()}, prepared)
    record: dict[str, Mapping[str, Any]] = {
        side: {**placed.record[side], **read.as_record()} for side, read in features.items()
    }
    return placed._replace(record=record)


def marked(
    placed: PlacedSides, model: AnyModel, intervals: IntervalModel | None
) -> tuple[AnyModel, IntervalModel | None]:
    """Return a model with the ids of all its rows: see :func:`with_featured`."""
    if not placed.sides:
        return model, intervals
    assert isinstance(model, FactorModel)
    model = with_featured(model, placed.further)
    if intervals is not None:
        intervals = replace(intervals, users=model.users, items=model.items)
    return model, intervals


def note_placed(placed: PlacedSides, notes: RunNotes) -> None:
    """Tell of rows without features and without ratings, and note all."""
    for side in SIDES:
        if side not in placed.sides:
            continue
        found, own = placed.sides[side], placed.record[side]
        more = own["by_features_alone"]
        notes.progress.write(
            f"{own['rated_with']:,} of {own['rated_with'] + own['rated_without']:,} rated {side}s "
            "have features"
            + (f"; {more:,} {side}s more are known by their features alone" if more else "")
        )
        if found.n_without:
            notes.add_warning(
                f"{found.n_without:,} rated {side}s have no features in {own['source']}: they get "
                "the mean ones"
            )
        if found.n_unlike:
            notes.add_warning(
                f"{found.n_unlike:,} {side} ids in {own['source']} are no whole numbers, as those "
                "of the ratings are: left out"
            )
    if placed.record:
        notes.record = replace(notes.record, features=placed.record)
