"""The method of a version, and what a nightly training goes on from: for retrain."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from als_spark.errors import ConfigError, DataError
from als_spark.model.description import LEARNT
from als_spark.model.files import BEFORE_REFIT
from als_spark.model.intervals import POSTERIOR_FILE, IntervalModel, load_intervals
from als_spark.model.large_model import AnyModel, LargeSide
from als_spark.nightly.features import FeatureSource
from als_spark.nightly.run_record import Spec, TrainingSettings
from als_spark.nightly.starts import Start
from als_spark.solve.objective import Objective
from als_spark.spark.train.run import PreparedRatings
from als_spark.store.reading import StoreReader
from als_spark.train.backend import Factors, as_array
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.bayes.serve import rows_of_ridge
from als_spark.train.bayes.side import START_FREEDOM
from als_spark.train.bayes.spread import Moments
from als_spark.train.bayes.warm import PosteriorStart, SideStart
from als_spark.types import SIDES, FloatArray, Side

_LEARNT = {*LEARNT, "bound", "user_mean"}
"""Keys of a description that say what came out."""
_OF_THE_RUN = {"seed", "dtype"}
"""Options that each run has of its own."""


class Earlier(NamedTuple):
    """The current version, or what the last run would have made, as a pattern."""

    spec: Spec
    posterior: Any = None
    """Its options as a file has them, for :func:`options_of`; None: a ridge towards zero."""
    features: Any = None
    """By side, as a file has it: where features are from, and which columns of them."""

    @staticmethod
    def of_model(model: AnyModel) -> Earlier:
        """Take a model for a pattern."""
        description = model.description
        objective = Objective.from_record(description, "the model's description")
        spec = Spec(model.rank, objective)
        return Earlier(spec, description.get("posterior"), description.get("features"))

    @staticmethod
    def of_settings(settings: TrainingSettings) -> Earlier:
        """Take the settings of a run for a pattern."""
        return Earlier(settings.spec, settings.posterior, settings.features)


class Choice(NamedTuple):
    """What a run trains."""

    spec: Spec
    posterior: PosteriorOptions | None = None
    """What trains with a learnt prior; None: a ridge towards zero."""
    features: Mapping[Side, FeatureSource] = {}
    """What the prior depends on besides the ratings."""

    def features_lost(self, earlier: Earlier | None, origin: str) -> str | None:
        """Say so if an earlier model has features that this one is trained without."""
        before = earlier.features if earlier and isinstance(earlier.features, Mapping) else {}
        lost = [side for side in SIDES if side in before and side not in self.features]
        if not lost:
            return None
        remedy = " and ".join(f"`{side}_features=`" for side in lost)
        named = " and ".join(f"{side}s" for side in lost)
        return f"trained without the features of {named} that {origin} has: {remedy} keeps them"


def options_record(options: PosteriorOptions) -> dict[str, Any]:
    """Return the options as the settings of a run have them: those that decide something."""
    record = {**asdict(options), "rank": options.n_factors, "tol": options.tolerance}
    if options.covariance is None:
        # As files of earlier versions have it.
        del record["covariance"]
    return {key: value for key, value in record.items() if key not in _OF_THE_RUN}


def options_of(record: Any, label: str) -> PosteriorOptions | None:
    """Read the options of :func:`options_record`, or of a model's description.

    Parameters
    ----------
    record : mapping, or anything that a file may hold
        None: a ridge towards zero.
    label : str
        Whose it is, for messages.

    Raises
    ------
    ConfigError
        If it is damaged, or has an option that retrain cannot keep.
    """
    if record is None:
        return None
    try:
        names = {*PosteriorOptions.__slots__} - _OF_THE_RUN
        unknown = sorted(record.keys() - names - _LEARNT - _OF_THE_RUN)
        own = {key: value for key, value in record.items() if key in names}
        if own.get("covariance") == "full":
            # What memory has room for: with more rows that may change.
            del own["covariance"]
        # A description has under "noise" what the options have, others nothing.
        options = PosteriorOptions(**own)
    except (AttributeError, TypeError, ConfigError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(
            f"{label} does not say how it was trained ({said}): give --method"
        ) from error
    if unknown:
        raise ConfigError(
            f"{label} was trained with {unknown[0]} {record[unknown[0]]!r}, which retrain does not "
            "have: give --method to train another model"
        )
    return options


def posterior_of(store: StoreReader, version: str) -> IntervalModel | None:
    """Read the posterior that a version was measured by; None where it has none, or samples.

    Raises
    ------
    DataError
        If its files are not those that were published.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(store.open(version))
        own = folder / BEFORE_REFIT if (folder / BEFORE_REFIT).is_dir() else folder
        known = load_intervals(own) if (own / POSTERIOR_FILE).is_file() else None
        return known if known is not None and isinstance(known.spread, Moments) else None


