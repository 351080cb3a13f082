"""Configuration of the nightly job. Fields are named as its options and TOML keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from als_spark.cli.config.model import BAYES, MODEL, RESULT, FeatureColumns, Method, ModelConfig
from als_spark.cli.config.nightly_method import nightly_features, nightly_posterior
from als_spark.cli.config.ratings import DEFAULTS, RATINGS, Reg
from als_spark.cli.config.settings import (
    REQUIRED,
    Count,
    CountOrNone,
    InputPath,
    Listed,
    Shown,
    TargetStore,
    option,
)
from als_spark.errors import ConfigError
from als_spark.nightly.checks import CheckLimits
from als_spark.nightly.comparison import LARGER_IS_BETTER, Measure
from als_spark.nightly.features import FeatureSource
from als_spark.nightly.method import Earlier
from als_spark.spark.train.posterior import method_name
from als_spark.train.bayes.options import (
    Covariance,
    NoiseChoice,
    PosteriorOptions,
)
from als_spark.types import BadRows, Duplicates, Side

Margin = Annotated[float, Field(ge=0, examples=[0.01]), Shown("SHARE")]
CHAMPION = "champion and challenger"


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
    covariance: Covariance | None = option(
        BAYES, "what variational keeps of a row, as of train: full or diagonal covariances"
    )
    implicit_features: CountOrNone | None = option(
        BAYES, "directions of who has rated what that the prior depends on, as of train"
    )
    user_features: InputPath | None = option(
        BAYES,
        "as of train; none: train without (default: where those of the current version are from, "
        "read again)",
    )
    item_features: InputPath | None = option(BAYES, "the same of items")
    user_feature_cols: FeatureColumns = option(
        BAYES, "columns of the users' features (default: those of the current version, or all)", ()
    )
    item_feature_cols: FeatureColumns = option(BAYES, "the same of items", ())
    feature_ridge: Reg | None = option(BAYES, "as of train")
    burn_in: CountOrNone | None = option(BAYES, "as of train")
    samples: Count | None = option(BAYES, "as of train")
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

    def features_of(self, earlier: Earlier | None, origin: str | None) -> dict[Side, FeatureSource]:
        """Say where features of rows come from: see :meth:`posterior_of`.

        Raises
        ------
        ConfigError
            If columns are given without a file, or the version does not say where its files are.
        """
        return nightly_features(self, earlier, origin)

    def nightly_words(
        self,
        options: PosteriorOptions,
        origin: str | None,
        sources: Mapping[Side, FeatureSource],
    ) -> str:
        """Say which method is going to train, and who says so."""
        why = "as given" if self.method is not None or origin is None else f"as {origin} has it"
        features = f", {options.n_features} implicit features" if options.n_features else ""
        for side, own in sources.items():
            features += f", features of {side}s in {own.source.label}"
        return f"{method_name(options)}, rank {options.n_factors}{features}: {why}"

    @property
    def largest_decline(self) -> float:
        """How much worse than any version before the champion a challenger may be, as a share."""
        return 3 * self.margin if self.max_decline is None else self.max_decline
