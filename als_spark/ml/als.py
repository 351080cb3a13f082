"""The estimator."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pyspark import keyword_only
from pyspark.ml import Estimator
from pyspark.ml.param import Param
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import DataFrame, SparkSession

from als_spark.errors import ConfigError
from als_spark.ml.factors import SideFactors
from als_spark.ml.files import AlsReader, AlsWriter
from als_spark.ml.model import ALSModel
from als_spark.ml.params import AlsParams
from als_spark.ml.training import Shared, train_together

ParamMap = dict[Param[Any], Any]


class ALS(AlsParams, Estimator[ALSModel], MLWritable, MLReadable["ALS"]):
    """Alternating least squares, with the interface of ``pyspark.ml.recommendation.ALS``.

    With Ω the ratings and n the number of ratings of a row it minimises::

        Σ_Ω (r_ui − u_u·v_i)² + λ (Σ_u n_u |u_u|² + Σ_i n_i |v_i|²),

    λ being ``regParam``: MLlib's objective (Zhou et al. 2008, "Large-scale Parallel Collaborative
    Filtering for the Netflix Prize"). A pair that is rated several times counts with each of its
    ratings, as there.

    With ``implicitPrefs`` ratings are implicit feedback (Hu, Koren, Volinsky 2008, "Collaborative
    Filtering for Implicit Feedback Datasets"): the first sum is that of c_ui (p_ui − u_u·v_i)² over
    all pairs of a user and an item, the preference p being 1 where the rating is above 0, else 0,
    and the confidence ``c = 1 + α |r|``; n counts the ratings above 0. A row without any has zeros.

    Parameters
    ----------
    rank : int
        Number of factors.
    maxIter : int
        Iterations; all of them are done.
    regParam : float
        λ, multiplied by the number of ratings of each row.
    implicitPrefs : bool
        Whether ratings are implicit feedback.
    alpha : float
        α: how much a rating adds to the confidence in its preference; only with
        ``implicitPrefs``.
    nonnegative : bool
        Whether no factor may be negative. Each half-step is exact then too.
    userCol, itemCol, ratingCol : str
        Columns of the ratings. Ids are whole numbers within the int range, in a column of any
        numeric type. Without a name for the ratings every rating is 1.
    coldStartStrategy : {"nan", "drop"}
        What the model predicts for an unknown user or item.
    seed : int, optional
        Of the start. By default a hash of the name of the class, which differs between processes.
    numUserBlocks, numItemBlocks, blockSize, checkpointInterval : int
        Accepted and checked as by MLlib; without effect (see ``explainParams``).
    intermediateStorageLevel, finalStorageLevel : str
        Accepted and checked as by MLlib; without effect (see ``explainParams``).

    Raises
    ------
    TypeError
        If a value is of the wrong type. Values out of range are errors of ``fit``.
    """

    _input_kwargs: dict[str, Any]

    @keyword_only
    def __init__(
        self,
        *,
        rank: int = 10,  # noqa: ARG002
        maxIter: int = 10,  # noqa: ARG002
        regParam: float = 0.1,  # noqa: ARG002
        numUserBlocks: int = 10,  # noqa: ARG002
        numItemBlocks: int = 10,  # noqa: ARG002
        implicitPrefs: bool = False,  # noqa: ARG002
        alpha: float = 1.0,  # noqa: ARG002
        userCol: str = "user",  # noqa: ARG002
        itemCol: str = "item",  # noqa: ARG002
        seed: int | None = None,  # noqa: ARG002
        ratingCol: str = "rating",  # noqa: ARG002
        nonnegative: bool = False,  # noqa: ARG002
        checkpointInterval: int = 10,  # noqa: ARG002
        intermediateStorageLevel: str = "MEMORY_AND_DISK",  # noqa: ARG002
        finalStorageLevel: str = "MEMORY_AND_DISK",  # noqa: ARG002
        coldStartStrategy: str = "nan",  # noqa: ARG002
        blockSize: int = 4096,  # noqa: ARG002
    ) -> None:
        super().__init__()
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(
        self,
        *,
        rank: int = 10,  # noqa: ARG002
        maxIter: int = 10,  # noqa: ARG002
        regParam: float = 0.1,  # noqa: ARG002
        numUserBlocks: int = 10,  # noqa: ARG002
        numItemBlocks: int = 10,  # noqa: ARG002
        implicitPrefs: bool = False,  # noqa: ARG002
        alpha: float = 1.0,  # noqa: ARG002
        userCol: str = "user",  # noqa: ARG002
        itemCol: str = "item",  # noqa: ARG002
        seed: int | None = None,  # noqa: ARG002
        ratingCol: str = "rating",  # noqa: ARG002
        nonnegative: bool = False,  # noqa: ARG002
        checkpointInterval: int = 10,  # noqa: ARG002
        intermediateStorageLevel: str = "MEMORY_AND_DISK",  # noqa: ARG002
        finalStorageLevel: str = "MEMORY_AND_DISK",  # noqa: ARG002
        coldStartStrategy: str = "nan",  # noqa: ARG002
        blockSize: int = 4096,  # noqa: ARG002
    ) -> ALS:
        """Set any parameters by their names."""
        return self._set(**self._input_kwargs)

    def setNumBlocks(self, value: int) -> ALS:
        """Set ``numUserBlocks`` and ``numItemBlocks``."""
        return self._set(numUserBlocks=value, numItemBlocks=value)

    def setRank(self, value: int) -> ALS:
        """Set ``rank``."""
        return self._set(rank=value)

    def setMaxIter(self, value: int) -> ALS:
        """Set ``maxIter``."""
        return self._set(maxIter=value)

    def setRegParam(self, value: float) -> ALS:
        """Set ``regParam``."""
        return self._set(regParam=value)

    def setNumUserBlocks(self, value: int) -> ALS:
        """Set ``numUserBlocks``."""
        return self._set(numUserBlocks=value)

    def setNumItemBlocks(self, value: int) -> ALS:
        """Set ``numItemBlocks``."""
        return self._set(numItemBlocks=value)

    def setImplicitPrefs(self, value: bool) -> ALS:
        """Set ``implicitPrefs``."""
        return self._set(implicitPrefs=value)

    def setAlpha(self, value: float) -> ALS:
        """Set ``alpha``."""
        return self._set(alpha=value)

    def setUserCol(self, value: str) -> ALS:
        """Set ``userCol``."""
        return self._set(userCol=value)

    def setItemCol(self, value: str) -> ALS:
        """Set ``itemCol``."""
        return self._set(itemCol=value)

    def setSeed(self, value: int) -> ALS:
        """Set ``seed``."""
        return self._set(seed=value)

    def setRatingCol(self, value: str) -> ALS:
        """Set ``ratingCol``."""
        return self._set(ratingCol=value)

    def setNonnegative(self, value: bool) -> ALS:
        """Set ``nonnegative``."""
        return self._set(nonnegative=value)

    def setCheckpointInterval(self, value: int) -> ALS:
        """Set ``checkpointInterval``."""
        return self._set(checkpointInterval=value)

    def setIntermediateStorageLevel(self, value: str) -> ALS:
        """Set ``intermediateStorageLevel``."""
        return self._set(intermediateStorageLevel=value)

    def setFinalStorageLevel(self, value: str) -> ALS:
        """Set ``finalStorageLevel``."""
        return self._set(finalStorageLevel=value)

    def setColdStartStrategy(self, value: str) -> ALS:
        """Set ``coldStartStrategy``."""
        return self._set(coldStartStrategy=value)

    def setBlockSize(self, value: int) -> ALS:
        """Set ``blockSize``."""
        return self._set(blockSize=value)

    def setPredictionCol(self, value: str) -> ALS:
        """Set ``predictionCol``."""
        return self._set(predictionCol=value)

    def fitMultiple(
        self, dataset: DataFrame, paramMaps: Sequence[ParamMap]
    ) -> Iterator[tuple[int, ALSModel]]:
        """Fit a model for each parameter map.

        Maps that agree in ``maxIter``, ``seed`` and the columns of the ratings, such as those of a
        grid of ``rank`` and ``regParam``, are trained together: the ratings are read and packed
        once, and each half-step passes over them once for all of these models.

        Parameters
        ----------
        dataset : DataFrame
        paramMaps : sequence of dict
            Values by parameter.

        Returns
        -------
        iterator of (int, ALSModel)
            Position of the map, and its model; may be used by several threads. A model is trained
            when it, or one that is trained with it, is asked for.

        Raises
        ------
        TypeError
            If a value is of the wrong type.
        InvalidArgument
            If a value is out of range, or a column is missing or not numeric.
        InvalidRatings
            If a row has no usable id or rating.
        SolveError
            If a row's system has no finite solution.
        """
        return _Models(dataset, [self.copy(values) for values in paramMaps])

    def write(self) -> AlsWriter:
        """Return what saves the estimator; ``format("mllib")`` for one that MLlib loads."""
        return AlsWriter(self)

    @classmethod
    def read(cls) -> AlsReader[ALS]:
        """Return what loads an estimator, ours or MLlib's."""
        return AlsReader(cls)

    def save_data(self, session: SparkSession, path: str) -> dict[str, Any]:  # noqa: ARG002
        """Return what the metadata have besides the parameters: nothing."""
        return {}

    def load_data(self, session: SparkSession, path: str, metadata: dict[str, Any]) -> None:
        """Read nothing: an estimator is its parameters."""

    def _fit(self, dataset: DataFrame) -> ALSModel:
        ((_, model),) = _Models(dataset, [self])
        return model


class _Group(NamedTuple):
    """Models that are trained together."""

    members: list[int]
    lock: threading.Lock


class _Models(Iterator[tuple[int, ALSModel]]):
    """The models of several estimators, trained as they are asked for; safe for threads."""

    def __init__(self, dataset: DataFrame, estimators: Sequence[ALS]) -> None:
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
        self._trained: dict[int, tuple[SideFactors, SideFactors]] = {}
        self._next = iter(range(len(estimators)))
        self._lock = threading.Lock()

    def __next__(self) -> tuple[int, ALSModel]:
        with self._lock:
            k = next(self._next)
        estimator = self._estimators[k]
        estimator.check_params()
        shared = Shared.of(estimator)
        group = self._groups[shared]
        with group.lock:
            if k not in self._trained:
                self._train(shared, group)
            users, items = self._trained.pop(k)
        model = ALSModel(self._dataset.sparkSession, users, items)
        model._resetUid(estimator.uid)
        return k, estimator._copyValues(model)

    def _train(self, shared: Shared, group: _Group) -> None:
        estimators = [self._estimators[k] for k in group.members]
        for estimator in estimators:
            estimator.check_params()
        found = train_together(self._dataset, shared, estimators)
        self._trained.update(zip(group.members, found, strict=True))
