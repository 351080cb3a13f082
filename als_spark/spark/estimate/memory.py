"""Memory that a training needs, process by process, each part with its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from als_spark.solve.gram import WORKSPACE_BYTES
from als_spark.spark.arrow import CHUNK_ROWS
from als_spark.spark.estimate import rates
from als_spark.spark.estimate.work import Run
from als_spark.spark.planner import MERGE_BYTES, PIECE_BYTES, SLICE_BYTES
from als_spark.types import SIDES, Side

SPARK_SHARE = 0.6
"""Of a heap, what Spark uses for what it keeps (``spark.memory.fraction``)."""

SHARED = "shared by the workers"


@dataclass(frozen=True, slots=True)
class Need:
    """What a process needs at most; ``parts`` are bytes by what they are of."""

    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.parts.values())


def memory(run: Run) -> dict[str, Need]:
    """Return what each process needs, by what tables call it.

    In local mode the driver's JVM is the executor's, too. Workers are counted without what they
    share, the broadcast factors, which an executor has once (``shared by workers``).
    """
    driver, executor = driver_jvm(run), executor_jvm(run)
    found = {"driver Python": driver_python(run), "driver JVM": driver}
    if run.resources.local:
        base = {"Spark itself": rates.JVM_BASE}
        found["driver JVM"] = _need({**base, **_both(driver.parts, executor.parts, base)})
    else:
        found["executor JVM"] = executor
    found["Python worker, packing"] = worker_packing(run)
    found["Python worker, training"] = worker_training(run)
    found[SHARED] = _need({"fixed factors": mapped(run)})
    return {name: one for name, one in found.items() if one.parts}


def largest_worker(needs: Mapping[str, Need]) -> int:
    """Return what a Python worker needs at most, without what it shares."""
    return max(need.total for name, need in needs.items() if name.startswith("Python worker"))


def beyond_heap(cores: int, needs: Mapping[str, Need]) -> int:
    """Return what an executor needs beyond its heap: its Python workers, and what they share."""
    shared = needs.get(SHARED)
    return cores * largest_worker(needs) + (shared.total if shared else 0)


def driver_python(run: Run) -> Need:
    """Return what the driver's Python needs."""
    sizes, ranks = run.sizes, run.sizes.ranks
    parts: dict[str, float] = {
        "Python and libraries": rates.DRIVER_BASE,
        "ids and counts": run.all_rows * rates.ROW_BYTES,
        "ids of all chunks, merged": run.chunk_ids() * rates.CHUNK_ID_BYTES,
        # Those of the best model of several, and of the one that comes.
        "samples that are kept": min(len(ranks), 2) * run.kept_bytes,
    }
    if run.plan.placement == "grid":
        # As they come, as triples, and by user and item.
        parts["packed ratings"] = sizes.n_ratings * (3 * run.rating_bytes + 12)
        parts["factors of finished models"] = 2 * run.all_rows * run.solved_bytes(max(ranks))
        return _need(parts)
    here = [side for side in SIDES if not run.stays(side)]
    parts["factors of all models"] = sum(
        run.n_rows[side] * sum(map(run.solved_bytes, ranks)) for side in here
    )
    if len(ranks) > 1:
        parts["factors of the best model"] = sum(
            run.n_rows[side] * run.solved_bytes(max(ranks)) for side in here
        )
    if any(run.stays(side) for side in SIDES):
        # As it comes, as the rows that are trained, and as Parquet has them.
        parts["a piece of shuffled factors, to be written"] = 4 * PIECE_BYTES
    parts["half-step on its way"] = max(
        # As the solvers have them, in one string, and that pickled.
        3 * run.largest_group(side, solved=False) * (exchange == "broadcast")
        + 2 * run.largest_group(side, solved=True) * (not run.stays(side))
        for side, exchange in run.plan.exchange.items()
    )
    return _need(parts)


def driver_jvm(run: Run) -> Need:
    """Return what the driver's JVM needs."""
    parts: dict[str, float] = {
        "Spark itself": rates.JVM_BASE,
        "ids of all chunks": run.chunk_ids() * rates.CHUNK_ID_JVM_BYTES,
        "broadcast": heap_of_broadcast(run),
        "results of tasks": 2 * heap_of_results(run),
    }
    return _need(parts)


def heap_of_broadcast(run: Run) -> int:
    """Bytes of the largest broadcast: the JVM of the driver has it in memory as it comes."""
    if run.plan.placement == "grid":
        return 2 * run.sizes.n_ratings * run.rating_bytes
    broadcast = [side for side in SIDES if run.plan.exchange[side] == "broadcast"]
    return max((run.largest_group(side, solved=False) for side in broadcast), default=0)


