"""Files without a header: whether their fields can be what they would be taken for.

Without names the fields are user, item, rating and timestamp. A file in another order, or of
another kind, such as a table with a column for each item, would be read without a word. What can be
told from its beginning is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from als_spark.errors import DataError
from als_spark.spark.read.dialect import is_number
from als_spark.spark.read.names import USUAL_NAMES, plain_name

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?")
_WHOLE = re.compile(r"\d+(\.0*)?")
EARLIEST_SECONDS = 1e8
"""In 1973. Whole numbers from here on are moments rather than ratings."""
_ENOUGH_TO_COUNT = 5
"""Lines that are numbered by their first field, if they are so many, and it has no other use."""
_IDS = frozenset(
    name for role in ("user", "item") for rank in USUAL_NAMES[role] for name in rank if "id" in name
)

Records = Sequence[Sequence[str]]


def refuse_other_order(records: Records, roles: Sequence[str], label: str) -> None:
    """Refuse a file without header whose fields cannot be the roles, by its first records.

    Parameters
    ----------
    records : sequence of sequence of str
        The beginning of the file, with as many fields in the first as most have.
    roles : sequence of str
        What the fields are taken for, in this order.
    label : str
        What messages call the file.

    Raises
    ------
    DataError
    """
    alike = [fields for fields in records if len(fields) == len(records[0])]
    found = (
        _pandas_names(alike),
        _wide_table(alike[0]),
        _line_numbers(alike, len(roles)),
        _moments(alike, roles),
        _too_many(alike, len(roles)),
    )
    for what in found:
        if what is not None:
            raise DataError(
                f"{label}: has no header, so that its fields would be {', '.join(roles)}; but "
                f"{what}: give it a first line that names its columns"
            )


def _pandas_names(records: Records) -> str | None:
    """Tell the numbers that pandas and R give to columns without names."""
    first = records[0]
    numbers = [str(k) for k in range(len(first))]
    after_index = ["", *numbers[:-1]]
    if len(records) < 2 or list(first) not in (numbers, after_index):
        return None
    if list(first) == numbers and any(fields[0] == "0" for fields in records[1:]):
        return None
    return f"its first line {','.join(first)!r} numbers the columns"


def _wide_table(first: Sequence[str]) -> str | None:
    if plain_name(first[0]) in _IDS and all(_WHOLE.fullmatch(name) for name in first[1:]):
        return (
            f"its first line {','.join(first)[:60]!r} seems to name a column for each item or user "
            "(write a line for each rating instead, as `melt` of pandas does)"
        )
    return None


def _line_numbers(records: Records, n_roles: int) -> str | None:
    """Tell an index, as pandas writes it: then what would be the timestamp is the rating."""
    if len(records) < _ENOUGH_TO_COUNT or len(records[0]) < n_roles:
        return None
    if any(_is_late(fields[n_roles - 1]) for fields in records):
        return None
    firsts = [fields[0] for fields in records]
    start = firsts[0]
    if start in ("0", "1") and firsts == [str(int(start) + k) for k in range(len(firsts))]:
        return f"its first field numbers the lines from {start}, as an index of pandas does"
    return None


def _moments(records: Records, roles: Sequence[str]) -> str | None:
    of_role: dict[str, Callable[[str], bool]] = {
        "user": _is_date,
        "item": _is_date,
        "rating": lambda text: _is_date(text) or _is_late(text),
    }
    for place, role in enumerate(roles[: len(records[0])]):
        tells = of_role.get(role)
        if tells is not None and all(tells(fields[place]) for fields in records):
            return f"the {role}s are moments, such as {records[0][place]}"
    return None


def _too_many(records: Records, n_roles: int) -> str | None:
    left = [fields[n_roles:] for fields in records]
    if left[0] and all(is_number(field) or not field for fields in left for field in fields):
        return f"it has {len(records[0])} of them, and the others are numbers too"
    return None


def _is_date(text: str) -> bool:
    return _MOMENT.fullmatch(text) is not None


def _is_late(text: str) -> bool:
    """Tell what may be a moment: a date, or seconds since 1970."""
    return _is_date(text) or (
        _WHOLE.fullmatch(text) is not None and float(text) >= EARLIEST_SECONDS
    )
