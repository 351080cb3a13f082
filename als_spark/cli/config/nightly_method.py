"""The method that a nightly run trains by: as given, or as the current version has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from als_spark.cli.config.method import Given, refuse_shuffle, refuse_without_effect
from als_spark.errors import ConfigError
from als_spark.nightly.method import Earlier, options_of
from als_spark.train.bayes.options import (
    Covariance,
    NoiseChoice,
    PosteriorMethod,
    PosteriorOptions,
)
from als_spark.types import DType, ExchangeChoice

_OF_RIDGE = ("implicit", "alpha", "nonnegative", "accelerate")
REFUSED: dict[str, tuple[str, ...]] = {
    "variational": (*_OF_RIDGE, "reg", "exponent"),
    "sample": (*_OF_RIDGE, "reg", "exponent", "covariance", "tol", "max_iter"),
    "ridge": (*_OF_RIDGE, "noise", "covariance"),
}
"""What has no effect with a method that learns its prior."""
GIVEN = {
    "rank": "rank",
    "noise": "noise",
    "covariance": "covariance",
    "implicit_features": "n_features",
    "reg": "reg",
    "exponent": "exponent",
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
    base = _options_of(config, earlier, origin)
    method: PosteriorMethod = config.method or ("ridge" if base is None else base.method)
    if base is not None and base.method != method:
        base = None
    features = config.implicit_features
    if features is None:
        features = 0 if base is None else base.n_features
    why = "" if config.method is not None or base is None else f", as {origin} has it"
    if method == "ridge" and features == 0:
        refuse_without_effect(config, ("noise", "covariance"), f"--method ridge{why}")
        return None
    chosen = f"--method {method}" + (f" --implicit-features {features}" if features else "")
    refuse_without_effect(config, REFUSED[method], f"{chosen}{why}")
    refuse_shuffle(config.exchange, f"{chosen}{why}")
    given: dict[str, Any] = {
        theirs: getattr(config, ours)
        for ours, theirs in GIVEN.items()
        if ours in config.model_fields_set and getattr(config, ours) is not None
    }
    start = PosteriorOptions(method) if base is None else base
    return replace(start, **given, seed=config.seed, dtype=config.dtype)


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
