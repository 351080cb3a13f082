"""TOML files that people write: configurations."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from als_spark.files.json_files import shortened

_LONGEST_KEY = 50
"""Parts of a key with dots; the parser takes time and memory with the square of their number."""
_DOTTED = re.compile(rf"(?<![\w.-])(?:[\w-]*+\.){{{_LONGEST_KEY}}}")
_NOT_KEYS = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'|#.*|[ \t]")
_LONG_INTEGER = re.compile(r"(?<![\w.])[+-]?\d[\d_]{4000,}")


def decode_toml(data: bytes) -> dict[str, Any]:
    """Read a TOML document.

    Raises
    ------
    ValueError
        If it is none; or if it is nested too deeply, or has an integer of thousands of digits.
        Says where, in one line.
    """
    text = data.decode()
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") >= _LONGEST_KEY and _DOTTED.search(_NOT_KEYS.sub("", line)):
            raise ValueError(f"a key of more than {_LONGEST_KEY} parts (at line {number})")
        if len(line) > 4000 and _LONG_INTEGER.search(line):
            raise ValueError(
                f"an integer of thousands of digits (at line {number}): {shortened(line.strip())}"
            )
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
