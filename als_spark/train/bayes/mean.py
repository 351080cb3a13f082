"""The mean over samples as one pair of factors, of bounded rank.

The predictions of S samples, (1/S) Σ_s u_s·v_s, are the products of their factors side by side. A
truncated singular value decomposition cuts these back, every few samples, so that memory stays that
of a few models; the biases are means of their own, outside it.
"""

from __future__ import annotations

import numpy as np

from als_spark.types import FloatArray

BATCH = 4
"""Samples that are gathered before they are cut back."""
KEPT, LEAST_KEPT, MOST_KEPT = 4, 2, 64
"""Factors that are kept between samples: 4 times the rank up to 64, or twice the rank."""
SMALLEST = 1e-11
"""Directions of a smaller share of the squares of a side are noise of the arithmetic."""


class SampleMean:
    """Sums samples up.

    Parameters
    ----------
    rank : int
        Of the samples, and of the factors of their mean.
    """

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._kept = max(LEAST_KEPT * rank, min(KEPT * rank, MOST_KEPT))
        self._factors: list[tuple[FloatArray, FloatArray]] = []
        self._biases: list[FloatArray] = []
        self.count = 0

    def add(self, users: FloatArray, items: FloatArray) -> None:
        """Add a sample: (n_users, D) and (n_items, D), bias, then factors."""
        self._factors.append((users[:, 1:], items[:, 1:]))
        biases = [users[:, 0], items[:, 0]]
        if self._biases:
            self._biases = [total + own for total, own in zip(self._biases, biases, strict=True)]
        else:
            self._biases = [own.copy() for own in biases]
        self.count += 1
        if len(self._factors) > BATCH:
            self._factors = [self._cut(self._kept)]

    def mean(self) -> tuple[FloatArray, FloatArray]:
        """Return (n_users, D) and (n_items, D) of the mean: biases, then factors of the rank."""
        users, items = self._cut(self._rank)
        return (
            np.column_stack([self._biases[0] / self.count, users / np.sqrt(self.count)]),
            np.column_stack([self._biases[1] / self.count, items / np.sqrt(self.count)]),
        )

    def _cut(self, rank: int) -> tuple[FloatArray, FloatArray]:
        """Return factors whose products are nearest to the sums of those of all samples."""
        sides = [np.concatenate(side, axis=1) for side in zip(*self._factors, strict=True)]
        # By the products of the columns with each other: few numbers, where the rows are many.
        roots, inverses = zip(*map(_roots, sides), strict=True)
        rotation, values, other = np.linalg.svd(roots[0] @ roots[1].T)
        rank = min(rank, values.size)
        weights = np.sqrt(values[:rank])
        turns = rotation[:, :rank] * weights, other[:rank].T * weights
        found = [
            side @ (inverse @ turn)
            for side, inverse, turn in zip(sides, inverses, turns, strict=True)
        ]
        missing = self._rank - rank
        if missing > 0:
            # Fewer rows than factors: the others are zeros.
            found = [np.pad(side, ((0, 0), (0, missing))) for side in found]
        return found[0], found[1]


def _roots(factors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return R (k, K) and R⁺ (K, k), where (n, K) factors F are Q R, and Q = F R⁺ orthonormal."""
    squares, vectors = np.linalg.eigh(factors.T @ factors)
    chosen = squares > SMALLEST * squares[-1]
    sizes, vectors = np.sqrt(squares[chosen]), vectors[:, chosen]
    return sizes[:, None] * vectors.T, vectors / sizes
