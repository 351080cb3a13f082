"""The state of a training before its first and between two iterations: all that a resume needs.

A state is plain data. :meth:`LoopState.as_record` and :meth:`LoopState.as_arrays` take it apart
into what JSON and array files hold; :func:`from_parts` puts it together again, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from als_spark.errors import ConfigError
from als_spark.solve.objective import Objective
from als_spark.train.acceleration import Memory, Pair, Visit, history_length
from als_spark.train.backend import (
    AnyFactors,
    Backend,
    Factors,
    HeldFactors,
    Start,
    SummedFactors,
    as_array,
)
from als_spark.train.records import IterationRecord, ModelSpec, Options, options_of_each
from als_spark.types import SIDES, FloatArray


@dataclass(frozen=True, slots=True)
class LoopState:
    """One model between two iterations.

    Attributes
    ----------
    spec : ModelSpec
    factors : HeldFactors
        Those that the last iteration ended with, or the start; with biases they have a column more
        than the rank (see :mod:`als_spark.solve.biases`).
    proposed : (n_items, rank) or None
        Item factors at which the next iteration begins, where they are not ``factors.items``:
        an accelerated step.
    memory : Memory or None
        What the accelerator has learnt; None where it is off, or the model has stopped.
    evaluations : int
        Half-steps of the users: one an iteration, and one for each accelerated step not taken.
    converged : bool
        Whether the stopping rule has ended the training.
    stopped : bool
        Whether the rule or the cap has.
    history : tuple of IterationRecord
        One record an iteration.
    """

    spec: ModelSpec
    factors: HeldFactors
    proposed: FloatArray | None = None
    memory: Memory | None = None
    evaluations: int = 0
    converged: bool = False
    stopped: bool = False
    history: tuple[IterationRecord, ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        """Say which model it is, and how far it has come."""
        how = "converged" if self.converged else "stopped" if self.stopped else "not stopped"
        spec = self.spec
        return (
            f"<LoopState: rank {spec.rank}, λ = {spec.objective.reg:g}, "
            f"{self.iterations} iterations, {how}>"
        )

    @property
    def iterations(self) -> int:
        """Iterations done."""
        return len(self.history)

    @property
    def plain_factors(self) -> HeldFactors:
        """Factors whose dot products are the predictions; with biases, of two columns more."""
        return HeldFactors(*self.factors).plain(self.spec.objective)

    @property
    def objective(self) -> float:
        """Value of the objective after the last iteration; NaN before the first."""
        return self.history[-1].objective if self.history else math.nan

    @property
    def seconds(self) -> float:
        """Seconds that the training has taken so far."""
        return self.history[-1].seconds if self.history else 0.0

    def as_record(self) -> dict[str, Any]:
        """Return everything but the arrays, as JSON has it."""
        memory = self.memory
        return {
            "point": self.spec.point,
            "rank": self.spec.rank,
            **self.spec.objective.as_record(),
            "accelerator": memory and {"limit": memory.limit, "reach": memory.reach},
            "evaluations": self.evaluations,
            "converged": self.converged,
            "stopped": self.stopped,
            "history": [_numbers_of(record) for record in self.history],
        }

    def as_arrays(self) -> dict[str, FloatArray]:
        """Return the arrays by name, (n_rows, rank) each."""
        return {name: as_array(array) for name, array in self.held_arrays().items()}

    def held_arrays(self) -> dict[str, AnyFactors]:
        """Return the arrays by name, wherever they are."""
        arrays: dict[str, AnyFactors] = {"users": self.factors.users, "items": self.factors.items}
        for name, held in zip(("users", "items"), self.factors, strict=True):
            gram = getattr(held, "gram", None)
            if gram is not None:
                arrays[f"{name}_gram"] = gram
        if self.proposed is not None:
            arrays["proposed"] = self.proposed
        if self.memory is not None:
            if self.memory.last is not None:
                arrays["began"], arrays["residual"] = self.memory.last
            for k, pair in enumerate(self.memory.pairs):
                arrays[f"step_{k}"], arrays[f"change_{k}"] = pair
        return arrays


def _numbers_of(record: IterationRecord) -> list[float]:
    numbers = [record.objective, record.change, record.seconds]
    return numbers if math.isnan(record.penalty) else [*numbers, record.penalty]


def start_states(
    backend: Backend,
    specs: Sequence[ModelSpec],
    options: Options,
    starts: Sequence[Factors | None] | None = None,
) -> list[LoopState]:
    """Return the state of each model before its first iteration.

    Parameters
    ----------
    backend : Backend
        Says how many users and items there are.
    specs : sequence of ModelSpec
    options : TrainingOptions or sequence of TrainingOptions
        Of all models, or of each.
    starts : sequence of Factors or None, optional
        Starting factors, one a model, (n_users, rank) and (n_items, rank); drawn by
        :func:`als_spark.train.start.initial_factors` if not given, as is a side of no rows. Biases
        start at 0.

    Raises
    ------
    ConfigError
        If a start has the wrong shape, or there are not options, or a start, for each model; or if
        the numbers of an objective would overflow.
    """
    if starts is not None and len(starts) != len(specs):
        raise ConfigError(
            f"{len(starts)} starts given for {len(specs)} models: give one for each model"
        )
    sizes = backend.degrees("user").size, backend.degrees("item").size
    most = max(int(backend.degrees(side).max(initial=0)) for side in SIDES)
    each = options_of_each(options, len(specs))
    fast = [
        spec.objective.columns(spec.rank)
        for spec, own in zip(specs, each, strict=True)
        if own.accelerate
    ]
    given = starts or [None] * len(specs)
    for spec, start in zip(specs, given, strict=True):
        if start is not None:
            _check_start(start, sizes, spec.rank)
        spec.objective.check_size(most)
    sides = [
        backend.start(
            side,
            [
                Start(
                    *(spec.rank, own.seed, own.dtype, spec.objective.columns(spec.rank)),
                    None if start is None or len(start[k]) == 0 else start[k],
                )
                for spec, own, start in zip(specs, each, given, strict=True)
            ],
        )
        for k, side in enumerate(SIDES)
    ]
    states = []
    for spec, own, *factors in zip(specs, each, *sides, strict=True):
        memory = None
        if own.accelerate and own.max_iter:
            memory = Memory(history_length(sizes[1], fast, np.dtype(own.dtype).itemsize))
        held = HeldFactors(*factors)
        states.append(LoopState(spec, held, memory=memory, stopped=own.max_iter == 0))
    return states


def _check_start(start: Factors, sizes: tuple[int, int], rank: int) -> None:
    expected = ((sizes[0], rank), (sizes[1], rank))
    found = start.users.shape, start.items.shape
    if any(own not in (whole, (0, rank)) for own, whole in zip(found, expected, strict=True)):
        raise ConfigError(
            f"starting factors of shapes {start.users.shape} and {start.items.shape} given, "
            f"{expected[0]} and {expected[1]} needed: one row for each user and each item"
        )


def from_parts(record: Mapping[str, Any], arrays: Mapping[str, FloatArray]) -> LoopState:
    """Put the record and the arrays of a state together again."""
    objective = Objective.from_record(record, "the state of the training")
    spec = ModelSpec(record["point"], record["rank"], objective)
    memory, known = None, record["accelerator"]
    if known is not None:
        pairs: list[Pair] = []
        while f"step_{len(pairs)}" in arrays:
            pairs.append(Pair(arrays[f"step_{len(pairs)}"], arrays[f"change_{len(pairs)}"]))
        last = Visit(arrays["began"], arrays["residual"]) if "began" in arrays else None
        memory = Memory(known["limit"], tuple(pairs), last, known["reach"])
    history = tuple(
        IterationRecord(spec.point, spec.rank, objective.reg, k + 1, *values)
        for k, values in enumerate(record["history"])
    )
    held: list[AnyFactors] = [arrays["users"], arrays["items"]]
    for k, name in enumerate(("users", "items")):
        if f"{name}_gram" in arrays:
            held[k] = SummedFactors(arrays[name], arrays[f"{name}_gram"])
    return LoopState(
        spec,
        HeldFactors(*held),
        arrays.get("proposed"),
        memory,
        record["evaluations"],
        record["converged"],
        record["stopped"],
        history,
    )
