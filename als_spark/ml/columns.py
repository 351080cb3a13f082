"""Columns of ids and of ratings as MLlib takes them, with its words for those that it refuses.

Ids follow one of two rules: MLlib's, whole numbers of any numeric type within the int range, which
become int; or, with ``nativeIds``, integers, strings and decimals that stay what they are.
"""

from __future__ import annotations

from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    DecimalType,
    IntegerType,
    IntegralType,
    NumericType,
    StringType,
    StructType,
)

from als_spark.ml.errors import InvalidArgument, InvalidRatings
from als_spark.spark.casts import try_cast
from als_spark.spark.read.facts import Summary
from als_spark.spark.read.names import quoted


class Checked(NamedTuple):
    """A column with what is wrong with its values."""

    value: Column
    """Null where it cannot be used."""
    problem: Column
    """What is wrong; null where it can be used."""
    shown: Column
    """The value as text."""


def check_exists(schema: StructType, name: str) -> None:
    """Stop unless a column is there: SQL would take ``user`` for the name of who runs Spark.

    Raises
    ------
    InvalidArgument
        In MLlib's words.
    """
    if name not in schema.names:
        raise InvalidArgument(f"{name} does not exist. Available: {', '.join(schema.names)}")


def check_column(schema: StructType, name: str) -> None:
    """Stop unless a column is there and numeric.

    Raises
    ------
    InvalidArgument
        In MLlib's words.
    """
    check_exists(schema, name)
    kind = schema[name].dataType
    if not isinstance(kind, NumericType):
        raise InvalidArgument(
            f"requirement failed: Column {name} must be of type numeric but was actually of type "
            f"{kind.simpleString()}."
        )


def id_type(schema: StructType, name: str, *, native: bool) -> DataType:
    """Return the type that the ids of a column have in a model.

    Raises
    ------
    InvalidArgument
        If the column is missing, or of no type of ids.
    """
    if not native:
        check_column(schema, name)
        return IntegerType()
    check_exists(schema, name)
    kind = schema[name].dataType
    if not isinstance(kind, IntegralType | StringType | DecimalType):
        raise InvalidArgument(
            f"requirement failed: Column {name} must be of type integer, string or decimal with "
            f"nativeIds=True but was actually of type {kind.simpleString()}."
        )
    return StringType() if isinstance(kind, StringType) else kind


def check_like(schema: StructType, name: str, kind: DataType, *, exactly: bool = False) -> None:
    """Stop unless a column can hold native ids of a type: text for text, numbers for numbers.

    ``exactly`` asks for the type itself, where ids go into a model.

    Raises
    ------
    InvalidArgument
        If it is missing, or cannot.
    """
    found = id_type(schema, name, native=True)
    if found != kind if exactly else isinstance(found, StringType) != isinstance(kind, StringType):
        raise InvalidArgument(
            f"requirement failed: Column {name} must be like the ids of the model, which are of "
            f"type {kind.simpleString()}, but was actually of type {found.simpleString()}."
        )


def checked_ids(name: str, *, native: bool = False) -> Checked:
    """Return a column of ids by a rule: MLlib's numbers as int, native ones as they are."""
    column = F.col(quoted(name))
    missing = F.when(column.isNull(), F.lit(f"{name} Ids MUST NOT be Null"))
    if native:
        return Checked(column, missing, _shown(column))
    value = id_or_null(name, IntegerType())
    problem = missing.when(
        value.isNull(),
        F.lit(
            "ALS only supports non-Null values in Integer range and without fractional part for "
            f"column {name}"
        ),
    )
    return Checked(value, problem, _shown(column))


def id_or_null(name: str, kind: DataType) -> Column:
    """Return a column of numbers or text as ids of a type, null where a value is no such id."""
    if isinstance(kind, StringType):
        return F.col(quoted(name))
    exact = try_cast(quoted(name), kind.simpleString())
    return F.when(exact == F.col(quoted(name)), exact)


