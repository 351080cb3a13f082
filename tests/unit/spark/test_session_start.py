"""A session whose first start meets Spark's own race."""

from __future__ import annotations

from typing import Any

import pytest
from py4j.protocol import Py4JJavaError

from als_spark.spark.session import _get_or_create


class JavaError(Py4JJavaError):
    """An exception of the JVM, without one."""

    def __init__(self, words: str) -> None:
        Exception.__init__(self, words)
        self.words = words

    def __str__(self) -> str:
        return self.words


class Builder:
    """Fails as often as it has errors, then starts."""

    def __init__(self, *errors: str) -> None:
        self.errors = list(errors)

    def getOrCreate(self) -> Any:
        if self.errors:
            raise JavaError(self.errors.pop(0))
        return "session"


RACE = "An error occurred\n: java.util.ConcurrentModificationException\n\tat java.util.ArrayList"


def test_the_race_of_the_web_page_is_met_by_a_second_start() -> None:
    assert _get_or_create(Builder()) == "session"
    assert _get_or_create(Builder(RACE)) == "session"


@pytest.mark.parametrize("errors", [[RACE, RACE], ["java.net.BindException: in use"]])
def test_other_failures_and_a_second_one_are_raised(errors: list[str]) -> None:
    with pytest.raises(Py4JJavaError, match=r"java\."):
        _get_or_create(Builder(*errors))
