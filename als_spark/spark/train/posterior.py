"""Models with a learnt prior, in the place of ridges towards zero: one, or one for each rank."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from als_spark.errors import ConfigError
from als_spark.model.intervals import IntervalModel
from als_spark.solve.objective import Objective
from als_spark.spark.estimate.work import Method
from als_spark.spark.train.run import PreparedRatings
from als_spark.train.backend import Factors, HeldFactors
from als_spark.train.bayes.chains import effective_size, split_r_hat
from als_spark.train.bayes.loop import Posterior, PosteriorRecord, train_posterior
from als_spark.train.bayes.options import LARGEST_TABLE, PosteriorOptions
from als_spark.train.bayes.serve import prior_deviations, served, user_prior
from als_spark.train.bayes.spread import spread_of
from als_spark.train.bayes.warm import PosteriorStart
from als_spark.train.grid import SweepCollector
from als_spark.train.loop import OnIteration
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
    """None of a ridge, and where fewer than two samples were drawn."""
    description: dict[str, Any]
    """Of the method, for that of the model."""


def method_name(options: PosteriorOptions) -> Method:
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
    options = fitting(prepared, options, features)

    def tell(record: PosteriorRecord) -> None:
        on_iteration(_iteration(record, options))

    posterior = train_posterior(
        *(prepared.backend, prepared.stats["user"], options),
        features=features,
        start=start,
        on_iteration=tell,
    )
    return _fitted(prepared, posterior, with_features=bool(features))


class PosteriorGrid:
    """Takes the posteriors of a sweep as they are trained: measures each, and keeps the best.

    Safe to call from several threads.

    Parameters
    ----------
    prepared : PreparedRatings
        What they are trained on, made ready with ``cold_start="initial"`` for rows without a
        training rating to be predicted by their prior means.
    grid : sequence of PosteriorOptions
        The points.
    collector : SweepCollector
    """

    def __init__(
        self,
        prepared: PreparedRatings,
        grid: Sequence[PosteriorOptions],
        collector: SweepCollector,
    ) -> None:
        self._prepared = prepared
        self._grid = grid
        self._collector = collector
        self._lock = threading.Lock()
        self.best: FittedPosterior | None = None
        """Of the points so far; None while none has a finite measure."""

    def train(self, on_iteration: OnIteration) -> None:
        """Train all points.

        Raises
        ------
        ConfigError
            If the posterior rows of a side are too large at a rank, or the plan shuffles factors.
        SolveError
            If a row's system has no finite solution.
        """
        prepared = self._prepared
        # A rank that is too large is refused before any is trained.
        self._grid = [fitting(prepared, options) for options in self._grid]
        prepared.placement.train_posteriors(
            prepared.stats["user"],
            self._grid,
            self._take,
            lambda point, record: on_iteration(_iteration(record, self._grid[point], point)),
        )

    def _take(self, point: int, posterior: Posterior) -> None:
        options = self._grid[point]
        fitted = _fitted(self._prepared, posterior)
        label = f"ranking measures of {options.method}, d={options.n_factors}"
        (rankings,) = self._prepared.backend.rankings([fitted.factors], label)
        result = replace(
            fitted.result,
            # As the grid has it; a model is served by another.
            spec=ModelSpec(point, options.n_factors, options.objective),
            history=tuple(_iteration(record, options, point) for record in posterior.history),
            rankings=rankings,
            learnt=None if options.method == "ridge" else _learnt(posterior),
        )
        fitted = fitted._replace(result=result)
        with self._lock:
            if self._collector.keep(result, lambda: fitted.factors):
                self.best = fitted


def fitting(
    prepared: PreparedRatings,
    options: PosteriorOptions,
    features: Mapping[Side, FloatArray] = MappingProxyType({}),
) -> PosteriorOptions:
    """Choose the covariance for so many rows, of which ``features`` may have more than the ratings.

    Raises
    ------
    ConfigError
        If none is small enough.
    """
    sizes = [stats.degrees.size for stats in prepared.stats.values()]
    n_rows = max(*sizes, *(own.shape[0] for own in features.values()), 0)
    chosen = options.for_rows(n_rows)
    if chosen.covariance == "diagonal" and options.covariance is None:
        _LOG.info(
            "diagonal covariances: full ones of %s rows would take more than %.1f GB",
            f"{n_rows:,}",
            LARGEST_TABLE / 1e9,
        )
    if options.method == "sample" and chosen.kept(n_rows) < chosen.kept(0):
        _LOG.info(
            "%d samples of each row are kept: %d of %s rows would take more than %.1f GB",
            chosen.kept(n_rows),
            chosen.kept(0),
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


def _fitted(
    prepared: PreparedRatings, posterior: Posterior, *, with_features: bool = False
) -> FittedPosterior:
    """Measure a posterior, and make plain factors of it."""
    options = posterior.options
    sizes = {side: stats.degrees.size for side, stats in prepared.stats.items()}
    factors, objective = served(posterior)
    spec = ModelSpec(0, options.n_factors, objective)
    placed = Factors(factors.users[: sizes["user"]], factors.items[: sizes["item"]])
    errors = prepared.backend.errors([placed], f"errors of {options.method}")[0]
    if with_features:
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
    if options.method == "variational" or (options.method == "sample" and options.samples > 1):
        summary = prepared.summary
        intervals = IntervalModel(summary.users, summary.items, spread_of(posterior))
    return FittedPosterior(
        HeldFactors(*factors), objective, result, intervals, _described(posterior)
    )


def _iteration(
    record: PosteriorRecord, options: PosteriorOptions, point: int = 0
) -> IterationRecord:
    """Say what an iteration did in the words of the ridge: what is minimised is −bound."""
    given = options.method == "ridge"
    return IterationRecord(
        *(point, options.n_factors, options.objective.reg if given else None, record.iteration),
        *(-record.bound, record.change, record.seconds),
        noise=math.nan if given else record.noise,
        rmse=record.rmse,
    )


def _learnt(posterior: Posterior) -> dict[str, float]:
    """Return what stands in the place of λ, and of samples how far to trust it."""
    learnt = {"noise_deviation": posterior.noise_deviation}
    if posterior.options.method == "sample":
        kept = posterior.history[posterior.options.burn_in :]
        chain = np.array([record.noise for record in kept])
        learnt |= {"r_hat": split_r_hat(chain), "effective_samples": effective_size(chain)}
    return learnt


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
    learnt |= {"tol": options.tolerance}
    learnt |= {name: _finite(value) for name, value in _learnt(posterior).items()}
    learnt["prior_deviations"] = prior_deviations(posterior)
    if options.method == "variational":
        learnt |= {"bound": posterior.history[-1].bound}
        del learnt["burn_in"], learnt["samples"]
    else:
        del learnt["tol"], learnt["max_iter"]
    if options.noise == "rows":
        learnt["freedom"] = {side: state.freedom for side, state in posterior.sides.items()}
    return {"method": method_name(options), "posterior": learnt}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
