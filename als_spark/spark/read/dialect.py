"""How a text file is written, told from its beginning: separator, quotes, header, fields."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from als_spark.errors import ConfigError, DataError
from als_spark.spark.read.names import KNOWN, plain_name
from als_spark.spark.read.options import ROLES, SourceOptions
from als_spark.types import Quoting

SEPARATORS = ("::", "\t", ",", ";", "|")
BLANKS = " "
"""The separator of fields between which any number of blanks and tabs may stand."""
WHOLE_LINE = "\x01"
"""The separator of lines that are one field."""
_READ = "comma, tab, ::, ;, | or blanks"
_LOOKED_AT = 100
"""Records of the beginning of a file that are looked at."""
_UNIT = "\x1f"
"""Stands for a separator of two characters where there may be but one."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the bytes of text files become characters.

    Spark decodes them as ``charset``. Where that is ISO-8859-1, which has a character for every
    byte, each character of ``written`` stands for that of ``meant`` at the same place.
    """

    name: str
    charset: str
    written: str = ""
    meant: str = ""

    @property
    def wide(self) -> bool:
        """Whether a line cannot be told before all is decoded."""
        return self.charset.startswith("UTF-16")

    def decode(self, data: bytes) -> str:
        """Decode the beginning of a file, which may end within a character."""
        decoder = codecs.getincrementaldecoder(self.name)("replace")
        return decoder.decode(data).removeprefix("\ufeff")


_WIDE = {"utf-16": "UTF-16", "utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE"}


def encoding_of(name: str) -> Encoding:
    """Return the encoding of a name.

    Raises
    ------
    ConfigError
        If it is unknown, or takes several bytes for a character and is neither UTF-8 nor UTF-16.
    """
    try:
        codec = codecs.lookup(name).name
        if codec in ("utf-8", "utf-8-sig"):
            return Encoding("utf-8", "UTF-8")
        if codec in _WIDE:
            return Encoding(codec, _WIDE[codec])
        every = bytes(range(256))
        characters = every.decode(codec, "replace")
    except (LookupError, UnicodeError):
        characters = ""
    if len(characters) != 256 or not characters.startswith(bytes(range(128)).decode("ascii")):
        raise ConfigError(
            f'`encoding="{name}"`: not usable: use utf-8, utf-16, or an encoding of one byte a '
            "character such as windows-1252; convert other files to UTF-8 (iconv -t UTF-8)"
        )
    other = [(chr(k), c) for k, c in enumerate(characters) if chr(k) != c]
    written, meant = ("".join(column) for column in zip(*other, strict=True)) if other else ("", "")
    return Encoding(codec, "ISO-8859-1", written, meant)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the records of a text file are written.

    ``names`` are those of the header, which ``header`` says is there; without one they are given
    by position. ``known`` tells a header that has usual or given names from a first line that is
    one because no number is in it.
    """

    separator: str
    header: bool
    names: tuple[str, ...]
    known: bool = False


def dialect_of(
    text: str, whole: bool, options: SourceOptions, label: str, roles: Sequence[str] = ROLES
) -> Dialect | None:
    """Tell how a text file is written; None if nothing but blanks is there.

    Parameters
    ----------
    text : str
        Its beginning.
    whole : bool
        Whether that is all of it.
    options : SourceOptions
    label : str
        What messages call the file.
    roles : sequence of str
        What the fields of a file without header are, in this order.

    Raises
    ------
    DataError
        If its lines have too few fields, however they are separated.
    """
    if not text.strip():
        return None
    needed = sum(role != "timestamp" for role in roles if role in options.roles)
    separator, records = _separated(text, whole, needed, options)
    if separator is None:
        raise _too_few(text, needed, label)
    first = records[0]
    kind = "data" if options.format == "movielens" else _first_line_is(first, options)
    if kind != "data":
        return Dialect(separator, True, tuple(safe_names(first)), kind == "known")
    return Dialect(separator, False, positional_names(len(first), roles))


def positional_names(n_fields: int, roles: Sequence[str]) -> tuple[str, ...]:
    """Name the fields of a file without header."""
    return (*roles, *(f"_c{k}" for k in range(len(roles), n_fields)))[:n_fields]


def refuse_backslashes(text: str, separator: str, label: str) -> None:
    """Refuse quotes that are escaped by backslashes, as Spark writes them, where that matters.

    It does if the beginning of the file has other records and fields when read so.

    Raises
    ------
    DataError
        With the remedy.
    """
    found = re.search(rf'\\"[^{re.escape(separator[0])}"\s]', text)
    if found is None or separator in (BLANKS, WHOLE_LINE):
        return
    plain, escaped = (
        [[re.sub(r'[\\"]', "", field) for field in fields] for fields in records]
        for records in (
            records_of(text, separator, "auto"),
            records_of(text, separator, "auto", escape="\\"),
        )
    )
    if plain != escaped:
        line = text.count("\n", 0, found.start()) + 1
        raise DataError(
            f"{label}: line {line:,} has quotes behind backslashes, as Spark writes them: write "
            'them doubled ("" within a field; in Spark by `option("escape", chr(34))`), or as '
            "Parquet"
        )


