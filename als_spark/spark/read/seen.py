"""Pairs of user and item that are not to be recommended: those that somebody has seen."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.spark.read.sources import Source, unreadable_files_are_named
from als_spark.spark.read.validation import SHOWN_PROBLEMS, problem_kinds, problem_text, typed_pairs
from als_spark.spark.session import described


@dataclass(frozen=True, slots=True)
class SeenPairs:
    """The pairs of a source.

    Attributes
    ----------
    pairs : DataFrame
        ``user`` and ``item`` (bigint or string) of each usable row; read whenever it is used.
    label : str
        Names the source.
    n_pairs, n_bad : int
        Rows with two usable ids, and the others.
    problems : list of str
        What is wrong with these, with an example of each kind.
    """

    pairs: DataFrame
    label: str
    n_pairs: int
    n_bad: int
    problems: list[str]


def read_seen(session: SparkSession, source: Source) -> SeenPairs:
    """Count the pairs of a source and look at its unusable rows, in one pass.

    Parameters
    ----------
    session : SparkSession
    source : Source
        It needs no ratings, and what stands where they are makes no difference.

    Raises
    ------
    DataError
        If it has no usable pair, or cannot be read.
    """
    typed = typed_pairs(source)
    with (
        unreadable_files_are_named(source.label),
        described(session.sparkContext, f"counting the pairs in {source.label}"),
    ):
        kinds = problem_kinds(typed).collect()
    bad = [row for row in kinds if row.problem is not None]
    problems = [problem_text(row.problem, row.n, row.example) for row in bad[:SHOWN_PROBLEMS]]
    n_bad = sum(row.n for row in bad)
    n_pairs = sum(row.n for row in kinds) - n_bad
    if n_pairs == 0:
        raise DataError(
            f"{source.label}: no usable pairs of a user and an item: "
            f"{'; '.join(problems) or 'it is empty'}: check the file, --user-col and --item-col"
        )
    pairs = typed.where(F.col("problem").isNull()).select("user", "item")
    return SeenPairs(pairs, source.label, n_pairs, n_bad, problems)


def without_pairs(pairs: DataFrame, others: DataFrame) -> DataFrame:
    """Leave pairs out that are among others, ids compared as text."""
    held = others.select(*(F.col(name).cast("string").alias(f"_{name}") for name in _IDS))
    same = [F.col(name).cast("string") == F.col(f"_{name}") for name in _IDS]
    return pairs.join(held, same, "left_anti")


_IDS = ("user", "item")
