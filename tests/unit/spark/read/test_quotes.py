"""Quotes of a file, followed line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from als_spark.spark.read.quotes import _CHUNK_BYTES, QuoteWalk, has_odd_line


def walked(text: str, separator: str = ",") -> QuoteWalk:
    walk = QuoteWalk(separator)
    for number, line in enumerate(text.split("\n"), 1):
        if '"' in line:
            walk.take(number, line)
    return walk


@pytest.mark.parametrize(
    ("text", "separator", "spans", "open_line"),
    [
        ('1,"a",2\n"b","c"', ",", False, None),
        ('1,"a ""x"" b",2', ",", False, None),
        ('"""a""",1', ",", False, None),
        ('1,5" disk\n2,6" disk', ",", False, None),
        ('1,"x" or y\n', ",", False, None),
        ('1,"a\nb"\n2,c', ",", True, None),
        ('1,"a\n\nb" ,"c\nd"', ",", True, None),
        ('1, "a\n""b""\n"', ",", True, None),
        ('1::"a\nb"::2', "::", True, None),
        ('1,a\n2,"b\n3,c', ",", False, 2),
        ('1,"a\n2,"b"\n3,c', ",", True, 1),
        ('1,"a\nb"\n2,"c\n3,"d', ",", True, 3),
        ('1\t"a\n2\t"b"', "\t", True, 1),
    ],
)
def test_which_fields_go_on_and_which_quotes_stay_open(
    text: str, separator: str, spans: bool, open_line: int | None
) -> None:
    walk = walked(text, separator)
    assert (walk.spans, walk.open_line) == (spans, open_line)


@pytest.mark.parametrize(
    ("content", "odd"),
    [
        (b"", False),
        (b"1,2,3\n", False),
        (b'"1","2",3\r\n"4","5",6', False),
        (b'1,"a\nb"\n', True),
        (b'"1","2",3\r"4,5,6\r', True),
        (b'"1","2",3\n' * (_CHUNK_BYTES // 5), False),
        (b'"1","2",3\n' * (_CHUNK_BYTES // 5) + b'4,5,"6', True),
    ],
    ids=["empty", "none", "even", "odd", "odd of \\r", "even over chunks", "odd at the end"],
)
def test_lines_with_an_odd_number_of_quotes(content: bytes, odd: bool, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert has_odd_line(tmp_path / "a.csv") is odd
