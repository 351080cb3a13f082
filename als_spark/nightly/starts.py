"""Where a training starts: from random factors, or from those of an earlier model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from als_spark.model.large_model import AnyModel, LargeSide
from als_spark.model.warm_start import take_known
from als_spark.nightly.run_record import StartKind
from als_spark.spark.train.run import PreparedRatings
from als_spark.train.backend import Factors, as_array
from als_spark.train.bayes.warm import PosteriorStart
from als_spark.train.start import initial_factors


class Start(NamedTuple):
    """Where a training starts."""

    kind: StartKind
    reason: str
    factors: Factors | None
    """None: the usual start."""
    warm_runs: int
    """Trainings since the last from the usual start, this one counted."""
    posterior: PosteriorStart | None = None
    """What a variational training starts from; None: the usual start."""


def cold_start(reason: str) -> Start:
    """Start as always: random factors."""
    return Start("cold", reason, None, 0)


def warm_start(
    prepared: PreparedRatings, champion: AnyModel, name: str, seed: int, warm_runs: int
) -> Start:
    """Start from a version's factors, of the rank that is to be trained."""
    factors, share = known_factors(prepared, champion, seed)
    return Start("warm", f"{share:.1%} of the rows start at version {name}", factors, warm_runs)


def known_factors(prepared: PreparedRatings, model: AnyModel, seed: int) -> tuple[Factors, float]:
    """Return the factors of a model as a start, and the share of its rows that the model knows.

    Ids that it does not know, or has no training rating of, start as always, by ``seed``. So do
    users whose factors stay on the executors, then or now: the first half-step solves them from
    the items alone, whatever they start from.
    """
    summary = prepared.summary
    n_users, n_items = len(summary.users), len(summary.items)
    users, items = LargeSide(*model.side("user")), LargeSide(*model.side("item"))
    stay = prepared.plan.exchange.get("item") == "shuffle"
    left_out = stay or not isinstance(users.factors, np.ndarray)
    usual = initial_factors(0 if left_out else n_users, n_items, model.rank, seed)
    known = take_known(
        usual.items, summary.items, items.ids, as_array(items.factors), items.stats.degrees > 0
    )
    # A row without a rating still has its random start, or none.
    usable = users.stats.degrees > 0
    if left_out:
        rows = users.ids.rows_of(summary.users.ids)
        known += int(np.count_nonzero(np.append(usable, False)[rows]))
    else:
        known += take_known(usual.users, summary.users, users.ids, as_array(users.factors), usable)
    return usual, known / (n_users + n_items)
