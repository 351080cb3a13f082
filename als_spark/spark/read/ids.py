"""Ids as they come in: one rule for every kind of file, and for tables.

An id is missing if it is null, blank or one of the null words (:data:`NULL_WORDS`). A whole number
may be written with decimals: ``15.0`` is 15, and counted; a number in scientific notation, such as
``1.23457E+12``, has perhaps lost digits, and is unusable. Everything else is what it is: ``007`` is
text, and not 7. An id that begins or ends with a no-break space, a tab or a mark such as U+FEFF
looks like another one, and is unusable. One id of text makes all ids of its column text (see
:func:`odd_ids`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from als_spark.errors import DataError
from als_spark.model.ids import LARGEST_EXACT, LARGEST_EXACT_FLOAT, IdIndex, fits_int64
from als_spark.spark.casts import try_cast
from als_spark.spark.read.names import quoted
from als_spark.spark.read.options import NULL_WORDS as NULL_WORDS
from als_spark.types import SIDES, IntArray, Side

INTEGERS = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
FLOATS = (T.FloatType, T.DoubleType)
WHOLE, ZEROS, OTHER = range(3)
"""Shapes of ids, in two bits: see :class:`Shapes`."""
TEXTS = (T.StringType, T.VarcharType, T.CharType)
NULL_WORD = "a null word"
"""How the problem of a null word ends."""
INVISIBLE = "begins or ends with an invisible character"
"""How the problem of an id ends that looks like another one."""

_LARGEST_DIGITS = str(int(LARGEST_EXACT))
_LONGEST_BIGINT = 18
"""Digits that always fit into a bigint."""
# Never three zeros: 1.000 may be a thousand.
_WHOLE = r"^(0|-?[1-9][0-9]*)\.(0|00|0000+)?$"
_INVISIBLE = r"^[\p{Z}\p{Cf}\t\r]|[\p{Z}\p{Cf}\t\r]\z"
_SCIENTIFIC = r"^[+-]?[0-9]+(\.[0-9]*)?[eE][+-]?[0-9]+$"


class TypedId(NamedTuple):
    """A column of ids of one role."""

    value: Column
    """bigint or string."""
    problem: Column
    """What is wrong with it; null for a usable one."""
    changed: Column
    """The role and the id as written, where that is not ``value``; null elsewhere."""


def mark_ids(frame: DataFrame, columns: Mapping[str, str], null_words: Sequence[str]) -> DataFrame:
    """Prepare the columns of ids, by role, for :func:`typed_id`: trim those of text, mark odd ones.

    In columns of a DataFrame below: Spark otherwise does it anew wherever the result is used.
    """
    texts = [
        role for role, name in columns.items() if isinstance(frame.schema[name].dataType, TEXTS)
    ]
    marks: dict[str, Column] = {}
    for role in texts:
        trimmed = f"trim({quoted(columns[role])})"
        marks |= {_text_name(role): F.expr(trimmed), odd_name(role): _odd(trimmed, null_words)}
    return frame.withColumns(marks)


def typed_id(frame: DataFrame, name: str, role: str, null_words: Sequence[str]) -> TypedId | None:
    """Bring ids to bigint or string, in a DataFrame of :func:`mark_ids`; None for other types."""
    column, kind = F.col(quoted(name)), frame.schema[name].dataType
    unchanged = F.lit(None).cast("string")
    missing = F.when(column.isNull(), F.lit(f"{role} is missing"))
    if isinstance(kind, INTEGERS):
        return TypedId(column.cast("bigint"), missing, unchanged)
    if isinstance(kind, T.DecimalType):
        whole = column if kind.scale == 0 else F.floor(column)
        to = "bigint" if kind.precision - kind.scale <= _LONGEST_BIGINT else "string"
        problem = missing
        if kind.scale > 0:
            problem = missing.when(column != whole, F.lit(f"{role} is not a whole number"))
        return TypedId(whole.cast(to), problem, unchanged)
    if isinstance(kind, FLOATS):
        # Not `floor`, which overflows at huge numbers and NaN. NaN is larger than everything.
        largest = LARGEST_EXACT_FLOAT if isinstance(kind, T.FloatType) else LARGEST_EXACT
        exact = F.abs(column) <= largest
        problem = (
            F.when(column.isNull() | F.isnan(column), F.lit(f"{role} is missing"))
            .when(~exact, F.lit(f"{role} is too large to be an exact number"))
            .when(column != F.rint(column), F.lit(f"{role} is not a whole number"))
        )
        return TypedId(F.when(exact, column).cast("bigint"), problem, unchanged)
    if isinstance(kind, TEXTS):
        return _text_id(F.col(_text_name(role)), F.col(odd_name(role)), role, null_words)
    return None


def missing_text(text: Column, words: Sequence[str], role: str) -> Column:
    """Return the problem of a missing value of a text column, trimmed; null where it is there."""
    problem = F.when(text.isNull() | (text == ""), F.lit(f"{role} is missing"))
    if any(words):
        problem = problem.when(text.isin(*words), F.lit(f"{role} is missing: {NULL_WORD}"))
    return problem


def _text_name(role: str) -> str:
    return f"als_spark_{role}"


def odd_name(role: str) -> str:
    """Name the column, of :func:`mark_ids`, of whether an id of text needs a closer look."""
    return f"als_spark_odd_{role}"


def _odd(trimmed: str, null_words: Sequence[str]) -> Column:
    """Tell the few ids that are looked at more closely; cheap, for it sees all of them.

    Of whole numbers, which most ids are, less is asked.
    """
    text = F.expr(trimmed)
    # Spark takes 15.7 for the bigint 15, and drops what surrounds it.
    unlike = (text < "!") | text.contains(".") | text.endswith("\t") | text.endswith("\r")
    is_number = try_cast(trimmed, "bigint").isNotNull()
    odd = text.contains("+") | (F.octet_length(text) != F.length(text))
    words = [word for word in null_words if word]
    if words:
        longest = max(len(word.encode()) for word in words)
        odd |= (F.octet_length(text) <= longest) & text.isin(*words)
    if any(word[-1].isdigit() for word in words):
        is_number &= ~text.isin(*words)
    return F.coalesce(unlike | (~is_number & odd), F.lit(True))


def _text_id(text: Column, odd: Column, role: str, null_words: Sequence[str]) -> TypedId:
    whole = odd & text.rlike(_WHOLE)
    short = F.substring_index(text, ".", 1)
    digits = F.ltrim(F.translate(short, "-", " "))
    large = (F.length(digits) > len(_LARGEST_DIGITS)) | (
        (F.length(digits) == len(_LARGEST_DIGITS)) & (digits > _LARGEST_DIGITS)
    )
    scientific = text.contains(".") | text.contains("+")
    scientific &= text.rlike(_SCIENTIFIC)
    problem = F.coalesce(
        missing_text(text, null_words, role),
        F.when(text.rlike(_INVISIBLE), F.lit(f"{role} {INVISIBLE}")),
        F.when(scientific, F.lit(f"{role} is in scientific notation, which may have lost digits")),
        F.when(whole & large, F.lit(f"{role} is too large to be an exact number")),
    )
    changed = F.when(whole, F.concat(F.lit(f"{role} "), text))
    value = F.when(whole, short).otherwise(text)
    return TypedId(value, F.when(odd, problem), changed)


def changed_column(*columns: Column) -> Column:
    """Return the column ``changed`` of typed rows: null, or the ids that are not as written."""
    both = F.concat_ws(", ", *columns)
    there = reduce(Column.__or__, (column.isNotNull() for column in columns))
    return F.when(there, both).alias("changed")


@dataclass(frozen=True, slots=True)
class ChangedIds:
    """Ids that were written with decimals: how many of each side, and one as it was written."""

    counts: Mapping[Side, int] = field(default_factory=dict)
    examples: Mapping[Side, str] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Of both sides."""
        return sum(self.counts.values())

    @property
    def lines(self) -> list[str]:
        """Say what was written how, and how it was read: a line for each side."""
        return [
            f"{count:,} {side} {'id' if count == 1 else 'ids'} written with decimals, such as "
            f"{self.examples[side]}: read as {self.examples[side].partition('.')[0]}"
            for side, count in self.counts.items()
        ]

    @staticmethod
    def of_column(changed: pa.Array | pa.ChunkedArray) -> ChangedIds:
        """Count a column of :func:`changed_column`."""
        there = changed.drop_null()
        found: list[tuple[Side, int, str]] = []
        for side in SIDES if len(there) else ():
            of_side = there.filter(pc.match_substring(there, side))
            if len(of_side):
                found.append((side, len(of_side), example_of(of_side[0].as_py(), side)))
        return ChangedIds.of(found)

    @staticmethod
    def of(found: Iterable[tuple[Side, int, str]]) -> ChangedIds:
        """Merge counts: side, number, an id as it was written."""
        counts: dict[Side, int] = {}
        examples: dict[Side, str] = {}
        for side, n, example in found:
            counts[side] = counts.get(side, 0) + n
            # The same one, whatever the order of the tasks.
            examples[side] = min(examples.get(side, example), example)
        return ChangedIds(counts, examples)

    def of_side(self, side: Side) -> ChangedIds:
        """Return what is said of one side alone."""
        return ChangedIds.of(found for found in self.as_found() if found[0] == side)

    def as_found(self) -> list[tuple[Side, int, str]]:
        """Return what :meth:`of` takes."""
        return [(side, n, self.examples[side]) for side, n in self.counts.items()]


