"""Which column of a source is whose: by the names that are usual.

Ids win over names: ``userId`` over ``user``, ``movieId`` over ``movie``. Of the names that a role
may have, those of the first rank of :data:`USUAL_NAMES` that is there are looked at; if there are
two of them, neither is better, and the user has to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from als_spark.errors import DataError
from als_spark.spark.read.options import SourceOptions

USUAL_NAMES: Mapping[str, Sequence[Sequence[str]]] = {
    "user": (
        ("userid", "uid"),
        ("customerid", "memberid", "readerid"),
        ("user",),
        ("customer", "member", "reader"),
    ),
    "item": (
        ("itemid", "iid"),
        (
            *("movieid", "filmid", "productid", "bookid", "isbn"),
            *("trackid", "songid", "artistid"),
        ),
        ("item",),
        ("movie", "film", "product", "book", "track", "song", "artist"),
    ),
    "rating": (("rating",), ("ratings",), ("stars",), ("score",), ("value",)),
    "timestamp": (
        *(("timestamp",), ("ts",), ("time",), ("datetime",)),
        *(("date",), ("ratedat",), ("eventtime",)),
    ),
}
"""Names of a column by rank, the best first; only letters and digits count, whatever their case."""

KNOWN = frozenset(name for ranks in USUAL_NAMES.values() for rank in ranks for name in rank)
"""All of them."""


def find_columns(
    names: Sequence[str], options: SourceOptions, label: str | None = None
) -> dict[str, str]:
    """Find the column of each role, given or by its usual names; refuse what is ambiguous.

    Raises
    ------
    DataError
        If a column is missing, or two are as good; it names the source, or ``label``.
    """
    label = label or options.label
    found: dict[str, str] = {}
    for role in options.roles:
        given = options.columns.get(role)
        if given is not None and (given in names or options.features_of is None):
            if given not in names:
                raise DataError(
                    f'{label}: no column {given!r} (`columns["{role}"]`): '
                    f"the columns are {', '.join(names)}"
                )
            found[role] = given
            continue
        best = best_named(names, _ranks(role, options))
        if len(best) > 1:
            raise DataError(
                f"{label}: {' and '.join(best)} may both be the {role} column: "
                f'name one with `columns["{role}"]`'
            )
        if best:
            found[role] = best[0]
        elif role != "timestamp" or options.need_timestamp:
            raise DataError(
                f"{label}: no {role} column among {', '.join(names)}: "
                f'name it with `columns["{role}"]`'
            )
    if len(set(found.values())) < len(found):
        named = ", ".join(f'`columns["{role}"]`' for role in options.roles[:3])
        raise DataError(
            f"{label}: one column has two roles "
            f"({', '.join(f'{role} = {name}' for role, name in found.items())}): "
            f"name the columns with {named}"
        )
    return found


def refuse_twice(in_file: Iterable[str], in_folders: Iterable[str], label: str) -> None:
    """Refuse a column that is both in a file and the name of a folder: Spark would take one.

    Raises
    ------
    DataError
    """
    folders = {name.lower() for name in in_folders}
    for name in in_file:
        if name.lower() in folders:
            raise DataError(
                f"{label}: the column {name!r} is in the file, and in the name of a folder: rename "
                "the one or the other"
            )


def likely_columns(names: Sequence[str], options: SourceOptions) -> dict[str, str]:
    """Find columns as :func:`find_columns`, of those roles for which there is one."""
    found = {}
    for role in options.roles:
        given = options.columns.get(role)
        best = [given] if given in names else best_named(names, _ranks(role, options))
        if best:
            found[role] = str(best[0])
    return found


def _ranks(role: str, options: SourceOptions) -> Sequence[Sequence[str]]:
    """Return the usual names of a role; where there is but one, it may be called what ids are."""
    if options.features_of is None:
        return USUAL_NAMES[role]
    return [*USUAL_NAMES[role], (f"{role}s",), ("id",)]


def best_named(names: Iterable[str], ranks: Sequence[Sequence[str]]) -> list[str]:
    """Return the columns that have names of the best rank that is there; none if none is."""
    plain = [(name, plain_name(name)) for name in names]
    for rank in ranks:
        found = [name for name, text in plain if text in rank]
        if found:
            return found
    return []


def plain_name(name: str) -> str:
    """Leave the letters and digits of a column's name, in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def quoted(name: str) -> str:
    """Quote the name of a column for Spark."""
    return "`" + name.replace("`", "``") + "`"
