"""Configuration that the jobs which train one model share: see the modules train and retrain.

Fields are named as the options and the TOML keys (``reg`` is ``lambda``, ``recommend_for`` is
``for``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from als_spark.cli.config.ratings import (
    ALPHA_HELP,
    HELD_OUT,
    IMPLICIT_HELP,
    NONNEGATIVE_HELP,
    RANKING,
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
    Column,
    Count,
    CountOrNone,
    InputPath,
    JobConfig,
    Listed,
    Share,
    Shown,
    Text,
    option,
)
from als_spark.errors import ConfigError
from als_spark.nightly.features import FeatureSource
from als_spark.nightly.run_record import Spec
from als_spark.solve.objective import Objective
from als_spark.train.bayes.options import FEATURE_RIDGE, PosteriorOptions
from als_spark.types import SIDES, Side

Minutes = Annotated[float, Field(ge=0.05, le=1e6, examples=[10]), Shown("MINUTES")]
Tracker = Annotated[str, Field(min_length=1), Shown("URI", role="tracking")]

MODEL, RESULT, BAYES = "model", "result", "Bayesian methods"
FeatureColumns = Annotated[tuple[Column, ...], Listed, Shown("C")]
Method = Literal["ridge", "variational", "sample"]
NOISE_HELP = "whether users and items may be more or less noisy, each its own (default: rows)"
COVARIANCE_HELP = (
    "variational: keep all covariances of the numbers of a row, or their variances alone "
    "(default: full, or diagonal where full ones of all rows would take too much memory)"
)
FEATURE_RIDGE_HELP = (
    "ridge with features: the features' coefficients weigh as much as so many rows "
    f"(default: {FEATURE_RIDGE:g})"
)
BURN_IN_HELP = "sample: iterations before those that count (default: 40)"
SAMPLES_HELP = "sample: iterations that count (default: 160)"
_BASE = "default: that of the sweep or the current version, else"


DEFAULT_SPEC = Spec(10, Objective(0.1, exponent=1.0))
"""Where nothing is said: the defaults of Spark MLlib's ALS, and its objective."""


class RankingConfig(JobConfig):
    """How models are measured by what they recommend."""

    top: TopCount = option(RANKING, "k of the ranking measures", 10)
    relevant_from: Rating | None = option(
        RANKING, "held-out ratings from here on are relevant (default: from their mean)"
    )
    ranking_users: CountOrNone = option(
        RANKING, "users that the ranking measures are over, at most about; 0: none are taken", 20000
    )


