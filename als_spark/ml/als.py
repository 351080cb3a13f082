"""The estimator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pyspark import keyword_only
from pyspark.ml import Estimator
from pyspark.ml.param import Param
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import DataFrame, SparkSession

from als_spark.ml.feature_params import FRAMES
from als_spark.ml.features import features_to_save, saved_features
from als_spark.ml.files import AlsReader, AlsWriter
from als_spark.ml.fit_params import Callback, FitParams
from als_spark.ml.fitted import FittedModels
from als_spark.ml.model import ALSModel

INITIAL_MODEL = "initialModel"
"""Folder of the initial model, and its key in the metadata."""
ParamMap = dict[Param[Any], Any]


class ALS(FitParams, Estimator[ALSModel], MLWritable, MLReadable["ALS"]):
    """Alternating least squares, with the interface of ``pyspark.ml.recommendation.ALS``.

    With Ω the ratings and n the number of ratings of a row it minimises::

        Σ_Ω (r_ui − u_u·v_i)² + λ (Σ_u n_u^ν |u_u|² + Σ_i n_i^ν |v_i|²),

    λ being ``regParam`` and ν ``regExponent``, by default 1: MLlib's objective (Zhou et al.
    2008, "Large-scale Parallel Collaborative Filtering for the Netflix Prize"). A pair that is
    rated several times counts with each of its ratings, as there.

    With ``implicitPrefs`` ratings are implicit feedback (Hu, Koren, Volinsky 2008, "Collaborative
    Filtering for Implicit Feedback Datasets"): the first sum is that of c_ui (p_ui − u_u·v_i)² over
    all pairs of a user and an item, the preference p being 1 where the rating is above 0, else 0,
    and the confidence ``c = 1 + α |r|``; n counts the ratings above 0. A row without any has zeros.

    Parameters
    ----------
    rank : int
        Number of factors.
    maxIter : int
        Iterations; all of them are done unless ``tol`` is set.
    regParam : float
        λ, multiplied by n^ν for a row of n ratings.
    implicitPrefs : bool
        Whether ratings are implicit feedback.
    alpha : float
        α: how much a rating adds to the confidence in its preference; only with
        ``implicitPrefs``.
    nonnegative : bool
        Whether no factor may be negative. Each half-step is exact then too.
    userCol, itemCol, ratingCol : str
        Columns of the ratings. Ids are whole numbers within the int range, in a column of any
        numeric type, unless ``nativeIds``. Without a name for the ratings every rating is 1.
    coldStartStrategy : {"nan", "drop", "mean"}
        What the model predicts for an unknown user or item: NaN; nothing, no row; or, with
        ``mean``, the mean of the training ratings, plus the bias of the one that is known.
    seed : int, optional
        Of the start. By default a hash of the name of the class, which differs between processes.
    checkpointInterval : int
        Where the context has a checkpoint directory and ``seed`` is set, the training is kept
        beside that directory every so many iterations: after this process was killed the same fit
        in another one goes on from there, to the same factors. What is kept is deleted when the
        fit is done. Of models that are trained together the smallest interval counts. -1: never.
    numUserBlocks, numItemBlocks, blockSize : int
        Accepted and checked as by MLlib; without effect (see ``explainParams``).
    intermediateStorageLevel, finalStorageLevel : str
        Accepted and checked as by MLlib; without effect (see ``explainParams``).
    biases : bool
        Whether the global mean μ and biases of users and items are learnt besides: the errors are
        then r_ui − μ − b_u − b_i − u_u·v_i, and the objective has the penalty λ_b (Σ_u n_u b_u² +
        Σ_i n_i b_i²) more. Not with ``implicitPrefs`` or ``nonnegative``.
    biasRegParam : float, optional
        λ_b, above 0; by default the value of ``regParam``.
    weightCol : str, optional
        Column of weights w_ui of the ratings, finite and at least 0: the first sum is then Σ_Ω w_ui
        (...)². n counts the ratings of a weight above 0, whatever the weight; one of weight 0 is
        left out, as if its row were not there. The global mean is weighted too. Not with
        ``implicitPrefs``.
    tol : float
        Iterations end before ``maxIter`` once the change of the factors settles: at the first t
        with ``|c_(t−1) − c_t| < tol``, where ``c_t = ‖U_t − U_(t−1)‖ + ‖V_t − V_(t−1)‖``. MLlib has
        no such rule; neither has 0.
    regExponent : float
        ν, from 0 to 4. MLlib's is 1; 0 is the same ridge in every row, for which a good λ is
        larger. The same λ means different things at different ν.
    accelerate : bool
        Whether iterations begin at factors extrapolated from the last ones (L-BFGS over ALS
        steps): fewer iterations to the same objective, which never rises.
    exchange : {"auto", "broadcast", "shuffle"}
        How the fixed factors reach the ratings: sent whole to every worker, or in the rows that
        each needs, from where they were solved; auto: each side by its size. The factors are the
        same. With ``accelerate`` the items' are broadcast: not with "shuffle".
    initialModel : ALSModel, optional
        A model of the same rank from whose factors the iterations start, such as that of
        yesterday; ids that it lacks start as usual. Saved with the estimator.
    callback : callable, optional
        Called with the :class:`~als_spark.IterationRecord` of each iteration, on the driver, one
        call at a time; ``point`` is the position of the parameter map. What it raises ends the
        fit, and is what ``fit`` raises. Where the ratings are few, so that a task trains a whole
        model, it hears of all iterations of a model when that is done. Not saved.
    progress : bool, optional
        Whether to show a progress bar of the iterations; by default in a notebook only.
    nativeIds : bool
        Whether ids are integers of any width, strings or decimals, which the model returns as they
        are; MLlib has no such parameter.
    method : {"ridge", "variational", "sample"}
        ``ridge`` is the least squares of above. The others learn prior and noise from explicit
        ratings, with biases, and have no λ: ``variational`` keeps mean and covariance of each row,
        ``sample`` draws rows, and predicts by the mean over the samples. With them, and with the
        features of a ridge, ``rank``, ``maxIter``, ``tol``, and ``regParam`` and ``regExponent`` of
        that ridge are the method's own where they are not set (:class:`~als_spark.PosteriorOptions`
        has them); what has no effect must not be set.
    implicitFeatures : int
        Directions of who has rated what that the mean of a row's prior depends on; 0: none. A ridge
        then has biases, and λ is multiplied by n^ν of the distance from that mean.
    noise : {"rows", "shared"}, optional
        Whether users and items are more or less noisy, each its own (the default), or all alike.
    covariance : {"full", "diagonal"}, optional
        Whether ``variational`` keeps all covariances of the numbers of a row, or their variances
        alone; full, unless these would take too much memory.
    burnIn, numSamples : int, optional
        Iterations of ``sample`` before those that count (40), and those that do (160).
    featureRidge : float, optional
        As many rows as the coefficients of the features of a ridge weigh (300).
    deviationCol, lowerCol, upperCol : str, optional
        Further columns of ``transform``, of ``variational`` and ``sample``: the standard deviation
        of a prediction, and the ends of an interval that has the rating with probability
        ``coverage``; NaN where a prediction is none of the model's factors.
    coverage : float
        Share of ratings within ``lowerCol`` and ``upperCol``.
    userFeatures, itemFeatures : DataFrame, optional
        With ``userCol``, or ``itemCol``, a row for each id, and columns that the mean of a row's
        prior depends on, of each ``method``: numbers, dates and times, categories, lists of text. A
        user or item that has features and no rating is predicted and recommended. Saved with the
        estimator.
    userFeatureCols, itemFeatureCols : list of str, optional
        Columns of these to use; all but that of the ids by default.

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
        biases: bool = False,  # noqa: ARG002
        biasRegParam: float | None = None,  # noqa: ARG002
        weightCol: str | None = None,  # noqa: ARG002
        tol: float = 0.0,  # noqa: ARG002
        regExponent: float = 1.0,  # noqa: ARG002
        accelerate: bool = False,  # noqa: ARG002
        exchange: str = "auto",  # noqa: ARG002
        initialModel: ALSModel | None = None,  # noqa: ARG002
        callback: Callback | None = None,  # noqa: ARG002
        progress: bool | None = None,  # noqa: ARG002
        nativeIds: bool = False,  # noqa: ARG002
        method: str = "ridge",  # noqa: ARG002
        implicitFeatures: int = 0,  # noqa: ARG002
        noise: str | None = None,  # noqa: ARG002
        covariance: str | None = None,  # noqa: ARG002
        burnIn: int | None = None,  # noqa: ARG002
        numSamples: int | None = None,  # noqa: ARG002
        featureRidge: float | None = None,  # noqa: ARG002
        deviationCol: str | None = None,  # noqa: ARG002
        lowerCol: str | None = None,  # noqa: ARG002
        upperCol: str | None = None,  # noqa: ARG002
        coverage: float = 0.9,  # noqa: ARG002
        userFeatures: DataFrame | None = None,  # noqa: ARG002
        itemFeatures: DataFrame | None = None,  # noqa: ARG002
        userFeatureCols: list[str] | None = None,  # noqa: ARG002
        itemFeatureCols: list[str] | None = None,  # noqa: ARG002
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
        biases: bool = False,  # noqa: ARG002
        biasRegParam: float | None = None,  # noqa: ARG002
        weightCol: str | None = None,  # noqa: ARG002
        tol: float = 0.0,  # noqa: ARG002
        regExponent: float = 1.0,  # noqa: ARG002
        accelerate: bool = False,  # noqa: ARG002
        exchange: str = "auto",  # noqa: ARG002
        initialModel: ALSModel | None = None,  # noqa: ARG002
        callback: Callback | None = None,  # noqa: ARG002
        progress: bool | None = None,  # noqa: ARG002
        nativeIds: bool = False,  # noqa: ARG002
        method: str = "ridge",  # noqa: ARG002
        implicitFeatures: int = 0,  # noqa: ARG002
        noise: str | None = None,  # noqa: ARG002
        covariance: str | None = None,  # noqa: ARG002
        burnIn: int | None = None,  # noqa: ARG002
        numSamples: int | None = None,  # noqa: ARG002
        featureRidge: float | None = None,  # noqa: ARG002
        deviationCol: str | None = None,  # noqa: ARG002
        lowerCol: str | None = None,  # noqa: ARG002
        upperCol: str | None = None,  # noqa: ARG002
        coverage: float = 0.9,  # noqa: ARG002
        userFeatures: DataFrame | None = None,  # noqa: ARG002
        itemFeatures: DataFrame | None = None,  # noqa: ARG002
        userFeatureCols: list[str] | None = None,  # noqa: ARG002
        itemFeatureCols: list[str] | None = None,  # noqa: ARG002
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

    def setBiases(self, value: bool) -> ALS:
        """Set ``biases``."""
        return self._set(biases=value)

    def setBiasRegParam(self, value: float) -> ALS:
        """Set ``biasRegParam``."""
        return self._set(biasRegParam=value)

    def setWeightCol(self, value: str) -> ALS:
        """Set ``weightCol``."""
        return self._set(weightCol=value)

    def setTol(self, value: float) -> ALS:
        """Set ``tol``."""
        return self._set(tol=value)

    def setRegExponent(self, value: float) -> ALS:
        """Set ``regExponent``."""
        return self._set(regExponent=value)

    def setAccelerate(self, value: bool) -> ALS:
        """Set ``accelerate``."""
        return self._set(accelerate=value)

    def setExchange(self, value: str) -> ALS:
        """Set ``exchange``."""
        return self._set(exchange=value)

    def setInitialModel(self, value: ALSModel | None) -> ALS:
        """Set ``initialModel``."""
        return self._set(initialModel=value)

    def setCallback(self, value: Callback | None) -> ALS:
        """Set ``callback``."""
        return self._set(callback=value)

    def setProgress(self, value: bool | None) -> ALS:
        """Set ``progress``."""
        return self._set(progress=value)

    def setNativeIds(self, value: bool) -> ALS:
        """Set ``nativeIds``."""
        return self._set(nativeIds=value)

    def fitMultiple(
        self, dataset: DataFrame, paramMaps: Sequence[ParamMap]
    ) -> Iterator[tuple[int, ALSModel]]:
        """Fit a model for each parameter map.

        Maps that agree in the columns of the ratings, and in ``exchange``, are trained together,
        whatever else they differ in: the ratings are read and packed once, and each half-step
        passes over them once for all models that are not done yet. Those that learn a prior are
        trained one after the other, on ratings that are packed once for them.

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
        return FittedModels(dataset, [self.copy(values) for values in paramMaps])

    def write(self) -> AlsWriter:
        """Return what saves the estimator; ``format("mllib")`` for one that MLlib loads."""
        return AlsWriter(self)

    @classmethod
    def read(cls) -> AlsReader[ALS]:
        """Return what loads an estimator, ours or MLlib's."""
        return AlsReader(cls)

    def save_data(self, session: SparkSession, path: str) -> dict[str, Any]:
        """Write initial model and features; return what the metadata have besides parameters."""
        found: dict[str, Any] = {}
        for side in self.featured:
            features_to_save(self, side).write.parquet(f"{path}/{FRAMES[side]}")
            found[FRAMES[side]] = True
        model = self.getInitialModel()
        if model is None:
            return found
        model.write().session(session).save(f"{path}/{INITIAL_MODEL}")
        return {**found, INITIAL_MODEL: True}

    def load_data(self, session: SparkSession, path: str, metadata: dict[str, Any]) -> None:
        """Read initial model and features."""
        for name in FRAMES.values():
            if metadata.get(name):
                self._set(**{name: saved_features(session, f"{path}/{name}")})
        if metadata.get(INITIAL_MODEL):
            reader = ALSModel.read().session(session)
            self._set(initialModel=reader.load(f"{path}/{INITIAL_MODEL}"))

    def _fit(self, dataset: DataFrame) -> ALSModel:
        ((_, model),) = FittedModels(dataset, [self])
        return model
