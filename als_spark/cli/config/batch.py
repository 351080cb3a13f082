"""Configurations of the batch jobs: train, retrain, evaluate, recommend.

Fields are named as the options and the TOML keys (``reg`` is ``lambda``, ``recommend_for`` is
``for``); what they mean on the command line is told by :mod:`als_spark.cli.batch_options`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple, get_args

from als_spark.cli.config.settings import option_name, require
from als_spark.cli.config.sweep import (
    FitConfig,
    RatingsConfig,
    check_exponent,
    check_flag,
    check_not_empty,
    check_rank,
    check_reg,
)
from als_spark.errors import ConfigError
from als_spark.nightly.checks import CheckLimits
from als_spark.nightly.comparison import LARGER_IS_BETTER, MEASURES, Measure
from als_spark.types import BadRows, Duplicates

Audience = Literal["users", "items", "similar-items"]
OutputFormat = Literal["parquet", "json"]


class Spec(NamedTuple):
    """Which model: its rank d, λ, and the frequency exponent ν of the objective of λ."""

    rank: int
    reg: float
    exponent: float


DEFAULT_SPEC = Spec(10, 0.1, 1.0)
"""Where nothing is said: the defaults of Spark MLlib's ALS."""
PLAIN = 0.0
"""The exponent of the plain ridge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig(FitConfig):
    """One model to train, and where to keep it.

    Attributes
    ----------
    rank, reg, exponent : int, float, float or None
        d, λ and the frequency exponent ν of the model, whose row of n ratings has the ridge λ n^ν
        (0: plain; 1: MLlib's). Not given: see :meth:`spec`.
    top : int
        k of the ranking measures.
    relevant_from : float or None
        Held-out ratings of at least this much count as relevant for the ranking measures; the mean
        of the held-out ratings if not given.
    ranking_users : int
        The ranking measures are over at most about so many users, chosen by a hash of their ids; 0:
        they are not taken.
    keep : int
        Versions that are kept in the store.
    lock_minutes : float
        How long a run's lock on the store outlives a machine that died.
    mlflow, mlflow_experiment : str or None, str
        Address of an MLflow tracking server or folder; and the experiment.
    """

    test_fraction: float = 0.1
    rank: int | None = None
    reg: float | None = None
    exponent: float | None = None
    top: int = 10
    relevant_from: float | None = None
    ranking_users: int = 20_000
    keep: int = 7
    lock_minutes: float = 10.0
    mlflow: str | None = None
    mlflow_experiment: str = "als_spark"

    def check_model(self) -> None:
        """Check the fields above and all of :class:`als_spark.cli.config.sweep.FitConfig`."""
        self.check_ratings()
        self.check_fit()
        if self.rank is not None:
            check_rank("rank", self.rank)
        if self.reg is not None:
            check_reg("reg", self.reg)
        if self.exponent is not None:
            check_exponent(self.exponent)
        check_ranking(self)
        _at_least(self, "ranking_users", 0)
        _at_least(self, "keep", 1)
        require(
            math.isfinite(self.lock_minutes) and self.lock_minutes >= 0.05,
            "lock_minutes",
            self.lock_minutes,
            "use a number of minutes such as 10",
        )
        check_not_empty(self, ("mlflow", "mlflow_experiment"))

    def spec(self, other: Spec | None) -> Spec:
        """Say which model to train: what is given, the rest from another model or the defaults.

        A λ that is given alone belongs to the objective of the other model; without one, to the
        plain ridge (exponent 0), as in the sweep.

        Parameters
        ----------
        other : Spec or None
            The best of a sweep, or the current model.

        Raises
        ------
        ConfigError
            If another exponent is given without its λ.
        """
        base = other or DEFAULT_SPEC
        rank = base.rank if self.rank is None else self.rank
        if self.reg is None:
            if self.exponent not in (None, base.exponent):
                raise ConfigError(
                    f"--exponent {self.exponent:g} without --lambda: a lambda of exponent "
                    f"{base.exponent:g} ({base.reg:g}) means something else there: give both"
                )
            return Spec(rank, base.reg, base.exponent)
        usual = PLAIN if other is None else other.exponent
        return Spec(rank, self.reg, usual if self.exponent is None else self.exponent)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig(ModelConfig):
    """Everything that decides ``jobs/train.py``.

    Attributes
    ----------
    store, output : str or None
        Where the model goes: published into a store, or into a folder.
    from_sweep : str or None
        Output folder of a sweep, whose best point gives rank, λ and exponent.
    """

    ALTERNATIVES: ClassVar[tuple[tuple[str, ...], ...]] = (
        *RatingsConfig.ALTERNATIVES,
        ("store", "output"),
    )

    store: str | None = None
    output: str | None = None
    from_sweep: str | None = None

    def __post_init__(self) -> None:
        """Check every value.

        Raises
        ------
        ConfigError
            Names the option, its value and the remedy.
        """
        check_not_empty(self, ("store", "output", "from_sweep"))
        if (self.store is None) == (self.output is None):
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
        self.check_model()
        _require_ratings(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainConfig(ModelConfig):
    """Everything that decides ``jobs/retrain.py``.

    Attributes
    ----------
    increments : tuple of str
        Ratings that came after ``ratings``, oldest first. Later ratings of a pair win: by their
        time, where all sources have timestamps, else by the order of the sources.
    store : str
        The store that is published into.
    measure : {"rmse", "mse", "mae", "ndcg", "recall"}
        By which challenger and champion are compared.
    margin : float
        How much worse the challenger may be and still be published, as a share of the champion's
        measure.
    max_decline : float or None
        How much worse than any version that the champion has followed: many steps, each within the
        margin, must not add up. Not given: three margins (see :attr:`largest_decline`).
    full_every : int
        One in so many trainings, published or not, is from the usual start; the others start warm,
        from the factors of the current version. 1: always from the usual start.
    force : bool
        Train although the snapshot was trained on already, and in spite of a failed data check. The
        comparison with the champion still decides.
    max_bad_share, max_shrink, max_growth, max_total_shrink, range_slack, max_mean_shift,
    max_spread_shift, max_fresh_mean_shift, max_unknown_share : float
        Limits of the data checks (see :class:`als_spark.nightly.checks.CheckLimits`).
    """

    bad_rows: BadRows = "drop"
    duplicates: Duplicates = "last"
    increments: tuple[str, ...] = ()
    store: str = ""
    measure: Measure = "rmse"
    margin: float = 0.01
    max_decline: float | None = None
    full_every: int = 7
    force: bool = False
    max_bad_share: float = CheckLimits.max_bad_share
    max_shrink: float = CheckLimits.max_shrink
    max_growth: float = CheckLimits.max_growth
    max_total_shrink: float = CheckLimits.max_total_shrink
    range_slack: float = CheckLimits.range_slack
    max_mean_shift: float = CheckLimits.max_mean_shift
    max_spread_shift: float = CheckLimits.max_spread_shift
    max_fresh_mean_shift: float = CheckLimits.max_fresh_mean_shift
    max_unknown_share: float = CheckLimits.max_unknown_share

    def __post_init__(self) -> None:
        """Check every value.

        Raises
        ------
        ConfigError
            Names the option, its value and the remedy.
        """
        if not self.store:
            raise ConfigError("--store is missing: give the folder of the model store")
        self.check_model()
        _require_ratings(self)
        if any(not path for path in self.increments):
            raise ConfigError("--increments has an empty path: give paths of ratings")
        require(
            self.measure in MEASURES, "measure", self.measure, f"use one of {', '.join(MEASURES)}"
        )
        require(
            self.ranking_users > 0 or self.measure not in LARGER_IS_BETTER,
            "ranking_users",
            self.ranking_users,
            f"without ranking measures there is no {self.measure}: use a number such as 20000, or "
            "another --measure",
        )
        require(
            self.test_fraction > 0,
            "test_fraction",
            self.test_fraction,
            "challenger and champion are compared on held-out ratings: use a share such as 0.1",
        )
        require(
            math.isfinite(self.margin) and self.margin >= 0,
            "margin",
            self.margin,
            "use a share such as 0.01",
        )
        require(
            self.max_decline is None or 0 <= self.max_decline < math.inf,
            "max_decline",
            self.max_decline,
            "use a share such as 0.03",
        )
        _at_least(self, "full_every", 1)
        check_flag(self, "force")
        for limit in fields(CheckLimits):
            value = getattr(self, limit.name)
            require(
                not math.isnan(value) and value >= 0,
                limit.name,
                value,
                "use a number of at least 0",
            )

    @property
    def largest_decline(self) -> float:
        """How much worse than any version before the champion a challenger may be, as a share."""
        return 3 * self.margin if self.max_decline is None else self.max_decline

    @property
    def limits(self) -> CheckLimits:
        """The limits of the data checks."""
        return CheckLimits(
            **{limit.name: getattr(self, limit.name) for limit in fields(CheckLimits)}
        )


@dataclass(frozen=True, kw_only=True)
class StoredModelConfig:
    """A model that is there already.

    Attributes
    ----------
    store, version : str or None
        A model store, and the version; the current one if not given.
    model : str or None
        A model's folder instead.
    """

    ALTERNATIVES: ClassVar[tuple[tuple[str, ...], ...]] = (("store", "model"),)

    store: str | None = None
    version: str | None = None
    model: str | None = None

    def check_stored(self) -> None:
        """Check the fields above."""
        check_not_empty(self, ("store", "version", "model"))
        if (self.store is None) == (self.model is None):
            raise ConfigError("--store and --model: give one of the two, to say which model")
        if self.version is not None and self.store is None:
            raise ConfigError(
                f"--version {self.version}: versions are in a store: give --store DIR"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig(RatingsConfig, StoredModelConfig):
    """Everything that decides ``jobs/evaluate.py``.

    Attributes
    ----------
    exclude_seen : str or None
        Ratings, usually those trained on: their items are left out of a user's ranking. Pairs that
        are among ``ratings`` stay in: what is never recommended cannot be found.
    bad_rows : {"error", "drop"}
        Whether unusable rows stop the run or are left out.
    top, relevant_from, ranking_users
        As in :class:`ModelConfig`.
    output : str
        Folder for the results.
    """

    ALTERNATIVES: ClassVar[tuple[tuple[str, ...], ...]] = (
        *RatingsConfig.ALTERNATIVES,
        *StoredModelConfig.ALTERNATIVES,
    )

    bad_rows: BadRows = "error"
    exclude_seen: str | None = None
    top: int = 10
    relevant_from: float | None = None
    ranking_users: int = 20_000
    output: str = ""

    def __post_init__(self) -> None:
        """Check every value.

        Raises
        ------
        ConfigError
            Names the option, its value and the remedy.
        """
        self.check_stored()
        self.check_ratings()
        _require_ratings(self)
        check_not_empty(self, ("exclude_seen",))
        check_ranking(self)
        _at_least(self, "ranking_users", 0)
        _require_output(self.output)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendConfig(StoredModelConfig):
    """Everything that decides ``jobs/recommend.py``.

    Attributes
    ----------
    top : int
        Recommendations of each user, or item.
    users : str or None
        File or folder with the ids to recommend for, one a row; all that the model knows if not
        given.
    recommend_for : {"users", "items", "similar-items"}
        Items to users, users to items, or to each item the items most like it.
    exclude_seen : str or None
        Ratings whose items (users) are left out of what their user (item) gets; with ``fold_in``,
        so are those that a folded user has rated there.
    fold_in : str or None
        Ratings of users that the model does not know: they get factors from these ratings instead
        of the popular items.
    bad_rows : {"error", "drop"}
        Whether unusable rows of ``exclude_seen`` and ``fold_in`` stop the run or are left out.
    format : {"parquet", "json"}
        Of the output.
    files : int or None
        Files of the output, at most; as Spark cuts it if not given.
    user_col, item_col, rating_col : str or None
        Columns of the files above, where they have unusual names.
    output : str
        Folder for the recommendations.
    """

    top: int = 10
    users: str | None = None
    recommend_for: Audience = "users"
    exclude_seen: str | None = None
    fold_in: str | None = None
    bad_rows: BadRows = "error"
    format: OutputFormat = "parquet"
    files: int | None = None
    user_col: str | None = None
    item_col: str | None = None
    rating_col: str | None = None
    output: str = ""

    def __post_init__(self) -> None:
        """Check every value.

        Raises
        ------
        ConfigError
            Names the option, its value and the remedy.
        """
        self.check_stored()
        words_of = {"recommend_for": Audience, "bad_rows": BadRows, "format": OutputFormat}
        for name, choices in words_of.items():
            value, words = getattr(self, name), get_args(choices)
            require(value in words, name, value, f"use one of {', '.join(words)}")
        check_not_empty(
            self, ("users", "exclude_seen", "fold_in", "user_col", "item_col", "rating_col")
        )
        _at_least(self, "top", 1)
        if self.files is not None:
            _at_least(self, "files", 1)
        if self.fold_in is not None and self.recommend_for != "users":
            raise ConfigError(
                f"--fold-in {self.fold_in}: users are folded in, so it goes with --for users"
            )
        if self.exclude_seen is not None and self.recommend_for == "similar-items":
            raise ConfigError(
                f"--exclude-seen {self.exclude_seen}: similar items have nothing seen to leave "
                "out: leave the option out, or use --for users"
            )
        _require_output(self.output)


def check_ranking(config: Any) -> None:
    """Check what the ranking measures take."""
    _at_least(config, "top", 1)
    if config.relevant_from is not None:
        require(
            math.isfinite(config.relevant_from),
            "relevant_from",
            config.relevant_from,
            "use a rating such as 4",
        )


def _at_least(config: object, name: str, least: int) -> None:
    value = getattr(config, name)
    require(value >= least, name, value, f"use a whole number of at least {least}")


def _require_ratings(config: RatingsConfig) -> None:
    if config.ratings is None and config.table is None:
        raise ConfigError(
            f"{option_name('ratings')} is missing: give a file or folder of ratings, "
            "or a table with --table"
        )


def _require_output(output: str) -> None:
    if not output:
        raise ConfigError("--output is missing: give a folder for the results")
