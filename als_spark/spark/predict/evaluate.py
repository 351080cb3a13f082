"""Trained models on held-out ratings: errors, errors by activity and popularity, rankings.

One pass over the ratings gives the errors of all models. The ranking measures are those of
pyspark's ``RankingEvaluator`` (see :mod:`als_spark.train.ranking`), over what each model would
recommend: of all users, and of those alone that were answered from one source.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.model.baselines import popular_model
from als_spark.model.calibration import (
    CalibrationSums,
    Calibrator,
    coverage_record,
    predictions_record,
)
from als_spark.model.ids import IdIndex, as_id_array, coerce_ids
from als_spark.model.large_model import AnyModel
from als_spark.spark.arrow import ddl, map_in_arrow
from als_spark.spark.predict.pairs import PairModel, with_pair_models
from als_spark.spark.predict.recommend import recommend_for_all
from als_spark.spark.session import broadcasted, default_partitions, described
from als_spark.train.ranking import Lists, hits_of_lists, measures_of_hits
from als_spark.types import SIDES, FloatArray, IntArray

BIN_EDGES = (0, 1, 5, 20, 100, 500)
"""A row's training ratings at which its bin begins."""
BIN_LABELS = ("none", "1–4", "5–19", "20–99", "100–499", "500 and more")
SOURCES = ("model", "fold_in", "popular")
"""What users are answered from, in the order of tables."""
_N_BINS = len(BIN_EDGES)
_SHAPE = (1 + 2 * _N_BINS, 3)
_SUM_FIELDS = pa.schema(
    [(name, pa.binary()) for name in ("errors", "cold", "calibration")]
    + [("total", pa.float64()), ("n", pa.int64())]
)
_RANK_FIELDS = pa.schema(
    [("source", pa.string()), ("users", pa.int64())]
    + [(name, pa.float64()) for name in ("ndcg", "recall", "precision", "map")]
)
RANKING_MEASURES = {
    "ndcg": "ndcgAtK",
    "recall": "recallAtK",
    "precision": "precisionAtK",
    "map": "meanAveragePrecisionAtK",
}
"""Our names and those of pyspark's evaluator."""


@dataclass(frozen=True, slots=True)
class RankingOptions:
    """What the ranking measures are over.

    ``top`` recommendations of each user count (k). Held-out ratings of at least ``relevant_from``
    (their mean if not given) are relevant. About ``max_users`` at most are chosen by a hash of
    their ids; 0: no ranking measures. ``measures`` are of :data:`RANKING_MEASURES`; the coverage
    comes with them.
    """

    top: int = 10
    relevant_from: float | None = None
    max_users: int = 20_000
    measures: tuple[str, ...] = ("ndcg", "recall")


