"""The page of what is read has the tables that the code and the tests give."""

from __future__ import annotations

from als_spark.spark.read.ids import NULL_WORDS
from tests.spark.read.page import PAGE, with_tables


def test_the_tables_are_those_of_today() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == with_tables(text), "run python -m tests.spark.read.page"


def test_all_null_words_are_named() -> None:
    text = PAGE.read_text(encoding="utf-8").partition("- **Null words**")[2].partition("\n- **")[0]
    assert [word for word in NULL_WORDS if f"`{word}`" not in text] == []