def example_of(changed: str, side: Side) -> str:
    """Return the id of a side as it was written, of a row of :func:`changed_column`."""
    found = re.search(rf"{side} ([^,]*)", changed)
    assert found is not None, changed
    return found[1]


def merge_ids(parts: Sequence[tuple[pa.Array, IntArray]]) -> tuple[IdIndex, IntArray]:
    """Merge id lists with counts; number the ids by falling count, then by rising id.

    Text ids that are all decimal integers become integers, so that a CSV file and a table of
    integers give the same index. Text among integers makes all of them text.
    """
    arrays = [ids for ids, _ in parts if len(ids)]
    if not arrays:
        return IdIndex(pa.array([], pa.int64())), np.zeros(0, np.int64)
    counts = np.concatenate([count for ids, count in parts if len(ids)])
    if not all(pa.types.is_integer(array.type) for array in arrays):
        texts = [array.cast(pa.string()) for array in arrays]
        whole = all(pc.all(fits_int64(text)).as_py() for text in texts)
        arrays = [text.cast(pa.int64()) for text in texts] if whole else texts
    merged = (
        pa.table({"id": pa.concat_arrays(arrays), "count": counts})
        .group_by("id")
        .aggregate([("count", "sum")])
        .sort_by([("count_sum", "descending"), ("id", "ascending")])
        .combine_chunks()
    )
    ids = merged.column("id").combine_chunks()
    return IdIndex(ids), merged.column("count_sum").to_numpy()


