"""The model: predictions and recommendations, as MLlib's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.ml import Model
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType, IntegerType, StructField, StructType

from als_spark.ml.columns import check_column, check_exists, ids_or_error, int_or_null, quoted
from als_spark.ml.errors import InvalidArgument
from als_spark.ml.factors import SideFactors, collect_factors, factors_frame
from als_spark.ml.files import AlsReader, AlsWriter
from als_spark.ml.params import AlsModelParams, to_int
from als_spark.solve.topk import top_items
from als_spark.spark.arrow import map_in_arrow
from als_spark.types import SIDES, Side


class _Sides:
    """The factors of a model in all their forms, shared by its copies."""

    def __init__(self, session: SparkSession, users: SideFactors, items: SideFactors) -> None:
        self.session = session
        self.sides: dict[Side, SideFactors] = {"user": users, "item": items}
        self._frames: dict[Side, DataFrame] = {}
        self._broadcasts: dict[Side, Broadcast[SideFactors]] = {}

    @property
    def rank(self) -> int:
        return int(self.sides["user"].factors.shape[1])

    def frame(self, side: Side) -> DataFrame:
        if side not in self._frames:
            self._frames[side] = factors_frame(self.session, self.sides[side])
        return self._frames[side]

    def broadcast(self, side: Side) -> Broadcast[SideFactors]:
        """Broadcast a side; Spark removes it once no DataFrame and no model needs it."""
        if side not in self._broadcasts:
            self._broadcasts[side] = self.session.sparkContext.broadcast(self.sides[side])
        return self._broadcasts[side]


class ALSModel(AlsModelParams, Model, MLWritable, MLReadable["ALSModel"]):
    """A model that :class:`als_spark.ALS` has fitted, with the interface of MLlib's.

    Its factors are held by the driver. Prediction joins them to the dataset; recommendation
    broadcasts those of the side that is recommended.
    """

    def __init__(
        self,
        session: SparkSession | None = None,
        users: SideFactors | None = None,
        items: SideFactors | None = None,
    ) -> None:
        super().__init__()
        self._sides: _Sides | None = None
        if session is not None and users is not None and items is not None:
            self._sides = _Sides(session, users, items)

    @property
    def rank(self) -> int:
        """Number of factors."""
        return self._factors.rank

    @property
    def userFactors(self) -> DataFrame:
        """Factors of the users: ``id`` (int) and ``features`` (array<float>)."""
        return self._factors.frame("user")

    @property
    def itemFactors(self) -> DataFrame:
        """Factors of the items: ``id`` (int) and ``features`` (array<float>)."""
        return self._factors.frame("item")

    def __repr__(self) -> str:
        """Return one line, as MLlib's."""
        rank = "" if self._sides is None else f", rank={self.rank}"
        return f"ALSModel: uid={self.uid}{rank}"

    def setUserCol(self, value: str) -> ALSModel:
        """Set ``userCol``."""
        return self._set(userCol=value)

    def setItemCol(self, value: str) -> ALSModel:
        """Set ``itemCol``."""
        return self._set(itemCol=value)

    def setColdStartStrategy(self, value: str) -> ALSModel:
        """Set ``coldStartStrategy``."""
        return self._set(coldStartStrategy=value)

    def setPredictionCol(self, value: str) -> ALSModel:
        """Set ``predictionCol``."""
        return self._set(predictionCol=value)

    def setBlockSize(self, value: int) -> ALSModel:
        """Set ``blockSize``."""
        return self._set(blockSize=value)

    def recommendForAllUsers(self, numItems: int) -> DataFrame:
        """Recommend items to every user, those that the user has rated among them.

        Parameters
        ----------
        numItems : int
            Items wanted for each user.

        Returns
        -------
        DataFrame
            ``userCol`` (int) and ``recommendations``, an array of structs of ``itemCol`` (int) and
            ``rating`` (float), best first; equal ones by falling id.

        Raises
        ------
        InvalidArgument
            If none is wanted.
        """
        return self._recommend("user", numItems, None)

    def recommendForAllItems(self, numUsers: int) -> DataFrame:
        """Recommend users to every item: see :meth:`recommendForAllUsers`."""
        return self._recommend("item", numUsers, None)

    def recommendForUserSubset(self, dataset: DataFrame, numItems: int) -> DataFrame:
        """Recommend items to the users of a dataset: see :meth:`recommendForAllUsers`.

        Parameters
        ----------
        dataset : DataFrame
            With the column ``userCol``; ids that the model does not know are left out, repeated
            ones are answered once.
        numItems : int
            Items wanted for each user.
        """
        return self._recommend("user", numItems, dataset)

    def recommendForItemSubset(self, dataset: DataFrame, numUsers: int) -> DataFrame:
        """Recommend users to the items of a dataset: see :meth:`recommendForUserSubset`."""
        return self._recommend("item", numUsers, dataset)

    def write(self) -> AlsWriter:
        """Return what saves the model; ``format("mllib")`` for one that MLlib loads."""
        return AlsWriter(self)

    @classmethod
    def read(cls) -> AlsReader[ALSModel]:
        """Return what loads a model, ours or MLlib's."""
        return AlsReader(cls)

    def save_data(self, session: SparkSession, path: str) -> dict[str, Any]:  # noqa: ARG002
        """Write the factors; return what the metadata have besides the parameters."""
        for side in SIDES:
            self._factors.frame(side).write.parquet(f"{path}/{side}Factors")
        return {"rank": self.rank}

    def load_data(self, session: SparkSession, path: str, metadata: dict[str, Any]) -> None:
        """Read the factors."""
        users, items = (
            collect_factors(session.read.parquet(folder), metadata["rank"], folder)
            for folder in (f"{path}/{side}Factors" for side in SIDES)
        )
        self._sides = _Sides(session, users, items)

    @property
    def _factors(self) -> _Sides:
        if self._sides is None:
            raise InvalidArgument("this ALSModel has no factors: make one by ALS.fit or load one")
        return self._sides

    def _transform(self, dataset: DataFrame) -> DataFrame:
        self.check_params()
        prediction = self.getPredictionCol()
        columns: dict[Side, str] = {"user": self.getUserCol(), "item": self.getItemCol()}
        for name in columns.values():
            check_column(dataset.schema, name)
        if prediction in dataset.columns:
            raise InvalidArgument(f"requirement failed: Column {prediction} already exists.")
        drop = self.getColdStartStrategy().lower() == "drop"
        joined = dataset
        for name in dict.fromkeys(columns.values()):
            joined = joined.withColumn(name, ids_or_error(name))
        names = {side: _unused(f"{side}Factors", [*dataset.columns, prediction]) for side in SIDES}
        for side, name in columns.items():
            own = self._factors.frame(side).select(
                F.col("id").alias(f"{names[side]}Id"), F.col("features").alias(names[side])
            )
            joined = joined.join(
                own,
                F.col(quoted(name)) == F.col(f"{names[side]}Id"),
                "inner" if drop else "left",
            ).drop(f"{names[side]}Id")
        score = dot(F.col(names["user"]), F.col(names["item"]))
        score = F.coalesce(score, F.lit(float("nan")).cast("float"))
        return joined.select("*", score.alias(prediction)).drop(*names.values())

    def _recommend(self, side: Side, top: int, subset: DataFrame | None) -> DataFrame:
        number = to_int(top)
        if number < 1:
            raise InvalidArgument(f"{number} recommendations wanted: ask for at least one")
        names: dict[Side, str] = {"user": self.getUserCol(), "item": self.getItemCol()}
        other: Side = "item" if side == "user" else "user"
        asked = self._factors.frame(side)
        if subset is not None:
            check_exists(subset.schema, names[side])
            chosen = subset.select(int_or_null(names[side]).alias("id")).distinct()
            asked = asked.join(chosen, "id", "left_semi")
        entry = StructType(
            [StructField(names[other], IntegerType()), StructField("rating", FloatType())]
        )
        schema = StructType(
            [
                StructField(names[side], IntegerType(), nullable=False),
                StructField("recommendations", ArrayType(entry)),
            ]
        )
        answer = partial(
            recommend_to,
            candidates=self._factors.broadcast(other),
            top=number,
            names=(names[side], names[other]),
        )
        return map_in_arrow(asked, answer, schema)


