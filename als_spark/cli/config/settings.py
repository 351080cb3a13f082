"""What configurations are made of: a field is an option, a TOML key, its limits and its help.

Defaults are overridden by the TOML file, the file by the command line. An unknown key is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from als_spark.errors import AlsError, ConfigError
from als_spark.files.json_files import json_ready, shortened
from als_spark.files.places import table_name
from als_spark.files.toml_files import decode_toml
from als_spark.redaction import redact_all

Role = Literal["input", "model", "store", "target store", "output", "tracking", "checkpoint"]
"""Of a path among the options: read by Spark or by the job; a model's folder, or a store, that is
read; a store that is published into; a folder that is replaced; where MLflow keeps its runs; what a
killed run continues from."""

LARGEST_COUNT = 2**31 - 1


class Shown(NamedTuple):
    """How a type of options is shown, and the role of those that take a path."""

    metavar: str
    role: Role | None = None
    remedy: str = ""
    """What to use, where the limits do not say it all."""


def _as_tuple(value: Any) -> Any:
    """Take a list as it is in TOML, or a single value, for a tuple."""
    if isinstance(value, list | tuple):
        return tuple(value)
    return (value,)


Listed = BeforeValidator(_as_tuple)

Text = Annotated[str, Field(min_length=1), Shown("NAME")]
Word = Annotated[str, Shown("WORD")]
Column = Annotated[str, Field(min_length=1), Shown("C")]
InputPath = Annotated[str, Field(min_length=1), Shown("PATH", role="input")]
InputFolder = Annotated[str, Field(min_length=1), Shown("DIR", role="input")]
ModelFolder = Annotated[str, Field(min_length=1), Shown("DIR", role="model")]
StoreFolder = Annotated[str, Field(min_length=1), Shown("DIR", role="store")]
TargetStore = Annotated[str, Field(min_length=1), Shown("DIR", role="target store")]
CheckpointFolder = Annotated[str, Field(min_length=1), Shown("DIR", role="checkpoint")]
OutputFolder = Annotated[str, Field(min_length=1), Shown("DIR", role="output")]
Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT), Shown("N")]
CountOrNone = Annotated[int, Field(ge=0, le=LARGEST_COUNT), Shown("N")]
Share = Annotated[float, Field(ge=0, lt=1, examples=[0.2]), Shown("F")]

_MISSING: Mapping[Role | None, str] = {
    "output": "give a folder for the results",
    "target store": "give the folder of the model store",
}
_WORDS = {"reg": "lambda", "recommend_for": "for", "as_json": "json"}
"""Fields whose option is a word that Python, or pydantic, keeps for itself."""
_FIELDS = {word: field for field, word in _WORDS.items()}


Alternatives = tuple[tuple[str, ...], ...]
"""Groups of fields of which one is given."""


class JobConfig(BaseModel):
    """Base of the configurations: checked strictly, and never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    command: ClassVar[str]
    about: ClassVar[str]
    exit_codes: ClassVar[str] = "0 done, 2 unusable input or options, 1 anything else"
    defaults: ClassVar[Traversable | None] = None
    """The configuration file that is read where ``--config`` is not given."""
    alternatives: ClassVar[Alternatives] = ()
    positional: ClassVar[str | None] = None
    """The field that may be given by itself, without its option."""

    @property
    def writes(self) -> bool:
        """Whether the job writes anything."""
        return True


C = TypeVar("C", bound=JobConfig)


REQUIRED: Any = ...


def option(group: str, text: str, default: Any = None, *, recorded: bool = True) -> Any:
    """Make a field: the title that ``--help`` lists it under, its help, its default.

    One that is not ``recorded`` is not in the files of a run: it asks for something else than one.
    """
    return Field(
        default, description=text, json_schema_extra={"group": group}, exclude=not recorded
    )


