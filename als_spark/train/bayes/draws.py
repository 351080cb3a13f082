"""The samples of a training as they come: their mean, and the few of them that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from als_spark.solve.posterior import Draw
from als_spark.train.bayes.mean import SampleMean
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.bayes.side import SideState
from als_spark.types import SIDES, FloatArray, Side

CHECKS = 10
"""How often the error of the mean is measured while samples are drawn."""


class KeptDraws(NamedTuple):
    """Some of the samples, evenly spaced: what tells how uncertain predictions are."""

    rows: tuple[FloatArray, FloatArray]
    """(n_rows, S, D) float32 of users and of items: bias, then factors."""
    scales: tuple[FloatArray, FloatArray]
    """(n_rows,) float64 of both: t whose t^−½ is the mean of those of all samples."""


class Draws:
    """Gathers the samples of a training.

    Parameters
    ----------
    options : PosteriorOptions
        Of the training.
    sides : mapping of side to SideState
        Before the first sample, for the numbers of rows.
    """

    def __init__(self, options: PosteriorOptions, sides: Mapping[Side, SideState]) -> None:
        self._mean = SampleMean(options.n_factors)
        n_rows = [sides[side].degrees.size for side in SIDES]
        n_kept, size = options.kept(max(n_rows)), options.columns.size
        self._kept = spaced(options.samples, n_kept)
        self._checked = spaced(options.samples, min(CHECKS, options.samples))
        self._rows = [np.empty((n, n_kept, size), np.float32) for n in n_rows]
        self._roots = [np.zeros(n) for n in n_rows]
        self.noises: list[float] = []
        """a of each sample."""

    def add(self, sides: Mapping[Side, SideState], noise: float, draw: Draw) -> None:
        """Add a sample; rows without a rating are kept as ``draw`` draws them from their prior."""
        users, items = (sides[side] for side in SIDES)
        self._mean.add(users.means, items.means)
        self.noises.append(noise)
        for k, side in enumerate(SIDES):
            self._roots[k] += sides[side].scales ** -0.5
            if (number := len(self.noises)) in self._kept:
                self._rows[k][:, self._kept.index(number)] = sides[side].drawn(draw, side)

    @property
    def to_check(self) -> bool:
        """Whether the error of the mean is to be measured now."""
        return len(self.noises) in self._checked

    def mean(self) -> tuple[FloatArray, FloatArray]:
        """Return (n_users, D) and (n_items, D) of the mean of the samples so far."""
        return self._mean.mean()

    def kept(self) -> KeptDraws:
        """Return the samples that are kept."""
        # Of variances, 1 / t, there is no mean where df is 2 or less.
        users, items = ((len(self.noises) / roots) ** 2 for roots in self._roots)
        return KeptDraws((self._rows[0], self._rows[1]), (users, items))


def spaced(total: int, n: int) -> list[int]:
    """Return n of the numbers from 1 to ``total``, evenly spaced, the last one of them."""
    return [total * (k + 1) // n for k in range(n)]
