"""How ratings are made ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from als_spark.spark.estimate.work import Method
from als_spark.spark.read.split import SplitOptions
from als_spark.train.bayes.options import Covariance
from als_spark.train.ranking import RankingRule
from als_spark.types import (
    BadRows,
    ColdStart,
    DType,
    DuplicatesOrKeep,
    ExchangeChoice,
    ExchangeName,
    PlacementChoice,
    Side,
)


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How ratings are made ready; fields as the options of the sweep.

    ``ranks`` has a rank for every model that will be trained: the blocks are balanced for them.
    With a ``ranking`` the ranking measures of models can be had, too. The ``exchange`` may be given
    by side: how the fixed factors reach the blocks of that side. ``accelerate`` says that there
    are models to accelerate. The ``method`` that will train, and the ``covariance`` of
    ``variational``, decide how much memory it takes.
    """

    split: SplitOptions = field(default_factory=SplitOptions)
    bad_rows: BadRows = "error"
    duplicates: DuplicatesOrKeep = "error"
    cold_start: ColdStart = "mean"
    dtype: DType = "float32"
    ranks: Sequence[int] = (10,)
    placement: PlacementChoice = "auto"
    partitions: int | None = None
    ranking: RankingRule | None = None
    exchange: ExchangeChoice | Mapping[Side, ExchangeName] = "auto"
    accelerate: bool = False
    method: Method = "ridge"
    covariance: Covariance | None = None
