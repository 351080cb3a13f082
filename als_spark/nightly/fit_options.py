"""How one model is trained and measured: for train and retrain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pyspark.sql import SparkSession

from als_spark.nightly.features import FeatureSource, ReadFeatures, features_record
from als_spark.nightly.holdout import HoldoutRule
from als_spark.nightly.method import options_record
from als_spark.nightly.run_record import (
    Spec,
    TrainingSettings,
    objective_members,
)
from als_spark.spark.predict.evaluate import RankingOptions
from als_spark.spark.prepare.options import PrepareOptions
from als_spark.spark.read.sources import Source, SourceOptions
from als_spark.spark.read.split import SplitOptions
from als_spark.spark.train.posterior import method_name
from als_spark.spark.train.run import PreparedRatings
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.checkpoint import Checkpoint
from als_spark.train.records import ModelSpec, TrainingOptions
from als_spark.types import BadRows, Duplicates, ExchangeChoice, PlacementChoice, Side

OpenSource = Callable[[SparkSession, SourceOptions], Source]
"""Opens a source of ratings, or raises what is wrong with it."""


OpenCheckpoint = Callable[[PreparedRatings, Sequence[ModelSpec], Callable[[str], None]], Checkpoint]
"""Opens the checkpoint of a training; tells what people should know of it."""


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How ratings are read, and how one model is trained and measured.

    Attributes
    ----------
    open_source : callable
        Such as :func:`als_spark.spark.read.sources.read_source`, or with further checks.
    bad_rows, duplicates
        What becomes of unusable rows, and of pairs that were rated more than once.
    placement, partitions
        As in :class:`~als_spark.spark.prepare.options.PrepareOptions`.
    refit : bool
        Train the model on with all ratings, once it is measured and has won.
    exchange
        As in :class:`~als_spark.spark.prepare.options.PrepareOptions`.
    posterior : PosteriorOptions or None
        What trains with a learnt prior; None: a ridge towards zero.
    checkpoint : callable, optional
        Opens what the training of a ridge continues from, and keeps.
    features : mapping of side to FeatureSource
        What a learnt prior depends on besides the ratings.
    """

    open_source: OpenSource
    bad_rows: BadRows
    duplicates: Duplicates
    holdout: HoldoutRule
    training: TrainingOptions
    ranking: RankingOptions
    placement: PlacementChoice
    partitions: int | None
    refit: bool = False
    exchange: ExchangeChoice = "auto"
    posterior: PosteriorOptions | None = None
    checkpoint: OpenCheckpoint | None = None
    features: Mapping[Side, FeatureSource] = field(default_factory=dict)

    def with_method(
        self, posterior: PosteriorOptions | None, features: Mapping[Side, FeatureSource]
    ) -> FitOptions:
        """Return the options to train with a learnt prior, or with a ridge towards zero."""
        if posterior is None:
            return replace(self, posterior=None, features={})
        # What is known of rows is broadcast, unless whole models are trained in a process.
        exchange = self.exchange if self.placement == "grid" else "broadcast"
        return replace(self, posterior=posterior, exchange=exchange, features=features)

    @property
    def split(self) -> SplitOptions:
        """How ratings are split."""
        return SplitOptions(self.holdout.split, self.holdout.seed, self.holdout.test_fraction)

    def prepare(self, rank: int) -> PrepareOptions:
        """Say how ratings are split and packed for a model."""
        return PrepareOptions(
            split=self.split,
            dtype=self.training.dtype,
            ranks=[rank],
            placement=self.placement,
            partitions=self.partitions,
            exchange=self.exchange,
            accelerate=self.training.accelerate,
            method="ridge" if self.posterior is None else self.posterior.method,
            covariance=None if self.posterior is None else self.posterior.covariance,
        )

    def settings(
        self, spec: Spec, features: Mapping[Side, ReadFeatures] | None = None
    ) -> TrainingSettings:
        """Return all that decides what is trained from a snapshot of given fingerprint."""
        training = self.training
        split, test_fraction, seed = self.holdout
        return TrainingSettings(
            rank=spec.rank,
            **objective_members(spec.objective),
            split=split,
            test_fraction=test_fraction,
            seed=seed,
            tol=training.tol if self.posterior is None else self.posterior.tolerance,
            max_iter=training.max_iter if self.posterior is None else self.posterior.iterations,
            dtype=training.dtype,
            accelerate=training.accelerate,
            refit=self.refit,
            method="ridge" if self.posterior is None else method_name(self.posterior),
            posterior=None if self.posterior is None else options_record(self.posterior),
            features=features_record(features or {}),
        )
