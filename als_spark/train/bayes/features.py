"""Features of rows. Implicit: what users chose to rate, and items by whom, as a few numbers a row.

X has 1 / √n_u where user u has a *training* rating, zero elsewhere: the vectors whose sums SVD++
(Koren 2008, "Factorization Meets the Neighborhood", equation 15) adds to the factors of a user. Its
truncated singular value decomposition gives both sides their features. It is found by subspace
iteration from a random start (Halko, Martinsson and Tropp 2011, "Finding Structure with
Randomness", algorithm 4.4), each step of it two products with the blocks of ratings: half-steps
without a solve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from als_spark.errors import ConfigError
from als_spark.solve.column_sums import ColumnSums
from als_spark.solve.philox import normals
from als_spark.train.backend import Backend
from als_spark.train.bayes.steps import run_step
from als_spark.types import SIDES, FloatArray, IntArray, Side

BoolArray = npt.NDArray[np.bool_]

POWER_STEPS = 4
"""Iterations of the subspace: each two products."""
OVERSAMPLING = 10
"""Directions that are iterated beyond those that are kept."""
EXPECTED_RIDGE = 10.0
"""How many rows' worth coefficients of zero weigh: see :func:`expected_features`."""


def implicit_features(backend: Backend, n_features: int, seed: int = 0) -> dict[Side, FloatArray]:
    """Compute the implicit features of both sides.

    Parameters
    ----------
    backend : Backend
        Where the training ratings are.
    n_features : int
        Directions to keep; fewer where a side has fewer rows with ratings.
    seed : int
        Of the random start; what it changes is far below the features' own size.

    Returns
    -------
    mapping of side to (n_rows, k) float64
        The coordinates of the rows with ratings have mean 0, and a mean square of 1 on
        average over the directions; rows without a
        rating are zeros. Signs are such that the largest entry of each item direction is positive.
    """
    degrees = {side: backend.degrees(side) for side in SIDES}
    rated = min(int(np.count_nonzero(degrees[side])) for side in SIDES)
    k = min(n_features, rated)
    width = min(k + OVERSAMPLING, rated)
    roots = np.sqrt(np.maximum(degrees["user"], 1))[:, None]

    def product(side: Side, fixed: FloatArray, label: str) -> FloatArray:
        scaled = fixed / roots if side == "item" else fixed
        sums, _ = run_step(backend, side, ColumnSums(scaled), scaled, width, label)
        return sums / roots if side == "user" else sums

    items = np.arange(degrees["item"].size)
    basis = normals(items, width, seed=seed, iteration=0, side="item")
    basis *= (degrees["item"] > 0)[:, None]
    for step in range(1, POWER_STEPS + 1):
        label = f"implicit features, step {step}: "
        users = np.linalg.qr(product("user", np.linalg.qr(basis)[0], f"{label}users"))[0]
        basis = product("item", users, f"{label}items")
    basis = np.linalg.qr(basis)[0]
    left, values, right = np.linalg.svd(
        product("user", basis, "implicit features, end: users"), full_matrices=False
    )
    directions = basis @ right[:k].T
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(k)])
    sides: dict[Side, FloatArray] = {
        "user": left[:, :k] * (signs * values[:k]),
        "item": directions * (signs * values[:k]),
    }
    return {side: standardised(found, degrees[side] > 0) for side, found in sides.items()}


def check_features(backend: Backend, features: Mapping[Side, FloatArray]) -> dict[Side, FloatArray]:
    """Return given features as float64, without sides that have none.

    Raises
    ------
    ConfigError
        If those of a side are no table of finite numbers with a row for each of the backend's, or
        are of no side.
    """
    found: dict[Side, FloatArray] = {}
    for side, given in features.items():
        if side not in SIDES:
            raise ConfigError(f"`features` of {side!r}: use the keys user and item")
        table = np.asarray(given, np.float64)
        n_rows = backend.degrees(side).size
        if table.ndim != 2 or table.shape[0] < n_rows:
            raise ConfigError(
                f"`features` of {side}s of the shape {table.shape}: give a table with a row for "
                f"each of the {n_rows:,} {side}s, and perhaps more"
            )
        if not np.isfinite(table).all():
            raise ConfigError(
                f"`features` of {side}s: a number is missing or not finite: use 0, the mean, for "
                "what is not known"
            )
        if table.shape[1]:
            found[side] = table
    return found


def expected_features(features: FloatArray, degrees: IntArray, given: FloatArray) -> FloatArray:
    """Return implicit features in which rows without a rating have those to be expected of them.

    Parameters
    ----------
    features : (n_rows, k) float64
        Implicit features.
    degrees : (n_rows,) int
        Training ratings of each row.
    given : (n_all, g) float64
        Other features, of more rows perhaps: the implicit ones of the rows with ratings are
        regressed on them. Each row has the weight of its ratings: what a row without any is going
        to get are ratings, too, and those who get many are not as the others.

    Returns
    -------
    (n_all, k) float64
    """
    n_rows, rated = degrees.size, degrees > 0
    whole = np.concatenate([np.ones((given.shape[0], 1)), given], axis=1)
    known, weights = whole[:n_rows][rated], degrees[rated] / degrees[rated].mean()
    ridge = np.full(whole.shape[1], EXPECTED_RIDGE)
    ridge[0] = 0
    weighted = known.T * weights
    coefficients = np.linalg.solve(weighted @ known + np.diag(ridge), weighted @ features[rated])
    found: FloatArray = whole @ coefficients
    found[:n_rows][rated] = features[rated]
    return found


def standardised(features: FloatArray, rated: BoolArray) -> FloatArray:
    """Centre features over the rows with ratings, and scale them all by one number.

    The mean square of a feature is 1 on average; larger directions stay larger.
    """
    n = max(int(rated.sum()), 1)
    centred = (features - features[rated].mean(axis=0)) * rated[:, None]
    size = math.sqrt(float((centred**2).sum()) / (n * features.shape[1]))
    scaled: FloatArray = centred / max(size, math.ulp(0.0))
    return scaled
