"""One side of a Bayesian factorisation between two half-steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from als_spark.solve.linalg import row_dots
from als_spark.solve.philox import normals
from als_spark.solve.posterior import (
    Columns,
    Draw,
    FixedSide,
    PosteriorSolver,
    RowPriors,
    unpack,
)
from als_spark.train.bayes.noise import FREEDOMS, Gammas, log_freedoms, scales_given
from als_spark.train.bayes.options import PosteriorMethod, PosteriorOptions
from als_spark.train.bayes.prior import PriorPosterior, first_prior, learn_prior, nearest_mean
from als_spark.types import SIDES, DType, FloatArray, IntArray, Side

START_SPREAD: dict[PosteriorMethod, float] = {"variational": 0.1, "sample": 0.1, "ridge": 0.5}
"""Standard deviation of the factors that the first half-step is solved against: a large ridge would
take long to leave zero."""
START_VARIANCE = 0.01
"""The variance that they are taken to have."""
START_FREEDOM = 10.0


@dataclass(frozen=True, slots=True)
class SideState:
    """What is known of the rows of a side.

    Attributes
    ----------
    columns : Columns
    table : (n_rows, columns) float64
        Posterior rows: see :mod:`als_spark.solve.posterior`; a row without a rating has its prior
        mean.
    features : (n_rows, K) float64
        1, and the features of each row.
    degrees : (n_rows,) int
        Training ratings of each row. Rows that the ratings do not know come last, with none.
    n_placed : int
        Rows that the ratings know, with training ratings or without.
    prior : PriorPosterior
        What the rows tell of their prior.
    coefficients, precision : (K, D) and (D, D)
        B and Λ of the next half-step: expectations, or a draw; λ times the identity of a ridge.
    scales : (n_rows,) float64
        t of each row: expectations, or draws.
    scale_law : Gammas or None
        The distributions of t; None where noise is shared.
    freedom : float
        df of t.
    weights : (n_rows,) float64 or None
        n^ν of each row, which multiplies its precision; None: all are 1.
    """

    columns: Columns
    table: FloatArray
    features: FloatArray
    degrees: IntArray
    n_placed: int
    prior: PriorPosterior
    coefficients: FloatArray
    precision: FloatArray
    scales: FloatArray
    scale_law: Gammas | None = None
    freedom: float = START_FREEDOM
    weights: FloatArray | None = None

    @property
    def rated(self) -> np.ndarray:
        """(n_rows,) bool: whether the row has a training rating."""
        rated: np.ndarray = self.degrees > 0
        return rated

    @property
    def _rated_rows(self) -> np.ndarray | slice:
        """The same, to choose rows by: of all rows a slice, which copies nothing."""
        rated = self.rated
        return slice(None) if rated.all() else rated

    @property
    def means(self) -> FloatArray:
        """(n_rows, D) mean, or draw, of each row: bias, then factors."""
        return self.columns.means(self.table)

    @property
    def prior_means(self) -> FloatArray:
        """(n_rows, D) Bᵀ f of each row."""
        return self.features @ self.coefficients

    @property
    def weighted_errors(self) -> float:
        """Σ a⁻¹ times what the precision of a rating multiplies: t_u t_i E(error²)."""
        return float(self.scales[self.rated] @ self.columns.errors(self.table)[self.rated])

    def fixed(self, mean: float, dtype: DType) -> FixedSide:
        """Prepare the side for the half-step of the other."""
        n = self.n_placed
        return FixedSide.of(self.table[:n], self.columns, self.scales[:n], mean, dtype)

    def solver(self, fixed: FixedSide, noise: float, draw: Draw) -> PosteriorSolver:
        """Return what finds the posterior of the rows, with the precision a of the noise."""
        # Without features one mean is that of all rows.
        means = self.coefficients if self.features.shape[1] == 1 else self.prior_means
        priors = RowPriors(means, self.precision, self.weights, noise * self.scales)
        return PosteriorSolver(self.columns, fixed, priors, draw)

    def learnt(
        self,
        table: FloatArray,
        noise: float,
        generator: np.random.Generator,
        *,
        rows_noise: bool,
        ridge: bool,
    ) -> SideState:
        """Take new posterior rows, and learn noise and prior from them.

        ``noise`` is a, the ``generator`` draws where the method samples; ``rows_noise`` says
        whether t is learnt, ``ridge`` whether γ is learnt anew.
        """
        rated = self._rated_rows
        state = replace(self, table=self._whole(table))
        table = state.table
        if rows_noise:
            state = state._with_scales(noise, generator)
        spread = np.zeros_like(self.precision)
        if self.columns.n_covariances:
            total = self.columns.packed(table)[rated].sum(axis=0)
            spread = unpack(total[None], self.columns.size)[0]
        diagonal = self.prior.next_ridge() if ridge else self.prior.ridge
        rows = self.columns.means(table)[rated]
        prior = learn_prior(rows, spread, self.features[rated], diagonal, self.prior.groups)
        if self.columns.kind == "sample":
            coefficients, precision = prior.draw(generator)
        else:
            coefficients, precision = prior.coefficients, prior.precision
        state = replace(state, prior=prior, coefficients=coefficients, precision=precision)
        state._put_priors()
        return state

    def with_mean(self, table: FloatArray) -> SideState:
        """Take new rows of a ridge, and solve the coefficients of their mean."""
        rated, weights = self.rated, self.weights
        assert weights is not None
        table = self._whole(table)
        coefficients = nearest_mean(
            *(self.columns.means(table)[rated], self.features[rated], weights[rated]),
            self.prior.ridge,
        )
        state = replace(self, table=table, coefficients=coefficients)
        state._put_priors()
        return state

    def _whole(self, table: FloatArray) -> FloatArray:
        """Return solved rows with places for those that the ratings do not know."""
        more = self.degrees.size - self.n_placed
        return np.pad(table, ((0, more), (0, 0))) if more else table

    def _put_priors(self) -> None:
        """Give the rows without ratings their prior."""
        unrated = ~self.rated
        self.columns.means(self.table)[unrated] = self.prior_means[unrated]
        if self.columns.n_covariances:
            own = self.columns.pack(np.linalg.inv(self.precision)[None])
            self.columns.packed(self.table)[unrated] = own

    def drawn(self, draw: Draw, side: Side) -> FloatArray:
        """(n_rows, D) a sample: those without ratings are drawn from the prior, others are as is.

        The numbers that a row is drawn by are its own in every iteration of a seed (see
        :mod:`als_spark.solve.philox`), those that would have drawn it if it had ratings.
        """
        rows, unrated = self.means.copy(), np.flatnonzero(~self.rated)
        noise = draw.normals(unrated, rows.shape[1], side)
        # R Rᵀ = Λ, and R⁻ᵀ z has the covariance Λ⁻¹.
        root = np.linalg.cholesky(self.precision)
        rows[unrated] = self.prior_means[unrated] + np.linalg.solve(root.T, noise.T).T
        return rows

    def penalty(self) -> float:
        """Return what the side adds to the objective of a ridge."""
        rated, weights, own = self.rated, self.weights, self.coefficients
        assert weights is not None
        left = (self.means - self.prior_means)[rated]
        distances = float(weights[rated] @ row_dots(left @ self.precision, left))
        ridge = self.prior.ridge * weights[rated].mean()
        return distances + float(np.einsum("k,kd,de,ke->", ridge, own, self.precision, own))

    def _with_scales(self, noise: float, generator: np.random.Generator) -> SideState:
        """Learn t of each row, and df."""
        law = scales_given(self.degrees, self.columns.errors(self.table), noise, self.freedom)
        rated = self.rated
        if self.columns.kind == "sample":
            scales = law.draw(generator)
            logs = log_freedoms(scales[rated], np.log(scales[rated]))
            chances = np.exp(logs - logs.max())
            freedom = float(generator.choice(FREEDOMS, p=chances / chances.sum()))
        else:
            scales = law.mean
            logs = log_freedoms(scales[rated], law.mean_log[rated])
            freedom = float(FREEDOMS[logs.argmax()])
        return replace(self, scales=scales, scale_law=law, freedom=freedom)

    def bound(self) -> float:
        """Return what the side adds to the lower bound (its share of the ratings' apart)."""
        rated, columns, prior = self._rated_rows, self.columns, self.prior
        table, features = self.table[rated], self.features[rated]
        left = columns.means(table) - features @ prior.coefficients
        moments = unpack(columns.packed(table).sum(axis=0)[None], columns.size)[0] + left.T @ left
        squares = float(np.einsum("de,de->", prior.precision, moments))
        squares += columns.size * float(
            np.einsum("nk,kl,nl->", features, prior.covariance, features, optimize=True)
        )
        total = 0.5 * len(table) * (prior.log_det + columns.size) - 0.5 * squares
        total += 0.5 * float(columns.log_dets(table).sum()) + prior.bound()
        if self.scale_law is not None:
            law = Gammas(self.scale_law.shape[rated], self.scale_law.rate[rated])
            half = 0.5 * self.freedom
            total += 0.5 * float(self.degrees[rated] @ law.mean_log) + law.bound(half, half)
        return total


def start_side(
    side: Side, degrees: IntArray, features: Sequence[FloatArray], options: PosteriorOptions
) -> SideState:
    """Return a side before the first half-step: random factors, no biases.

    ``degrees`` are of the rows that the ratings know; ``features`` (n_rows, k), of each kind, are
    those that the prior mean depends on: of these rows, or of more.
    """
    columns = options.columns
    n_placed = degrees.size
    n, size = max([n_placed, *(own.shape[0] for own in features)]), columns.size
    degrees = np.pad(degrees, (0, n - n_placed))
    table = np.zeros((n, columns.total))
    # The start of the features has iteration 0 of the seed itself.
    drawn = normals(np.arange(n), size, seed=options.seed + 1, iteration=0, side=side)
    columns.means(table)[:, 1:] = START_SPREAD[options.method] * drawn[:, 1:]
    if columns.n_covariances:
        columns.packed(table)[:] = columns.pack(START_VARIANCE * np.eye(size)[None])
    padded = (np.pad(own, ((0, n - own.shape[0]), (0, 0))) for own in features)
    whole = np.concatenate([np.ones((n, 1)), *padded], axis=1)
    groups = tuple(own.shape[1] for own in features)
    if options.method == "ridge":
        prior = first_prior(size, groups, options.feature_rows)
        objective = options.objective
        weights = objective.weights(np.maximum(degrees, 1)) / objective.reg
        precision = objective.reg * np.eye(size)
        return SideState(
            *(columns, table, whole, degrees, n_placed),
            *(prior, prior.coefficients, precision, np.ones(n)),
            weights=weights,
        )
    prior = first_prior(size, groups)
    return SideState(
        *(columns, table, whole, degrees, n_placed),
        *(prior, prior.coefficients, np.eye(size), np.ones(n)),
    )


def generator_of(seed: int, iteration: int, side: Side) -> np.random.Generator:
    """Return the driver's random numbers of a half-step."""
    key = np.random.SeedSequence([seed, iteration, SIDES.index(side), 1])
    return np.random.Generator(np.random.Philox(key))
