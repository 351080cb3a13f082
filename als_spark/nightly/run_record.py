"""The record of a run: its one writer and its one reader.

``runs/<run>/run.json`` and the lines of ``history.jsonl`` are :meth:`RunRecord.as_dict`, and so is
what the report pages read; the small files of a version are parts of it. The types are plain frozen
dataclasses, so that what a run notes is checked by mypy and costs nothing; pydantic checks them
where they are read, since anybody may have written a file.

λ is ``reg`` in Python and ``lambda_reg`` in files; 0.1.0 called it ``lambda`` in ``training`` and
``reg`` in ``settings``, which is read too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, AliasChoices, Field, FiniteFloat, TypeAdapter

from als_spark.files.json_files import shortened
from als_spark.nightly.checks import Check
from als_spark.redaction import redact_all
from als_spark.solve.objective import MORE_KEYS, Objective
from als_spark.spark.read.degrees import Degrees
from als_spark.spark.read.facts import DataFacts, TableVersion
from als_spark.store.layout import parse

Metrics = dict[str, int | float | None]
"""Errors and ranking measures by name; None where one has no finite value."""

Exponent = Annotated[FiniteFloat, Field(ge=0)]
Alpha = Annotated[FiniteFloat, Field(ge=0)]
Reg = Annotated[
    FiniteFloat,
    Field(
        ge=0,
        validation_alias=AliasChoices("lambda_reg", "lambda", "reg"),
        serialization_alias="lambda_reg",
    ),
]
StartKind = Literal["warm", "cold"]


class Spec(NamedTuple):
    """Which model: its rank d and its objective."""

    rank: int
    objective: Objective


@dataclass(frozen=True)
class SourceRecord:
    """Where the ratings came from, and how each source was understood.

    ``read`` says it in words, ``parts`` with the columns and their types (see
    :meth:`als_spark.spark.read.sources.Source.part_records`), ``first_rows`` by examples.
    """

    label: str
    increments: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    parts: tuple[Mapping[str, Any], ...] = ()
    first_rows: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class DataRecord:
    """The ratings of a run: what reading them has told, then what packing them has.

    Those of the latter are None in a run that ended before.
    """

    ratings: int
    bad_rows: int = 0
    duplicates: int = 0
    changed_ids: int | None = None
    users: int | None = None
    items: int | None = None
    lowest: FiniteFloat | None = None
    highest: FiniteFloat | None = None
    mean: FiniteFloat | None = None
    spread: FiniteFloat | None = None
    fingerprint: str | None = None
    new_users: int | None = None
    new_items: int | None = None
    unknown_share: FiniteFloat | None = None
    tables: tuple[TableVersion, ...] = ()
    ratings_per_user: Degrees | None = None
    ratings_per_item: Degrees | None = None
    histogram: tuple[tuple[FiniteFloat, FiniteFloat, int], ...] = ()

    @property
    def facts(self) -> DataFacts | None:
        """What the data checks of the next run compare with; None where a part is missing."""
        values = {name: getattr(self, name) for name in DataFacts.__slots__}
        return None if None in values.values() else DataFacts(**values)

    def with_facts(self, facts: DataFacts) -> DataRecord:
        """Return the record with all facts."""
        return replace(self, **{name: getattr(facts, name) for name in DataFacts.__slots__})


@dataclass(frozen=True)
class TrainingSettings:
    """All that decides what is trained from a snapshot of given fingerprint."""

    rank: int
    reg: Reg
    exponent: Exponent
    split: str
    test_fraction: FiniteFloat
    seed: int
    tol: FiniteFloat
    max_iter: int
    dtype: str
    accelerate: bool
    implicit: bool = False
    alpha: Alpha = 1.0
    nonnegative: bool = False
    refit: bool = False
    method: str = "ridge"
    posterior: Mapping[str, Any] | None = None
    features: Mapping[str, Any] | None = None

    def same_as(self, other: TrainingSettings | None) -> bool:
        """Tell whether they decide the same: the same features may lie elsewhere."""
        return other is not None and self._decisive == other._decisive

    @property
    def _decisive(self) -> TrainingSettings:
        prints = {
            side: own.get("fingerprint") if isinstance(own, Mapping) else own
            for side, own in (self.features or {}).items()
        }
        return replace(self, features=prints or None)

    @property
    def spec(self) -> Spec:
        """Which model."""
        objective = Objective(self.reg, self.exponent, self.implicit, self.alpha, self.nonnegative)
        return Spec(self.rank, objective)


def objective_members(objective: Objective) -> dict[str, Any]:
    """Return the members of an objective by their names here: biases are none of a job's model."""
    return {name: getattr(objective, name) for name in ("reg", "exponent", *MORE_KEYS)}


