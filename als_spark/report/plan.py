"""The estimate of a training as text for a terminal: what ``--plan`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from als_spark.report.format import MISSING, duration
from als_spark.spark.estimate.words import show_bytes

__all__ = ["plan_text"]

_SIDES = ("user", "item")
_GBIT = 1e9 / 8
_LEAST_SHARE = 0.01
"""Of a process, that a part needs to be named."""


def plan_text(record: Mapping[str, Any]) -> str:
    """Write the record of an estimate.

    Parameters
    ----------
    record : mapping
        From :meth:`als_spark.spark.estimate.estimate.Estimate.as_record`, with ``counted``, which
        says where the counts come from; and perhaps ``one_by_one``, the number of models of which
        that of the estimate is the largest.
    """
    sections = [
        ("What is trained", _table(_training(record))),
        ("Chosen", _table(_chosen(record))),
        ("An iteration of all models", _iteration(record)),
        ("Memory of each process, at most", _table(_memory(record))),
        ("Too small", [f"- {_finding(found)}" for found in record["too_small"]]),
        ("Assumed", _assumed(record)),
    ]
    return "\n\n".join(
        "\n".join([title, *(f"  {line}" for line in lines)])
        for title, lines in ((title, list(lines)) for title, lines in sections)
        if lines
    )


def _training(record: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    counts, cluster, ranks = record["counts"], record["cluster"], record["ranks"]
    numbers = ", ".join(f"{counts[name]:,} {name}" for name in ("users", "items", "ratings"))
    yield "ratings", f"{numbers} ({record['counted']})"
    size = {4: "float32", 8: "float64"}[record["itemsize"]]
    method = record["workload"]["method"]
    models = f"{len(ranks)} models" if len(ranks) > 1 else "1 model"
    rank = f"{min(ranks)} to {max(ranks)}" if min(ranks) < max(ranks) else f"{ranks[0]}"
    if record.get("one_by_one", 1) > 1:
        models = f"the largest of {record['one_by_one']}, trained one by one,"
    yield "models", f"{models} of rank {rank}, {size}{'' if method == 'ridge' else f', {method}'}"
    heap = show_bytes(cluster["driver_memory"])
    if cluster["local"]:
        yield "cluster", f"this machine: {cluster['cores']} tasks at a time, heap {heap}"
    else:
        counts = ((cluster["executors"], "executor"), (cluster["cores"], "core"))
        executors = " of ".join(f"{n:,} {noun}{'' if n == 1 else 's'}" for n, noun in counts)
        own, network = show_bytes(cluster["executor_memory"]), cluster["network"] / _GBIT
        words = f"{executors}, heap {own}; driver's heap {heap}; network {network:g} Gbit/s"
        yield "cluster", words


def _chosen(record: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    plan, reasons = record["plan"], record["reasons"]
    yield "placement", plan["placement"], reasons.get("placement", "")
    if plan["placement"] == "grid":
        return
    yield "partitions", f"{plan['blocks_a_side']} a side", reasons.get("blocks", "")
    for side, exchange in plan["exchange"].items():
        # The fixed factors are those of the other side.
        yield f"solving {side}s", exchange, reasons.get(side, "")
    together = plan["models_a_job"]
    if any(len(groups) > 1 for groups in together.values()):
        jobs = "; ".join(f"{side}s {len(groups)}" for side, groups in together.items())
        yield "jobs", jobs, "models in groups that fit into a worker together"


def _iteration(record: Mapping[str, Any]) -> Iterator[str]:
    sent, seconds = record["bytes_an_iteration"], dict(record["seconds_an_iteration"])
    if sent:
        rows = [["solving", *(f"{side}s" for side in _SIDES), "both"]]
        for name, words in (
            ("broadcast", "broadcast, to each executor"),
            ("shuffled", "shuffled between workers"),
            ("collected", "collected by the driver"),
        ):
            sizes = [sent[side][name] for side in _SIDES]
            rows.append(
                [words, *(show_bytes(size) if size else MISSING for size in (*sizes, sum(sizes)))]
            )
        yield from _table(rows, right=True)
        if not record["cluster"]["local"]:
            yield f"to an executor over the network: {show_bytes(record['bytes_to_an_executor'])}"
    whole = seconds.pop("all")
    parts = ", ".join(f"{name} {_duration(value)}" for name, value in seconds.items())
    yield f"about {_duration(whole)}: {parts}"


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else duration(seconds)


def _memory(record: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for name, parts in record["memory"].items():
        ordered = sorted(parts.items(), key=lambda part: -part[1])
        whole = sum(parts.values())
        named = [part for part in ordered if part[1] > _LEAST_SHARE * whole]
        words = ", ".join(f"{part} {show_bytes(size)}" for part, size in named)
        yield name, show_bytes(whole), _has(name, record["cluster"]), words
    yield _together(record)


def _together(record: Mapping[str, Any]) -> Sequence[str]:
    """Add up the workers of an executor, for whom an operator has to leave room."""
    cluster = record["cluster"]
    words = f"{cluster['cores']} at a time, and what they share"
    if not cluster["local"]:
        words = f"{words}: what an executor needs beyond its heap"
    overhead = cluster["overhead"]
    has = "" if overhead is None else f"of {show_bytes(overhead)}"
    return "Python workers, together", show_bytes(record["bytes_beyond_heap"]), has, words


def _has(name: str, cluster: Mapping[str, Any]) -> str:
    """Say how much a process has, where that is known."""
    sizes = {
        "driver JVM": cluster["driver_memory"],
        "executor JVM": cluster["executor_memory"],
        "Python worker, packing": cluster["worker_limit"],
        "Python worker, training": cluster["worker_limit"],
    }
    size = sizes.get(name)
    return "" if size is None else f"of {show_bytes(size)}"


def _finding(found: Mapping[str, Any]) -> str:
    return (f"the training {found['fate']}: " if found["certain"] else "") + str(found["words"])


def _assumed(record: Mapping[str, Any]) -> Iterator[str]:
    yield "ratings of a user or an item log-normal about their mean, in random order"
    yield "cores as fast as those that the constants were measured on (scripts/bench.sh calibrate)"
    if not record["cluster"]["local"]:
        yield "an executor a machine"


def _table(rows: Iterator[Sequence[str]] | list[list[str]], *, right: bool = False) -> list[str]:
    """Set cells below each other."""
    cells = [list(row) for row in rows]
    n_columns = max((len(row) for row in cells), default=0)
    widths = [
        max((len(row[k]) for row in cells if k < len(row)), default=0) for k in range(n_columns)
    ]
    lines = []
    for row in cells:
        words = [
            word.rjust(width) if right and k else word.ljust(width)
            for k, (word, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join(words).rstrip())
    return lines
