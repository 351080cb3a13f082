"""JSON files, for reading by people too."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def encode(value: Any) -> bytes:
    """Write a value as JSON; NaN is refused, since it is not JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def decode(data: bytes) -> dict[str, Any]:
    """Read a JSON object; ValueError if it is none."""
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
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
