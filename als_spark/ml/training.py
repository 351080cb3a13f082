"""From a DataFrame of ratings to factors: the models of several parameter maps in one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyspark.sql import DataFrame

from als_spark.ml.biases import Baseline, centred
from als_spark.ml.columns import check_ratings, typed_ratings
from als_spark.ml.factors import SideFactors
from als_spark.ml.params import AlsParams
from als_spark.spark.prepare.prepare import PrepareOptions, prepare_typed
from als_spark.spark.train.run import PreparedRatings, train_grid
from als_spark.train.backend import Factors
from als_spark.train.metrics import ErrorSums
from als_spark.train.records import ModelSpec, TrainingOptions
from als_spark.train.state import LoopState, start_states
from als_spark.types import DType, SplitName

DTYPE: DType = "float32"


class Shared(NamedTuple):
    """What models must agree on to be trained together."""

    user: str
    item: str
    rating: str
    max_iter: int
    seed: int
    weight: str

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
            params.getWeightCol(),
        )


class _FactorCollector:
    """Keeps the factors of all models, by position."""

    def __init__(self) -> None:
        self.factors: dict[int, Factors] = {}

    def add(self, trained: LoopState, sums: Mapping[SplitName, ErrorSums]) -> None:  # noqa: ARG002
        self.factors[trained.spec.point] = trained.plain_factors


def train_together(
    dataset: DataFrame, shared: Shared, models: Sequence[AlsParams]
) -> list[tuple[SideFactors, SideFactors, Baseline]]:
    """Train models that share all but rank and objective: a half-step is one pass for all of them.

    Returns
    -------
    list of (users, items, baseline)
        Of each model.

    Raises
    ------
    InvalidArgument
        If a column is unusable.
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
        duplicates="keep", dtype=DTYPE, ranks=[s.objective.columns(s.rank) for s in specs]
    )
    ratings = typed_ratings(dataset, shared.user, shared.item, shared.rating, shared.weight)
    with prepare_typed(
        dataset.sparkSession, ratings, "the DataFrame", options, check=check_ratings
    ) as prepared:
        mean = prepared.mean
        factors = _train(prepared, [centred(spec, mean) for spec in specs], shared)
        users, items = prepared.summary.users, prepared.summary.items
    return [
        (
            SideFactors.of_index(users, own.users),
            SideFactors.of_index(items, own.items),
            # Predictions of implicit preferences are none of ratings.
            Baseline(None if params.getImplicitPrefs() else mean, params.getBiases()),
        )
        for own, params in zip(factors, models, strict=True)
    ]


def _train(prepared: PreparedRatings, specs: Sequence[ModelSpec], shared: Shared) -> list[Factors]:
    # Without a tolerance no iteration is left out.
    options = TrainingOptions(tol=0.0, max_iter=shared.max_iter, seed=shared.seed, dtype=DTYPE)
    if shared.max_iter == 0:
        return [state.plain_factors for state in start_states(prepared.backend, specs, options)]
    collector = _FactorCollector()
    train_grid(prepared, specs, options, collector)
    return [collector.factors[spec.point] for spec in specs]
