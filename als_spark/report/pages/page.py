"""A report as one HTML file that needs nothing else: no script, no font, no file, no network.

The pages are plain enough to be sent by mail and kept for years. Every text that comes in is
escaped, whatever it holds: labels and messages may come from files that others have written. Equal
input gives an equal page: a page has no time of its own.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from als_spark.report.format import Tone, show

__all__ = ["Page", "Section"]

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1f2328; --faint: #59636e;
  --line: #d1d9e0; --shade: #f6f8fa; --link: #0969da;
  --good: #1a7f37; --good-shade: #dafbe1; --neutral: #57606a; --neutral-shade: #eaeef2;
  --bad: #b3261e; --bad-shade: #ffebe9; --warn: #9a6700; --warn-shade: #fff8c5; }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --ink: #e6edf3; --faint: #9198a1;
  --line: #3d444d; --shade: #151b23; --link: #58a6ff;
  --good: #3fb950; --good-shade: #12261e; --neutral: #9198a1; --neutral-shade: #21262d;
  --bad: #ff7b72; --bad-shade: #2d1517; --warn: #d29922; --warn-shade: #272115; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
a { color: var(--link); }
.subtitle { color: var(--faint); margin: 0 0 1rem; }
.outcome { display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: baseline;
  padding: .75rem 1rem; border-left: 5px solid; border-radius: 4px; }
.outcome strong { text-transform: uppercase; letter-spacing: .04em; font-size: .85rem; }
.outcome span { color: var(--ink); }
.outcome.good { color: var(--good); background: var(--good-shade); }
.outcome.neutral { color: var(--neutral); background: var(--neutral-shade); }
.outcome.bad { color: var(--bad); background: var(--bad-shade); }
nav ol { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; margin: 1rem 0 0;
  padding: 0; font-size: .95rem; }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .95rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding-bottom: .3rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem;
  border-bottom: 1px solid var(--line); }
thead th { background: var(--shade); border-bottom: 2px solid var(--line); white-space: nowrap; }
.facts th { color: var(--faint); font-weight: normal; padding-left: 0; width: 13rem; }
.right { text-align: right; white-space: nowrap; }
tr.good td { background: var(--good-shade); font-weight: 600; }
tr.neutral td { background: var(--neutral-shade); font-weight: 600; }
tr.bad td { background: var(--bad-shade); font-weight: 600; }
ul.warnings { list-style: none; margin: .75rem 0; padding: 0; }
ul.warnings li { margin: .4rem 0; padding: .5rem .9rem; border-left: 4px solid var(--warn);
  background: var(--warn-shade); border-radius: 4px; }
figure { margin: 1.25rem 0; }
figure img { display: block; max-width: 100%; height: auto; background: #ffffff;
  border: 1px solid var(--line); border-radius: 4px; }
figcaption { color: var(--faint); font-size: .95rem; margin-top: .4rem; }
details { margin: .75rem 0; border: 1px solid var(--line); border-radius: 4px; }
summary { cursor: pointer; padding: .4rem .8rem; background: var(--shade); }
pre { margin: 0; padding: .6rem .8rem; overflow-x: auto; font: .85rem/1.45 ui-monospace, Menlo,
  Consolas, monospace; }
@media (max-width: 36rem) { body { padding: 1rem .75rem 3rem; } .facts th { width: 40%; }
  th, td { padding: .3rem .5rem; } }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt; } nav { display: none; }
  .wide { overflow: visible; } figure, tr, .outcome, li { break-inside: avoid; }
  h2, h3 { break-after: avoid; } .outcome, tr td, thead th { print-color-adjust: exact; } }
""".strip()

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

