"""The command line of the sweep."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from als_spark.config import CHOICES, SweepConfig
from als_spark.errors import ConfigError
from als_spark.settings import option_name, resolve

T = TypeVar("T")


class OneLineParser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like all others of the jobs."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise ConfigError(f"{message}: see --help")


def sweep_parser(default_config: Path | None) -> OneLineParser:
    """Describe the options of ``jobs/sweep.py``.

    Parameters
    ----------
    default_config : Path or None
        Configuration that is read if ``--config`` is not given.
    """
    parser = OneLineParser(
        prog="sweep",
        description="Train a grid of ALS models (rank d x ridge lambda) on Spark, report and plot "
        "their errors, and keep the best.",
        epilog="Defaults come from the configuration file; an option wins over it. "
        "Exit codes: 0 done, 2 unusable input or options, 1 anything else.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=default_config,
        metavar="FILE",
        # argparse formats its help texts with %.
        help="TOML file with these options as keys "
        f"(default: {str(default_config).replace('%', '%%')})",
    )
    source = parser.add_argument_group("ratings")
    source.add_argument(
        "--ratings",
        metavar="PATH",
        help="file or folder that Spark can read (default: Spark's MovieLens sample)",
    )
    source.add_argument("--table", metavar="NAME", help="a Spark table instead of files")
    _choice(source, "format", "format of the files")
    for role in ("user", "item", "rating", "timestamp"):
        source.add_argument(
            f"--{role}-col", metavar="C", help=f"column of the {role}s, if it has an unusual name"
        )
    _choice(source, "bad_rows", "stop on unusable rows, or set them aside in DIR/rejected/")
    _choice(source, "duplicates", "what becomes of a (user, item) pair that is rated twice")
    split = parser.add_argument_group("held-out ratings")
    _choice(split, "split", "hold out by a hash of the pair of ids, or the latest ratings")
    split.add_argument("--test-fraction", type=_number, metavar="F", help="share to test on")
    split.add_argument(
        "--validation-fraction",
        type=_number,
        metavar="F",
        help="share to choose the best point on; the test part then stays untouched",
    )
    split.add_argument("--test", metavar="PATH", help="test on these ratings instead of a share")
    _choice(split, "cold_start", "how to predict test ratings of users or items unknown in train")
    grid = parser.add_argument_group("grid and training")
    grid.add_argument("--ranks", type=_list_of(_whole), metavar="D,...", help="ranks d")
    grid.add_argument(
        "--lambdas",
        type=_list_of(_number),
        metavar="L,...",
        help="ridges; of a row with n ratings: lambda * n^exponent",
    )
    grid.add_argument(
        "--exponent",
        type=_number,
        metavar="NU",
        help="0: plain ridge; 1: ALS-WR, the objective of Spark MLlib",
    )
    grid.add_argument("--tol", type=_number, help="stop when the change settles to within this")
    grid.add_argument("--max-iter", type=_whole, metavar="N", help="cap on the iterations")
    grid.add_argument("--seed", type=_whole, metavar="N", help="of the split and the start")
    _choice(grid, "dtype", "of the factors and the systems")
    grid.add_argument(
        "--accelerate",
        action=argparse.BooleanOptionalAction,
        help="extrapolate from the last iterations: the same objective in far fewer of them",
    )
    run = parser.add_argument_group("run")
    _choice(run, "placement", "what Spark partitions: the ratings (large data) or the grid")
    run.add_argument(
        "--partitions", type=_whole, metavar="N", help="rating blocks a side (default: by cores)"
    )
    run.add_argument("--output", metavar="DIR", help="folder for the results (required)")
    return parser


def parse_sweep(argv: Sequence[str] | None, default_config: Path | None) -> SweepConfig:
    """Turn a command line into a checked configuration.

    Raises
    ------
    ConfigError
        If an option or the configuration file is unusable.
    """
    options = vars(sweep_parser(default_config).parse_args(argv))
    file = options.pop("config")
    return resolve(SweepConfig, file, options)


def _choice(group: Any, field: str, text: str) -> None:
    default = getattr(SweepConfig(output="-"), field)
    group.add_argument(
        option_name(field),
        choices=CHOICES[field],
        metavar="|".join(CHOICES[field]),
        help=f"{text} (usually {default})",
    )


def _list_of(parse: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    def parse_list(text: str) -> tuple[T, ...]:
        return tuple(parse(part.strip()) for part in text.split(",") if part.strip())

    return parse_list


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
