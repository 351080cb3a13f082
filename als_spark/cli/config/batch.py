"""Configurations of the jobs that train a model: train, retrain.

Fields are named as the options and the TOML keys (``reg`` is ``lambda``, ``recommend_for`` is
``for``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from als_spark.cli.config.checkpoint import CheckpointConfig
from als_spark.cli.config.nightly_method import nightly_posterior
from als_spark.cli.config.settings import (
    REQUIRED,
    Alternatives,
    Column,
    Count,
    CountOrNone,
    InputFolder,
    InputPath,
    JobConfig,
    Listed,
    OutputFolder,
    Share,
    Shown,
    TargetStore,
    Text,
    option,
    option_name,
)
from als_spark.cli.config.sweep import (
    ALPHA_HELP,
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
    RatingsConfig,
    Reg,
    TopCount,
    check_alpha,
)
from als_spark.errors import ConfigError
from als_spark.nightly.checks import CheckLimits
from als_spark.nightly.comparison import LARGER_IS_BETTER, Measure
from als_spark.nightly.features import FeatureSource
from als_spark.nightly.method import Earlier
from als_spark.nightly.run_record import Spec
from als_spark.solve.objective import Objective
from als_spark.spark.train.posterior import method_name
from als_spark.train.bayes.options import (
    FEATURE_RIDGE,
    RIDGE,
    NoiseChoice,
    PosteriorOptions,
)
from als_spark.types import SIDES, BadRows, Duplicates, Side

Margin = Annotated[float, Field(ge=0, examples=[0.01]), Shown("SHARE")]
Minutes = Annotated[float, Field(ge=0.05, le=1e6, examples=[10]), Shown("MINUTES")]
FeatureColumns = Annotated[tuple[Column, ...], Listed, Shown("C")]
Tracker = Annotated[str, Field(min_length=1), Shown("URI", role="tracking")]

MODEL, RESULT, BAYES = "model", "result", "Bayesian methods"
NOT_BAYES = (
    *("reg", "exponent", "implicit", "alpha", "nonnegative", "from_sweep", "refit", "accelerate"),
)
"""Options of a ridge: the Bayesian methods learn prior and noise, of explicit ratings."""
NOT_TOWARDS_A_MEAN = tuple(name for name in NOT_BAYES if name not in ("reg", "exponent"))
"""Options of a ridge towards zero: one towards a mean has biases, of explicit ratings."""
Method = Literal["ridge", "variational", "sample"]
CHAMPION = "champion and challenger"
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
        """Where features of rows come from."""
        return {}

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


class TrainConfig(CheckpointConfig, ModelConfig):
    """Everything that decides ``jobs/train.py``."""

    command = "train"
    about = "Train one ALS model and put it into a model store, or into a folder."
    exit_codes = (
        "0 done, 2 unusable input or options, 5 another run is at work on the store, "
        "1 anything else"
    )
    alternatives: ClassVar[Alternatives] = (*RatingsConfig.alternatives, ("store", "output"))

    bad_rows: BadRows = option(RATINGS, "stop on unusable rows, or leave them out", "error")
    from_sweep: InputFolder | None = option(
        MODEL,
        "take rank, lambda and the rest of the objective of a sweep's best point",
    )
    method: Method = option(
        BAYES,
        "ridge: least squares with --lambda; variational and sample learn prior and noise from the "
        "ratings, with biases: nothing to tune",
        "ridge",
    )
    noise: NoiseChoice | None = option(
        BAYES, "whether users and items may be more or less noisy, each its own (default: rows)"
    )
    implicit_features: CountOrNone | None = option(
        BAYES,
        "let the prior depend on so many directions of who has rated what: 20, say (default: 0); "
        f"a ridge then has biases, and --lambda (default: {RIDGE:g}), --exponent (default: 0) and "
        "rank (default: 16) of its own",
    )
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
    feature_ridge: Reg | None = option(
        BAYES,
        "ridge with features: the features' coefficients weigh as much as so many rows "
        f"(default: {FEATURE_RIDGE:g})",
    )
    burn_in: CountOrNone | None = option(
        BAYES, "sample: iterations before those that count (default: 40)"
    )
    samples: Count | None = option(BAYES, "sample: iterations that count (default: 160)")
    store: TargetStore | None = option(RESULT, "publish the model into this store")
    output: OutputFolder | None = option(RESULT, "write the model into this folder instead")

    @model_validator(mode="after")
    def _checkpointed(self) -> Self:
        if self.checkpoint is not None and self.posterior is not None:
            chosen = self._features_words if self.method == "ridge" else f"--method {self.method}"
            raise ConfigError(
                f"--checkpoint {self.checkpoint} with {chosen}: not available: a training that "
                "learns a prior cannot be continued: leave one of the two out"
            )
        return self

    @property
    def posterior(self) -> PosteriorOptions | None:
        """What trains with a learnt prior; None: a ridge towards zero."""
        if self.method == "ridge" and not (self.implicit_features or self.feature_sources):
            return None
        given: dict[str, Any] = {
            "rank": self.rank,
            "noise": self.noise,
            "n_features": self.implicit_features,
            "burn_in": self.burn_in,
            "samples": self.samples,
            "reg": self.reg,
            "exponent": self.exponent,
            "feature_ridge": self.feature_ridge,
            # Their defaults are those of the ridge.
            "tol": self.tol if "tol" in self.model_fields_set else None,
            "max_iter": self.max_iter if "max_iter" in self.model_fields_set else None,
        }
        return PosteriorOptions(
            self.method,
            seed=self.seed,
            dtype=self.dtype,
            **{name: value for name, value in given.items() if value is not None},
        )

    @property
    def feature_sources(self) -> dict[Side, FeatureSource]:
        """Where features of rows come from."""
        found: dict[Side, FeatureSource] = {}
        for side in SIDES:
            path = getattr(self, f"{side}_features")
            if path is not None:
                source = self.source(path, timestamp=False, rating=False)
                chosen = getattr(self, f"{side}_feature_cols")
                found[side] = FeatureSource(replace(source, features_of=side), chosen)
        return found

    def method_words(self, options: PosteriorOptions) -> str:
        """Say how a method with a learnt prior is going to train."""
        features = f", {options.n_features} implicit features" if options.n_features else ""
        given = " and ".join(f"{side}s" for side in self.feature_sources)
        features += f", features of {given}" if given else ""
        if options.method == "ridge":
            note = options.objective.note
            own = f"biases{features} with the ridge of {options.feature_rows:g} rows"
            return f"ridge, rank {options.n_factors}, {options.objective.brief}: {note}; {own}"
        noise = "of each user and item" if options.noise == "rows" else "shared by all ratings"
        return f"{options.method}, rank {options.n_factors}, noise {noise}{features}"

    @property
    def _features_words(self) -> str:
        """The option that gives a ridge its features."""
        for side in self.feature_sources:
            return f"--{side}-features {getattr(self, f'{side}_features')}"
        return f"--implicit-features {self.implicit_features or 0}"

    @model_validator(mode="after")
    def _method_takes(self) -> Self:
        """Refuse what would have no effect with the method."""
        refused = {
            "ridge": ("noise", "burn_in", "samples"),
            "variational": (*NOT_BAYES, "burn_in", "samples", "feature_ridge"),
            "sample": (*NOT_BAYES, "tol", "max_iter", "feature_ridge"),
        }
        self._refuse(refused[self.method], f"--method {self.method}")
        chosen = f"--method {self.method}"
        for side in SIDES:
            columns = getattr(self, f"{side}_feature_cols")
            if columns and getattr(self, f"{side}_features") is None:
                raise ConfigError(
                    f"--{side}-feature-cols {' '.join(columns)} without --{side}-features: has no "
                    "effect: give the file that has these columns"
                )
        if self.method == "ridge":
            chosen = self._features_words
            if self.posterior is None:
                self._refuse(("feature_ridge",), chosen, "use --implicit-features 20, say")
            else:
                self._refuse(NOT_TOWARDS_A_MEAN, chosen, "leave the features out")
        if self.posterior is not None and self.exchange == "shuffle":
            raise ConfigError(
                f"--exchange shuffle with {chosen}: not usable: every worker needs "
                "what is known of all rows of the other side: leave one of the two out"
            )
        return self

    def _refuse(self, names: Iterable[str], chosen: str, else_: str = "use another method") -> None:
        """Refuse options that would have no effect with what was chosen."""
        for name in names:
            value = getattr(self, name)
            if name in self.model_fields_set and value is not None and value is not False:
                shown = option_name(name) + ("" if value is True else f" {value}")
                raise ConfigError(f"{shown} with {chosen}: has no effect: leave it out, or {else_}")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.writes and (self.store is None) == (self.output is None):
            raise ConfigError(
                "--store and --output: give one of the two: the store that the model is "
                "published into, or a folder for it"
            )
        # The address may hold a password, so it is not shown.
        if self.output is not None and self.mlflow is not None:
            raise ConfigError(
                f"--mlflow with --output {self.output}: only trainings into a store are logged: "
                "give --store in place of --output, or leave --mlflow out"
            )
        if self.refit and self.test_fraction == 0:
            raise ConfigError(
                "--refit with --test-fraction 0: has no effect: the model sees all ratings anyway, "
                "so leave one of the two out"
            )
        return self


class RetrainConfig(CheckLimits, ModelConfig):
    """Everything that decides ``jobs/retrain.py``.

    One in ``full_every`` trainings, published or not, is from the usual start; the others start
    warm, from the factors of the current version. With ``force`` a run trains although the snapshot
    was trained on already, and in spite of a failed data check; the comparison still decides.
    """

    command = "retrain"
    about = (
        "The nightly job: check the new ratings, train a challenger, and publish it into the "
        "store unless it is worse than the current model."
    )
    exit_codes = (
        "0 published, or nothing new; 3 kept the champion; 4 data check failed; 5 locked; 2 bad "
        "input; 1 other"
    )
    defaults = DEFAULTS / "retrain.toml"

    bad_rows: BadRows = option(
        RATINGS, "stop on any unusable row, or leave them out and check their share", "drop"
    )
    duplicates: Duplicates = option(
        RATINGS, "what becomes of a (user, item) pair that is rated twice", "last"
    )
    increments: Annotated[tuple[InputPath, ...], Listed] = option(
        RATINGS, "ratings that came later, oldest first, commas or blanks between; they win", ()
    )
    refit: bool = option(
        RESULT, "train a challenger that has won on with all ratings, held-out ones too", True
    )
    method: Method | None = option(
        BAYES, "as of train; with variational warm (default: that of the current version, or ridge)"
    )
    noise: NoiseChoice | None = option(
        BAYES, "whether users and items may be more or less noisy, each its own, as of train"
    )
    implicit_features: CountOrNone | None = option(
        BAYES, "directions of who has rated what that the prior depends on, as of train"
    )
    full_every: Count = option(MODEL, "train from the usual start every so many trainings", 7)
    measure: Measure = option(CHAMPION, "compare challenger and champion by this", "rmse")
    margin: Margin = option(CHAMPION, "publish a challenger that is at most this share worse", 0.01)
    max_decline: Margin | None = option(
        CHAMPION,
        "and this share worse than any version before the champion (default: three margins)",
    )
    store: TargetStore = option(RESULT, "the store (required)", REQUIRED)
    force: bool = option(
        RESULT, "train on a snapshot again, and in spite of a failed data check", False
    )

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if self.ranking_users == 0 and self.measure in LARGER_IS_BETTER:
            raise ConfigError(
                f"--ranking-users 0: not usable: without ranking measures there is no "
                f"{self.measure}: use a number such as 20000, or another --measure"
            )
        if self.test_fraction == 0:
            raise ConfigError(
                "--test-fraction 0: not usable: challenger and champion are compared on held-out "
                "ratings: use a share such as 0.1; with --refit, the default, the model that is "
                "published is trained on all ratings anyway"
            )
        return self

    @model_validator(mode="after")
    def _method_takes(self) -> Self:
        """Refuse what would have no effect with a method that is given."""
        if self.method is not None:
            self.posterior_of(None, None)
        return self

    def posterior_of(self, earlier: Earlier | None, origin: str | None) -> PosteriorOptions | None:
        """Say what trains with a learnt prior; None: a ridge towards zero.

        Parameters
        ----------
        earlier : Earlier or None
            The current version, whose method and options stay where none are given.
        origin : str or None
            What to call it.

        Raises
        ------
        ConfigError
            If an option has no effect with the method, or that of the version cannot be kept.
        """
        return nightly_posterior(self, earlier, origin)

    def nightly_words(self, options: PosteriorOptions, origin: str | None) -> str:
        """Say which method is going to train, and who says so."""
        why = "as given" if self.method is not None or origin is None else f"as {origin} has it"
        features = f", {options.n_features} implicit features" if options.n_features else ""
        return f"{method_name(options)}, rank {options.n_factors}{features}: {why}"

    @property
    def largest_decline(self) -> float:
        """How much worse than any version before the champion a challenger may be, as a share."""
        return 3 * self.margin if self.max_decline is None else self.max_decline
