"""How a source of ratings is to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from als_spark.errors import ConfigError
from als_spark.files.places import TABLE, table_name
from als_spark.types import Format, Quoting, Side

ROLES = ("user", "item", "rating", "timestamp")
NULL_WORDS = (r"\N", "NULL", "null", "NaN", "nan", "None", "NA", "N/A", "n/a", "<NA>", "#N/A")
"""What other programs write where nothing is."""
LARGEST_SECONDS = 2.0**63
"""Of a timestamp, in size."""
FIRST_MILLISECONDS = 1e11
"""In size: from here on, times in seconds would be in the year 5138, in milliseconds in 1973."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How to read one source of ratings.

    Attributes
    ----------
    path, table : str or None
        One of the two. A path ``table:NAME`` is that table.
    format : str
        Of the files.
    columns : mapping
        Role ("user", "item", "rating", "timestamp") to column name, where given.
    need_timestamp : bool
        Whether a source without timestamps will not do.
    need_rating : bool
        Whether ratings are read. Without them only the two ids are looked for.
    format_option : bool
        Whether the job's ``--format`` is that of this source, for messages.
    encoding : str
        Of text files: UTF-8, UTF-16, or any encoding of one byte a character.
    quoting : {"auto", "none"}
        Whether ``"`` may enclose a field of a text file, or is a character as any other.
    null_words : sequence of str
        Text that stands for a missing value, besides blanks: exactly so, in any column of text.
    features_of : {"user", "item"}, optional
        The source has features of this side: one column of ids, which may have another name than
        that of ``columns``, and no ratings.
    """

    path: str | None = None
    table: str | None = None
    format: Format = "auto"
    columns: Mapping[str, str | None] = field(default_factory=dict)
    need_timestamp: bool = False
    need_rating: bool = True
    format_option: bool = True
    encoding: str = "utf-8"
    quoting: Quoting = "auto"
    null_words: Sequence[str] = NULL_WORDS
    features_of: Side | None = None

    def __post_init__(self) -> None:
        """Take a path ``table:NAME`` for the table."""
        name = None if self.path is None else table_name(self.path)
        if name is None:
            return
        if not name.strip():
            raise ConfigError(f"{self.path}: names no table: write {TABLE}NAME")
        object.__setattr__(self, "path", None)
        object.__setattr__(self, "table", name)

    @property
    def roles(self) -> Sequence[str]:
        """What columns are looked for."""
        if self.features_of is not None:
            return (self.features_of,)
        return ROLES if self.need_rating else ROLES[:2]

    @property
    def label(self) -> str:
        """Name the source, for messages."""
        return self.path if self.path is not None else f"table {self.table}"
