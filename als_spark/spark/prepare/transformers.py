"""Features as numbers, made by the transformers of pyspark.ml on the executors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyspark.ml import Model, Pipeline, PipelineModel
from pyspark.ml.feature import (
    CountVectorizerModel,
    Imputer,
    OneHotEncoder,
    StandardScaler,
    StringIndexerModel,
    VectorAssembler,
)
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from als_spark.spark.read.row_features import ID, FeatureFrame


def numbers_of(found: FeatureFrame) -> DataFrame:
    """Return the id of each row with an array ``features`` of float64: numbers come first."""
    frame = found.frame
    names = {f"f{k}": column for k, column in enumerate(found.columns)}
    numbers, categories, lists = (
        [name for name, column in names.items() if column.kind == kind]
        for kind in ("number", "category", "list")
    )
    stages: list[Any] = []
    if numbers:
        filled = [f"{name}_filled" for name in numbers]
        stages += [
            Imputer(strategy="mean", inputCols=numbers, outputCols=filled),
            VectorAssembler(inputCols=filled, outputCol="raw"),
            StandardScaler(withMean=True, withStd=True, inputCol="raw", outputCol="numbers"),
        ]
    if categories:
        places, ones = ([f"{name}_{word}" for name in categories] for word in ("place", "ones"))
        # What is missing or rare has the last place, which has no feature.
        indexer = StringIndexerModel.from_arrays_of_labels(
            [list(names[name].values) for name in categories], categories, places, "keep"
        )
        stages += [indexer, OneHotEncoder(inputCols=places, outputCols=ones, dropLast=True)]
    for name in lists:
        stages.append(_list_model(name, names[name].values))
        empty = F.array().cast("array<string>")
        frame = frame.withColumn(name, F.coalesce(F.col(name), empty))
    parts = [name for name, column in names.items() if column.kind != "number"]
    made = [*(["numbers"] if numbers else []), *(f"{name}_ones" for name in parts)]
    stages.append(VectorAssembler(inputCols=made, outputCol="features"))
    model: PipelineModel = Pipeline(stages=stages).fit(frame)
    vectors = model.transform(frame)
    return vectors.select(ID, vector_to_array(F.col("features")).alias("features"))


def _list_model(name: str, values: Sequence[str]) -> Model:
    model = CountVectorizerModel.from_vocabulary(list(values), name, f"{name}_ones")
    model.setBinary(True)
    return model