@dataclass(frozen=True)
class SamplesRecord:
    """How the samples of a training settled.

    Attributes
    ----------
    burn_in : int
        Iterations before those that count.
    noise : tuple of float or None
        Standard deviation of the noise in each iteration: for the report, files do without.
    rmse : tuple of (int, float)
        Iteration, and RMSE of the held-out ratings by the mean of the samples so far.
    """

    burn_in: int
    noise: tuple[float | None, ...] = ()
    rmse: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class TrainingRecord:
    """What is told of a training; numbers as in :class:`~als_spark.train.records.PointResult`.

    Attributes
    ----------
    start : {"warm", "cold"}
        From the factors of the current version, or from random ones; ``reason`` says why.
    history : tuple of (int, float or None, float or None)
        Iteration, objective, change: for the report, files do without.
    learnt : mapping or None
        What a method has learnt in place of λ, as under ``posterior`` of a model's description.
    samples : SamplesRecord or None
        None of other methods.
    """

    start: StartKind
    reason: str
    rank: int
    reg: Reg
    exponent: Exponent
    iterations: int
    evaluations: int
    converged: bool
    objective: float | None
    seconds: float
    history: tuple[tuple[int, float | None, float | None], ...] = ()
    implicit: bool = False
    alpha: Alpha = 1.0
    nonnegative: bool = False
    learnt: Mapping[str, Any] | None = None
    samples: SamplesRecord | None = None


@dataclass(frozen=True)
class RefitRecord:
    """What is told of training the winner on with all ratings; all measures are from before.

    Attributes
    ----------
    ratings, held_out_before : int
        All ratings, and those of them that the model had not seen until then.
    """

    ratings: int
    held_out_before: int
    iterations: int
    evaluations: int
    converged: bool
    objective: float | None
    seconds: float
    measured: Literal["before the refit"] = "before the refit"

    def as_dict(self) -> dict[str, Any]:
        """Return what files have of it."""
        found: dict[str, Any] = _finite(asdict(self))
        return found


VersionMetrics = dict[str, int | float | str | None]
"""Metrics, and the ``version`` that they are of."""


def _only_version_is_text(values: VersionMetrics) -> VersionMetrics:
    for name, value in values.items():
        if isinstance(value, str) != (name == "version"):
            raise ValueError(f"{name} is {value!r}")
    return values