class OptionType(NamedTuple):
    """What the type of a field says."""

    base: Any
    """int, float, str, bool, or a Literal; of the entries, if there may be several."""
    several: bool
    limits: Mapping[str, Any]
    """Any of ``ge``, ``le``, ``lt``; and ``allow_inf_nan``."""
    example: Any
    """A value to propose, or None."""
    shown: Shown

    @property
    def words(self) -> tuple[str, ...]:
        """The words that it takes; none if it takes anything else."""
        return get_args(self.base) if get_origin(self.base) is Literal else ()

    @property
    def remedy(self) -> str:
        """Say what to use."""
        if self.shown.remedy:
            return self.shown.remedy
        if self.words:
            return f"one of {', '.join(self.words)}"
        if self.base in (str, bool):
            return {str: "text in quotes", bool: "true or false"}[self.base]
        noun = "whole number" if self.base is int else "number"
        if self.base is float and not self.limits.keys() & {"le", "lt", "allow_inf_nan"}:
            noun = "finite number"
        text = f"{noun}s" if self.several else f"a {noun}"
        if "lt" in self.limits:
            text += f" in [{self.limits['ge']}, {self.limits['lt']})"
        elif "le" in self.limits and self.limits["le"] != LARGEST_COUNT:
            text += f" from {self.limits['ge']} to {self.limits['le']}"
        elif "ge" in self.limits:
            text += f" of at least {self.limits['ge']}"
        return text if self.example is None else f"{text}, such as {self.example:g}"


