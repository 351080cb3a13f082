"""What a sweep's grid leaves open: a best point on its edge, and the next command to try."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from als_spark.train.records import PointResult

__all__ = ["edges", "next_command", "warn_unsettled"]

LARGEST_R_HAT = 1.1
"""Gelman et al. 2013, "Bayesian Data Analysis", third edition, section 11.5."""
_LARGEST_RANK = 10_000
_WEIGHTED = "--exponent 1 --lambdas 0.05,0.1,0.2"
"""Where the plain ridge does badly: the λ that usually do well at ν = 1."""
_FOR_LISTS = "--implicit --exponent 0.5 --lambdas 0.5,1,2,4"
"""For lists; a λ of explicit ratings means nothing there. See docs/lists.md."""


def edges(
    chosen: PointResult, ranks: Sequence[int], regs: Sequence[float], *, most: int | None = None
) -> Iterator[str]:
    """Say where the best point lies on an edge of the grid, and a better one may lie beyond.

    Parameters
    ----------
    chosen : PointResult
        The best point.
    ranks, regs : sequence of int, sequence of float
        d and λ of the whole grid. A single one has no edge; where λ is learnt there are none.
    most : int, optional
        The smaller of the numbers of users and items. A product of factors has no larger rank, so
        more of them fit nothing better.
    """
    if len(ranks) > 1 and most is not None and chosen.rank == max(ranks) >= most:
        yield (
            f"The best rank, d = {chosen.rank}, is the largest of the grid, and no larger one fits "
            f"more: there are {most:,} users or items."
        )
    elif len(ranks) > 1 and chosen.rank == max(ranks):
        yield (
            f"The best rank, d = {chosen.rank}, is the largest of the grid: a larger one may be "
            "better still (--ranks)."
        )
    if len(ranks) > 1 and chosen.rank == min(ranks) and chosen.reg is None:
        if chosen.rank > 1:
            yield (
                f"The best rank, d = {chosen.rank}, is the smallest of the grid: a smaller one may "
                "be better still (--ranks)."
            )
    elif len(ranks) > 1 and chosen.rank == min(ranks) == 1:
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
    if end is not None and chosen.reg is not None:
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
    most: int | None = None,
    method: str | None = None,
    n_features: int = 0,
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
    most : int, optional
        As in :func:`edges`.
    method : str, optional
        What ``--method`` is where a prior is learnt, or a mean that rows are drawn towards; None:
        ridges towards zero.
    n_features : int
        Implicit features that the prior depends on.
    """
    most = min(most or _LARGEST_RANK, _LARGEST_RANK)
    objective = chosen.spec.objective
    plain = objective.exponent == 0 and not objective.implicit
    if for_lists and beaten and not objective.implicit:
        # Feedback is implicit without a prior that is learnt, and without features.
        other = [] if method in (None, "ridge") else ["--method ridge"]
        options = [*other, *(["--implicit-features 0"] if n_features else []), _FOR_LISTS]
    elif method is not None:
        options = [*_lambdas_beyond(chosen.reg, regs), *_ranks_beyond(chosen.rank, ranks, most)]
        if n_features == 0 and not for_lists:
            options.append("--implicit-features 20")
    elif plain and (beaten or (len(ranks) > 1 and chosen.rank == min(ranks) == 1)):
        options = [_WEIGHTED, *_ranks_beyond(chosen.rank, ranks, most)]
        if max(ranks) < 10:
            options[1:] = [_ranks_option([10, 20, 50], most)]
    else:
        options = [*_lambdas_beyond(chosen.reg, regs), *_ranks_beyond(chosen.rank, ranks, most)]
        if not options and beaten and len(regs) == 1 and chosen.reg is not None:
            options = [f"--lambdas {_listed(chosen.reg, (0.5, 1, 2))}"]
    if not options:
        return None
    changed = " ".join(options)
    return (
        f"Next to try: the same command with {changed}, and another --output to keep this result."
    )


def warn_unsettled(points: Sequence[PointResult]) -> str | None:
    """Say how many samplers have not settled; None where all have, or nothing was sampled."""
    found = [(point.learnt or {}).get("r_hat", math.nan) for point in points]
    unsettled = sum(r_hat > LARGEST_R_HAT for r_hat in found)
    if not unsettled:
        return None
    have = "has" if unsettled == 1 else "have"
    return (
        f"{unsettled} of {len(points)} models {have} draws that have not settled (R-hat above "
        f"{LARGEST_R_HAT:g}): use a larger --burn-in, and more --samples."
    )


def _ranks_beyond(best: int, ranks: Sequence[int], most: int) -> list[str]:
    if len(ranks) > 1 and best == max(ranks) and best < most:
        return [_ranks_option([best, 2 * best, 4 * best], most)]
    if len(ranks) > 1 and best == min(ranks) > 1:
        return [_ranks_option([max(best // 4, 1), max(best // 2, 1), best], most)]
    return []


def _ranks_option(ranks: Sequence[int], most: int) -> str:
    return "--ranks " + ",".join(map(str, dict.fromkeys(min(rank, most) for rank in ranks)))


def _lambdas_beyond(best: float | None, regs: Sequence[float]) -> list[str]:
    end = _end(best, regs)
    if end is None or best is None:
        return []
    times = (0.25, 0.5, 1) if end == "smallest" else (1, 2, 4)
    return [f"--lambdas {_listed(best, times)}"]


def _listed(reg: float, times: Sequence[float]) -> str:
    return ",".join(f"{reg * factor:g}" for factor in times)


def _end(reg: float | None, regs: Sequence[float]) -> str | None:
    """Return which end of the grid a λ is; no λ is smaller than 0, and a learnt one is none."""
    if reg is None:
        return None
    if len(regs) > 1 and reg == min(regs) and reg > 0:
        return "smallest"
    return "largest" if len(regs) > 1 and reg == max(regs) else None
