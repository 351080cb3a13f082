"""A trained model: factors, the original ids, and what is needed to predict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from als_spark.errors import ConfigError
from als_spark.model.ids import IdIndex
from als_spark.train.backend import Factors
from als_spark.train.metrics import SideStats
from als_spark.types import FloatArray, Side


class ModelSide(NamedTuple):
    """One side of a model."""

    ids: IdIndex
    factors: FloatArray
    """(n_rows, rank)"""
    stats: SideStats


@dataclass(frozen=True, slots=True)
class FactorModel:
    """Factors of users and items with their original ids.

    Attributes
    ----------
    users, items : IdIndex
        Ids in the order of the factors' rows.
    factors : Factors
        (n_users, rank) and (n_items, rank).
    user_stats, item_stats : SideStats
        Training ratings of each row: the fall-back of a prediction without factors.
    description : mapping
        What is written into the model's JSON: rank, λ, exponent, errors and so on.
    """

    users: IdIndex
    items: IdIndex
    factors: Factors
    user_stats: SideStats
    item_stats: SideStats
    description: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Say how large the model is."""
        reg = self.description.get("lambda_reg")
        known = f", λ = {reg:g}" if isinstance(reg, (int, float)) else ""
        exponent = self.description.get("exponent")
        if known and isinstance(exponent, (int, float)):
            known += f" (exponent {exponent:g})"
        sizes = f"{len(self.users):,} users, {len(self.items):,} items, rank {self.rank}"
        return f"<FactorModel: {sizes}{known}>"

    @property
    def rank(self) -> int:
        """Number of factors d."""
        return int(self.factors.items.shape[1])

    def side(self, side: Side) -> ModelSide:
        """Users or items, with all that the model knows of them."""
        if side == "user":
            return ModelSide(self.users, self.factors.users, self.user_stats)
        return ModelSide(self.items, self.factors.items, self.item_stats)

    def predict(
        self,
        users: pa.Array | Sequence[Any],
        items: pa.Array | Sequence[Any],
        cold_start: Literal["mean", "nan"] = "mean",
    ) -> FloatArray:
        """Predict the ratings of (user, item) pairs given by their original ids.

        Parameters
        ----------
        users, items : sequences of ids, of equal length
            Integers or strings.
        cold_start : {"mean", "nan"}
            What an unknown id, or one without a training rating and without features, gets: the
            mean training rating of the pair's user, else of its item, else of all; or NaN, as Spark
            MLlib does.

        Returns
        -------
        (n,) float64
            Predicted ratings, in the users' units.

        Raises
        ------
        ConfigError
            If the two lists differ in length, or ``cold_start`` is none of the two words.
        """
        if cold_start not in ("mean", "nan"):
            raise ConfigError(f"cold_start={cold_start!r}: not usable: use 'mean' or 'nan'")
        user_rows = self.users.rows_of(users)
        item_rows = self.items.rows_of(items)
        if user_rows.size != item_rows.size:
            raise ConfigError(
                f"{user_rows.size} users and {item_rows.size} items given: "
                "a prediction needs one of each"
            )
        users, items = self.factors
        # Row −1, an unknown id, has no mean, and no factors.
        means = (
            np.append(self.user_stats.means(), np.nan)[user_rows],
            np.append(self.item_stats.means(), np.nan)[item_rows],
        )
        known = np.append(self.user_stats.known, False)[user_rows]
        known &= np.append(self.item_stats.known, False)[item_rows]
        by_means, known_only = predict_pairs(
            known,
            means,
            self.user_stats.mean,
            lambda known: (users[user_rows[known]], items[item_rows[known]]),
        )
        return known_only if cold_start == "nan" else by_means


def predict_pairs(
    known: npt.NDArray[np.bool_],
    means: tuple[FloatArray, FloatArray],
    mean: float,
    factors_of: Callable[[npt.NDArray[np.bool_]], tuple[FloatArray, FloatArray]],
) -> tuple[FloatArray, FloatArray]:
    """Predict the ratings of n pairs.

    Parameters
    ----------
    known : (n,) bool
        Whether both user and item have factors.
    means : pair of (n,) float64
        Mean training rating of user and of item; NaN where there is none.
    mean : float
        Of all training ratings.
    factors_of : callable
        Returns (m, rank) factors of the users and of the items of the m pairs of a mask that have
        both.

    Returns
    -------
    pair of (n,) float64
        Predictions, by means where a side has no factors; and the same with NaN there.
    """
    of_users, of_items = means
    predicted = np.full(of_users.size, np.nan)
    predicted[known] = np.einsum("nd,nd->n", *factors_of(known), dtype=np.float64)
    fallback = np.where(np.isnan(of_users), of_items, of_users)
    fallback = np.where(np.isnan(fallback), mean, fallback)
    return np.where(known, predicted, fallback), predicted
