"""What the estimator and its model are saved as: MLlib's folders, with our classes' names.

A model is a folder of ``metadata`` (one line of JSON), ``userFactors`` and ``itemFactors``
(Parquet); where they are known, the metadata have its objective too, and ``userStats`` and
``itemStats`` the training ratings of its rows. An estimator has the metadata alone. What MLlib has
saved is read too, and ``write().format("mllib")`` writes what MLlib reads: with its classes' names,
and without the parameters that it does not have.
"""

from __future__ import annotations

import json
from typing import Any, Generic, TypeVar

from pyspark.ml import Model
from pyspark.ml.util import (
    DefaultParamsWriter,
    GeneralMLWriter,
    MLReadable,
    MLReader,
)
from pyspark.sql import SparkSession

from als_spark.ml.errors import InvalidArgument
from als_spark.ml.metadata import NO_JSON, read_metadata, set_params
from als_spark.ml.params import mllib_params

FORMATS = ("internal", "mllib")
Instance = TypeVar("Instance", bound=MLReadable[Any])


class AlsWriter(GeneralMLWriter):
    """Saves an estimator or a model.

    Parameters
    ----------
    instance : ALS or ALSModel
    """

    source = "internal"

    def __init__(self, instance: Any) -> None:
        super().__init__()
        self._instance = instance

    def format(self, source: str) -> AlsWriter:
        """Choose ``internal``, which als_spark reads, or ``mllib``, which both read.

        Raises
        ------
        InvalidArgument
            If it is neither.
        """
        if source not in FORMATS:
            raise InvalidArgument(f"format {source!r}: use one of {', '.join(FORMATS)}")
        self.source = source
        return self

    def overwrite(self) -> AlsWriter:
        """Write over what is there."""
        super().overwrite()
        return self

    def save(self, path: str) -> None:
        """Save to a folder: see :meth:`saveImpl`."""
        if self.source == "mllib":
            # Before anything that is there is deleted.
            mllib_params(self._instance)
        super().save(path)

    def saveImpl(self, path: str) -> None:
        """Save to a folder that is not there.

        Raises
        ------
        FileExistsError
            If it is.
        InvalidArgument
            If MLlib's format lacks a parameter that is set.
        """
        session = self.sparkSession
        if _exists(session, path):
            raise FileExistsError(
                f"Path {path} already exists. To overwrite it, use write().overwrite().save(path)"
            )
        values = {
            param.name: value
            for param, value in self._instance._paramMap.items()
            if param.name not in NO_JSON
        }
        metadata = json.loads(
            DefaultParamsWriter._get_metadata_to_save(
                self._instance, session.sparkContext, paramMap=values
            )
        )
        if self.source == "mllib":
            metadata["class"] = _mllib_class(type(self._instance))
            metadata |= mllib_params(self._instance)
        metadata |= self._instance.save_data(session, path)
        # The metadata come last: a folder without them is no model.
        line = session.createDataFrame([(json.dumps(metadata),)], "value string")
        line.coalesce(1).write.text(f"{path}/metadata")


class AlsReader(MLReader[Instance], Generic[Instance]):
    """Loads an estimator or a model, ours or MLlib's.

    Parameters
    ----------
    cls : type
        ALS or ALSModel.
    """

    def __init__(self, cls: type[Instance]) -> None:
        super().__init__()
        self._class: Any = cls

    def load(self, path: str) -> Instance:
        """Load from a folder.

        Raises
        ------
        InvalidArgument
            If something else was saved there, or what was is damaged.
        """
        session = self.sparkSession
        row = session.read.text(f"{path}/metadata").head()
        metadata = read_metadata(
            "" if row is None else row[0],
            path,
            (f"{self._class.__module__}.{self._class.__name__}", _mllib_class(self._class)),
            model=issubclass(self._class, Model),
        )
        instance = self._class()
        set_params(instance, metadata, path)
        instance.load_data(session, path, metadata)
        loaded: Instance = instance
        return loaded


def _mllib_class(cls: type) -> str:
    return f"org.apache.spark.ml.recommendation.{cls.__name__}"


def _exists(session: SparkSession, path: str) -> bool:
    jvm: Any = session.sparkContext._jvm
    folder = jvm.org.apache.hadoop.fs.Path(path)
    system = folder.getFileSystem(session.sparkContext._jsc.hadoopConfiguration())
    return bool(system.exists(folder))
