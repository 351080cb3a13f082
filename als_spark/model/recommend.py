"""What a trained model recommends, by original ids: items to users, users to items, similar items.

Rows without a training rating hold nothing but their random start: they are never recommended, and
a user without one is not known, unless their features give them factors. Such users get the
*popular* items, those with the most training ratings, or are folded in, where there are ratings of
theirs (:mod:`als_spark.model.foldin`).

A :class:`Plan` says who is answered from what; :mod:`als_spark.spark.predict.recommend` hands it
out in slices, the functions here answer all of it in this process. Both come to the same table: a
row for each id that is answered, with the columns ``user`` (or ``item``), ``recommendations``, a
list of (``item`` or ``user``, ``score``), best first, and ``source``, one of

    model      factors of the training, by ratings or by features
    fold_in    factors solved from ratings given now
    popular    none: the popular items, whose score is their mean training rating (of all ratings,
               for an item without one)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from als_spark.errors import ConfigError
from als_spark.model.factor_model import FactorModel
from als_spark.model.foldin import FoldedRows
from als_spark.model.ids import IdIndex, as_id_array, ids_like
from als_spark.model.large_model import AnyModel
from als_spark.model.risk import Risk
from als_spark.solve.blocks import counting_argsort
from als_spark.solve.linalg import unit_rows
from als_spark.solve.topk import Bound, Seen, TopItems, top_items, top_of_groups
from als_spark.train.backend import AnyFactors
from als_spark.train.metrics import SideStats
from als_spark.types import FloatArray, IntArray, Side, other_side

Source = Literal["model", "fold_in", "popular"]
IdList: TypeAlias = pa.Array | Sequence[Any]


class Candidates(NamedTuple):
    """What can be recommended: the rows of a side that have training ratings, or features."""

    ids: pa.Array
    factors: FloatArray
    """(n, rank)"""
    places: IntArray
    """(n,) Place of each among all by popularity: 0 for the one with the most training ratings;
    ties by rising id."""
    means: FloatArray
    """(n,) Mean training rating; that of all, where there is none."""
    bound: Bound | None = None
    """How scores come from the factors; None: by their products."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Ids that are answered from one source.

    ``rows`` has the row of each id in ``factors``, (any, rank); neither is used for ``popular``.
    There are no rows where the factors are elsewhere: they are to be put in, in the order of ids.
    """

    source: Source
    ids: pa.Array
    factors: FloatArray
    rows: IntArray

    def answer(
        self,
        candidates: Candidates,
        top: int,
        seen: Seen | None,
        groups: Iterable[FloatArray] | None = None,
    ) -> TopItems:
        """Find the best candidates of each id; their factors come in groups, if these are given."""
        if self.source != "popular":
            own = self.factors[self.rows]
            if groups is not None:
                return top_of_groups(own, groups, top, seen)
            return top_items(own, candidates.factors, top, seen, candidates.bound)
        # By factors of rank one, whose products are the places.
        places = -1.0 * candidates.places[:, None]
        rows, _ = top_items(np.ones((len(self.ids), 1)), places, top, seen)
        return TopItems(rows, np.append(candidates.means, np.nan)[rows])

    def part(self, which: slice) -> Asked:
        """Take some of the ids, with their own factors only."""
        rows, factors = self.rows[which], self.factors
        if self.source != "popular" and len(factors):
            rows, factors = np.arange(rows.size), factors[rows]
        return Asked(self.source, self.ids[which], factors, rows)


@dataclass(frozen=True, slots=True)
class Plan:
    """Who gets recommendations, of what, and from which source.

    Ids of type ``asked_type`` are answered, in ``groups``: no id twice, and those that cannot be
    answered in none. ``top`` recommendations are wanted for each, no more than there are
    candidates; ``not_itself`` leaves an id out of its own.
    """

    asked_name: Side
    found_name: Side
    asked_type: pa.DataType
    candidates: Candidates
    groups: list[Asked]
    top: int
    not_itself: bool = False


def plan_recommendations(
    model: AnyModel,
    side: Side = "user",
    top: int = 10,
    ids: IdList | None = None,
    *,
    folded: FoldedRows | None = None,
    popular: bool = True,
    min_ratings: int = 1,
    risk: Risk | None = None,
) -> Plan:
    """Sort out who is answered from which source.

    Parameters
    ----------
    model : FactorModel or LargeModel
        Where factors are not an array of this process, the plan has none in their place.
    side : {"user", "item"}
        Who gets recommendations: users, of items; or items, of users.
    top : int
        Recommendations wanted for each.
    ids : ids, optional
        Who is answered, each once; all of the model, and all folded rows, if not given.
    folded : FoldedRows, optional
        Factors that are taken before the model's.
    popular : bool
        Whether users without factors get the popular items. Items without factors are left out, as
        are users if this is False.
    min_ratings : int
        What has fewer training ratings is not recommended. It is answered as before. With 1, what
        has features and no rating is recommended, too.
    risk : Risk, optional
        What is recommended by, of a variational or a sampled model; predictions if not given.

    Raises
    ------
    ConfigError
        As :func:`recommend` does.
    """
    if risk is not None:
        if folded is not None:
            raise ConfigError(
                f"folded {folded.side}s with `risk={risk.kind}`: nothing tells how uncertain they "
                "are: leave one of the two out"
            )
        if not isinstance(model, FactorModel):
            raise ConfigError(
                f"`risk={risk.kind}` with a model whose factors are elsewhere: give a FactorModel"
            )
        model = risk.apply(model)
    if folded is not None and folded.side != side:
        raise ConfigError(
            f"folded {folded.side}s given to recommend to {side}s: fold in {side}s, or extend the "
            "model with extend_model"
        )
    other = other_side(side)
    candidates = candidates_of(model, other, min_ratings)
    if risk is not None:
        candidates = candidates._replace(bound=risk.bound)
    top = _usable_top(top, candidates)
    own = model.side(side)
    factors = _array_or_none(own.factors)
    chosen = None if ids is None else ids_like(own.ids, ids, f"{side} id").unique()
    groups: list[Asked] = []
    if folded is not None:
        asked = folded.ids.ids if chosen is None else chosen
        rows = folded.ids.rows_of(asked)
        _add(groups, "fold_in", asked, folded.factors, rows, rows >= 0)
    if chosen is None:
        chosen, rows = own.ids.ids, np.arange(len(own.ids))
    else:
        rows = own.ids.rows_of(chosen)
    left = np.ones(rows.size, bool) if folded is None else folded.ids.rows_of(chosen) < 0
    trained = np.append(own.stats.known, False)[rows]
    _add(groups, "model", chosen, factors, rows, left & trained)
    if popular and side == "user":
        _add(groups, "popular", chosen, factors, rows, left & ~trained)
    return Plan(side, other, own.ids.ids.type, candidates, groups, top)


def plan_similar_items(
    model: AnyModel, top: int = 10, ids: IdList | None = None, *, min_ratings: int = 1
) -> Plan:
    """Plan the items most similar to each item, by the cosine of their factors, in float64.

    Items without a training rating have no similar items, and are similar to none. A row of zeros
    has the cosine 0 with every other. Parameters as in :func:`plan_recommendations`.
    """
    if not isinstance(model.factors.items, np.ndarray):
        raise ConfigError("similar items of a model whose items are elsewhere: collect() it first")
    candidates = candidates_of(model, "item")
    chosen = None if ids is None else ids_like(model.items, ids, "item id").unique()
    plan = plan_similar(candidates, "item", top, chosen)
    if min_ratings <= 1:
        return plan
    often = candidates_of(model, "item", min_ratings)
    rows = IdIndex(candidates.ids).rows_of(often.ids)
    found = often._replace(factors=plan.candidates.factors[rows])
    return replace(plan, candidates=found, top=_usable_top(top, found))


def plan_similar(
    candidates: Candidates, side: Side, top: int, ids: pa.Array | None, *, cosine: bool = True
) -> Plan:
    """Plan the candidates most similar to some of them, by the cosine or the product of factors.

    Parameters
    ----------
    candidates : Candidates
        Rows of ``side``; where their factors are elsewhere, so are those of the plan.
    ids : pyarrow.Array, optional
        Those that are answered, each once, of the candidates' type; all if not given.
    """
    top = _usable_top(top, candidates)
    factors = unit_rows(candidates.factors) if cosine else candidates.factors.astype(np.float64)
    chosen = candidates.ids if ids is None else ids
    rows = IdIndex(candidates.ids).rows_of(chosen)
    groups: list[Asked] = []
    _add(groups, "model", chosen, factors, rows, rows >= 0)
    candidates = candidates._replace(factors=factors)
    return Plan(side, side, candidates.ids.type, candidates, groups, top, not_itself=True)


def recommend(
    model: FactorModel,
    ids: IdList | None = None,
    top: int = 10,
    exclude: tuple[IdList, IdList] | None = None,
    *,
    side: Side = "user",
    folded: FoldedRows | None = None,
    popular: bool = True,
    min_ratings: int = 1,
    risk: Risk | None = None,
) -> pa.Table:
    """Recommend items to users, or users to items, in this process.

    Parameters
    ----------
    model, ids, top, side, folded, popular, min_ratings, risk
        See :func:`plan_recommendations`.
    exclude : pair of (n,) ids, optional
        Users and items: pairs that are not recommended, such as those rated already.

    Returns
    -------
    pyarrow.Table
        See the module; the rows come by source.

    Raises
    ------
    ConfigError
        If ``top`` is not positive, the folded rows are of the other side, the pairs to exclude are
        not pairs, nothing has ``min_ratings``, or ``risk`` is of another model or given with
        folded rows.
    DataError
        If an id is missing or not of the model's kind.
    """
    plan = plan_recommendations(
        *(model, side, top, ids),
        folded=folded,
        popular=popular,
        min_ratings=min_ratings,
        risk=risk,
    )
    pairs = None
    if exclude is not None:
        users, items = (as_id_array(ids) for ids in exclude)
        if len(users) != len(items):
            raise ConfigError(
                f"{len(users)} users and {len(items)} items to exclude given: a pair needs one of "
                "each"
            )
        pairs = (users, items) if side == "user" else (items, users)
    return _answer_here(plan, pairs)


def similar_items(
    model: FactorModel, ids: IdList | None = None, top: int = 10, *, min_ratings: int = 1
) -> pa.Table:
    """Find the items most similar to each item, in this process; not the item itself.

    Parameters are those of :func:`plan_similar_items`; the table is that of the module.
    """
    return _answer_here(plan_similar_items(model, top, ids, min_ratings=min_ratings), None)


def popular_items(model: FactorModel, top: int = 10) -> pa.Table:
    """Return the items with the most training ratings; ties by rising id.

    Returns
    -------
    pyarrow.Table
        Columns ``item`` and ``score``, the mean training rating; at most ``top`` rows.
    """
    candidates = candidates_of(model, "item")
    best = np.argsort(candidates.places)[: _usable_top(top, candidates)]
    return pa.table({"item": candidates.ids.take(pa.array(best)), "score": candidates.means[best]})


def candidates_of(model: AnyModel, side: Side, min_ratings: int = 1) -> Candidates:
    """Return the rows of a side that can be recommended: see :func:`may_be_recommended`.

    Raises
    ------
    ConfigError
        If ``min_ratings`` is more than 1, and none has as many.
    """
    ids, held, stats = model.side(side)
    kept = np.flatnonzero(may_be_recommended(stats, min_ratings))
    if min_ratings > 1 and kept.size == 0:
        raise ConfigError(
            f"`min_ratings={min_ratings}`: no {side} of the model has as many training ratings, "
            f"the most is {int(stats.degrees.max(initial=0)):,}: use a smaller one"
        )
    own = ids.ids.take(pa.array(kept))
    order = pa.table({"id": own, "n": -stats.degrees[kept].astype(np.int64)})
    order = order.append_column("row", pa.array(np.arange(kept.size)))
    ranked = order.sort_by([("n", "ascending"), ("id", "ascending")]).column("row").to_numpy()
    places = np.empty(kept.size, np.int64)
    places[ranked] = np.arange(kept.size)
    factors = _array_or_none(held)
    # All rows of a side are not copied.
    if kept.size < len(factors):
        factors = factors[kept]
    means = stats.means()[kept]
    return Candidates(own, factors, places, np.where(np.isnan(means), stats.mean, means))


def may_be_recommended(stats: SideStats, min_ratings: int) -> npt.NDArray[np.bool_]:
    """(n_rows,) whether the row has so many training ratings; or, of one, whether it is known."""
    return stats.known if min_ratings <= 1 else stats.degrees >= min_ratings


def answer_batch(
    plan: Plan,
    part: Asked,
    pairs: list[tuple[IntArray, IntArray]],
    groups: Iterable[FloatArray] | None = None,
) -> pa.RecordBatch:
    """Answer the ids of ``part``, as a batch of the table of the module.

    ``pairs`` are the positions in ``part`` and in the candidates of what is left out; −1 for what
    is in neither. The plan's groups are not looked at; ``groups`` are the candidates' factors where
    the plan has none.
    """
    n, found = len(part.ids), plan.candidates.ids
    if plan.not_itself:
        itself = IdIndex(found).rows_of(part.ids)
        pairs = [*pairs, (np.arange(n, dtype=np.int32), itself)]
    seen = None
    if pairs:
        rows, columns = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
        known = (rows >= 0) & (columns >= 0)
        rows, columns = rows[known], columns[known]
        indptr = np.zeros(n + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=n), out=indptr[1:])
        seen = Seen(indptr, columns[counting_argsort(rows, n)])
    best = part.answer(plan.candidates, plan.top, seen, groups)
    there = best.rows >= 0
    offsets = np.zeros(n + 1, np.int32)
    np.cumsum(there.sum(axis=1), out=offsets[1:])
    chosen = pa.array(best.rows[there])
    entries = pa.StructArray.from_arrays(
        [found.take(chosen), pa.array(best.scores[there])], names=[plan.found_name, "score"]
    )
    source = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), [part.source])
    return pa.RecordBatch.from_arrays(
        [part.ids, pa.ListArray.from_arrays(offsets, entries), source.cast(pa.string())],
        names=[plan.asked_name, "recommendations", "source"],
    )


def _answer_here(plan: Plan, pairs: tuple[pa.Array, pa.Array] | None) -> pa.Table:
    batches = []
    for part in plan.groups:
        seen = []
        if pairs is not None:
            rows = IdIndex(part.ids).rows_of(pairs[0])
            seen = [(rows, IdIndex(plan.candidates.ids).rows_of(pairs[1]))]
        batches.append(answer_batch(plan, part, seen))
    if not batches:
        none = pa.array([], plan.asked_type)
        empty = Asked("popular", none, np.zeros((0, 0)), np.zeros(0, np.int32))
        batches = [answer_batch(plan, empty, [])]
    return pa.Table.from_batches(batches)


def _array_or_none(factors: AnyFactors) -> FloatArray:
    """Return factors of this process, or no rows of them where they are elsewhere."""
    if isinstance(factors, np.ndarray):
        return factors
    return np.zeros((0, factors.shape[1]), factors.dtype)


def _add(
    groups: list[Asked],
    source: Source,
    ids: pa.Array,
    factors: FloatArray,
    rows: IntArray,
    chosen: np.ndarray,
) -> None:
    """Add the chosen ids as a group, if there are any."""
    if chosen.all():
        if len(ids):
            groups.append(Asked(source, ids, factors, rows))
    elif chosen.any():
        groups.append(Asked(source, ids.filter(pa.array(chosen)), factors, rows[chosen]))


def _usable_top(top: int, candidates: Candidates) -> int:
    """Cut the recommendations wanted to the candidates: every answer holds a place for each."""
    if top < 1:
        raise ConfigError(f"top={top}: not usable: ask for at least one recommendation")
    return max(min(top, len(candidates.ids)), 1)
