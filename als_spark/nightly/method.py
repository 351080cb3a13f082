"""The method of a version, and what a nightly training goes on from: for retrain."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from als_spark.errors import ConfigError, DataError
from als_spark.model.files import BEFORE_REFIT
from als_spark.model.intervals import POSTERIOR_FILE, IntervalModel, load_intervals
from als_spark.model.large_model import AnyModel
from als_spark.nightly.run_record import Spec
from als_spark.nightly.starts import Start
from als_spark.spark.train.run import PreparedRatings
from als_spark.store.reading import StoreReader
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.bayes.warm import PosteriorStart, SideStart
from als_spark.types import SIDES, Side

_LEARNT = {"noise_deviation", "bound", "r_hat", "effective_samples", "freedom"}
"""Keys of a description that say what came out."""
_OF_THE_RUN = {"seed", "dtype"}
"""Options that each run has of its own."""


class Earlier(NamedTuple):
    """The current version, or what the last run would have made, as a pattern."""

    spec: Spec
    posterior: Any = None
    """Its options as a file has them, for :func:`options_of`; None: a ridge towards zero."""


class Choice(NamedTuple):
    """What a run trains."""

    spec: Spec
    posterior: PosteriorOptions | None = None
    """What trains with a learnt prior; None: a ridge towards zero."""


def options_record(options: PosteriorOptions) -> dict[str, Any]:
    """Return the options as the settings of a run have them: those that decide something."""
    record = {**asdict(options), "rank": options.n_factors, "tol": options.tolerance}
    if options.covariance is None:
        # As files of earlier versions have it.
        del record["covariance"]
    return {key: value for key, value in record.items() if key not in _OF_THE_RUN}


def method_record(description: Mapping[str, Any]) -> Any:
    """Return what the description of a model has of its method, for :func:`options_of`.

    None of a ridge towards zero. Features from files or tables are among it.
    """
    record, features = description.get("posterior"), description.get("features")
    if isinstance(record, Mapping) and isinstance(features, Mapping) and features:
        return {**record, "features": f"of {' and '.join(f'{side}s' for side in features)}"}
    return record


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
    """Read the posterior that a version was measured by; None where it has none.

    Raises
    ------
    DataError
        If its files are not those that were published.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(store.open(version))
        own = folder / BEFORE_REFIT if (folder / BEFORE_REFIT).is_dir() else folder
        return load_intervals(own) if (own / POSTERIOR_FILE).is_file() else None


def warm_posterior(
    prepared: PreparedRatings,
    known: IntervalModel,
    model: AnyModel,
    name: str,
    warm_runs: int,
) -> Start:
    """Start from the posterior of a version."""
    start, share = posterior_start(prepared, known, model)
    words = f"{share:.1%} of the rows start at the posterior of version {name}"
    return Start("warm", words, None, warm_runs, start)


def posterior_start(
    prepared: PreparedRatings, known: IntervalModel, model: AnyModel
) -> tuple[PosteriorStart, float]:
    """Return a posterior as a start, and the share of the rows that it knows.

    Rows of which ``model``, whose posterior it is, has no training rating are not known.

    Raises
    ------
    DataError
        If the two have not the same ids.
    """
    moments, summary = known.moments, prepared.summary
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
