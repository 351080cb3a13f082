"""Where a variational training starts: at the posterior of an earlier one, row by row.

Means, covariances and t of the rows, the noise, and the ridge of the features are those of the
earlier one; the prior is learnt from these rows anew, with the features of now. On the same ratings
this is what the earlier training would have done next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from als_spark.solve.posterior import Columns, covariance_places, unpack
from als_spark.train.bayes.prior import learn_prior
from als_spark.train.bayes.side import SideState
from als_spark.types import FloatArray, Side

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SideStart:
    """What is known of a side, by the dense rows of the training to come.

    Attributes
    ----------
    known : (n_rows,) bool
        The rows of which something is.
    rows : (n_rows, D) float64
        Posterior means: bias, then factors; of the other rows anything.
    packed : (n_rows, D (D + 1) / 2) or (n_rows, D) float64
        Lower triangles of their covariances, row by row, or diagonals, whichever the training to
        come will have.
    scales : (n_rows,) float64
        t.
    freedom : float
        df of t.
    ridge : float
        γ of the features.
    """

    known: BoolArray
    rows: FloatArray
    packed: FloatArray
    scales: FloatArray
    freedom: float
    ridge: float


@dataclass(frozen=True, slots=True)
class PosteriorStart:
    """The posterior of an earlier variational training, with its mean rating m and its noise a."""

    mean: float
    noise: float
    sides: Mapping[Side, SideStart]


def warm_side(cold: SideState, start: SideStart, shift: float = 0.0) -> SideState:
    """Put what is known of a side in the place of its usual start.

    Other rows begin at their prior. ``shift`` is added to the biases.
    """
    # Rows that the ratings do not know come last.
    known, columns = np.pad(start.known, (0, cold.degrees.size - cold.n_placed)), cold.columns
    if not known.any():
        return cold
    rows = start.rows[start.known]
    packed = _repacked(start.packed[start.known], columns)
    rows[:, 0] += shift
    scales = np.ones(known.size)
    scales[known] = start.scales[start.known]
    spread = unpack(packed.sum(axis=0)[None], columns.size)[0]
    ridge = cold.prior.ridge.copy()
    ridge[1:] = start.ridge
    prior = learn_prior(rows, spread, cold.features[known], ridge, cold.prior.groups)
    state = replace(
        cold,
        table=np.zeros_like(cold.table),
        prior=prior,
        coefficients=prior.coefficients,
        precision=prior.precision,
        scales=scales,
        freedom=start.freedom,
    )
    columns.means(state.table)[:] = state.prior_means
    columns.packed(state.table)[:] = columns.pack(np.linalg.inv(prior.precision)[None])
    columns.means(state.table)[known] = rows
    columns.packed(state.table)[known] = packed
    return state


def _repacked(packed: FloatArray, columns: Columns) -> FloatArray:
    """Return covariances as the rows of a training have them: without what it leaves out."""
    size = columns.size
    if packed.shape[1] == columns.n_covariances:
        return packed
    first, second = covariance_places(size, packed.shape[1])
    if packed.shape[1] > size:
        return packed[:, first == second]
    whole = np.zeros((packed.shape[0], columns.n_covariances))
    whole[:, np.equal(*columns.places)] = packed
    return whole
