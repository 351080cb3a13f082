"""JSON files, for reading by people too.

Whatever is read back was written by anybody. :func:`decode` and :func:`decode_value` give values
that the rest of the code can take: finite numbers, integers of 64 bits, text that is text, and no
more levels than a record of ours has. What a file must hold beyond that, its reader says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from als_spark.errors import DataError

MOST_LEVELS = 50
"""Levels of arrays and objects within each other; files of ours have six at most."""
LARGEST_SHOWN = 80
"""Characters of a value, or of the place of one, in a message."""
_INTEGERS = range(-(2**63), 2**64)


def shortened(text: str) -> str:
    """Cut a text to what people read of it."""
    return text if len(text) <= LARGEST_SHOWN else f"{text[: LARGEST_SHOWN - 1]}…"


def encode(value: Any) -> bytes:
    """Write a value as JSON.

    Raises
    ------
    DataError
        If a number is not finite, which JSON does not have; it names the number.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        for place, found in _inside(value):
            if isinstance(found, float) and not math.isfinite(found):
                raise DataError(
                    f"{_words(place)} is {found}: the numbers that it comes from are too large: "
                    "use smaller settings, or ratings in smaller units"
                ) from error
        raise
    return f"{text}\n".encode()


def decode(data: bytes) -> dict[str, Any]:
    """Read a JSON object; ValueError if it is none, or as in :func:`decode_value`."""
    value = decode_value(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def decode_value(data: bytes) -> Any:
    """Read any JSON.

    Raises
    ------
    ValueError
        If it is none; or if a number is not finite or an integer of more than 64 bits, a text holds
        half a character, or arrays lie in each other more than :data:`MOST_LEVELS` deep. Names the
        place of the value in the file, and the value, in one line.
    """
    try:
        value = json.loads(data, parse_constant=_Odd, parse_float=_float, parse_int=_integer)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    if isinstance(value, dict | list | _Odd | str):
        for place, found in _inside(value):
            _check(place, found)
    return value


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; see :func:`encode`."""
    path.write_bytes(encode(value))


def json_ready(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn paths, tuples and infinite numbers of a mapping into what JSON knows."""
    return {key: _json_ready(value) for key, value in values.items()}


def _json_ready(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Path) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return value


_TOO_DEEP = f"it is nested more than {MOST_LEVELS} levels deep"


class _Odd(NamedTuple):
    """Stands for a number that is refused, until its place is known."""

    text: str


def _float(text: str) -> float | _Odd:
    number = float(text)
    return number if math.isfinite(number) else _Odd(text)


def _integer(text: str) -> int | _Odd:
    # Python itself refuses to read integers of thousands of digits.
    if len(text) > len(str(_INTEGERS.start)) or (number := int(text)) not in _INTEGERS:
        return _Odd(text)
    return number


def _inside(value: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Give a value and all values in it, each with the keys that lead there."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while waiting:
        place, found = waiting.pop()
        yield place, found
        if isinstance(found, Mapping):
            waiting += [((*place, key), inner) for key, inner in found.items()]
        elif isinstance(found, list | tuple) and not isinstance(found, _Odd):
            waiting += [((*place, number), inner) for number, inner in enumerate(found)]


def _check(place: tuple[str | int, ...], value: Any) -> None:
    if len(place) > MOST_LEVELS:
        raise ValueError(_TOO_DEEP)
    if isinstance(value, _Odd):
        why = "an integer of more than 64 bits" if _is_integer(value.text) else "no finite number"
        raise ValueError(f"{_words(place)} is {shortened(value.text)}: {why}")
    keys = value if isinstance(value, dict) else ()
    for text in (value, *keys):
        # A file in UTF-8 can hold halves of a character as \ud800 only, and not be written again.
        if isinstance(text, str) and not text.isascii() and _is_broken(text):
            raise ValueError(
                f"{_words(place)} has half a character in it: {shortened(ascii(text))}"
            )


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _words(place: tuple[str | int, ...]) -> str:
    """Name a place in a file: ``training.rank``."""
    return shortened(ascii(".".join(map(str, place)))[1:-1]) or "it"
