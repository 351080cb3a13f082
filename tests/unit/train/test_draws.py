"""Samples that are kept, and the error of their mean while they are drawn."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from als_spark.solve.blocks import build_block
from als_spark.train.bayes.draws import spaced
from als_spark.train.bayes.loop import Posterior, train_posterior
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.bayes.spread import Samples
from als_spark.train.local import LocalBackend
from als_spark.train.metrics import EvaluationPart
from als_spark.types import FloatArray, SplitName
from tests.unit.train.test_posterior_loop import make_backend, make_ratings

N_USERS, N_ITEMS, UNRATED = 900, 8, 300
FEW = PosteriorOptions("sample", rank=2, burn_in=3, samples=7, dtype="float64")


class Toy(NamedTuple):
    """Items that are all but known, users of few ratings, and the last users of none."""

    rated: npt.NDArray[np.bool_]
    posterior: Posterior


@pytest.fixture(scope="module")
def toy() -> Toy:
    rng = np.random.default_rng(3)
    items = np.array([np.ones(N_ITEMS), rng.normal(size=N_ITEMS)])
    truth = 3 + rng.normal(size=(N_USERS, 2)) @ items
    rated = rng.random(truth.shape) < 0.4
    rated[-UNRATED:] = False
    rows, columns = np.nonzero(rated)
    values = truth[rated] + 0.5 * rng.normal(size=rows.size)
    options = PosteriorOptions("sample", rank=1, noise="shared", burn_in=20, samples=60)
    return Toy(rated, train_posterior(*make_backend((rows, columns, values, truth)), options))


def test_deviations_are_those_of_the_conjugate_posterior(toy: Toy) -> None:
    """Given items, prior and noise a user is normal: (Λ + a Σ z zᵀ)⁻¹, and Λ⁻¹ without ratings."""
    state = toy.posterior.sides["user"]
    z = toy.posterior.sides["item"].means.copy()
    z[:, 0] = 1
    sums = toy.posterior.noise * np.einsum("ui,id,ie->ude", toy.rated, z, z)
    covariances = np.linalg.inv(state.precision + sums)
    wanted = np.einsum("id,ude,ie->ui", z, covariances, z)
    users, items = np.indices(wanted.shape).reshape(2, -1)
    found = Samples.of(toy.posterior).predict(users, items)[1].reshape(wanted.shape) ** 2
    # Means over users of variances that 20 samples tell: without ratings, with few, with many.
    counts = toy.rated.sum(axis=1)
    for group in (counts == 0, (counts > 0) & (counts < 3), counts >= 3):
        ratios = found[group].mean(axis=0) / wanted[group].mean(axis=0)
        np.testing.assert_allclose(ratios, 1, atol=0.25)
        assert ratios.mean() == pytest.approx(1, abs=0.1)


def test_kept_samples_are_spaced_and_the_last_is_one_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert spaced(160, 20) == list(range(8, 161, 8))
    assert spaced(7, 3) == [2, 4, 7]
    assert spaced(2, 2) == [1, 2]
    known = make_backend(make_ratings(30, 20))
    assert train_posterior(*known, FEW).draws.rows[0].shape == (30, 7, 3)  # type: ignore[union-attr]
    monkeypatch.setattr("als_spark.train.bayes.options.KEPT", 3)
    posterior = train_posterior(*known, FEW)
    assert posterior.draws is not None
    for k, side in enumerate(posterior.sides.values()):
        kept = posterior.draws.rows[k]
        assert kept.shape == (side.degrees.size, 3, 3)
        assert kept.dtype == np.float32
        rated = side.rated
        np.testing.assert_array_equal(kept[rated, -1], side.means[rated].astype(np.float32))
        assert not np.allclose(kept[~rated, -1], side.means[~rated])
        assert not np.allclose(kept[:, 0], kept[:, 1])
        assert (posterior.draws.scales[k] > 0).all()


def test_samples_are_the_same_however_ratings_lie() -> None:
    rows, columns, values, truth = make_ratings(30, 20)
    order = np.random.default_rng(1).permutation(rows.size)
    shuffled = rows[order], columns[order], values[order], truth
    one, other = (
        Samples.of(train_posterior(*make_backend(known), FEW))
        for known in ((rows, columns, values, truth), shuffled)
    )
    for k in (0, 1):
        np.testing.assert_allclose(other.draws[k], one.draws[k], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(other.scales[k], one.scales[k], rtol=1e-9)


def test_fewer_are_kept_of_many_rows() -> None:
    options = PosteriorOptions("sample")
    # 17 numbers a row, of 4 bytes, within 2 GiB.
    assert [options.kept(n) for n in (0, 10**6, 2 * 10**6, 10**7)] == [20, 20, 15, 3]
    assert replace(options, samples=5).kept(10**6) == 5


def held_out(
    split: SplitName, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], left: FloatArray
) -> EvaluationPart:
    return EvaluationPart(split, build_block(rows, columns, left, n_rows=60, n_columns=40))


@pytest.mark.parametrize("splits", [("test",), ("test", "validation")])
def test_the_error_of_the_mean_is_measured_as_it_grows(splits: tuple[SplitName, ...]) -> None:
    rows, columns, values, truth = make_ratings(60, 40)
    parts = np.random.default_rng(0).integers(0, 8, rows.size)
    train = parts >= len(splits)
    kept = rows[train], columns[train], values[train], truth
    backend, stats = make_backend(kept)
    backend.evaluation = [
        held_out(split, rows[parts == k], columns[parts == k], values[parts == k])
        for k, split in enumerate(splits)
    ]
    options = replace(FEW, samples=40)
    posterior = train_posterior(backend, stats, options)
    measured = [record.iteration for record in posterior.history if math.isfinite(record.rmse)]
    assert measured == list(range(7, 44, 4))
    # The last is that of the model, by the part that a person chooses by.
    chosen = parts == len(splits) - 1
    left = values[chosen] - posterior.predict(rows[chosen], columns[chosen])
    assert posterior.history[-1].rmse == pytest.approx(math.sqrt(np.mean(left**2)), rel=1e-9)
    assert posterior.history[-1].rmse < posterior.history[measured[0] - 1].rmse
    # It changes nothing.
    alone = train_posterior(*make_backend(kept), options)
    assert all(math.isnan(record.rmse) for record in alone.history)
    np.testing.assert_array_equal(alone.users, posterior.users)


def test_nothing_is_measured_again_where_nothing_is_held_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend, stats = make_backend(make_ratings(30, 20))
    asked: list[str] = []
    measure = LocalBackend.errors

    def errors(self: LocalBackend, models: object, label: str) -> object:
        asked.append(label)
        return measure(self, models, label)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalBackend, "errors", errors)
    train_posterior(backend, stats, FEW)
    assert asked == ["sample, iteration 4: errors of the mean"]
