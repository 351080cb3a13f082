"""The state of a training between two iterations: all that a resume needs.

A state is plain data. :meth:`LoopState.as_record` and :meth:`LoopState.as_arrays` take it apart
into what JSON and array files hold; :func:`from_parts` puts it together again, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from als_spark.solve.objective import Objective
from als_spark.train.acceleration import Memory, Pair, Visit
from als_spark.train.backend import Factors
from als_spark.train.records import IterationRecord
from als_spark.train.spec import ModelSpec
from als_spark.types import FloatArray


@dataclass(frozen=True, slots=True)
class LoopState:
    """One model between two iterations.

    Attributes
    ----------
    spec : ModelSpec
    factors : Factors
        Those that the last iteration ended with, or the start.
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
    factors: Factors
    proposed: FloatArray | None = None
    memory: Memory | None = None
    evaluations: int = 0
    converged: bool = False
    stopped: bool = False
    history: tuple[IterationRecord, ...] = field(default=(), repr=False)

    @property
    def iterations(self) -> int:
        """Iterations done."""
        return len(self.history)

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
            "history": [[r.objective, r.change, r.seconds] for r in self.history],
        }

    def as_arrays(self) -> dict[str, FloatArray]:
        """Return the arrays by name, (n_rows, rank) each."""
        arrays = {"users": self.factors.users, "items": self.factors.items}
        if self.proposed is not None:
            arrays["proposed"] = self.proposed
        if self.memory is not None:
            if self.memory.last is not None:
                arrays["began"], arrays["residual"] = self.memory.last
            for k, pair in enumerate(self.memory.pairs):
                arrays[f"step_{k}"], arrays[f"change_{k}"] = pair
        return arrays


def from_parts(record: Mapping[str, Any], arrays: Mapping[str, FloatArray]) -> LoopState:
    """Put a state together again.

    Parameters
    ----------
    record : mapping
        From :meth:`LoopState.as_record`.
    arrays : mapping of str to array
        From :meth:`LoopState.as_arrays`.
    """
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
    return LoopState(
        spec,
        Factors(arrays["users"], arrays["items"]),
        arrays.get("proposed"),
        memory,
        record["evaluations"],
        record["converged"],
        record["stopped"],
        history,
    )
