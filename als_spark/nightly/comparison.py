"""Champion against challenger: which of two models stays in front of people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

Measure = Literal["rmse", "mse", "mae", "ndcg", "recall"]
MEASURES: tuple[str, ...] = get_args(Measure)
LARGER_IS_BETTER = ("ndcg", "recall")
"""Measures of a ranking; the others are errors."""

Values = Mapping[str, float | None]


class Ancestor(NamedTuple):
    """A version that the champion has followed, so many publications before it.

    The champion is ``worsening`` times as bad: the product of the comparisons in between.
    """

    version: str
    steps: int
    worsening: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the challenger takes the champion's place, and why, with the numbers."""

    publish: bool
    sentence: str


def judge(
    challenger: Values,
    champion: Values | None,
    measure: Measure,
    margin: float,
    *,
    ancestors: Sequence[Ancestor] = (),
    max_decline: float = math.inf,
) -> Verdict:
    """Decide whether a challenger is published.

    A challenger without a finite value never is; a champion without one always gives way.

    Parameters
    ----------
    challenger, champion : mapping of measure to float
        Over the same held-out ratings.
    measure : {"rmse", "mse", "mae", "ndcg", "recall"}
        What counts.
    margin : float
        How much worse the challenger may be, as a share of the champion's value.
    ancestors : sequence of Ancestor
        Of the champion.
    max_decline : float
        How much worse than any of them a challenger may be that is worse than the champion, as a
        share: small steps down, each within the margin, must not add up.
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
    sentence = f"{measure} {value:.4f} against the champion's {before:.4f} "
    sentence += _change(value, before, margin, larger=larger, publish=publish)
    best = max(ancestors, key=lambda ancestor: ancestor.worsening, default=None)
    step = worsening(challenger, champion, measure)
    # One that is no worse than the champion is welcome, however far that has come down.
    if publish and best is not None and step is not None and step > 1 and best.worsening > 1:
        decline = step * best.worsening - 1
        if decline > max_decline:
            return Verdict(
                False,
                f"{sentence}, but with the {best.steps} before it the step makes {decline:.2%} "
                f"since version {best.version}, beyond the {max_decline:.2%} of `max_decline=`",
            )
    return Verdict(publish, sentence)


def worsening(now: Values, before: Values, measure: str) -> float | None:
    """Tell how many times as bad a model is as another on the same ratings.

    That is the ratio of the errors; of ranking measures, where more is better, the inverse. None
    where one of the two has no value, or it is zero.
    """
    values = [_finite(now.get(measure)), _finite(before.get(measure))]
    if measure in LARGER_IS_BETTER:
        values.reverse()
    above, below = values
    return above / below if above and below else None


def _change(value: float, before: float, margin: float, *, larger: bool, publish: bool) -> str:
    """Say how the challenger compares; the margin matters only to one that is worse."""
    if value == before:
        return "(the same)"
    better = value > before if larger else value < before
    share = abs(value - before) / abs(before) if before else math.inf
    word = "better" if better else "worse"
    if better:
        return f"({word})" if share == math.inf else f"({_percentages(share)[0]} {word})"
    shown, limit = _percentages(share, margin)
    change = word if share == math.inf else f"{shown} {word}"
    return f"({change}); {'within' if publish else 'beyond'} the margin of {limit}"


def _percentages(*shares: float) -> list[str]:
    """Write shares with two decimals, or as many as tell them from each other and from zero."""
    for digits in range(2, 13):
        texts = [f"{share:.{digits}%}" for share in shares]
        apart = len(set(texts)) == len(set(shares))
        if apart and all(
            float(text[:-1]) for text, share in zip(texts, shares, strict=True) if share
        ):
            break
    return texts


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
