"""What a sweep's grid leaves open: a best point on its edge, and the next command to try."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from als_spark.train.records import PointResult

__all__ = ["edges", "next_command"]

_LARGEST_RANK = 10_000
_WEIGHTED = "--exponent 1 --lambdas 0.05,0.1,0.2"
"""Where the plain ridge does badly: the λ that usually do well at ν = 1."""
_FOR_LISTS = "--implicit --exponent 0.5 --lambdas 0.5,1,2,4"
"""For lists; a λ of explicit ratings means nothing there. See docs/lists.md."""


def edges(chosen: PointResult, ranks: Sequence[int], regs: Sequence[float]) -> Iterator[str]:
    """Say where the best point lies on an edge of the grid, and a better one may lie beyond.

    Parameters
    ----------
    chosen : PointResult
        The best point.
    ranks, regs : sequence of int, sequence of float
        d and λ of the whole grid. A single one has no edge.
    """
    if len(ranks) > 1 and chosen.rank == max(ranks):
        yield (
            f"The best rank, d = {chosen.rank}, is the largest of the grid: a larger one may be "
            "better still (--ranks)."
        )
    if len(ranks) > 1 and chosen.rank == min(ranks) == 1:
        yield (
            "The best rank, d = 1, is the smallest there is: with these λ more factors predict "
            "worse, so other λ may be better (--lambdas, --exponent)."
        )
    elif len(ranks) > 1 and chosen.rank == min(ranks):
        yield (
            f"The best rank, d = {chosen.rank}, is the smallest of the grid: a smaller one, or "
            "another λ, may be better still (--ranks, --lambdas)."
        )
    end = _end(chosen.reg, regs)
    if end is not None:
        other = "smaller" if end == "smallest" else "larger"
        yield (
            f"The best λ, {chosen.reg:g}, is the {end} of the grid: a {other} one may be better "
            "still (--lambdas)."
        )


def next_command(
    chosen: PointResult,
    ranks: Sequence[int],
    regs: Sequence[float],
    *,
    beaten: bool,
    for_lists: bool = False,
) -> str | None:
    """Name the options to try next; None where the grid leaves nothing open.

    Parameters
    ----------
    chosen, ranks, regs
        As in :func:`edges`.
    beaten : bool
        Whether the best point does worse than its baseline: the biases alone, or the popular items.
    for_lists : bool
        Whether it was judged by a ranking measure.
    """
    objective = chosen.spec.objective
    plain = objective.exponent == 0 and not objective.implicit
    if for_lists and beaten and not objective.implicit:
        options = [_FOR_LISTS]
    elif plain and (beaten or (len(ranks) > 1 and chosen.rank == min(ranks) == 1)):
        options = [_WEIGHTED, *_ranks_beyond(chosen.rank, ranks)[-1:]]
        if max(ranks) < 10:
            options[1:] = ["--ranks 10,20,50"]
    else:
        options = [*_lambdas_beyond(chosen.reg, regs), *_ranks_beyond(chosen.rank, ranks)]
        if not options and beaten and len(regs) == 1:
            options = [f"--lambdas {_listed(chosen.reg, (0.5, 1, 2))}"]
    if not options:
        return None
    changed = " ".join(options)
    return (
        f"Next to try: the same command with {changed}, and another --output to keep this result."
    )


def _ranks_beyond(best: int, ranks: Sequence[int]) -> list[str]:
    if len(ranks) > 1 and best == max(ranks) and best < _LARGEST_RANK:
        beyond = [best, *(min(times * best, _LARGEST_RANK) for times in (2, 4))]
    elif len(ranks) > 1 and best == min(ranks) > 1:
        beyond = [max(best // 4, 1), max(best // 2, 1), best]
    else:
        return []
    return ["--ranks " + ",".join(map(str, dict.fromkeys(beyond)))]


def _lambdas_beyond(best: float, regs: Sequence[float]) -> list[str]:
    end = _end(best, regs)
    if end is None:
        return []
    times = (0.25, 0.5, 1) if end == "smallest" else (1, 2, 4)
    return [f"--lambdas {_listed(best, times)}"]


def _listed(reg: float, times: Sequence[float]) -> str:
    return ",".join(f"{reg * factor:g}" for factor in times)


def _end(reg: float, regs: Sequence[float]) -> str | None:
    """Return which end of the grid a λ is; no λ is smaller than 0."""
    if len(regs) > 1 and reg == min(regs) and reg > 0:
        return "smallest"
    return "largest" if len(regs) > 1 and reg == max(regs) else None
