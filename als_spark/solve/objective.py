"""What is minimised: the squared errors and the penalty of the factors.

With Ω the observed (user, item) pairs and n the number of training ratings of a row,

    Σ_Ω (r_ui − u_u·v_i)² + λ (Σ_u n_u^ν |u_u|² + Σ_i n_i^ν |v_i|²)

ν is the *frequency exponent* of the regulariser (Rendle et al. 2022, "Revisiting the Performance of
iALS on Item Recommendation Benchmarks"): 0 is the plain λI of the source notebook, 1 is ALS-WR
(Zhou et al. 2008, "Large-scale Parallel Collaborative Filtering for the Netflix Prize"), which is
what Spark MLlib minimises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from als_spark.errors import ConfigError
from als_spark.solve.linalg import row_dots
from als_spark.solve.rows import RidgeSolver
from als_spark.solve.solver import RowSolver
from als_spark.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Objective:
    """The objective of a model, passed whole wherever λ is needed.

    Attributes
    ----------
    reg : float
        λ. Its meaning depends on ``exponent``.
    exponent : float
        ν: a row of n training ratings has the ridge λ n^ν.

    Raises
    ------
    ConfigError
        If a member is negative or not finite.
    """

    reg: float
    exponent: float = 0.0

    def __post_init__(self) -> None:
        """Check every member."""
        for name in ("reg", "exponent"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} {value}: use a finite number of at least 0")

    def weights(self, degrees: IntArray) -> FloatArray:
        """(n_rows,) float64 λ n^ν of rows of n ratings each; 0 for a row without a rating."""
        weights = np.zeros(degrees.size)
        rated = degrees > 0
        weights[rated] = self.reg * degrees[rated].astype(np.float64) ** self.exponent
        return weights

    def penalty(self, factors: FloatArray, degrees: IntArray) -> float:
        """``λ Σ n^ν |x|²`` over the rows x with a training rating, in float64.

        Parameters
        ----------
        factors : (n_rows, rank)
        degrees : (n_rows,) int
            Training ratings of each row.
        """
        return float(self.weights(degrees) @ row_dots(factors, factors))

    def row_solver(self, fixed: FloatArray) -> RowSolver:
        """Return what solves rows against (n_fixed, rank) factors: made once a half-step."""
        return RidgeSolver(self, fixed)

    @property
    def note(self) -> str:
        """Which objective λ belongs to, in words for plots and tables."""
        if self.exponent == 0:
            return "ridge λ|x|² for each row (exponent 0)"
        if self.exponent == 1:
            return "ridge λ·n·|x|² for a row of n ratings (exponent 1, as Spark MLlib)"
        return f"ridge λ·n^{self.exponent:g}·|x|² for a row of n ratings"

    def as_record(self) -> dict[str, float]:
        """Return the keys that files have of it; :meth:`from_record` reads them."""
        return {"lambda_reg": self.reg, "exponent": self.exponent}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], source: str) -> Objective:
        """Read the objective from the keys of a file.

        Parameters
        ----------
        record : mapping
        source : str
            What the record is, for the message of an error: ``"the model's description"``.

        Raises
        ------
        ConfigError
            If a key is missing, or its value is unusable.
        """
        values = {}
        for key in ("lambda_reg", "exponent"):
            value = record.get(key)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(
                    f"{source} has no {key}: give the numbers lambda_reg and exponent of the "
                    "training"
                )
            values[key] = float(value)
        try:
            return cls(values["lambda_reg"], values["exponent"])
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
