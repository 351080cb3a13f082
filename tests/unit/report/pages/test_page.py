"""The builder of report pages, read back from the HTML it writes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from jinja2 import ChoiceLoader, DictLoader, UndefinedError

from als_spark.report.format import (
    duration,
    format_time,
    number,
    parse_time,
    percent,
    show,
)
from als_spark.report.pages.evaluate import evaluate_page
from als_spark.report.pages.page import Picture, Table, render, template_environment
from tests.conftest import ROOT
from tests.pages import (
    facts,
    headings,
    pictures,
    read_page,
    rows_of,
    section_of,
    tables,
    warnings_of,
)

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</pre></details></section><h1>",
    "</title><style>*{display:none}",
    "&lt;b&gt; &amp;amp; &#60;",
    "<!-- never closed",
    "]]> <![CDATA[ ü λ 日本",
]
PNG = b"\x89PNG\r\n\x1a\n not quite"


ALL_PARTS = """
{% extends "base.html.jinja" %}
{% from "macros.html.jinja" import facts, json, pictures, table, warnings %}
{% set parts %}
<p>{{ text }}</p>
{{ facts([(text, text)]) -}}
{{ table(cells) -}}
{{ warnings([text]) -}}
{{ pictures(drawn) -}}
{{ json(text, {text: [text]}) -}}
{% endset %}
{% set title = text %}
{% set sections = [(text, parts), ("more", text)] %}
""".lstrip()


def render_source(source: str, **view: Any) -> str:
    """A page of a template that is written here."""
    run = {"subtitle": "", "times": Table((), ()), "versions": [], "config": {}}
    badge = {"title": "title", "outcome": "done", "tone": "good", "sentence": "all is well"}
    environment = template_environment()
    assert environment.loader is not None
    loader = ChoiceLoader([DictLoader({"of the test": source}), environment.loader])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "loader", loader)
        return render("of the test", **{**run, **badge, **view})


def page_of(sections: str, **view: Any) -> str:
    """A page of such sections, written as in a template."""
    macros = '{% from "macros.html.jinja" import facts, json, pictures, table, warnings %}'
    source = f'{{% extends "base.html.jinja" %}}{macros}{{% set sections = {sections} %}}'
    return render_source(source, **view)


def full_page(text: str = "plain", content: bytes = PNG) -> str:
    """A page in which one text stands everywhere."""
    return render_source(
        ALL_PARTS,
        text=text,
        subtitle=text,
        outcome=text,
        sentence=text,
        cells=Table([text, "n"], [[text, 1]], caption=text, right={1}, marked={0: "good"}),
        drawn=[Picture(content, text, text)],
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_every_text_is_read_back_as_it_was_given(text: str) -> None:
    root = read_page(full_page(text))
    section = section_of(root, text)
    assert root.one("title").text == root.one("h1").text == text
    assert [e.text for e in root.all("p")] == [text] * 2
    assert root.one("header").one("strong").text == text
    assert root.one("header").one("span").text == text
    assert [e.text for e in root.one("nav").all("a")] == [text, "more"]
    assert section.one("h2").text == section.one("caption").text == text
    assert facts(root) == {text: text}
    assert rows_of(tables(root)[0]) == [[text, "n"], [text, "1"]]
    assert warnings_of(root) == [text]
    assert pictures(root) == [(text, PNG)]
    assert section.one("figcaption").text == section.one("summary").text == text
    assert json.loads(section.one("pre").text) == {text: [text]}


def test_characters_that_a_file_cannot_hold_are_replaced() -> None:
    text = read_page(full_page("a\x00b\x1b[31mc\ud800d\x85")).one("h1").text
    assert text == "a\ufffdb\ufffd[31mc\ufffdd\ufffd"


def test_line_breaks_and_tabs_stay() -> None:
    assert read_page(full_page("a\n\tb")).one("h1").text == "a\n\tb"


@pytest.mark.parametrize("tone", ["good", "neutral", "bad"])
def test_the_badge_has_its_colour_and_its_word(tone: Any) -> None:
    view = {"outcome": "kept", "tone": tone, "sentence": "The champion stays."}
    root = read_page(page_of("[]", **view))
    (badge,) = [e for e in root.all("div") if e.kind.startswith("outcome")]
    assert badge.kind == f"outcome {tone}"
    assert badge.text == "kept The champion stays."
    assert f".outcome.{tone} " in root.one("style").text
    assert headings(root) == []
    assert not root.all("nav")
    assert not root.all("p")


def test_sections_keep_their_order_and_the_contents_lead_to_them() -> None:
    sections = """[
        ("b", "bbb"), ("a", "aaa"), ("empty", facts([])), ("c", warnings(["ccc"])),
    ]"""
    root = read_page(page_of(sections))
    assert headings(root) == ["b", "a", "c"]
    links = {a.text: a.attributes["href"] for a in root.one("nav").all("a")}
    for section in root.all("section"):
        name = section.one("h2").text
        assert links[name] == f"#{section.attributes['id']}"
        assert name * 3 in section.text


def test_what_holds_nothing_leaves_no_trace() -> None:
    empty = "facts([]) ~ table(no_rows) ~ warnings([]) ~ pictures([]) ~ json('summary', {})"
    root = read_page(page_of(f"[('empty', {empty})]", no_rows=Table(["a"], [])))
    assert headings(root) == []
    assert not root.all("nav")


def test_a_name_that_the_view_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'nothing' is undefined"):
        page_of("[('a', nothing)]")


def test_numbers_are_on_the_right_and_one_row_is_marked() -> None:
    rows = [["a", 1234], ["b", None], ["c", 0.12345]]
    contents = Table(["name", "count"], rows, right={1}, marked={2: "bad"})
    (table,) = tables(read_page(page_of("[('s', table(contents))]", contents=contents)))
    assert rows_of(table) == [["name", "count"], ["a", "1,234"], ["b", "–"], ["c", "0.1235"]]
    assert [row.kind for row in table.all("tr")] == ["", "", "", "bad"]
    for row in table.all("tr"):
        cells = [*row.all("th"), *row.all("td")]
        assert [cell.kind for cell in cells] == ["", "right"]
    assert not table.all("caption")


@pytest.mark.parametrize("row", [[], [1], [1, 2, 3]])
def test_a_ragged_table_is_an_error(row: list[int]) -> None:
    with pytest.raises(ValueError, match=f"a row of {len(row)} cells under 2 headers"):
        Table(["a", "b"], [[1, 2], row])


def test_pictures_are_part_of_the_page() -> None:
    assert pictures(read_page(full_page(content=PNG * 1000))) == [("plain", PNG * 1000)]
    root = read_page(page_of("[('s', pictures([alone]))]", alone=Picture(PNG, "alone")))
    assert pictures(root) == [("alone", PNG)]
    assert not root.all("figcaption")


def test_json_unfolds_and_takes_what_json_lacks() -> None:
    value = {"ü": math.inf, "path": Path("a/b")}
    folded = read_page(page_of("[('s', json('configuration', value))]", value=value)).one("details")
    assert "open" not in folded.attributes
    assert folded.one("pre").text == '{\n  "ü": Infinity,\n  "path": "a/b"\n}'


def test_the_templates_are_found_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        for path in (ROOT / "als_spark").rglob("*"):
            archive.write(path, path.relative_to(ROOT))
    code = "from als_spark.report.pages import evaluate; print(evaluate.evaluate_page({}), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "code.zip"), "PYTHONIOENCODING": "utf-8"},
    )
    assert done.stdout == evaluate_page({})


def test_equal_input_gives_an_equal_page_for_phone_print_and_the_dark() -> None:
    page = full_page()
    assert page == full_page()
    root = read_page(page)
    metas = [meta.attributes for meta in root.all("meta")]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    (policy,) = [m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    style = root.one("style").text
    assert style.count("{") == style.count("}")
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style


# -------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),
        ("", "–"),
        ([], "–"),
        ({}, "–"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (1234567, "1,234,567"),
        (0.05, "0.05"),
        (1234.5678, "1235"),
        (0.0, "0"),
        (math.nan, "–"),
        (-math.inf, "–"),
        ("text", "text"),
        ([1, 2.5, None], "1, 2.5, –"),
        (("a", "b"), "a, b"),
        ({"train": 1000, "test": {"n": 2}}, "train: 1,000, test: n: 2"),
        (Path("a/b"), '"a/b"'),
    ],
)
def test_values_are_written_for_a_person(value: Any, written: str) -> None:
    assert show(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.87654, "0.8765"),
        (9.99994, "9.9999"),
        (12.345, "12.35"),
        (54321.0, "5.4e+04"),
        (0.0, "0.0000"),
        (-0.00123, "-0.0012"),
        (None, "none"),
        (math.nan, "none"),
        (math.inf, "none"),
    ],
)
def test_errors_have_four_decimals(value: float | None, written: str) -> None:
    assert number(value, "none") == written


def test_percentages() -> None:
    assert [percent(v) for v in (0.1234, 1.0, None, math.nan)] == ["12.3 %", "100.0 %", "–", "–"]


def test_durations() -> None:
    assert [duration(s) for s in (0, 3.21, 59.94, 59.96, 3599.4, 3725)] == [
        "0.0 s",
        "3.2 s",
        "59.9 s",
        "1 min 00 s",
        "59 min 59 s",
        "1 h 02 min",
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-03-01T02:00:07+00:00", "2026-03-01 02:00:07 UTC"),
        ("2026-03-01T02:00:07Z", "2026-03-01 02:00:07 UTC"),
        ("2026-03-01T02:00:07.123456", "2026-03-01 02:00:07 UTC"),
        ("2026-03-01T00:30:00+02:00", "2026-02-28 22:30:00 UTC"),
        ("yesterday", "yesterday"),
        (None, "–"),
        (7, "7"),
    ],
)
def test_times_are_told_in_utc(text: Any, written: str) -> None:
    assert format_time(text) == written
    assert (parse_time(text) is None) == (not written.endswith("UTC"))
