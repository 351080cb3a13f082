"""From a DataFrame of ratings to factors: the models of several parameter maps in one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_type

from als_spark.ml.biases import Baseline, centred
from als_spark.ml.checkpoints import kept_fit
from als_spark.ml.columns import check_ratings, id_type, typed_ratings
from als_spark.ml.far import AnySide, FarSide, near, trained_side
from als_spark.ml.fit_params import FitParams
from als_spark.ml.params import AlsParams
from als_spark.ml.progress import watched
from als_spark.ml.summary import ALSTrainingSummary
from als_spark.model.ids import IdIndex, as_id_array
from als_spark.model.warm_start import take_known
from als_spark.solve.objective import Objective
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.prepare.prepare import prepare_typed
from als_spark.spark.read.clean_files import CleanFiles, Rules, find_clean_files
from als_spark.spark.session import default_partitions
from als_spark.spark.train.run import PreparedRatings, train_grid
from als_spark.train.backend import Factors
from als_spark.train.metrics import ErrorSums
from als_spark.train.records import ModelSpec, RankingMeans, TrainingOptions
from als_spark.train.start import initial_factors
from als_spark.train.state import LoopState
from als_spark.types import SIDES, DType, ExchangeChoice, SplitName

DTYPE: DType = "float32"


class Shared(NamedTuple):
    """What models must agree on to be trained together: where their ratings are."""

    user: str
    item: str
    rating: str
    weight: str
    native: bool
    exchange: ExchangeChoice = "auto"
    learns_prior: bool = False

    @classmethod
    def of(cls, params: FitParams) -> Shared:
        """Read it from the parameters."""
        return cls(
            params.getUserCol(),
            params.getItemCol(),
            params.getRatingCol(),
            params.getWeightCol(),
            params.getNativeIds(),
            params.getExchange(),
            params.learns_prior,
        )


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


class Fitted(NamedTuple):
    """A trained model."""

    users: AnySide
    items: AnySide
    objective: Objective
    baseline: Baseline
    summary: ALSTrainingSummary


class _Collector:
    """Keeps all models, by position."""

    needs_errors = False

    def __init__(self) -> None:
        self.models: dict[int, LoopState] = {}

    def add(
        self,
        trained: LoopState,
        sums: Mapping[SplitName, ErrorSums],  # noqa: ARG002
        rankings: Mapping[SplitName, RankingMeans],  # noqa: ARG002
    ) -> None:
        self.models[trained.spec.point] = trained


def train_together(
    dataset: DataFrame, shared: Shared, models: Mapping[int, FitParams]
) -> dict[int, Fitted]:
    """Train models on the same ratings: a half-step is one pass for all that are not done.

    Parameters
    ----------
    dataset : DataFrame
    shared : Shared
    models : mapping of int to FitParams
        Parameters by the position of the model.

    Returns
    -------
    dict of int to Fitted
        The models by their positions.

    Raises
    ------
    ConfigError
        If what ``checkpointInterval`` keeps cannot be written.
    InvalidArgument
        If a column is unusable.
    InvalidRatings
        If a rating is unusable.
    SolveError
        If a row's system has no finite solution.
    """
    specs = [
        ModelSpec(point, params.getRank(), params.objective()) for point, params in models.items()
    ]
    options = PrepareOptions(
        duplicates="keep",
        dtype=DTYPE,
        ranks=[s.objective.columns(s.rank) for s in specs],
        exchange=shared.exchange,
        accelerate=any(params.getAccelerate() for params in models.values()),
    )
    kinds = [
        to_arrow_type(id_type(dataset.schema, name, native=shared.native))
        for name in (shared.user, shared.item)
    ]
    ratings = typed_ratings(dataset, *shared[:4], native=shared.native)
    collector, each = _Collector(), [options_of(params) for params in models.values()]
    with ExitStack() as keeping:
        with (
            watched(models) as on_iteration,
            prepare_typed(
                *(dataset.sparkSession, ratings, "the DataFrame", options),
                check=check_ratings,
                files=_clean_files(dataset, shared),
            ) as prepared,
        ):
            users, items, mean = prepared.summary.users, prepared.summary.items, prepared.mean
            starts = [start_of(params, users, items) for params in models.values()]
            kept = kept_fit(ratings, [*models.values()], specs, each, starts, prepared)
            train_grid(
                prepared,
                [centred(spec, mean) for spec in specs],
                each,
                collector,
                starts=starts,
                on_iteration=on_iteration,
                checkpoint=keeping.enter_context(kept),
            )
        return _fitted(dataset.sparkSession, models, collector.models, prepared, kinds)


def _clean_files(dataset: DataFrame, shared: Shared) -> CleanFiles | None:
    """Find the files that the tasks can read themselves, if the dataset is such."""
    if not shared.rating or shared.weight:
        return None
    columns = {"user": shared.user, "item": shared.item, "rating": shared.rating}
    rules = Rules(float(np.finfo(np.float32).max), single=True, int_ids=not shared.native)
    n_tasks = default_partitions(dataset.sparkSession.sparkContext)
    return find_clean_files(dataset, columns, rules, n_tasks)


def _fitted(
    session: SparkSession,
    models: Mapping[int, FitParams],
    trained: Mapping[int, LoopState],
    prepared: PreparedRatings,
    kinds: Sequence[pa.DataType],
) -> dict[int, Fitted]:
    ids = prepared.summary.users, prepared.summary.items
    found = {}
    for point, state in trained.items():
        params, factors = models[point], state.plain_factors
        implicit = params.getImplicitPrefs()
        users, items = (
            trained_side(session, own, factors[k], prepared.stats[side], kinds[k], side)
            for k, (side, own) in enumerate(zip(SIDES, ids, strict=True))
        )
        found[point] = Fitted(
            users,
            items,
            state.spec.objective,
            # Predictions of implicit preferences are none of ratings.
            Baseline(None if implicit else prepared.mean, params.getBiases()),
            ALSTrainingSummary.of(
                state,
                prepared.n_ratings["train"],
                params.deciding_params(),
                implicit=implicit,
                weight=prepared.weight,
            ),
        )
    return found


def start_of(params: FitParams, users: IdIndex, items: IdIndex) -> Factors | None:
    """Return the factors that the iterations start from; None for the usual ones.

    Users whose factors are elsewhere start as usual, without being collected: the first half-step
    solves them from the items alone.
    """
    model = params.getInitialModel()
    if model is None:
        return None
    own = model._factors
    as_usual = isinstance(own.sides["user"], FarSide) and params.getMaxIter() > 0
    n_users = 0 if as_usual else len(users)
    start = initial_factors(n_users, len(items), params.getRank(), options_of(params).seed)
    for side, ids, rows in zip(SIDES, (users, items), start, strict=True):
        if len(rows):
            # Biases, the columns behind the latent factors, start at 0.
            known = near(own.sides[side].latent(model.rank))
            take_known(rows, ids, IdIndex(as_id_array(known.ids)), known.factors)
    return start
