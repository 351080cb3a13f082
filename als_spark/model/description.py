"""What ``model.json`` says of a model, and whether it can be meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from als_spark.errors import ConfigError
from als_spark.files.json_files import shortened
from als_spark.solve.objective import Objective

_COUNTS = (
    *("rank", "n_users", "n_items", "n_untrained_users", "n_untrained_items"),
    *("n_featured_users", "n_featured_items", "warm_runs"),
)
_OBJECTIVE = {"lambda_reg", "exponent"}


LEARNT = ("noise_deviation", "prior_deviations", "freedom", "r_hat", "effective_samples")
"""Keys of ``posterior`` that say what stands in the place of λ, and how far to trust it."""


def learnt_of(description: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a method has learnt in place of λ; None of a model whose λ was given."""
    posterior = description.get("posterior")
    if not isinstance(posterior, Mapping) or "noise_deviation" not in posterior:
        return None
    return {name: posterior[name] for name in LEARNT if name in posterior}


def check_description(description: Mapping[str, Any]) -> None:
    """Check every entry that a run reads; others are for people.

    A model of somebody else's may say nothing of its objective.

    Raises
    ------
    ValueError
        Names the entry, and its value.
    """
    for key in _COUNTS:
        least = 1 if key == "rank" else 0
        value = description.get(key, least)
        if type(value) is not int or value < least:
            raise ValueError(
                f"{key} is {shortened(repr(value))}, no whole number of at least {least}"
            )
    if description.get("dtype", "float32") not in ("float32", "float64"):
        raise ValueError(
            f"dtype is {shortened(repr(description['dtype']))}, neither float32 nor float64"
        )
    for key in sorted(_OBJECTIVE & description.keys()):
        value = description[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise ValueError(f"{key} is {shortened(repr(value))}, no number of at least 0")
    if description.keys() >= _OBJECTIVE:
        try:
            Objective.from_record(description, "its objective")
        except ConfigError as error:
            raise ValueError(str(error)) from error
