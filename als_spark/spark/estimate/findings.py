"""What a cluster is too small for: what would end a training for certain, and what may.

For certain only what must be in memory in one piece, whatever else is: so nothing that could be
trained is refused. Refused is, too, what would take the only copies of factors away. All else is a
warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from als_spark.spark.estimate.memory import (
    Need,
    beyond_heap,
    heap_of_broadcast,
    heap_of_results,
    mapped,
)
from als_spark.spark.estimate.resources import IDLE, memory_words
from als_spark.spark.estimate.words import show_bytes
from als_spark.spark.estimate.work import Run
from als_spark.train.bayes.options import LARGEST_TABLE
from als_spark.types import other_side

LEAST_COMPRESSED = {"ratings": 0.5, "grid": 0.2}
"""What is left of a broadcast at least when Spark has compressed it, by placement: factors hardly
shrink, but nonnegative ones have many zeros; packed ratings shrink more."""
LONG_IDLE = 3600.0
"""Seconds after which an executor without a task is of no training that gets on."""
_WORKER = "spark.executor.pyspark.memory"
_HEAP = "spark.driver.memory"


@dataclass(frozen=True, slots=True)
class Finding:
    """A setting that is too small.

    ``certain`` says that the training is stopped by it. ``words`` are one line: what is needed,
    what there is, and what to change; parameters in backticks, as in all messages. ``fate`` is
    what becomes of the training.
    """

    certain: bool
    words: str
    fate: str = "could only run out of memory"

    def __str__(self) -> str:
        """Return the words."""
        return self.words


def findings(run: Run, needs: Mapping[str, Need]) -> list[Finding]:
    """Compare what processes need with what they have; what is certain comes first."""
    certain = [Finding(certain=True, words=words) for words in _certain(run, needs)]
    lost = "could lose factors that nothing else has"
    certain += [Finding(certain=True, words=words, fate=lost) for words in _leaving(run)]
    return certain + [Finding(certain=False, words=words) for words in _doubtful(run, needs)]


def _certain(run: Run, needs: Mapping[str, Need]) -> Iterator[str]:
    yield from _table_too_large(run)
    for words in _heap_too_small(run):
        yield f"{words}: use {_other_way(run)}--conf {_HEAP}={_heap_wanted(run, needs)}"
    for words, _, other in _worker_too_small(run):
        yield f"{words}: use {other}--conf {_WORKER}={_worker_wanted(run, needs)}"


def _leaving(run: Run) -> Iterator[str]:
    """Executors that dynamic allocation gives back with the only copies of shuffled factors."""
    idle = run.resources.idle
    shuffled = "shuffle" in run.plan.exchange.values()
    if not shuffled or idle is None or idle >= LONG_IDLE or run.resources.outlived:
        return
    yield (
        f"executors without a task for {idle:g} s leave ({IDLE}), with the shuffled factors that "
        f'they hold: use `exchange="broadcast"`, or --conf {IDLE}={LONG_IDLE:g}s, or a checkpoint '
        "directory (--conf spark.checkpoint.dir)"
    )


def _table_too_large(run: Run) -> Iterator[str]:
    columns = run.columns(max(run.sizes.ranks))
    if columns is None:
        return
    size = max(run.n_rows.values()) * columns.total * 8
    if size > LARGEST_TABLE:
        yield (
            f"what is known of the rows of a side takes {show_bytes(size)}, and may take "
            f"{show_bytes(LARGEST_TABLE)}: use a smaller `rank=`, or "
            + ('`covariance="diagonal"`' if columns.kind == "variational" else "another `method=`")
        )


def _heap_too_small(run: Run) -> Iterator[str]:
    heap = run.resources.driver_memory
    for what, size, least in (
        ("broadcast at once", heap_of_broadcast(run), LEAST_COMPRESSED[run.plan.placement]),
        ("collected at once", heap_of_results(run), 1.0),
    ):
        if least * size > heap:
            yield (
                f"{show_bytes(size)} of {_factors(run)} are {what}, and the driver's JVM has a "
                f"heap of {show_bytes(heap)}"
            )


def _factors(run: Run) -> str:
    return "ratings" if run.plan.placement == "grid" else "factors"


def _other_way(run: Run) -> str:
    """Name what would need less memory, where there is something."""
    if run.plan.placement == "grid":
        return '`placement="ratings"`, or '
    if run.workload.method != "ridge" or run.workload.rankings:
        return ""
    return '`exchange="shuffle"`, or ' + (
        '`dtype="float32"`, or ' if run.sizes.itemsize > 4 else ""
    )


def _heap_wanted(run: Run, needs: Mapping[str, Need]) -> str:
    """Return the one value of the setting that every line names, so that it serves them all."""
    size = float(needs["driver JVM"].total)
    if any(_heap_too_small(run)):
        size = max(size, 2 * max(heap_of_broadcast(run), heap_of_results(run)) + (1 << 30))
    return memory_words(size)


def _worker_too_small(run: Run) -> Iterator[tuple[str, float, str]]:
    """Yield what is wrong, the bytes of what has to fit in one piece, and what else would help."""
    limit = run.resources.worker_limit
    if limit is None:
        return
    if run.plan.placement == "grid":
        size = 2 * run.sizes.n_ratings * run.rating_bytes
        if size > limit:
            yield (
                (
                    f"the packed ratings take {show_bytes(size)}, and {_WORKER} allows a Python "
                    f"worker {show_bytes(limit)}"
                ),
                size,
                '`placement="ratings"`, or ',
            )
        return
    for side, exchange in run.plan.exchange.items():
        one = run.fixed_bytes(max(run.sizes.ranks))
        n_fixed = run.n_rows[other_side(side)]
        if exchange == "broadcast" and n_fixed * one > limit:
            size = n_fixed * one
            yield (
                (
                    f"the {other_side(side)} factors of one model take {show_bytes(size)}, and "
                    f"{_WORKER} allows a Python worker {show_bytes(limit)}"
                ),
                size,
                _other_way(run),
            )
    # The columns of its triples; ids and places of all rows.
    merging = 16 * run.sizes.n_ratings / run.plan.n_blocks + 12 * run.all_rows
    if merging > limit:
        yield (
            (
                f"packing a block of ratings takes {show_bytes(merging)} at least, and {_WORKER} "
                f"allows a Python worker {show_bytes(limit)}"
            ),
            merging,
            "more `partitions=`, or ",
        )


def _worker_wanted(run: Run, needs: Mapping[str, Need]) -> str:
    """Return the one value of the setting that every line names: what Spark shares among cores."""
    sizes = [2 * size + (512 << 20) for _, size, _ in _worker_too_small(run)]
    return memory_words(run.resources.cores * max([*sizes, _largest_worker(run, needs)]))


def _largest_worker(run: Run, needs: Mapping[str, Need]) -> float:
    packing, training = (needs[f"Python worker, {step}"].total for step in ("packing", "training"))
    return max(packing, training + mapped(run))


def _doubtful(run: Run, needs: Mapping[str, Need]) -> Iterator[str]:
    resources = run.resources
    yield from _heaps(run, needs)
    limit = resources.worker_limit
    size = _largest_worker(run, needs)
    if limit is not None and size > limit:
        yield (
            f"a Python worker may need {show_bytes(size)}, and {_WORKER} allows it "
            f"{show_bytes(limit)}: use --conf {_WORKER}={_worker_wanted(run, needs)}"
        )
    together = beyond_heap(resources.cores, needs)
    if resources.overhead is not None and together > resources.overhead:
        yield (
            f"the Python workers of an executor may need {show_bytes(together)} together, and its "
            f"container has {show_bytes(resources.overhead)} beyond its heap: use --conf "
            f"spark.executor.memoryOverhead={memory_words(together)}, or fewer "
            "--conf spark.executor.cores"
        )
    machine = resources.machine
    own = needs["driver Python"].total
    if machine is None:
        return
    own += min(needs["driver JVM"].total, resources.driver_memory)
    whose = "the driver"
    if resources.local:
        own += together
        whose = "driver and Python workers"
    if own > machine:
        parts = needs["driver Python"].parts
        factors = sum(size for name, size in parts.items() if "factors" in name)
        other = _other_way(run) if 3 * factors > own else ""
        yield (
            f"{whose} may need {show_bytes(own)}, and the machine has "
            f"{show_bytes(machine)}: use {other}a larger machine"
        )


def _heaps(run: Run, needs: Mapping[str, Need]) -> Iterator[str]:
    resources = run.resources
    size = needs["driver JVM"].total
    if size > resources.driver_memory:
        slower = ": what it has no room for it keeps on disk" if resources.local else ""
        yield (
            f"the driver's JVM may need {show_bytes(size)}, and has a heap of "
            f"{show_bytes(resources.driver_memory)}{slower}: use --conf "
            f"{_HEAP}={_heap_wanted(run, needs)}"
        )
    executor = needs.get("executor JVM")
    if executor is not None and executor.total > resources.executor_memory:
        yield (
            f"an executor's JVM needs {show_bytes(executor.total)} to keep all in memory, and has "
            f"{show_bytes(resources.executor_memory)}, so a part is read from disk: use --conf "
            f"spark.executor.memory={memory_words(executor.total)}, or more executors"
        )
