"""The command lines of the jobs, made from their configurations."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, NoReturn, TypeVar, get_args

from als_spark.cli.config.settings import option_name, resolve
from als_spark.cli.config.sweep import SweepConfig
from als_spark.errors import ConfigError

T = TypeVar("T")


class OneLineParser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like all others of the jobs."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise ConfigError(f"{message}: see --help")


@dataclass(frozen=True, slots=True)
class JobOptions(Generic[T]):
    """What the parser of a job is made from.

    Attributes
    ----------
    kind : type
        The job's configuration; its types and defaults decide how a word is read.
    name, description, exit_codes : str
        For ``--help``.
    groups : mapping of title to field names
        Every field of the configuration, once.
    texts : mapping of field name to str
        Help where the job has something else to say than :data:`HELP`.
    """

    kind: type[T]
    name: str
    description: str
    exit_codes: str
    groups: Mapping[str, Sequence[str]]
    texts: Mapping[str, str] = field(default_factory=dict)

    def parser(self, default_config: Path | None = None) -> OneLineParser:
        """Make the parser.

        Parameters
        ----------
        default_config : Path or None
            Configuration that is read if ``--config`` is not given.
        """
        usual = "" if default_config is None else f" (default: {default_config})"
        parser = OneLineParser(
            prog=self.name,
            description=self.description,
            epilog="Defaults come from the configuration file; an option wins over it. "
            f"Exit codes: {self.exit_codes}.",
            allow_abbrev=False,
        )
        parser.add_argument(
            "--config",
            type=Path,
            default=default_config,
            metavar="FILE",
            # argparse formats its help texts with %.
            help=f"TOML file with these options as keys{usual.replace('%', '%%')}",
        )
        types = typing.get_type_hints(self.kind)
        defaults = {entry.name: entry.default for entry in dataclasses.fields(self.kind)}  # type: ignore[arg-type]
        for title, names in self.groups.items():
            group = parser.add_argument_group(title)
            for name in names:
                text = self.texts.get(name) or HELP[name]
                _add(group, name, types[name], defaults[name], text)
        return parser

    def parse(self, argv: Sequence[str] | None, default_config: Path | None = None) -> T:
        """Turn a command line into a checked configuration.

        Raises
        ------
        ConfigError
            If an option or the configuration file is unusable.
        """
        options: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in vars(self.parser(default_config).parse_args(argv)).items()
        }
        return resolve(self.kind, options.pop("config"), options)


def _add(group: Any, name: str, kind: Any, default: Any, text: str) -> None:
    """Add the option of a field, read as its type says."""
    options = get_args(kind)
    if type(None) in options:
        kind = next(option for option in options if option is not type(None))
    words: dict[str, Any] = {}
    if kind is bool:
        words["action"] = argparse.BooleanOptionalAction
    elif typing.get_origin(kind) is Literal:
        words["choices"] = get_args(kind)
        words["metavar"] = "|".join(get_args(kind))
    elif kind == tuple[str, ...]:
        words["nargs"] = "+"
    elif typing.get_origin(kind) is tuple:
        words["type"] = _list_of(_READERS[get_args(kind)[0]])
    else:
        words["type"] = _READERS[kind]
    if "metavar" not in words and kind is not bool:
        words["metavar"] = METAVARS.get(name, "PATH" if kind == tuple[str, ...] else "N")
    if isinstance(default, str | int | float) and default != "" and kind is not bool:
        text += f" (usually {default if isinstance(default, str) else format(default, 'g')})"
    group.add_argument(option_name(name), dest=name, default=None, help=text, **words)


def _list_of(parse: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    def parse_list(text: str) -> tuple[Any, ...]:
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


_READERS: Mapping[Any, Callable[[str], Any]] = {int: _whole, float: _number, str: str}

METAVARS = {
    **dict.fromkeys(("ratings", "test", "exclude_seen", "fold_in", "users"), "PATH"),
    **dict.fromkeys(("output", "store", "model", "from_sweep"), "DIR"),
    **dict.fromkeys(("user_col", "item_col", "rating_col", "timestamp_col"), "C"),
    **dict.fromkeys(("test_fraction", "validation_fraction"), "F"),
    **dict.fromkeys(
        (
            *("margin", "max_decline", "max_bad_share", "max_shrink", "max_growth"),
            *("max_total_shrink", "max_mean_shift", "max_spread_shift", "max_fresh_mean_shift"),
            "max_unknown_share",
        ),
        "SHARE",
    ),
    **dict.fromkeys(("relevant_from", "range_slack"), "RATING"),
    "table": "NAME",
    "mlflow_experiment": "NAME",
    "mlflow": "URI",
    "version": "V",
    "rank": "D",
    "ranks": "D,...",
    "reg": "L",
    "lambdas": "L,...",
    "exponent": "NU",
    "tol": "TOL",
    "lock_minutes": "MINUTES",
    "top": "K",
}

HELP = {
    "ratings": "file or folder that Spark can read",
    "table": "a Spark table instead of files",
    "format": "format of the files",
    **{
        f"{role}_col": f"column of the {role}s, if it has an unusual name"
        for role in ("user", "item", "rating", "timestamp")
    },
    "bad_rows": "stop on unusable rows, or set them aside in DIR/rejected/",
    "duplicates": "what becomes of a (user, item) pair that is rated twice",
    "split": "hold out by a hash of the pair of ids, or the latest ratings",
    "test_fraction": "share to test on",
    "tol": "stop when the change settles to within this",
    "max_iter": "cap on the iterations",
    "seed": "of the split and the start",
    "dtype": "of the factors and the systems",
    "accelerate": "extrapolate from the last iterations: the same objective in far fewer of them",
    "placement": "what Spark partitions: the ratings (large data) or the grid",
    "partitions": "rating blocks a side (default: by cores)",
    "rank": "rank d of the model",
    "reg": "ridge; of a row with n ratings: lambda * n^exponent",
    "top": "k of the ranking measures",
    "relevant_from": "held-out ratings from here on are relevant (default: from their mean)",
    "ranking_users": "users that the ranking measures are over, at most about; 0: none are taken",
    "keep": "versions that the store keeps",
    "lock_minutes": "how long the lock of a machine that died holds up other runs",
    "mlflow": "log a training into a store to this MLflow address or folder, too",
    "mlflow_experiment": "MLflow experiment",
    "version": "the version (default: the current one)",
    "model": "take the model from this folder instead",
}
"""What an option means, wherever it means the same."""

SWEEP = JobOptions(
    SweepConfig,
    "sweep",
    "Train a grid of ALS models (rank d x ridge lambda) on Spark, report and plot their errors, "
    "and keep the best.",
    "0 done, 2 unusable input or options, 1 anything else",
    {
        "ratings": (
            *("ratings", "table", "format"),
            *("user_col", "item_col", "rating_col", "timestamp_col", "bad_rows", "duplicates"),
        ),
        "held-out ratings": ("split", "test_fraction", "validation_fraction", "test", "cold_start"),
        "grid and training": (
            *("ranks", "lambdas", "exponent", "tol", "max_iter", "seed", "dtype", "accelerate"),
        ),
        "run": ("placement", "partitions", "output"),
    },
    {
        "ratings": "file or folder that Spark can read (default: Spark's MovieLens sample)",
        "validation_fraction": "share to choose the best point on; the test part then stays "
        "untouched",
        "test": "test on these ratings instead of a share",
        "cold_start": "how to predict test ratings of users or items unknown in train",
        "ranks": "ranks d",
        "exponent": "0: plain ridge; 1: ALS-WR, the objective of Spark MLlib",
        "lambdas": "ridges; of a row with n ratings: lambda * n^exponent",
        "output": "folder for the results (required)",
    },
)