Measures = dict[str, float | int | None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's measures over held-out ratings.

    Attributes
    ----------
    metrics : mapping of str to float, int or None
        ``mse``, ``mae``, ``rmse``, ``count``, ``cold`` (ratings of users or items without factors,
        predicted by means); ``ndcg``, ``recall`` (``precision``, ``map``) at ``k``,
        ``coverage`` (share of the items that anybody is recommended), ``relevant_from``,
        ``ranking_users``. None where there is nothing to measure.
    by_user, by_item : list of dict
        ``label``, ``count``, ``mse``, ``mae`` of each bin by training ratings of user and item.
    by_source : mapping of str to mapping
        ``users`` and the ranking measures of the users answered from ``model``, ``fold_in`` or
        ``popular``: see :mod:`als_spark.model.recommend`. Sources of nobody are left out.
    baselines : mapping of str to mapping
        Where asked for: ``biases`` has ``mse``, ``mae`` and ``rmse`` of the biases alone on the
        same ratings; ``popular`` the ranking measures of the popular items for the same users, and
        under ``by_source`` those of the users that the model answers from a source.
    calibration : mapping of str to list of dict
        Where asked for: ``by_prediction`` has the mean prediction and rating of each tenth, and
        ``intervals`` how many ratings those of each coverage have (see
        :mod:`als_spark.model.calibration`).
    """

    metrics: Mapping[str, float | int | None]
    by_user: list[dict[str, Any]]
    by_item: list[dict[str, Any]]
    by_source: Mapping[str, Measures] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    calibration: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)


def evaluate_models(
    session: SparkSession,
    held_out: DataFrame,
    models: Mapping[str, AnyModel],
    ranking: RankingOptions,
    *,
    seen: DataFrame | None = None,
    baselines: bool = False,
    calibrator: Calibrator | None = None,
) -> dict[str, Evaluation]:
    """Measure models on the same held-out ratings.

    Parameters
    ----------
    session : SparkSession
    held_out : DataFrame
        Columns ``user``, ``item`` (original ids) and ``rating`` (double).
    models : mapping of str to FactorModel or LargeModel
        By name. The bins are by the training ratings of the first.
    ranking : RankingOptions
    seen : DataFrame, optional
        Columns ``user`` and ``item``: pairs that are never recommended, usually the training
        ratings.
    baselines : bool
        Whether the first model has the baselines beside it.
    calibrator : Calibrator, optional
        Measures the calibration of the first model.

    Returns
    -------
    dict of str to Evaluation
    """
    measured = list(models.values())
    sums = _sum_errors(session, held_out, measured, calibrator, biases=baselines)
    errors, cold, mean = sums.errors, sums.cold, sums.mean
    relevant_from = mean if ranking.relevant_from is None else ranking.relevant_from
    results = {}
    with ExitStack() as stack:
        labels, ids = None, []
        if ranking.max_users > 0:
            labels = _relevant_items(session, held_out, relevant_from, ranking.max_users)
            stack.callback(labels.unpersist)
            ids = sorted(row[0] for row in labels.select("user").collect())
        for position, (name, model) in enumerate(models.items()):
            table = errors[position]
            metrics: Measures = {
                **_means(table[0]),
                "count": int(table[0][2]),
                "cold": int(cold[position]),
                "k": ranking.top,
                "relevant_from": relevant_from if math.isfinite(relevant_from) else None,
                "ranking_users": len(ids),
            }
            by_source: Mapping[str, Measures] = {}
            beside: dict[str, Mapping[str, Any]] = {}
            if baselines and position == 0:
                beside["biases"] = _means(errors[-1][0])
            if labels is not None and ids:
                of_users = labels, ids, seen, ranking
                own, by_source = _rank(session, name, model, *of_users)
                metrics |= own
                if beside:
                    popular = popular_model(model)
                    own, split = _rank(session, "popular items", popular, *of_users)
                    beside["popular"] = {**own, "by_source": split}
            else:
                metrics |= dict.fromkeys((*ranking.measures, "coverage"))
            bins = _bins(table[1 : 1 + _N_BINS]), _bins(table[1 + _N_BINS :])
            calibration = {}
            if calibrator is not None and position == 0:
                calibration = _calibration(sums.calibration)
            results[name] = Evaluation(metrics, *bins, by_source, beside, calibration)
    return results


class _Sums(NamedTuple):
    """What one pass over the held-out ratings finds: see :func:`sum_partition`."""

    errors: FloatArray
    cold: FloatArray
    mean: float
    """Held-out rating; NaN where there is none."""
    calibration: CalibrationSums


def _sum_errors(
    session: SparkSession,
    held_out: DataFrame,
    measured: list[AnyModel],
    calibrator: Calibrator | None,
    *,
    biases: bool,
) -> _Sums:
    """Sum errors, cold ratings and what calibration is measured by."""
    pairs = held_out.select("user", "item", F.col("rating").cast("double").alias("rating"))
    columns, models = with_pair_models(session, pairs, measured, biases=biases)
    with (
        described(session.sparkContext, "errors on the held-out ratings"),
        broadcasted(session.sparkContext, models) as shared,
        broadcasted(session.sparkContext, calibrator) as measure,
    ):
        summed = partial(sum_partition, models=shared, calibrator=measure)
        parts = map_in_arrow(columns, summed, ddl(_SUM_FIELDS)).collect()
    errors, cold = np.zeros((len(models), *_SHAPE)), np.zeros(len(models))
    calibration = CalibrationSums.zeros()
    for part in parts:
        errors += np.frombuffer(part.errors).reshape(errors.shape)
        cold += np.frombuffer(part.cold)
        calibration += CalibrationSums.from_bytes(part.calibration)
    n = sum(part.n for part in parts)
    mean = math.fsum(part.total for part in parts) / n if n else math.nan
    return _Sums(errors, cold, mean, calibration)


def _calibration(sums: CalibrationSums) -> dict[str, list[dict[str, Any]]]:
    return {"by_prediction": predictions_record(sums), "intervals": coverage_record(sums)}


def sum_partition(
    batches: Iterable[pa.RecordBatch],
    *,
    models: Broadcast[list[PairModel]],
    calibrator: Broadcast[Calibrator | None],
) -> Iterator[pa.RecordBatch]:
    """Sum the errors of every model over a partition: runs on an executor.

    ``errors`` is (n_models, 1 + 2 bins, 3): squared and absolute errors and counts, in all, by
    user bin, by item bin. ``cold`` is (n_models,): ratings that a model has no factors for.
    ``calibration`` is of the first model.
    """
    errors, cold = np.zeros((len(models.value), *_SHAPE)), np.zeros(len(models.value))
    calibration, measure = CalibrationSums.zeros(), calibrator.value
    total, n = 0.0, 0
    for batch in batches:
        ratings = batch.column("rating").to_numpy(zero_copy_only=False)
        total += float(ratings.sum())
        n += ratings.size
        bins: list[IntArray] = []
        for k, model in enumerate(models.value):
            found = model.find(batch)
            # Those of the first model.
            bins = bins or [bin_of(found[side].degrees) for side in SIDES]
            predicted, known_only = model.predict(found)
            cold[k] += np.count_nonzero(np.isnan(known_only))
            if measure is not None and k == 0:
                pairs = batch.column("user"), batch.column("item")
                calibration += measure.sums(*pairs, known_only, ratings)
            difference = ratings - predicted
            weights = (difference**2, np.abs(difference), np.ones(ratings.size))
            for column, weight in enumerate(weights):
                errors[k, 0, column] += weight.sum()
                for side, places in enumerate(bins):
                    start = 1 + side * _N_BINS
                    errors[k, start : start + _N_BINS, column] += np.bincount(
                        places, weight, minlength=_N_BINS
                    )
    sums = {"errors": errors.tobytes(), "cold": cold.tobytes(), "total": total, "n": n}
    yield pa.RecordBatch.from_pylist(
        [{**sums, "calibration": calibration.to_bytes()}], schema=_SUM_FIELDS
    )


def bin_of(degrees: IntArray) -> IntArray:
    """Bin of rows by their training ratings (see :data:`BIN_EDGES`)."""
    places: IntArray = np.searchsorted(BIN_EDGES, degrees, side="right") - 1
    return places


def _bins(table: FloatArray) -> list[dict[str, Any]]:
    return [
        {"label": label, "count": int(n), "mse": _ratio(squared, n), "mae": _ratio(absolute, n)}
        for label, (squared, absolute, n) in zip(BIN_LABELS, table.tolist(), strict=True)
    ]


def _means(sums: FloatArray) -> Measures:
    squared, absolute, count = sums.tolist()
    mse = _ratio(squared, count)
    rmse = None if mse is None else math.sqrt(mse)
    return {"mse": mse, "mae": _ratio(absolute, count), "rmse": rmse}


def _ratio(total: float, count: float) -> float | None:
    return float(total / count) if count else None


def _relevant_items(
    session: SparkSession, held_out: DataFrame, relevant_from: float, max_users: int
) -> DataFrame:
    """Gather the relevant items of each user, as codes; persisted."""
    relevant = held_out.where(F.col("rating") >= F.lit(relevant_from))
    with described(session.sparkContext, "counting users with relevant items"):
        n_users = relevant.select("user").distinct().count()
    if n_users > max_users:
        chosen = _code("user") / F.lit(2.0**53) < F.lit(max_users / n_users)
        relevant = relevant.where(chosen)
    n_partitions = default_partitions(session.sparkContext)
    by_user = relevant.repartition(n_partitions, "user").groupBy("user")
    return by_user.agg(F.collect_set(_code("item")).alias("label")).persist()


def _rank(
    session: SparkSession,
    name: str,
    model: AnyModel,
    labels: DataFrame,
    ids: list[Any],
    seen: DataFrame | None,
    ranking: RankingOptions,
) -> tuple[Measures, dict[str, Measures]]:
    """Measure the rankings of all users, and of those of each source."""
    top = ranking.top
    with (
        described(session.sparkContext, f"ranking measures of the {name}"),
        recommend_for_all(session, taking(model, ids), top=top, ids=ids, seen=seen) as answers,
    ):
        predicted = answers.select(
            F.col("user").cast("string").alias("user"),
            F.transform("recommendations", lambda entry: _code(entry["item"])).alias("prediction"),
            "source",
        )
        n_partitions = default_partitions(session.sparkContext)
        ranked = (
            labels.withColumn("user", F.col("user").cast("string"))
            .repartition(n_partitions, "user")
            .join(predicted.repartition(n_partitions, "user"), "user", "left")
            .select(
                F.coalesce("source", F.lit("popular")).alias("source"),
                F.coalesce("prediction", F.array().cast("array<double>")).alias("prediction"),
                "label",
            )
            .persist()
        )
        try:
            parts = map_in_arrow(
                ranked, partial(rank_partition, top=top), ddl(_RANK_FIELDS)
            ).collect()
            recommended = ranked.select(F.explode("prediction")).distinct().count()
        finally:
            ranked.unpersist()
    n_items = int(np.count_nonzero(model.item_stats.known))
    measures = _average(parts, ranking.measures)
    by_source = {
        source: {"users": sum(part.users for part in own)} | _average(own, ranking.measures)
        for source in SOURCES
        if (own := [part for part in parts if part.source == source])
    }
    return {**measures, "coverage": recommended / n_items if n_items else None}, by_source


def rank_partition(batches: Iterable[pa.RecordBatch], *, top: int) -> Iterator[pa.RecordBatch]:
    """Sum the ranking measures of the users of a partition by source: runs on an executor."""
    for batch in batches:
        found, relevant = (_lists(batch.column(name)) for name in ("prediction", "label"))
        n_places = int(np.diff(found.offsets).max(initial=0))
        hits = hits_of_lists(found, relevant, n_places)
        measures = measures_of_hits(hits, np.diff(relevant.offsets), top)
        sources = np.array(batch.column("source").to_pylist())
        rows = []
        for source in np.unique(sources):
            own = sources == source
            sums = {name: math.fsum(values[own]) for name, values in measures._asdict().items()}
            rows.append({"source": str(source), "users": int(own.sum()), **sums})
        yield pa.RecordBatch.from_pylist(rows, schema=_RANK_FIELDS)


def _lists(column: pa.ListArray) -> Lists:
    items = column.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    return Lists(np.concatenate([[0], np.cumsum(lengths)]), items)


def _average(parts: list[Any], names: Iterable[str]) -> Measures:
    n = sum(part.users for part in parts)
    return {name: math.fsum(getattr(part, name) for part in parts) / n for name in names}


def taking(model: AnyModel, users: list[Any]) -> AnyModel:
    """Return a model that takes any users, for whom it may be asked to recommend.

    Text among the users of a model of integers is nobody that it knows; its own users then go by
    their ids as text, by which everybody is found as before, and the others are strangers.
    """
    kind = model.users.ids.type
    if coerce_ids(as_id_array(users), kind).null_count == 0:
        return model
    return replace(model, users=IdIndex(model.users.ids.cast(pa.string())))


def _code(item: Column | str) -> Column:
    """Stand for an id of any type: the evaluators take numbers. 53 bits, exact as a double."""
    column = F.col(item) if isinstance(item, str) else item
    return F.shiftrightunsigned(F.xxhash64(column.cast("string")), 11).cast("double")