# What no HTML file may hold, and what UTF-8 cannot write.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Section:
    """A part of a page, filled from top to bottom; a :class:`Page` makes it."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        return bool(self._parts)

    def heading(self, text: str) -> None:
        """Add a heading within the section."""
        self._parts.append(f"<h3>{_text(text)}</h3>")

    def paragraph(self, text: str) -> None:
        """Add running text."""
        self._parts.append(f"<p>{_text(text)}</p>")

    def facts(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Add names and their values, a row each; of no pairs, nothing."""
        rows = [
            f'<tr><th scope="row">{_text(name)}</th><td>{_text(show(value))}</td></tr>'
            for name, value in pairs
        ]
        if rows:
            self._wide(['<table class="facts"><tbody>', *rows, "</tbody></table>"])

    def table(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        right: Container[int] = (),
        marked: Mapping[int, Tone] | None = None,
        caption: str = "",
    ) -> None:
        """Add a table; of no rows, nothing.

        Parameters
        ----------
        headers : sequence of str
            The columns' names.
        rows : sequence of sequences
            Cells, as many in each row as there are headers; what is no text yet is written by
            :func:`als_spark.report.format.show`.
        right : container of int
            Positions of the columns that are aligned on their right: numbers.
        marked : mapping of int to Tone, optional
            Positions of rows to highlight. Colour must not be their only sign: say it in a cell
            too.
        caption : str
            What the table shows.

        Raises
        ------
        ValueError
            If a row has not as many cells as there are headers.
        """
        if not rows:
            return
        classes = [' class="right"' if place in right else "" for place in range(len(headers))]
        lines = ["<table>"]
        if caption:
            lines.append(f"<caption>{_text(caption)}</caption>")
        pairs = zip(classes, headers, strict=True)
        names = [f'<th scope="col"{kind}>{_text(name)}</th>' for kind, name in pairs]
        lines.append(f"<thead><tr>{''.join(names)}</tr></thead><tbody>")
        for place, row in enumerate(rows):
            tone = (marked or {}).get(place)
            row_class = f' class="{tone}"' if tone else ""
            cells = [
                f"<td{kind}>{_text(show(cell))}</td>"
                for kind, cell in zip(classes, row, strict=True)
            ]
            lines.append(f"<tr{row_class}>{''.join(cells)}</tr>")
        self._wide([*lines, "</tbody></table>"])

    def warnings(self, lines: Iterable[str]) -> None:
        """Add a list of warnings; of none, nothing."""
        items = [f"<li>{_text(line)}</li>" for line in lines]
        if items:
            self._parts.append("\n".join(['<ul class="warnings">', *items, "</ul>"]))

    def picture(self, png: bytes | Path, alt: str, caption: str = "") -> None:
        """Add a PNG picture, which becomes part of the page.

        Parameters
        ----------
        png : bytes or Path
            The picture, or the file it is read from.
        alt : str
            What it shows, for those who cannot see it.
        caption : str
            What stands under it.
        """
        content = png.read_bytes() if isinstance(png, Path) else png
        data = base64.b64encode(content).decode("ascii")
        lines = ["<figure>", f'<img alt="{_text(alt)}" src="data:image/png;base64,{data}">']
        if caption:
            lines.append(f"<figcaption>{_text(caption)}</figcaption>")
        self._parts.append("\n".join([*lines, "</figure>"]))

    def json(self, summary: str, value: Any) -> None:
        """Add a JSON value that unfolds on a click."""
        written = json.dumps(value, indent=2, ensure_ascii=False, default=str)
        self._parts.append(
            f"<details>\n<summary>{_text(summary)}</summary>\n<pre>{_text(written)}</pre>\n"
            "</details>"
        )

    def html(self) -> str:
        """Return everything so far as HTML."""
        return "\n".join(self._parts)

    def _wide(self, lines: Sequence[str]) -> None:
        """Let a table that is wider than the screen scroll by itself."""
        self._parts.append("\n".join(['<div class="wide">', *lines, "</div>"]))


class Page:
    """A report in the making.

    Parameters
    ----------
    title : str
        What the report is about.
    outcome : str
        How the run ended, in one or two words: the badge.
    tone : {"good", "neutral", "bad"}
        Its colour.
    sentence : str
        What happened, beside the badge.
    subtitle : str
        A line under the title: which run, when.
    """

    def __init__(
        self, title: str, outcome: str, tone: Tone, sentence: str, *, subtitle: str = ""
    ) -> None:
        self._title = title
        self._outcome = outcome
        self._tone = tone
        self._sentence = sentence
        self._subtitle = subtitle
        self._sections: list[tuple[str, Section]] = []

    def section(self, heading: str) -> Section:
        """Begin a section below those there are; one that stays empty is left out."""
        section = Section()
        self._sections.append((heading, section))
        return section

    def html(self) -> str:
        """Return the page, one self-contained HTML file."""
        filled = [(name, section) for name, section in self._sections if section]
        lines = [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # Should an escape ever be forgotten, a browser still runs and loads nothing.
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>{_text(self._title)}</title>",
            f"<style>\n{_STYLE}\n</style>",
            "</head>",
            "<body>",
            "<header>",
            f"<h1>{_text(self._title)}</h1>",
        ]
        if self._subtitle:
            lines.append(f'<p class="subtitle">{_text(self._subtitle)}</p>')
        lines.append(
            f'<div class="outcome {self._tone}"><strong>{_text(self._outcome)}</strong> '
            f"<span>{_text(self._sentence)}</span></div>"
        )
        if len(filled) > 1:
            lines += ['<nav aria-label="Contents">', "<ol>"]
            lines += [
                f'<li><a href="#section-{place}">{_text(name)}</a></li>'
                for place, (name, _) in enumerate(filled, 1)
            ]
            lines += ["</ol>", "</nav>"]
        lines += ["</header>", "<main>"]
        for place, (name, section) in enumerate(filled, 1):
            lines += [f'<section id="section-{place}">', f"<h2>{_text(name)}</h2>"]
            lines += [section.html(), "</section>"]
        return "\n".join([*lines, "</main>", "</body>", "</html>", ""])


def _text(value: str) -> str:
    """Escape a text for HTML, also within quotation marks."""
    return html.escape(_UNPRINTABLE.sub("\ufffd", value), quote=True)
