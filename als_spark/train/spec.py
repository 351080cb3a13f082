"""What is to be trained: one model of a run, and what all models of a run share."""

from __future__ import annotations

from dataclasses import dataclass

from als_spark.solve.objective import Objective
from als_spark.types import DType


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model to train.

    Attributes
    ----------
    point : int
        Its position in the grid.
    rank : int
        Number of factors d.
    objective : Objective
        What its factors minimise.
    """

    point: int
    rank: int
    objective: Objective


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What all models of a run share.

    Attributes
    ----------
    tol : float
        Tolerance of the stopping rule (see :mod:`als_spark.train.loop`).
    max_iter : int
        Cap on the iterations; a model that it stops is reported as not converged.
    seed : int
        Of the start.
    dtype : {"float32", "float64"}
        Of the factors and of the systems.
    accelerate : bool
        Whether iterations begin at extrapolated item factors (see
        :mod:`als_spark.train.acceleration`).
    """

    tol: float = 1e-3
    max_iter: int = 1000
    seed: int = 0
    dtype: DType = "float32"
    accelerate: bool = False
