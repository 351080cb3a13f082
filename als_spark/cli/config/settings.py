"""Configurations as records: a dataclass, its TOML form, its options on the command line.

Defaults are overridden by the TOML file, the file by the command line. An unknown key is an error.
"""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from als_spark.errors import ConfigError

C = TypeVar("C")

_WORDS = {"reg": "lambda", "recommend_for": "for"}
"""Fields whose option is a word that Python keeps for itself."""
_FIELDS = {word: field for field, word in _WORDS.items()}


def option_name(field: str) -> str:
    """Name the command-line option of a field."""
    return "--" + _WORDS.get(field, field).replace("_", "-")


def field_name(key: str) -> str:
    """Name the field of a TOML key (hyphens and underscores are alike) or an option."""
    plain = key.replace("-", "_")
    return _FIELDS.get(plain, plain)


def require(condition: bool, field: str, value: object, remedy: str) -> None:
    """Raise a :class:`ConfigError` on a field's value unless a condition holds."""
    if not condition:
        raise ConfigError(f"{option_name(field)} {value}: not usable: {remedy}")


def resolve(kind: type[C], file: Path | None, overrides: Mapping[str, Any]) -> C:
    """Put defaults, a TOML file and the command line together.

    Parameters
    ----------
    kind : type
        The configuration, a dataclass. Its ``ALTERNATIVES``, if it has any, are groups of fields of
        which one is given.
    file : Path or None
        TOML file with its fields as top-level keys (hyphens and underscores are alike).
    overrides : mapping
        Fields given on the command line; those that are None were not given.

    Raises
    ------
    ConfigError
        If the file cannot be read, has an unknown key, or a value is unusable.
    """
    values = read_toml(kind, file) if file is not None else {}
    given = {key: value for key, value in overrides.items() if value is not None}
    for names in getattr(kind, "ALTERNATIVES", ()):
        # Given on the command line, one of them replaces whichever the file has.
        if any(name in given for name in names):
            values = {key: value for key, value in values.items() if key not in names}
    return kind(**{**values, **given})


def read_toml(kind: type, file: Path) -> dict[str, Any]:
    """Read the fields of a configuration that a TOML file sets, with their types checked."""
    try:
        with file.open("rb") as stream:
            document = tomllib.load(stream)
    except OSError as error:
        raise ConfigError(
            f"--config {file}: cannot be read ({error.strerror}): give the path of a TOML file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    types = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    values: dict[str, Any] = {}
    for key, value in document.items():
        field = field_name(key)
        if field not in names:
            known = ", ".join(_WORDS.get(name, name) for name in names)
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
