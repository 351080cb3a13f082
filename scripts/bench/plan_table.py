"""The table of docs/clusters.md: what 10^8, 10^9 and 10^10 ratings need of a stated cluster.

`python -m scripts.bench.plan_table` prints it; a test holds the page and the code together.
"""

from __future__ import annotations

from als_spark.report.format import duration
from als_spark.spark.estimate.estimate import Estimate, estimate_training
from als_spark.spark.estimate.resources import stated
from als_spark.spark.estimate.words import show_bytes
from als_spark.spark.planner import Sizes

CLUSTER = "executors=20,cores=8,memory=48g,driver=32g,machine=128g,overhead=48g,network=10"
COUNTS = ((10**6, 10**5, 10**8), (10**7, 10**6, 10**9), (10**8, 10**7, 10**10))
RANK = 50


def estimates() -> list[Estimate]:
    """Return an estimate for each of the counts."""
    cluster = stated(CLUSTER)
    return [
        estimate_training(Sizes(*counts, (RANK,), 4, cluster.all_cores), cluster)
        for counts in COUNTS
    ]


def plan_table() -> str:
    """Write the table: a column for each of the counts."""
    found = estimates()
    rows = [
        ["", *(f"10^{len(str(ratings)) - 1} ratings" for *_, ratings in COUNTS)],
        ["---"] * (len(found) + 1),
        ["users × items", *(f"10^{len(str(u)) - 1} × 10^{len(str(i)) - 1}" for u, i, _ in COUNTS)],
        ["partitions a side", *(str(one.plan.n_blocks) for one in found)],
        ["solving users, items", *(", ".join(one.plan.exchange.values()) for one in found)],
        ["an iteration: broadcast", *(_sum(one, "broadcast") for one in found)],
        ["shuffled", *(_sum(one, "shuffled") for one in found)],
        ["over the network to an executor", *(show_bytes(one.arriving) for one in found)],
        *(
            [f"seconds: {name}", *(duration(one.seconds[name]) for one in found)]
            for name in ("computing", "traffic")
        ),
        *(
            [name, *(_memory(one, name) for one in found)]
            for name in (
                "driver Python",
                "driver JVM",
                "executor JVM",
                "Python worker, packing",
                "Python worker, training",
            )
        ),
        ["of the driver: ids of all chunks", *(_chunks(one) for one in found)],
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _sum(one: Estimate, name: str) -> str:
    size = sum(getattr(sent, name) for sent in one.traffic.values())
    return show_bytes(size) if size else "–"


def _memory(one: Estimate, name: str) -> str:
    return show_bytes(one.memory[name].total)


def _chunks(one: Estimate) -> str:
    python = one.memory["driver Python"].parts["ids of all chunks, merged"]
    jvm = one.memory["driver JVM"].parts["ids of all chunks"]
    return show_bytes(python + jvm)


if __name__ == "__main__":
    print(plan_table())
    for found in estimates():
        print([finding.words for finding in found.findings])
