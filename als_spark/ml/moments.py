"""What a fitted model knows of its posterior: by the ids of its factors, in memory and in files.

The variance of a prediction (:mod:`als_spark.train.bayes.spread`) is bilinear in the moments of the
two rows, so that it is a product of two *spread vectors*, as a prediction is one of two rows of
factors. With packed lower triangles, or diagonals, W(x) the products of the entries of x, those off
the diagonal twice, and P', Q' without the bias row and column::

    user  [packed P, W(g), W-weighted P', 1 / (a t_u)]
    item  [W(z), packed Q, packed Q', 1 / t_i]

The last entries are no part of the product: theirs is the variance of the noise. The vectors of a
sampled model are those of :func:`als_spark.train.bayes.spread.sample_vectors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import ArrayType, DoubleType, FloatType, StructField, StructType

from als_spark.ml.errors import InvalidArgument
from als_spark.ml.factors import (
    CHUNK_FACTORS,
    SideFactors,
    chunks_frame,
    collect_chunks,
    factors_frame,
)
from als_spark.ml.far import AnySide
from als_spark.model.factor_model import FactorModel
from als_spark.model.ids import IdIndex
from als_spark.model.intervals import POSTERIOR_FILE, load_intervals
from als_spark.solve.posterior import covariance_places, packed_sizes
from als_spark.spark.arrow import lists_of
from als_spark.train.bayes.spread import Samples, Spread, sample_vectors
from als_spark.types import SIDES, FloatArray, IntArray, Side

METADATA = "posterior"
"""Key of the metadata of a saved model."""


class SideSpread(NamedTuple):
    """Moments, or samples, of the rows of one side."""

    ids: pa.Array
    """(n,) those of :class:`~als_spark.ml.factors.SideFactors`, in their order."""
    means: FloatArray
    """(n, D) float64: bias, then factors."""
    numbers: FloatArray
    """(n, D (D + 1) / 2) lower triangles of the covariances, row by row, or (n, D) diagonals,
    float64; or (n, S D) samples, one after the other, float32."""
    scales: FloatArray
    """(n,) float64: t."""
    sampled: bool

    @classmethod
    def of(cls, side: AnySide, ids: pa.Array, spread: Spread, position: int) -> SideSpread:
        """Take those of one side, ``position`` 0 or 1, whose rows have ``ids``."""
        rows = IdIndex(ids).rows_of(side.ids)
        sampled = isinstance(spread, Samples)
        numbers = spread.draws if isinstance(spread, Samples) else spread.packed
        parts = (own[position][rows] for own in (spread.rows, numbers, spread.scales))
        means, own, scales = parts
        return cls(side.ids, means, own.reshape(rows.size, -1), scales, sampled)

    @property
    def size(self) -> int:
        """D."""
        return int(self.means.shape[1])


class LearntPrior:
    """What a model knows of how it was learnt, shared by its copies.

    Parameters
    ----------
    session : SparkSession
    description : mapping
        The method with its options, and what it has learnt, as JSON has it.
    noise : float
        a: the precision of the noise.
    spread : mapping of side to SideSpread
        Moments of ``variational``, samples of ``sample``; empty of other methods.
    """

    def __init__(
        self,
        session: SparkSession,
        description: Mapping[str, Any],
        noise: float = 1.0,
        spread: Mapping[Side, SideSpread] | None = None,
    ) -> None:
        self._session = session
        self.description = dict(description)
        self.noise = noise
        self.spread: dict[Side, SideSpread] = dict(spread or {})
        self._vectors: dict[Side, SideFactors] = {}
        self._broadcasts: dict[Side, Broadcast[SideFactors]] = {}

    @property
    def n_means(self) -> int:
        """Columns that a sample has in the spread vectors; 0 of moments."""
        own = self.spread["user"]
        return own.size + 1 if own.sampled else 0

    def vectors(self, side: Side) -> SideFactors:
        """Return the spread vectors of a side, float32.

        Raises
        ------
        InvalidArgument
            If the model has none.
        """
        if not self.spread:
            raise no_moments()
        if side not in self._vectors:
            noise = self.noise if side == "user" else 1.0
            own = self.spread[side]
            self._vectors[side] = SideFactors(own.ids, spread_vectors(own, side, noise))
        return self._vectors[side]

    def frame(self, side: Side) -> DataFrame:
        """Return the spread vectors as a DataFrame of ``id`` and ``features``."""
        return factors_frame(self._session, self.vectors(side))

    def broadcast(self, side: Side) -> Broadcast[SideFactors]:
        """Broadcast spread vectors."""
        if side not in self._broadcasts:
            self._broadcasts[side] = self._session.sparkContext.broadcast(self.vectors(side))
        return self._broadcasts[side]

    def unpersist(self) -> None:
        """Free the executors' copies of the spread vectors."""
        for broadcast in self._broadcasts.values():
            broadcast.unpersist()

    def save(self, path: str) -> dict[str, Any]:
        """Write the folders of the posterior; return what the metadata of the model have of it."""
        for side, own in self.spread.items():
            _spread_frame(self._session, own).write.parquet(f"{path}/{side}Posterior")
        # Earlier versions load a sampled model without its samples.
        sampled = any(own.sampled for own in self.spread.values())
        moments = bool(self.spread) and not sampled
        more = {"precision": self.noise, "moments": moments, "sampled": sampled}
        return {METADATA: {**self.description, **more}}

    @classmethod
    def load(
        cls,
        session: SparkSession,
        path: str,
        metadata: Mapping[str, Any],
        sides: Mapping[Side, AnySide],
    ) -> LearntPrior | None:
        """Read what :meth:`save` wrote; None of a model that has not learnt a prior.

        Raises
        ------
        InvalidArgument
            If it is damaged, or of other rows than those of ``sides``.
        """
        found = metadata.get(METADATA)
        if found is None:
            return None
        noise, known = found.get("precision"), found.get("moments")
        sampled = found.get("sampled") is True
        usable = isinstance(noise, int | float) and not isinstance(noise, bool) and noise > 0
        if not usable or not isinstance(known, bool):
            raise InvalidArgument(
                f"{path}/metadata: {METADATA} has the precision {noise!r} and the moments "
                f"{known!r}, which cannot be: save the model again, or take the folder from a "
                "backup"
            )
        own = ("precision", "moments", "sampled")
        description = {k: v for k, v in found.items() if k not in own}
        spread: dict[Side, SideSpread] = {}
        if known or sampled:
            for side in SIDES:
                folder = f"{path}/{side}Posterior"
                frame = session.read.parquet(folder)
                spread[side] = _read_spread(frame, sides[side], folder, sampled=sampled)
            shapes = {(own.size, own.numbers.shape[1]) for own in spread.values()}
            if len(shapes) > 1:
                raise _foreign(f"{path}/itemPosterior")
        return cls(session, description, float(noise), spread)


