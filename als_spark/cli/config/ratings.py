"""What the configurations of jobs that read ratings, and of those that train, share.

Those of the jobs are in the modules beside this one; how one is read from a file
and a command line, in :mod:`als_spark.cli.config.settings`.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from als_spark.cli.config.settings import (
    Alternatives,
    Column,
    Count,
    InputPath,
    JobConfig,
    Listed,
    Share,
    Shown,
    Text,
    Word,
    option,
    option_name,
)
from als_spark.errors import ConfigError
from als_spark.solve.objective import LARGEST_EXPONENT
from als_spark.spark.estimate.resources import counted, stated
from als_spark.spark.read.options import NULL_WORDS, SourceOptions
from als_spark.train.ranking import RankingRule
from als_spark.train.records import TrainingOptions
from als_spark.types import (
    BadRows,
    DType,
    Duplicates,
    ExchangeChoice,
    Format,
    PlacementChoice,
    Quoting,
    SplitStrategy,
)

LARGEST_SEED = 2**63 - 1
LARGEST_RANK = 10_000

Rank = Annotated[int, Field(ge=1, le=LARGEST_RANK), Shown("D")]
Reg = Annotated[float, Field(ge=0, examples=[0.1]), Shown("L")]
Exponent = Annotated[
    float,
    Field(ge=0, le=LARGEST_EXPONENT),
    Shown("NU", remedy="a number from 0 (plain ridge) to 4; 1 is Spark MLlib's"),
]
Alpha = Annotated[float, Field(ge=0, examples=[40]), Shown("A")]
Tolerance = Annotated[float, Field(ge=0, examples=[1e-3]), Shown("TOL")]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED), Shown("N")]
Rating = Annotated[float, Field(examples=[4]), Shown("RATING")]
TopCount = Annotated[int, Field(ge=1, le=2**31 - 1), Shown("K")]
NullWords = Annotated[tuple[Word, ...], Listed, Shown("WORD")]
Partitions = Annotated[int, Field(ge=1, le=100_000), Shown("N")]

RATINGS, HELD_OUT, TRAINING = "ratings", "held-out ratings", "training"
RANKING = "ranking measures"
PLAN = "plan"
"""Titles in ``--help``."""

IMPLICIT_HELP = "take ratings for implicit feedback: preferences, with more or less confidence"
ALPHA_HELP = "confidence that a rating adds to its preference, with --implicit"
NONNEGATIVE_HELP = "let no factor be negative"
REFIT_HELP = "train it on with all ratings, held-out ones too, once it is measured"
DEFAULT_RULE = RankingRule()
NO_OUTPUT = "(none)"
"""In place of an output that is required, where nothing is written."""

DEFAULTS = files("als_spark") / "conf"
"""The jobs' configuration files, part of the package."""


def check_alpha(alpha: float | None, *, implicit: bool) -> None:
    """Stop on an α that would have no effect.

    Raises
    ------
    ConfigError
        If it is given, and ratings are explicit.
    """
    if alpha is not None and not implicit:
        raise ConfigError(
            f"--alpha {alpha:g}: has no effect on explicit ratings: add --implicit, or leave it out"
        )


def _column(role: str) -> Any:
    return option(RATINGS, f"column of the {role}, if it has an unusual name")


class RatingsConfig(JobConfig):
    """Where ratings come from."""

    ratings_required: ClassVar[bool] = True
    alternatives: ClassVar[Alternatives] = (("ratings", "table"),)

    ratings: InputPath | None = option(RATINGS, "file or folder that Spark can read")
    table: Text | None = option(
        RATINGS,
        "a Spark table instead of files; table:NAME in the place of a path is one, too, here and "
        "in the options of other inputs",
    )
    format: Format = option(RATINGS, "format of the files", "auto")
    encoding: Text = option(
        RATINGS, "of text files: utf-8, utf-16, or one of a byte a character", "utf-8"
    )
    quoting: Quoting = option(
        RATINGS, 'whether " may enclose a field of a text file; none: it is as any other', "auto"
    )
    null_words: NullWords = option(
        RATINGS,
        'text that stands for a missing id or rating; "" for none but blanks',
        NULL_WORDS,
    )
    user_col: Column | None = _column("users")
    item_col: Column | None = _column("items")
    rating_col: Column | None = _column("ratings")
    timestamp_col: Column | None = _column("timestamps")

    @property
    def columns(self) -> dict[str, str | None]:
        """Role to column name, None where it is to be found."""
        return {
            "user": self.user_col,
            "item": self.item_col,
            "rating": self.rating_col,
            "timestamp": self.timestamp_col,
        }

    def source(
        self, path: str | None, table: str | None = None, *, timestamp: bool, rating: bool = True
    ) -> SourceOptions:
        """Say how a source is read, and whether it needs a column of timestamps, or of ratings."""
        return SourceOptions(
            path,
            table,
            self.format,
            self.columns,
            timestamp,
            rating,
            encoding=self.encoding,
            quoting=self.quoting,
            null_words=self.null_words,
        )

    @property
    def _needs_ratings(self) -> bool:
        return self.ratings_required

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.ratings and self.table:
            raise ConfigError("--ratings and --table are both given: give one source of ratings")
        if self._needs_ratings and self.ratings is None and self.table is None:
            raise ConfigError(
                "--ratings is missing: give a file or folder of ratings, or a table with --table"
            )
        return self


