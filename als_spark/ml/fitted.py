"""The models of several estimators on the same ratings: those that can be are trained together."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pyspark.sql import DataFrame

from als_spark.errors import ConfigError
from als_spark.ml.fit_params import FitParams
from als_spark.ml.model import ALSModel
from als_spark.ml.posterior import FittedPrior, train_posteriors
from als_spark.ml.training import Fitted, Shared, train_together
from als_spark.spark.frames import check_frame


class _Group(NamedTuple):
    """Models that are trained together."""

    members: list[int]
    lock: threading.Lock


class FittedModels(Iterator[tuple[int, ALSModel]]):
    """The models of several estimators, trained as they are asked for; safe for threads.

    Raises
    ------
    ConfigError
        If the session is one of Spark Connect.
    """

    def __init__(self, dataset: DataFrame, estimators: Sequence[FitParams]) -> None:
        check_frame(dataset, "ALS.fit")
        session = dataset.sparkSession
        if type(session).__module__.startswith("pyspark.sql.connect"):
            raise ConfigError(
                "als_spark.ALS needs a classic Spark session: over Spark Connect there is no "
                "SparkContext to train with"
            )
        self._dataset = dataset
        self._estimators = estimators
        self._groups: dict[Shared, _Group] = {}
        for k, estimator in enumerate(estimators):
            group = self._groups.setdefault(Shared.of(estimator), _Group([], threading.Lock()))
            group.members.append(k)
        self._trained: dict[int, Fitted] = {}
        self._learnt: dict[int, FittedPrior] = {}
        self._next = iter(range(len(estimators)))
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"<FittedModels: {len(self._estimators)} estimators>"

    def __next__(self) -> tuple[int, ALSModel]:
        """Return the next position, and its model."""
        with self._lock:
            k = next(self._next)
        estimator = self._estimators[k]
        _check(estimator)
        shared = Shared.of(estimator)
        group = self._groups[shared]
        with group.lock:
            if k not in self._trained and k not in self._learnt:
                self._train(shared, group)
            learnt = self._learnt.pop(k, None)
            fitted = self._trained.pop(k) if learnt is None else learnt.model
        model = ALSModel(self._dataset.sparkSession, *fitted[:4])
        model._summary = fitted.summary
        if learnt is not None:
            model._factors.prior = learnt.prior
        model._resetUid(estimator.uid)
        return k, estimator._copyValues(model)

    def _train(self, shared: Shared, group: _Group) -> None:
        estimators = {k: self._estimators[k] for k in group.members}
        for estimator in estimators.values():
            _check(estimator)
        if shared.learns_prior:
            self._learnt.update(train_posteriors(self._dataset, shared, estimators))
        else:
            self._trained.update(train_together(self._dataset, shared, estimators))


def _check(estimator: FitParams) -> None:
    """Stop on parameters that are out of range, or have no effect with the method."""
    estimator.check_params()
    estimator.posterior_options()
