"""From a DataFrame of ratings to factors: the models of several parameter maps in one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyspark.sql import DataFrame

from als_spark.ml.columns import check_ratings, typed_ratings
from als_spark.ml.factors import SideFactors
from als_spark.ml.params import AlsParams
from als_spark.spark.prepare.prepare import PrepareOptions, prepare_typed
from als_spark.spark.train.run import train_grid
from als_spark.train.backend import Factors
from als_spark.train.metrics import ErrorSums
from als_spark.train.records import ModelSpec, TrainingOptions
from als_spark.train.state import LoopState
from als_spark.types import DType, SplitName

DTYPE: DType = "float32"


class Shared(NamedTuple):
    """What models must agree on to be trained together: where their ratings are."""

    user: str
    item: str
    rating: str

    @classmethod
    def of(cls, params: AlsParams) -> Shared:
        """Read it from the parameters."""
        return cls(params.getUserCol(), params.getItemCol(), params.getRatingCol())


def options_of(params: AlsParams) -> TrainingOptions:
    """Return how a model is trained."""
    return TrainingOptions(
        tol=params.getTol(),
        max_iter=params.getMaxIter(),
        # Seeds of the start are not negative.
        seed=params.getSeed() % 2**64,
        dtype=DTYPE,
        accelerate=params.getAccelerate(),
    )


class _FactorCollector:
    """Keeps the factors of all models, by position."""

    needs_errors = False

    def __init__(self) -> None:
        self.factors: dict[int, Factors] = {}

    def add(self, trained: LoopState, sums: Mapping[SplitName, ErrorSums]) -> None:  # noqa: ARG002
        self.factors[trained.spec.point] = trained.factors


def train_together(
    dataset: DataFrame, shared: Shared, models: Sequence[AlsParams]
) -> list[tuple[SideFactors, SideFactors]]:
    """Train models on the same ratings: a half-step is one pass for all that are not done.

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
        collector = _FactorCollector()
        train_grid(prepared, specs, [options_of(params) for params in models], collector)
        factors = [collector.factors[spec.point] for spec in specs]
        users, items = prepared.summary.users, prepared.summary.items
    return [
        (SideFactors.of_index(users, own.users), SideFactors.of_index(items, own.items))
        for own in factors
    ]
