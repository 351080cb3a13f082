"""What a model predicts beside the product of latent factors: the global mean and the biases.

The factors of a model with biases are plain ones (:mod:`als_spark.solve.biases`), of two columns
more than its rank: [u, b_u + μ, 1] and [v, 1, b_i]. Their products are whole predictions, so
prediction, recommendation and MLlib, which loads them as factors, need to know of no bias.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from als_spark.ml.errors import InvalidArgument
from als_spark.train.records import ModelSpec
from als_spark.types import FloatArray, IntArray, Side

BIAS_COLUMNS = 2
"""Columns of plain factors beside the latent ones."""


class Unknown(NamedTuple):
    """What is predicted for a pair whose user or item the model does not know."""

    mean: float = math.nan
    """μ; NaN where there is no such prediction."""
    rank: int | None = None
    """Latent factors before the columns of biases; None without biases."""

    def column(self, users: Column, items: Column) -> Column:
        """Return the predictions of rows with plain factors, null where unknown, as float.

        Of the biases those that are known are added to μ.
        """
        mean = F.lit(self.mean)
        if self.rank is not None:
            user = F.element_at(users, self.rank + 1).cast("double")
            item = F.element_at(items, self.rank + BIAS_COLUMNS).cast("double")
            mean = F.coalesce(user, mean) + F.coalesce(item, F.lit(0.0))
        return mean.cast("float")

    def values(
        self, users: FloatArray, user_rows: IntArray, items: FloatArray, item_rows: IntArray
    ) -> FloatArray:
        """(n,) float32 predictions of pairs of rows of plain factors, -1 where unknown."""
        found = np.full(user_rows.size, self.mean)
        if self.rank is not None:
            known = user_rows >= 0
            found[known] = users[user_rows[known], self.rank]
            known = item_rows >= 0
            found[known] += items[item_rows[known], self.rank + 1]
        return found.astype(np.float32)


class Baseline(NamedTuple):
    """Global mean and biases of a model."""

    mean: float | None = None
    """μ, the mean of the training ratings; None where it is not known, as of MLlib's models."""
    biased: bool = False
    """Whether the factors have the columns of biases."""

    @property
    def columns(self) -> int:
        """Columns of the plain factors beside the latent ones."""
        return BIAS_COLUMNS if self.biased else 0

    def latent(self, plain: DataFrame, rank: int) -> DataFrame:
        """Return the latent factors of a side as a DataFrame of ``id`` and ``features``."""
        if not self.biased:
            return plain
        return plain.select("id", F.slice("features", 1, rank).alias("features"))

    def biases(self, plain: DataFrame, rank: int, side: Side) -> DataFrame:
        """Return the biases of a side as a DataFrame of ``id`` and ``bias`` (float).

        Raises
        ------
        InvalidArgument
            If the model has none.
        """
        if not self.biased or self.mean is None:
            raise InvalidArgument("this ALSModel has no biases: fit with biases=True")
        if side == "user":
            bias = F.element_at("features", rank + 1).cast("double") - F.lit(self.mean)
        else:
            bias = F.element_at("features", rank + BIAS_COLUMNS)
        return plain.select("id", bias.cast("float").alias("bias"))

    def unknown(self, rank: int) -> Unknown:
        """Return the prediction of a pair of an unknown id, by the mean.

        Raises
        ------
        InvalidArgument
            If the mean is not known.
        """
        if self.mean is None:
            raise InvalidArgument(
                "coldStartStrategy mean: this ALSModel does not know the mean of its training "
                "ratings: fit with als_spark.ALS without implicitPrefs, or use nan or drop"
            )
        return Unknown(self.mean, rank if self.biased else None)

    def as_metadata(self) -> dict[str, Any]:
        """Return the keys that the metadata of a saved model have of it."""
        known = {} if self.mean is None else {"globalMean": self.mean}
        return {**known, "biases": True} if self.biased else known

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], path: str) -> Baseline:
        """Read it from the metadata of a saved model, which may be older, or MLlib's.

        Raises
        ------
        InvalidArgument
            If they are unusable.
        """
        mean, biased = metadata.get("globalMean"), metadata.get("biases", False)
        number = isinstance(mean, int | float) and not isinstance(mean, bool)
        if not isinstance(biased, bool) or not (number or (mean is None and not biased)):
            raise InvalidArgument(
                f"{path}: globalMean {mean!r} and biases {biased!r} of the metadata do not fit "
                "together: save the model again"
            )
        return cls(None if mean is None else float(mean), biased)


def bias_members(
    reg: float, bias_reg: float, *, implicit: bool, nonnegative: bool
) -> dict[str, Any]:
    """Return the members of an objective with biases.

    Raises
    ------
    InvalidArgument
        If biases do not go together with the other parameters.
    """
    for name, value in (("implicitPrefs", implicit), ("nonnegative", nonnegative)):
        if value:
            raise InvalidArgument(
                f"biases=True with {name}=True is not available: leave one of them out"
            )
    if reg == 0:
        raise InvalidArgument("biases=True with regParam 0.0: use a regParam above 0")
    return {"bias_reg": bias_reg}


def centred(spec: ModelSpec, mean: float) -> ModelSpec:
    """Return what is to be trained with the mean of the training ratings in it."""
    if spec.objective.bias_reg is None:
        return spec
    return replace(spec, objective=replace(spec.objective, mean=mean))
