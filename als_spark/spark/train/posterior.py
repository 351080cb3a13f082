"""One model with a learnt prior, in the place of a ridge towards zero."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from als_spark.errors import ConfigError
from als_spark.model.intervals import IntervalModel
from als_spark.solve.objective import Objective
from als_spark.spark.train.run import PreparedRatings
from als_spark.train.backend import Factors, HeldFactors
from als_spark.train.bayes.chains import effective_size, split_r_hat
from als_spark.train.bayes.loop import Posterior, PosteriorRecord, train_posterior
from als_spark.train.bayes.options import LARGEST_TABLE, PosteriorOptions
from als_spark.train.bayes.serve import served, user_prior
from als_spark.train.bayes.spread import Moments
from als_spark.train.bayes.warm import PosteriorStart
from als_spark.train.records import IterationRecord, ModelSpec, PointResult
from als_spark.types import FloatArray, Side

_LOG = logging.getLogger(__name__)


class FittedPosterior(NamedTuple):
    """What a training leaves."""

    factors: HeldFactors
    objective: Objective
    """That the factors belong to."""
    result: PointResult
    intervals: IntervalModel | None
    """None where samples were drawn."""
    description: dict[str, Any]
    """Of the method, for that of the model."""


def method_name(options: PosteriorOptions) -> str:
    """Return what records call the method; ``ridge`` alone is one towards zero."""
    return "ridge towards a mean" if options.method == "ridge" else options.method


def fit_posterior(
    prepared: PreparedRatings,
    options: PosteriorOptions,
    on_iteration: Callable[[IterationRecord], None],
    start: PosteriorStart | None = None,
    features: Mapping[Side, FloatArray] | None = None,
) -> FittedPosterior:
    """Train a model with a learnt prior on prepared ratings, from random factors or a posterior.

    ``features`` are as in :func:`~als_spark.train.bayes.loop.train_posterior`; the factors then
    have a row for each of theirs, and the ids of the intervals lack those of the further ones.

    Raises
    ------
    ConfigError
        If the posterior rows of a side are too large, or the plan shuffles factors.
    SolveError
        If a row's system has no finite solution.
    """
    features = features or {}
    sizes = {side: stats.degrees.size for side, stats in prepared.stats.items()}
    largest = max(*sizes.values(), *(own.shape[0] for own in features.values()), 0)
    options = _fitting(options, largest)

    def tell(record: PosteriorRecord) -> None:
        on_iteration(_iteration(record, options))

    posterior = train_posterior(
        *(prepared.backend, prepared.stats["user"], options),
        features=features,
        start=start,
        on_iteration=tell,
    )
    factors, objective = served(posterior)
    spec = ModelSpec(0, options.n_factors, objective)
    placed = Factors(factors.users[: sizes["user"]], factors.items[: sizes["item"]])
    errors = prepared.backend.errors([placed], f"errors of {options.method}")[0]
    if features:
        # To the backend held-out rows without training ratings are cold: their errors come later.
        errors = {"train": errors["train"]}
    result = PointResult(
        spec=spec,
        iterations=len(posterior.history),
        evaluations=len(posterior.history),
        converged=posterior.converged,
        objective=-posterior.history[-1].bound,
        seconds=posterior.history[-1].seconds,
        errors={split: sums.means() for split, sums in errors.items()},
        history=tuple(_iteration(record, options) for record in posterior.history),
    )
    intervals = None
    if options.method == "variational":
        summary = prepared.summary
        intervals = IntervalModel(summary.users, summary.items, Moments.of(posterior))
    return FittedPosterior(
        HeldFactors(*factors), objective, result, intervals, _described(posterior)
    )


def _fitting(options: PosteriorOptions, n_rows: int) -> PosteriorOptions:
    """Choose the covariance for a side of so many rows; ConfigError if none is small enough."""
    chosen = options.for_rows(n_rows)
    if chosen.covariance == "diagonal" and options.covariance is None:
        _LOG.info(
            "diagonal covariances: full ones of %s rows would take more than %.1f GB",
            f"{n_rows:,}",
            LARGEST_TABLE / 1e9,
        )
    size = chosen.columns.total * n_rows * 8
    if size > LARGEST_TABLE:
        raise ConfigError(
            f"`rank={options.n_factors}` with `method={options.method}`: what is known of "
            f"{n_rows:,} rows takes {size / 1e9:.1f} GB, more than "
            f"{LARGEST_TABLE / 1e9:.1f}: use a smaller rank"
            + (', or `covariance="diagonal"`' if chosen.covariance == "full" else "")
        )
    return chosen


def _iteration(record: PosteriorRecord, options: PosteriorOptions) -> IterationRecord:
    """Say what an iteration did in the words of the ridge: what is minimised is −bound."""
    reg = options.objective.reg if options.method == "ridge" else record.noise**2
    return IterationRecord(
        *(0, options.n_factors, reg, record.iteration),
        *(-record.bound, record.change, record.seconds),
    )


def _described(posterior: Posterior) -> dict[str, Any]:
    """Return the options, and what was learnt, as a model's description has them."""
    options = posterior.options
    learnt: dict[str, Any] = {**asdict(options), "rank": options.n_factors}
    if options.method != "variational":
        del learnt["covariance"]
    if options.method == "ridge":
        objective = options.objective
        learnt |= {
            "tol": options.tolerance,
            "reg": objective.reg,
            "exponent": objective.exponent,
            "feature_ridge": options.feature_rows,
            # What a training that goes on from here needs besides the factors.
            "user_mean": user_prior(posterior)[0].tolist(),
        }
        del learnt["noise"], learnt["burn_in"], learnt["samples"]
        return {"method": method_name(options), "posterior": learnt}
    del learnt["reg"], learnt["exponent"], learnt["feature_ridge"]
    learnt |= {"tol": options.tolerance, "noise_deviation": posterior.noise_deviation}
    if options.method == "variational":
        learnt |= {"bound": posterior.history[-1].bound}
        del learnt["burn_in"], learnt["samples"]
    else:
        kept = posterior.history[options.burn_in :]
        chain = np.array([record.noise for record in kept])
        learnt |= {
            "r_hat": _finite(split_r_hat(chain)),
            "effective_samples": _finite(effective_size(chain)),
        }
        del learnt["tol"], learnt["max_iter"]
    if options.noise == "rows":
        learnt["freedom"] = {side: state.freedom for side, state in posterior.sides.items()}
    return {"method": method_name(options), "posterior": learnt}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
