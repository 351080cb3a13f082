"""Configurations of the jobs that take a model that is there: evaluate, recommend.

Fields are named as in :mod:`als_spark.cli.config.model`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from als_spark.cli.config.model import MODEL, RESULT, RankingConfig
from als_spark.cli.config.ratings import RANKING, RATINGS, NullWords, RatingsConfig, TopCount
from als_spark.cli.config.settings import (
    REQUIRED,
    Alternatives,
    Column,
    Count,
    CountOrNone,
    InputPath,
    JobConfig,
    ModelFolder,
    OutputFolder,
    Shown,
    StoreFolder,
    Text,
    option,
)
from als_spark.errors import ConfigError
from als_spark.spark.read.options import NULL_WORDS
from als_spark.types import BadRows, Quoting

Audience = Literal["users", "items", "similar-items"]
RiskChoice = Literal["averse", "neutral", "thompson"]
OutputFormat = Literal["parquet", "json"]
Coverage = Annotated[float, Field(gt=0, lt=1, examples=[0.9]), Shown("SHARE")]
Version = Annotated[str, Field(min_length=1), Shown("V")]


class StoredModelConfig(JobConfig):
    """A model that is there already."""

    alternatives: ClassVar[Alternatives] = (("store", "model"),)

    store: StoreFolder | None = option(MODEL, "take the model from this store")
    version: Version | None = option(MODEL, "the version (default: the current one)")
    model: ModelFolder | None = option(MODEL, "take the model from this folder instead")

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.store is None) == (self.model is None):
            raise ConfigError("--store and --model: give one of the two, to say which model")
        if self.version is not None and self.store is None:
            raise ConfigError(
                f"--version {self.version}: versions are in a store: give --store DIR"
            )
        return self


class EvaluateConfig(RankingConfig, RatingsConfig, StoredModelConfig):
    """Everything that decides ``jobs/evaluate.py``."""

    command = "evaluate"
    about = (
        "Measure a stored model on ratings: errors, rankings, errors by activity and popularity."
    )
    alternatives: ClassVar[Alternatives] = (
        *RatingsConfig.alternatives,
        *StoredModelConfig.alternatives,
    )

    bad_rows: BadRows = option(RATINGS, "stop on unusable rows, or leave them out", "error")
    strict: bool = option(
        RATINGS,
        "stop where an input has no effect: no rating, or no pair of --exclude-seen, has ids that "
        "the model knows, or no rating is relevant",
        False,
    )
    exclude_seen: InputPath | None = option(
        RANKING,
        "leave the items of these ratings out of each user's ranking, except for pairs that are "
        "among the ratings measured on",
    )
    output: OutputFolder = option(RESULT, "folder for the results (required)", REQUIRED)


class RecommendConfig(StoredModelConfig):
    """Everything that decides ``jobs/recommend.py``."""

    command = "recommend"
    about = "Write the best items of every user (or users of every item, or similar items)."

    top: TopCount = option("recommendations", "how many recommendations each gets", 10)
    risk: RiskChoice = option(
        "recommendations",
        "of a Bayesian model: by the prediction (neutral), the lower bound of the rating's "
        "interval (averse), or a draw from the posterior (thompson)",
        "neutral",
    )
    coverage: Coverage | None = option("recommendations", "averse: of the interval (default: 0.9)")
    seed: CountOrNone | None = option("recommendations", "thompson: of the draw (default: 0)")
    min_ratings: Count = option(
        "recommendations",
        "recommend only items (--for items: users) with so many training ratings",
        1,
    )
    recommend_for: Audience = option(
        "recommendations", "items to users, users to items, or similar items to items", "users"
    )
    users: InputPath | None = option(
        "recommendations",
        "recommend for the users (or items) in this file only: an id on each line, or a column of "
        "a csv, json or parquet file; here and below table:NAME is a Spark table",
    )
    exclude_seen: InputPath | None = option(
        "recommendations",
        "leave out the pairs of users and items in this file (ratings, or nothing but the two "
        "ids); with --fold-in, also what folded users have rated there",
    )
    fold_in: InputPath | None = option(
        "recommendations",
        "ratings of users that the model does not know: factors are solved from them, where such "
        "users otherwise get the popular items",
    )
    user_col: Column | None = option("files", "their column of the users")
    item_col: Column | None = option("files", "their column of the items")
    rating_col: Column | None = option("files", "their column of the ratings")
    encoding: Text = option(
        "files", "their encoding, of text: utf-8, utf-16, or one of a byte a character", "utf-8"
    )
    quoting: Quoting = option(
        "files", 'whether " may enclose a field of a text file; none: it is as any other', "auto"
    )
    null_words: NullWords = option(
        "files",
        'text that stands for a missing id or rating; "" for none but blanks',
        NULL_WORDS,
    )
    bad_rows: BadRows = option(
        "files", "stop on unusable rows of these files, or leave them out", "error"
    )
    strict: bool = option(
        "files",
        "stop where one of these files has no effect, as the model knows none of its ids",
        False,
    )
    output: OutputFolder = option(RESULT, "folder for the recommendations (required)", REQUIRED)
    format: OutputFormat = option(RESULT, "format of the output", "parquet")
    files: Count | None = option(RESULT, "files of the output, at most (default: as Spark cuts it)")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.risk != "neutral":
            self._risk_goes()
        for name, kind in (("coverage", "averse"), ("seed", "thompson")):
            value = getattr(self, name)
            if value is not None and self.risk != kind:
                raise ConfigError(
                    f"--{name} {value} with --risk {self.risk}: has no effect: leave it out, or "
                    f"use --risk {kind}"
                )
        if self.fold_in is not None and self.recommend_for != "users":
            raise ConfigError(
                f"--fold-in {self.fold_in}: users are folded in, so it goes with --for users"
            )
        if self.exclude_seen is not None and self.recommend_for == "similar-items":
            raise ConfigError(
                f"--exclude-seen {self.exclude_seen}: similar items have nothing seen to leave "
                "out: leave the option out, or use --for users"
            )
        return self

    def _risk_goes(self) -> None:
        """Refuse what has no uncertainty beside a risk."""
        if self.fold_in is not None:
            raise ConfigError(
                f"--fold-in {self.fold_in} with --risk {self.risk}: nothing tells how uncertain "
                "folded users are: leave one of the two out"
            )
        if self.recommend_for == "similar-items":
            raise ConfigError(
                f"--risk {self.risk} with --for similar-items: similar items are not recommended "
                "by predictions: leave it out, or use --for users"
            )
