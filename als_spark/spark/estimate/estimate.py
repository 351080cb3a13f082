"""The estimate of a training: what it decides, sends and needs, and what its cluster lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from als_spark.spark.estimate.findings import Finding, findings
from als_spark.spark.estimate.memory import Need, beyond_heap, memory
from als_spark.spark.estimate.reasons import reasons
from als_spark.spark.estimate.resources import Resources
from als_spark.spark.estimate.seconds import seconds
from als_spark.spark.estimate.work import Run, Traffic, Workload, traffic
from als_spark.spark.planner import Plan, Sizes, plan
from als_spark.types import ExchangeChoice, ExchangeName, PlacementChoice, Side

DEFAULT_WORKLOAD = Workload()


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a training needs: see :func:`estimate_training`.

    Attributes
    ----------
    plan : Plan
        How it uses the cluster.
    resources : Resources
        The cluster.
    workload : Workload
    reasons : mapping of str to str
        Why placement and exchanges are what they are, by ``placement``, ``user`` and ``item``.
    traffic : mapping of side to Traffic
        Bytes that the half-steps of each side send in an iteration of all models.
    memory : mapping of str to Need
        Bytes by process.
    seconds : mapping of str to float
        Of an iteration of all models, by what they are spent on.
    findings : list of Finding
        What the cluster is too small for.
    """

    plan: Plan
    resources: Resources
    workload: Workload
    reasons: Mapping[str, str]
    traffic: Mapping[Side, Traffic]
    memory: Mapping[str, Need]
    seconds: Mapping[str, float]
    findings: list[Finding]

    @property
    def iteration(self) -> float:
        """Seconds of an iteration of all models."""
        return sum(self.seconds.values())

    @property
    def trainable(self) -> bool:
        """Whether nothing ends the training for certain."""
        return not any(finding.certain for finding in self.findings)

    @property
    def arriving(self) -> int:
        """Bytes that an executor gets in an iteration: all broadcasts, and its part of shuffles."""
        n = self.resources.executors
        return sum(
            sent.broadcast + sent.shuffled * (n - 1) // n // n for sent in self.traffic.values()
        )

    def as_record(self) -> dict[str, Any]:
        """Return the estimate as JSON has it."""
        sizes = self.plan.sizes
        return {
            "counts": {
                "users": sizes.n_users,
                "items": sizes.n_items,
                "ratings": sizes.n_ratings,
            },
            "ranks": list(sizes.ranks),
            "itemsize": sizes.itemsize,
            "workload": asdict(self.workload),
            "cluster": asdict(self.resources),
            "plan": self.plan.as_record(),
            "reasons": dict(self.reasons),
            "bytes_an_iteration": {side: asdict(sent) for side, sent in self.traffic.items()},
            "bytes_to_an_executor": self.arriving,
            "memory": {name: dict(one.parts) for name, one in self.memory.items()},
            "bytes_beyond_heap": beyond_heap(self.resources.cores, self.memory),
            "seconds_an_iteration": {**self.seconds, "all": self.iteration},
            "too_small": [asdict(finding) for finding in self.findings],
            "trainable": self.trainable,
        }


def estimate_training(
    sizes: Sizes,
    resources: Resources,
    *,
    workload: Workload = DEFAULT_WORKLOAD,
    placement: PlacementChoice = "auto",
    partitions: int | None = None,
    exchange: ExchangeChoice | Mapping[Side, ExchangeName] = "auto",
) -> Estimate:
    """Estimate what a training needs, from counts alone.

    Its plan is that of a training with the same arguments. What is assumed of the ratings is in
    :mod:`als_spark.spark.estimate.assumed`, what the machines do in
    :mod:`als_spark.spark.estimate.rates`.

    Parameters
    ----------
    sizes : Sizes
        Counts, ranks of all models, bytes of a factor, and the cores of all executors.
    resources : Resources
        The cluster.
    workload : Workload, optional
        Method, share of the ratings to train on, rankings, weights.
    placement, partitions, exchange
        As in :class:`~als_spark.spark.prepare.options.PrepareOptions`.

    Raises
    ------
    ConfigError
        If the choices exclude each other.
    """
    decided = plan(
        *(sizes, placement, partitions, resources.worker_limit),
        exchange=exchange,
        ranked=workload.rankings,
        accelerated=workload.accelerated,
        whole=workload.method != "ridge",
    )
    choices = (placement, partitions, exchange)
    return estimate_plan(
        decided, resources, workload, reasons(decided, *choices, workload=workload)
    )


def estimate_plan(
    decided: Plan, resources: Resources, workload: Workload, why: Mapping[str, str] | None = None
) -> Estimate:
    """Estimate what a plan needs that has been made."""
    run = Run(decided, resources, workload)
    needs = memory(run)
    return Estimate(
        *(decided, resources, workload, why or {}, traffic(run), needs, seconds(run)),
        findings(run, needs),
    )
