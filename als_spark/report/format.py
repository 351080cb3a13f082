"""Numbers, times and outcomes in words: what tables, progress and report pages say alike."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

__all__ = [
    "MEASURES",
    "MISSING",
    "OUTCOMES",
    "Tone",
    "duration",
    "format_time",
    "number",
    "parse_time",
    "percent",
    "show",
]

Tone = Literal["good", "neutral", "bad"]

MISSING = "–"
"""What stands where there is no value."""

OUTCOMES: Mapping[str, tuple[str, Tone]] = {
    "published": ("published", "good"),
    "kept": ("champion kept", "neutral"),
    "unchanged": ("data unchanged", "neutral"),
    "rolled_back": ("rolled back", "neutral"),
    "locked": ("locked by another run", "neutral"),
    "data_check_failed": ("data check failed", "bad"),
    "bad_input": ("bad input", "bad"),
    "interrupted": ("stopped", "bad"),
    "failed": ("failed", "bad"),
    "died": ("died", "bad"),
}
"""How a run on a model store can end: a label, and whether somebody has to look at it."""

MEASURES: Mapping[str, tuple[str, bool]] = {
    "rmse": ("RMSE", False),
    "mae": ("MAE", False),
    "mse": ("MSE", False),
    "ndcg": ("NDCG", True),
    "recall": ("Recall", True),
    "precision": ("Precision", True),
    "map": ("MAP", True),
    "coverage": ("Coverage", True),
}
"""Measures of a model's quality: a label, and whether more is better."""


def show(value: Any) -> str:
    """Write any JSON value for a person: thousands apart, floats with about four digits."""
    if value is None or value == "" or value == [] or value == {}:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else MISSING
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {show(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(show, value))
    return value if isinstance(value, str) else json.dumps(value, default=str)


def number(value: float | None, missing: str = MISSING) -> str:
    """Write an error: four decimals for errors of usual size, else about as many digits."""
    if value is None or not math.isfinite(value):
        return missing
    if abs(value) < 10:
        return f"{value:.4f}"
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.1e}"


def percent(part: float | None) -> str:
    """Write a part of one as a percentage."""
    return MISSING if part is None or not math.isfinite(part) else f"{100 * part:.1f} %"


def duration(seconds: float) -> str:
    """Write seconds for a person: ``3.2 s``, ``2 min 05 s``, ``1 h 02 min``."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def parse_time(text: Any) -> datetime | None:
    """Read an ISO 8601 time, taken as UTC if it names no zone; None if it is none."""
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def format_time(text: Any) -> str:
    """Write an ISO 8601 time for a person, to the second; other text stays as it is."""
    time = parse_time(text)
    return show(text) if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"
