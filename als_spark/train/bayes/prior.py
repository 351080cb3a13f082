"""The prior of the rows of a side, learnt from them: a mean that may depend on features.

With f_u = (1, features of the row), the rows x_u of a side have the prior

    x_u ~ N(Bᵀ f_u, Λ⁻¹),    B | Λ ~ MN(0, Ω⁻¹, Λ⁻¹),    Λ ~ Wishart(I, D)

Ω is diagonal: 2 for the mean, γ for the features, one for each kind of them. Without features that
is the Normal-Wishart prior of Salakhutdinov and Mnih 2008, "Bayesian Probabilistic Matrix
Factorization using Markov Chain Monte Carlo", equation 7; with them, the link matrix of Simm et al.
2015, "Macau: Scalable Bayesian Multi-relational Factorization with Side Information using MCMC",
section 2.2. It is conjugate: given the rows, or their moments, B and Λ have a distribution of the
same kind, whose parameters are in :class:`PriorPosterior`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, gammaln

from als_spark.types import FloatArray

MEAN_WEIGHT = 2.0
"""How many rows' worth the prior mean of zero weighs."""


@dataclass(frozen=True, slots=True)
class PriorPosterior:
    """What is known of B and Λ given the rows.

    Attributes
    ----------
    coefficients : (K, D) float64
        B*, the mean of B.
    covariance : (K, K) float64
        Ω*⁻¹: that of B's rows, in units of Λ⁻¹.
    scale : (D, D) float64
        W* of the Wishart distribution of Λ.
    freedom : float
        Its degrees of freedom.
    ridge : (K,) float64
        The diagonal of Ω.
    groups : tuple of int
        Features of each kind, in their order: each kind has a γ of its own.
    """

    coefficients: FloatArray
    covariance: FloatArray
    scale: FloatArray
    freedom: float
    ridge: FloatArray
    groups: tuple[int, ...]

    @property
    def precision(self) -> FloatArray:
        """(D, D) E Λ."""
        return self.freedom * self.scale

    @property
    def log_det(self) -> float:
        """E ln det Λ."""
        size = self.scale.shape[0]
        half = 0.5 * (self.freedom - np.arange(size))
        return float(digamma(half).sum() + size * math.log(2) + _log_det(self.scale))

    def draw(self, generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw (B, Λ), (K, D) and (D, D)."""
        size, k = self.scale.shape[0], self.covariance.shape[0]
        # Bartlett's decomposition of a Wishart draw.
        bartlett = np.tril(generator.standard_normal((size, size)), -1)
        bartlett[np.diag_indices(size)] = np.sqrt(
            generator.chisquare(self.freedom - np.arange(size))
        )
        root = np.linalg.cholesky(self.scale) @ bartlett
        precision = root @ root.T
        noise = generator.standard_normal((k, size)) @ np.linalg.inv(root)
        return self.coefficients + np.linalg.cholesky(self.covariance) @ noise, precision

    def next_ridge(self) -> FloatArray:
        """(K,) the ridge of the features that the bound is largest at, given B and Λ."""
        ridge = self.ridge.copy()
        size, first = self.scale.shape[0], 1
        for n_features in self.groups:
            part = slice(first, first + n_features)
            own = self.coefficients[part]
            squares = float(np.einsum("kd,de,ke->", own, self.precision, own))
            squares += size * float(np.trace(self.covariance[part, part]))
            ridge[part] = size * n_features / squares
            first += n_features
        return ridge

    def bound(self) -> float:
        """Return minus the divergence of the distribution of (B, Λ) from its prior."""
        own, (k, size) = self.coefficients, self.coefficients.shape
        squares = float(np.einsum("kd,de,ke,k->", own, self.precision, own, self.ridge))
        total = 0.5 * (
            size * float(np.log(self.ridge).sum() + _log_det(self.covariance))
            - squares
            - size * float(self.ridge @ np.diag(self.covariance))
            + k * size
        )
        log_det, freedom = self.log_det, self.freedom
        posterior = _wishart_constant(freedom, _log_det(self.scale), size)
        prior = _wishart_constant(size, 0.0, size)
        total += prior - posterior + 0.5 * (size - freedom) * log_det
        return float(total - 0.5 * np.trace(self.precision) + 0.5 * freedom * size)


def first_prior(size: int, groups: tuple[int, ...] = (), ridge: float = 1.0) -> PriorPosterior:
    """Return the prior itself: what is known before any row is, with features of each kind."""
    n_features = 1 + sum(groups)
    diagonal = np.full(n_features, ridge)
    diagonal[0] = MEAN_WEIGHT
    return PriorPosterior(
        *(np.zeros((n_features, size)), np.diag(1 / diagonal), np.eye(size), float(size)),
        *(diagonal, groups),
    )


def nearest_mean(
    rows: FloatArray, features: FloatArray, weights: FloatArray, ridge: FloatArray
) -> FloatArray:
    """Return the (K, D) coefficients B that Σ g |x − Bᵀ f|² + ḡ Σ_k ω_k |B_k|² is smallest at.

    Parameters
    ----------
    rows : (n, D) float64
    features : (n, K) float64
        1, and the features of each row.
    weights : (n,) float64
        g of each row; ḡ is their mean.
    ridge : (K,) float64
        ω.
    """
    weighted = features * weights[:, None]
    system = weighted.T @ features + np.diag(ridge * weights.mean())
    coefficients: FloatArray = np.linalg.solve(system, weighted.T @ rows)
    return coefficients


def learn_prior(
    rows: FloatArray,
    spread: FloatArray,
    features: FloatArray,
    ridge: FloatArray,
    groups: tuple[int, ...],
) -> PriorPosterior:
    """Learn B and Λ from rows.

    Parameters
    ----------
    rows : (n, D) float64
        The rows, or their means.
    spread : (D, D) float64
        Sum of their covariances; zeros of rows that are known.
    features : (n, K) float64
        1, and the features of each row.
    ridge : (K,) float64
        The diagonal of Ω.
    groups : tuple of int
        Features of each kind.
    """
    n, size = rows.shape
    weights = features.T @ features + np.diag(ridge)
    covariance = np.linalg.inv(weights)
    coefficients = covariance @ (features.T @ rows)
    left = rows - features @ coefficients
    inverse = np.eye(size) + spread + left.T @ left
    inverse += coefficients.T @ (ridge[:, None] * coefficients)
    scale = np.linalg.inv(inverse)
    return PriorPosterior(
        coefficients,
        0.5 * (covariance + covariance.T),
        0.5 * (scale + scale.T),
        float(size + n),
        ridge,
        groups,
    )


def _log_det(matrix: FloatArray) -> float:
    return float(np.linalg.slogdet(matrix)[1])


def _wishart_constant(freedom: float, log_det_scale: float, size: int) -> float:
    """Return the logarithm of the constant of the Wishart density."""
    return float(
        -0.5 * freedom * (log_det_scale + size * math.log(2))
        - 0.25 * size * (size - 1) * math.log(math.pi)
        - gammaln(0.5 * (freedom - np.arange(size))).sum()
    )
