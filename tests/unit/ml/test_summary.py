"""What a model tells of its fit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from als_spark import ALSModel
from als_spark.ml.summary import ALSTrainingSummary
from als_spark.solve.objective import Objective
from als_spark.train.grid import grid_specs
from als_spark.train.loop import train_models
from als_spark.train.records import TrainingOptions
from tests import reference
from tests.conftest import local_backend, random_triples

TRIPLES = random_triples(n_ratings=400, seed=3)


def fitted(n: int, dtype: str = "float64", tol: float = 0.0):
    options = TrainingOptions(tol=tol, max_iter=n, dtype=dtype)
    specs = grid_specs([3], [Objective(0.1, exponent=1.0)])
    (trained,) = train_models(local_backend(TRIPLES, dtype=dtype), specs, options)
    return trained, ALSTrainingSummary.of(trained, 400, {"rank": 3}, implicit=False)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-4)])
def test_the_error_is_that_of_the_factors_after_each_iteration(dtype, tolerance):
    for n in (1, 4):
        trained, summary = fitted(n, dtype)
        mse, _ = reference.errors(*TRIPLES[:3], *trained.factors)
        assert summary.rmse == pytest.approx(math.sqrt(mse), rel=tolerance)
    first, *_ = summary.iterations
    assert first.rmse == pytest.approx(fitted(1, dtype)[1].rmse, rel=1e-12)


def test_it_repeats_the_history():
    trained, summary = fitted(4)
    assert summary.totalIterations == 4
    assert [entry.iteration for entry in summary.iterations] == [1, 2, 3, 4]
    assert summary.objectiveHistory == [record.objective for record in trained.history]
    assert [entry.change for entry in summary.iterations] == [r.change for r in trained.history]
    assert summary.seconds == trained.seconds == summary.iterations[-1].seconds
    assert summary.objective == trained.objective
    assert not summary.converged
    assert fitted(50, tol=0.1)[1].converged
    assert np.diff(summary.objectiveHistory).max() < 0


def test_one_line():
    _, summary = fitted(2)
    assert repr(summary) == (
        f"ALSTrainingSummary: iterations=2, converged=False, objective={summary.objective:.6g}, "
        f"rmse={summary.rmse:.6g}, numRatings=400, seconds={summary.seconds:.3g}"
    )


def test_ratings_that_are_not_predicted_have_no_error():
    trained, _ = fitted(2)
    summary = ALSTrainingSummary.of(trained, 400, {}, implicit=True)
    assert math.isnan(summary.rmse)
    assert "rmse" not in repr(summary)


def test_no_iteration():
    _, summary = fitted(0)
    assert (summary.totalIterations, summary.objectiveHistory, summary.seconds) == (0, [], 0.0)
    assert math.isnan(summary.objective)
    assert math.isnan(summary.rmse)


def test_a_model_without_one():
    model = ALSModel()
    assert not model.hasSummary
    with pytest.raises(RuntimeError, match="No training summary available for this ALSModel"):
        model.summary  # noqa: B018
