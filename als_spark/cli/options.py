"""The command lines of the jobs, made from their configurations."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from als_spark.cli.characters import check_words
from als_spark.cli.config.settings import (
    JobConfig,
    OptionType,
    group_of,
    in_options,
    option_name,
    option_types,
    resolve,
)
from als_spark.cli.missing import separate_paths
from als_spark.cli.paths import check_local_paths, check_text
from als_spark.errors import ConfigError

C = TypeVar("C", bound=JobConfig)

_ALONE = "alone"
"""What argparse calls the word without an option."""


class OneLineParser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like all others of the jobs."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise ConfigError(f"{message}: see --help")


def parse(kind: type[C], argv: Sequence[str] | None) -> C:
    """Turn a command line into a checked configuration.

    Raises
    ------
    ConfigError
        If an option or the configuration file is unusable, or an input lies in what the job
        writes.
    """
    check_words(sys.argv[1:] if argv is None else argv)
    words = vars(job_parser(kind).parse_args(argv))
    own = words.pop("config")
    alone = words.pop(_ALONE, None)
    if alone is not None and kind.positional is not None:
        if words[kind.positional] is not None:
            where = option_name(kind.positional)
            raise ConfigError(f"{alone} and {where} {words[kind.positional]}: give one of them")
        words[kind.positional] = alone
    file = own or kind.defaults
    for name, word in words.items():
        for text in word if isinstance(word, list) else [word]:
            if isinstance(text, str):
                check_text(option_name(name), text)
    if own is not None:
        check_text("--config", str(own))
    types = option_types(kind)
    given = {name: _value(types[name], word) for name, word in words.items() if word is not None}
    config = resolve(kind, file, given)
    check_local_paths(config, own)
    return config


def job_parser(kind: type[JobConfig]) -> OneLineParser:
    """Make the parser of a job; it leaves to the configuration what is a usable value."""
    usual = "" if kind.defaults is None else f" (default: {kind.defaults})"
    parser = OneLineParser(
        prog=kind.command,
        description=kind.about,
        epilog="Defaults come from the configuration file; an option wins over it. "
        f"Exit codes: {kind.exit_codes}.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=_escaped(f"TOML file with these options as keys{usual}"),
    )
    if kind.positional is not None:
        metavar = option_types(kind)[kind.positional].shown.metavar
        text = f"as {option_name(kind.positional)}"
        parser.add_argument(_ALONE, nargs="?", metavar=metavar, help=text)
    groups: dict[str, Any] = {}
    for name, option in option_types(kind).items():
        title = group_of(kind, name)
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        words: dict[str, Any] = {"metavar": "|".join(option.words) or option.shown.metavar}
        if option.base is bool:
            words = {"action": argparse.BooleanOptionalAction}
        elif option.several and option.base is str:
            words["nargs"] = "+"
        groups[title].add_argument(
            option_name(name), dest=name, default=None, help=_escaped(_help(kind, name)), **words
        )
    return parser


def _help(kind: type[JobConfig], name: str) -> str:
    field = kind.model_fields[name]
    default = field.get_default()
    if field.is_required() or default in (None, ()) or default is False:
        return in_options(str(field.description))
    if default is True:
        return in_options(f"{field.description} (default: on)")
    values = default if isinstance(default, tuple) else (default,)
    shown = ",".join(value if isinstance(value, str) else f"{value:g}" for value in values)
    return in_options(f"{field.description} (default: {shown})")


def _escaped(text: str) -> str:
    """Escape a text that argparse formats with %."""
    return text.replace("%", "%%")


def _value(option: OptionType, words: Any) -> Any:
    """Read numbers and lists; what cannot be read stays text, which no number takes."""
    if isinstance(words, list):
        return separate_paths(words) if option.shown.role == "input" else tuple(words)
    if not isinstance(words, str) or option.base not in (int, float):
        return words
    if option.several:
        return tuple(_number(option.base, part) for part in words.split(",") if part.strip())
    return _number(option.base, words)


def _number(base: type, word: str) -> Any:
    try:
        return base(word)
    except ValueError:
        return word
