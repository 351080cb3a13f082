"""What a training keeps so that another process can continue it: see :class:`Checkpoint`.

The states of the running models are kept now and then, each finished point once. A point that was
finished after the last states were kept is in both; the finished one counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

from als_spark.errors import ConfigError
from als_spark.train.backend import Backend, Factors
from als_spark.train.metrics import ErrorSums
from als_spark.train.records import (
    ModelSpec,
    Options,
    RankingMeans,
    TrainingOptions,
    options_of_each,
)
from als_spark.train.state import LoopState, from_parts, start_states
from als_spark.types import FloatArray, SplitName

_FORM = re.compile(r"([1-9][0-9]{0,8})(m?)")


class Finished(NamedTuple):
    """A finished point, as a collector takes it."""

    trained: LoopState
    sums: Mapping[SplitName, ErrorSums]
    rankings: Mapping[SplitName, RankingMeans]


@dataclass(frozen=True, slots=True)
class Interval:
    """How often states are kept: after so many iterations, or so many seconds."""

    iterations: int | None = None
    seconds: float | None = None

    @staticmethod
    def parse(text: str) -> Interval:
        """Read ``5``, iterations, or ``10m``, minutes; ConfigError if it is neither."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"--checkpoint-every {text}: not usable: give a number of iterations, such as 5, "
                "or of minutes, such as 10m"
            )
        number = int(found[1])
        return Interval(seconds=60.0 * number) if found[2] else Interval(iterations=number)

    def is_over(self, iterations: int, seconds: float) -> bool:
        """Tell whether so much since the last time is enough."""
        if self.iterations is not None:
            return iterations >= self.iterations
        return self.seconds is not None and seconds >= self.seconds


class Checkpoint(Protocol):
    """Where a training keeps what it has; called from several threads."""

    def finished(self) -> Iterator[Finished]:
        """Give the points that earlier processes have finished, one at a time."""
        ...

    def running(self) -> list[LoopState]:
        """Return the states that were kept last, without those of finished points."""
        ...

    def keep_states(self, states: Sequence[LoopState]) -> None:
        """Take the states of all models after an iteration; they are kept if it is time."""
        ...

    def keep_finished(self, finished: Finished) -> None:
        """Keep a finished point."""
        ...


def states_left(
    backend: Backend,
    specs: Sequence[ModelSpec],
    options: Options,
    starts: Sequence[Factors | None] | None,
    checkpoint: Checkpoint,
    add: Callable[[LoopState, Any, Any], None],
) -> tuple[list[LoopState], list[TrainingOptions]]:
    """Return what is left to train, and how; ``add`` takes the points that are finished."""
    each = options_of_each(options, len(specs))
    done = set()
    for finished in checkpoint.finished():
        add(*finished)
        done.add(finished.trained.spec.point)
    known = {state.spec.point: state for state in checkpoint.running()}
    left = [k for k, spec in enumerate(specs) if spec.point not in done]
    if all(specs[k].point in known for k in left):
        return [known[specs[k].point] for k in left], [each[k] for k in left]
    # Of all points: what an accelerator may keep is shared out among them.
    fresh = start_states(backend, specs, each, starts)
    return [known.get(specs[k].point, fresh[k]) for k in left], [each[k] for k in left]


def state_record(state: LoopState) -> dict[str, Any]:
    """Return the record of a state for JSON, in which no number is other than finite."""
    record: dict[str, Any] = _finite(state.as_record())
    return record


def state_of(record: Mapping[str, Any], arrays: Mapping[str, FloatArray]) -> LoopState:
    """Put the record of :func:`state_record` and the arrays of a state together again."""
    history = [[float(number) for number in numbers] for numbers in record["history"]]
    return from_parts({**record, "history": history}, arrays)


def measures_record(finished: Finished) -> dict[str, Any]:
    """Return the measures of a finished point for JSON."""
    record: dict[str, Any] = _finite(
        {
            "errors": {split: asdict(sums) for split, sums in finished.sums.items()},
            "rankings": {split: asdict(means) for split, means in finished.rankings.items()},
        }
    )
    return record


def finished_of(trained: LoopState, record: Mapping[str, Any]) -> Finished:
    """Put a finished point and the record of :func:`measures_record` together again."""
    sums: dict[SplitName, ErrorSums] = {
        split: ErrorSums(
            float(part["squared"]), float(part["absolute"]), part["count"], part["cold"]
        )
        for split, part in record["errors"].items()
    }
    rankings: dict[SplitName, RankingMeans] = {
        split: _means_of(part) for split, part in record["rankings"].items()
    }
    return Finished(trained, sums, rankings)


def _means_of(record: Mapping[str, Any]) -> RankingMeans:
    measures: dict[str, Any] = {
        name: value if name in ("users", "top") else float(value) for name, value in record.items()
    }
    return RankingMeans(**measures)


def _finite(value: Any) -> Any:
    """Write numbers that JSON lacks as text, which ``float`` reads."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and value - value != 0.0:
        return str(value)
    return value
