"""Recommendations for everybody on Spark: candidates broadcast once, who is asked in slices.

The answered rows (users, say) are cut into *slices* of bounded size, a row of binary columns each,
which travel to a partition of their own. Pairs to leave out are looked up where they lie, cut by
slice into binary pieces, and meet their slice there: no pair is shuffled as a row, and none comes
to the driver. A task answers one slice at a time, with the functions that also answer in one
process (:mod:`als_spark.model.recommend`), and returns Arrow lists.

Worked example: five users, two slices, a pair to leave out each for users 1 and 4::

    partition 0      slice 0: users 0, 1, 2      piece: row 1, item 7
    partition 1      slice 1: users 3, 4         piece: row 1, item 2

What must fit is the candidates, in every worker, and the factors of the model in the driver. Where
a side of the model is elsewhere (:mod:`als_spark.spark.predict.far_rows`), its factors come to the
slices as the pairs do, or to the workers group by group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import IntegralType

from als_spark.errors import ConfigError, DataError
from als_spark.model.foldin import FoldedRows
from als_spark.model.large_model import AnyModel
from als_spark.model.recommend import (
    Asked,
    IdList,
    Plan,
    Source,
    answer_batch,
    plan_recommendations,
    plan_similar_items,
)
from als_spark.model.risk import Risk
from als_spark.spark.arrow import ddl, ids_from_bytes, ids_to_bytes, map_in_arrow, spark_type, widen
from als_spark.spark.predict.answers import AnswerFrame, Handle, answer_frame, destroy
from als_spark.spark.predict.far_rows import NEAR, FarRows, far_rows, put_in
from als_spark.spark.predict.slices import (
    CHOSEN,
    FACTORS,
    PAIRS,
    SLICE_FIELDS,
    Places,
    cut_factors,
    cut_pairs,
)
from als_spark.spark.prepare.pack import shuffle_keys
from als_spark.spark.session import default_partitions, described, use_this_interpreter
from als_spark.spark.shared import HasValue
from als_spark.types import FloatArray, IntArray, Side

SLICE_ROWS = 1 << 15
"""Answered rows of a slice at most, whatever the rank."""
SLICE_FACTORS = 1 << 21
"""Factors of a slice at most: rows times rank."""
SLICE_RECOMMENDATIONS = 1 << 21
"""Recommendations of a slice at most: rows times those wanted for each."""
SMALL_SLICE_ROWS = 512
"""Rows below which a slice is not cut further for the sake of more tasks."""
TASKS_PER_CORE = 4
"""Slices a core, where there are rows enough: the last ones end at about one time."""


def recommend_for_all(
    session: SparkSession,
    model: AnyModel,
    *,
    side: Side = "user",
    top: int = 10,
    ids: IdList | None = None,
    seen: DataFrame | None = None,
    folded: FoldedRows | None = None,
    popular: bool = True,
    min_ratings: int = 1,
    risk: Risk | None = None,
    partitions: int | None = None,
) -> AnswerFrame:
    """Recommend items to users, or users to items, as a DataFrame.

    The DataFrame is lazy. What has been broadcast for it stays as long as it, or one made of it, is
    in use; then Spark removes it. In a ``with`` block it is removed from everywhere as soon as the
    block ends: write the DataFrame, or persist and count it, inside the block.

    Parameters
    ----------
    session : SparkSession
    model, side, top, ids, folded, popular, min_ratings, risk
        See :func:`als_spark.model.recommend.plan_recommendations`.
    seen : DataFrame, optional
        Columns ``user`` and ``item``, original ids as integers or strings: pairs that are not
        recommended. Pairs of others than those asked, missing ids and repeated pairs do no harm.
    partitions : int, optional
        Slices to cut those who are asked into; chosen from their number otherwise. The result is
        the same, to the last bit.

    Returns
    -------
    DataFrame
        A row for each id that is answered: ``user`` (``item``), of the type of the model's ids;
        ``recommendations``, an array of structs of ``item`` (``user``) and ``score`` (double), best
        first; ``source``: ``model``, ``fold_in`` or ``popular``.

    Raises
    ------
    ConfigError
        If ``top`` or ``partitions`` is not positive, the folded rows are of the other side,
        nothing has ``min_ratings``, or ``risk`` is of another model or given with folded rows.
    DataError
        If an id is missing or not of the model's kind, or ``seen`` lacks a column.
    """
    plan = plan_recommendations(
        *(model, side, top, ids),
        folded=folded,
        popular=popular,
        min_ratings=min_ratings,
        risk=risk,
    )
    label = f"recommending {plan.found_name}s to {plan.asked_name}s"
    handles: list[Handle] = []
    try:
        far = far_rows(session, model, side, min_ratings, handles)
    except BaseException:
        destroy(handles)
        raise
    return _answers(session, plan, seen, partitions, label, far, handles)


def similar_items_for_all(
    session: SparkSession,
    model: AnyModel,
    *,
    top: int = 10,
    ids: IdList | None = None,
    min_ratings: int = 1,
    partitions: int | None = None,
) -> AnswerFrame:
    """Find the items most similar to each item, as a DataFrame.

    The DataFrame is like that of :func:`recommend_for_all`, also in a ``with`` block.

    Parameters
    ----------
    session : SparkSession
    model, top, ids, min_ratings
        See :func:`als_spark.model.recommend.plan_similar_items`.
    partitions : int, optional
        As in :func:`recommend_for_all`.
    """
    plan = plan_similar_items(model, top, ids, min_ratings=min_ratings)
    return _answers(session, plan, None, partitions, "finding similar items")


def _answers(
    session: SparkSession,
    plan: Plan,
    seen: DataFrame | None,
    partitions: int | None,
    label: str,
    far: FarRows = NEAR,
    handles: list[Handle] | None = None,
) -> AnswerFrame:
    context = session.sparkContext
    handles = [] if handles is None else handles

    def share(value: Any) -> Broadcast[Any]:
        handle = context.broadcast(value)
        handles.append(handle)
        return handle

    try:
        if partitions is not None and partitions < 1:
            raise ConfigError(f"partitions={partitions}: not usable: ask for at least one")
        pairs = None if seen is None else _pair_columns(seen, plan)
        with described(context, label):
            frame = answer_plan(session, plan, share, pairs=pairs, partitions=partitions, far=far)
    except BaseException:
        destroy(handles)
        raise
    return answer_frame(frame, handles, label)


def answer_plan(
    session: SparkSession,
    plan: Plan,
    share: Callable[[Any], Broadcast[Any]],
    *,
    pairs: DataFrame | None = None,
    chosen: DataFrame | None = None,
    partitions: int | None = None,
    far: FarRows = NEAR,
) -> DataFrame:
    """Answer a plan, as a DataFrame that is as lazy as ``pairs`` and ``chosen`` are.

    Parameters
    ----------
    session : SparkSession
    plan : Plan
    share : callable
        Broadcasts a value for as long as the DataFrame is used.
    pairs : DataFrame, optional
        Ids of the asked and of the candidates, in this order, of their types: pairs to leave out.
        Nulls, unknown ids and repeated pairs do no harm.
    chosen : DataFrame, optional
        A column of ids: of the asked, those alone are answered. Nulls, unknown ids and repeated
        ones do no harm.
    partitions : int, optional
        Slices to cut the asked into.
    far : FarRows
        Factors that the plan has not.

    Returns
    -------
    DataFrame
        As :func:`recommend_for_all` has it.
    """
    context = session.sparkContext
    use_this_interpreter(context)
    rank, dtype = plan.candidates.factors.shape[1], plan.candidates.factors.dtype
    wanted = partitions or choose_slices(plan, default_partitions(context))
    slices = list(cut_slices(plan, wanted))
    sent = [
        (frame, partial(cut_pairs, source=source))
        for frame, source in ((pairs, PAIRS), (chosen, CHOSEN))
        if frame is not None
    ]
    if far.asked is not None:
        sent.append((far.asked, partial(cut_factors, dtype=dtype, rank=rank)))
    n_partitions = max(len(slices), 1)
    keys = shuffle_keys(session, n_partitions) if sent else np.arange(n_partitions)
    rows = [
        (
            *(int(keys[k]), k, len(part.ids), part.source, ids_to_bytes(part.ids)),
            b"" if part.source == "popular" else part.factors.astype(dtype, copy=False).tobytes(),
        )
        for k, part in enumerate(slices)
    ]
    # A partition a slice, without a shuffle.
    frame = session.createDataFrame(context.parallelize(rows, n_partitions), ddl(SLICE_FIELDS))
    if sent and slices:
        starts = np.concatenate([[0], np.cumsum([len(part.ids) for part in slices])])
        asked = pa.concat_arrays([part.ids for part in slices])
        places = share(Places(asked, plan.candidates.ids, starts, keys))
        for given, cut in sent:
            pieces = map_in_arrow(given, partial(cut, places=places), ddl(SLICE_FIELDS))
            frame = frame.union(pieces)
        frame = frame.repartition(n_partitions, "key")
    del slices, rows
    # The tasks have the slices: what they need of the plan is the candidates.
    shared_plan = share(replace(plan, groups=[]))
    return map_in_arrow(
        frame.drop("key"),
        partial(answer_partition, plan=shared_plan, subset=chosen is not None, groups=far.found),
        f"{plan.asked_name} {spark_type(plan.asked_type)} not null, recommendations "
        f"array<struct<{plan.found_name}: {spark_type(plan.candidates.ids.type)}, score: double>>, "
        "source string",
    )


def choose_slices(plan: Plan, cores: int) -> int:
    """Choose how many slices the asked are cut into: a few a core, each of bounded size."""
    n = sum(len(group.ids) for group in plan.groups)
    rank = int(plan.candidates.factors.shape[1])
    largest = max(min(SLICE_ROWS, SLICE_FACTORS // rank, SLICE_RECOMMENDATIONS // plan.top), 1)
    return max(-(-n // largest), min(TASKS_PER_CORE * cores, n // SMALL_SLICE_ROWS), 1)


def cut_slices(plan: Plan, n_slices: int) -> Iterator[Asked]:
    """Cut the asked into about so many slices of about equal size, each of one source."""
    n = sum(len(group.ids) for group in plan.groups)
    for group in plan.groups:
        step = max(-(-n // n_slices), 1)
        for start in range(0, len(group.ids), step):
            yield group.part(slice(start, start + step))


def answer_partition(
    batches: Iterable[pa.RecordBatch],
    *,
    plan: Broadcast[Plan],
    subset: bool = False,
    groups: Sequence[HasValue[FloatArray]] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Answer the slices of a partition, or their chosen rows: runs on an executor."""
    slices: dict[int, Asked] = {}
    pieces: dict[tuple[str, int], list[tuple[IntArray, IntArray]]] = {}
    far: dict[int, list[tuple[IntArray, bytes]]] = {}
    rank, dtype = plan.value.candidates.factors.shape[1], plan.value.candidates.factors.dtype
    for batch in batches:
        for row in batch.to_pylist():
            number, n = row["slice"], row["n"]
            if row["source"] in (PAIRS, CHOSEN):
                piece = widen(row["first"], n), widen(row["second"], n)
                pieces.setdefault((row["source"], number), []).append(piece)
                continue
            if row["source"] == FACTORS:
                far.setdefault(number, []).append((widen(row["first"], n), row["second"]))
                continue
            factors = np.frombuffer(row["second"], dtype).reshape(-1, rank)
            source, ids = cast(Source, row["source"]), ids_from_bytes(row["first"])
            slices[number] = Asked(source, ids, factors, np.arange(n))
    for number in sorted(slices):
        part, pairs = slices.pop(number), pieces.pop((PAIRS, number), [])
        if part.source == "model" and not len(part.factors):
            part = put_in(part, far.pop(number, []), dtype)
        if subset:
            part, pairs = choose_rows(part, pairs, pieces.pop((CHOSEN, number), []))
        if len(part.ids):
            one_by_one = None if groups is None else (group.value for group in groups)
            yield answer_batch(plan.value, part, pairs, one_by_one)


def choose_rows(
    part: Asked,
    pairs: list[tuple[IntArray, IntArray]],
    chosen: list[tuple[IntArray, IntArray]],
) -> tuple[Asked, list[tuple[IntArray, IntArray]]]:
    """Take the chosen rows of a slice, each once, and what is to be left out for them."""
    rows = np.unique(np.concatenate([part.rows[:0], *(first for first, _ in chosen)]))
    places: IntArray = np.full(len(part.ids), -1, np.int32)
    places[rows] = np.arange(rows.size)
    taken = Asked(part.source, part.ids.take(pa.array(rows)), part.factors, part.rows[rows])
    return taken, [(places[first], second) for first, second in pairs]


def _pair_columns(seen: DataFrame, plan: Plan) -> DataFrame:
    columns: list[Any] = []
    for name in (plan.asked_name, plan.found_name):
        if name not in seen.columns:
            raise DataError(
                f"the pairs to leave out have no column {name!r} (they have "
                f"{', '.join(seen.columns)}): rename the column of the {name}s"
            )
        whole = isinstance(seen.schema[name].dataType, IntegralType)
        columns.append(F.col(name).cast("bigint" if whole else "string").alias(name))
    return seen.select(*columns)
