"""The backend of a single process: all blocks in memory, no Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from als_spark.solve.blocks import RatingBlock
from als_spark.train.backend import (
    AnyFactors,
    AnyHalfStep,
    FactorPair,
    Solved,
    Start,
    as_array,
)
from als_spark.train.metrics import ErrorSums, EvaluationPart, sum_counts
from als_spark.train.ranking import LocalRankings
from als_spark.train.records import RankingMeans
from als_spark.train.start import start_array
from als_spark.types import SIDES, IntArray, Side, SplitName


class LocalBackend:
    """Ratings held by this process.

    Parameters
    ----------
    user_block, item_block : RatingBlock
        All training ratings, by user and by item.
    evaluation : sequence of EvaluationPart
        Held-out ratings; a split may have several parts.
    ranking : LocalRankings, optional
        What rankings are measured by.

    Attributes
    ----------
    n_users, n_items : int
        Rows of the two sides, those without training ratings counted.
    blocks : dict of side to RatingBlock
    evaluation : sequence of EvaluationPart
    """

    def __init__(
        self,
        user_block: RatingBlock,
        item_block: RatingBlock,
        evaluation: Sequence[EvaluationPart] = (),
        ranking: LocalRankings | None = None,
    ) -> None:
        self.n_users, self.n_items = item_block.n_columns, user_block.n_columns
        self.blocks: dict[Side, RatingBlock] = {"user": user_block, "item": item_block}
        self._degrees: dict[tuple[Side, bool], IntArray] = {}
        for side, n_rows in zip(SIDES, (self.n_users, self.n_items), strict=True):
            block = self.blocks[side]
            for positive, counts in ((False, block.degrees), (True, block.positives())):
                self._degrees[side, positive] = sum_counts(n_rows, [(block.rows, counts)])
        self.evaluation = evaluation
        self.ranking = ranking

    def __repr__(self) -> str:
        """Say how many ratings it holds."""
        n_ratings, sizes = self.blocks["user"].n_ratings, f"{self.n_users:,} users"
        return f"<LocalBackend: {n_ratings:,} ratings of {sizes} and {self.n_items:,} items>"

    def degrees(self, side: Side, *, positive: bool = False) -> IntArray:
        """See :class:`als_spark.train.backend.Backend`."""
        return self._degrees[side, positive]

    def start(self, side: Side, starts: Sequence[Start]) -> Sequence[AnyFactors]:
        """See :class:`als_spark.train.backend.Backend`."""
        n_rows = self._degrees[side, False].size
        return [start_array(start, n_rows, side) for start in starts]

    def solve(self, side: Side, steps: Sequence[AnyHalfStep], label: str) -> list[Solved]:  # noqa: ARG002
        """See :class:`als_spark.train.backend.Backend`."""
        block = self.blocks[side]
        solved = []
        for step in steps:
            rows, loss = step.row_solver().solve(block, side=side)
            factors = as_array(step.current).copy()
            factors[block.rows] = rows
            solved.append(Solved(factors, loss))
        return solved

    def errors(
        self,
        models: Sequence[FactorPair],
        label: str,  # noqa: ARG002
    ) -> list[Mapping[SplitName, ErrorSums]]:
        """See :class:`als_spark.train.backend.Backend`."""
        parts = [EvaluationPart("train", self.blocks["user"]), *self.evaluation]
        return [
            ErrorSums.by_split((part.split, part.errors(*map(as_array, model))) for part in parts)
            for model in models
        ]

    def rankings(
        self,
        models: Sequence[FactorPair],
        label: str,  # noqa: ARG002
    ) -> list[Mapping[SplitName, RankingMeans]]:
        """See :class:`als_spark.train.backend.Backend`."""
        return [{} for _ in models] if self.ranking is None else self.ranking.measure(models)
