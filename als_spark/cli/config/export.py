"""Configuration of ``export``."""

from __future__ import annotations

from als_spark.cli.config.model import RESULT
from als_spark.cli.config.settings import REQUIRED, OutputFolder, option
from als_spark.cli.config.stored import StoredModelConfig
from als_spark.model.export import Metric, Target


class ExportConfig(StoredModelConfig):
    """Everything that decides ``jobs/export.py``."""

    command = "export"
    about = "Write the vectors of a model, with their ids, for an index of nearest neighbours."

    to: Target = option(
        RESULT,
        "NumPy files, Parquet, or NumPy files of float32 with int64 labels as FAISS takes them",
        "npy",
    )
    metric: Metric = option(
        RESULT,
        "what the index compares by: the inner product, which is the prediction, or the cosine",
        "inner-product",
    )
    output: OutputFolder = option(RESULT, "folder for the files (required)", REQUIRED)
