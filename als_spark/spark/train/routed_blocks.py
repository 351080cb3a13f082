"""Rating blocks and factor blocks on the executors, side by side, and what is sent between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from pyspark import RDD, SparkContext

from als_spark.solve.implicit import gram_of_all
from als_spark.spark.planner import Plan
from als_spark.spark.session import described
from als_spark.spark.shared import share
from als_spark.spark.train.exchange import SliceNumber
from als_spark.spark.train.factor_blocks import (
    DistributedFactors,
    FactorStore,
    Place,
    beside,
    distinct_stores,
    drop_shuffle,
    gram_partition,
    new_number,
    send_partition,
    sent_to,
    start_partition,
)
from als_spark.spark.train.partitioned import PartitionedRankings
from als_spark.train.backend import AnyFactors, Start, SummedFactors, as_array
from als_spark.train.metrics import SideStats
from als_spark.train.start import start_array
from als_spark.types import FloatArray, IntArray, Side, other_side


@dataclass(frozen=True, slots=True)
class RoutedSide:
    """What lies on the executors of one side, a partition a block; persisted.

    Attributes
    ----------
    ratings : RDD of TrainSlice and EvaluationPart
        Columns in the compact numbering where the other side's factors are sent.
    rows : mapping
        The dense rows of each slice, but of shared rows; where solved rows go to the driver.
    needs : RDD of Needs, or None
        Where the other side's factors are sent.
    n_needed : int
        The most rows of the other side that a block needs.
    places, outgoing : RDD of Place, RDD of Outgoing, or None
        Where the side's own factors stay.
    shared_rows : (n_shared,) int
        The shared rows of the side, rising.
    """

    ratings: RDD[Any]
    rows: Mapping[SliceNumber, IntArray]
    needs: RDD[Any] | None
    n_needed: int
    places: RDD[Place] | None
    outgoing: RDD[Any] | None
    shared_rows: IntArray


@dataclass(eq=False)
class RoutedBlocks:
    """Rating blocks, and the factor blocks of the sides whose factors stay.

    Attributes
    ----------
    context : SparkContext
    sides : mapping of side to RoutedSide
    stats : mapping of side to SideStats
        The training ratings.
    positives : mapping of side to (n_rows,) int
        Training ratings above 0 of each row.
    plan : Plan
    resources : ExitStack
        Freed at the end; factors stay until nothing refers to them.
    ranking : PartitionedRankings or None
        Where rankings are asked for.
    """

    context: SparkContext
    sides: Mapping[Side, RoutedSide]
    stats: Mapping[Side, SideStats]
    positives: Mapping[Side, IntArray]
    plan: Plan
    resources: ExitStack
    ranking: PartitionedRankings | None = None

    def degrees(self, side: Side, *, positive: bool = False) -> IntArray:
        """See :class:`als_spark.train.backend.Backend`."""
        return self.positives[side] if positive else self.stats[side].degrees

    def start(self, side: Side, starts: Sequence[Start]) -> Sequence[AnyFactors]:
        """See :class:`als_spark.train.backend.Backend`."""
        if not self.stays(side):
            n_rows = self.degrees(side).size
            return [start_array(start, n_rows, side) for start in starts]
        places, shared_rows = self.sides[side].places, self.sides[side].shared_rows
        assert places is not None
        number = new_number()
        with described(self.context, f"starting factors of the {side}s"):
            task = share(self.context, list(starts))
            run = partial(start_partition, starts=task, side=side, store=number)
            made = places.mapPartitions(run, preservesPartitioning=True)
            store = FactorStore(made, number, task)
            store.rdd.count()
            store.end_task()
        return [
            DistributedFactors(
                store,
                position,
                side,
                self.degrees(side).size,
                np.dtype(start.dtype),
                shared_rows,
                start_array(start, 0, side, shared_rows),
            )
            for position, start in enumerate(starts)
        ]

    def held(self, side: Side, models: Sequence[AnyFactors]) -> list[AnyFactors]:
        """Bring factors that are arrays to the executors, if those of the side stay there."""
        arrays = [as_array(m) for m in models if not isinstance(m, DistributedFactors)]
        if not arrays or not self.stays(side):
            return list(models)
        starts = [
            Start(own.shape[1], 0, str(own.dtype), own.shape[1], own)  # type: ignore[arg-type]
            for own in arrays
        ]
        placed = iter(self.start(side, starts))
        held: list[AnyFactors] = []
        for model in models:
            own = model if isinstance(model, DistributedFactors) else next(placed)
            if isinstance(model, SummedFactors) and isinstance(own, DistributedFactors):
                own = replace(own, gram=model.gram)
            held.append(own)
        return held

    def parts_before(
        self, side: Side, fixed: Sequence[DistributedFactors], temporary: ExitStack
    ) -> list[RDD[Any]]:
        """Return what a block of a side reads first, if the fixed factors are sent."""
        if not fixed:
            return []
        needs, outgoing = self.sides[side].needs, self.sides[other_side(side)].outgoing
        assert needs is not None
        assert outgoing is not None
        stores = [store.rdd for store in distinct_stores(fixed)]
        send = partial(send_partition, models=[model.source for model in fixed])
        sent = sent_to(self.beside([outgoing, *stores]).mapPartitions(send), self.plan.n_blocks)
        temporary.callback(drop_shuffle, sent)
        return [needs, sent]

    def beside(self, rdds: Sequence[RDD[Any]]) -> RDD[Any]:
        """Put what RDDs have of each block one behind the other."""
        return beside(self.context, rdds, self.plan.n_blocks)

    def gram(self, model: DistributedFactors) -> FloatArray:
        """Sum x xᵀ over all rows with training ratings."""
        if model.gram is not None:
            return model.gram
        side = self.sides[model.side]
        assert side.places is not None
        sum_up = partial(gram_partition, model=model.source)
        found = self.beside([side.places, model.store.rdd]).mapPartitions(sum_up).collect()
        total = gram_of_all(model.shared, self.degrees(model.side)[model.shared_rows])
        for _, gram in sorted(found, key=lambda pair: pair[0]):
            total += gram
        return total

    def stays(self, side: Side) -> bool:
        """Whether the factors of a side stay on the executors."""
        return self.plan.exchange[other_side(side)] == "shuffle"
