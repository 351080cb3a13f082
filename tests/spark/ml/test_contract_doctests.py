"""The examples in the documentation of PySpark's ALS, with only the import swapped.

Their text is that of the installed PySpark. What an example prints is compared as it stands.
Where scores differ, since the start is ours, the scores of rated pairs, which any start comes near
to, are compared with a tolerance; those of pairs that nobody has rated are left out, and counted.
"""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pyspark.ml.recommendation as mllib
import pytest
from pyspark.sql import SparkSession

from als_spark import ALS, ALSModel

RATINGS = (4.0, 2.0, 3.0, 1.0, 5.0)
"""Those of the examples."""
TOLERANCE = 0.15
RECOMMENDED = re.compile(r"Row\((?:user|item)=\[([\d, ]+)\], rating=\[([^\]]+)\]\)")
PREDICTED = re.compile(r"Row\(user=(\d), item=(\d), newPrediction=(\S+)\)")


class Checker(doctest.OutputChecker):
    """Accepts other scores of unrated pairs, and counts what it has seen."""

    def __init__(self) -> None:
        self.as_printed = self.compared = self.left_out = 0

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if super().check_output(want, got, optionflags):
            self.as_printed += 1
            return True
        wanted, found = scores(want), scores(got)
        rated = [k for k, score in wanted.items() if is_near(score, *RATINGS)]
        self.compared += len(rated)
        self.left_out += len(wanted) - len(rated)
        same = wanted.keys() == found.keys() and all(is_near(wanted[k], found[k]) for k in rated)
        return bool(wanted) and same


def scores(text: str) -> dict[str, float]:
    """Scores of what is predicted or recommended, by id; none if it is something else."""
    if found := RECOMMENDED.search(text):
        ids, numbers = (words.split(", ") for words in found.groups())
        return {k: number(word) for k, word in zip(ids, numbers, strict=True)}
    if found := PREDICTED.search(text):
        return {f"{found[1]}, {found[2]}": number(found[3])}
    return {}


def number(text: str) -> float:
    return float(text.removesuffix("..."))


def is_near(value: float, *others: float) -> bool:
    return any(abs(value - other) < TOLERANCE for other in others)


@pytest.mark.slow
@pytest.mark.parametrize("named", [mllib.ALS, mllib.ALSModel])
def test_the_examples_of_pyspark(spark: SparkSession, tmp_path: Path, named: type) -> None:
    names = {"spark": spark, "temp_path": str(tmp_path), "ALS": ALS, "ALSModel": ALSModel}
    examples = doctest.DocTestParser().get_doctest(
        named.__doc__ or "", names, named.__name__, None, None
    )
    checker, told = Checker(), []
    runner = doctest.DocTestRunner(checker, verbose=False, optionflags=doctest.ELLIPSIS)
    result = runner.run(examples, out=told.append)
    assert result.failed == 0, "".join(told)
    assert result.attempted == len(examples.examples) == (41 if named is mllib.ALS else 0)
    # Of seven that print scores, three are predictions for pairs that nobody has rated.
    seen = checker.as_printed, checker.compared, checker.left_out
    assert seen == ((34, 7, 8) if named is mllib.ALS else (0, 0, 0))


def test_what_differs_is_found() -> None:
    checker = Checker()
    want = "[Row(item=[0, 1, 2], rating=[3.910..., 1.997..., 0.692...])]\n"
    for got, same in (
        ("[Row(item=[0, 2, 1], rating=[3.87, 3.02, 1.99])]\n", True),
        ("[Row(item=[0, 1, 2], rating=[3.87, 2.5, 0.69])]\n", False),
        ("[Row(item=[0, 1, 3], rating=[3.87, 1.99, 0.69])]\n", False),
        ("[Row(item=[0, 1], rating=[3.87, 1.99])]\n", False),
        ("41\n", False),
    ):
        assert checker.check_output(want, got, doctest.ELLIPSIS) == same
    assert not checker.check_output("10\n", "11\n", doctest.ELLIPSIS)
