"""What is minimised: the squared errors and the penalty of the factors.

With Ω the observed (user, item) pairs and n the number of training ratings of a row,

    Σ_Ω (r_ui − u_u·v_i)² + λ (Σ_u n_u^ν |u_u|² + Σ_i n_i^ν |v_i|²)

ν is the *frequency exponent* of the regulariser (Rendle et al. 2022, "Revisiting the Performance of
iALS on Item Recommendation Benchmarks"): 0 is the plain λI of the source notebook, 1 is ALS-WR
(Zhou et al. 2008, "Large-scale Parallel Collaborative Filtering for the Netflix Prize"), which is
what Spark MLlib minimises.

For *implicit* feedback (Hu, Koren, Volinsky 2008, "Collaborative Filtering for Implicit Feedback
Datasets"), as Spark MLlib minimises it, the first sum is over all pairs of a user and an item with
training ratings,

    Σ_(u,i) c_ui (p_ui − u_u·v_i)²

with preference p = 1 where the rating is above 0, else 0, and confidence c = 1 + α |r| (1 where
there is no rating); n counts the ratings above 0. With *nonnegative* factors either is minimised
over factors of at least 0. With *biases* the prediction of an explicit rating is μ + b_u + b_i +
u_u·v_i: see :mod:`als_spark.solve.biases`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from als_spark.errors import ConfigError
from als_spark.solve.biases import BiasedSolver, plain_side, trained_side
from als_spark.solve.equations import SquaredErrors
from als_spark.solve.implicit import Preferences, RotatedPreferences
from als_spark.solve.linalg import row_dots
from als_spark.solve.rows import RidgeSolver
from als_spark.solve.solver import RowSolver
from als_spark.types import FloatArray, IntArray, Side

LARGEST_EXPONENT = 4.0
"""Largest ν that jobs and estimator take."""
LARGEST_NUMBER = 1e150
"""Largest ridge and confidence of a row; sums of squares of such numbers are still finite."""
MORE_KEYS = ("implicit", "alpha", "nonnegative")
"""Keys that only files of objectives have in which they are on; see :meth:`Objective.as_record`."""
IMPLICIT_CAVEAT = (
    "feedback is implicit: predictions are preferences, so errors, which compare them with the "
    "ratings, mean little"
)
"""For people who read errors of implicit models."""


@dataclass(frozen=True, slots=True)
class Objective:
    """The objective of a model, passed whole wherever λ is needed.

    Attributes
    ----------
    reg : float
        λ. Its meaning depends on ``exponent``.
    exponent : float
        ν: a row of n training ratings has the ridge λ n^ν; if ``implicit``, n of them are above 0.
    implicit : bool
        Whether ratings say how much a preference is trusted, and pairs without one count too.
    alpha : float
        α: how much a rating adds to the confidence in its pair; only if ``implicit``.
    nonnegative : bool
        Whether no factor may be negative.
    bias_reg : float, optional
        λ_b, the ridge of the user and item biases, multiplied by n^ν too; None: no biases.
    mean : float
        μ, to which the biases are added: the mean of the training ratings.

    Raises
    ------
    ConfigError
        If a number is negative or not finite, a switch is neither True nor False, an α is given
        that would have no effect, or biases are asked for with λ or λ_b of 0, with implicit
        feedback or with nonnegative factors.
    """

    reg: float
    exponent: float = 0.0
    implicit: bool = False
    alpha: float = 1.0
    nonnegative: bool = False
    bias_reg: float | None = None
    mean: float = 0.0

    def __post_init__(self) -> None:
        """Check every member."""
        for name in ("reg", "exponent", "alpha"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} {value}: use a finite number of at least 0")
        for name in ("implicit", "nonnegative"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} {getattr(self, name)!r}: use True or False")
        if self.alpha != 1 and not self.implicit:
            raise ConfigError(
                f"alpha {self.alpha:g} has no effect on explicit ratings: leave it out, or choose "
                "implicit feedback"
            )
        if self.bias_reg is not None:
            self._check_biases(self.bias_reg)

    def weights(self, degrees: IntArray) -> FloatArray:
        """(n_rows,) float64 λ n^ν of rows of n ratings each; 0 for a row without a rating."""
        weights: FloatArray = np.where(degrees > 0, float(self.reg), 0.0)
        # A power takes as long as a small system, and most objectives need none.
        if self.exponent == 1:
            weights *= degrees
        elif self.exponent:
            weights *= np.maximum(degrees, 1).astype(np.float64) ** self.exponent
        return weights

    def check_size(self, most: int, largest: float = 0.0) -> None:
        """Refuse numbers that are so large that sums over them may not be finite.

        Parameters
        ----------
        most : int
            Training ratings of the row that has the most.
        largest : float
            The largest rating in size.

        Raises
        ------
        ConfigError
            If a ridge λ n^ν, or a confidence ``1 + α |r|``, is beyond :data:`LARGEST_NUMBER`.
        """
        with np.errstate(over="ignore"):
            times = np.float64(max(most, 1)) ** self.exponent
            for name, reg in (("lambda", self.reg), ("lambda of the biases", self.bias_reg or 0)):
                if not reg * times <= LARGEST_NUMBER:
                    raise ConfigError(
                        f"{name} {reg:g} with exponent {self.exponent:g}: {name} · n^exponent of a "
                        f"row of {most:,} ratings is beyond {LARGEST_NUMBER:g}: use a smaller one"
                    )
        if self.implicit and not self.alpha * largest <= LARGEST_NUMBER:
            raise ConfigError(
                f"alpha {self.alpha:g} with ratings as large as {largest:g}: alpha · rating is "
                f"beyond {LARGEST_NUMBER:g}: use a smaller alpha"
            )

    def penalty(self, factors: FloatArray, degrees: IntArray) -> float:
        """``λ Σ n^ν |x|²`` over the rows x with a training rating, in float64.

        Parameters
        ----------
        factors : (n_rows, rank)
        degrees : (n_rows,) int
            Training ratings of each row; if ``implicit``, those above 0.
        """
        return float(self.weights(degrees) @ row_dots(factors, factors))

    def row_solver(
        self,
        fixed: FloatArray,
        degrees: IntArray | None = None,
        gram: FloatArray | None = None,
    ) -> RowSolver:
        """Return what solves rows against fixed factors: made once a half-step.

        Parameters
        ----------
        fixed : (n_fixed, columns) float32 or float64
            Trained factors: see :meth:`columns`.
        degrees : (n_fixed,) int, optional
            Training ratings of each row of ``fixed``. An implicit objective needs them, for rows
            without any are in none of its sums.
        gram : (columns, columns), optional
            In their place: the sum of v vᵀ over all rows v of the other side with training ratings,
            where ``fixed`` has a part of them.
        """
        if self.bias_reg is not None:
            return BiasedSolver(self, fixed, scale=self._scale, mean=self.mean)
        if not self.implicit:
            explicit = SquaredErrors(self, fixed, nonnegative=self.nonnegative)
            return RidgeSolver(explicit, nonnegative=self.nonnegative)
        kind = Preferences if self.nonnegative else RotatedPreferences
        equations = kind(self, self.alpha, fixed, degrees, gram)
        return RidgeSolver(equations, nonnegative=self.nonnegative)

    def feasible(self, factors: FloatArray) -> FloatArray:
        """Return the nearest factors that the objective is defined on."""
        return np.maximum(factors, 0) if self.nonnegative else factors

    def masses(self, degrees: IntArray, n_others: int) -> FloatArray:
        """Tell how much the errors of each row weigh, for the metric of the acceleration.

        Parameters
        ----------
        degrees : (n_rows,) int
            Training ratings of each row of a side.
        n_others : int
            Rows of the other side that have training ratings.

        Returns
        -------
        (n_rows,) float64
            The number of the row's ratings; if ``implicit``, about the sum of its confidences.
        """
        counts = degrees.astype(np.float64)
        if not self.implicit:
            return counts
        return np.where(degrees > 0, n_others + self.alpha * counts, 0.0)

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
        if self.implicit or self.nonnegative:
            raise ConfigError(
                "biases are learnt for explicit ratings and factors of any sign alone: leave them "
                "out, or implicit feedback and nonnegative factors"
            )
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
        n = "n ratings above 0" if self.implicit else "n ratings"
        if self.exponent == 0:
            ridge = "ridge λ|x|² for each row (exponent 0)"
        elif self.exponent == 1:
            ridge = f"ridge λ·n·|x|² for a row of {n} (exponent 1, as Spark MLlib)"
        else:
            ridge = f"ridge λ·n^{self.exponent:g}·|x|² for a row of {n}"
        implicit = f", implicit feedback with α = {self.alpha:g}" if self.implicit else ""
        return ridge + implicit + (", factors of at least 0" if self.nonnegative else "")

    @property
    def brief(self) -> str:
        """Its numbers, for a line of a log."""
        alpha = f", implicit, alpha={self.alpha:g}" if self.implicit else ""
        sign = ", nonnegative" if self.nonnegative else ""
        return f"lambda={self.reg:g}, exponent={self.exponent:g}{alpha}{sign}"

    def as_record(self) -> dict[str, float | bool]:
        """Return the keys that files have of it; :meth:`from_record` reads them.

        What is off has no key.
        """
        record: dict[str, float | bool] = {"lambda_reg": self.reg, "exponent": self.exponent}
        if self.implicit:
            record |= {"implicit": True, "alpha": self.alpha}
        if self.nonnegative:
            record |= {"nonnegative": True}
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
            If a key that has no default is missing, or a value is unusable.
        """
        values = {}
        needed = ["lambda_reg", "exponent"]
        needed += ["alpha"] if "alpha" in record or record.get("implicit") is True else []
        needed += ["bias_reg", "mean"] if "bias_reg" in record else []
        for key in needed:
            value = record.get(key)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(
                    f"{source} has no {key}: give the numbers {' and '.join(needed)} of the "
                    "training"
                )
            values[key] = float(value)
        implicit, nonnegative = (record.get(key, False) for key in ("implicit", "nonnegative"))
        try:
            return cls(
                values.pop("lambda_reg"), **values, implicit=implicit, nonnegative=nonnegative
            )
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
