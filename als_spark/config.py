"""The sweep's configuration: one record, its TOML form, its checks.

Defaults are overridden by the TOML file, the file by the command line. An unknown key is an error.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from als_spark.errors import ConfigError
from als_spark.metrics import ColdStart
from als_spark.training import DType, TrainingOptions

Format = Literal["auto", "csv", "movielens", "parquet", "json"]
BadRows = Literal["error", "drop"]
Duplicates = Literal["error", "mean", "last"]
SplitStrategy = Literal["random", "time"]
Placement = Literal["auto", "ratings", "grid"]

LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """Everything that decides a sweep. Fields are named as the options and the TOML keys.

    Attributes
    ----------
    ratings, table : str or None
        Where the ratings are: a path that Spark reads, or the name of a table. Neither: the sample
        of the Spark distribution.
    format : str
        Of the files; ``auto`` looks at names and content.
    user_col, item_col, rating_col, timestamp_col : str or None
        Columns; found by their usual names if not given.
    test : str or None
        Ratings to test on, instead of a split.
    bad_rows : {"error", "drop"}
        Whether unusable rows stop the run or are set aside.
    duplicates : {"error", "mean", "last"}
        What becomes of a (user, item) pair that is rated twice.
    split : {"random", "time"}
        Split by a hash of the pair, or the latest ratings held out.
    test_fraction, validation_fraction : float
        Shares of the ratings held out, in [0, 1).
    ranks : tuple of int
        d of the grid.
    lambdas : tuple of float
        λ of the grid; ``exponent`` says of which objective.
    exponent : float
        Frequency exponent ν: a row of n training ratings has the ridge λ n^ν (0: the notebook's λI;
        1: MLlib's).
    tol, max_iter : float, int
        Stopping rule and cap (see :mod:`als_spark.training`).
    seed : int
        Of the split and of the start.
    dtype : {"float32", "float64"}
        Of the factors and of the systems.
    accelerate : bool
        Whether iterations begin at extrapolated factors (see :mod:`als_spark.acceleration`).
    cold_start : {"mean", "drop", "initial"}
        Prediction for held-out ratings whose user or item has no training rating.
    placement : {"auto", "ratings", "grid"}
        Whether Spark partitions the ratings or the grid.
    partitions : int or None
        Blocks of each side in the ratings placement; from the cluster's cores if not given.
    output : str
        Folder for the results.
    """

    ratings: str | None = None
    table: str | None = None
    format: Format = "auto"
    user_col: str | None = None
    item_col: str | None = None
    rating_col: str | None = None
    timestamp_col: str | None = None
    test: str | None = None
    bad_rows: BadRows = "error"
    duplicates: Duplicates = "error"
    split: SplitStrategy = "random"
    test_fraction: float = 0.2
    validation_fraction: float = 0.0
    ranks: tuple[int, ...] = (1, 5, 20, 50)
    lambdas: tuple[float, ...] = (1.0, 2.0, 4.0, 6.0)
    exponent: float = 0.0
    tol: float = 1e-3
    max_iter: int = 1000
    seed: int = 0
    dtype: DType = "float32"
    accelerate: bool = False
    cold_start: ColdStart = "mean"
    placement: Placement = "auto"
    partitions: int | None = None
    output: str = ""

    def __post_init__(self) -> None:
        """Check every value.

        Raises
        ------
        ConfigError
            Names the option, its value and the remedy.
        """
        for field, choices in CHOICES.items():
            value = getattr(self, field)
            _require(value in choices, field, value, f"use one of {', '.join(choices)}")
        if not self.output:
            raise ConfigError("--output is missing: give a folder for the results")
        for field in (*_SOURCE_FIELDS, *_COLUMN_FIELDS):
            if getattr(self, field) == "":
                raise ConfigError(f"{option_name(field)} is empty: give a value, or leave it out")
        if self.ratings and self.table:
            raise ConfigError("--ratings and --table are both given: give one source of ratings")
        for field in ("test_fraction", "validation_fraction"):
            value = getattr(self, field)
            _require(0 <= value < 1, field, value, "use a share in [0, 1), such as 0.2")
        self._check_held_out()
        _require(bool(self.ranks), "ranks", self.ranks, "give at least one rank, such as 5")
        _require(bool(self.lambdas), "lambdas", self.lambdas, "give at least one λ, such as 1")
        for field in ("ranks", "lambdas"):
            values = getattr(self, field)
            _require(len(set(values)) == len(values), field, _join(values), "name each value once")
        for rank in self.ranks:
            _require(1 <= rank <= 10_000, "ranks", rank, "use whole numbers from 1 to 10000")
        for reg in self.lambdas:
            _require(
                math.isfinite(reg) and reg >= 0, "lambdas", reg, "use finite numbers of at least 0"
            )
        _require(
            math.isfinite(self.exponent) and 0 <= self.exponent <= 4,
            "exponent",
            self.exponent,
            "use a number from 0 (plain ridge) to 4; 1 is MLlib's",
        )
        _require(
            math.isfinite(self.tol) and self.tol >= 0, "tol", self.tol, "use a number such as 1e-3"
        )
        _require(self.max_iter >= 1, "max_iter", self.max_iter, "use a whole number of at least 1")
        _require(
            isinstance(self.accelerate, bool), "accelerate", self.accelerate, "use true or false"
        )
        _require(
            0 <= self.seed <= LARGEST_SEED,
            "seed",
            self.seed,
            f"use a whole number from 0 to {LARGEST_SEED}",
        )
        if self.partitions is not None:
            _require(
                1 <= self.partitions <= 100_000,
                "partitions",
                self.partitions,
                "use a whole number from 1 to 100000",
            )

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

    @property
    def training(self) -> TrainingOptions:
        """The part that the training loop takes."""
        return TrainingOptions(
            self.exponent, self.tol, self.max_iter, self.seed, self.dtype, self.accelerate
        )

    @property
    def objective_note(self) -> str:
        """Which objective λ belongs to, in words for plots and tables."""
        if self.exponent == 0:
            return "ridge λ|x|² for each row (exponent 0)"
        if self.exponent == 1:
            return "ridge λ·n·|x|² for a row of n ratings (exponent 1, as Spark MLlib)"
        return f"ridge λ·n^{self.exponent:g}·|x|² for a row of n ratings"


CHOICES: Mapping[str, tuple[str, ...]] = {
    "format": get_args(Format),
    "bad_rows": get_args(BadRows),
    "duplicates": get_args(Duplicates),
    "split": get_args(SplitStrategy),
    "dtype": get_args(DType),
    "cold_start": get_args(ColdStart),
    "placement": get_args(Placement),
}
"""The options that take one of a few words."""
_SOURCE_FIELDS = ("ratings", "table", "test")
_COLUMN_FIELDS = ("user_col", "item_col", "rating_col", "timestamp_col")


def option_name(field: str) -> str:
    """Name the command-line option of a field."""
    return "--" + field.replace("_", "-")


def resolve(file: Path | None, overrides: Mapping[str, Any]) -> SweepConfig:
    """Put defaults, a TOML file and the command line together.

    Parameters
    ----------
    file : Path or None
        TOML file with the fields of :class:`SweepConfig` as top-level keys (hyphens and underscores
        are alike).
    overrides : mapping
        Fields given on the command line; those that are None were not given.

    Raises
    ------
    ConfigError
        If the file cannot be read, has an unknown key, or a value is unusable.
    """
    values = read_toml(file) if file is not None else {}
    given = {key: value for key, value in overrides.items() if value is not None}
    # A source on the command line replaces the file's, of whichever kind.
    if "ratings" in given or "table" in given:
        values = {key: value for key, value in values.items() if key not in ("ratings", "table")}
    return SweepConfig(**{**values, **given})


def read_toml(file: Path) -> dict[str, Any]:
    """Read the fields of :class:`SweepConfig` that a TOML file sets, with their types checked."""
    try:
        with file.open("rb") as stream:
            document = tomllib.load(stream)
    except OSError as error:
        raise ConfigError(
            f"--config {file}: cannot be read ({error.strerror}): give the path of a TOML file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    types = typing.get_type_hints(SweepConfig)
    values: dict[str, Any] = {}
    for key, value in document.items():
        field = key.replace("-", "_")
        if field not in types:
            known = ", ".join(f.name for f in dataclasses.fields(SweepConfig))
            raise ConfigError(f"{file}: unknown key {key!r}: the keys are {known}")
        if field in values:
            raise ConfigError(f"{file}: {key!r} is there twice, with - and _: keep one of them")
        values[field] = _typed(file, key, value, types[field])
    return values


def _typed(file: Path, key: str, value: Any, expected: Any) -> Any:
    """Check a TOML value against its field's type; make lists tuples, and whole numbers floats."""
    options = get_args(expected) if typing.get_origin(expected) is not Literal else ()
    if typing.get_origin(expected) is tuple:
        item = options[0]
        values = value if isinstance(value, list) else [value]
        return tuple(_typed(file, key, entry, item) for entry in values)
    if type(None) in options:
        expected = next(option for option in options if option is not type(None))
    if typing.get_origin(expected) is Literal:
        expected = str
    if expected is float and type(value) is int:
        return float(value)
    if type(value) is not expected:
        raise ConfigError(
            f"{file}: {key} = {value!r} is of the wrong type: use {_TYPE_NAMES[expected]}"
        )
    return value


_TYPE_NAMES: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    bool: "true or false",
}


def _require(condition: bool, field: str, value: object, remedy: str) -> None:
    if not condition:
        raise ConfigError(f"{option_name(field)} {value}: not usable: {remedy}")


def _join(values: tuple[Any, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)
