"""Is this the data that was expected? Today's ratings against those of the last run.

A nightly job must not learn from half an export, a changed scale or somebody else's file. Every
check is a number with a limit; a number beyond it stops the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from als_spark.spark.read.facts import DataFacts, PartFacts


@dataclass(frozen=True)
class CheckLimits:
    """How far today's ratings may be from those of the last run.

    Attributes
    ----------
    max_bad_share : float
        Unusable rows, as a share of the rows of a source.
    max_shrink, max_growth : float
        Fewer, or more, ratings, users and items than last time, as a share of last time's.
    max_total_shrink : float
        Fewer of them than there have been lately, as a share: a little less every night adds up.
    range_slack : float
        How far outside the range of last time a rating may lie, in rating units.
    max_mean_shift : float
        Shift of the mean rating, as a share of last time's range.
    max_spread_shift : float
        Change of the ratings' standard deviation, as a share of last time's range.
    max_fresh_mean_shift : float
        Distance of an increment's mean from last time's mean, as a share of last time's range,
        beyond what few ratings differ by chance: three standard errors.
    max_unknown_share : float
        Ratings whose user, or whose item, the current model does not know, as a share.
    """

    max_bad_share: float = 0.01
    max_shrink: float = 0.1
    max_growth: float = 1.0
    max_total_shrink: float = 0.2
    range_slack: float = 0.0
    max_mean_shift: float = 0.05
    max_spread_shift: float = 0.05
    max_fresh_mean_shift: float = 0.15
    max_unknown_share: float = 0.5


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check.

    Attributes
    ----------
    name : str
        What was looked at.
    value, limit, previous : str
        As people read them; ``previous`` is empty where nothing was before.
    passed : bool
    option : str
        Field of :class:`CheckLimits` that sets the limit.
    """

    name: str
    value: str
    limit: str
    previous: str
    passed: bool
    option: str

    def as_record(self) -> dict[str, Any]:
        """Return the JSON record of a report."""
        return asdict(self)


def check_parts(
    parts: Sequence[PartFacts], previous: DataFacts | None, limits: CheckLimits
) -> list[Check]:
    """Check every source by itself: a bad increment would drown in a large base.

    Parameters
    ----------
    parts : sequence of PartFacts
        The base, then the increments.
    previous : DataFacts or None
        The last run's; None on the first run.
    limits : CheckLimits
    """
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
        if math.isnan(part.mean):
            continue
        chance = 3 * previous.spread / math.sqrt(part.rows - part.bad_rows)
        limit = _of_range(limits.max_fresh_mean_shift, span) + chance
        checks.append(
            Check(
                f"mean rating of {part.label}",
                f"{part.mean:.4g}",
                f"within {limit:.4g} of the last run's",
                f"{previous.mean:.4g}",
                _within(part.mean, previous.mean, limit),
                "max_fresh_mean_shift",
            )
        )
    return checks


COUNTS = ("ratings", "users", "items")
"""What there may be less or more of than before."""


def check_whole(
    now: DataFacts,
    previous: DataFacts | None,
    limits: CheckLimits,
    most_lately: Mapping[str, int] | None = None,
) -> list[Check]:
    """Check all ratings together against those of the last run; no checks without one.

    Parameters
    ----------
    now : DataFacts
    previous : DataFacts or None
        The last run's; None on the first run.
    limits : CheckLimits
    most_lately : mapping of str to int, optional
        The most ratings, users and items of some of the last runs.
    """
    if previous is None:
        return []
    checks = []
    for name in COUNTS:
        value, before = getattr(now, name), getattr(previous, name)
        least, most = before * (1 - limits.max_shrink), before * (1 + limits.max_growth)
        checks.append(
            Check(
                name,
                f"{value:,}",
                f"{max(math.ceil(least), 0):,} to {_whole(most)}",
                f"{before:,}",
                least <= value <= most,
                "max_shrink" if value < least else "max_growth",
            )
        )
    for name, most in (most_lately or {}).items():
        value, least = getattr(now, name), most * (1 - limits.max_total_shrink)
        if most > getattr(previous, name):
            checks.append(
                Check(
                    f"{name} since their most",
                    f"{value:,}",
                    f"at least {max(math.ceil(least), 0):,} of the {most:,} there were",
                    "",
                    value >= least,
                    "max_total_shrink",
                )
            )
    low, high = previous.lowest - limits.range_slack, previous.highest + limits.range_slack
    for name, value, passed in (
        ("lowest rating", now.lowest, now.lowest >= low),
        ("highest rating", now.highest, now.highest <= high),
    ):
        before = previous.lowest if name == "lowest rating" else previous.highest
        limit = f"at least {low:g}" if name == "lowest rating" else f"at most {high:g}"
        checks.append(Check(name, f"{value:g}", limit, f"{before:g}", passed, "range_slack"))
    span = previous.highest - previous.lowest
    for name, value, before, option in (
        ("mean rating", now.mean, previous.mean, "max_mean_shift"),
        ("standard deviation of the ratings", now.spread, previous.spread, "max_spread_shift"),
    ):
        most = _of_range(getattr(limits, option), span)
        words, passed = f"within {most:.4g} of the last run's", _within(value, before, most)
        checks.append(Check(name, f"{value:.4g}", words, f"{before:.4g}", passed, option))
    return checks


def check_unknown(shares: Mapping[str, float], limits: CheckLimits) -> list[Check]:
    """Check how much of the ratings is of users, and of items, that the current model lacks.

    Parameters
    ----------
    shares : mapping of side ("user", "item") to float
    limits : CheckLimits
    """
    return [
        Check(
            f"ratings of unknown {side}s",
            f"{share:.2%}",
            f"at most {limits.max_unknown_share:.2%}",
            "",
            share <= limits.max_unknown_share,
            "max_unknown_share",
        )
        for side, share in shares.items()
    ]


def _of_range(share: float, span: float) -> float:
    """Return a share of the range in rating units; infinite stays so if the range is a point."""
    return share if math.isinf(share) else share * span


def _within(value: float, before: float, limit: float) -> bool:
    # The last digits of a mean depend on the order of its sum.
    return abs(value - before) <= limit + 1e-9 * abs(before)


def _whole(value: float) -> str:
    return f"{math.floor(value):,}" if math.isfinite(value) else "any number"
