"""Which ratings a model has not been trained on: what challenger and champion are compared on."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from als_spark.errors import DataError
from als_spark.model.large_model import AnyModel
from als_spark.spark.read.split import TEST, SplitOptions, split_ratings
from als_spark.types import SplitStrategy


class HoldoutRule(NamedTuple):
    """What decides which ratings a training holds out."""

    split: SplitStrategy
    test_fraction: float
    seed: int

    @staticmethod
    def of_model(model: AnyModel) -> HoldoutRule | None:
        """Return the rule that a model was trained under; None if it does not say."""
        try:
            return _ADAPTER.validate_python(model.description.get("holdout"), strict=True)
        except ValidationError:
            return None

    def as_record(self) -> dict[str, Any]:
        """Return what a model's description has of it."""
        return self._asdict()

    def __str__(self) -> str:
        """Write the parameters that say so."""
        seed = f" `seed={self.seed}`" if self.split == "random" else ""
        return f'`split="{self.split}"` `test_fraction={self.test_fraction:g}`{seed}'

    def covers(self, other: HoldoutRule) -> bool:
        """Tell whether all that another rule holds out is held out by this one.

        The random split of a seed holds out more with a larger fraction, and the same besides. By
        time, later ratings are held out as time goes on, so that what was trained on is never
        among them.
        """
        same = self.split == other.split and (self.split == "time" or self.seed == other.seed)
        return same and self.test_fraction >= other.test_fraction


_ADAPTER = TypeAdapter(HoldoutRule)


def unseen_by_both(champion: AnyModel, name: str, rule: HoldoutRule) -> HoldoutRule | None:
    """Say what has to be held out besides a run's own rule, for a fair comparison.

    That is the champion's rule, where it was trained on ratings that the run holds out.

    Raises
    ------
    DataError
        If there is nothing that neither was trained on.
    """
    theirs = HoldoutRule.of_model(champion)
    if theirs is not None and theirs.covers(rule):
        return None
    if theirs is not None and theirs.split == rule.split == "random" and theirs.test_fraction > 0:
        return theirs
    trained = "its description does not say how" if theirs is None else f"with {theirs}"
    raise DataError(
        f"version {name} was trained on ratings that {rule} holds out ({trained}), so it cannot be "
        "compared with a challenger: set these options back, or publish a new first model with "
        "jobs/train.py"
    )


def held_out(ratings: DataFrame, besides: HoldoutRule | None) -> DataFrame:
    """Return the held-out ratings of a split, those only that another rule holds out too."""
    ours = ratings.where(F.col("split") == TEST).drop("split")
    if besides is None:
        return ours
    options = SplitOptions("random", besides.seed, besides.test_fraction)
    return split_ratings(ours, options).where(F.col("split") == TEST).drop("split")
