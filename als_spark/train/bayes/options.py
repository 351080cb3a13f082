"""What is to be trained by a Bayesian method, and what it leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from als_spark.errors import ConfigError
from als_spark.types import DType

PosteriorMethod = Literal["variational", "sample"]
NoiseChoice = Literal["rows", "shared"]

RANKS: dict[PosteriorMethod, int] = {"variational": 8, "sample": 16}
"""The ranks that are taken where none is given."""
LARGEST_TABLE = 2 << 30
"""Bytes that the posterior rows of a side may have; they are on the driver, and in every worker."""


@dataclass(frozen=True, slots=True)
class PosteriorOptions:
    """How a Bayesian factorisation is trained; nothing needs to be tuned.

    Attributes
    ----------
    method : {"variational", "sample"}
        ``variational`` keeps mean and covariance of each row; ``sample`` draws rows by Gibbs
        sampling, and predicts by the mean over the samples.
    rank : int, optional
        Number of factors d; 8, or 16 to sample, if not given.
    noise : {"rows", "shared"}
        Whether users and items with much or little noise are told apart, or all ratings are as
        noisy as each other.
    n_features : int
        Implicit features that the prior means of rows depend on (see
        :mod:`als_spark.train.bayes.features`); 0: none.
    tol : float
        ``variational`` stops at the first iteration whose bound is less than this share above that
        of the one before.
    max_iter : int
        Cap on the iterations of ``variational``.
    burn_in, samples : int
        Iterations of ``sample`` before those that count, and those that do.
    seed : int
        Of the start, the features and the samples.
    dtype : {"float32", "float64"}
        Of the products of ratings and factors; systems are solved in float64.

    Raises
    ------
    ConfigError
        If a value is none that it may have.
    """

    method: PosteriorMethod = "variational"
    rank: int | None = None
    noise: NoiseChoice = "rows"
    n_features: int = 0
    tol: float = 3e-4
    max_iter: int = 1000
    burn_in: int = 40
    samples: int = 160
    seed: int = 0
    dtype: DType = "float32"

    def __post_init__(self) -> None:
        """Check every member."""
        words = {
            "method": ("variational", "sample"),
            "noise": ("rows", "shared"),
            "dtype": ("float32", "float64"),
        }
        for name, known in words.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}={getattr(self, name)!r}: use {' or '.join(known)}")
        least = {"rank": 1, "n_features": 0, "max_iter": 1, "burn_in": 0, "samples": 1, "seed": 0}
        for name, smallest in least.items():
            value = self.n_factors if name == "rank" else getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
                raise ConfigError(f"{name}={value!r}: use a whole number of at least {smallest}")
        if not (math.isfinite(self.tol) and self.tol >= 0):
            raise ConfigError(f"tol={self.tol!r}: use a finite number of at least 0, such as 3e-4")

    @property
    def n_factors(self) -> int:
        """Number of factors d."""
        return RANKS[self.method] if self.rank is None else self.rank

    @property
    def iterations(self) -> int:
        """How many iterations there are at most."""
        return self.max_iter if self.method == "variational" else self.burn_in + self.samples
