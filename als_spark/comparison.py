"""Champion against challenger: which of two models stays in front of people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Measure = Literal["rmse", "mse", "mae", "ndcg", "recall"]
MEASURES: tuple[str, ...] = get_args(Measure)
LARGER_IS_BETTER = ("ndcg", "recall")
"""Measures of a ranking; the others are errors."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison came to.

    Attributes
    ----------
    publish : bool
        Whether the challenger takes the champion's place.
    sentence : str
        Why, with the numbers.
    """

    publish: bool
    sentence: str


def judge(
    challenger: Mapping[str, float | None],
    champion: Mapping[str, float | None] | None,
    measure: Measure,
    margin: float,
) -> Verdict:
    """Decide whether a challenger is published.

    Parameters
    ----------
    challenger, champion : mapping of measure to float
        Over the same held-out ratings. No champion: the challenger has nothing to be worse than.
    measure : {"rmse", "mse", "mae", "ndcg", "recall"}
        What counts.
    margin : float
        How much worse the challenger may be, as a share of the champion's value.

    Returns
    -------
    Verdict
        A challenger without a finite value is never published; a champion without one always gives
        way to one that has it.
    """
    value = _finite(challenger.get(measure))
    if value is None:
        return Verdict(False, f"the challenger has no finite {measure} on the held-out ratings")
    if champion is None:
        return Verdict(True, f"{measure} {value:.4f}; there was no champion to compare with")
    before = _finite(champion.get(measure))
    if before is None:
        return Verdict(True, f"{measure} {value:.4f}; the champion has none that is finite")
    larger = measure in LARGER_IS_BETTER
    limit = before * (1 - margin) if larger else before * (1 + margin)
    publish = value >= limit if larger else value <= limit
    change = _change(value, before, larger)
    return Verdict(
        publish,
        f"{measure} {value:.4f} against the champion's {before:.4f} ({change}); "
        f"{'within' if publish else 'beyond'} the margin of {margin:.2%}",
    )


def _change(value: float, before: float, larger: bool) -> str:
    if value == before:
        return "the same"
    better = value > before if larger else value < before
    share = abs(value - before) / abs(before) if before else math.inf
    return f"{share:.2%} {'better' if better else 'worse'}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
