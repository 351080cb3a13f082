"""The factors of a model in all their forms, and their folders."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession

from als_spark.ml.biases import Baseline, Unknown
from als_spark.ml.errors import InvalidArgument
from als_spark.ml.factors import SideFactors, factors_frame, read_stats, stats_frame
from als_spark.ml.far import ROWS, AnySide, FarSide, near, read_side
from als_spark.ml.moments import LearntPrior
from als_spark.ml.params import AlsModelParams
from als_spark.solve.objective import Objective
from als_spark.spark.persisted import is_running
from als_spark.types import SIDES, Side


class Parts(NamedTuple):
    """What a model of the estimator is made of."""

    users: AnySide
    items: AnySide
    objective: Objective | None = None
    """What they minimise; None where it is not known, as in MLlib's models."""
    baseline: Baseline = Baseline()
    """What a prediction has besides the product of latent factors."""


class Sides:
    """The factors of a model, shared by its copies."""

    def __init__(self, session: SparkSession, parts: Parts) -> None:
        self.session = session
        self.parts = parts
        self.sides: dict[Side, AnySide] = {"user": parts.users, "item": parts.items}
        self.released = False
        self.prior: LearntPrior | None = None
        """What is known besides of a model that has learnt its prior."""
        self._frames: dict[Side, DataFrame] = {}
        self._broadcasts: dict[Side, Broadcast[SideFactors]] = {}
        for own in self._far():
            own.persisted.hold(self)

    @property
    def rank(self) -> int:
        """Number of factors."""
        return self.parts.users.columns - self.parts.baseline.columns

    @property
    def latent(self) -> dict[Side, AnySide]:
        """The factors without the columns of biases."""
        return {side: own.latent(self.rank) for side, own in self.sides.items()}

    def near(self, side: Side) -> SideFactors:
        """Return a side as arrays; factors that are elsewhere are brought to the driver."""
        return near(self.sides[side])

    def release(self) -> None:
        """Free what the executors have of the factors, unless another model has the same."""
        if self.released:
            return
        self.released = True
        if is_running(self.session.sparkContext):
            for broadcast in self._broadcasts.values():
                broadcast.unpersist()
        for own in self._far():
            own.persisted.release(self)

    def _far(self) -> list[FarSide]:
        return [own for own in self.sides.values() if isinstance(own, FarSide)]

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
        own = self.sides[side]
        if isinstance(own, FarSide):
            return own.frame
        if side not in self._frames:
            self._frames[side] = factors_frame(self.session, own)
        return self._frames[side]

    def broadcast(self, side: Side) -> Broadcast[SideFactors]:
        """Broadcast a side; Spark removes it once no DataFrame and no model needs it."""
        if side not in self._broadcasts:
            own = self.near(side).with_stats(None)
            self._broadcasts[side] = self.session.sparkContext.broadcast(own)
        return self._broadcasts[side]

    def save(self, path: str) -> dict[str, Any]:
        """Write the folders of a model; return what its metadata have besides the parameters."""
        objective = self.parts.objective
        known = all(own.stats is not None for own in self.sides.values())
        for side, own in self.sides.items():
            self.frame(side).write.parquet(f"{path}/{side}Factors")
            if own.stats is not None and known:
                stats_frame(self.session, own.ids, own.stats).write.parquet(f"{path}/{side}Stats")
        baseline = self.parts.baseline
        columns = self.rank + baseline.columns
        rows = {key: len(self.sides[side].ids) for side, key in ROWS.items()}
        extra: dict[str, Any] = {"rank": columns, "stats": known, **rows, **baseline.as_metadata()}
        return extra if objective is None else {**extra, "objective": objective.as_record()}

    @classmethod
    def load(cls, session: SparkSession, path: str, metadata: dict[str, Any]) -> Sides:
        """Read the folders of a model, MLlib's too, which has neither objective nor statistics."""
        sides = []
        for side in SIDES:
            found = read_side(session, f"{path}/{side}Factors", metadata, side)
            if metadata.get("stats") is True:
                folder = f"{path}/{side}Stats"
                found = found.with_stats(
                    read_stats(found.ids, session.read.parquet(folder), folder)
                )
            sides.append(found)
        objective = None
        if "objective" in metadata:
            objective = Objective.from_record(metadata["objective"], f"{path}/metadata")
        baseline = Baseline.from_metadata(metadata, path)
        return cls(session, Parts(sides[0], sides[1], objective, baseline))


class HasFactors(AlsModelParams):
    """What a model is made of, as it tells it."""

    _sides: Sides | None = None

    @property
    def rank(self) -> int:
        """Number of factors."""
        return self._factors.rank

    @property
    def userFactors(self) -> DataFrame:
        """Factors of the users: ``id`` (int) and ``features`` (array<float>)."""
        return self._factors.parts.baseline.latent(self._factors.frame("user"), self.rank)

    @property
    def itemFactors(self) -> DataFrame:
        """Factors of the items: ``id`` (int) and ``features`` (array<float>)."""
        return self._factors.parts.baseline.latent(self._factors.frame("item"), self.rank)

    @property
    def userBiases(self) -> DataFrame:
        """Biases of the users, to be added to ``globalMean``: ``id`` (int) and ``bias`` (float).

        Raises
        ------
        InvalidArgument
            If the model has none.
        """
        return self._factors.parts.baseline.biases(self._factors.frame("user"), self.rank, "user")

    @property
    def itemBiases(self) -> DataFrame:
        """Biases of the items: see :attr:`userBiases`."""
        return self._factors.parts.baseline.biases(self._factors.frame("item"), self.rank, "item")

    @property
    def globalMean(self) -> float | None:
        """Mean of the training ratings; None where it is not known, as of MLlib's models."""
        return self._factors.parts.baseline.mean

    @property
    def side_factors(self) -> tuple[SideFactors, SideFactors]:
        """Ids and factors of the users and of the items, as arrays of the driver.

        Factors that are on the executors are collected each time.
        """
        return self._factors.near("user"), self._factors.near("item")

    @property
    def side_ids(self) -> tuple[pa.Array, pa.Array]:
        """Ids of the users and of the items."""
        sides = self._factors.sides
        return sides["user"].ids, sides["item"].ids

    def release(self) -> None:
        """Free what the executors hold of the model, which cannot be used afterwards.

        Nor can its copies, and DataFrames of it that are not computed yet. A model from
        :meth:`foldIn` still can.
        """
        if self._sides is not None:
            self._sides.release()

    @property
    def _factors(self) -> Sides:
        if self._sides is None:
            raise InvalidArgument("this ALSModel has no factors: make one by ALS.fit or load one")
        if self._sides.released:
            raise InvalidArgument("this ALSModel was released: fit it again, or load it")
        return self._sides

    @property
    def _native(self) -> bool:
        """Whether ids are native: said so, or of a type that none has by MLlib's rule."""
        kinds = {side.ids.type for side in self._factors.sides.values()}
        return self.getNativeIds() or kinds != {pa.int32()}
