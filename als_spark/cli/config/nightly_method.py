"""The method that a nightly run trains by: as given, or as the current version has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from als_spark.cli.config.method import Given, refuse_shuffle, refuse_without_effect
from als_spark.errors import ConfigError
from als_spark.nightly.features import (
    NONE,
    FeatureSource,
    remembered_columns,
    remembered_path,
)
from als_spark.nightly.method import Earlier, options_of
from als_spark.train.bayes.options import (
    Covariance,
    NoiseChoice,
    PosteriorMethod,
    PosteriorOptions,
)
from als_spark.types import SIDES, DType, ExchangeChoice, Side

_OF_RIDGE = ("implicit", "alpha", "nonnegative", "accelerate")
_OF_SAMPLES = ("burn_in", "samples")
_LEARNT = (*_OF_SAMPLES, "noise", "covariance")
REFUSED: dict[str, tuple[str, ...]] = {
    "variational": (*_OF_RIDGE, *_OF_SAMPLES, "reg", "exponent", "feature_ridge"),
    "sample": (*_OF_RIDGE, "reg", "exponent", "feature_ridge", "covariance", "tol", "max_iter"),
    "ridge": (*_OF_RIDGE, *_LEARNT),
}
"""What has no effect with a method that learns its prior."""
GIVEN = {
    "rank": "rank",
    "noise": "noise",
    "covariance": "covariance",
    "implicit_features": "n_features",
    "reg": "reg",
    "exponent": "exponent",
    "feature_ridge": "feature_ridge",
    "burn_in": "burn_in",
    "samples": "samples",
    "tol": "tol",
    "max_iter": "max_iter",
}
"""Names of the options by those of the configuration."""


class NightlyConfig(Given, Protocol):
    """What is read of the configuration of a nightly run."""

    @property
    def method(self) -> PosteriorMethod | None: ...  # noqa: D102
    @property
    def noise(self) -> NoiseChoice | None: ...  # noqa: D102
    @property
    def covariance(self) -> Covariance | None: ...  # noqa: D102
    @property
    def implicit_features(self) -> int | None: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def dtype(self) -> DType: ...  # noqa: D102
    @property
    def exchange(self) -> ExchangeChoice: ...  # noqa: D102
    @property
    def feature_sources(self) -> dict[Side, FeatureSource]: ...  # noqa: D102
    def feature_source(  # noqa: D102
        self, side: Side, path: str, chosen: tuple[str, ...], origin: str | None
    ) -> FeatureSource: ...


def nightly_posterior(
    config: NightlyConfig, earlier: Earlier | None, origin: str | None
) -> PosteriorOptions | None:
    """Say what trains with a learnt prior; None: a ridge towards zero.

    The options of an earlier model of the same method stay where none are given.

    Raises
    ------
    ConfigError
        If an option has no effect with the method, or that of the model cannot be kept.
    """
    method, base = _method_of(config, earlier, origin)
    features = config.implicit_features
    if features is None:
        features = 0 if base is None else base.n_features
    known = _known_features(base, earlier)
    sides = [side for side in SIDES if _has_features(config, side, known)]
    why = "" if config.method is not None or base is None else f", as {origin} has it"
    chosen = f"--method {method}" + (f" --implicit-features {features}" if features else "")
    chosen += f" with features of {' and '.join(f'{side}s' for side in sides)}" if sides else ""
    if method == "ridge" and features == 0 and not sides:
        refuse_without_effect(config, (*_LEARNT, "feature_ridge"), f"{chosen}{why}")
        return None
    refuse_without_effect(config, REFUSED[method], f"{chosen}{why}")
    refuse_shuffle(config.exchange, f"{chosen}{why}")
    given: dict[str, Any] = {
        theirs: getattr(config, ours)
        for ours, theirs in GIVEN.items()
        if ours in config.model_fields_set and getattr(config, ours) is not None
    }
    start = PosteriorOptions(method) if base is None else base
    return replace(start, **given, seed=config.seed, dtype=config.dtype)


def nightly_features(
    config: NightlyConfig, earlier: Earlier | None, origin: str | None
) -> dict[Side, FeatureSource]:
    """Say where the features of rows come from: as given, else as an earlier model has them.

    Those of a model of another method do not stay, as its other options do not.

    Raises
    ------
    ConfigError
        If columns are given without a file that has them, or the model does not say where its
        features are.
    """
    _, base = _method_of(config, earlier, origin)
    known = _known_features(base, earlier)
    found: dict[Side, FeatureSource] = {}
    for side in SIDES:
        given, columns = _given_features(config, side)
        if _has_features(config, side, known):
            record, label = known.get(side), str(origin)
            if record is not None and not columns:
                columns = remembered_columns(record, side, label)
            path = given or remembered_path(record, side, label)
            found[side] = config.feature_source(side, path, columns, None if given else label)
        elif columns:
            raise ConfigError(
                f"--{side}-feature-cols {' '.join(columns)} without --{side}-features: has no "
                "effect: give the file that has these columns"
            )
    return found


def _method_of(
    config: NightlyConfig, earlier: Earlier | None, origin: str | None
) -> tuple[PosteriorMethod, PosteriorOptions | None]:
    """Return the method, and the options that stay; None: those of no earlier model."""
    base = _options_of(config, earlier, origin)
    method: PosteriorMethod = config.method or ("ridge" if base is None else base.method)
    return method, base if base is not None and base.method == method else None


def _given_features(config: NightlyConfig, side: Side) -> tuple[str | None, tuple[str, ...]]:
    """Return path and columns of the features of a side, as given."""
    return getattr(config, f"{side}_features"), getattr(config, f"{side}_feature_cols")


def _known_features(base: PosteriorOptions | None, earlier: Earlier | None) -> Mapping[str, Any]:
    """Return what an earlier model has of features that stay, by side."""
    if base is None or earlier is None or not isinstance(earlier.features, Mapping):
        return {}
    return earlier.features


def _has_features(config: NightlyConfig, side: Side, known: Mapping[str, Any]) -> bool:
    given, _ = _given_features(config, side)
    return given != NONE and (given is not None or side in known)


def _options_of(
    config: NightlyConfig, earlier: Earlier | None, origin: str | None
) -> PosteriorOptions | None:
    if earlier is None:
        return None
    try:
        return options_of(earlier.posterior, str(origin))
    except ConfigError:
        # Of another method it may be as it is.
        if config.method is None:
            raise
        return None