def recommend_to(
    batches: Iterable[pa.RecordBatch],
    *,
    candidates: Broadcast[SideFactors],
    top: int,
    names: tuple[str, str],
) -> Iterator[pa.RecordBatch]:
    """Recommend candidates to rows of ids and features: runs on an executor."""
    found = candidates.value
    top = min(top, found.ids.size)
    entry = pa.struct([(names[1], pa.int32()), ("rating", pa.float32())])
    schema = pa.schema(
        [pa.field(names[0], pa.int32(), nullable=False), ("recommendations", pa.list_(entry))]
    )
    for batch in batches:
        n = batch.num_rows
        features = batch.column(1).flatten().to_numpy(zero_copy_only=False)
        rows, scores = top_items(features.reshape(n, -1), found.factors, top)
        offsets = pa.array(np.arange(n + 1, dtype=np.int32) * top)
        entries = pa.StructArray.from_arrays(
            [pa.array(found.ids[rows.ravel()]), pa.array(scores.ravel().astype(np.float32))],
            fields=list(entry),
        )
        lists = pa.ListArray.from_arrays(offsets, entries, type=schema.field(1).type)
        yield pa.RecordBatch.from_arrays([batch.column(0), lists], schema=schema)


def dot(first: Column, second: Column) -> Column:
    """Product of two columns of type array<float>, as float; null where one is."""
    products = F.zip_with(first, second, lambda x, y: x.cast("double") * y)
    return F.aggregate(products, F.lit(0.0), lambda total, product: total + product).cast("float")


def _unused(name: str, taken: list[str]) -> str:
    """Return a column's name that, in any case, is not taken."""
    used = {column.lower() for column in taken}
    while name.lower() in used or f"{name}id".lower() in used:
        name = f"_{name}"
    return name