def ids_or_error(name: str, *, native: bool = False) -> Column:
    """Return ids as :func:`checked_ids` does, nullable; a row that has none fails the job."""
    value, problem, shown = checked_ids(name, native=native)
    message = F.concat(problem, F.lit(", but got "), shown)
    return F.when(problem.isNull(), value).otherwise(F.raise_error(message))


def typed_ratings(
    dataset: DataFrame,
    user: str,
    item: str,
    rating: str,
    weight: str = "",
    *,
    native: bool = False,
) -> DataFrame:
    """Bring a dataset to typed columns: ``user``, ``item``, ``rating``, ``problem`` and ``raw``.

    With weights there is the column ``weight`` too, and usable ratings of weight 0 are left out.

    Parameters
    ----------
    dataset : DataFrame
    user, item, rating, weight : str
        Names of its columns; an empty ``rating`` stands for ratings of 1, an empty ``weight`` for
        weights of 1.
    native : bool
        Whether ids stay what they are: integers as bigint, strings and decimals as string.

    Raises
    ------
    InvalidArgument
        If a column is missing, or of a type that is none of ids, or of ratings.
    """
    kinds = [id_type(dataset.schema, name, native=native) for name in (user, item)]
    whole = [isinstance(kind, IntegralType) for kind in kinds]
    columns = {
        "user": checked_ids(user, native=native),
        "item": checked_ids(item, native=native),
    }
    for name in filter(None, (rating, weight)):
        check_column(dataset.schema, name)
    if rating:
        columns["rating"] = _checked_numbers(rating, "Ratings")
    if weight:
        columns["weight"] = _checked_weights(weight)
    problems = [checked.problem for checked in columns.values()]
    values = {
        "user": columns["user"].value.cast("bigint" if whole[0] else "string"),
        "item": columns["item"].value.cast("bigint" if whole[1] else "string"),
        "rating": columns["rating"].value.cast("double") if rating else F.lit(1.0),
    }
    if weight:
        values["weight"] = columns["weight"].value.cast("double")
    # The value that the first problem is about.
    shown = F.coalesce(*(F.when(c.problem.isNotNull(), c.shown) for c in columns.values()))
    typed = dataset.select(
        *(value.alias(name) for name, value in values.items()),
        F.coalesce(*problems).alias("problem"),
        shown.alias("raw"),
    )
    return typed.where("problem IS NOT NULL OR weight > 0") if weight else typed


def check_ratings(summary: Summary) -> None:
    """Stop on ratings that cannot be trained on, in MLlib's words.

    Raises
    ------
    InvalidRatings
        If a row has no id, or no rating.
    InvalidArgument
        If there is no row.
    """
    if summary.bad.n:
        problem = next(iter(summary.bad.counts))
        n = summary.bad.counts[problem]
        rows = "one such row" if n == 1 else f"{n:,} such rows"
        raise InvalidRatings(
            f"{problem}, but got {summary.bad.examples[problem][0]} "
            f"({rows}: mend the data, or filter them out)"
        )
    if summary.n_ratings == 0:
        raise InvalidArgument("requirement failed: No ratings available from the DataFrame.")


def _checked_weights(name: str) -> Checked:
    """Return a numeric column as float, of numbers of at least 0."""
    value, problem, shown = _checked_numbers(name, "Weights")
    negative = F.when(F.col(quoted(name)) < 0, F.lit("Weights MUST NOT be negative"))
    return Checked(value, F.coalesce(problem, negative), shown)


def _checked_numbers(name: str, noun: str) -> Checked:
    """Return a numeric column as float."""
    column = F.col(quoted(name))
    double, value = column.cast("double"), column.cast("float")
    problem = (
        F.when(column.isNull() | F.isnan(double), F.lit(f"{noun} MUST NOT be Null or NaN"))
        .when(F.abs(double) == float("inf"), F.lit(f"{noun} MUST NOT be Infinity"))
        .when(
            F.abs(value.cast("double")) == float("inf"),
            F.lit(f"{noun} MUST be within the range of 32-bit floats"),
        )
    )
    return Checked(value, problem, _shown(column))


def _shown(column: Column) -> Column:
    return F.coalesce(column.cast("string"), F.lit("null"))
