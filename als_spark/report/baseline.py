"""What stands beside the models of a sweep, and any of them should beat.

The popular items beside lists, the biases alone (:mod:`als_spark.train.baseline`) beside errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from als_spark.report.format import number
from als_spark.train.records import ErrorMeans, Judge, PointResult, RankingMeans
from als_spark.types import SplitName

__all__ = [
    "Biases",
    "Popular",
    "biases_note",
    "is_beaten",
    "popular_note",
    "shown_ranking",
    "warn_above_biases",
    "warn_below_popular",
]

Popular = Mapping[SplitName, RankingMeans]
"""Ranking measures of the popular items, where they were taken: the items with the most training
ratings, each user's own left out."""
Biases = Mapping[SplitName, ErrorMeans]
"""Errors of the biases alone, where they were taken."""


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
    worse = [p for p, point in enumerate(points) if shown.value(point, selected_on) < limit]
    bound = f"{selected_on} {shown.label} below {number(limit)}"
    return _words(worse, len(points), best, "rank", f"the popular items ({bound})")


def biases_note(biases: Biases) -> str:
    """Say what the biases alone have on each part."""
    values = [
        f"{split} RMSE {number(means.rmse)}, MAE {number(means.mae)}"
        for split, means in biases.items()
    ]
    return f"Biases alone (damped means of users and items): {'; '.join(values)}."


def warn_above_biases(
    points: Sequence[PointResult],
    best: int | None,
    selected_on: SplitName,
    judge: Judge,
    biases: Biases,
) -> str | None:
    """Say how many models predict worse than the biases alone do; None where none does."""
    if selected_on not in biases:
        return None
    # In rating units.
    shown = Judge("mae" if judge.measure == "mae" else "rmse")
    limit = getattr(biases[selected_on], shown.measure)
    worse = [p for p, point in enumerate(points) if shown.value(point, selected_on) > limit]
    bound = f"{selected_on} {shown.label} above {number(limit)}"
    return _words(worse, len(points), best, "predict", f"the biases alone ({bound})")


def is_beaten(
    point: PointResult, selected_on: SplitName, judge: Judge, popular: Popular, biases: Biases
) -> bool:
    """Tell whether a point does worse than the baseline of what it was judged by."""
    if judge.is_ranking:
        return warn_below_popular([point], 0, selected_on, judge, popular) is not None
    return warn_above_biases([point], 0, selected_on, judge, biases) is not None


def _words(
    worse: Sequence[int], n_points: int, best: int | None, verb: str, baseline: str
) -> str | None:
    """Say which share of the models does worse than a baseline; None where none does."""
    if not worse:
        return None
    among = ", the best among them," if best in worse else ""
    ending = "s" if len(worse) == 1 else ""
    return f"{len(worse)} of {n_points} models{among} {verb}{ending} worse than {baseline}."
