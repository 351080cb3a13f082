"""A trained model of which the factors of a side, or of both, are in no single process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from als_spark.model.factor_model import FactorModel
from als_spark.model.ids import IdIndex
from als_spark.train.backend import AnyFactors, HeldFactors
from als_spark.train.metrics import SideStats
from als_spark.types import Side


class LargeSide(NamedTuple):
    """One side of a model."""

    ids: IdIndex
    factors: AnyFactors
    """(n_rows, rank), wherever they are."""
    stats: SideStats


@dataclass(frozen=True, slots=True)
class LargeModel:
    """A :class:`~als_spark.model.factor_model.FactorModel` with factors that are elsewhere.

    This process has the ids and the counts of both sides, about 20 bytes a row.

    Attributes
    ----------
    users, items : IdIndex
        Ids in the order of the factors' rows.
    factors : HeldFactors
        (n_users, rank) and (n_items, rank), each an array or remote.
    user_stats, item_stats : SideStats
        Training ratings of each row.
    description : mapping
        What is written into the model's JSON.
    """

    users: IdIndex
    items: IdIndex
    factors: HeldFactors
    user_stats: SideStats
    item_stats: SideStats
    description: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Say how large the model is."""
        sizes = f"{len(self.users):,} users, {len(self.items):,} items, rank {self.rank}"
        return f"<LargeModel: {sizes}>"

    @property
    def rank(self) -> int:
        """Number of factors d."""
        return int(self.factors.items.shape[1])

    def side(self, side: Side) -> LargeSide:
        """Users or items, with all that the model knows of them."""
        if side == "user":
            return LargeSide(self.users, self.factors.users, self.user_stats)
        return LargeSide(self.items, self.factors.items, self.item_stats)

    def collect(self) -> FactorModel:
        """Bring all factors into this process."""
        return FactorModel(
            self.users,
            self.items,
            self.factors.collect(),
            self.user_stats,
            self.item_stats,
            self.description,
        )


AnyModel = FactorModel | LargeModel
