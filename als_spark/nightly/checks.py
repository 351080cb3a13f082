"""Is this the data that was expected? Today's ratings against those of the last run.

A nightly job must not learn from half an export, a changed scale or somebody else's file. Every
check is a number with a limit; a number beyond it stops the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from als_spark.spark.read.facts import DataFacts, PartFacts
from als_spark.types import Side

MEMORY = 30
"""Runs, and publications, that a slow decline is looked for in."""

LimitShare = Annotated[float, Field(ge=0, allow_inf_nan=True, examples=[0.1], title="share")]
LimitRating = Annotated[float, Field(ge=0, allow_inf_nan=True, examples=[0.5], title="rating")]


def _limit(default: float, text: str) -> Any:
    return Field(default, description=text, json_schema_extra={"group": "data checks"})


class CheckLimits(BaseModel):
    """How far today's ratings may be from those of the last run; each field says what it limits.

    The range is that of the last run's ratings. These are also the options of the command line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    max_bad_share: LimitShare = _limit(0.01, "unusable rows, as a share of a source's rows")
    max_shrink: LimitShare = _limit(
        0.1, "fewer ratings, users or items than the last run, as a share"
    )
    max_growth: LimitShare = _limit(
        1.0, "more ratings, users or items than the last run, as a share"
    )
    # A little less every night adds up.
    max_total_shrink: LimitShare = _limit(
        0.2, f"fewer than the most of the last {MEMORY} runs, as a share; `force=` begins anew"
    )
    range_slack: LimitRating = _limit(0.0, "ratings outside the range of the last run, by how much")
    max_mean_shift: LimitShare = _limit(
        0.05, "shift of the mean since the last run, as a share of the range"
    )
    max_spread_shift: LimitShare = _limit(
        0.05, "change of the standard deviation, as a share of the range"
    )
    max_fresh_mean_shift: LimitShare = _limit(
        0.15, "the same for an increment's mean, beyond three standard errors"
    )
    max_unknown_share: LimitShare = _limit(
        0.5, "ratings of users, or items, that the current version does not know"
    )


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check, in words, and the :class:`CheckLimits` field that decided it."""

    name: str
    value: str
    limit: str
    previous: str
    passed: bool
    option: str


def check_parts(
    parts: Sequence[PartFacts], previous: DataFacts | None, limits: CheckLimits
) -> list[Check]:
    """Check every source by itself, the base first: a bad increment would drown in a large base."""
    checks = [
        Check(
            f"unusable rows of {part.label}",
            f"{part.bad_rows:,} of {part.rows:,} ({part.bad_share:.2%})",
            f"at most {limits.max_bad_share:.2%}",
            "",
            part.bad_share <= limits.max_bad_share,
            "max_bad_share",
        )
        for part in parts
    ]
    if previous is None:
        return checks
    span = previous.highest - previous.lowest
    for part in parts[1:]:
        if not math.isnan(part.mean):
            chance = 3 * previous.spread / math.sqrt(part.rows - part.bad_rows)
            most = _of_range(limits.max_fresh_mean_shift, span) + chance
            name = f"mean rating of {part.label}"
            checks.append(_shift(name, part.mean, previous.mean, most, "max_fresh_mean_shift"))
    return checks


COUNTS = ("ratings", "users", "items")
"""What there may be less or more of than before."""


def check_whole(
    now: DataFacts,
    previous: DataFacts | None,
    limits: CheckLimits,
    most_lately: Mapping[str, int] | None = None,
) -> list[Check]:
    """Check all ratings against those of the last run, and the counts against their recent most."""
    if previous is None:
        return []
    checks = []
    for name in COUNTS:
        value, before = getattr(now, name), getattr(previous, name)
        least, most = before * (1 - limits.max_shrink), before * (1 + limits.max_growth)
        words = f"{max(math.ceil(least), 0):,} to {_whole(most)}"
        option = "max_shrink" if value < least else "max_growth"
        passed = least <= value <= most
        checks.append(Check(name, f"{value:,}", words, f"{before:,}", passed, option))
    for name, most in (most_lately or {}).items():
        value, least = getattr(now, name), most * (1 - limits.max_total_shrink)
        if most > getattr(previous, name):
            words = f"at least {max(math.ceil(least), 0):,} of the {most:,} there were"
            name, passed = f"{name} since their most", value >= least
            checks.append(Check(name, f"{value:,}", words, "", passed, "max_total_shrink"))
    low, high = previous.lowest - limits.range_slack, previous.highest + limits.range_slack
    for name, value, before, words, passed in (
        ("lowest", now.lowest, previous.lowest, f"at least {low:g}", now.lowest >= low),
        ("highest", now.highest, previous.highest, f"at most {high:g}", now.highest <= high),
    ):
        name = f"{name} rating"
        checks.append(Check(name, f"{value:g}", words, f"{before:g}", passed, "range_slack"))
    span = previous.highest - previous.lowest
    shift, spread = _of_range(limits.max_mean_shift, span), _of_range(limits.max_spread_shift, span)
    name = "standard deviation of the ratings"
    checks.append(_shift("mean rating", now.mean, previous.mean, shift, "max_mean_shift"))
    checks.append(_shift(name, now.spread, previous.spread, spread, "max_spread_shift"))
    return checks


def check_unknown(shares: Mapping[Side, float], limits: CheckLimits) -> list[Check]:
    """Check the share of the ratings whose user, or item, the current model does not know."""
    most = limits.max_unknown_share
    return [
        Check(
            f"ratings of unknown {side}s",
            f"{share:.2%}",
            f"at most {most:.2%}",
            "",
            share <= most,
            "max_unknown_share",
        )
        for side, share in shares.items()
    ]


def _shift(name: str, value: float, before: float, most: float, option: str) -> Check:
    # The last digits of a mean depend on the order of its sum.
    passed = abs(value - before) <= most + 1e-9 * abs(before)
    words = f"within {most:.4g} of the last run's"
    return Check(name, f"{value:.4g}", words, f"{before:.4g}", passed, option)


def _of_range(share: float, span: float) -> float:
    """Return a share of the range in rating units; infinite stays so if the range is a point."""
    return share if math.isinf(share) else share * span


def _whole(value: float) -> str:
    return f"{math.floor(value):,}" if math.isfinite(value) else "any number"