@dataclass(frozen=True)
class Comparison:
    """Challenger against champion, on the same ``holdout`` held-out ratings.

    The champion's metrics have its ``version`` among them; None where there was no champion.
    """

    measure: str
    margin: FiniteFloat
    holdout: int
    challenger: Metrics
    champion: Annotated[VersionMetrics, AfterValidator(_only_version_is_text)] | None
    verdict: str
    max_decline: FiniteFloat | None = None

    @property
    def champion_version(self) -> str | None:
        """Name of the champion's version."""
        version = (self.champion or {}).get("version")
        return version if isinstance(version, str) else None

    @property
    def champion_metrics(self) -> Metrics:
        """The champion's metrics; none without a champion."""
        values = (self.champion or {}).items()
        return {name: value for name, value in values if not isinstance(value, str)}


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run on a model store; any part may be missing.

    Attributes
    ----------
    run, job, started, finished : str
        Id of the run; name of the job; when, in UTC, ISO 8601.
    versions : mapping
        Of what the result may depend on.
    phase : str
        What the run does, or did when it ended.
    challenger, champion : dict
        Metrics of the model that was trained, and of the version that was current.
    features : mapping
        Of each side that has features: their source, columns, and how many rows have them.
    refit : RefitRecord
        Of the model that is served, where it was trained on with all ratings.
    version, previous_version : str
        The version that was published, and the one before.
    seconds : dict
        Of each phase, and ``total``.
    """

    run: str
    job: str | None = None
    started: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    phase: str | None = None
    source: SourceRecord | None = None
    settings: TrainingSettings | None = None
    data: DataRecord | None = None
    checks: tuple[Check, ...] = ()
    training: TrainingRecord | None = None
    features: Mapping[str, Any] | None = None
    challenger: Metrics | None = None
    champion: Metrics | None = None
    comparison: Comparison | None = None
    refit: RefitRecord | None = None
    version: str | None = None
    previous_version: str | None = None
    outcome: str | None = None
    exit_code: int | None = None
    sentence: str | None = None
    warnings: tuple[str, ...] = ()
    finished: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def read(record: Mapping[str, Any]) -> RunRecord:
        """Read what :meth:`as_dict` gave, or what 0.1.0 wrote; keys of the store are passed over.

        Raises
        ------
        ValueError
            Names the first key whose value is of another type, and the value.
        """
        return parse(_ADAPTER, record)

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it: NaN and infinite numbers become null.

        Keys and passwords in addresses are blotted out.
        Parts of the objective that are off have no key.
        """
        plain = _ADAPTER.dump_python(self, by_alias=True, mode="json")
        found: dict[str, Any] = redact_all(_finite(plain))
        for part in (found["settings"], found["training"]):
            if part is not None and not part["implicit"]:
                del part["implicit"], part["alpha"]
            if part is not None and not part["nonnegative"]:
                del part["nonnegative"]
        if found["features"] is None:
            del found["features"]
        if found["settings"] is not None and not found["settings"]["refit"]:
            del found["settings"]["refit"]
        if found["settings"] is not None and found["settings"]["method"] == "ridge":
            del found["settings"]["method"]
        for part, name in (
            ("settings", "posterior"),
            ("settings", "features"),
            ("training", "learnt"),
            ("training", "samples"),
        ):
            if found[part] is not None and found[part][name] is None:
                del found[part][name]
        return found

    @property
    def brief(self) -> RunRecord:
        """The record for a line of the history: without the training's curve."""
        if self.training is None:
            return self
        samples = self.training.samples
        if samples is not None:
            samples = replace(samples, noise=())
        return replace(self, training=replace(self.training, history=(), samples=samples))

    @property
    def version_files(self) -> dict[str, Any]:
        """What a version holds of the record besides its model, by file name."""
        metrics: dict[str, Any] = {"held_out": self.challenger}
        if self.comparison is not None:
            metrics |= {"champion": self.champion, "verdict": self.comparison.verdict}
        if self.refit is not None:
            metrics["refit"] = self.refit.as_dict()
        facts = None if self.data is None else self.data.facts
        return {
            "metrics.json": metrics,
            "fingerprint.json": {} if facts is None else facts.as_record(),
            "config.json": dict(self.config),
            "versions.json": dict(self.versions),
        }


_ADAPTER = TypeAdapter(RunRecord)


def read_records(
    history: Iterable[Mapping[str, Any]],
) -> tuple[list[RunRecord], list[str]]:
    """Read the lines of a history; return the records, and what is wrong with other lines."""
    records, problems = [], []
    for line in history:
        try:
            records.append(RunRecord.read(line))
        except ValueError as error:
            run = _one_line(line.get("run"))
            problems.append(
                f"history.jsonl: the line of run {run} is passed over ({error}): mend or delete it"
            )
    return records, problems


def _one_line(value: Any) -> str:
    return shortened(" ".join(str(value).split()))


def rounded_seconds(phases: Mapping[str, float], total: float) -> dict[str, float]:
    """Seconds of each phase and of the whole, for the files of a run."""
    return {**{name: round(taken, 3) for name, taken in phases.items()}, "total": round(total, 3)}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