def warm_prior(
    prepared: PreparedRatings,
    known: IntervalModel | RidgeRows,
    model: AnyModel,
    name: str,
    warm_runs: int,
) -> Start:
    """Start from the posterior of a version, or from the rows of a ridge towards a mean."""
    if isinstance(known, RidgeRows):
        start, share = ridge_start(prepared, known, model)
        words = f"{share:.1%} of the rows start at version {name}"
    else:
        start, share = posterior_start(prepared, known, model)
        words = f"{share:.1%} of the rows start at the posterior of version {name}"
    return Start("warm", words, None, warm_runs, start)


class RidgeRows(NamedTuple):
    """Rows of a ridge towards a mean, in the order of its model's."""

    mean: float
    """m."""
    users: FloatArray
    """(n_users, D): bias, then factors."""
    items: FloatArray

    @property
    def rank(self) -> int:
        """Number of factors d, the bias not counted."""
        return int(self.users.shape[1]) - 1


def ridge_rows(model: AnyModel) -> RidgeRows | None:
    """Return the rows of a model that is a ridge towards a mean; None of others, and older ones."""
    record = model.description.get("posterior")
    mean = record.get("user_mean") if isinstance(record, Mapping) else None
    if not isinstance(mean, list) or not all(type(value) in (int, float) for value in mean):
        return None
    if len(mean) + 2 != model.rank or not np.isfinite(mean).all():
        return None
    objective = Objective.from_record(model.description, "the model's description")
    own = Factors(*(as_array(LargeSide(*model.side(side)).factors) for side in SIDES))
    return RidgeRows(objective.mean, *rows_of_ridge(own, np.array(mean, np.float64)))


def ridge_start(
    prepared: PreparedRatings, known: RidgeRows, model: AnyModel
) -> tuple[PosteriorStart, float]:
    """Return the rows of a ridge as a start, and the share of the rows that it knows.

    Rows of which ``model``, whose they are, has no training rating are not known.
    """
    sides: dict[Side, SideStart] = {}
    n_known = n_rows = 0
    for side, own in zip(SIDES, (known.users, known.items), strict=True):
        of_model = model.side(side)
        ids = prepared.summary.users if side == "user" else prepared.summary.items
        rows = of_model.ids.rows_of(ids.ids)
        found = (rows >= 0) & (of_model.stats.degrees > 0)[rows]
        nothing = np.empty((rows.size, 0))
        sides[side] = SideStart(found, own[rows], nothing, np.ones(rows.size), START_FREEDOM, 1.0)
        n_known += int(np.count_nonzero(found))
        n_rows += rows.size
    return PosteriorStart(known.mean, 1.0, sides), n_known / n_rows


def posterior_start(
    prepared: PreparedRatings, known: IntervalModel, model: AnyModel
) -> tuple[PosteriorStart, float]:
    """Return a posterior as a start, and the share of the rows that it knows.

    Rows of which ``model``, whose posterior it is, has no training rating are not known.

    Raises
    ------
    ConfigError
        If the posterior was sampled: samples are no start.
    DataError
        If the two have not the same ids.
    """
    moments, summary = known.spread, prepared.summary
    if not isinstance(moments, Moments):
        raise ConfigError(
            "the posterior of a sampled model has no covariances to start from: start at one of "
            "method=variational, or train anew"
        )
    sides: dict[Side, SideStart] = {}
    n_known = n_rows = 0
    for k, (side, ids, own) in enumerate(
        zip(SIDES, (summary.users, summary.items), (known.users, known.items), strict=True)
    ):
        rated = model.side(side).ids.rows_of(own.ids)
        if (rated < 0).any():
            raise DataError(
                f"the posterior of the current version has {side}s that its model lacks: publish "
                "another version with jobs/train.py"
            )
        usable = model.side(side).stats.degrees[rated] > 0
        rows = own.rows_of(ids.ids)
        found = rows >= 0
        found[found] = usable[rows[found]]
        sides[side] = SideStart(
            found,
            moments.rows[k][rows],
            moments.packed[k][rows],
            moments.scales[k][rows],
            moments.freedoms[k],
            moments.ridges[k],
        )
        n_known += int(np.count_nonzero(found))
        n_rows += rows.size
    return PosteriorStart(moments.mean, moments.noise, sides), n_known / n_rows