def id_shape(typed: DataFrame, side: Side) -> Column:
    """Tell what a typed id of a usable row looks like: see :class:`Shapes`; cheap, and only so.

    :func:`odd_ids` has the last word.
    """
    column = F.col(side)
    if not isinstance(typed.schema[side].dataType, T.StringType):
        return F.lit(WHOLE)
    zeros = (column.startswith("0") | column.startswith("-0")) & (F.length(column) > 1)
    other = try_cast(quoted(side), "bigint").isNull() | column.startswith("+")
    return F.when(zeros, F.lit(ZEROS)).when(other, F.lit(OTHER)).otherwise(F.lit(WHOLE))


@dataclass(frozen=True, slots=True)
class Shapes:
    """How many ids of a side are whole numbers, begin with zeros, or are neither."""

    whole: int = 0
    zeros: int = 0
    other: int = 0

    def deserve_a_look(self, changed: bool) -> bool:
        """Tell whether jobs may warn of these ids, or refuse them; ``changed``: of 15.0 read as 15.

        Never False where they do, though perhaps True where they do not.
        """
        if not self.zeros + self.other:
            return False
        return changed or self.whole + self.zeros >= self.other


def odd_ids(ids: pa.Array, side: Side) -> str | None:
    """Say why ids that are mostly whole numbers are read as text; None if nothing is odd.

    Parameters
    ----------
    ids : pyarrow.Array
        All ids of a side, each once, as a model has them.
    """
    if not pa.types.is_string(ids.type) or not len(ids):
        return None
    whole = fits_int64(ids)
    zeros = pc.match_substring_regex(ids, "^-?0[0-9]+$")
    n, n_whole, n_zeros = len(ids), pc.sum(whole).as_py(), pc.sum(zeros).as_py()
    if 2 * (n_whole + n_zeros) < n:
        return None
    if n_zeros:
        padded = ids.filter(zeros)
        plain = pc.replace_substring_regex(padded, "^(-?)0+([0-9])", r"\1\2")
        example, other = padded[0].as_py(), plain[0].as_py()
        n_alike = pc.sum(pc.is_in(plain, value_set=ids)).as_py()
        told = f"; {n_alike:,} are told from another id by these alone" if n_alike else ""
        return (
            f"{n_zeros:,} of {n:,} {side} ids have leading zeros, such as {example}: all are read "
            f"as text, and {example} is not {other}{told}"
        )
    odd = ids.filter(pc.invert(whole))
    return (
        f"{len(odd):,} of {n:,} {side} ids are not whole numbers, such as {odd[0].as_py()!r}: all "
        "are read as text"
    )


def refuse_two_forms(label: str, ids: Mapping[Side, pa.Array], changed: ChangedIds) -> None:
    """Stop if ids such as 15.0 were read as whole numbers, and other ids of the column are none.

    Among ids such as ``v2`` or ``1.1``, ``1.0`` may be an id of its own, and not 1.

    Raises
    ------
    DataError
        Names the two.
    """
    for side, example in changed.examples.items():
        if not pa.types.is_string(ids[side].type):
            continue
        others = ids[side].filter(pc.invert(fits_int64(ids[side])))
        if len(others):
            raise DataError(
                f"{label}: the {side} id {example} is a whole number with decimals, "
                f"{others[0].as_py()!r} is none: write all {side} ids as whole numbers, or as text "
                f"that is no number, such as v{example}"
            )
