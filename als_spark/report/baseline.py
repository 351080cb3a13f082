"""The popular items beside the models of a sweep: a list that any model should beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from als_spark.report.format import number
from als_spark.train.records import Judge, PointResult, RankingMeans
from als_spark.types import SplitName

__all__ = ["Popular", "popular_note", "shown_ranking", "warn_below_popular"]

Popular = Mapping[SplitName, RankingMeans]
"""Ranking measures of the popular items, where they were taken: the items with the most training
ratings, each user's own left out."""


def shown_ranking(judge: Judge) -> Judge:
    """Return the ranking measure that stands for all of them: that of the judge, else NDCG."""
    return judge if judge.is_ranking else Judge("ndcg", judge.top)


def popular_note(judge: Judge, popular: Popular) -> str:
    """Say what the popular items have on each part."""
    shown = shown_ranking(judge)
    values = [
        f"{split} {shown.label} {number(getattr(means, shown.measure))} "
        f"({means.users:,} user{'' if means.users == 1 else 's'})"
        for split, means in popular.items()
    ]
    return f"The popular items, each user's seen ones left out: {', '.join(values)}."


def warn_below_popular(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    judge: Judge,
    popular: Popular,
) -> str | None:
    """Say how many models rank worse than the popular items do; None where none does."""
    if selected_on not in popular:
        return None
    shown = shown_ranking(judge)
    limit = getattr(popular[selected_on], shown.measure)
    below = [p for p, point in enumerate(points) if shown.value(point, selected_on) < limit]
    if not below:
        return None
    among = ", the best among them," if best in below else ""
    verb = "ranks" if len(below) == 1 else "rank"
    return (
        f"{len(below)} of {len(points)} models{among} {verb} worse than the popular items "
        f"({selected_on} {shown.label} below {number(limit)})."
    )
