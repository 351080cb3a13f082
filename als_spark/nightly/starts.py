"""Where a training starts: from random factors, or from those of an earlier model."""

from __future__ import annotations

from typing import NamedTuple

from als_spark.model.factor_model import FactorModel
from als_spark.model.warm_start import take_known
from als_spark.nightly.run_record import StartKind
from als_spark.spark.train.run import PreparedRatings
from als_spark.train.backend import Factors
from als_spark.train.start import initial_factors


class Start(NamedTuple):
    """Where a training starts."""

    kind: StartKind
    reason: str
    factors: Factors | None
    """None: the usual start."""
    warm_runs: int
    """Trainings since the last from the usual start, this one counted."""


def cold_start(reason: str) -> Start:
    """Start as always: random factors."""
    return Start("cold", reason, None, 0)


def warm_start(
    prepared: PreparedRatings, champion: FactorModel, name: str, seed: int, warm_runs: int
) -> Start:
    """Start from a version's factors, of the rank that is to be trained."""
    factors, share = known_factors(prepared, champion, seed)
    return Start("warm", f"{share:.1%} of the rows start at version {name}", factors, warm_runs)


def known_factors(
    prepared: PreparedRatings, model: FactorModel, seed: int
) -> tuple[Factors, float]:
    """Return the factors of a model as a start, and the share of its rows that the model knows.

    Ids that it does not know, or has no training rating of, start as always, by ``seed``.
    """
    summary = prepared.summary
    usual = initial_factors(len(summary.users), len(summary.items), model.rank, seed)
    known = 0
    for ids, start, theirs, factors, stats in (
        (summary.users, usual.users, model.users, model.factors.users, model.user_stats),
        (summary.items, usual.items, model.items, model.factors.items, model.item_stats),
    ):
        # A row without a rating still has its random start, or none.
        known += take_known(start, ids, theirs, factors, stats.degrees > 0)
    return usual, known / (len(summary.users) + len(summary.items))