def stored_prior(
    session: SparkSession, folder: Path, model: FactorModel, sides: Mapping[Side, AnySide]
) -> LearntPrior | None:
    """Read what a version of a store knows of its posterior; None of a ridge towards zero.

    Parameters
    ----------
    session : SparkSession
    folder : Path
        Of the version.
    model : FactorModel
        Its model, for the description.
    sides : mapping of side to SideFactors
        What the estimator's model has of it.

    Raises
    ------
    DataError
        If the posterior is damaged.
    """
    description = model.description.get(METADATA)
    if not isinstance(description, Mapping):
        return None
    if not (folder / POSTERIOR_FILE).is_file():
        return LearntPrior(session, description)
    known = load_intervals(folder)
    spread: dict[Side, SideSpread] = {}
    for k, (side, ids) in enumerate(zip(SIDES, (known.users, known.items), strict=True)):
        if (ids.rows_of(sides[side].ids) < 0).any():
            raise _foreign(str(folder))
        spread[side] = SideSpread.of(sides[side], ids.ids, known.spread, k)
    return LearntPrior(session, description, known.spread.noise, spread)


def spread_vectors(side: SideSpread, name: Side, noise: float) -> FloatArray:
    """Return the spread vectors of a side, float32.

    They have D (D + 1) + d (d + 1) / 2 + 1 numbers, 2 D + d + 1 of diagonal covariances, or
    (S + 1) (D + 1) + 1 of S samples.

    Parameters
    ----------
    side : SideSpread
    name : {"user", "item"}
    noise : float
        The precision that t multiplies: a for the users, 1 for the items.
    """
    if side.sampled:
        draws = side.numbers.reshape(len(side.ids), -1, side.size)
        # m is in the factors, and in no difference of two samples.
        vectors = sample_vectors(side.means, draws, side.scales * noise, name)
        return vectors.astype(np.float32)
    packed = side.numbers
    rows, columns = covariance_places(side.size, packed.shape[1])
    twice = np.where(rows == columns, 1.0, 2.0)
    points = side.means.copy()
    # A 1 in the place of the bias.
    points[:, 0] = 1
    products = points[:, rows] * points[:, columns] * twice
    latent = (rows > 0) & (columns > 0)
    last = 1 / (noise * side.scales)
    if name == "user":
        parts = [packed, products, packed[:, latent] * twice[latent]]
    else:
        parts = [products, packed, packed[:, latent]]
    return np.column_stack([*parts, last]).astype(np.float32)


