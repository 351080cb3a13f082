"""Inputs of this machine: which are not there, before Spark takes its seconds to start.

And which words of the command line are several paths.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from als_spark.cli.paths import READ, GivenPath
from als_spark.errors import ConfigError
from als_spark.files.places import local_path, split_address, table_name, without_braces

_CONFIGURED = ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_CONF_DIR", "SPARK_HOME")
_COMMA = re.compile(r",(?![^{}]*\})")
"""Not within braces."""
_OPTIONS = ("ALS_SPARK_SUBMIT_ARGS", "PYSPARK_SUBMIT_ARGS")


def refuse_missing(given: Sequence[GivenPath]) -> None:
    """Refuse inputs, models and stores that are not there, as far as this machine can tell.

    A path without a scheme belongs to the file system that Spark is configured for: where somebody
    has configured Spark, or it runs already, only Spark knows.

    Raises
    ------
    ConfigError
    """
    if _runs():
        return
    ours = paths_are_local(os.environ)
    for path in given:
        if path.role in READ and (ours or split_address(path.text).scheme == "file"):
            _refuse(path)


def paths_are_local(environment: Mapping[str, str]) -> bool:
    """Tell whether a Spark that is started here takes paths without a scheme for this machine's."""
    if any(environment.get(name) for name in _CONFIGURED if not _is_bundled(environment, name)):
        return False
    words = " ".join(environment.get(name, "") for name in _OPTIONS)
    return not re.search(r"defaultFS|fs\.default\.name|--properties-file", words)


def _is_bundled(environment: Mapping[str, str], name: str) -> bool:
    """Tell whether it is the Spark inside of PySpark, which nobody has configured."""
    home = Path(environment.get(name, ""))
    return name == "SPARK_HOME" and home.name == "pyspark" and not (home / "conf").exists()


def separate_paths(words: Sequence[str]) -> tuple[str, ...]:
    """Take words with commas for several paths, as in other lists of options.

    A word stays whole if there is a file of this very name, or one that it matches as a pattern;
    commas in braces belong to a pattern.
    """
    return tuple(path for word in words for path in _separated(word))


def _separated(word: str) -> Iterator[str]:
    whole = "," not in word or _is_there(word)
    parts = [] if whole else [part for part in _COMMA.split(word) if part.strip()]
    yield from parts or [word]


def _is_there(text: str) -> bool:
    if table_name(text) is not None:
        return False
    place = local_path(text)
    if place is None or "\0" in text:
        # Of another file system: several addresses, or one with a comma in its name.
        parts = [part for part in _COMMA.split(text) if part.strip()]
        return not all("://" in part or table_name(part) is not None for part in parts)
    return _named(text, place) or _matched(place)


def _named(text: str, place: Path) -> bool:
    """Tell whether there is something of this very name."""
    return os.path.lexists(text) or os.path.lexists(place)


def _matched(place: Path) -> bool:
    """Tell whether there is something that it matches as a pattern of Hadoop's."""
    return any(chain.from_iterable(map(glob.iglob, without_braces(str(place)))))


def _runs() -> bool:
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return True
    spark = sys.modules.get("pyspark")
    return spark is not None and spark.SparkContext._active_spark_context is not None


def _refuse(path: GivenPath) -> None:
    place = local_path(path.text)
    if place is None or _named(path.text, place):
        return
    if path.role != "input":
        raise ConfigError(f"{path}: there is no such folder: check the path")
    if not re.search(r"[*?\[\]{}\\]", path.text):
        raise ConfigError(f"{path}: there is no such file or folder: check the path")
    if "\\" in path.text:
        # Hadoop's sign for a character that means itself.
        return
    if not _matched(place):
        raise ConfigError(
            f"{path}: there is no file of that name, nor one that it matches as a pattern: check "
            "the path"
        )
