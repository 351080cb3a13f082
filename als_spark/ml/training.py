"""From a DataFrame of ratings to factors: the models of several parameter maps in one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyspark.sql import DataFrame

from als_spark.ml.columns import check_ratings, typed_ratings
from als_spark.ml.factors import SideFactors
from als_spark.ml.params import AlsParams
from als_spark.spark.prepare.prepare import PrepareOptions, prepare_typed
from als_spark.spark.train.run import PreparedRatings, train_grid
from als_spark.train.backend import Factors
from als_spark.train.metrics import ErrorSums
from als_spark.train.records import ModelSpec, RankingMeans, TrainingOptions
from als_spark.train.state import LoopState, initial_factors
from als_spark.types import DType, SplitName

DTYPE: DType = "float32"


class Shared(NamedTuple):
    """What models must agree on to be trained together."""

    user: str
    item: str
    rating: str
    max_iter: int
    seed: int

    @classmethod
    def of(cls, params: AlsParams) -> Shared:
        """Read it from the parameters."""
        return cls(
            params.getUserCol(),
            params.getItemCol(),
            params.getRatingCol(),
            params.getMaxIter(),
            # Seeds of the start are not negative.
            params.getSeed() % 2**64,
        )


class _FactorCollector:
    """Keeps the factors of all models, by position."""

    def __init__(self) -> None:
        self.factors: dict[int, Factors] = {}

    def add(
        self,
        trained: LoopState,
        sums: Mapping[SplitName, ErrorSums],  # noqa: ARG002
        rankings: Mapping[SplitName, RankingMeans],  # noqa: ARG002
    ) -> None:
        self.factors[trained.spec.point] = trained.factors


def train_together(
    dataset: DataFrame, shared: Shared, models: Sequence[AlsParams]
) -> list[tuple[SideFactors, SideFactors]]:
    """Train models that share all but rank and objective: a half-step is one pass for all of them.

    Returns
    -------
    list of (users, items)
        Of each model.

    Raises
    ------
    InvalidArgument
        If a column is unusable, or the objective is not available.
    InvalidRatings
        If a rating is unusable.
    SolveError
        If a row's system has no finite solution.
    """
    specs = [
        ModelSpec(point, params.getRank(), params.objective())
        for point, params in enumerate(models)
    ]
    options = PrepareOptions(
        duplicates="keep", dtype=DTYPE, ranks=tuple(spec.rank for spec in specs)
    )
    ratings = typed_ratings(dataset, shared.user, shared.item, shared.rating)
    with prepare_typed(
        dataset.sparkSession, ratings, "the DataFrame", options, check=check_ratings
    ) as prepared:
        factors = _train(prepared, specs, shared)
        users, items = prepared.summary.users, prepared.summary.items
    return [
        (SideFactors.of_index(users, own.users), SideFactors.of_index(items, own.items))
        for own in factors
    ]


def _train(prepared: PreparedRatings, specs: Sequence[ModelSpec], shared: Shared) -> list[Factors]:
    if shared.max_iter == 0:
        sizes = len(prepared.summary.users), len(prepared.summary.items)
        return [initial_factors(*sizes, spec.rank, shared.seed) for spec in specs]
    collector = _FactorCollector()
    # Without a tolerance no iteration is left out.
    options = TrainingOptions(tol=0.0, max_iter=shared.max_iter, seed=shared.seed, dtype=DTYPE)
    train_grid(prepared, specs, options, collector)
    return [collector.factors[spec.point] for spec in specs]
