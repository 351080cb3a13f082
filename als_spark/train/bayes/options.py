"""What is to be trained by a Bayesian method, or by a ridge towards a learnt mean."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from als_spark.errors import ConfigError
from als_spark.solve.objective import Objective
from als_spark.solve.posterior import Columns, Kind
from als_spark.types import DType

PosteriorMethod = Literal["variational", "sample", "ridge"]
NoiseChoice = Literal["rows", "shared"]
Covariance = Literal["full", "diagonal"]

KINDS: dict[PosteriorMethod, Kind] = {
    "variational": "variational",
    "sample": "sample",
    "ridge": "mean",
}
"""What a half-step of each method finds of a row."""

RANK = 16
"""That is taken where none is given: more factors than there are cost little error, fewer much."""
TOLERANCES: dict[PosteriorMethod, float] = {"variational": 3e-4, "sample": 0.0, "ridge": 2e-3}
"""Where none is given; a ridge fits noise if it goes on for long."""
RIDGE, FEATURE_RIDGE = 20.0, 300.0
"""λ and κ of ``ridge`` where none is given: for ratings from 1 to 5."""
LARGEST_TABLE = 2 << 30
"""Bytes that the posterior rows of a side may have; they are on the driver, and in every worker."""
KEPT = 20
"""Samples that are kept of ``sample``, evenly spaced."""
KEPT_BYTES = 4
"""Of each of their numbers."""


@dataclass(frozen=True, slots=True)
class PosteriorOptions:
    """How a factorisation with a learnt prior is trained.

    Nothing needs to be tuned but λ of a ridge.

    Attributes
    ----------
    method : {"variational", "sample", "ridge"}
        ``variational`` keeps mean and covariance of each row; ``sample`` draws rows by Gibbs
        sampling, and predicts by the mean over the samples; ``ridge`` minimises squared errors and
        the distances of rows, biases included, from a mean that depends on the features::

            Σ_Ω (r_ui − m − b_u − c_i − u_u·v_i)² + λ Σ_sides (Σ_rows n^ν |x − Bᵀ f|² + κ n̄ |B|²)

        with n̄ the mean of n^ν over the rows (of the mean alone, in B, κ is 2).
    rank : int, optional
        Number of factors d; 16 if not given.
    noise : {"rows", "shared"}
        Whether users and items with much or little noise are told apart, or all ratings are as
        noisy as each other; a ridge takes them for that.
    n_features : int
        Implicit features that the prior means of rows depend on (see
        :mod:`als_spark.train.bayes.features`); 0: none.
    tol : float, optional
        ``variational`` and ``ridge`` stop at the first iteration that changes bound, or objective,
        by less than this share; 3e-4, or 2e-3 for a ridge, if not given.
    max_iter : int
        Cap on the iterations of ``variational`` and ``ridge``.
    burn_in, samples : int
        Iterations of ``sample`` before those that count, and those that do.
    seed : int
        Of the start, the features and the samples.
    dtype : {"float32", "float64"}
        Of the products of ratings and factors; systems are solved in float64.
    reg : float, optional
        λ of ``ridge``, above 0; 20 if not given.
    exponent : float, optional
        ν of ``ridge``; 0 if not given.
    feature_ridge : float, optional
        κ of ``ridge``, above 0: the coefficients of the features weigh as much as so many rows; 300
        if not given.
    covariance : {"full", "diagonal"}, optional
        What ``variational`` keeps of a row: the covariances of its numbers, D (D + 1) / 2, or their
        variances alone, D, as if they were independent; full if not given, and diagonal where the
        covariances of a side would pass :data:`LARGEST_TABLE` (see :meth:`for_rows`).

    Raises
    ------
    ConfigError
        If a value is none that it may have, or λ, ν, κ or the covariance is given for another
        method.
    """

    method: PosteriorMethod = "variational"
    rank: int | None = None
    noise: NoiseChoice = "rows"
    n_features: int = 0
    tol: float | None = None
    max_iter: int = 1000
    burn_in: int = 40
    samples: int = 160
    seed: int = 0
    dtype: DType = "float32"
    reg: float | None = None
    exponent: float | None = None
    feature_ridge: float | None = None
    covariance: Covariance | None = None

    def __post_init__(self) -> None:
        """Check every member."""
        words = {
            "method": ("variational", "sample", "ridge"),
            "noise": ("rows", "shared"),
            "dtype": ("float32", "float64"),
        }
        for name, known in words.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}={getattr(self, name)!r}: use {_either(known)}")
        least = {"rank": 1, "n_features": 0, "max_iter": 1, "burn_in": 0, "samples": 1, "seed": 0}
        for name, smallest in least.items():
            value = self.n_factors if name == "rank" else getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
                raise ConfigError(f"{name}={value!r}: use a whole number of at least {smallest}")
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ConfigError(f"tol={self.tol!r}: use a finite number of at least 0, such as 3e-4")
        self._check_ridge()
        if self.covariance not in (None, "full", "diagonal"):
            raise ConfigError(f"covariance={self.covariance!r}: use full or diagonal")
        if self.covariance is not None and self.method != "variational":
            raise ConfigError(
                f"`covariance={self.covariance!r}` with `method={self.method}`: has no effect: "
                'leave it out, or use method="variational"'
            )

    def _check_ridge(self) -> None:
        for name in ("reg", "exponent", "feature_ridge"):
            value = getattr(self, name)
            if value is None:
                continue
            if self.method != "ridge":
                raise ConfigError(
                    f"`{name}={value!r}` with `method={self.method}`: has no effect: leave it out, "
                    'or use method="ridge"'
                )
            if not (math.isfinite(value) and (value > 0 or (value == 0 and name == "exponent"))):
                least = "of at least 0" if name == "exponent" else "above 0"
                raise ConfigError(f"`{name}={value!r}`: use a finite number {least}")

    @property
    def objective(self) -> Objective:
        """λ and ν of a ridge; λ is 0 of the methods that learn it."""
        if self.method != "ridge":
            return Objective(0.0)
        return Objective(RIDGE if self.reg is None else self.reg, self.exponent or 0.0)

    @property
    def note(self) -> str:
        """What is learnt, or which objective λ belongs to, in words for plots and tables."""
        features = f"{self.n_features} implicit features" if self.n_features else ""
        if self.method == "ridge":
            mean = f" that depends on {features}" if features else ""
            return (
                f"{self.objective.note}; with biases, towards a mean{mean} "
                f"(κ = {self.feature_rows:g})"
            )
        drawn = f", {self.samples} draws after {self.burn_in}" if self.method == "sample" else ""
        noise = "of each user and item" if self.noise == "rows" else "shared by all ratings"
        features = f"; {features}" if features else ""
        covariance = "; diagonal covariances" if self.covariance == "diagonal" else ""
        words = f"{self.method}{drawn}: prior and noise {noise} learnt, with biases"
        return f"{words}{features}{covariance}"

    @property
    def tolerance(self) -> float:
        """The share that ends the training."""
        return TOLERANCES[self.method] if self.tol is None else self.tol

    @property
    def feature_rows(self) -> float:
        """κ of a ridge."""
        return FEATURE_RIDGE if self.feature_ridge is None else self.feature_ridge

    @property
    def n_factors(self) -> int:
        """Number of factors d."""
        return RANK if self.rank is None else self.rank

    @property
    def columns(self) -> Columns:
        """Layout of the posterior rows."""
        kind: Kind = "diagonal" if self.covariance == "diagonal" else KINDS[self.method]
        return Columns(self.n_factors + 1, kind)

    def for_rows(self, n_rows: int) -> PosteriorOptions:
        """Choose the covariance, where that is left open, for sides of at most so many rows."""
        if self.method != "variational" or self.covariance is not None:
            return self
        fits = self.columns.total * n_rows * 8 <= LARGEST_TABLE
        return replace(self, covariance="full" if fits else "diagonal")

    def kept(self, n_rows: int) -> int:
        """How many samples are kept of sides of at most so many rows: see :data:`KEPT`.

        Fewer where those of a side would pass :data:`LARGEST_TABLE`.
        """
        one = max(n_rows, 1) * self.columns.size * KEPT_BYTES
        return max(min(KEPT, self.samples, LARGEST_TABLE // one), 1)

    @property
    def iterations(self) -> int:
        """How many iterations there are at most."""
        return self.burn_in + self.samples if self.method == "sample" else self.max_iter


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
