"""What a method that trains a model makes of the other options: for train and retrain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from als_spark.cli.config.settings import option_name
from als_spark.errors import ConfigError
from als_spark.types import ExchangeChoice


class Given(Protocol):
    """A configuration that knows which of its fields were given."""

    @property
    def model_fields_set(self) -> set[str]: ...  # noqa: D102


def refuse_without_effect(
    config: Given, names: Iterable[str], chosen: str, else_: str = "use another method"
) -> None:
    """Refuse options that would have no effect with what was chosen.

    Raises
    ------
    ConfigError
        If one of them is given.
    """
    for name in names:
        value = getattr(config, name)
        if name in config.model_fields_set and value is not None and value is not False:
            words = ",".join(f"{one:g}" for one in value) if isinstance(value, tuple) else value
            shown = option_name(name) + ("" if value is True else f" {words}")
            raise ConfigError(f"{shown} with {chosen}: has no effect: leave it out, or {else_}")


def refuse_shuffle(exchange: ExchangeChoice, chosen: str) -> None:
    """Refuse to shuffle factors where a prior is learnt.

    Raises
    ------
    ConfigError
        If that was chosen.
    """
    if exchange == "shuffle":
        raise ConfigError(
            f"--exchange shuffle with {chosen}: not usable: every worker needs what is known of "
            "all rows of the other side: leave one of the two out"
        )
