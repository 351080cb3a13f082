"""A pipeline whose fits of several parameter maps share all that the maps do not touch.

``CrossValidator`` and ``TrainValidationSplit`` ask their estimator for all models of a grid at once
(``fitMultiple``). PySpark's pipeline answers with a whole fit for each map, in which every stage
sees one map only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from pyspark import keyword_only
from pyspark.ml import Estimator, PipelineModel, Transformer
from pyspark.ml import Pipeline as SparkPipeline
from pyspark.ml.param import Param
from pyspark.ml.pipeline import PipelineReader
from pyspark.sql import DataFrame

ParamMap = dict[Param[Any], Any]


class Pipeline(SparkPipeline):
    """The drop-in for ``pyspark.ml.Pipeline``, with one pass for all parameter maps of a grid.

    It differs in ``fitMultiple`` alone, and so in what ``CrossValidator``, ``TrainValidationSplit``
    and ``fit`` with a list of maps cost: stages before the last estimator are fitted once for all
    maps that agree on them, and the last estimator gets these maps at once. With
    :class:`als_spark.ALS` as the last estimator, all models of a grid are trained together. What is
    fitted is the same, a ``pyspark.ml.PipelineModel``; files are the same but for the name of the
    class.

    Parameters
    ----------
    stages : list of Transformer or Estimator
        In this order.
    """

    @keyword_only
    def __init__(self, *, stages: list[Any] | None = None) -> None:  # noqa: ARG002
        SparkPipeline.__init__(self, **self._input_kwargs)

    def fitMultiple(
        self, dataset: DataFrame, paramMaps: Sequence[ParamMap]
    ) -> Iterator[tuple[int, PipelineModel]]:
        """Fit a pipeline for each parameter map.

        Parameters
        ----------
        dataset : DataFrame
        paramMaps : sequence of dict
            Values by parameter, of the pipeline or of its stages.

        Returns
        -------
        iterator of (int, PipelineModel)
            Position of the map, and its model; may be used by several threads. Stages are fitted
            when the first model that needs them is asked for.

        Raises
        ------
        TypeError
            If a stage is neither an estimator nor a transformer, or a value is of the wrong type.
        """
        fits = [_Fit(self.copy(values), values) for values in paramMaps]
        if any(fit.last < 0 for fit in fits):
            # There is nothing to fit.
            return super().fitMultiple(dataset, paramMaps)
        return _Fits(self, dataset, fits)

    @classmethod
    def read(cls) -> PipelineReader:
        """Return what loads a pipeline, PySpark's too."""
        return _Reader()


class _Reader(PipelineReader):
    """Loads a pipeline as PySpark does, as one of ours."""

    def __init__(self) -> None:
        super().__init__(SparkPipeline)

    def load(self, path: str) -> Pipeline:
        loaded = super().load(path)
        pipeline: Pipeline = Pipeline(stages=loaded.getStages())._resetUid(loaded.uid)
        return pipeline


class _Fit:
    """A parameter map, and what it means for the stages."""

    def __init__(self, pipeline: SparkPipeline, values: ParamMap) -> None:
        self.values = values
        self.stages: list[Any] = pipeline.getStages()
        self.last = _last_estimator(self.stages)
        """Position of the last estimator."""
        later = _uids(self.stages[self.last :]) - _uids(self.stages[: self.last])
        self.others = {p: value for p, value in values.items() if p.parent not in later}
        """What is not about the last estimator or a stage behind it."""


class _Group:
    """Maps that agree on all stages before the last estimator."""

    def __init__(self, pipeline: Pipeline, first: _Fit) -> None:
        self.others = first.others
        self.positions: list[int] = []
        self.maps: list[ParamMap] = []
        # Not the stages of the first map, whose values for the last estimator are its own.
        self._stages: list[Any] = pipeline.copy(first.others).getStages()
        self._last = first.last
        self._lock = threading.Lock()
        self._fitted: list[Transformer] = []
        self._models: Iterator[tuple[int, Any]] | None = None

    def fit_next(self, dataset: DataFrame) -> tuple[int, list[Transformer]]:
        """Return the position of a map, and its stages up to the last estimator, fitted."""
        with self._lock:
            if self._models is None:
                self._models = self._fit_earlier(dataset)
        k, model = next(self._models)
        return self.positions[k], [*(stage.copy() for stage in self._fitted), model]

    def _fit_earlier(self, dataset: DataFrame) -> Iterator[tuple[int, Any]]:
        fitted = []
        for stage in self._stages[: self._last]:
            fitted.append(stage.fit(dataset) if isinstance(stage, Estimator) else stage)
            dataset = fitted[-1].transform(dataset)
        self._fitted = fitted
        models: Iterator[tuple[int, Any]] = self._stages[self._last].fitMultiple(dataset, self.maps)
        return models


class _Fits(Iterator[tuple[int, PipelineModel]]):
    """The models of several parameter maps, fitted as they are asked for; safe for threads."""

    def __init__(self, pipeline: Pipeline, dataset: DataFrame, fits: Sequence[_Fit]) -> None:
        self._dataset = dataset
        self._fits = fits
        self._lock = threading.Lock()
        groups: list[_Group] = []
        order: list[_Group] = []
        for k, fit in enumerate(fits):
            group = next((group for group in groups if _equal(group.others, fit.others)), None)
            if group is None:
                group = _Group(pipeline, fit)
                groups.append(group)
            group.positions.append(k)
            group.maps.append(fit.values)
            order.append(group)
        self._order = iter(order)

    def __next__(self) -> tuple[int, PipelineModel]:
        with self._lock:
            group = next(self._order)
        k, fitted = group.fit_next(self._dataset)
        return k, PipelineModel([*fitted, *self._fits[k].stages[self._fits[k].last + 1 :]])


def _last_estimator(stages: Sequence[Any]) -> int:
    """Position of the last estimator; -1 without one. Stops on what is no stage, as PySpark."""
    for stage in stages:
        if not isinstance(stage, Estimator | Transformer):
            raise TypeError(f"Cannot recognize a pipeline stage of type {type(stage)}.")
    return max((k for k, stage in enumerate(stages) if isinstance(stage, Estimator)), default=-1)


def _uids(stages: Sequence[Any]) -> set[str]:
    """Uids of stages, and of the stages of those that are pipelines."""
    found = {stage.uid for stage in stages}
    for stage in stages:
        if isinstance(stage, SparkPipeline):
            found |= _uids(stage.getStages())
    return found


def _equal(first: ParamMap, second: ParamMap) -> bool:
    """Whether two maps are the same; not if their values cannot be compared, as arrays."""
    try:
        return bool(first == second)
    except ValueError:
        return False
