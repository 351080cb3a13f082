"""Report pages read back with a parser of HTML that knows nothing of how they were made."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser

import matplotlib
from PIL import ImageFont

PAGE_WIDTH = 69 * 16 - 2 * 16
"""Pixels of a page's text on screens from 1,104 pixels on: see ``body`` of style.css."""
VOID = {"meta", "img", "br", "hr"}


@dataclass
class Element:
    """An element with what is in it."""

    tag: str
    attributes: dict[str, str | None]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    def all(self, tag: str) -> list[Element]:
        found = []
        for child in self.children:
            if isinstance(child, Element):
                found += [child] if child.tag == tag else []
                found += child.all(tag)
        return found

    def one(self, tag: str) -> Element:
        (found,) = self.all(tag)
        return found

    @property
    def kind(self) -> str:
        return self.attributes.get("class") or ""


class Reader(HTMLParser):
    """Builds the tree, and insists that every element is closed where it should be."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice"
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert tag not in VOID
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raise AssertionError(f"<{tag}/> is XML")

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def read_page(text: str) -> Element:
    """Parse a page; it must be well-formed, run nothing, and need nothing but itself."""
    assert text.startswith("<!DOCTYPE html>\n")
    text.encode("utf-8")
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].tag}> is left open"
    root = reader.open[0].one("html")
    anchors = set()
    elements = every_element(root)
    for element in elements:
        assert element.tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        if "id" in element.attributes:
            assert element.attributes["id"] not in anchors
            anchors.add(element.attributes["id"])
    for element in elements:
        for name, value in element.attributes.items():
            assert not name.startswith("on"), f"<{element.tag} {name}>"
            assert name not in {"style", "srcset", "action", "data"}
            if name == "src":
                assert value is not None
                assert value.startswith("data:image/png;base64,")
            if name == "href":
                assert value is not None
                assert value.startswith("#")
                assert value[1:] in anchors
    for element in root.all("img"):
        assert element.attributes["alt"]
    (style,) = root.all("style")
    assert not re.search(r"url\(|@import|<", style.text)
    return root


def every_element(root: Element) -> list[Element]:
    below = [child for child in root.children if isinstance(child, Element)]
    return below + [deeper for child in below for deeper in every_element(child)]


def headings(root: Element) -> list[str]:
    return [element.text for element in root.all("h2")]


def section_of(root: Element, heading: str) -> Element:
    """The section of a heading."""
    (found,) = [s for s in root.all("section") if s.one("h2").text == heading]
    return found


def facts(root: Element) -> dict[str, str]:
    """All names and values of the tables of facts."""
    rows = [r for t in root.all("table") if t.kind == "facts" for r in t.all("tr")]
    return {row.one("th").text: row.one("td").text for row in rows}


def rows_of(table: Element) -> list[list[str]]:
    """The header and the cells of a table."""
    return [[cell.text for cell in [*r.all("th"), *r.all("td")]] for r in table.all("tr")]


def tables(root: Element) -> list[Element]:
    """All tables that are none of facts."""
    return [table for table in root.all("table") if table.kind != "facts"]


def pictures(root: Element) -> list[tuple[str, bytes]]:
    """Alternative texts and contents of the pictures."""
    return [
        (
            str(e.attributes["alt"]),
            base64.b64decode(str(e.attributes["src"]).split(",")[1], validate=True),
        )
        for e in root.all("img")
    ]


def warnings_of(root: Element) -> list[str]:
    return [item.text for e in root.all("ul") if e.kind == "warnings" for item in e.all("li")]


def least_width(table: Element) -> float:
    """Pixels below which a table scrolls, in a wide font: its longest words side by side.

    After style.css: 0.95 of 16 pixels, 0.5 of 16 pixels on both sides of a cell, or 0.8 and 0.25
    where there are many columns; no line breaks in numbers and in the first cell of a good row;
    headers and good rows bold.
    """
    widths: dict[int, float] = {}
    size, padding = (0.8, 0.25) if table.kind == "many" else (0.95, 0.5)
    for row in table.all("tr"):
        good = row.kind == "good"
        for place, cell in enumerate([*row.all("th"), *row.all("td")]):
            header = cell.tag == "th"
            whole = not header and (cell.kind == "right" or (good and place == 0))
            words = [cell.text] if whole else cell.text.split()
            width = max(
                (_font(good or header, size).getlength(word) / 10 for word in words), default=0
            )
            widths[place] = max(widths.get(place, 0), width + 2 * padding * 16)
    return sum(widths.values())


@cache
def _font(bold: bool, size: float) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}", size * 16 * 10)
