"""Configuration of the job that trains one model. Fields are named as its options and TOML keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import model_validator

from als_spark.cli.config.checkpoint import CheckpointConfig
from als_spark.cli.config.method import refuse_shuffle, refuse_without_effect
from als_spark.cli.config.model import (
    BAYES,
    COVARIANCE_HELP,
    MODEL,
    NOISE_HELP,
    RESULT,
    Method,
    ModelConfig,
)
from als_spark.cli.config.ratings import RATINGS, RatingsConfig
from als_spark.cli.config.settings import (
    Alternatives,
    CountOrNone,
    InputFolder,
    OutputFolder,
    TargetStore,
    option,
    resolve,
)
from als_spark.errors import ConfigError
from als_spark.train.bayes.options import (
    RIDGE,
    Covariance,
    NoiseChoice,
    PosteriorOptions,
)
from als_spark.types import SIDES, BadRows

NOT_BAYES = (*("reg", "exponent", "implicit", "alpha", "nonnegative", "accelerate"),)
"""Options of a ridge: the Bayesian methods learn prior and noise, of explicit ratings."""
NOT_TOWARDS_A_MEAN = tuple(name for name in NOT_BAYES if name not in ("reg", "exponent"))
"""Options of a ridge towards zero: one towards a mean has biases, of explicit ratings."""


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
        "take rank, lambda and the rest of the objective, or the method, of a sweep's best point",
    )
    method: Method = option(
        BAYES,
        "ridge: least squares with --lambda; variational and sample learn prior and noise from the "
        "ratings, with biases: nothing to tune",
        "ridge",
    )
    noise: NoiseChoice | None = option(BAYES, NOISE_HELP)
    covariance: Covariance | None = option(BAYES, COVARIANCE_HELP)
    implicit_features: CountOrNone | None = option(
        BAYES,
        "let the prior depend on so many directions of who has rated what: 20, say (default: 0); "
        f"a ridge then has biases, and --lambda (default: {RIDGE:g}), --exponent (default: 0) and "
        "rank (default: 16) of its own",
    )
    store: TargetStore | None = option(RESULT, "publish the model into this store")
    output: OutputFolder | None = option(RESULT, "write the model into this folder instead")

    @model_validator(mode="after")
    def _checkpointed(self) -> Self:
        if self.checkpoint is not None and self.posterior is not None:
            raise ConfigError(
                f"--checkpoint {self.checkpoint} with {self._chosen}: not available: a training "
                "that learns a prior cannot be continued: leave one of the two out"
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
            "covariance": self.covariance,
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
        covariance = "" if options.covariance is None else f", {options.covariance} covariances"
        return f"{options.method}, rank {options.n_factors}, noise {noise}{covariance}{features}"

    def with_sweep(self, best: Mapping[str, Any]) -> TrainConfig:
        """Take fields of the best point of a sweep that learnt a prior; what is given wins.

        Raises
        ------
        ConfigError
            If another method is given, or an option that has no effect with that of the sweep.
        """
        where = f"--from-sweep {self.from_sweep}"
        if "method" in self.model_fields_set and self.method != best["method"]:
            raise ConfigError(
                f"{where} with --method {self.method}: not usable: its best point is by "
                f"{best['method']}: leave one of the two out"
            )
        given = {name: getattr(self, name) for name in self.model_fields_set}
        del given["from_sweep"]
        try:
            found = resolve(TrainConfig, None, {**best, **given})
        except ConfigError as error:
            raise ConfigError(f"{error} (the method is that of {where})") from error
        return found.model_copy(update={"from_sweep": self.from_sweep})

    def refuse_prior(self) -> None:
        """Refuse what has no effect with the best point of a sweep of ridges towards zero.

        Raises
        ------
        ConfigError
            If a prior is to be learnt, or an option is given that belongs to one.
        """
        self._refuse_by_method()
        if self.posterior is not None:
            raise ConfigError(
                f"--from-sweep {self.from_sweep} with {self._chosen}: not usable: its best point "
                "is a ridge towards zero: leave one of the two out"
            )

    @property
    def _chosen(self) -> str:
        """The option that a prior is learnt for."""
        return self._features_words if self.method == "ridge" else f"--method {self.method}"

    @property
    def _features_words(self) -> str:
        """The option that gives a ridge its features."""
        for side in self.feature_sources:
            return f"--{side}-features {getattr(self, f'{side}_features')}"
        return f"--implicit-features {self.implicit_features or 0}"

    @model_validator(mode="after")
    def _method_takes(self) -> Self:
        if self.from_sweep is None or "method" in self.model_fields_set:
            self._refuse_by_method()
        # Else the sweep says by which.
        return self

    def _refuse_by_method(self) -> None:
        """Refuse what would have no effect with the method."""
        refused = {
            "ridge": ("noise", "covariance", "burn_in", "samples"),
            "variational": (*NOT_BAYES, "burn_in", "samples", "feature_ridge"),
            "sample": (*NOT_BAYES, "covariance", "tol", "max_iter", "feature_ridge"),
        }
        chosen = f"--method {self.method}"
        refuse_without_effect(self, refused[self.method], chosen)
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
                refuse_without_effect(
                    self, ("feature_ridge",), chosen, "use --implicit-features 20, say"
                )
            else:
                refuse_without_effect(self, NOT_TOWARDS_A_MEAN, chosen, "leave the features out")
        if self.posterior is not None:
            refuse_shuffle(self.exchange, chosen)

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
