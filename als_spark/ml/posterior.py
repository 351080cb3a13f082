"""Models of the estimator that learn a prior: one after the other on the same ratings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import DataType

from als_spark.errors import SolveError
from als_spark.ml.biases import Baseline
from als_spark.ml.columns import check_ratings, id_type, typed_ratings
from als_spark.ml.factors import SideFactors, cast_ids
from als_spark.ml.features import FeatureReader, place_all
from als_spark.ml.fit_params import FitParams
from als_spark.ml.moments import LearntPrior, SideSpread
from als_spark.ml.progress import watched
from als_spark.ml.summary import ALSIteration, ALSTrainingSummary
from als_spark.ml.training import DTYPE, Fitted, Shared
from als_spark.model.featured import extended_side
from als_spark.model.ids import id_for_message
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.prepare.prepare import prepare_typed
from als_spark.spark.prepare.row_features import PlacedSides
from als_spark.spark.train.posterior import FittedPosterior, fit_posterior
from als_spark.spark.train.run import PreparedRatings
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.records import IterationRecord
from als_spark.types import SIDES, Side


@dataclass(frozen=True, slots=True)
class ALSPosteriorSummary(ALSTrainingSummary):
    """What the fit of a model with a learnt prior did.

    The objective of an iteration is what falls: minus the lower bound of ``variational``, that of a
    ridge, NaN of ``sample``. Its change is relative, what ``tol`` is about then; its RMSE is NaN.

    Attributes
    ----------
    learnt : mapping
        The options of the method and what it has learnt, as ``model.json`` of the jobs has it: of
        ``variational`` ``noise_deviation`` and ``bound``, of ``sample`` ``noise_deviation``,
        ``r_hat`` and ``effective_samples`` of the noise over the samples.
    trainingRmse : float
        Root mean squared error over the ratings of the fit at the end.
    """

    learnt: Mapping[str, Any]
    trainingRmse: float

    @property
    def rmse(self) -> float:
        """Root mean squared error over the ratings of the fit at the end."""
        return self.trainingRmse

    @property
    def noise(self) -> float | None:
        """Standard deviation of the noise of a rating; None of a ridge."""
        return self.learnt.get("noise_deviation")

    @property
    def bound(self) -> float | None:
        """Lower bound of the log evidence of ``variational``; None of other methods."""
        return self.learnt.get("bound")

    @property
    def rHat(self) -> float | None:
        """Split R-hat of the noise over the samples, near 1; None unless they were drawn."""
        return self.learnt.get("r_hat")


class FittedPrior(NamedTuple):
    """A trained model, and what it has learnt."""

    model: Fitted
    prior: LearntPrior


def train_posteriors(
    dataset: DataFrame, shared: Shared, models: Mapping[int, FitParams]
) -> dict[int, FittedPrior]:
    """Train models that learn a prior, one after the other, on ratings that are packed once.

    Parameters and errors are those of :func:`als_spark.ml.training.train_together`.
    """
    options = {point: _options(params) for point, params in models.items()}
    types: dict[Side, DataType] = {
        "user": id_type(dataset.schema, shared.user, native=shared.native),
        "item": id_type(dataset.schema, shared.item, native=shared.native),
    }
    reader = FeatureReader(types, native=shared.native)
    features = {point: reader.read(params) for point, params in models.items()}
    kinds = (to_arrow_type(types["user"]), to_arrow_type(types["item"]))
    # Blocks, and memory, as the method of most numbers a row needs them.
    methods = {own.method for own in options.values()}
    covariances = {own.covariance for own in options.values() if own.method == "variational"}
    covariances = covariances if covariances == {"diagonal"} else {None}
    prepare = PrepareOptions(
        duplicates="keep",
        dtype=DTYPE,
        ranks=[own.n_factors for own in options.values()],
        exchange="broadcast",
        method="variational" if "variational" in methods else next(iter(methods)),
        covariance=None if None in covariances else covariances.pop(),
    )
    ratings = typed_ratings(dataset, *shared[:4], native=shared.native)
    found = {}
    with (
        watched(models) as on_iteration,
        prepare_typed(
            dataset.sparkSession, ratings, "the DataFrame", prepare, check=check_ratings
        ) as prepared,
    ):
        for point, own in options.items():

            def tell(record: IterationRecord, point: int = point) -> None:
                if on_iteration is not None:
                    on_iteration(replace(record, point=point))

            placed = place_all(features[point], prepared)
            fitted = _fit(prepared, own, tell, placed)
            found[point] = _assembled(dataset, prepared, fitted, kinds, models[point], placed)
    return found


def _options(params: FitParams) -> PosteriorOptions:
    options = params.posterior_options(DTYPE)
    assert options is not None
    return options


def _fit(
    prepared: PreparedRatings, options: PosteriorOptions, tell: Any, placed: PlacedSides
) -> FittedPosterior:
    """Train one; a row without a finite solution is named by its id."""
    try:
        return fit_posterior(prepared, options, tell, features=placed.tables)
    except SolveError as error:
        summary = prepared.summary
        ids = summary.users if error.side == "user" else summary.items
        raise error.named(id_for_message(ids.ids, error.row), None) from error


def _assembled(
    dataset: DataFrame,
    prepared: PreparedRatings,
    fitted: FittedPosterior,
    kinds: tuple[pa.DataType, pa.DataType],
    params: FitParams,
    placed: PlacedSides,
) -> FittedPrior:
    factors, result = fitted.factors.collect(), fitted.result
    indices, sides = [], []
    summary_ids = prepared.summary.users, prepared.summary.items
    for side, known, own, kind in zip(SIDES, summary_ids, factors, kinds, strict=True):
        ids, stats = extended_side(known, prepared.stats[side], placed.further.get(side))
        indices.append(ids)
        sides.append(SideFactors.of_index(ids, own, stats, kind))
    learnt = {"method": params.getMethod(), **fitted.description["posterior"]}
    if placed.record:
        learnt["features"] = placed.record
    summary = ALSPosteriorSummary(
        prepared.n_ratings["train"],
        result.converged,
        tuple(
            ALSIteration(r.iteration, r.objective, float("nan"), r.change, r.seconds)
            for r in result.history
        ),
        params.deciding_params(),
        learnt,
        result.errors["train"].rmse,
    )
    baseline = Baseline(fitted.objective.mean, biased=True)
    prior = LearntPrior(dataset.sparkSession, learnt)
    if fitted.intervals is not None:
        spread = fitted.intervals.spread
        parts = {
            side: SideSpread.of(own, cast_ids(ids.ids, kind), spread, k)
            for k, (side, own, ids, kind) in enumerate(
                zip(SIDES, sides, indices, kinds, strict=True)
            )
        }
        prior = LearntPrior(dataset.sparkSession, learnt, spread.noise, parts)
    model = Fitted(sides[0], sides[1], fitted.objective, baseline, summary)
    return FittedPrior(model, prior)
