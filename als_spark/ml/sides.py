"""The factors of a model in all their forms, and their folders."""

from __future__ import annotations

from typing import Any, NamedTuple

from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession

from als_spark.ml.biases import Baseline, Unknown
from als_spark.ml.factors import (
    SideFactors,
    collect_factors,
    factors_frame,
    stats_frame,
    with_stats,
)
from als_spark.ml.moments import LearntPrior
from als_spark.solve.objective import Objective
from als_spark.types import SIDES, Side


class Parts(NamedTuple):
    """What a model of the estimator is made of."""

    users: SideFactors
    items: SideFactors
    objective: Objective | None = None
    """What they minimise; None where it is not known, as in MLlib's models."""
    baseline: Baseline = Baseline()
    """What a prediction has besides the product of latent factors."""


class Sides:
    """The factors of a model, shared by its copies."""

    def __init__(self, session: SparkSession, parts: Parts) -> None:
        self.session = session
        self.parts = parts
        self.sides: dict[Side, SideFactors] = {"user": parts.users, "item": parts.items}
        self.prior: LearntPrior | None = None
        """What is known besides of a model that has learnt its prior."""
        self._frames: dict[Side, DataFrame] = {}
        self._broadcasts: dict[Side, Broadcast[SideFactors]] = {}

    @property
    def rank(self) -> int:
        """Number of factors."""
        return int(self.parts.users.factors.shape[1]) - self.parts.baseline.columns

    @property
    def latent(self) -> dict[Side, SideFactors]:
        """The factors without the columns of biases."""
        return {
            side: own._replace(factors=own.factors[:, : self.rank])
            for side, own in self.sides.items()
        }

    def unknown(self, *, by_mean: bool) -> Unknown:
        """Return the prediction of pairs of an unknown id: NaN, or by the mean.

        Raises
        ------
        InvalidArgument
            If the mean is not known.
        """
        return self.parts.baseline.unknown(self.rank) if by_mean else Unknown()

    def frame(self, side: Side) -> DataFrame:
        """Return the factors of a side as a DataFrame."""
        if side not in self._frames:
            self._frames[side] = factors_frame(self.session, self.sides[side])
        return self._frames[side]

    def broadcast(self, side: Side) -> Broadcast[SideFactors]:
        """Broadcast a side; Spark removes it once no DataFrame and no model needs it."""
        if side not in self._broadcasts:
            own = self.sides[side]._replace(stats=None)
            self._broadcasts[side] = self.session.sparkContext.broadcast(own)
        return self._broadcasts[side]

    def save(self, path: str) -> dict[str, Any]:
        """Write the folders of a model; return what its metadata have besides the parameters."""
        objective = self.parts.objective
        known = all(own.stats is not None for own in self.sides.values())
        for side, own in self.sides.items():
            self.frame(side).write.parquet(f"{path}/{side}Factors")
            if known:
                stats_frame(self.session, own).write.parquet(f"{path}/{side}Stats")
        baseline = self.parts.baseline
        columns = self.rank + baseline.columns
        extra: dict[str, Any] = {"rank": columns, "stats": known, **baseline.as_metadata()}
        return extra if objective is None else {**extra, "objective": objective.as_record()}

    @classmethod
    def load(cls, session: SparkSession, path: str, metadata: dict[str, Any]) -> Sides:
        """Read the folders of a model, MLlib's too, which has neither objective nor statistics."""
        sides = []
        for side in SIDES:
            folder = f"{path}/{side}Factors"
            found = collect_factors(session.read.parquet(folder), metadata["rank"], folder)
            if metadata.get("stats") is True:
                folder = f"{path}/{side}Stats"
                found = with_stats(found, session.read.parquet(folder), folder)
            sides.append(found)
        objective = None
        if "objective" in metadata:
            objective = Objective.from_record(metadata["objective"], f"{path}/metadata")
        baseline = Baseline.from_metadata(metadata, path)
        return cls(session, Parts(sides[0], sides[1], objective, baseline))
