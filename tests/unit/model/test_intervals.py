"""A variational posterior by ids: intervals, files; and what is served of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from als_spark.errors import ConfigError, DataError
from als_spark.model.factor_model import FactorModel
from als_spark.model.files import save_model
from als_spark.model.foldin import fold_in
from als_spark.model.ids import IdIndex
from als_spark.model.intervals import IntervalModel, load_intervals, save_intervals
from als_spark.solve.blocks import build_block
from als_spark.solve.posterior import Columns, FixedSide, PosteriorSolver, RowPriors
from als_spark.train.bayes.loop import Posterior, train_posterior
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.bayes.serve import served, user_prior
from als_spark.train.bayes.spread import Moments, Samples, spread_of
from als_spark.train.local import LocalBackend
from als_spark.train.metrics import SideStats
from tests.conftest import ROOT
from tests.pages_of_docs import code_blocks
from tests.unit.train.test_posterior_loop import make_backend, make_ratings

Trained = tuple[LocalBackend, SideStats, Posterior]


def sampled(samples: int = 5) -> Posterior:
    options = PosteriorOptions("sample", rank=3, burn_in=2, samples=samples)
    return train_posterior(*make_backend(make_ratings(60, 40)), options)


def model_of(posterior: Posterior) -> IntervalModel:
    users = IdIndex(pa.array([f"u{k}" for k in range(60)]))
    return IntervalModel(users, IdIndex(pa.array(range(100, 140))), spread_of(posterior))


@pytest.fixture(scope="module", params=["full", "diagonal"])
def trained(request: pytest.FixtureRequest) -> Trained:
    backend, stats = make_backend(make_ratings(60, 40))
    options = PosteriorOptions(rank=3, dtype="float64", n_features=2, covariance=request.param)
    return backend, stats, train_posterior(backend, stats, options)


@pytest.fixture
def model(trained: Trained) -> IntervalModel:
    return model_of(trained[2])


def test_variances_are_those_of_draws(trained: Trained) -> None:
    moments = Moments.of(trained[2])
    means, deviations, _ = moments.predict(np.array([4]), np.array([7]))
    rng = np.random.default_rng(0)
    draws = []
    for k, row in enumerate((4, 7)):
        size = moments.rows[k].shape[1]
        covariance = np.zeros((size, size))
        if moments.packed[k].shape[1] == size:
            covariance[np.diag_indices(size)] = moments.packed[k][row]
        else:
            covariance[np.tril_indices(size)] = moments.packed[k][row]
        covariance += np.tril(covariance, -1).T
        draws.append(rng.multivariate_normal(moments.rows[k][row], covariance, 200_000))
    x, y = draws
    drawn = moments.mean + x[:, 0] + y[:, 0] + np.einsum("nd,nd->n", x[:, 1:], y[:, 1:])
    assert drawn.mean() == pytest.approx(means[0], abs=0.01)
    assert drawn.std() == pytest.approx(deviations[0], rel=0.02)


@pytest.mark.parametrize(
    "options",
    [
        PosteriorOptions(rank=4),
        PosteriorOptions(rank=4, covariance="diagonal"),
        PosteriorOptions("sample", rank=4, samples=60),
    ],
    ids=["full", "diagonal", "sample"],
)
def test_intervals_cover_what_they_say(options: PosteriorOptions) -> None:
    rows, columns, values, truth = make_ratings(150, 100, seed=4)
    held_out = np.random.default_rng(1).random(rows.size) < 0.2
    kept = rows[~held_out], columns[~held_out], values[~held_out], truth
    posterior = train_posterior(*make_backend(kept), options)
    index = IdIndex(pa.array(range(150)))
    model = IntervalModel(index, index, spread_of(posterior))
    users, items, ratings = rows[held_out], columns[held_out], values[held_out]
    for share, slack in ((0.5, 0.05), (0.9, 0.03)):
        found = model.predict(users.tolist(), items.tolist(), share)
        within = (found.lower <= ratings) & (ratings <= found.upper)
        assert within.mean() == pytest.approx(share, abs=slack)
        half = NormalDist().inv_cdf(0.5 + share / 2)
        assert (found.upper - found.lower > 2 * half * found.deviation).all()


def test_files_bring_back_the_same(model: IntervalModel, tmp_path: Path) -> None:
    save_intervals(model, tmp_path)
    users, items = ["u1", "u59", "who"], [100, 139, 100]
    expected, found = model.predict(users, items), load_intervals(tmp_path).predict(users, items)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.isnan(one[2])
        assert np.isfinite(one[:2]).all()


def test_samples_come_back_from_files_and_predict_the_same(tmp_path: Path) -> None:
    posterior = sampled()
    model = model_of(posterior)
    save_intervals(model, tmp_path)
    loaded = load_intervals(tmp_path)
    assert isinstance(loaded.spread, Samples)
    assert posterior.draws is not None
    for k in (0, 1):
        np.testing.assert_array_equal(loaded.spread.draws[k], posterior.draws.rows[k])
        np.testing.assert_array_equal(loaded.spread.rows[k], model.spread.rows[k])
    assert loaded.rank == 3
    # Against each sample by itself, of rows with ratings and without.
    users, items = [0, 59, 7], [0, 39, 20]
    found = loaded.predict([f"u{k}" for k in users], [100 + k for k in items], 0.8)
    np.testing.assert_allclose(found.prediction, posterior.predict(*map(np.array, (users, items))))
    drawn = []
    for s in range(5):
        x, y = (
            rows[own, s].astype(float)
            for rows, own in zip(loaded.spread.draws, (users, items), strict=True)
        )
        drawn.append(posterior.mean + x[:, 0] + y[:, 0] + (x[:, 1:] * y[:, 1:]).sum(axis=1))
    spread = np.square(np.array(drawn) - found.prediction).mean(axis=0)
    np.testing.assert_allclose(found.deviation, np.sqrt(spread), rtol=1e-6)
    scales = [own[rows] for own, rows in zip(loaded.spread.scales, (users, items), strict=True)]
    noise = 1 / (posterior.noise * scales[0] * scales[1])
    half = NormalDist().inv_cdf(0.9) * np.sqrt(spread + noise)
    np.testing.assert_allclose(found.upper - found.prediction, half, rtol=1e-6)
    np.testing.assert_allclose(found.prediction - found.lower, half, rtol=1e-6)


def test_damaged_samples_are_refused(tmp_path: Path) -> None:
    model = model_of(sampled())
    spread = model.spread
    assert isinstance(spread, Samples)
    fewer = spread.draws[0], spread.draws[1][:, :4]
    save_intervals(replace(model, spread=replace(spread, draws=fewer)), tmp_path)
    with pytest.raises(DataError, match="the files are of different ranks"):
        load_intervals(tmp_path)
    nothing = spread.draws[0] * np.float32(np.nan), spread.draws[1]
    save_intervals(replace(model, spread=replace(spread, draws=nothing)), tmp_path)
    with pytest.raises(DataError, match="a number is missing, or not finite"):
        load_intervals(tmp_path)
    negative = -spread.scales[0], spread.scales[1]
    save_intervals(replace(model, spread=replace(spread, scales=negative)), tmp_path)
    with pytest.raises(DataError, match="a precision of the noise is not above 0"):
        load_intervals(tmp_path)
    save_intervals(model, tmp_path)
    path = tmp_path / "posterior.json"
    description = json.loads(path.read_text())
    for wrong in (4, 0, "5", None):
        path.write_text(json.dumps({**description, "samples": wrong}))
        with pytest.raises(DataError, match="no readable posterior"):
            load_intervals(tmp_path)


def test_damaged_files_are_refused(model: IntervalModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no readable posterior .*--method variational"):
        load_intervals(tmp_path)
    save_intervals(model, tmp_path)
    path = tmp_path / "posterior.json"
    description = json.loads(path.read_text())
    path.write_text(json.dumps({**description, "format": "other"}))
    with pytest.raises(DataError, match=r"the format is neither 'als_spark.posterior/1' nor"):
        load_intervals(tmp_path)
    path.write_text(json.dumps({**description, "noise": None}))
    with pytest.raises(DataError, match="no readable posterior"):
        load_intervals(tmp_path)
    packed = model.spread.packed
    other = packed[0], np.ones((40, 10 if packed[0].shape[1] == 4 else 4))
    save_intervals(replace(model, spread=replace(model.spread, packed=other)), tmp_path)
    with pytest.raises(DataError, match="the files are of different ranks"):
        load_intervals(tmp_path)


def test_unusable_questions_are_refused(model: IntervalModel, trained: Trained) -> None:
    with pytest.raises(ConfigError, match="coverage=90: use a share"):
        model.predict(["u1"], [100], 90)
    with pytest.raises(ConfigError, match="1 users and 2 items"):
        model.predict(["u1"], [100, 101])
    options = PosteriorOptions("sample", rank=2, burn_in=1, samples=2)
    with pytest.raises(ConfigError, match="has no covariances"):
        Moments.of(train_posterior(*trained[:2], options))


def test_what_a_training_goes_on_from_is_kept(model: IntervalModel, tmp_path: Path) -> None:
    save_intervals(model, tmp_path)
    moments = load_intervals(tmp_path).spread
    assert (moments.freedoms, moments.ridges) == (model.spread.freedoms, model.spread.ridges)
    assert moments.ridges != (1.0, 1.0)
    path = tmp_path / "posterior.json"
    content = json.loads(path.read_text())
    for wrong in ([1.0], [1.0, 0.0], "few", [1.0, "x"], None):
        path.write_text(json.dumps({**content, "freedom": wrong}))
        with pytest.raises(DataError, match="holds no readable posterior"):
            load_intervals(tmp_path)
    # Those of before did not have it.
    del content["freedom"], content["feature_precision"]
    path.write_text(json.dumps(content))
    assert load_intervals(tmp_path).spread.ridges == (1.0, 1.0)


@pytest.mark.parametrize("method", ["variational", "sample", "ridge"])
def test_plain_factors_predict_the_same_and_fold_users_in(trained: Trained, method: str) -> None:
    backend, stats, posterior = trained
    if method == "sample":
        options = PosteriorOptions("sample", rank=3, burn_in=5, samples=9, dtype="float64")
        posterior = train_posterior(backend, stats, options)
    if method == "ridge":
        options = PosteriorOptions("ridge", rank=3, n_features=2, reg=3.0, dtype="float64")
        posterior = train_posterior(backend, stats, options)
        with pytest.raises(ConfigError, match="a ridge does not tell how uncertain it is"):
            spread_of(posterior)
    factors, objective = served(posterior)
    users, items = np.repeat(np.arange(60), 40), np.tile(np.arange(40), 60)
    predicted = np.einsum("nd,nd->n", factors.users[users], factors.items[items])
    np.testing.assert_allclose(predicted, posterior.predict(users, items), atol=1e-9)
    item_stats = SideStats.of(40, [backend.blocks["item"]])
    index = IdIndex(pa.array(range(60))), IdIndex(pa.array(range(40)))
    model = FactorModel(*index, factors, stats, item_stats, objective.as_record())
    ratings = np.array([5.0, 1.0, 4.0])
    folded = fold_in(model, "user", [900, 900, 900], [2, 5, 11], ratings)
    # The posterior mean under the prior of users, by the half-step of the method.
    mean, covariance = user_prior(posterior)
    size = mean.size
    columns = Columns(size, "mean")
    table = np.zeros((40, columns.total))
    columns.means(table)[:] = posterior.items
    priors = RowPriors(
        mean[None], np.linalg.inv(covariance), np.ones(1), np.full(1, 1 / objective.reg)
    )
    fixed = FixedSide.of(table, columns, np.ones(40), posterior.mean, "float64")
    block = build_block(np.zeros(3, int), np.array([2, 5, 11]), ratings, n_rows=1, n_columns=40)
    x = PosteriorSolver(columns, fixed, priors).solve(block, side="user")[0][0, :size]
    expected = posterior.mean + x[0] + posterior.items[:, 0] + posterior.items[:, 1:] @ x[1:]
    np.testing.assert_allclose(folded.factors[0] @ factors.items.T, expected, atol=1e-5)


def test_the_blocks_of_the_page_run(
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    index = IdIndex(pa.array(range(60))), IdIndex(pa.array(range(40)))
    backend, stats, posterior = trained
    factors, objective = served(posterior)
    item_stats = SideStats.of(40, [backend.blocks["item"]])
    model = FactorModel(*index, factors, stats, item_stats, objective.as_record())
    save_model(model, tmp_path / "model")
    save_intervals(IntervalModel(*index, Moments.of(trained[2])), tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    featured, first, risk, second = code_blocks(ROOT / "docs" / "bayes.md", "python")
    names: dict[str, Any] = {}
    exec(first, names)
    assert np.isfinite(names["found"]).all()
    exec(risk, names)
    assert names["risk"].coverage == 0.8
    exec(second, names)
    assert names["posterior"].converged
    exec(featured, names)
    assert names["posterior"].items.shape[0] == 42
    assert capsys.readouterr().out.count("\n") >= 2
