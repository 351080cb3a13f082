"""What the jobs' configurations share, and the sweep's.

The other jobs' configurations are in :mod:`als_spark.cli.config.batch`; how one is read from a file
and a command line, in :mod:`als_spark.cli.config.settings`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from als_spark.cli.config.settings import option_name, require
from als_spark.errors import ConfigError
from als_spark.train.loop import TrainingOptions
from als_spark.types import (
    BadRows,
    ColdStart,
    DType,
    Duplicates,
    Format,
    PlacementChoice,
    SplitStrategy,
)

LARGEST_SEED = 2**63 - 1
LARGEST_RANK = 10_000

CHOICES: Mapping[str, tuple[str, ...]] = {
    "format": get_args(Format),
    "bad_rows": get_args(BadRows),
    "duplicates": get_args(Duplicates),
    "split": get_args(SplitStrategy),
    "dtype": get_args(DType),
    "cold_start": get_args(ColdStart),
    "placement": get_args(PlacementChoice),
}
"""The options that take one of a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingsConfig:
    """Where ratings come from. Fields are named as the options and the TOML keys.

    Attributes
    ----------
    ratings, table : str or None
        A path that Spark reads, or the name of a table.
    format : str
        Of the files; ``auto`` looks at names and content.
    user_col, item_col, rating_col, timestamp_col : str or None
        Columns; found by their usual names if not given.
    """

    ALTERNATIVES: ClassVar[tuple[tuple[str, ...], ...]] = (("ratings", "table"),)

    ratings: str | None = None
    table: str | None = None
    format: Format = "auto"
    user_col: str | None = None
    item_col: str | None = None
    rating_col: str | None = None
    timestamp_col: str | None = None

    @property
    def columns(self) -> dict[str, str | None]:
        """Role to column name, None where it is to be found."""
        return {
            "user": self.user_col,
            "item": self.item_col,
            "rating": self.rating_col,
            "timestamp": self.timestamp_col,
        }

    def check_ratings(self) -> None:
        """Check the fields above, and every field that takes one of a few words."""
        for field, choices in CHOICES.items():
            if hasattr(self, field):
                value = getattr(self, field)
                require(value in choices, field, value, f"use one of {', '.join(choices)}")
        check_not_empty(
            self, ("ratings", "table", "user_col", "item_col", "rating_col", "timestamp_col")
        )
        if self.ratings and self.table:
            raise ConfigError("--ratings and --table are both given: give one source of ratings")


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig(RatingsConfig):
    """How models are fitted to ratings.

    Attributes
    ----------
    bad_rows : {"error", "drop"}
        Whether unusable rows stop the run or are set aside.
    duplicates : {"error", "mean", "last"}
        What becomes of a (user, item) pair that is rated twice.
    split : {"random", "time"}
        Hold out by a hash of the pair, or the latest ratings.
    test_fraction : float
        Share of the ratings held out, in [0, 1).
    tol, max_iter : float, int
        Stopping rule and cap (see :mod:`als_spark.train.loop`).
    seed : int
        Of the split and of the start.
    dtype : {"float32", "float64"}
        Of the factors and of the systems.
    accelerate : bool
        Whether iterations begin at extrapolated factors (see :mod:`als_spark.train.acceleration`).
    placement : {"auto", "ratings", "grid"}
        Whether Spark partitions the ratings or the grid.
    partitions : int or None
        Blocks of each side in the ratings placement; from the cluster's cores if not given.
    """

    bad_rows: BadRows = "error"
    duplicates: Duplicates = "error"
    split: SplitStrategy = "random"
    test_fraction: float = 0.2
    tol: float = 1e-3
    max_iter: int = 1000
    seed: int = 0
    dtype: DType = "float32"
    accelerate: bool = False
    placement: PlacementChoice = "auto"
    partitions: int | None = None

    def check_fit(self) -> None:
        """Check the fields above."""
        check_share(self, "test_fraction")
        require(
            math.isfinite(self.tol) and self.tol >= 0, "tol", self.tol, "use a number such as 1e-3"
        )
        require(self.max_iter >= 1, "max_iter", self.max_iter, "use a whole number of at least 1")
        check_flag(self, "accelerate")
        require(
            0 <= self.seed <= LARGEST_SEED,
            "seed",
            self.seed,
            f"use a whole number from 0 to {LARGEST_SEED}",
        )
        if self.partitions is not None:
            require(
                1 <= self.partitions <= 100_000,
                "partitions",
                self.partitions,
                "use a whole number from 1 to 100000",
            )

    def training_with(self, exponent: float) -> TrainingOptions:
        """Return the part that the training loop takes, for the objective of an exponent."""
        return TrainingOptions(
            exponent, self.tol, self.max_iter, self.seed, self.dtype, self.accelerate
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig(FitConfig):
    """Everything that decides a sweep.

    Without ratings or a table it runs on the sample of the Spark distribution.

    Attributes
    ----------
    test : str or None
        Ratings to test on, instead of a split.
    validation_fraction : float
        Share of the ratings held out to choose the best point on, in [0, 1).
    ranks : tuple of int
        d of the grid.
    lambdas : tuple of float
        λ of the grid; ``exponent`` says of which objective.
    exponent : float
        Frequency exponent ν: a row of n training ratings has the ridge λ n^ν (0: the notebook's λI;
        1: MLlib's).
    cold_start : {"mean", "drop", "initial"}
        Prediction for held-out ratings whose user or item has no training rating.
    output : str
        Folder for the results.
    """

    test: str | None = None
    validation_fraction: float = 0.0
    ranks: tuple[int, ...] = (1, 5, 20, 50)
    lambdas: tuple[float, ...] = (1.0, 2.0, 4.0, 6.0)
    exponent: float = 0.0
    cold_start: ColdStart = "mean"
    output: str = ""

    def __post_init__(self) -> None:
        """Check every value.

        Raises
        ------
        ConfigError
            Names the option, its value and the remedy.
        """
        if not self.output:
            raise ConfigError("--output is missing: give a folder for the results")
        self.check_ratings()
        check_not_empty(self, ("test",))
        self.check_fit()
        check_share(self, "validation_fraction")
        self._check_held_out()
        require(bool(self.ranks), "ranks", self.ranks, "give at least one rank, such as 5")
        require(bool(self.lambdas), "lambdas", self.lambdas, "give at least one λ, such as 1")
        for field in ("ranks", "lambdas"):
            values = getattr(self, field)
            require(len(set(values)) == len(values), field, _join(values), "name each value once")
        for rank in self.ranks:
            check_rank("ranks", rank)
        for reg in self.lambdas:
            check_reg("lambdas", reg)
        check_exponent(self.exponent)

    @property
    def training(self) -> TrainingOptions:
        """The part that the training loop takes."""
        return self.training_with(self.exponent)

    @property
    def objective_note(self) -> str:
        """Which objective λ belongs to, in words for plots and tables."""
        return objective_note(self.exponent)

    def _check_held_out(self) -> None:
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


def check_not_empty(config: object, fields: Sequence[str]) -> None:
    """Refuse options that are given as an empty text."""
    for field in fields:
        if getattr(config, field) == "":
            raise ConfigError(f"{option_name(field)} is empty: give a value, or leave it out")


def check_share(config: object, field: str) -> None:
    """Refuse what is no share of the ratings."""
    value = getattr(config, field)
    require(0 <= value < 1, field, value, "use a share in [0, 1), such as 0.2")


def check_flag(config: object, field: str) -> None:
    """Refuse what is neither true nor false."""
    value = getattr(config, field)
    require(isinstance(value, bool), field, value, "use true or false")


def check_rank(field: str, rank: int) -> None:
    """Refuse what is no rank."""
    require(1 <= rank <= LARGEST_RANK, field, rank, f"use whole numbers from 1 to {LARGEST_RANK}")


def check_reg(field: str, reg: float) -> None:
    """Refuse what is no λ."""
    require(math.isfinite(reg) and reg >= 0, field, reg, "use finite numbers of at least 0")


def check_exponent(exponent: float) -> None:
    """Refuse what is no frequency exponent."""
    require(
        math.isfinite(exponent) and 0 <= exponent <= 4,
        "exponent",
        exponent,
        "use a number from 0 (plain ridge) to 4; 1 is MLlib's",
    )


def objective_note(exponent: float) -> str:
    """Say which objective the λ of a frequency exponent belongs to."""
    if exponent == 0:
        return "ridge λ|x|² for each row (exponent 0)"
    if exponent == 1:
        return "ridge λ·n·|x|² for a row of n ratings (exponent 1, as Spark MLlib)"
    return f"ridge λ·n^{exponent:g}·|x|² for a row of n ratings"


def _join(values: tuple[Any, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)
