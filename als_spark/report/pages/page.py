"""Report pages: HTML files that need nothing else, no script, no font, no file, no network.

The templates beside this module escape every value that they show. Equal input gives an equal page:
a page has no time of its own.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from als_spark.report.format import Tone, show

__all__ = ["Picture", "Table", "render", "template_environment"]

# What no HTML file may hold, and what UTF-8 cannot write.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Table:
    """A table of a page; without rows it is left out.

    Attributes
    ----------
    headers : sequence of str
        The columns' names.
    rows : sequence of sequences
        Cells, as many in each row as there are headers; the template writes them by
        :func:`als_spark.report.format.show`.
    right : container of int
        Positions of the columns that are aligned on their right: numbers.
    marked : mapping of int to Tone
        Positions of rows to highlight. Colour must not be their only sign: say it in a cell too.
    caption : str
        What the table shows.

    Raises
    ------
    ValueError
        If a row has not as many cells as there are headers.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    right: Container[int] = ()
    marked: Mapping[int, Tone] = field(default_factory=dict)
    caption: str = ""

    def __post_init__(self) -> None:
        """Refuse a ragged table."""
        for row in self.rows:
            if len(row) != len(self.headers):
                raise ValueError(f"a row of {len(row)} cells under {len(self.headers)} headers")


@dataclass(frozen=True)
class Picture:
    """A PNG picture, what it shows for those who cannot see it, and what stands under it."""

    png: bytes
    alt: str
    caption: str = ""

    @property
    def uri(self) -> str:
        """The picture as an address that holds it."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


@cache
def template_environment() -> Environment:
    """Return the environment of the templates: autoescape on, a missing name is an error."""
    environment = Environment(
        loader=PackageLoader("als_spark.report.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["show"] = show
    environment.filters["indented_json"] = _indented_json
    return environment


def render(template: str, **view: Any) -> str:
    """Render a page; characters that an HTML file cannot hold become U+FFFD."""
    page = template_environment().get_template(template).render(view)
    return _UNPRINTABLE.sub("\ufffd", page)


def _indented_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