def option_types(kind: type[JobConfig]) -> dict[str, OptionType]:
    """Return what the type of each field says."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: _option_type(hints[name]) for name in kind.model_fields}


def _option_type(hint: Any) -> OptionType:
    """Unwrap optional, annotated and tuple types; what is outermost is shown."""
    several, example, metavar = False, None, "N"
    limits: dict[str, Any] = {}
    shown: Shown | None = None
    while True:
        if get_origin(hint) is Annotated:
            hint, *metadata = get_args(hint)
            for entry in metadata:
                if isinstance(entry, Shown):
                    shown = shown or entry
                elif isinstance(entry, FieldInfo):
                    example = (entry.examples or [None])[0]
                    metavar = (entry.title or metavar).upper()
                    limits |= {
                        name: getattr(limit, name)
                        for limit in entry.metadata
                        for name in ("ge", "le", "lt", "allow_inf_nan")
                        if hasattr(limit, name)
                    }
        elif get_origin(hint) in (Union, UnionType):
            hint = next(part for part in get_args(hint) if part is not type(None))
        elif get_origin(hint) is tuple:
            hint, several = get_args(hint)[0], True
        else:
            return OptionType(hint, several, limits, example, shown or Shown(metavar))


def group_of(kind: type[JobConfig], name: str) -> str:
    """Return the title that a field is listed under."""
    extra = kind.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["group"])


def option_name(field: str) -> str:
    """Name the command-line option of a field."""
    return "--" + _WORDS.get(field, field).replace("_", "-")


_PARAMETER = re.compile(r'`(\w+)="?([^"`]*)"?`|`columns\["(\w+)"\]`')


def in_options(message: str) -> str:
    """Say a message of the library with the options of the command line.

    The library names its parameters in backticks: ```duplicates="mean"``` is ``--duplicates mean``,
    ```format=``` is ``--format``, ```columns["user"]``` is ``--user-col``. Other words in
    backticks, such as the names of columns in Spark's messages, stay.
    """

    def word(found: re.Match[str]) -> str:
        name, value, role = found.groups()
        if role is not None:
            return option_name(f"{role}_col")
        return option_name(name) + (f" {value}" if value else "")

    return _PARAMETER.sub(word, message)


def config_record(config: JobConfig) -> dict[str, Any]:
    """Return a configuration as the files of a run and MLflow keep it.

    λ is ``lambda_reg``, as in all files; keys and passwords in addresses are blotted out.
    """
    fields = json_ready(config.model_dump())
    record: dict[str, Any] = redact_all(
        {"lambda_reg" if name == "reg" else name: value for name, value in fields.items()}
    )
    return record


def field_name(key: str) -> str:
    """Name the field of a TOML key (hyphens and underscores are alike) or an option."""
    plain = key.replace("-", "_")
    return _FIELDS.get(plain, plain)


def paths_of(config: JobConfig) -> Iterator[tuple[str, Role, str]]:
    """Give field, role and path of every path that a job uses; tables are none."""
    unused: tuple[Role, ...] = () if config.writes else ("output", "target store", "tracking")
    for name, kind in option_types(type(config)).items():
        if kind.shown.role in unused:
            continue
        value = getattr(config, name)
        for path in value if isinstance(value, tuple) else (value,):
            role = kind.shown.role
            if role is not None and path and not (role == "input" and table_name(path)):
                yield name, role, path


def resolve(kind: type[C], file: Path | Traversable | None, given: Mapping[str, Any]) -> C:
    """Put defaults, a TOML file and the options that are ``given`` (not None) together.

    Raises
    ------
    ConfigError
        If the file cannot be read, has an unknown key, or a value is unusable: names the option, or
        the file and the key, with the value and the remedy.
    """
    in_file = {} if file is None else read_toml(kind, file)
    given = {key: value for key, value in given.items() if value is not None}
    kept = {key: value for key, value in in_file.items() if key not in given}
    for names in kind.alternatives:
        # Given on the command line, one of them replaces whichever the file has.
        if any(name in given for name in names):
            kept = {key: value for key, value in kept.items() if key not in names}
    if kept.keys() != in_file.keys():
        # What is replaced must be usable, too.
        _check_fields(kind, {**given, **in_file}, dict.fromkeys(in_file, file))
    try:
        return kind.model_validate({**kept, **given})
    except ValidationError as error:
        raise ConfigError(_complaint(kind, error, dict.fromkeys(kept, file))) from error


def _check_fields(kind: type[C], values: Mapping[str, Any], in_file: Mapping[str, Any]) -> None:
    """Check every field by itself, but not whether they go together."""
    try:
        kind.model_validate(values)
    except ValidationError as error:
        if error.errors()[0]["type"] != "value_error":
            raise ConfigError(_complaint(kind, error, in_file)) from error


def read_toml(kind: type[JobConfig], file: Path | Traversable) -> dict[str, Any]:
    """Read the fields of a configuration that a TOML file sets, as they are there."""
    try:
        with file.open("rb") as stream:
            document = decode_toml(stream.read())
    except OSError as error:
        raise ConfigError(
            f"--config {file}: cannot be read ({error.strerror}): give the path of a TOML file"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    values: dict[str, Any] = {}
    for key, value in document.items():
        field = field_name(key)
        if field not in kind.model_fields:
            known = ", ".join(_WORDS.get(name, name) for name in kind.model_fields)
            raise ConfigError(f"{file}: unknown key {shortened(repr(key))}: the keys are {known}")
        if field in values:
            raise ConfigError(f"{file}: {key!r} is there twice, with - and _: keep one of them")
        values[field] = value
    return values


def _complaint(kind: type[JobConfig], error: ValidationError, in_file: Mapping[str, Any]) -> str:
    """Say in one line what is wrong first."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, AlsError):
        return str(cause)
    field, value = str(first["loc"][0]), first["input"]
    option, where = option_types(kind)[field], option_name(field)
    if first["type"] == "missing" or (value == "" and kind.model_fields[field].is_required()):
        return f"{where} is missing: {_MISSING[option.shown.role]}"
    file = in_file.get(field)
    if file is not None:
        where = f"{file}: {_WORDS.get(field, field)}"
    if value == "" and option.base is str:
        return f"{where} is empty: give a value, or leave it out"
    equals = " " if file is None else " = "
    remedy = option.remedy
    if isinstance(value, int) and option.limits.get("le") == LARGEST_COUNT < value:
        # Nobody needs to know this otherwise.
        remedy += f" and at most {LARGEST_COUNT}"
    return f"{where}{equals}{shown_value(value, quoted=bool(file))}: not usable: use {remedy}"


def shown_value(value: Any, *, quoted: bool = False) -> str:
    """Write a value for a message: one line, and no longer than people read."""
    try:
        return shortened(repr(value) if quoted else " ".join(str(value).split()))
    except (ValueError, RecursionError):
        # Python does not write integers of thousands of digits, nor what is nested as deeply.
        return f"(too long to show, of type {type(value).__name__})"
