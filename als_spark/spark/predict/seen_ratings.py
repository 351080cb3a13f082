"""Whether ratings are those that a model was trained on, which flatter it."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import DataFrame

from als_spark.model.large_model import AnyModel
from als_spark.spark.prepare.encode import encode_ratings, summarise
from als_spark.spark.session import described
from als_spark.spark.train.best import SEEN


def has_seen(model: AnyModel, ratings: DataFrame, n_ratings: int) -> float | None:
    """Tell whether a model comes from typed ratings, one of each pair.

    The ratings are gone through only if their number says so.

    Returns
    -------
    float or None
        The share of them that it held out; None if it comes from others, or does not say.
    """
    seen = model.description.get(SEEN)
    if not isinstance(seen, Mapping) or n_ratings == 0:
        return None
    fingerprint, held_out = seen.get("fingerprint"), seen.get("held_out")
    if not isinstance(fingerprint, str) or not isinstance(held_out, int):
        return None
    if not fingerprint.startswith(f"{n_ratings}-"):
        return None
    with described(ratings.sparkSession.sparkContext, "comparing with the ratings of the model"):
        summary = summarise(encode_ratings(ratings.drop("timestamp")))
    if fingerprint != summary.fingerprint:
        return None
    return 0.0 if "refit" in model.description else held_out / n_ratings