def records_of(
    text: str,
    separator: str,
    quoting: Quoting,
    whole: bool = True,
    escape: str | None = None,
) -> list[list[str]]:
    """Split the beginning of a text into its records that are not blank, and these into fields."""
    if separator == BLANKS:
        lines = (line.split() for line in re.split(r"\r\n|\n|\r", text))
        found = list(islice(filter(None, lines), _LOOKED_AT + 1))
    else:
        if len(separator) > 1:
            text, separator = text.replace(separator, _UNIT), _UNIT
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=separator,
            quoting=csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL,
            skipinitialspace=True,
            escapechar=escape,
        )
        stripped = ([field.strip() for field in fields] for fields in _readable(reader))
        records = (fields for fields in stripped if len(fields) > 1 or any(fields))
        found = list(islice(records, _LOOKED_AT + 1))
    if len(found) > _LOOKED_AT:
        return found[:-1]
    # The last may go on where the text does not.
    return found if whole or len(found) < 2 else found[:-1]


def _readable(records: Iterator[list[str]]) -> Iterator[list[str]]:
    """Give records up to the first that cannot be read, such as one longer than any is."""
    while True:
        try:
            yield next(records)
        except (StopIteration, csv.Error):
            return


def _separated(
    text: str, whole: bool, needed: int, options: SourceOptions
) -> tuple[str | None, list[list[str]]]:
    """Find the separator that gives most records the fields of the first one."""
    best: tuple[tuple[int, float, int], str, list[list[str]]] | None = None
    for separator in SEPARATORS:
        if separator not in text:
            continue
        records = records_of(text, separator, options.quoting, whole)
        if not records or len(records[0]) < max(needed, 2):
            continue
        score = (_known(records[0], options), _alike(records), len(records[0]))
        if best is None or score > best[0]:
            best = score, separator, records
    if best is not None:
        return best[1], best[2]
    if needed < 2:
        return ",", records_of(text, ",", options.quoting, whole)
    records = records_of(text, BLANKS, options.quoting, whole)
    if len(records[0]) >= needed and _alike(records) == 1:
        return BLANKS, records
    return None, []


def _alike(records: Sequence[Sequence[str]]) -> float:
    """Return the share of records that have as many fields as the first one."""
    return sum(len(fields) == len(records[0]) for fields in records) / len(records)


def _too_few(text: str, needed: int, label: str) -> DataError:
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line.strip()]
    few, wanted = {
        2: ("one field", "a user and an item are needed"),
    }.get(needed, ("fewer than three fields", "ratings need a user, an item and a rating"))
    other = _other_separator(lines, needed)
    seen = "" if other is None else f"its fields seem to stand between {other!r}: "
    return DataError(
        f"{label}: the first line {lines[0].strip()[:60]!r} has {few}: {seen}"
        f"{wanted} on each line, with {_READ} between them"
    )


def _other_separator(lines: Sequence[str], needed: int) -> str | None:
    """Find a character that is in all lines as often as in the first, often enough."""
    counts = Counter(c for c in lines[0] if not c.isalnum() and c not in " .\"'-_+")
    for character, count in counts.most_common():
        if count >= needed - 1 and all(line.count(character) == count for line in lines[:20]):
            return character
    return None


def _known(fields: Iterable[str], options: SourceOptions) -> int:
    given = {name for name in options.columns.values() if name is not None}
    return sum(name in given or plain_name(name) in KNOWN for name in fields)


def _first_line_is(fields: Sequence[str], options: SourceOptions) -> str:
    """Tell a header with ``known`` names, one with ``other`` names, and a row of ``data``."""
    given = {name for name in options.columns.values() if name is not None}
    if given & set(fields):
        return "known"
    known = sum(plain_name(name) in KNOWN for name in fields)
    if known:
        header = known >= 2 or not is_number(fields[2] if len(fields) > 2 else fields[-1])
        return "known" if header else "data"
    return "data" if any(is_number(name) for name in fields) else "other"


def is_number(text: str) -> bool:
    """Tell if a field is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def safe_names(fields: Sequence[str]) -> list[str]:
    """Name the columns of a header as Spark does: all of them, and no two alike."""
    fields = ["\n".join(name.splitlines()) for name in fields]
    lower = Counter(name.lower() for name in fields)
    names = [
        f"_c{k}" if not name else f"{name}{k}" if lower[name.lower()] > 1 else name
        for k, name in enumerate(fields)
    ]
    return [f"{name}_in_file" if name == "_corrupt_record" else name for name in names]
