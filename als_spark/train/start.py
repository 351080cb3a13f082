"""Where a training begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from als_spark.errors import ConfigError
from als_spark.train.acceleration import Memory, history_length
from als_spark.train.backend import Backend, Factors
from als_spark.train.spec import ModelSpec, TrainingOptions
from als_spark.train.state import LoopState


def initial_factors(n_users: int, n_items: int, rank: int, seed: int) -> Factors:
    """Draw the start: uniform on [0, 1), float64.

    Row k of a side depends on the seed, the side, the rank and k alone, so nothing depends on how
    the ratings lie.

    Parameters
    ----------
    n_users, n_items, rank : int
        Shape of the factors.
    seed : int
        Any non-negative integer.
    """
    users, items = (
        np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, side]))).random(
            (n, rank)
        )
        for side, n in enumerate((n_users, n_items))
    )
    return Factors(users, items)


def start_states(
    backend: Backend,
    specs: Sequence[ModelSpec],
    options: TrainingOptions,
    starts: Sequence[Factors] | None = None,
) -> list[LoopState]:
    """Return the state of each model before its first iteration.

    Parameters
    ----------
    backend : Backend
        Says how many users and items there are.
    specs : sequence of ModelSpec
    options : TrainingOptions
        What the models share.
    starts : sequence of Factors, optional
        Starting factors, one a model, (n_users, rank) and (n_items, rank); drawn by
        :func:`initial_factors` if not given.

    Raises
    ------
    ConfigError
        If a start has the wrong shape, or there is not one for each model.
    """
    if starts is not None and len(starts) != len(specs):
        raise ConfigError(
            f"{len(starts)} starts given for {len(specs)} models: give one for each model"
        )
    sizes = backend.degrees("user").size, backend.degrees("item").size
    memory = None
    if options.accelerate:
        ranks = [spec.rank for spec in specs]
        memory = Memory(history_length(sizes[1], ranks, np.dtype(options.dtype).itemsize))
    states = []
    for k, spec in enumerate(specs):
        drawn = initial_factors(*sizes, spec.rank, options.seed) if starts is None else starts[k]
        expected = ((sizes[0], spec.rank), (sizes[1], spec.rank))
        if (drawn.users.shape, drawn.items.shape) != expected:
            raise ConfigError(
                f"starting factors of shapes {drawn.users.shape} and {drawn.items.shape} given, "
                f"{expected[0]} and {expected[1]} needed: one row for each user and each item"
            )
        factors = Factors(*(side.astype(options.dtype) for side in drawn))
        states.append(LoopState(spec, factors, memory=memory))
    return states
