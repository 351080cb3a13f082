"""Types that several layers share: arrays, sides, and the words that options take."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]

Side = Literal["user", "item"]
SIDES: tuple[Side, Side] = ("user", "item")
DType = Literal["float32", "float64"]
"""Of factors, and of the systems that are solved for them."""

SplitName = Literal["train", "validation", "test"]
SplitStrategy = Literal["random", "time"]
ColdStart = Literal["mean", "drop", "initial"]
"""How held-out ratings are predicted whose user or item has no training rating: by a mean, not at
all, or by the factors of the start."""

Format = Literal["auto", "csv", "movielens", "parquet", "json", "delta"]
Quoting = Literal["auto", "none"]
BadRows = Literal["error", "drop"]
Duplicates = Literal["error", "mean", "last"]
DuplicatesOrKeep = Literal["error", "mean", "last", "keep"]
"""``keep``: each rating of a repeated pair counts as one of its own."""
PlacementName = Literal["ratings", "grid"]
"""What Spark partitions."""
PlacementChoice = Literal["auto", "ratings", "grid"]
ExchangeName = Literal["broadcast", "shuffle"]
"""How the fixed factors reach the blocks of a side (see :mod:`als_spark.spark.train.exchange`)."""
ExchangeChoice = Literal["auto", "broadcast", "shuffle"]


def other_side(side: Side) -> Side:
    """Return the side that a side is rated against."""
    return "item" if side == "user" else "user"
