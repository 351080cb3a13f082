"""What is minimised: the squared errors and the penalty of the factors.

With Ω the observed (user, item) pairs and n the number of training ratings of a row,

    Σ_Ω (r_ui − u_u·v_i)² + λ (Σ_u n_u^ν |u_u|² + Σ_i n_i^ν |v_i|²)

ν is the *frequency exponent* of the regulariser (Rendle et al. 2022, "Revisiting the Performance of
iALS on Item Recommendation Benchmarks"): 0 is the plain λI of the source notebook, 1 is ALS-WR
(Zhou et al. 2008, "Large-scale Parallel Collaborative Filtering for the Netflix Prize"), which is
what Spark MLlib minimises.

With biases the prediction is μ + b_u + b_i + u_u·v_i: see :mod:`als_spark.solve.biases`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from als_spark.errors import ConfigError
from als_spark.solve.biases import BiasedSolver, plain_side, trained_side
from als_spark.solve.linalg import row_dots
from als_spark.solve.rows import RidgeSolver
from als_spark.solve.solver import RowSolver
from als_spark.types import FloatArray, IntArray, Side


@dataclass(frozen=True, slots=True)
class Objective:
    """The objective of a model, passed whole wherever λ is needed.

    Attributes
    ----------
    reg : float
        λ. Its meaning depends on ``exponent``.
    exponent : float
        ν: a row of n training ratings has the ridge λ n^ν.
    bias_reg : float, optional
        λ_b, the ridge of the user and item biases, multiplied by n^ν too; None: no biases.
    mean : float
        μ, to which the biases are added: the mean of the training ratings.

    Raises
    ------
    ConfigError
        If a member is negative or not finite, or λ or λ_b is 0 with biases.
    """

    reg: float
    exponent: float = 0.0
    bias_reg: float | None = None
    mean: float = 0.0

    def __post_init__(self) -> None:
        """Check every member."""
        for name in ("reg", "exponent"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} {value}: use a finite number of at least 0")
        if self.bias_reg is not None:
            self._check_biases(self.bias_reg)

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
        """Return what solves rows against trained factors: made once a half-step."""
        if self.bias_reg is not None:
            return BiasedSolver(self, fixed, scale=self._scale, mean=self.mean)
        return RidgeSolver(self, fixed)

    def columns(self, rank: int) -> int:
        """Columns of the trained factors of a rank: one more with biases."""
        return rank if self.bias_reg is None else rank + 1

    def plain(self, trained: FloatArray, side: Side) -> FloatArray:
        """Return factors whose products with the other side's are predictions, of trained ones."""
        if self.bias_reg is None:
            return trained
        return plain_side(trained, side, scale=self._scale, mean=self.mean)

    def trained(self, plain: FloatArray, side: Side) -> FloatArray:
        """Return the factors that training has, of those of :meth:`plain`."""
        if self.bias_reg is None:
            return plain
        return trained_side(plain, side, scale=self._scale, mean=self.mean)

    @property
    def _scale(self) -> float:
        """√(λ / λ_b): what a trained bias is multiplied by."""
        return math.sqrt(self.reg / (self.bias_reg or math.nan))

    def _check_biases(self, bias_reg: float) -> None:
        for name, value in (("reg", self.reg), ("bias_reg", bias_reg)):
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} {value}: with biases, use a finite number above 0")
        if not math.isfinite(self.mean):
            raise ConfigError(f"mean {self.mean}: use the mean of the training ratings")

    @property
    def note(self) -> str:
        """Which objective λ belongs to, in words for plots and tables."""
        if self.bias_reg is not None:
            return f"{replace(self, bias_reg=None).note}; biases with λ {self.bias_reg:g}"
        if self.exponent == 0:
            return "ridge λ|x|² for each row (exponent 0)"
        if self.exponent == 1:
            return "ridge λ·n·|x|² for a row of n ratings (exponent 1, as Spark MLlib)"
        return f"ridge λ·n^{self.exponent:g}·|x|² for a row of n ratings"

    def as_record(self) -> dict[str, float]:
        """Return the keys that files have of it; :meth:`from_record` reads them."""
        record = {"lambda_reg": self.reg, "exponent": self.exponent}
        if self.bias_reg is not None:
            record |= {"bias_reg": self.bias_reg, "mean": self.mean}
        return record

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
        biased = ("bias_reg", "mean") if "bias_reg" in record else ()
        for key in ("lambda_reg", "exponent", *biased):
            value = record.get(key)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(
                    f"{source} has no {key}: give the numbers "
                    f"{' and '.join(('lambda_reg', 'exponent', *biased))} of the training"
                )
            values[key] = float(value)
        try:
            return cls(values.pop("lambda_reg"), **values)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
