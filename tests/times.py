"""Timestamps, and where a split by time divides them, in exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from als_spark.spark.read.split import TEST, TRAIN, VALIDATION


def last_times_twin(times: np.ndarray[Any, Any], test: str, validation: str) -> tuple[float, float]:
    """The last times of the training and of the validation part.

    The k-th smallest time for k = ⌈n (1 − share)⌉ is the last before what is held out.
    """
    ordered = np.sort(times)

    def last_before(held: Fraction) -> float:
        k = math.ceil(len(times) * (1 - held))
        return float(ordered[k - 1])

    return last_before(Fraction(test) + Fraction(validation)), last_before(Fraction(test))


def time_split_twin(times: np.ndarray[Any, Any], test: str, validation: str) -> list[int]:
    """Codes of the splits of ratings by their times."""
    to_train, to_validation = last_times_twin(times, test, validation)
    codes = np.full(times.size, TRAIN)
    codes[times > to_train] = VALIDATION
    codes[times > to_validation] = TEST
    return [int(code) for code in codes]


def times_of(kind: str) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(7)
    match kind:
        case "years":
            return rng.integers(0, 10**9, 3000).astype(float)
        case "one day":
            return rng.integers(86_400, 2 * 86_400, 997).astype(float)
        case "ties":
            return rng.integers(0, 9, 500).astype(float) * 40_000
        case "before 1970":
            return rng.integers(-(10**7), 10**6, 1000).astype(float)
        case "parts of seconds":
            return rng.integers(0, 3 * 86_400, 1000) + rng.integers(0, 4, 1000) / 4
        case "milliseconds":
            return 1.7e12 + rng.integers(0, 10**11, 1000).astype(float)
        case "just before midnight":
            return np.nextafter(np.arange(1, 41) * 86_400.0, 0)
        case _:
            return np.full(50, 5.0)
