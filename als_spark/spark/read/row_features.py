"""Features of users, or items, from files and tables: which columns there are, and of what kind.

Of a column of features this module tells what it is:

    number      numbers, dates and times; text of a text file that is a number nearly everywhere
    category    booleans and other text: one of its values
    list        arrays, and text in which values stand between ``|``: any of its values

and what it is worth: a column without a value, or with one alone, is left out, as are values of
few rows (:mod:`als_spark.spark.read.feature_columns`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from als_spark.errors import DataError
from als_spark.spark.casts import try_cast
from als_spark.spark.frames import check_frame, check_named
from als_spark.spark.read.bad_rows import BadRowCounts, count_rows, refuse_bad_rows
from als_spark.spark.read.feature_columns import FeatureColumn, Kind, of_use
from als_spark.spark.read.ids import FLOATS, INTEGERS, TEXTS, TypedId, mark_ids, typed_id
from als_spark.spark.read.names import quoted
from als_spark.spark.read.options import NULL_WORDS
from als_spark.spark.read.sources import Source
from als_spark.spark.read.text_files import CORRUPT
from als_spark.types import BadRows, Side

SEPARATOR = "|"
"""Between the values of a list that is written as text."""
NUMBERS_SHARE = 0.95
"""Share of the values of a column of text from which on it is one of numbers."""
LARGEST = 1e18
"""In size, of a number."""

_NUMBERS = (*INTEGERS, *FLOATS, T.DecimalType)
_MOMENTS = (T.TimestampType, T.TimestampNTZType, T.DateType)
ID = "als_spark_id"
"""The column of ids."""
_PROBLEM, _RAW = "problem", "raw"


@dataclass(frozen=True, slots=True)
class FeatureFrame:
    """Features of a side, read and looked at.

    Attributes
    ----------
    frame : DataFrame
        Usable rows: ``als_spark_id`` (string), and the values of the columns, in columns named
        ``f0``, ``f1`` and so on in the order of ``columns``: double, string, or array of strings;
        null where there is none.
    side : {"user", "item"}
    label : str
        Of the source.
    columns : sequence of FeatureColumn
    left_out : mapping of str to str
        Columns that are not used, and why.
    bad : BadRowCounts
        Unusable rows, which are left out.
    n_rows : int
        Usable ones.
    """

    frame: DataFrame
    side: Side
    label: str
    columns: Sequence[FeatureColumn]
    left_out: Mapping[str, str]
    bad: BadRowCounts
    n_rows: int


def features_from_frame(
    frame: DataFrame,
    side: Side,
    column: str | None = None,
    *,
    null_words: Sequence[str] = NULL_WORDS,
) -> Source:
    """Take a DataFrame as a source of features.

    Parameters
    ----------
    frame : DataFrame
    side : {"user", "item"}
        Whose features they are.
    column : str, optional
        Of the ids; that of the side's name if not given.
    null_words : sequence of str
        Text that stands for a missing value in columns of text; ``()`` for none.

    Raises
    ------
    ConfigError
        If it is no Spark DataFrame; says how to make one of it.
    DataError
        If the column is not there.
    """
    check_frame(frame, "features_from_frame")
    columns: dict[str, str] = {side: side if column is None else column}
    check_named(frame, columns)
    return Source(frame, columns, "the DataFrame", False, null_words=tuple(null_words))


def read_feature_columns(
    source: Source,
    side: Side,
    chosen: Sequence[str] = (),
    *,
    bad_rows: BadRows = "error",
    ids: TypedId | None = None,
) -> FeatureFrame:
    """Look at the columns of features, in three passes over the source.

    Parameters
    ----------
    source : Source
        With the column of ids of the side.
    side : {"user", "item"}
    chosen : sequence of str
        Columns to use; all but that of the ids if none is given.
    bad_rows : {"error", "drop"}
        What becomes of rows without a usable id, or with a number that is none.
    ids : TypedId, optional
        Their ids, made by another rule than that of :mod:`als_spark.spark.read.ids`.

    Raises
    ------
    DataError
        If a column is not there, has a type that no feature has, or none is of use; if rows are
        unusable and must not be.
    """
    if source.others:
        raise DataError(
            f"{source.label}: files of {len(source.parts)} kinds, whose columns have other names "
            "or types: give features in files that are alike"
        )
    names, unusable = _chosen(source, side, chosen)
    frame = mark_ids(source.frame, {side: source.columns[side]}, source.null_words)
    found = ids or typed_id(frame, source.columns[side], side, source.null_words)
    if found is None:
        kind = source.frame.schema[source.columns[side]].dataType.simpleString()
        raise DataError(
            f"{source.label}: the {side} column {source.columns[side]!r} is of type {kind}: whole "
            f'numbers or text are needed; choose another with `columns["{side}"]`'
        )
    kinds = _kinds(source, names)
    problems = [
        found.problem,
        *(_problem(source, name) for name in names if kinds[name] == "number"),
    ]
    if CORRUPT in source.frame.columns:
        words = F.lit("more or fewer fields than the first line")
        problems.insert(0, F.when(F.col(CORRUPT).isNotNull(), words))
    shown = [
        F.concat(F.lit(f"{name}="), F.coalesce(F.col(quoted(name)).cast("string"), F.lit("null")))
        for name in (source.columns[side], *names)
    ]
    typed = frame.select(
        found.value.cast("string").alias(ID),
        *(_value(source, name, kinds[name]).alias(f"f{k}") for k, name in enumerate(names)),
        F.coalesce(*problems).alias(_PROBLEM),
        F.concat_ws(", ", *shown).alias(_RAW),
    )
    n_rows, bad = count_rows(typed)
    refuse_bad_rows(source.label, bad, bad_rows)
    usable = typed.where(F.col(_PROBLEM).isNull()).drop(_PROBLEM, _RAW)
    columns, useless = of_use(usable, n_rows, [(name, kinds[name]) for name in names])
    left_out = {**unusable, **useless}
    if not columns:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items()) or "no columns"
        raise DataError(
            f"{source.label}: nothing in it is of use as a feature of {side}s ({why}): give other "
            "columns"
        )
    places = [names.index(column.name) for column in columns]
    kept = [F.col(f"f{place}").alias(f"f{k}") for k, place in enumerate(places)]
    return FeatureFrame(
        usable.select(ID, *kept), side, source.label, columns, left_out, bad, n_rows
    )


def _chosen(source: Source, side: Side, chosen: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the columns that may be features, and why others may not."""
    own = source.columns[side]
    there = [name for name in source.frame.columns if name not in (own, CORRUPT)]
    for name in chosen:
        if name not in there:
            raise DataError(
                f"{source.label}: no column {name!r} (`{side}_feature_cols={name}`): the columns "
                f"besides that of the ids are {', '.join(there) or 'none'}"
            )
    names, unusable = [], dict.fromkeys(source.unread, "Spark cannot read it")
    for name in dict.fromkeys(chosen) or there:
        kind = source.frame.schema[name].dataType
        if is_usable(kind):
            names.append(name)
            continue
        reason = f"of type {kind.simpleString()}"
        if chosen:
            raise DataError(
                f"{source.label}: column {name!r} is {reason}: features are numbers, dates, "
                "booleans, text or lists of text: leave it out of "
                f"`{side}_feature_cols={' '.join(chosen)}`"
            )
        unusable[name] = reason
    return names, unusable