def no_moments() -> InvalidArgument:
    """Return the error of a model without intervals."""
    return InvalidArgument(
        "deviationCol, lowerCol and upperCol need the posterior of a model that "
        "ALS(method='variational') or 'sample' has fitted, without foldIn: clear them"
    )


def _spread_frame(session: SparkSession, own: SideSpread) -> DataFrame:
    step = max(CHUNK_FACTORS // own.numbers.shape[1], 1)
    chunks = []
    for first in range(0, len(own.ids), step):
        part = slice(first, first + step)
        columns = [own.ids[part], pa.array(own.scales[part])]
        for numbers in (own.means[part], own.numbers[part]):
            kind = pa.field("element", pa.from_numpy_dtype(numbers.dtype), nullable=False)
            columns.append(lists_of(numbers, pa.list_(kind)))
        chunks.append(pa.RecordBatch.from_arrays(columns, names=_names(sampled=own.sampled)))
    kind_of = FloatType() if own.sampled else DoubleType()
    schema = StructType(
        [
            StructField("id", from_arrow_type(own.ids.type)),
            StructField("scale", DoubleType()),
            StructField("mean", ArrayType(DoubleType(), containsNull=False)),
            StructField(_names(sampled=own.sampled)[3], ArrayType(kind_of, containsNull=False)),
        ]
    )
    return chunks_frame(session, chunks, schema)


def _names(*, sampled: bool) -> list[str]:
    """Columns of a saved posterior."""
    return ["id", "scale", "mean", "samples" if sampled else "covariance"]


def _read_spread(frame: DataFrame, side: AnySide, folder: str, *, sampled: bool) -> SideSpread:
    """Bring a posterior to the driver, in the order of the ids of the factors."""
    names = _names(sampled=sampled)
    if not set(names) <= set(frame.columns):
        raise _foreign(folder)
    chunks = collect_chunks(frame.select(*names))
    table = pa.Table.from_batches(chunks) if chunks else None
    if table is None or table.num_rows != len(side.ids) or table.column("id").type != side.ids.type:
        raise _foreign(folder)
    rows = IdIndex(table.column("id").combine_chunks()).rows_of(side.ids)
    means, numbers = (_numbers(table, name, rows) for name in names[2:])
    if (rows < 0).any() or means is None or numbers is None:
        raise _foreign(folder)
    size = means.shape[1]
    scales = table.column("scale").to_numpy()[rows]
    width = numbers.shape[1]
    fits = width % size == 0 < width if sampled else width in packed_sizes(size)
    if not fits or not np.isfinite(scales).all():
        raise _foreign(folder)
    return SideSpread(side.ids, means, numbers, scales, sampled)


def _numbers(table: pa.Table, name: str, rows: IntArray) -> FloatArray | None:
    """(n, width) a column of lists; None where they differ in length or are not finite."""
    lists = table.column(name).combine_chunks()
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    width, rest = divmod(flat.size, len(lists))
    lengths = np.unique(lists.value_lengths().to_numpy(zero_copy_only=False))
    if rest or lengths.tolist() != [width] or not np.isfinite(flat).all():
        return None
    numbers: FloatArray = flat.reshape(-1, width)[rows]
    return numbers


def _foreign(folder: str) -> InvalidArgument:
    return InvalidArgument(
        f"{folder}: the posterior is not that of the factors beside it: save the model again"
    )
