"""Recommendations for everybody on Spark: candidates broadcast once, who is asked in slices.

The answered rows (users, say) are cut into *slices* of bounded size, a row of binary columns each,
which travel to a partition of their own. Pairs to leave out are looked up where they lie, cut by
slice into binary pieces, and meet their slice there: no pair is shuffled as a row, and none comes
to the driver. A task answers one slice at a time, with the functions that also answer in one
process (:mod:`als_spark.model.recommend`), and returns Arrow lists.

Worked example: five users, two slices, a pair to leave out each for users 1 and 4::

    partition 0      slice 0: users 0, 1, 2      piece: row 1, item 7
    partition 1      slice 1: users 3, 4         piece: row 1, item 2

What must fit is the candidates, in every worker, and the factors of the model in the driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import IntegralType

from als_spark.errors import ConfigError, DataError
from als_spark.model.factor_model import FactorModel
from als_spark.model.foldin import FoldedRows
from als_spark.model.ids import IdIndex
from als_spark.model.recommend import (
    Asked,
    IdList,
    Plan,
    Source,
    answer_batch,
    plan_recommendations,
    plan_similar_items,
)
from als_spark.solve.blocks import counting_argsort
from als_spark.spark.arrow import (
    CHUNK_ROWS,
    SPARK_TYPES,
    ddl,
    gather_batches,
    ids_from_bytes,
    ids_to_bytes,
    map_in_arrow,
    narrow,
    widen,
)
from als_spark.spark.prepare.pack import shuffle_keys
from als_spark.spark.session import broadcasted, default_partitions, described
from als_spark.types import IntArray, Side

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

SLICE_FIELDS = pa.schema(
    [
        ("key", pa.int32()),
        ("slice", pa.int32()),
        ("n", pa.int64()),
        ("source", pa.string()),
        ("first", pa.binary()),
        ("second", pa.binary()),
    ]
)
PAIRS = "pairs"
"""The source of a piece of pairs to leave out: ``first`` has their rows in the slice, ``second``
their candidates. In a slice ``first`` has the ids, ``second`` the factors."""


class Places(NamedTuple):
    """Where everybody who is asked has gone; broadcast to the tasks that cut pairs."""

    asked: pa.Array
    """All ids that are asked, slice after slice."""
    found: pa.Array
    """Ids of the candidates."""
    starts: IntArray
    """(n_slices + 1,) Positions among the asked at which each slice begins, and the last ends."""
    keys: IntArray
    """(n_slices,) Shuffle key of each slice."""


@contextmanager
def recommend_for_all(
    session: SparkSession,
    model: FactorModel,
    *,
    side: Side = "user",
    top: int = 10,
    ids: IdList | None = None,
    seen: DataFrame | None = None,
    folded: FoldedRows | None = None,
    popular: bool = True,
    partitions: int | None = None,
) -> Iterator[DataFrame]:
    """Recommend items to users, or users to items, as a DataFrame.

    A context manager: the DataFrame is lazy, and what has been broadcast for it is removed from
    everywhere when the block ends. Write it, or persist and count it, inside the block.

    Parameters
    ----------
    session : SparkSession
    model, side, top, ids, folded, popular
        See :func:`als_spark.model.recommend.plan_recommendations`.
    seen : DataFrame, optional
        Columns ``user`` and ``item``, original ids as integers or strings: pairs that are not
        recommended. Pairs of others than those asked, missing ids and repeated pairs do no harm.
    partitions : int, optional
        Slices to cut those who are asked into; chosen from their number otherwise. The result is
        the same, to the last bit.

    Yields
    ------
    DataFrame
        A row for each id that is answered: ``user`` (``item``), of the type of the model's ids;
        ``recommendations``, an array of structs of ``item`` (``user``) and ``score`` (double), best
        first; ``source``: ``model``, ``fold_in`` or ``popular``.

    Raises
    ------
    ConfigError
        If ``top`` or ``partitions`` is not positive, or the folded rows are of the other side.
    DataError
        If an id is missing or not of the model's kind, or ``seen`` lacks a column.
    """
    plan = plan_recommendations(model, side, top, ids, folded=folded, popular=popular)
    label = f"recommending {plan.found_name}s to {plan.asked_name}s"
    with _answers(session, plan, seen, partitions, label) as frame:
        yield frame


@contextmanager
def similar_items_for_all(
    session: SparkSession,
    model: FactorModel,
    *,
    top: int = 10,
    ids: IdList | None = None,
    partitions: int | None = None,
) -> Iterator[DataFrame]:
    """Find the items most similar to each item, as a DataFrame.

    A context manager like :func:`recommend_for_all`, which also says what the DataFrame is like.

    Parameters
    ----------
    session : SparkSession
    model, top, ids
        See :func:`als_spark.model.recommend.plan_similar_items`.
    partitions : int, optional
        As in :func:`recommend_for_all`.
    """
    plan = plan_similar_items(model, top, ids)
    with _answers(session, plan, None, partitions, "finding similar items") as frame:
        yield frame


@contextmanager
def _answers(
    session: SparkSession,
    plan: Plan,
    seen: DataFrame | None,
    partitions: int | None,
    label: str,
) -> Iterator[DataFrame]:
    context = session.sparkContext
    if partitions is not None and partitions < 1:
        raise ConfigError(f"partitions={partitions}: not usable: ask for at least one")
    pairs = None if seen is None else _pair_columns(seen, plan)
    slices = list(cut_slices(plan, partitions or choose_slices(plan, default_partitions(context))))
    with ExitStack() as resources:
        resources.enter_context(described(context, label))
        n_partitions = max(len(slices), 1)
        keys = shuffle_keys(session, n_partitions)
        dtype = plan.candidates.factors.dtype
        rows = [
            (
                *(int(keys[k]), k, len(part.ids), part.source, ids_to_bytes(part.ids)),
                b""
                if part.source == "popular"
                else part.factors.astype(dtype, copy=False).tobytes(),
            )
            for k, part in enumerate(slices)
        ]
        frame = session.createDataFrame(rows, ddl(SLICE_FIELDS))
        if pairs is not None and slices:
            sizes = [len(part.ids) for part in slices]
            starts = np.concatenate([[0], np.cumsum(sizes)])
            asked = pa.concat_arrays([part.ids for part in slices])
            places = Places(asked, plan.candidates.ids, starts, keys)
            shared = resources.enter_context(broadcasted(context, places))
            frame = frame.union(
                map_in_arrow(pairs, partial(cut_pairs, places=shared), ddl(SLICE_FIELDS))
            )
        del slices, rows
        # The tasks have the slices: what they need of the plan is the candidates.
        shared_plan = resources.enter_context(broadcasted(context, replace(plan, groups=[])))
        asked_type = SPARK_TYPES[plan.asked_type]
        found_type = SPARK_TYPES[plan.candidates.ids.type]
        yield map_in_arrow(
            frame.repartition(n_partitions, "key").drop("key"),
            partial(answer_partition, plan=shared_plan),
            f"{plan.asked_name} {asked_type}, recommendations "
            f"array<struct<{plan.found_name}: {found_type}, score: double>>, source string",
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


def cut_pairs(
    batches: Iterable[pa.RecordBatch], *, places: Broadcast[Places]
) -> Iterator[pa.RecordBatch]:
    """Cut pairs to leave out by slice, into binary pieces: runs on an executor."""
    where = places.value
    asked, found = IdIndex(where.asked), IdIndex(where.found)
    n_slices = where.keys.size
    for table in gather_batches(batches, CHUNK_ROWS):
        rows, columns = (
            index.rows_of(table.column(k).combine_chunks()) for k, index in ((0, asked), (1, found))
        )
        known = (rows >= 0) & (columns >= 0)
        rows, columns = rows[known], columns[known]
        target = np.searchsorted(where.starts, rows, side="right") - 1
        order = counting_argsort(target, n_slices)
        rows, columns, target = rows[order], columns[order], target[order]
        rows = narrow(rows - where.starts[target], int(np.diff(where.starts).max()))
        columns = narrow(columns, len(found))
        counts = np.bincount(target, minlength=n_slices)
        ends = np.cumsum(counts).tolist()
        pieces = [
            {
                "key": int(where.keys[k]),
                "slice": k,
                "n": n,
                "source": PAIRS,
                "first": rows[end - n : end].tobytes(),
                "second": columns[end - n : end].tobytes(),
            }
            for k, (n, end) in enumerate(zip(counts.tolist(), ends, strict=True))
            if n
        ]
        yield pa.RecordBatch.from_pylist(pieces, schema=SLICE_FIELDS)


def answer_partition(
    batches: Iterable[pa.RecordBatch], *, plan: Broadcast[Plan]
) -> Iterator[pa.RecordBatch]:
    """Answer the slices of a partition: runs on an executor."""
    slices: dict[int, Asked] = {}
    pairs: dict[int, list[tuple[IntArray, IntArray]]] = {}
    rank, dtype = plan.value.candidates.factors.shape[1], plan.value.candidates.factors.dtype
    for batch in batches:
        for row in batch.to_pylist():
            number, n = row["slice"], row["n"]
            if row["source"] == PAIRS:
                piece = widen(row["first"], n), widen(row["second"], n)
                pairs.setdefault(number, []).append(piece)
                continue
            factors = np.frombuffer(row["second"], dtype).reshape(-1, rank)
            source, ids = cast(Source, row["source"]), ids_from_bytes(row["first"])
            slices[number] = Asked(source, ids, factors, np.arange(n))
    for number in sorted(slices):
        yield answer_batch(plan.value, slices.pop(number), pairs.pop(number, []))


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
