"""Whether samples of a chain have converged, and how many independent ones they are worth.

See Gelman et al. 2013, "Bayesian Data Analysis", third edition, section 11.4 (split R-hat) and 11.5
(effective sample size).
"""

from __future__ import annotations

import math

import numpy as np

from als_spark.types import FloatArray


def split_r_hat(chain: FloatArray) -> float:
    """Compare the halves of a chain: near 1 if they are alike; NaN of fewer than 4 samples."""
    half = chain.size // 2
    if half < 2:
        return math.nan
    halves = np.stack([chain[:half], chain[-half:]])
    within = float(halves.var(axis=1, ddof=1).mean())
    between = half * float(halves.mean(axis=1).var(ddof=1))
    if within == 0:
        return math.nan
    return math.sqrt(((half - 1) / half * within + between / half) / within)


def effective_size(chain: FloatArray) -> float:
    """Tell how many independent samples a chain is worth; NaN of fewer than 4 samples."""
    n = chain.size
    centred = chain - chain.mean()
    variance = float(centred @ centred) / max(n, 1)
    if n < 4 or variance == 0:
        return math.nan
    total = 1.0
    for lag in range(1, n - 1, 2):
        # Pairs of neighbouring lags, up to the first whose sum is negative (Geyer 1992).
        pair = sum(float(centred[: n - k] @ centred[k:]) / n / variance for k in (lag, lag + 1))
        if pair < 0:
            break
        total += 2.0 * pair
    return n / total