class ModelConfig(RankingConfig, FitConfig):
    """One model to train, and where to keep it."""

    test_fraction: Share = option(HELD_OUT, "share to test on", 0.1)
    rank: Rank | None = option(MODEL, f"rank d of the model ({_BASE} 10)")
    reg: Reg | None = option(MODEL, f"ridge, lambda * n^exponent ({_BASE} 0.1)")
    exponent: Exponent | None = option(
        MODEL, f"0: plain ridge; 1: the objective of Spark MLlib ({_BASE} 1)"
    )
    implicit: bool | None = option(MODEL, f"{IMPLICIT_HELP} ({_BASE} explicit ratings)")
    alpha: Alpha | None = option(MODEL, f"{ALPHA_HELP} ({_BASE} 1)")
    nonnegative: bool | None = option(MODEL, f"{NONNEGATIVE_HELP} ({_BASE} any sign)")
    user_features: InputPath | None = option(
        BAYES,
        "let the prior depend on these columns of users, too: csv, Parquet or JSON with an id; "
        "predicts users who have features and no rating",
    )
    item_features: InputPath | None = option(BAYES, "the same of items: genres, year, ...")
    user_feature_cols: FeatureColumns = option(
        BAYES, "columns of --user-features to use (default: all but the id)", ()
    )
    item_feature_cols: FeatureColumns = option(
        BAYES, "columns of --item-features to use (default: all but the id)", ()
    )
    feature_ridge: Reg | None = option(BAYES, FEATURE_RIDGE_HELP)
    burn_in: CountOrNone | None = option(BAYES, BURN_IN_HELP)
    samples: Count | None = option(BAYES, SAMPLES_HELP)
    refit: bool = option(RESULT, REFIT_HELP, False)
    keep: Count = option(RESULT, "versions that the store keeps", 7)
    lock_minutes: Minutes = option(
        RESULT, "how long the lock of a machine that died holds up other runs", 10.0
    )
    mlflow: Tracker | None = option(
        RESULT, "log a training into a store to this MLflow address or folder, too"
    )
    mlflow_experiment: Text = option(RESULT, "MLflow experiment", "als_spark")

    def spec(self, other: Spec | None) -> Spec:
        """Say which model to train: what is given, the rest from another model or the defaults.

        A λ that is given alone belongs to the objective of the other model, or of the default: to
        give it never changes the exponent.

        Parameters
        ----------
        other : Spec or None
            The best of a sweep, or the current model.

        Raises
        ------
        ConfigError
            If another exponent, or the other kind of feedback, is given without its λ; if an α is
            given for explicit ratings; if the other model has biases, and rank and λ are not given.
        """
        rank, base = other or DEFAULT_SPEC
        if base.bias_reg is not None and None in (self.rank, self.reg):
            raise ConfigError(
                "the current model has biases, which this job does not train: give --rank and "
                f"--lambda of a model without (--rank {rank} goes on from its factors and its two "
                "columns of biases), or publish one by `train --method`, or that of als_spark.ALS"
            )
        exponent = base.exponent if self.exponent is None else self.exponent
        implicit = base.implicit if self.implicit is None else self.implicit
        nonnegative = base.nonnegative if self.nonnegative is None else self.nonnegative
        check_alpha(self.alpha, implicit=implicit)
        # The α of another model stays, as long as there is one.
        alpha = (base.alpha if implicit else 1.0) if self.alpha is None else self.alpha
        if self.reg is None and exponent != base.exponent:
            raise ConfigError(
                f"--exponent {exponent:g} without --lambda: a lambda of exponent "
                f"{base.exponent:g} ({base.reg:g}) means something else there: give both"
            )
        if self.reg is None and other is not None and implicit != base.implicit:
            switch, kind = ("", "explicit") if implicit else ("no-", "implicit")
            raise ConfigError(
                f"--{switch}implicit without --lambda: a lambda of {kind} feedback "
                f"({base.reg:g}) means something else there: give both"
            )
        reg = base.reg if self.reg is None else self.reg
        objective = Objective(reg, exponent, implicit, alpha, nonnegative)
        return Spec(rank if self.rank is None else self.rank, objective)

    @property
    def posterior(self) -> PosteriorOptions | None:
        """What trains with a learnt prior; None: a ridge towards zero."""
        return None

    @property
    def feature_sources(self) -> dict[Side, FeatureSource]:
        """Where features of rows come from, as given."""
        found: dict[Side, FeatureSource] = {}
        for side in SIDES:
            path = getattr(self, f"{side}_features")
            if path is not None:
                chosen = getattr(self, f"{side}_feature_cols")
                found[side] = self.feature_source(side, path, chosen)
        return found

    def feature_source(
        self, side: Side, path: str, chosen: tuple[str, ...], origin: str | None = None
    ) -> FeatureSource:
        """Say how features of a side are read; ``origin`` is the model whose they are."""
        source = self.source(path, timestamp=False, rating=False)
        return FeatureSource(replace(source, features_of=side), chosen, origin)

    def objective_words(self, spec: Spec, source: str | None) -> str:
        """Say which objective a λ belongs to, and who says so.

        Parameters
        ----------
        spec : Spec
            The model to train.
        source : str or None
            What to call the other model that :meth:`spec` was given.
        """
        given = (self.exponent, self.implicit, self.alpha, self.nonnegative)
        if any(value is not None for value in given):
            why = "as given"
        else:
            why = "the default" if source is None else f"as {source} has it"
        return f"lambda {spec.objective.reg:g} of the {spec.objective.note}, {why}"