def is_usable(kind: T.DataType) -> bool:
    """Tell whether columns of a type can be features."""
    if isinstance(kind, T.ArrayType):
        return isinstance(kind.elementType, (*TEXTS, *INTEGERS, T.BooleanType))
    return isinstance(kind, (*_NUMBERS, *_MOMENTS, *TEXTS, T.BooleanType))


def _kinds(source: Source, names: Sequence[str]) -> dict[str, Kind]:
    """Tell what each column is: by its type, or in one pass by its text."""
    kinds: dict[str, Kind] = {}
    texts = []
    for name in names:
        kind = source.frame.schema[name].dataType
        if isinstance(kind, T.ArrayType):
            kinds[name] = "list"
        elif isinstance(kind, TEXTS):
            texts.append(name)
        else:
            kinds[name] = "category" if isinstance(kind, T.BooleanType) else "number"
    if not texts:
        return kinds
    sums = []
    for name in texts:
        text = _text(source, name)
        sums += [
            F.count(text),
            F.count(F.when(text.isNotNull(), _number(name))),
            F.count(F.when(text.contains(SEPARATOR), 1)),
        ]
    row = source.frame.agg(*(total.alias(f"s{k}") for k, total in enumerate(sums))).collect()[0]
    for k, name in enumerate(texts):
        n, n_numbers, n_lists = row[3 * k : 3 * k + 3]
        if source.is_text and n and n_numbers >= NUMBERS_SHARE * n:
            kinds[name] = "number"
        else:
            kinds[name] = "list" if n_lists else "category"
    return kinds


def _text(source: Source, name: str) -> Column:
    """Return a column of text, trimmed; null where nothing is."""
    text = F.trim(F.col(quoted(name)))
    missing = text == ""
    if any(source.null_words):
        missing |= text.isin(*source.null_words)
    return F.when(~missing, text)


def _number(name: str) -> Column:
    """Return text as a number, null where it is none; not what is one to Java alone (4d, 0x1p3)."""
    text = F.trim(F.col(quoted(name)))
    return F.when(~text.rlike("[dDfFxX]$|[xX]"), try_cast(quoted(name), "double"))


def _value(source: Source, name: str, kind: Kind) -> Column:
    """Return the values of a column, null where there is none."""
    column, of_type = F.col(quoted(name)), source.frame.schema[name].dataType
    if kind == "number":
        if isinstance(of_type, TEXTS):
            value = F.when(_text(source, name).isNotNull(), _number(name))
        elif isinstance(of_type, _MOMENTS):
            value = F.unix_micros(column.cast("timestamp")).cast("double") / 1e6
        else:
            value = column.cast("double")
        return F.when(~F.isnan(value), value)
    if isinstance(of_type, T.ArrayType):
        texts = F.transform(column.cast("array<string>"), F.trim)
        values = F.array_distinct(F.filter(texts, lambda text: text != ""))
        return F.when(F.size(values) > 0, values)
    if not isinstance(of_type, TEXTS):
        return column.cast("string")
    text = _text(source, name)
    if kind == "category":
        return text
    parts = F.transform(F.split(text, r"\|"), F.trim)
    values = F.array_distinct(F.filter(parts, lambda part: part != ""))
    return F.when(F.size(values) > 0, values)


def _problem(source: Source, name: str) -> Column:
    """Return what is wrong with a number; null where nothing is."""
    value = _value(source, name, "number")
    large = F.when(F.abs(value) > LARGEST, F.lit(f"{name} is infinite, or beyond ±{LARGEST:g}"))
    if not isinstance(source.frame.schema[name].dataType, TEXTS):
        return large
    none = _text(source, name).isNotNull() & value.isNull()
    return F.coalesce(F.when(none, F.lit(f"{name} is not a number")), large)
