"""Configuration of the sweep. Fields are named as its options and TOML keys."""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import model_validator

from als_spark.cli.config.checkpoint import CheckpointConfig
from als_spark.cli.config.ratings import (
    ALPHA_HELP,
    DEFAULT_RULE,
    DEFAULTS,
    HELD_OUT,
    IMPLICIT_HELP,
    NONNEGATIVE_HELP,
    RANKING,
    RATINGS,
    REFIT_HELP,
    Alpha,
    Exponent,
    FitConfig,
    Rank,
    Rating,
    Reg,
    TopCount,
    check_alpha,
)
from als_spark.cli.config.settings import (
    REQUIRED,
    CountOrNone,
    InputPath,
    Listed,
    OutputFolder,
    Share,
    Shown,
    option,
    option_name,
)
from als_spark.errors import ConfigError
from als_spark.solve.objective import Objective
from als_spark.train.ranking import RankingRule
from als_spark.train.records import Judge, Measure
from als_spark.types import (
    ColdStart,
)


class SweepConfig(CheckpointConfig, FitConfig):
    """Everything that decides a sweep.

    Without ratings or a table it runs on the sample of the Spark distribution.
    """

    command = "sweep"
    about = (
        "Train a grid of ALS models (rank d x ridge lambda) on Spark, report and plot their "
        "errors, and keep the best."
    )
    ratings_required = False
    defaults = DEFAULTS / "sweep.toml"

    ratings: InputPath | None = option(
        RATINGS, "file or folder that Spark can read (default: Spark's MovieLens sample)"
    )
    validation_fraction: Share = option(
        HELD_OUT, "share to choose the best point on; the test part then stays untouched", 0.0
    )
    test: InputPath | None = option(HELD_OUT, "test on these ratings instead of a share")
    cold_start: ColdStart = option(
        HELD_OUT, "how to predict test ratings of users or items unknown in train", "mean"
    )
    judge: Measure = option(HELD_OUT, "measure that chooses the best point", "mse")
    top: TopCount | None = option(
        RANKING, f"k of the ranking measures (default: {DEFAULT_RULE.top})"
    )
    relevant_from: Rating | None = option(
        RANKING, "held-out ratings from here on are relevant (default: from the training mean)"
    )
    ranking_users: CountOrNone | None = option(
        RANKING,
        f"measure rankings, over so many users at most; 0: not (default: {DEFAULT_RULE.max_users} "
        "where --judge is such a measure, or --top or --relevant-from is given; else 0)",
    )
    ranks: Annotated[tuple[Rank, ...], Listed, Shown("D,...")] = option(
        "grid", "ranks d", (1, 5, 20, 50)
    )
    lambdas: Annotated[tuple[Reg, ...], Listed, Shown("L,...")] = option(
        "grid", "ridges; of a row with n ratings: lambda * n^exponent", (1.0, 2.0, 4.0, 6.0)
    )
    exponent: Exponent = option(
        "grid", "0: plain ridge; 1: ALS-WR, the objective of Spark MLlib", 0.0
    )
    implicit: bool = option("grid", IMPLICIT_HELP, False)
    alpha: Alpha | None = option("grid", f"{ALPHA_HELP} (default: 1)")
    nonnegative: bool = option("grid", NONNEGATIVE_HELP, False)
    refit: bool = option("result", f"the best model: {REFIT_HELP}", False)
    output: OutputFolder = option("result", "folder for the results (required)", REQUIRED)

    @property
    def objectives(self) -> list[Objective]:
        """The objectives of the grid: one for each λ."""
        alpha = 1.0 if self.alpha is None else self.alpha
        return [
            Objective(reg, self.exponent, self.implicit, alpha, self.nonnegative)
            for reg in self.lambdas
        ]

    @model_validator(mode="after")
    def _objective(self) -> Self:
        check_alpha(self.alpha, implicit=self.implicit)
        return self

    @property
    def chosen_by(self) -> Judge:
        """What chooses the best point."""
        return Judge(self.judge, self.top or DEFAULT_RULE.top)

    @property
    def ranking(self) -> RankingRule | None:
        """What the ranking measures are over; None where they are not asked for."""
        users = self.ranking_users
        if users is None and self._asking_for_rankings:
            users = DEFAULT_RULE.max_users
        if not users:
            return None
        relevant_from = self.relevant_from
        if relevant_from is None and self.implicit:
            # Above 0, where there is a preference.
            relevant_from = math.ulp(0.0)
        return RankingRule(self.chosen_by.top, relevant_from, users, self.seed)

    @property
    def _asking_for_rankings(self) -> list[str]:
        """The options that only ranking measures give a meaning, as they are typed."""
        asking = [f"--judge {self.judge}"] if self.chosen_by.is_ranking else []
        for name in ("top", "relevant_from"):
            value = getattr(self, name)
            asking += [] if value is None else [f"{option_name(name)} {value:g}"]
        return asking

    @model_validator(mode="after")
    def _ranks_users(self) -> Self:
        if self.ranking_users == 0 and self._asking_for_rankings:
            raise ConfigError(
                f"--ranking-users 0 with {self._asking_for_rankings[0]}: not usable: without users "
                "there are no ranking measures: use a number such as 20000, or leave one out"
            )
        return self

    @model_validator(mode="after")
    def _shuffled(self) -> Self:
        if self.exchange == "shuffle" and self.ranking is not None:
            asked = [*self._asking_for_rankings, f"--ranking-users {self.ranking_users}"][0]
            raise ConfigError(
                f"--exchange shuffle with {asked}: not usable: ranking measures need the factors "
                "of all items in every worker: use --exchange auto, which shuffles the users' alone"
            )
        return self

    @model_validator(mode="after")
    def _grid(self) -> Self:
        for name in ("ranks", "lambdas"):
            values = getattr(self, name)
            if not values:
                raise ConfigError(f"{option_name(name)} is empty: give at least one, such as 5")
            if len(set(values)) < len(values):
                listed = ",".join(f"{value:g}" for value in values)
                raise ConfigError(f"{option_name(name)} {listed}: not usable: name each value once")
        return self

    @model_validator(mode="after")
    def _held_out(self) -> Self:
        shares = self.validation_fraction + (0 if self.test else self.test_fraction)
        if shares >= 1:
            raise ConfigError(
                f"--test-fraction {self.test_fraction:g} and --validation-fraction "
                f"{self.validation_fraction:g} leave nothing to train on: "
                "let them add up to less than 1"
            )
        if shares == 0 and not self.test:
            raise ConfigError(
                "--test-fraction 0 and --validation-fraction 0 leave nothing to choose the best "
                "point by: hold out a share of the ratings, or give --test PATH"
            )
        return self
