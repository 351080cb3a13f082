"""Why a plan is what it is, in words."""

from __future__ import annotations

from collections.abc import Mapping

from als_spark.spark.estimate.words import show_bytes
from als_spark.spark.estimate.work import Workload
from als_spark.spark.planner import BROADCAST_SHARE, GRID_SHARE, Plan
from als_spark.types import ExchangeChoice, ExchangeName, PlacementChoice, Side, other_side


def reasons(
    decided: Plan,
    placement: PlacementChoice,
    partitions: int | None,
    exchange: ExchangeChoice | Mapping[Side, ExchangeName],
    *,
    workload: Workload,
) -> dict[str, str]:
    """Say why placement, blocks and exchanges were chosen."""
    found = {"placement": _placement(decided, placement, exchange, workload)}
    if decided.placement == "grid":
        return found
    found["blocks"] = _blocks(decided, partitions)
    for side in decided.exchange:
        found[side] = _exchange(decided, side, exchange, workload)
    return found


def _placement(
    decided: Plan,
    placement: PlacementChoice,
    exchange: ExchangeChoice | Mapping[Side, ExchangeName],
    workload: Workload,
) -> str:
    if placement != "auto":
        return "as asked for"
    if exchange != "auto":
        if workload.method != "ridge":
            return f"the factors of both sides travel whole: {workload.method} needs all of them"
        return "factors travel, by the exchange that was asked for"
    packed, limit = decided.sizes.packed_bytes, decided.worker_bytes // GRID_SHARE
    if packed > limit:
        return (
            f"the packed ratings, {show_bytes(packed)}, are more than the {show_bytes(limit)} that "
            "every worker may hold"
        )
    if decided.placement == "grid":
        return "whole models side by side are done first: an iteration is less than its Spark jobs"
    return "half-steps spread over all cores are done before whole models, one a core"


def _blocks(decided: Plan, partitions: int | None) -> str:
    if partitions is not None:
        return "as asked for"
    if decided.n_blocks == decided.sizes.cores:
        return "one a core"
    if decided.n_blocks < decided.sizes.cores:
        return "no more than rows"
    return "whole rounds of the cores, so that a worker has the memory to pack one"


def _exchange(
    decided: Plan,
    side: Side,
    exchange: ExchangeChoice | Mapping[Side, ExchangeName],
    workload: Workload,
) -> str:
    if workload.method != "ridge":
        return f"the only one of {workload.method}"
    if exchange != "auto":
        return "as asked for"
    if side == "user" and (workload.rankings or workload.accelerated):
        asked = "ranking measures need" if workload.rankings else "acceleration needs"
        return f"{asked} the factors of all items in one place"
    sizes = decided.sizes
    n_fixed = sizes.n_items if side == "user" else sizes.n_users
    size = n_fixed * max(sizes.ranks) * sizes.itemsize
    limit = decided.worker_bytes // BROADCAST_SHARE
    relation = "more" if decided.exchange[side] == "shuffle" else "no more"
    return (
        f"the {other_side(side)} factors of the largest model, {show_bytes(size)}, are {relation} "
        f"than the {show_bytes(limit)} that are broadcast"
    )
