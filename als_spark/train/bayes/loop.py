"""Train a Bayesian factorisation on any backend that brings fixed factors to its ratings.

Users and items take turns, as in ridge ALS; between half-steps the driver learns, from the rows
that came back, the prior of their side and the noise (Salakhutdinov and Mnih 2008, "Bayesian
Probabilistic Matrix Factorization using Markov Chain Monte Carlo", section 3.3; Lim and Teh 2007,
"Variational Bayesian Approach to Movie Rating Prediction", section 3.2). Every update of
``variational`` is the best one given all others, so its lower bound of the logarithm of the
evidence never falls. So does every update of ``ridge``, whose objective never rises: rows, then the
coefficients of their mean (Koren, Bell and Volinsky 2009, "Matrix Factorization Techniques for
Recommender Systems", with the mean of Agarwal and Chen 2009, "Regression-based Latent Factor
Models", equation 4).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from als_spark.errors import ConfigError
from als_spark.solve.posterior import Draw
from als_spark.train.backend import Backend, Factors
from als_spark.train.bayes.draws import Draws, KeptDraws
from als_spark.train.bayes.features import check_features, expected_features, implicit_features
from als_spark.train.bayes.noise import RATE, SHAPE, Gammas, noise_given
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.bayes.plain import plain_factors, predict_rows
from als_spark.train.bayes.side import SideState, generator_of, start_side
from als_spark.train.bayes.steps import run_step
from als_spark.train.bayes.warm import PosteriorStart, warm_side
from als_spark.train.metrics import SideStats
from als_spark.types import SIDES, FloatArray, Side, other_side


@dataclass(frozen=True, slots=True)
class PosteriorRecord:
    """What one iteration (all users, then all items) did.

    ``bound`` is the lower bound of the log evidence, NaN where samples are drawn, and minus the
    objective of a ridge; ``change`` its growth as a share, or ∞ in the first iteration; ``noise``
    the standard deviation of a rating's noise: see :attr:`Posterior.noise_deviation`. ``rmse`` is
    that of the held-out ratings (of the validation ones where there are some), predicted by the
    mean of the samples so far; NaN between its measurements (:data:`als_spark.train.bayes.draws.
    CHECKS`), where nothing is held out, and of other methods.
    """

    iteration: int
    bound: float
    change: float
    noise: float
    seconds: float
    rmse: float = math.nan


@dataclass(frozen=True, slots=True)
class Posterior:
    """A trained Bayesian factorisation, by dense rows.

    Attributes
    ----------
    options : PosteriorOptions
    mean : float
        m: the mean of the training ratings.
    sides : mapping of side to SideState
        At the end of the last iteration.
    noise : float
        a: the precision of the noise where t is 1; its expectation, or the mean of its draws. Of a
        ridge the inverse of the mean squared error of the training ratings.
    users, items : (n_rows, D) float64
        Bias and factors of each row, whose products are the predictions. A row without a training
        rating has its prior mean, which may depend on its features.
    converged : bool
        Whether bound or objective has ended the training; sampling does all its iterations.
    history : tuple of PosteriorRecord
    draws : KeptDraws, optional
        The samples that are kept; None of other methods.
    """

    options: PosteriorOptions
    mean: float
    sides: Mapping[Side, SideState]
    noise: float
    users: FloatArray
    items: FloatArray
    converged: bool
    history: tuple[PosteriorRecord, ...] = field(default=(), repr=False)
    draws: KeptDraws | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        """Say which method, and how far it has come."""
        return (
            f"<Posterior: {self.options.method}, rank {self.options.n_factors}, "
            f"{len(self.history)} iterations>"
        )

    def predict(self, users: np.ndarray, items: np.ndarray) -> FloatArray:
        """Predict the ratings of pairs of dense rows: (n,) float64."""
        return predict_rows(self.users[users], self.items[items], self.mean)

    @property
    def noise_deviation(self) -> float:
        """Standard deviation of the noise of a rating, the geometric mean over the ratings."""
        return _deviation(self.noise, self.sides)


def train_posterior(
    backend: Backend,
    stats: SideStats,
    options: PosteriorOptions,
    *,
    features: Mapping[Side, FloatArray] | None = None,
    start: PosteriorStart | None = None,
    on_iteration: Callable[[PosteriorRecord], None] | None = None,
) -> Posterior:
    """Train a Bayesian factorisation of explicit ratings.

    Parameters
    ----------
    backend : Backend
        Where the ratings are: in this process, or partitioned, with factors that are broadcast.
    stats : SideStats
        Of the users' training ratings.
    options : PosteriorOptions
    features : mapping of side to (n_rows, k) float64, optional
        What is known of the rows besides their ratings, for the prior mean to depend on: numbers of
        mean 0 and about unit size over the rows with ratings; zeros for a row of which nothing is
        known. Rows after those of the backend have no ratings: they are predicted by their features
        alone. Implicit features of the options come beside them.
    start : PosteriorStart, optional
        What ``variational`` or ``ridge`` goes on from, of the same method and rank; random factors
        if not given.
    on_iteration : callable, optional
        Called with the record of each iteration.

    Raises
    ------
    ConfigError
        If the backend keeps factors on the executors (``exchange="shuffle"``), the features of a
        side are no table of finite numbers with a row for each of the backend's, or there is a
        start for ``sample``.
    SolveError
        If a row's system has no finite solution.
    """
    if start is not None and options.method == "sample":
        raise ConfigError(
            '`start=` with `method="sample"`: has no effect: samples are drawn from the usual start'
        )
    training = _Training(backend, stats, options, check_features(backend, features or {}), start)
    history: list[PosteriorRecord] = []
    began, converged = time.perf_counter(), False
    while len(history) < options.iterations and not converged:
        training.iterate()
        bound = training.bound()
        change = math.inf
        if history and options.method != "sample":
            last = history[-1].bound
            change = (bound - last) / abs(last)
            converged = change < options.tolerance
        history.append(
            PosteriorRecord(
                *(len(history) + 1, bound, change, _deviation(training.noise, training.sides)),
                *(time.perf_counter() - began, training.held_out_error()),
            )
        )
        if on_iteration is not None:
            on_iteration(history[-1])
    return training.end(converged, tuple(history))


def train_posteriors(
    backend: Backend,
    stats: SideStats,
    grid: Sequence[PosteriorOptions],
    take: Callable[[int, Posterior], None],
    on_iteration: Callable[[int, PosteriorRecord], None],
) -> None:
    """Train one factorisation after the other: parameters are those of :func:`train_posterior`.

    ``take`` gets each with its position in the grid, and ``on_iteration`` each record.
    """
    for point, options in enumerate(grid):
        tell = partial(on_iteration, point)
        take(point, train_posterior(backend, stats, options, on_iteration=tell))


def _deviation(noise: float, sides: Mapping[Side, SideState]) -> float:
    logs = math.log(noise)
    for state in sides.values():
        rated = state.rated
        logs += float(np.average(np.log(state.scales[rated]), weights=state.degrees[rated]))
    return math.exp(-0.5 * logs)


class _Training:
    """The state of a training, and its steps."""

    def __init__(
        self,
        backend: Backend,
        stats: SideStats,
        options: PosteriorOptions,
        given: Mapping[Side, FloatArray],
        start: PosteriorStart | None,
    ) -> None:
        n_rows = [backend.degrees(side).size for side in SIDES]
        options = options.for_rows(max(*n_rows, *(own.shape[0] for own in given.values()), 0))
        self._backend, self._options = backend, options
        self._n_ratings = int(stats.degrees.sum(dtype=np.int64))
        self._mean = stats.mean
        self._iteration = 0
        self.noise = 1.0
        self._law: Gammas | None = None
        self._held_out = True
        kinds: list[Mapping[Side, FloatArray]] = [given]
        if options.n_features:
            implicit = implicit_features(backend, options.n_features, options.seed)
            for side, own in given.items():
                degrees = backend.degrees(side)
                implicit[side] = expected_features(implicit[side], degrees, own)
            kinds.insert(0, implicit)
        self.sides: dict[Side, SideState] = {
            side: start_side(
                side, backend.degrees(side), [kind[side] for kind in kinds if side in kind], options
            )
            for side in SIDES
        }
        self._warm = start is not None
        if start is not None:
            self.noise = start.noise
            # Predictions are what they were, whatever the mean is now.
            shifts: dict[Side, float] = {"user": 0.0, "item": start.mean - self._mean}
            for side, cold in self.sides.items():
                self.sides[side] = warm_side(cold, start.sides[side], shifts[side])
        self._draws = Draws(options, self.sides) if options.method == "sample" else None

    def iterate(self) -> None:
        """Do one iteration."""
        self._iteration += 1
        for side in SIDES:
            self._half_step(side)
        items = self.sides["item"]
        if self._options.method == "ridge":
            self.noise = self._n_ratings / max(items.weighted_errors, math.ulp(0.0))
            return
        self._law = noise_given(self._n_ratings, items.weighted_errors)
        if self._draws is None:
            self.noise = float(self._law.mean)
            return
        generator = generator_of(self._options.seed, self._iteration, "item").spawn(1)[0]
        self.noise = float(self._law.draw(generator))
        if self._iteration > self._options.burn_in:
            self._draws.add(self.sides, self.noise, Draw(self._options.seed, self._iteration))

    def _half_step(self, side: Side) -> None:
        options, state, other = self._options, self.sides[side], self.sides[other_side(side)]
        draw = Draw(options.seed, self._iteration)
        noise = 1.0 if options.method == "ridge" else self.noise
        solver = state.solver(other.fixed(self._mean, options.dtype), noise, draw)
        label = f"{options.method}, iteration {self._iteration}: {side}s"
        fixed = other.table[: other.n_placed]
        table, _ = run_step(self._backend, side, solver, fixed, state.columns.total, label)
        if options.method == "ridge":
            self.sides[side] = state.with_mean(table)
            return
        self.sides[side] = state.learnt(
            table,
            self.noise,
            generator_of(options.seed, self._iteration, side),
            rows_noise=options.noise == "rows",
            ridge=self._warm or self._iteration > 1,
        )

    def bound(self) -> float:
        """Return the lower bound of the log evidence: see :class:`PosteriorRecord`."""
        if self._options.method == "sample":
            return math.nan
        if self._options.method == "ridge":
            penalties = sum(state.penalty() for state in self.sides.values())
            return -(self.sides["item"].weighted_errors + penalties)
        assert self._law is not None
        total = 0.5 * self._n_ratings * (float(self._law.mean_log) - math.log(2 * math.pi))
        total -= 0.5 * float(self._law.mean) * self.sides["item"].weighted_errors
        total += self._law.bound(SHAPE, RATE)
        return total + sum(state.bound() for state in self.sides.values())

    def held_out_error(self) -> float:
        """Return the error of the mean of the samples: see :attr:`PosteriorRecord.rmse`."""
        if self._draws is None or not self._held_out or not self._draws.to_check:
            return math.nan
        factors = Factors(
            *(
                # The backend knows of no others.
                plain_factors(rows[: self.sides[side].n_placed], side, self._mean).astype(
                    self._options.dtype
                )
                for side, rows in zip(SIDES, self._draws.mean(), strict=True)
            )
        )
        label = f"sample, iteration {self._iteration}: errors of the mean"
        (errors,) = self._backend.errors([factors], label)
        held_out = errors.get("validation", errors.get("test"))
        self._held_out = held_out is not None
        return math.nan if held_out is None else held_out.means().rmse

    def end(self, converged: bool, history: tuple[PosteriorRecord, ...]) -> Posterior:
        """Return what is learnt."""
        users, items = (self.sides[side].means for side in SIDES)
        noise = self.noise
        draws = None
        if self._draws is not None:
            users, items = self._draws.mean()
            noise = float(np.mean(self._draws.noises))
            draws = self._draws.kept()
        return Posterior(
            *(self._options, self._mean, self.sides, noise, users, items, converged, history),
            draws,
        )
