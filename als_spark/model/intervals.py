"""Predictions with their uncertainty: a variational or a sampled posterior, by original ids."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from als_spark.errors import ConfigError, DataError
from als_spark.files.json_files import decode, write_json
from als_spark.model.ids import IdIndex
from als_spark.solve.posterior import packed_sizes
from als_spark.train.bayes.spread import Moments, Samples, Spread
from als_spark.types import FloatArray

POSTERIOR_FORMAT = "als_spark.posterior/1"
SAMPLES_FORMAT = "als_spark.samples/1"
POSTERIOR_FILE = "posterior.json"
_PAIRS = (("freedoms", "freedom"), ("ridges", "feature_precision"))
"""What only a training needs that goes on from here."""
SIDE_FILES = ("user_posterior.parquet", "item_posterior.parquet")


class Intervals(NamedTuple):
    """Predictions of pairs; NaN where the model does not know an id. All are (n,) float64."""

    prediction: FloatArray
    deviation: FloatArray
    """Standard deviation of the prediction: what is not known of user and item."""
    lower: FloatArray
    """Between here and ``upper`` a rating is to be expected, its noise included."""
    upper: FloatArray


@dataclass(frozen=True, slots=True)
class IntervalModel:
    """A variational or a sampled posterior with the original ids.

    Attributes
    ----------
    users, items : IdIndex
        Ids in the order of the rows of ``spread``.
    spread : Moments or Samples
    """

    users: IdIndex
    items: IdIndex
    spread: Spread

    def __repr__(self) -> str:
        """Say how large it is."""
        return f"<IntervalModel: {len(self.users):,} users, {len(self.items):,} items>"

    @property
    def rank(self) -> int:
        """Number of factors d, the bias not counted."""
        return int(self.spread.rows[0].shape[1]) - 1

    def predict(
        self,
        users: pa.Array | Sequence[Any],
        items: pa.Array | Sequence[Any],
        coverage: float = 0.9,
    ) -> Intervals:
        """Predict ratings, and where they will probably be.

        Parameters
        ----------
        users, items : sequences of ids, of equal length
        coverage : float
            Share of ratings that is to be within the intervals, between 0 and 1.

        Raises
        ------
        ConfigError
            If the two lists differ in length, or the coverage is none.
        """
        if not 0 < coverage < 1:
            raise ConfigError(f"coverage={coverage!r}: use a share between 0 and 1, such as 0.9")
        user_rows, item_rows = self.users.rows_of(users), self.items.rows_of(items)
        if user_rows.size != item_rows.size:
            raise ConfigError(
                f"{user_rows.size} users and {item_rows.size} items given: "
                "a prediction needs one of each"
            )
        known = (user_rows >= 0) & (item_rows >= 0)
        found = Intervals(*(np.full(known.size, np.nan) for _ in Intervals._fields))
        means, deviations, noises = self.spread.predict(user_rows[known], item_rows[known])
        half = NormalDist().inv_cdf(0.5 + coverage / 2) * np.hypot(deviations, noises)
        values = (means, deviations, means - half, means + half)
        for whole, own in zip(found, values, strict=True):
            whole[known] = own
        return found


def save_intervals(model: IntervalModel, folder: Path) -> None:
    """Write what intervals need beside a model: two Parquet files and ``posterior.json``.

    Each Parquet file has the columns ``id``, ``scale`` (t) and ``mean`` (fixed-size list: bias,
    then factors), float64, and of a variational posterior ``covariance`` (fixed-size list, float64:
    the lower triangle, row by row, or the diagonal), of a sampled one ``samples`` (fixed-size list,
    float32: bias and factors of each sample that is kept, one after the other).
    """
    spread = model.spread
    description: dict[str, Any] = {"mean": spread.mean, "noise": spread.noise}
    if isinstance(spread, Moments):
        kind, name, numbers = POSTERIOR_FORMAT, "covariance", spread.packed
        description["freedom"] = list(spread.freedoms)
        description["feature_precision"] = list(spread.ridges)
    else:
        kind, name, numbers = SAMPLES_FORMAT, "samples", spread.draws
        description["samples"] = spread.n_draws
    for k, (file, ids) in enumerate(zip(SIDE_FILES, (model.users, model.items), strict=True)):
        table = pa.table(
            {
                "id": ids.ids,
                "scale": pa.array(spread.scales[k]),
                "mean": _lists(spread.rows[k]),
                name: _lists(numbers[k]),
            }
        )
        pq.write_table(table, folder / file, use_dictionary=False)
    write_json(folder / POSTERIOR_FILE, {"format": kind, **description})


def load_intervals(folder: str | Path) -> IntervalModel:
    """Read what :func:`save_intervals` wrote, as ``train --method variational`` or ``sample`` does.

    Raises
    ------
    DataError
        If the folder holds no such files, or damaged ones.
    """
    folder = Path(folder)
    try:
        description = decode((folder / POSTERIOR_FILE).read_bytes())
        if description.get("format") not in (POSTERIOR_FORMAT, SAMPLES_FORMAT):
            raise ValueError(f"the format is neither {POSTERIOR_FORMAT!r} nor {SAMPLES_FORMAT!r}")
        tables = [pq.read_table(folder / name).combine_chunks() for name in SIDE_FILES]
        spread = _spread(description, tables)
        if any(table["id"].null_count for table in tables):
            raise ValueError("an id is missing")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{folder} holds no readable posterior ({reason}): give the folder of a model that was "
            "trained with --method variational or sample"
        ) from error
    users, items = (IdIndex(table["id"].combine_chunks()) for table in tables)
    return IntervalModel(users, items, spread)


def _spread(description: Mapping[str, Any], tables: Sequence[pa.Table]) -> Spread:
    """Put the numbers of files together; ValueError and its like where they do not fit."""
    mean, noise = (float(description[key]) for key in ("mean", "noise"))
    sampled = description["format"] == SAMPLES_FORMAT
    rows = [_numbers(table, "mean") for table in tables]
    more = [_numbers(table, "samples" if sampled else "covariance") for table in tables]
    scales = [table["scale"].to_numpy() for table in tables]
    size, width = rows[0].shape[1], more[0].shape[1]
    # Those of samples are told by their number, covariances by theirs.
    sizes = (size * description["samples"],) if sampled else packed_sizes(size)
    if (
        width not in sizes
        or not width
        or any(own.shape[1] != size for own in rows)
        or more[1].shape[1] != width
    ):
        raise ValueError("the files are of different ranks")
    if not all(np.isfinite(own).all() for own in (mean, noise, *rows, *more, *scales)):
        raise ValueError("a number is missing, or not finite")
    if noise <= 0 or any((own <= 0).any() for own in scales):
        raise ValueError("a precision of the noise is not above 0")
    users, items = ((rows[k], more[k], scales[k]) for k in (0, 1))
    whole = tuple(zip(users, items, strict=True))
    if not sampled:
        pairs: dict[str, Any] = {
            name: _pair(description, key) for name, key in _PAIRS if key in description
        }
        return Moments(mean, noise, *whole, **pairs)
    rows_of, drawn, scales_of = whole
    draws = tuple(own.reshape(own.shape[0], -1, size) for own in drawn)
    return Samples(mean, noise, rows_of, (draws[0], draws[1]), scales_of)


def _pair(description: Mapping[str, Any], key: str) -> tuple[float, float]:
    """Read a number above 0 of each side."""
    users, items = (float(value) for value in description[key])
    if not (0 < users < math.inf and 0 < items < math.inf):
        raise ValueError(f"{key} is {description[key]}, not two numbers above 0")
    return users, items


def _lists(numbers: FloatArray) -> pa.Array:
    """Rows of numbers as lists; those of further axes are one after the other."""
    flat = pa.array(np.ascontiguousarray(numbers).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(numbers.shape[1:])))


def _numbers(table: pa.Table, name: str) -> FloatArray:
    lists = table[name].combine_chunks()
    numbers: FloatArray = lists.flatten().to_numpy().reshape(len(lists), lists.type.list_size)
    return numbers