def heap_of_results(run: Run) -> int:
    """Bytes of the largest results of a job: the JVM of the driver has them all at once."""
    if run.plan.placement == "grid":
        return run.sizes.n_ratings * run.rating_bytes
    collected = [side for side in SIDES if not run.stays(side)]
    return max((run.largest_group(side, solved=True) for side in collected), default=0)


def executor_jvm(run: Run) -> Need:
    """Return what the JVM of an executor needs to keep all in memory.

    What it has no room for it keeps on disk: slower, but no failure.
    """
    sizes, n = run.sizes, run.resources.executors
    ranks = sizes.ranks
    kept: dict[str, float] = {}
    if run.plan.placement == "ratings":
        held_out = (1 - run.workload.train_share) * sizes.n_ratings * (8 + sizes.itemsize)
        one = run.rating_bytes + rates.JVM_RATING
        kept["ratings by user and by item"] = (2 * run.n_train * one + held_out) / n
        # Two generations: that of the last half-step, and the new one.
        factors = sum(
            run.n_rows[s] * sum(map(run.solved_bytes, ranks)) for s in SIDES if run.stays(s)
        )
        kept["factor blocks"] = 2 * factors / n
    kept["chunks, until they are packed"] = sizes.n_ratings * rates.CHUNK_RATING_BYTES / n
    if not run.resources.local:
        kept["broadcast"] = heap_of_broadcast(run)
    room = sum(kept.values()) * (1 / SPARK_SHARE - 1)
    solved = 2 * heap_of_results(run) / n if run.plan.placement == "ratings" else 0
    parts = {
        "Spark itself": rates.JVM_BASE,
        **kept,
        "room that Spark leaves to tasks": room,
        "solved rows on their way": solved,
    }
    return _need(parts)


def worker_packing(run: Run) -> Need:
    """Return what a Python worker needs while it numbers or packs ratings."""
    sizes = run.sizes
    chunk = min(CHUNK_ROWS, sizes.n_ratings / run.resources.all_cores)
    numbering = chunk * rates.NUMBER_BYTES
    places = run.all_rows * rates.PLACE_BYTES
    merging = places + sizes.n_ratings / run.plan.n_blocks * MERGE_BYTES
    base = {"Python and libraries": rates.WORKER_BASE}
    if numbering > merging:
        return _need({**base, "a chunk of ratings": numbering})
    return _need({**base, "places of all ids": places, "a block of ratings": merging - places})


def worker_training(run: Run) -> Need:
    """Return what a Python worker needs in a half-step, or to train a whole model."""
    sizes = run.sizes
    base = {"Python and libraries": rates.WORKER_BASE}
    if run.plan.placement == "grid":
        rank = max(sizes.ranks)
        # Each worker has a copy of the ratings, and the array of the pickle that it is read from.
        packed = 1.5 * 2 * sizes.n_ratings * run.rating_bytes
        factors = 3 * run.all_rows * run.solved_bytes(rank)
        work = max(solving(run, side, [rank]) for side in SIDES)
        return _need({**base, "packed ratings": packed, "factors": factors, "solving": work})
    needs = []
    for side, exchange in run.plan.exchange.items():
        for ranks in run.groups(side):
            parts = {**base, "solving": solving(run, side, ranks)}
            if exchange == "shuffle":
                # As they come, and put together.
                row = sum(map(run.fixed_bytes, ranks))
                parts["fixed rows that a block needs"] = 2 * run.needed(side) * row
            needs.append(_need(parts))
    return max(needs, key=lambda one: one.total)


def solving(run: Run, side: Side, ranks: Sequence[int]) -> int:
    """Bytes of what a worker solves at a time, but for the fixed factors.

    As :func:`als_spark.spark.planner.half_step_bytes`, where a block has less than a slice.
    """
    n_blocks = run.plan.n_blocks
    read = min(SLICE_BYTES, round(run.n_train * run.rating_bytes / n_blocks))
    rows = min(read // 8, -(-run.n_rows[side] // n_blocks))
    solved = rows * sum(map(run.solved_bytes, ranks))
    return 3 * read + 2 * solved + 6 * WORKSPACE_BYTES


def mapped(run: Run) -> int:
    """Bytes of the broadcast factors that the workers of an executor map, one copy for all."""
    if run.plan.placement == "grid":
        return 0
    return heap_of_broadcast(run)


def _both(
    first: Mapping[str, float], second: Mapping[str, float], without: Mapping[str, float]
) -> dict[str, float]:
    """Add up parts, without some."""
    names = [name for name in {**first, **second} if name not in without]
    return {name: first.get(name, 0) + second.get(name, 0) for name in names}


def _need(parts: Mapping[str, float]) -> Need:
    """Leave out what is nothing."""
    return Need({name: round(size) for name, size in parts.items() if round(size) > 0})
