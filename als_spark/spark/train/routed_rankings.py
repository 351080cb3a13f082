"""Ranking measures where the users' factors stay on the executors: each user's own, and all items'.

The items' factors are arrays of the driver, and are broadcast. The users that are ranked lie in the
partition of their factor block; those of the few shared rows are ranked on the driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from als_spark.spark.shared import HasValue, shared
from als_spark.spark.train.factor_blocks import (
    DistributedFactors,
    FactorBlock,
    Source,
    distinct_stores,
)
from als_spark.spark.train.partitioned import PartitionedRankings
from als_spark.spark.train.routed_blocks import RoutedBlocks
from als_spark.spark.worker import prepare_worker
from als_spark.train.backend import FactorPair, Factors
from als_spark.train.ranking import RankingPart, RankingSums, sum_rankings
from als_spark.train.records import RankingMeans
from als_spark.types import FloatArray, IntArray, SplitName


class RankedModel(NamedTuple):
    """What the tasks know of a model."""

    where: Source
    """Where the users' factors are."""
    items: FloatArray
    """(n_trained, columns) factors of the items with training ratings."""


def measure_rankings(
    blocks: RoutedBlocks, rankings: PartitionedRankings, models: Sequence[FactorPair]
) -> list[Mapping[SplitName, RankingMeans]]:
    """Measure models: see :meth:`als_spark.train.backend.Backend.rankings`."""
    ranker = rankings.ranker
    trained = ranker.trained
    users = blocks.held("user", [users for users, _ in models])
    held = [own for own in users if isinstance(own, DistributedFactors)]
    items = [own[trained] for _, own in models if isinstance(own, np.ndarray)]
    task = [RankedModel(own.source, other) for own, other in zip(held, items, strict=True)]
    stores = [store.rdd for store in distinct_stores(held)]
    with shared(blocks.context, task) as handle:
        rank = partial(rank_routed, models=handle, top=ranker.top)
        found = blocks.beside([*stores, rankings.parts]).mapPartitions(rank).collect()
    few = [Factors(own.shared, other) for own, other in zip(held, items, strict=True)]
    own_parts = (_among(part, held[0].shared_rows) for part in rankings.shared)
    found += sum_rankings(own_parts, few, ranker.top)
    return ranker.means(found, len(models))


def rank_routed(
    parts: Iterable[Any], *, models: HasValue[list[RankedModel]], top: int
) -> Iterator[tuple[SplitName, list[RankingSums]]]:
    """Sum the ranking measures of every model over the users of a block: runs on an executor."""
    prepare_worker()
    blocks: dict[int, FactorBlock] = {}
    every: list[Factors] | None = None
    for part in parts:
        if isinstance(part, FactorBlock):
            blocks[part.store] = part
        elif isinstance(part, RankingPart):
            every = every or [
                Factors(model.where.of(blocks), model.items) for model in models.value
            ]
            rows = next(iter(blocks.values())).rows
            yield from sum_rankings([_among(part, rows)], every, top)


def _among(part: RankingPart, rows: IntArray) -> RankingPart:
    """Say of the users of a part where they are among some rows, which rise."""
    return replace(part, users=np.searchsorted(rows, part.users))
