"""The model: predictions and recommendations, as MLlib's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyspark.ml import Model
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import DataFrame, SparkSession

from als_spark.ml.biases import Baseline
from als_spark.ml.deviations import Wanted, add_deviations, check_wanted
from als_spark.ml.errors import InvalidArgument
from als_spark.ml.far import AnySide
from als_spark.ml.files import AlsReader, AlsWriter
from als_spark.ml.foldin import Columns, fold_ratings
from als_spark.ml.interop import from_factor_model, running_session, to_factor_model
from als_spark.ml.moments import LearntPrior, stored_prior
from als_spark.ml.posterior_params import IntervalParams
from als_spark.ml.predict import Request, checked_ids_in, predict
from als_spark.ml.recommend import Answerer, Measure
from als_spark.ml.sides import HasFactors, Parts, Sides
from als_spark.ml.summary import HasSummary
from als_spark.model.factor_model import FactorModel
from als_spark.model.files import load_model
from als_spark.solve.objective import Objective
from als_spark.spark.frames import check_frame
from als_spark.spark.store_files import store_at
from als_spark.types import Side


class ALSModel(HasFactors, HasSummary, IntervalParams, Model, MLWritable, MLReadable["ALSModel"]):
    """A model that :class:`als_spark.ALS` has fitted, with the interface of MLlib's.

    Its factors are held by the driver. Prediction broadcasts them, or, where they are large, joins
    them to the dataset; recommendation broadcasts those of the side that is recommended. With
    biases a prediction is the product of ``userFactors`` and ``itemFactors`` plus ``globalMean``,
    ``userBiases`` and ``itemBiases``.

    The factors of a side that was trained with a shuffle exchange, or is as large in a saved model,
    stay on the executors; the driver has its ids and counts. They are freed by :meth:`release`, or
    when neither the model nor a DataFrame made of them is in use. What still needs them whole on
    the driver collects them when it is called, and says so: :attr:`side_factors`,
    :meth:`toFactorModel`, :meth:`foldIn`, and ``initialModel`` of the estimator.
    """

    def __init__(
        self,
        session: SparkSession | None = None,
        users: AnySide | None = None,
        items: AnySide | None = None,
        objective: Objective | None = None,
        baseline: Baseline | None = None,
    ) -> None:
        super().__init__()
        if session is not None and users is not None and items is not None:
            self._sides = Sides(session, Parts(users, items, objective, baseline or Baseline()))

    def __repr__(self) -> str:
        """Return one line, as MLlib's."""
        rank = "" if self._sides is None else f", rank={self._sides.rank}"
        return f"ALSModel: uid={self.uid}{rank}"

    def recommendForAllUsers(
        self,
        numItems: int,
        *,
        excludeSeen: DataFrame | None = None,
        items: DataFrame | None = None,
    ) -> DataFrame:
        """Recommend items to every user; those that the user has rated are among them if not told.

        Parameters
        ----------
        numItems : int
            Items wanted for each user; fewer come where there are no more.
        excludeSeen : DataFrame, optional
            With the columns ``userCol`` and ``itemCol``: pairs that are not recommended, such as
            the ratings. Ids that the model does not know, nulls and repeated pairs do no harm.
        items : DataFrame, optional
            With the column ``itemCol``: the items that may be recommended; read at once. All, if
            not given.

        Returns
        -------
        DataFrame
            ``userCol`` and ``recommendations``, an array of structs of ``itemCol`` and ``rating``
            (float), best first; equal ones by falling id, strings by code point. Ids are int, or of
            their own type with ``nativeIds``.

        Raises
        ------
        InvalidArgument
            If none is wanted, or a column is missing or not like the ids of the model.

        Notes
        -----
        Items whose factors are on the executors pass through the driver group by group, and are
        broadcast, when this is called.
        """
        return self._answerer("user").recommend(numItems, None, excludeSeen, items)

    def recommendForAllItems(
        self,
        numUsers: int,
        *,
        excludeSeen: DataFrame | None = None,
        users: DataFrame | None = None,
    ) -> DataFrame:
        """Recommend users to every item: see :meth:`recommendForAllUsers`."""
        return self._answerer("item").recommend(numUsers, None, excludeSeen, users)

    def recommendForUserSubset(
        self,
        dataset: DataFrame,
        numItems: int,
        *,
        excludeSeen: DataFrame | None = None,
        items: DataFrame | None = None,
    ) -> DataFrame:
        """Recommend items to the users of a dataset: see :meth:`recommendForAllUsers`.

        Parameters
        ----------
        dataset : DataFrame
            With the column ``userCol``; ids that the model does not know are left out, repeated
            ones are answered once.
        numItems : int
            Items wanted for each user.
        excludeSeen, items : DataFrame, optional
            See :meth:`recommendForAllUsers`.
        """
        return self._answerer("user").recommend(numItems, dataset, excludeSeen, items)

    def recommendForItemSubset(
        self,
        dataset: DataFrame,
        numUsers: int,
        *,
        excludeSeen: DataFrame | None = None,
        users: DataFrame | None = None,
    ) -> DataFrame:
        """Recommend users to the items of a dataset: see :meth:`recommendForUserSubset`."""
        return self._answerer("item").recommend(numUsers, dataset, excludeSeen, users)

    def similarItems(
        self, ids: Sequence[Any] | None, num: int, measure: Measure = "cosine"
    ) -> DataFrame:
        """Find the items most similar to each of some items, the item itself left out.

        Parameters
        ----------
        ids : sequence of ids, or None
            Items that are answered, each once; None: all. Those that the model does not know are
            left out.
        num : int
            Items wanted for each.
        measure : {"cosine", "inner"}
            Cosine of the factors, 0 with a row of zeros; or their inner product.

        Returns
        -------
        DataFrame
            ``itemCol`` and ``neighbours``, an array of structs of ``itemCol`` and ``score``
            (double), best first; equal ones by falling id.

        Raises
        ------
        InvalidArgument
            If none is wanted, the measure is neither, or an id is not like those of the model.
        """
        return self._answerer("item", latent=True).similar(ids, num, measure)

    def similarUsers(
        self, ids: Sequence[Any] | None, num: int, measure: Measure = "cosine"
    ) -> DataFrame:
        """Find the users most similar to each of some users: see :meth:`similarItems`."""
        return self._answerer("user", latent=True).similar(ids, num, measure)

    def write(self) -> AlsWriter:
        """Return what saves the model; ``format("mllib")`` for one that MLlib loads."""
        return AlsWriter(self)

    @classmethod
    def read(cls) -> AlsReader[ALSModel]:
        """Return what loads a model, ours or MLlib's."""
        return AlsReader(cls)

    def saveAsMLlib(self, path: str) -> None:
        """Save a model that MLlib's own ``ALSModel.load`` loads, and ours.

        ``write().overwrite().format("mllib").save(path)`` does so over what is there.

        Parameters
        ----------
        path : str
            A folder that is not there.

        Raises
        ------
        FileExistsError
            If it is.
        InvalidArgument
            If a parameter that MLlib does not have is set, such as ``nativeIds``.
        """
        self.write().format("mllib").save(path)

    def toFactorModel(self) -> FactorModel:
        """Return the model as the library, the store and the jobs take it.

        Integer ids are 64-bit integers there, strings and decimals strings. All factors are
        brought to the driver.

        Returns
        -------
        FactorModel
            For :func:`als_spark.save_model`, say, whose folder a store publishes.

        Raises
        ------
        InvalidArgument
            If the training ratings of users and items are not known: MLlib's models do not keep
            them.
        """
        return to_factor_model(self._factors.parts)

    @classmethod
    def fromFactorModel(cls, session: SparkSession | None, model: FactorModel) -> ALSModel:
        """Make a model of one of the library's, with the estimator's default parameters.

        Users and items without a training rating are left out: they are unknown to it too. Ids are
        int where all of them are within that range; otherwise ``nativeIds`` is set.

        Parameters
        ----------
        session : SparkSession or None
            None: the running one.
        model : FactorModel
            Of :func:`als_spark.load_model`, say. The factors become 32-bit floats.

        Raises
        ------
        InvalidArgument
            If there is no session.
        """
        session = session or running_session()
        parts, native = from_factor_model(model)
        made = cls(session, *parts)
        made._setDefault(userCol="user", itemCol="item", predictionCol="prediction")
        made._setDefault(coldStartStrategy="nan")
        return made._set(nativeIds=native)

    @classmethod
    def fromStore(cls, path: str, version: str | None = None) -> ALSModel:
        """Read a model from a model store, verified: see :meth:`fromFactorModel`.

        One that was trained by ``--method variational`` or ``sample`` has deviations and intervals,
        too.

        Parameters
        ----------
        path : str
            The store's directory, of any file system that Spark knows.
        version : str, optional
            Name of a version, or the beginning of one; the current one if not given.

        Raises
        ------
        InvalidArgument
            If there is no session.
        DataError
            If there is no store, no such version, or its files are not those that were published.
        """
        session = running_session()
        with store_at(session, path).open(version) as folder:
            model = load_model(folder)
            made = cls.fromFactorModel(session, model)
            made._factors.prior = stored_prior(session, folder, model, made._factors.sides)
        return made

    def foldIn(
        self, ratings: DataFrame, side: Side = "user", ratingCol: str = "rating"
    ) -> ALSModel:
        """Return the model with users (or items) in it that it has not seen.

        Each is solved exactly from its ratings, with the factors of the other side fixed and the
        objective of the model, as the last half-step of a training would. A user that the model
        knows is solved anew, from these ratings alone. The driver gets the factors that were
        solved; those of the other side are broadcast, and collected for that where they are on the
        executors.

        Parameters
        ----------
        ratings : DataFrame
            Columns ``userCol``, ``itemCol`` and ``ratingCol``, as ``fit`` takes them. Ratings of
            items that the model does not know are left out; a user without another one stays
            unknown.
        side : {"user", "item"}
            What is folded in.
        ratingCol : str
            Column of the ratings; "": every rating is 1.

        Returns
        -------
        ALSModel
            A new one, of the same parameters. The training ratings of the other side stay what
            they are.

        Raises
        ------
        InvalidArgument
            If the model does not know its objective, as MLlib's do not, or a column is unusable.
        InvalidRatings
            If a row has no usable id or rating.
        SolveError
            If a row's system has no finite solution.
        """
        columns = Columns(self.getUserCol(), self.getItemCol(), ratingCol, self._native)
        parts = fold_ratings(ratings, columns, side, self._factors)
        made = self.copy()
        made._sides = Sides(self._factors.session, parts)
        return made

    @property
    def learnt(self) -> dict[str, Any] | None:
        """How the model was learnt by ``method``, and what: options, noise, bound or R-hat.

        None of a ridge towards zero. Models that are loaded have it too.
        """
        prior = self._factors.prior
        return None if prior is None else dict(prior.description)

    def save_data(self, session: SparkSession, path: str) -> dict[str, Any]:  # noqa: ARG002
        """Write the factors; return what the metadata have besides the parameters."""
        prior = self._factors.prior
        return {**self._factors.save(path), **({} if prior is None else prior.save(path))}

    def load_data(self, session: SparkSession, path: str, metadata: dict[str, Any]) -> None:
        """Read the factors and, where they were saved, the objective and the statistics."""
        self._sides = Sides.load(session, path, metadata)
        self._sides.prior = LearntPrior.load(session, path, metadata, self._sides.sides)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        wanted = Wanted(*self.interval_columns(), self.getCoverage())
        if not wanted.names:
            return self._predicted(dataset)
        self.check_params()
        prediction, prior = self.getPredictionCol(), self._factors.prior
        checked = check_wanted(wanted, prior, [*dataset.columns, prediction])
        names: dict[Side, str] = {"user": self.getUserCol(), "item": self.getItemCol()}
        return add_deviations(self._predicted(dataset), names, prediction, checked, wanted)

    def _predicted(self, dataset: DataFrame) -> DataFrame:
        check_frame(dataset, "ALSModel.transform")
        self.check_params()
        prediction = self.getPredictionCol()
        columns: dict[Side, str] = {"user": self.getUserCol(), "item": self.getItemCol()}
        sides, native = self._factors, self._native
        kinds = {side: own.id_type for side, own in sides.sides.items()}
        if prediction in dataset.columns:
            raise InvalidArgument(f"requirement failed: Column {prediction} already exists.")
        checked = checked_ids_in(dataset, columns, kinds, native=native)
        strategy = self.getColdStartStrategy().lower()
        unknown = sides.unknown(by_mean=strategy == "mean")
        request = Request(checked, columns, kinds, prediction, strategy == "drop", unknown)
        return predict(request, sides)

    def _answerer(self, side: Side, *, latent: bool = False) -> Answerer:
        names: dict[Side, str] = {"user": self.getUserCol(), "item": self.getItemCol()}
        own = self._factors
        sides = own.latent if latent else own.sides
        return Answerer(own.session, side, names, sides, self._native)
