"""The best point of a sweep, read from its output folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from als_spark.cli.config.model import Method
from als_spark.cli.config.ratings import Exponent, Rank, Reg
from als_spark.cli.config.settings import Count, CountOrNone
from als_spark.errors import ConfigError
from als_spark.files.json_files import decode, decode_value
from als_spark.files.places import local_path
from als_spark.nightly.run_record import Alpha, Spec
from als_spark.solve.objective import Objective
from als_spark.store.layout import parse
from als_spark.train.bayes.options import Covariance, NoiseChoice

RESULTS_FILE, RUN_FILE = "results.json", "run.json"


@dataclass(frozen=True)
class _Point:
    d: Rank
    lambda_reg: Reg | None


@dataclass(frozen=True)
class _RidgePoint:
    lambda_reg: Reg


@dataclass(frozen=True)
class _Config:
    """What the points have in common; sweeps of 0.1.0 know the exponent alone."""

    exponent: Exponent | None
    implicit: bool = False
    alpha: Alpha | None = None
    nonnegative: bool = False
    method: Method = "ridge"
    noise: NoiseChoice | None = None
    covariance: Covariance | None = None
    implicit_features: CountOrNone | None = None
    feature_ridge: Reg | None = None
    burn_in: CountOrNone | None = None
    samples: Count | None = None


_OF_RIDGE = ("exponent", "implicit", "alpha", "nonnegative")
_OF_PRIOR = (
    *("exponent", "noise", "covariance", "implicit_features", "feature_ridge"),
    *("burn_in", "samples"),
)


@dataclass(frozen=True)
class _Run:
    config: _Config


@dataclass(frozen=True)
class _RidgeConfig:
    exponent: Exponent


@dataclass(frozen=True)
class _RidgeRun:
    config: _RidgeConfig


_POINT, _RUN = TypeAdapter(_Point), TypeAdapter(_Run)
_RIDGE_POINT, _RIDGE_RUN = TypeAdapter(_RidgePoint), TypeAdapter(_RidgeRun)


def best_of_sweep(folder: str) -> Spec | dict[str, Any]:
    """Return the best point of a sweep's output folder.

    Where a prior is learnt, or rows are drawn towards a mean, it is fields of the configuration of
    the job that trains one model.

    Raises
    ------
    ConfigError
        If the folder holds no results of a sweep, or damaged ones.
    """
    path = local_path(folder)
    name = RESULTS_FILE
    try:
        if path is None:
            raise OSError("only folders of this machine are read")
        point = parse(_POINT, _best(path / RESULTS_FILE))
        name = RUN_FILE
        run = decode((path / RUN_FILE).read_bytes())
        config = parse(_RUN, run).config
        known = {key: value for key, value in asdict(config).items() if value is not None}
        if config.method != "ridge" or config.implicit_features:
            given = {} if point.lambda_reg is None else {"reg": point.lambda_reg}
            own = {key: known[key] for key in _OF_PRIOR if key in known}
            return {"method": config.method, "rank": point.d, **given, **own}
        parse(_RIDGE_RUN, run)
        members = {key: known[key] for key in _OF_RIDGE if key in known}
        name = RESULTS_FILE
        reg = parse(_RIDGE_POINT, _best(path / RESULTS_FILE)).lambda_reg
        name = RUN_FILE
        return Spec(point.d, Objective(reg, **members))
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else None
        reason = " ".join((said or str(error)).split())
        raise ConfigError(
            f"--from-sweep {folder}: no results of a sweep there ({name}: {reason}): give the "
            f"output folder of jobs/sweep.py, with {RESULTS_FILE} and {RUN_FILE} in it"
        ) from error


def _best(path: Path) -> Mapping[str, Any]:
    records = decode_value(path.read_bytes())
    for record in records if isinstance(records, list) else ():
        if isinstance(record, dict) and record.get("best") is True:
            return record
    raise ValueError("no point is marked as the best")
