"""Configuration of the sweep. Fields are named as its options and TOML keys."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import model_validator

from als_spark.cli.config.checkpoint import CheckpointConfig
from als_spark.cli.config.method import refuse_shuffle, refuse_without_effect
from als_spark.cli.config.model import (
    BAYES,
    BURN_IN_HELP,
    COVARIANCE_HELP,
    FEATURE_RIDGE_HELP,
    NOISE_HELP,
    SAMPLES_HELP,
    Method,
)
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
    TRAINING,
    Alpha,
    Exponent,
    FitConfig,
    Rank,
    Rating,
    Reg,
    Tolerance,
    TopCount,
    check_alpha,
)
from als_spark.cli.config.settings import (
    REQUIRED,
    Count,
    CountOrNone,
    InputPath,
    Listed,
    OutputFolder,
    Share,
    Shown,
    config_record,
    option,
    option_name,
)
from als_spark.errors import ConfigError
from als_spark.solve.objective import Objective
from als_spark.train.bayes.options import (
    TOLERANCES,
    Covariance,
    NoiseChoice,
    PosteriorOptions,
)
from als_spark.train.ranking import RankingRule
from als_spark.train.records import Judge, Measure
from als_spark.types import ColdStart

ColdPrediction = Literal["mean", "drop", "initial", "prior"]
Kind = Literal["ridge", "ridge towards a mean", "variational", "sample"]
RANKS: dict[Kind, tuple[int, ...]] = {
    "ridge": (1, 5, 20, 50),
    "ridge towards a mean": (8, 16, 32),
    "variational": (4, 8, 16),
    "sample": (4, 8, 16),
}
LAMBDAS: dict[Kind, tuple[float, ...]] = {
    "ridge": (1.0, 2.0, 4.0, 6.0),
    "ridge towards a mean": (10.0, 20.0, 40.0),
}
"""The grids that are taken where none is given; other methods learn λ."""
_OF_RIDGE = ("implicit", "alpha", "nonnegative", "accelerate")
_LEARNT = ("lambdas", "exponent", "feature_ridge")
_ENDING = ("tol", "max_iter")
"""What ends a training; samples nothing does."""
REFUSED: dict[Kind, tuple[str, ...]] = {
    "ridge": ("noise", "covariance", "burn_in", "samples", "feature_ridge"),
    "ridge towards a mean": (*_OF_RIDGE, "noise", "covariance", "burn_in", "samples"),
    "variational": (*_OF_RIDGE, *_LEARNT, "burn_in", "samples"),
    "sample": (*_OF_RIDGE, *_LEARNT, "covariance", *_ENDING),
}
"""What has no effect."""


class SweepConfig(CheckpointConfig, FitConfig):
    """Everything that decides a sweep.

    Without ratings or a table it runs on the sample of the Spark distribution.
    """

    command = "sweep"
    about = (
        "Train a grid of ALS models (rank d x ridge lambda, or ranks alone where a method learns "
        "lambda) on Spark, report and plot their errors, and keep the best."
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
    cold_start: ColdPrediction = option(
        HELD_OUT,
        "how to predict test ratings of users or items unknown in train (default: mean; prior, of "
        "their rows, where one is learnt)",
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
        "grid",
        "ranks d (default: 1,5,20,50; 4,8,16 with variational and sample, 8,16,32 with implicit "
        "features of a ridge)",
    )
    lambdas: Annotated[tuple[Reg, ...], Listed, Shown("L,...")] | None = option(
        "grid",
        "ridges; of a row with n ratings: lambda * n^exponent (default: 1,2,4,6; 10,20,40 with "
        "implicit features)",
    )
    exponent: Exponent | None = option(
        "grid", "0: plain ridge; 1: ALS-WR, the objective of Spark MLlib (default: 0)"
    )
    implicit: bool = option("grid", IMPLICIT_HELP, False)
    alpha: Alpha | None = option("grid", f"{ALPHA_HELP} (default: 1)")
    nonnegative: bool = option("grid", NONNEGATIVE_HELP, False)
    method: Method = option(
        BAYES,
        "ridge: a grid over --lambdas, too; variational and sample learn prior and noise, with "
        "biases: a grid over --ranks alone",
        "ridge",
    )
    noise: NoiseChoice | None = option(BAYES, NOISE_HELP)
    covariance: Covariance | None = option(BAYES, COVARIANCE_HELP)
    implicit_features: CountOrNone | None = option(
        BAYES,
        "let the prior depend on so many directions of who has rated what: 20, say (default: 0); a "
        "ridge then has biases, and --ranks and --lambdas of its own",
    )
    feature_ridge: Reg | None = option(BAYES, FEATURE_RIDGE_HELP)
    burn_in: CountOrNone | None = option(BAYES, BURN_IN_HELP)
    samples: Count | None = option(BAYES, SAMPLES_HELP)
    tol: Tolerance = option(
        TRAINING,
        "stop when the change settles to within this; with variational when an iteration adds less "
        "than this share to the bound (3e-4 unless given), with features of a ridge when it takes "
        "less from the objective (2e-3)",
        1e-3,
    )
    refit: bool = option("result", f"the best model: {REFIT_HELP}", False)
    output: OutputFolder = option("result", "folder for the results (required)", REQUIRED)

    @property
    def objectives(self) -> list[Objective]:
        """The objectives of the grid: one for each λ."""
        alpha = 1.0 if self.alpha is None else self.alpha
        return [
            Objective(reg, self.exponent or 0.0, self.implicit, alpha, self.nonnegative)
            for reg in self.lambdas or ()
        ]

    @property
    def kind(self) -> Kind:
        """What is trained."""
        return _kind_of(self.method, self.implicit_features)

    @property
    def posteriors(self) -> list[PosteriorOptions]:
        """The grid of what is trained with a learnt prior, or towards a mean; else nothing."""
        if self.kind == "ridge":
            return []
        given: dict[str, Any] = {
            "noise": self.noise,
            "covariance": self.covariance,
            "n_features": self.implicit_features,
            "burn_in": self.burn_in,
            "samples": self.samples,
            "exponent": self.exponent,
            "feature_ridge": self.feature_ridge,
            "tol": None if self.method == "sample" else self.tol,
            "max_iter": self.max_iter,
        }
        options = PosteriorOptions(
            self.method,
            seed=self.seed,
            dtype=self.dtype,
            **{name: value for name, value in given.items() if value is not None},
        )
        return [
            replace(options, rank=rank, reg=reg)
            for rank in self.ranks
            for reg in self.lambdas or (None,)
        ]

    @property
    def cold_rows(self) -> ColdStart:
        """How held-out ratings of rows without a training rating are predicted.

        The prior mean is what their factors are.
        """
        return "initial" if self.cold_start == "prior" else self.cold_start

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_method(cls, fields: Any) -> Any:
        """Give options that differ by method their defaults; what has no effect gets none."""
        if not isinstance(fields, dict):
            return fields
        kind = _kind_of(fields.get("method", "ridge"), fields.get("implicit_features"))
        own: dict[str, Any] = {
            "ranks": RANKS[kind],
            "lambdas": LAMBDAS.get(kind),
            "exponent": 0.0 if kind in LAMBDAS else None,
            "cold_start": "mean" if kind == "ridge" else "prior",
        }
        if kind in ("ridge towards a mean", "variational"):
            own["tol"] = TOLERANCES["variational" if kind == "variational" else "ridge"]
        return {**own, **fields}

    @model_validator(mode="after")
    def _method_takes(self) -> Self:
        """Refuse what would have no effect with the method."""
        kind = self.kind
        features = f"--implicit-features {self.implicit_features}"
        chosen = features if kind == "ridge towards a mean" else f"--method {self.method}"
        instead = {
            "ridge": "use another method, or --implicit-features 20, say",
            "ridge towards a mean": "leave the features out",
        }
        refuse_without_effect(self, REFUSED[kind], chosen, instead.get(kind, "use another method"))
        if kind == "ridge":
            if self.cold_start == "prior":
                raise ConfigError(
                    "--cold-start prior with --method ridge: not available: no prior is learnt: "
                    "use mean, or another method"
                )
            return self
        if self.cold_start == "initial":
            raise ConfigError(
                f"--cold-start initial with {chosen}: not available: rows without training ratings "
                "get their prior mean: use prior"
            )
        if self.checkpoint is not None:
            raise ConfigError(
                f"--checkpoint {self.checkpoint} with {chosen}: not available: a training that "
                "learns a prior cannot be continued: leave one of the two out"
            )
        refuse_shuffle(self.exchange, chosen)
        if 0 in (self.lambdas or ()):
            raise ConfigError(f"--lambdas 0 with {chosen}: not usable: use numbers above 0")
        if self.feature_ridge == 0:
            raise ConfigError("--feature-ridge 0: not usable: use a number above 0, such as 300")
        return self

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
            if values is None:
                continue
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


def sweep_record(config: SweepConfig) -> dict[str, Any]:
    """Return a configuration as ``run.json`` has it: what ends a training where something does."""
    left_out = _ENDING if config.kind == "sample" else ()
    return {name: value for name, value in config_record(config).items() if name not in left_out}


def _kind_of(method: Any, implicit_features: Any) -> Kind:
    """Tell what a method trains; of one that is none a ridge, for its field is refused."""
    if method == "variational":
        return "variational"
    if method == "sample":
        return "sample"
    return "ridge towards a mean" if implicit_features else "ridge"
