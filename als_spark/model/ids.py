"""Original ids (64-bit integers or strings) and their dense row numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from als_spark.errors import DataError
from als_spark.types import IntArray


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

    @property
    def are_integers(self) -> bool:
        """Whether the ids are integers (else they are strings)."""
        return bool(pa.types.is_integer(self.ids.type))

    def rows_of(self, ids: pa.Array | Sequence[Any]) -> IntArray:
        """Look up the dense rows of some ids.

        Parameters
        ----------
        ids : pyarrow.Array or sequence
            Integers or strings; text is read as integers where the index holds integers, and the
            other way round.

        Returns
        -------
        (n,) int32
            −1 for an id that the index does not hold.
        """
        values = ids if isinstance(ids, pa.Array) else as_id_array(ids)
        found = pc.index_in(coerce_ids(values, self.ids.type), value_set=self.ids)
        rows: IntArray = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
        return rows.astype(np.int32, copy=False)


def as_id_array(ids: Sequence[Any] | npt.NDArray[Any]) -> pa.Array:
    """Turn integers or strings, a list or a NumPy array, into Arrow's int64 or string."""
    try:
        array = pa.array(ids)
        if pa.types.is_integer(array.type):
            return array.cast(pa.int64())
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        array = pa.array([None if value is None else str(value) for value in ids])
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return array.cast(pa.string())
    if len(array) == 0:
        return array.cast(pa.int64())
    raise DataError(f"ids of type {array.type} given: use integers or strings")


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
    given = ids if isinstance(ids, pa.Array) else as_id_array(ids)
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
