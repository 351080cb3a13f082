"""What is asked for when ratings are made ready, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

from pyspark.sql import DataFrame

from als_spark.spark.prepare.encode import Summary
from als_spark.spark.read.validation import SplitOptions
from als_spark.spark.train.partitioned import SparkBackend
from als_spark.train.local import LocalBackend
from als_spark.train.metrics import SideStats
from als_spark.types import BadRows, ColdStart, DType, Duplicates, PlacementChoice, Side, SplitName


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How ratings are made ready; fields as in :class:`als_spark.cli.config.sweep.SweepConfig`.

    ``ranks`` has a rank for every model that will be trained: the blocks are balanced for them.
    """

    split: SplitOptions = field(default_factory=SplitOptions)
    bad_rows: BadRows = "error"
    duplicates: Duplicates = "error"
    cold_start: ColdStart = "mean"
    dtype: DType = "float32"
    ranks: Sequence[int] = (10,)
    placement: PlacementChoice = "auto"
    partitions: int | None = None


class PreparedRatings:
    """Ratings that can be trained on, with what is known of them.

    Close it to free the executors' memory.

    Attributes
    ----------
    summary : Summary
        Ids, counts, range; of all usable ratings.
    stats : mapping of side to SideStats
        The training ratings.
    n_ratings : mapping of split name to int
        Sizes of the parts, after duplicates were resolved.
    n_duplicates : int
        Pairs that were rated more than once.
    rejected : DataFrame or None
        The rows that were dropped (columns ``problem`` and ``raw``); None where there are none.
    placement : {"ratings", "grid"}
    n_blocks : int
        Blocks of each side.
    backend : SparkBackend or LocalBackend
        The latter, on the driver, in the grid placement.
    """

    def __init__(
        self,
        summary: Summary,
        stats: Mapping[Side, SideStats],
        n_ratings: Mapping[SplitName, int],
        n_duplicates: int,
        rejected: DataFrame | None,
        backend: SparkBackend | LocalBackend,
        n_blocks: int,
        resources: ExitStack,
    ) -> None:
        self.summary = summary
        self.stats = stats
        self.n_ratings = n_ratings
        self.n_duplicates = n_duplicates
        self.rejected = rejected
        self.backend = backend
        self.n_blocks = n_blocks
        self._resources = resources

    @property
    def placement(self) -> Literal["ratings", "grid"]:
        """What Spark partitions."""
        return "grid" if isinstance(self.backend, LocalBackend) else "ratings"

    def close(self) -> None:
        """Unpersist everything."""
        self._resources.close()

    def __enter__(self) -> PreparedRatings:
        """Return the ratings themselves."""
        return self

    def __exit__(self, *_: object) -> None:
        """Unpersist everything."""
        self.close()
