"""Original ids (64-bit integers or strings) and their dense row numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from als_spark.errors import DataError
from als_spark.types import IntArray

LARGEST_EXACT = 2.0**53 - 1
"""Whole numbers up to here are exact as 64-bit floats; 2^53 may have been the number after it."""
LARGEST_EXACT_FLOAT = 2.0**24 - 1
"""The same of 32-bit floats."""


def id_for_message(ids: pa.Array, row: int) -> Any:
    """Return an id as messages name it; escaped where Parquet holds bytes that are no UTF-8."""
    found = ids[row]
    try:
        return found.as_py()
    except UnicodeDecodeError:
        return found.as_buffer().to_pybytes().decode("utf-8", "backslashreplace")


class IdIndex:
    """The ids of one side, in the order of their dense rows.

    Parameters
    ----------
    ids : pyarrow.Array
        int64 or string, all different: the id of row 0, of row 1, and so on.
    """

    def __init__(self, ids: pa.Array) -> None:
        self.ids = ids

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self.ids)

    def __repr__(self) -> str:
        """Say how many ids of which type it holds."""
        return f"<IdIndex: {len(self):,} ids, {self.ids.type}>"

    @property
    def are_integers(self) -> bool:
        """Whether the ids are integers (else they are strings)."""
        return bool(pa.types.is_integer(self.ids.type))

    def rows_of(self, ids: pa.Array | Sequence[Any]) -> IntArray:
        """Look up the dense rows of some ids.

        Parameters
        ----------
        ids : pyarrow.Array or sequence
            Integers, whole floats or strings; text is read as integers where the index holds
            integers, and the other way round.

        Returns
        -------
        (n,) int32
            −1 for an id that the index does not hold.

        Raises
        ------
        DataError
            If one string is given where several ids are wanted, or they are of another type.
        """
        found = pc.index_in(coerce_ids(as_id_array(ids), self.ids.type), value_set=self.ids)
        rows: IntArray = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
        return rows.astype(np.int32, copy=False)


def as_id_array(ids: pa.Array | Sequence[Any] | npt.NDArray[Any]) -> pa.Array:
    """Turn ids, a list or an array, into Arrow's int64 or string.

    An Arrow array stays as it is, unless it has floats. Floats are integers if they are whole; NaN
    is a missing id.

    Raises
    ------
    DataError
        If one string is given where several ids are wanted; if a float is not whole, or too large
        to be exact; if the ids are of another type.
    """
    if isinstance(ids, pa.ChunkedArray):
        # The column of a table.
        ids = ids.combine_chunks()
    if isinstance(ids, pa.Array) and not pa.types.is_floating(ids.type):
        return ids
    if is_single(ids):
        raise DataError(f"ids {ids!r} given: use a list of ids, such as [{ids!r}]")
    try:
        array = ids if isinstance(ids, pa.Array) else pa.array(ids)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        array = pa.array([None if value is None else str(value) for value in ids])
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return array.cast(pa.string())
    if len(array) == 0:
        return array.cast(pa.int64())
    if pa.types.is_floating(kind):
        largest = LARGEST_EXACT if pa.types.is_float64(kind) else LARGEST_EXACT_FLOAT
        return _whole_numbers(array.cast(pa.float64()), largest)
    if pa.types.is_integer(kind):
        try:
            return array.cast(pa.int64())
        except pa.ArrowInvalid:
            return array.cast(pa.string())
    raise DataError(f"ids of type {kind} given: use integers or strings")


def is_single(ids: object) -> bool:
    """Tell one id where several are wanted: the characters of a text are no ids."""
    return isinstance(ids, str | bytes | bytearray | memoryview) or not isinstance(ids, Iterable)


def _whole_numbers(values: pa.Array, largest: float) -> pa.Array:
    there = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    # What is infinite is too large as well.
    exact = pc.less_equal(pc.abs(there), largest)
    usable = pc.and_(exact, pc.equal(there, pc.round(there)))
    odd = there.filter(pc.invert(usable))
    if len(odd):
        power = int(largest + 1).bit_length() - 1
        raise DataError(
            f"id {odd[0].as_py()!r} given: use whole numbers below 2^{power}, or strings"
        )
    return there.cast(pa.int64())


def coerce_ids(values: pa.Array, target: pa.DataType) -> pa.Array:
    """Bring ids to the type of an index; what does not fit becomes null, and so is not found."""
    if values.type == target:
        return values
    if pa.types.is_integer(target):
        text = values.cast(pa.string())
        fits = fits_int64(text)
        return pc.if_else(fits, text, pa.scalar(None, pa.string())).cast(pa.int64())
    return values.cast(pa.string())


def ids_like(index: IdIndex, ids: pa.Array | Sequence[Any], name: str) -> pa.Array:
    """Bring ids, whether the index of a model holds them or not, to the type of its own.

    ``name`` is what to call one of them in a message, such as "user id".

    Raises
    ------
    DataError
        If an id is missing, or is no integer where the index holds integers.
    """
    given = as_id_array(ids)
    like = coerce_ids(given, index.ids.type)
    if like.null_count:
        bad = given.filter(pc.is_null(like))[0].as_py()
        if bad is None:
            raise DataError(f"a {name} is missing (null): leave it out")
        raise DataError(f"{name} {bad!r}: the ids of this model are integers: give integers")
    return like


def fits_int64(text: pa.Array) -> pa.Array:
    """Tell which strings are 64-bit integers in their usual form ("-3"; not "007", "+7", "1.0")."""
    shaped = pc.match_substring_regex(text, r"^(0|-?[1-9][0-9]{0,17})$")
    if pc.all(shaped).as_py() is not False:
        return shaped
    # Nineteen digits may or may not fit: only Python's integers tell, and such ids are rare.
    long = pc.match_substring_regex(text, r"^-?[1-9][0-9]{18}$")
    if not pc.any(long).as_py():
        return shaped
    fits = [
        bool(short) or (bool(nineteen) and -(2**63) <= int(value) < 2**63)
        for value, short, nineteen in zip(
            text.to_pylist(), shaped.to_pylist(), long.to_pylist(), strict=True
        )
    ]
    return pa.array(fits, pa.bool_())