class FitConfig(RatingsConfig):
    """How models are fitted to ratings."""

    alternatives: ClassVar[Alternatives] = (("ratings", "table", "counts"),)

    bad_rows: BadRows = option(
        RATINGS, "stop on unusable rows, or set them aside in DIR/rejected/", "error"
    )
    duplicates: Duplicates = option(
        RATINGS, "what becomes of a (user, item) pair that is rated twice", "error"
    )
    split: SplitStrategy = option(
        HELD_OUT, "hold out by a hash of the pair of ids, or the latest ratings", "random"
    )
    test_fraction: Share = option(HELD_OUT, "share to test on", 0.2)
    tol: Tolerance = option(TRAINING, "stop when the change settles to within this", 1e-3)
    max_iter: Count = option(TRAINING, "cap on the iterations", 1000)
    seed: Seed = option(TRAINING, "of the split and the start", 0)
    dtype: DType = option(TRAINING, "of the factors and the systems", "float32")
    accelerate: bool = option(
        TRAINING,
        "extrapolate from the last iterations: the same objective in far fewer of them",
        False,
    )
    placement: PlacementChoice = option(
        TRAINING, "what Spark partitions: the ratings (large data) or the grid", "auto"
    )
    partitions: Partitions | None = option(TRAINING, "rating blocks a side (default: by cores)")
    exchange: ExchangeChoice = option(
        TRAINING,
        "how the fixed factors reach the ratings: sent whole to every worker, or shuffled in the "
        "rows that each needs; auto: each side by its size",
        "auto",
    )

    plan: bool = option(
        PLAN,
        "print what the training needs (exchange, bytes, memory, time) and what is too small for "
        "it; nothing is trained, and no output is needed",
        False,
        recorded=False,
    )
    counts: Text | None = option(
        PLAN, "plan for so many instead of counting: users=N,items=N,ratings=N", recorded=False
    )
    cluster: Text | None = option(
        PLAN,
        "plan for a cluster instead of this session: executors=N,cores=N,memory=16g and, if "
        "wanted, driver=8g,machine=32g,overhead=8g,worker=2g,network=10 (Gbit/s)",
        recorded=False,
    )
    as_json: bool = option(PLAN, "print the plan as JSON", False, recorded=False)

    @model_validator(mode="before")
    @classmethod
    def _plan_writes_nothing(cls, fields: Any) -> Any:
        """Let a plan do without the outputs that a training needs."""
        if isinstance(fields, dict) and fields.get("plan") is True:
            required = [name for name, field in cls.model_fields.items() if field.is_required()]
            return {**dict.fromkeys(required, NO_OUTPUT), **fields}
        return fields

    @property
    def writes(self) -> bool:
        """Whether the job writes anything."""
        return not self.plan

    @property
    def _needs_ratings(self) -> bool:
        return self.ratings_required and self.counts is None

    @model_validator(mode="after")
    def _planned(self) -> Self:
        for name in ("counts", "cluster", "as_json"):
            value = getattr(self, name)
            if value and not self.plan:
                shown = option_name(name) + ("" if value is True else f" {value}")
                raise ConfigError(f"{shown} without --plan: has no effect: add --plan")
        if self.counts is not None:
            source = "ratings" if self.ratings else "table"
            if getattr(self, source):
                raise ConfigError(
                    f"--counts {self.counts} with --{source}: no ratings are counted then: give "
                    "one of the two"
                )
            counted(self.counts)
        if self.cluster is not None:
            stated(self.cluster)
        return self

    @model_validator(mode="after")
    def _exchangeable(self) -> Self:
        if self.exchange != "auto" and self.placement == "grid":
            raise ConfigError(
                f"--exchange {self.exchange} with --placement grid: has no effect: whole models "
                "are trained in a task, so no factors travel: leave one of the two out"
            )
        if self.exchange == "shuffle" and self.accelerate:
            raise ConfigError(
                "--exchange shuffle with --accelerate: not usable: the extrapolation needs the "
                "items' factors on the driver: use --exchange auto, which shuffles the users' alone"
            )
        return self

    @property
    def training(self) -> TrainingOptions:
        """The part that the training loop takes."""
        return TrainingOptions(self.tol, self.max_iter, self.seed, self.dtype, self.accelerate)
