"""Whether predictions and intervals are what they say: sums that add up, tenths, coverage."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pyarrow as pa
import pytest

from als_spark.model.calibration import (
    LEVELS,
    N_PLACES,
    CalibrationSums,
    Calibrator,
    coverage_record,
    predictions_record,
)
from als_spark.model.description import learnt_of
from als_spark.model.ids import IdIndex
from als_spark.model.intervals import IntervalModel
from als_spark.train.bayes.loop import train_posterior
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.bayes.serve import prior_deviations
from als_spark.train.bayes.spread import Moments
from tests.unit.train.test_posterior_loop import make_backend, make_ratings

NOBODY = pa.array([], pa.int64())


def sums_of(predicted: list[float], ratings: list[float]) -> CalibrationSums:
    return Calibrator(1.0, 5.0).sums(NOBODY, NOBODY, np.array(predicted), np.array(ratings))


def test_tenths_are_of_the_predictions_in_their_order() -> None:
    rng = np.random.default_rng(0)
    predicted, ratings = rng.uniform(0.5, 5.5, 2000), rng.uniform(1, 5, 2000)
    parts = [
        sums_of(p.tolist(), r.tolist())
        for p, r in zip(*(np.split(own, [5, 900]) for own in (predicted, ratings)), strict=True)
    ]
    record = predictions_record(reduce(add, parts))
    order = np.argsort(predicted)
    # A place in the middle of the scale has two of them.
    assert [part["count"] for part in record] == pytest.approx([200] * 10, abs=210)
    assert sum(part["count"] for part in record) == 2000
    ends = np.cumsum([part["count"] for part in record])
    for part, own in zip(record, np.split(order, ends[:-1]), strict=True):
        assert part["predicted"] == pytest.approx(predicted[own].mean(), abs=4 / N_PLACES)
        assert part["observed"] == pytest.approx(ratings[own].mean(), abs=0.02)
    whole = sums_of(predicted.tolist(), ratings.tolist())
    np.testing.assert_allclose(
        CalibrationSums.from_bytes(whole.to_bytes()).predictions, reduce(add, parts).predictions
    )


def test_equal_predictions_and_cold_ratings() -> None:
    (one,) = predictions_record(sums_of([3.0, 3.0, np.nan, 3.0], [2.0, 5.0, 1.0, 2.0]))
    assert one == {"count": 3, "predicted": 3.0, "observed": 3.0}
    assert predictions_record(CalibrationSums.zeros()) == []
    assert coverage_record(CalibrationSums.zeros()) == []
    # A scale of one rating.
    same = Calibrator(4.0, 4.0).sums(NOBODY, NOBODY, np.array([4.0, 3.0]), np.array([4.0, 4.0]))
    assert sum(part["count"] for part in predictions_record(same)) == 2


def test_coverage_is_the_share_within_intervals() -> None:
    rows, columns, values, _ = (made := make_ratings(60, 40))
    posterior = train_posterior(*make_backend(made), PosteriorOptions(rank=2, max_iter=5))
    users, items = IdIndex(pa.array(range(60))), IdIndex(pa.array(range(100, 140)))
    model = IntervalModel(users, items, Moments.of(posterior))
    predicted = posterior.predict(rows, columns)
    predicted[::7] = np.nan
    pairs = pa.array(rows), pa.array(columns + 100)
    sums = Calibrator(1.0, 5.0, model).sums(*pairs, predicted, values)
    known = ~np.isnan(predicted)
    assert sums.levels.sum() == known.sum()
    record = coverage_record(sums)
    assert [entry["coverage"] for entry in record] == [level / 100 for level in LEVELS]
    for entry in record:
        found = model.predict(rows, columns + 100, entry["coverage"])
        within = (found.lower <= values) & (values <= found.upper)
        assert entry["observed"] == pytest.approx(within[known].mean(), abs=1e-12)
    # What nothing is known of is left out.
    strange = Calibrator(1.0, 5.0, replace(model, users=IdIndex(pa.array(range(200, 260)))))
    assert strange.sums(*pairs, predicted, values).levels.sum() == 0


def test_what_a_prior_says_is_in_rating_units() -> None:
    made = make_ratings(60, 40)
    posterior = train_posterior(*make_backend(made), PosteriorOptions(rank=2, dtype="float64"))
    found = prior_deviations(posterior)
    users, items = posterior.sides["user"], posterior.sides["item"]
    assert found["user_bias"] == pytest.approx(np.linalg.inv(users.precision)[0, 0] ** 0.5)
    rng = np.random.default_rng(0)
    draws = [
        (
            own.prior_means[own.rated][rng.integers(0, own.rated.sum(), 100_000)]
            + rng.multivariate_normal(np.zeros(3), np.linalg.inv(own.precision), 100_000)
        )[:, 1:]
        for own in (users, items)
    ]
    products = np.einsum("nd,nd->n", *draws)
    assert found["products"] == pytest.approx(np.sqrt(np.mean(products**2)), rel=0.03)


def test_what_was_learnt_stands_in_the_description() -> None:
    posterior = {"method": "variational", "noise_deviation": 0.7, "rank": 8}
    assert learnt_of({"posterior": posterior}) == {"noise_deviation": 0.7}
    assert learnt_of({}) is None
    assert learnt_of({"posterior": {"method": "ridge", "reg": 2.0}}) is None
