"""Seconds of an iteration of all models, part by part."""

from __future__ import annotations

from als_spark.spark.estimate import rates
from als_spark.spark.estimate.assumed import side_work
from als_spark.spark.estimate.work import Run, Traffic, traffic
from als_spark.spark.planner import CALL_SECONDS
from als_spark.types import SIDES, Side, other_side


def seconds(run: Run) -> dict[str, float]:
    """Return the seconds of an iteration by what they are spent on."""
    computing = sum(side_seconds(run, side, rank) for side in SIDES for rank in run.sizes.ranks)
    cores = run.resources.all_cores
    if run.plan.placement == "grid":
        # Whole models side by side, the largest first: an iteration of each.
        each = [
            sum(side_seconds(run, side, rank) for side in SIDES) + CALL_SECONDS
            for rank in run.sizes.ranks
        ]
        return {"computing": max(sum(each) / cores, max(each))}
    rounds = -(-run.plan.n_blocks // cores)
    sent = traffic(run)
    jobs = {side: len(run.groups(side)) for side in SIDES}
    reading = sum(
        n_jobs * run.n_train * run.rating_bytes / cores / rates.PIPE_RATE
        for n_jobs in jobs.values()
    )
    return {
        # The last round of blocks may leave cores idle.
        "computing": computing / run.plan.n_blocks * rounds,
        "reading the ratings": reading,
        "Spark jobs": sum(
            n_jobs * (job_seconds(run, side) + (rounds - 1) * rates.TASK_SECONDS)
            for side, n_jobs in jobs.items()
        ),
        "traffic": sum(traffic_seconds(run, one) for one in sent.values()),
    }


def job_seconds(run: Run, side: Side) -> float:
    """Seconds of an empty half-step of a side; shuffled factors, of either side, take more."""
    routed = "shuffle" in (run.plan.exchange[side], run.plan.exchange[other_side(side)])
    return rates.SHUFFLE_JOB_SECONDS if routed else rates.JOB_SECONDS


def side_seconds(run: Run, side: Side, rank: int) -> float:
    """CPU seconds of a half-step of one model."""
    columns = run.columns(rank)
    size = rank if columns is None else columns.size
    ratings, rows = side_work(run.n_rows[side], run.n_train, size)
    of_rating, of_row = rates.seconds_of(size, run.dtype)
    if columns is not None:
        # Systems are of float64, and inverted; covariances are summed over the ratings.
        of_row = rates.POSTERIOR_ROWS * rates.seconds_of(size, "float64").row
        of_rating += columns.n_covariances * rates.COVARIANCE_SECONDS
    return ratings * of_rating + rows * of_row


def traffic_seconds(run: Run, sent: Traffic) -> float:
    """Seconds of the traffic of a side's half-steps: what copying costs, and the network."""
    resources = run.resources
    copying = (
        sent.broadcast / rates.BROADCAST_RATE
        + sent.collected * (1 / rates.COLLECT_RATE + 1 / rates.SUM_RATE)
        + sent.shuffled / rates.SHUFFLE_RATE / resources.all_cores
    )
    if resources.local:
        return copying
    # Executors pass a broadcast on to each other, in pieces: each gets it once, and most send it
    # once. Of a shuffle each executor keeps its own part.
    n = resources.executors
    between = sent.shuffled * (n - 1) / n / n
    return copying + (sent.broadcast + sent.collected + between) / resources.network
