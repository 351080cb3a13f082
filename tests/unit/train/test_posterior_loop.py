"""The Bayesian methods on the in-process backend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as distributions

from als_spark.errors import ConfigError
from als_spark.solve.blocks import build_block
from als_spark.train.bayes.chains import effective_size, split_r_hat
from als_spark.train.bayes.features import expected_features, implicit_features
from als_spark.train.bayes.loop import train_posterior
from als_spark.train.bayes.mean import SampleMean
from als_spark.train.bayes.noise import Gammas
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.bayes.prior import first_prior, learn_prior
from als_spark.train.bayes.spread import Moments
from als_spark.train.bayes.warm import PosteriorStart, SideStart
from als_spark.train.local import LocalBackend
from als_spark.train.metrics import SideStats

NOISE = 0.5


def make_ratings(n_users=150, n_items=100, rank=3, share=0.35, seed=0):
    """Ratings of a known model, with noise of a known size: dense triples."""
    rng = np.random.default_rng(seed)
    users, items = rng.normal(size=(n_users, rank)), rng.normal(size=(n_items, rank))
    truth = 3 + rng.normal(size=(n_users, 1)) * 0.4 + rng.normal(size=n_items) * 0.4
    truth = truth + users @ items.T / np.sqrt(rank)
    rated = rng.random(truth.shape) < share
    # A user and an item without ratings.
    rated[-1], rated[:, -1] = False, False
    rows, columns = np.nonzero(rated)
    return rows, columns, truth[rated] + NOISE * rng.normal(size=rows.size), truth


def make_backend(ratings):
    rows, columns, values, truth = ratings
    n_users, n_items = truth.shape
    by_user = build_block(rows, columns, values, n_rows=n_users, n_columns=n_items)
    by_item = build_block(columns, rows, values, n_rows=n_items, n_columns=n_users)
    return LocalBackend(by_user, by_item), SideStats.of(n_users, [by_user])


@pytest.fixture(scope="module")
def ratings():
    return make_ratings()


@pytest.fixture(scope="module")
def known(ratings):
    return make_backend(ratings)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize(("noise", "n_features"), [("shared", 0), ("rows", 0), ("rows", 5)])
def test_the_bound_never_falls(known, noise, n_features, covariance):
    options = PosteriorOptions(
        rank=4,
        noise=noise,
        n_features=n_features,
        tol=0,
        max_iter=40,
        dtype="float64",
        covariance=covariance,
    )
    bounds = [record.bound for record in train_posterior(*known, options).history]
    assert len(bounds) >= 30
    steps = np.diff(bounds)
    assert (steps >= -1e-10 * np.abs(bounds[1:])).all()
    assert steps[0] > 0


@pytest.mark.parametrize(("exponent", "n_features"), [(0.0, 5), (0.7, 5), (0.0, 0)])
def test_a_ridge_towards_a_mean_is_best_where_it_stops(known, exponent, n_features):
    """Against the objective computed densely, and against changes of everything learnt."""
    backend, stats = known
    options = PosteriorOptions(
        *("ridge", 3, "shared", n_features),
        reg=2.0,
        exponent=exponent,
        feature_ridge=6.0,
        dtype="float64",
        tol=1e-13,
        max_iter=400,
    )
    found = train_posterior(backend, stats, options)
    bounds = np.array([record.bound for record in found.history])
    assert (np.diff(bounds) >= -1e-10 * np.abs(bounds[1:])).all()
    assert bounds[-1] > bounds[0]
    users, items, values = backend.blocks["user"].triples()
    rated = {side: found.sides[side].rated for side in ("user", "item")}
    start = []
    for side in rated:
        state = found.sides[side]
        start += [state.means, state.coefficients]

    def objective(user_rows, user_mean, item_rows, item_mean):
        x, y = user_rows[users], item_rows[items]
        predicted = stats.mean + x[:, 0] + y[:, 0] + np.sum(x[:, 1:] * y[:, 1:], axis=1)
        total = np.sum((values - predicted) ** 2)
        for side, rows, mean in (("user", user_rows, user_mean), ("item", item_rows, item_mean)):
            state = found.sides[side]
            counts = backend.degrees(side)[rated[side]] ** exponent
            left = (rows - state.features @ mean)[rated[side]]
            ridge = np.array([2.0] + [6.0] * (mean.shape[0] - 1))
            total += 2.0 * (counts @ np.sum(left**2, axis=1))
            total += 2.0 * counts.mean() * (ridge @ np.sum(mean**2, axis=1))
        return total

    least = objective(*start)
    assert least == pytest.approx(-bounds[-1], rel=1e-9)
    rng = np.random.default_rng(0)
    for k, part in enumerate(start):
        change = 1e-3 * rng.normal(size=part.shape)
        for sign in (-1, 1):
            moved = [own + sign * change if at == k else own for at, own in enumerate(start)]
            assert objective(*moved) > least
    # A row without a rating has the mean of its side.
    np.testing.assert_allclose(found.users[-1], found.sides["user"].coefficients[0], atol=1e-3)


def test_features_of_a_ridge_bring_rows_of_few_ratings_nearer(ratings):
    """Who has rated what tells of the rows: such ratings are made here, and held out."""
    rng = np.random.default_rng(3)
    tastes, kinds = rng.integers(0, 3, 200), rng.integers(0, 3, 80)
    effect = rng.normal(size=(3, 3))
    truth = 3 + effect[tastes][:, kinds]
    rated = rng.random(truth.shape) < np.where(tastes[:, None] == kinds, 0.25, 0.05)
    held_out = ~rated & (rng.random(truth.shape) < 0.2)
    rows, columns = np.nonzero(rated)
    values = truth[rated] + 0.5 * rng.normal(size=rows.size)
    backend, stats = make_backend((rows, columns, values, truth))
    errors = []
    for n_features in (0, 4):
        options = PosteriorOptions(
            "ridge", 4, n_features=n_features, reg=4.0, feature_ridge=20.0, max_iter=30
        )
        found = train_posterior(backend, stats, options)
        users, items = np.nonzero(held_out)
        left = found.predict(users, items) - truth[held_out]
        errors.append(float(np.sqrt(np.mean(left**2))))
    assert errors[1] < 0.9 * errors[0]


@pytest.fixture(scope="module")
def featured():
    """Ratings of items of three kinds and a size, which half of their means comes from."""
    rng = np.random.default_rng(5)
    kinds, size = np.eye(3)[rng.integers(0, 3, 90)], rng.normal(size=(90, 1))
    features = np.concatenate([kinds - kinds.mean(axis=0), size], axis=1)
    tastes = rng.normal(size=(120, 4))
    truth = 3 + features @ rng.normal(size=4) * 0.8 + tastes @ features.T * 0.5
    rated = rng.random(truth.shape) < 0.3
    rated[:, 70:] = False
    rows, columns = np.nonzero(rated)
    values = truth[rated] + 0.3 * rng.normal(size=rows.size)
    return rows, columns, values, truth, features


METHODS = (
    PosteriorOptions("ridge", 4, reg=2.0, feature_ridge=5.0, max_iter=20, dtype="float64"),
    PosteriorOptions(rank=4, max_iter=20, dtype="float64"),
    PosteriorOptions("sample", 4, burn_in=5, samples=20, dtype="float64"),
)


@pytest.mark.parametrize("options", METHODS, ids=lambda options: options.method)
def test_rows_without_ratings_are_predicted_by_their_features(featured, options):
    """Whether the ratings know them, or they come after those that the ratings know."""
    rows, columns, values, truth, features = featured
    users, items = (own.reshape(-1) for own in np.indices(truth.shape))
    new = items >= 70

    def errors(posterior, of):
        left = posterior.predict(users, items)[of] - truth[users[of], items[of]]
        return float(np.sqrt(np.mean(left**2)))

    found = []
    for n_items in (90, 70):
        known = make_backend((rows, columns, values, truth[:, :n_items]))
        found.append(train_posterior(*known, options, features={"item": features}))
        assert found[-1].items.shape[0] == 90
        state = found[-1].sides["item"]
        assert state.degrees.size == 90
        if options.method != "sample":
            expected = np.concatenate([np.ones((20, 1)), features[70:]], axis=1)
            np.testing.assert_allclose(found[-1].items[70:], expected @ state.coefficients)
    one, other = found
    np.testing.assert_allclose(one.predict(users, items), other.predict(users, items), rtol=1e-9)
    assert one.noise == pytest.approx(other.noise, rel=1e-12)
    known = make_backend((rows, columns, values, truth))
    without = train_posterior(*known, options)
    assert errors(one, new) < 0.4 * errors(without, new)
    assert errors(one, ~new) < errors(without, ~new)


def test_features_beside_implicit_ones_never_lower_the_bound(featured):
    """Each kind has a ridge of its own; users may have features, too."""
    rows, columns, values, truth, features = featured
    known = make_backend((rows, columns, values, truth[:, :80]))
    options = PosteriorOptions(rank=3, n_features=4, tol=0, max_iter=30, dtype="float64")
    given = {"item": features, "user": np.random.default_rng(0).normal(size=(125, 2))}
    found = train_posterior(*known, options, features=given)
    bounds = [record.bound for record in found.history]
    assert len(bounds) >= 20
    assert (np.diff(bounds) >= -1e-10 * np.abs(bounds[1:])).all()
    assert (found.users.shape[0], found.items.shape[0]) == (125, 90)
    ridge = found.sides["item"].prior.ridge
    assert np.unique(ridge[1:5]).size == np.unique(ridge[5:]).size == 1
    assert ridge[1] != ridge[5]


def test_implicit_features_of_unrated_rows_are_those_to_be_expected():
    """By the rows of many ratings rather than by those of few."""
    rng = np.random.default_rng(0)
    given = rng.normal(size=(2000, 2))
    own = 1 + given[:1900] @ [[1.0, 0.0, -2.0], [0.5, 1.0, 0.0]]
    degrees = np.where(np.arange(1900) < 1800, 1000, 0)
    degrees[:900], own[:900] = 1, 0
    found = expected_features(own * (degrees > 0)[:, None], degrees, given)
    np.testing.assert_array_equal(found[:1800], own[:1800])
    np.testing.assert_allclose(found[1800:1900], own[1800:], atol=0.04)
    assert found.shape == (2000, 3)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"item": np.zeros((99, 2))}, r"of items of the shape \(99, 2\): .* each of the 100"),
        ({"user": np.zeros(150)}, r"of users of the shape \(150,\)"),
        ({"user": np.full((150, 1), np.nan)}, "of users: a number is missing"),
        ({"users": np.zeros((150, 1))}, "of 'users': use the keys user and item"),
    ],
)
def test_unusable_features_are_refused(known, features, words):
    with pytest.raises(ConfigError, match=words):
        train_posterior(*known, PosteriorOptions(max_iter=1), features=features)


@pytest.mark.parametrize("method", ["variational", "sample"])
def test_known_ratings_are_recovered_with_their_noise(ratings, known, method):
    rows, columns, _, truth = ratings
    options = PosteriorOptions(method, rank=3, noise="shared", burn_in=30, samples=40, tol=1e-5)
    heard = []
    found = train_posterior(*known, options, on_iteration=heard.append)
    assert tuple(heard) == found.history
    assert found.noise_deviation == pytest.approx(NOISE, rel=0.03)
    held_out = np.ones(truth.shape, bool)
    held_out[rows, columns] = False
    held_out[-1], held_out[:, -1] = False, False
    users, items = np.nonzero(held_out)
    error = np.sqrt(np.mean((found.predict(users, items) - truth[users, items]) ** 2))
    # The spread of the truth is above 1, the mean of all ratings is that far off.
    assert error < 0.4
    if method == "variational":
        # Nothing is known of the last user: it gets the mean of its side.
        prior = found.sides["user"].coefficients[0]
        np.testing.assert_allclose(found.users[-1], prior, atol=2e-3)


def test_samples_are_the_same_however_rows_lie(ratings):
    rows, columns, values, truth = ratings
    options = PosteriorOptions("sample", rank=3, burn_in=2, samples=6, dtype="float64")
    expected = train_posterior(*make_backend(ratings), options)
    order = np.random.default_rng(1).permutation(rows.size)
    shuffled = rows[order], columns[order], values[order], truth
    again = train_posterior(*make_backend(shuffled), options)
    np.testing.assert_allclose(again.users, expected.users, rtol=1e-9, atol=1e-9)
    other = PosteriorOptions("sample", rank=3, burn_in=2, samples=6, dtype="float64", seed=1)
    assert not np.allclose(train_posterior(*make_backend(ratings), other).users, expected.users)


def test_the_prior_of_rows_is_the_conjugate_one():
    """Against the moments of Normal-Wishart draws, and a plain computation (BPMF, equation 14)."""
    rng = np.random.default_rng(0)
    n, size = 40, 3
    rows = rng.normal(size=(n, size)) + 1
    first = first_prior(size)
    learnt = learn_prior(rows, np.zeros((size, size)), np.ones((n, 1)), first.ridge, ())
    mean, covariance = rows.mean(axis=0), np.cov(rows.T, bias=True)
    np.testing.assert_allclose(learnt.coefficients[0], n * mean / (n + 2))
    inverse = np.eye(size) + n * covariance + 2 * n / (2 + n) * np.outer(mean, mean)
    np.testing.assert_allclose(learnt.scale, np.linalg.inv(inverse))
    assert learnt.freedom == size + n
    draws = [learnt.draw(rng) for _ in range(4000)]
    precisions = np.array([precision for _, precision in draws])
    np.testing.assert_allclose(precisions.mean(axis=0), learnt.precision, atol=0.05)
    means = np.array([coefficients[0] for coefficients, _ in draws])
    np.testing.assert_allclose(means.mean(axis=0), learnt.coefficients[0], atol=0.02)
    # The marginal of the mean is a Student t distribution of this covariance.
    spread = np.linalg.inv(learnt.scale) / (n + 2) / (learnt.freedom - size - 1)
    np.testing.assert_allclose(np.cov(means.T), spread, atol=0.1 * spread.max())
    wishart = distributions.wishart(learnt.freedom, learnt.scale)
    logs = np.linalg.slogdet(wishart.rvs(4000, random_state=1))[1]
    assert learnt.log_det == pytest.approx(logs.mean(), abs=0.05)


def test_divergences_are_those_of_the_distributions():
    law = Gammas(np.array([2.0, 5.0]), np.array([1.5, 3.0]))
    expected = 0.0
    for shape, rate in zip(law.shape, law.rate, strict=True):
        own = distributions.gamma(shape, scale=1 / rate)
        prior = distributions.gamma(0.5, scale=1 / 0.7)
        expected -= own.expect(lambda x, own=own, prior=prior: own.logpdf(x) - prior.logpdf(x))
    assert law.bound(0.5, 0.7) == pytest.approx(expected, rel=1e-6)
    # A prior is no divergence away from itself.
    assert first_prior(3, (1, 2)).bound() == pytest.approx(0, abs=1e-12)


def test_implicit_features_are_the_largest_directions(ratings, known):
    rows, columns, _, truth = ratings
    chosen = np.zeros(truth.shape)
    chosen[rows, columns] = 1
    degrees = np.maximum(chosen.sum(axis=1), 1)
    left, values, right = np.linalg.svd(chosen / np.sqrt(degrees)[:, None])
    found = implicit_features(known[0], 2)
    for side, vectors in (("user", left[:, :2]), ("item", right[:2].T)):
        rated = known[0].degrees(side) > 0
        wanted = (vectors * values[:2])[rated]
        wanted -= wanted.mean(axis=0)
        got = found[side][rated]
        assert np.mean(got**2) == pytest.approx(1)
        assert not found[side][~rated].any()
        size = np.sqrt(np.mean(wanted**2))
        # The largest stands apart from the noise of the others; the second does not as clearly.
        one, other = got[:, 0], wanted[:, 0] / size
        np.testing.assert_allclose(one * np.sign(one @ other), other, atol=1e-2)


def test_the_mean_of_samples_is_cut_to_the_nearest_of_the_rank():
    rng = np.random.default_rng(0)
    mean, total = SampleMean(2), 0.0
    base = rng.normal(size=(30, 2)), rng.normal(size=(20, 2))
    biases = []
    for _ in range(11):
        users, items = (
            np.column_stack(
                [rng.normal(size=side.shape[0]), side + 0.01 * rng.normal(size=side.shape)]
            )
            for side in base
        )
        mean.add(users, items)
        biases.append(users[:, 0])
        total = total + users[:, 1:] @ items[:, 1:].T
    users, items = mean.mean()
    np.testing.assert_allclose(users[:, 0], np.mean(biases, axis=0))
    left, values, right = np.linalg.svd(total / 11)
    nearest = (left[:, :2] * values[:2]) @ right[:2]
    np.testing.assert_allclose(users[:, 1:] @ items[:, 1:].T, nearest, atol=1e-4)


def test_chains_are_judged():
    rng = np.random.default_rng(0)
    independent = rng.normal(size=2000)
    assert split_r_hat(independent) == pytest.approx(1, abs=0.01)
    assert effective_size(independent) == pytest.approx(2000, rel=0.15)
    assert split_r_hat(independent + np.linspace(0, 5, 2000)) > 1.5
    slow = np.zeros(20_000)
    for k in range(1, slow.size):
        slow[k] = 0.9 * slow[k - 1] + rng.normal()
    # An autoregressive chain of ρ = 0.9 is worth (1 − ρ) / (1 + ρ) of its length.
    assert effective_size(slow) == pytest.approx(20_000 / 19, rel=0.25)
    assert np.isnan(split_r_hat(np.ones(3)))
    assert np.isnan(effective_size(np.ones(3)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"method": "gibbs"}, "method='gibbs': use variational, sample or ridge"),
        ({"noise": "none"}, "noise='none': use rows or shared"),
        ({"rank": 0}, "rank=0: use a whole number of at least 1"),
        ({"tol": float("nan")}, "tol=nan: use a finite number"),
        ({"reg": 2.0}, "`reg=2.0` with `method=variational`: has no effect"),
        ({"method": "sample", "exponent": 0.0}, "`exponent=0.0` with `method=sample`: has no eff"),
        ({"method": "ridge", "reg": 0.0}, "`reg=0.0`: use a finite number above 0"),
        ({"method": "ridge", "exponent": -1.0}, "`exponent=-1.0`: use a finite number of at"),
        ({"method": "ridge", "feature_ridge": float("inf")}, "`feature_ridge=inf`: use a finite"),
    ],
)
def test_unusable_options_are_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        PosteriorOptions(**wrong)


class TestWarmStart:
    @pytest.mark.parametrize(("noise", "n_features"), [("rows", 0), ("shared", 3), ("rows", 3)])
    def test_on_the_same_ratings_it_goes_on(self, known, noise, n_features):
        """As if the first training had not stopped."""
        options = PosteriorOptions(
            rank=3, noise=noise, n_features=n_features, tol=0, max_iter=9, dtype="float64"
        )
        whole = train_posterior(*known, options)
        half = train_posterior(*known, replace(options, max_iter=5))
        start = start_at(Moments.of(half), [side.rated for side in half.sides.values()])
        rest = train_posterior(*known, replace(options, max_iter=4), start=start)
        np.testing.assert_allclose(
            [r.bound for r in rest.history], [r.bound for r in whole.history[5:]], rtol=1e-9
        )
        np.testing.assert_allclose(rest.users, whole.users, atol=1e-7)
        assert rest.history[0].change == np.inf

    def test_new_rows_and_another_mean(self, ratings):
        """The bound never falls from there, and hardly any iterations are left to do."""
        users, items, values, truth = ratings
        old = (users < 120) & (items < 90)
        before, after = (
            make_backend((users[own], items[own], values[own] + more, truth))
            for own, more in ((old, 0.5), (users >= 0, 0.0))
        )
        options = PosteriorOptions(rank=3, dtype="float64")
        first = train_posterior(*before, options)
        known = [np.arange(n) < m for n, m in ((150, 120), (100, 90))]
        moments = Moments.of(first)
        for rows, own in zip(moments.rows, known, strict=True):
            rows[~own] = np.nan
        warm = train_posterior(*after, options, start=start_at(moments, known))
        cold = train_posterior(*after, options)
        assert (np.diff([r.bound for r in warm.history]) > 0).all()
        assert len(warm.history) <= len(cold.history) / 2
        assert warm.history[-1].bound == pytest.approx(cold.history[-1].bound, rel=1e-3)

    def test_it_goes_on_with_features_of_rows_without_ratings(self, featured):
        rows, columns, values, truth, features = featured
        known = make_backend((rows, columns, values, truth[:, :80]))
        options = PosteriorOptions(rank=3, tol=0, max_iter=9, dtype="float64")
        given = {"features": {"item": features}}
        whole = train_posterior(*known, options, **given)
        first = train_posterior(*known, replace(options, max_iter=5), **given)
        moments = Moments.of(first).take(np.arange(120), np.arange(80))
        rated = [state.rated[:n] for state, n in zip(first.sides.values(), (120, 80), strict=True)]
        rest = train_posterior(
            *known, replace(options, max_iter=4), **given, start=start_at(moments, rated)
        )
        assert rest.items.shape == whole.items.shape == (90, 4)
        np.testing.assert_allclose(rest.items, whole.items, atol=1e-6)

    def test_of_nothing_known_it_is_the_usual_start(self, known):
        options = PosteriorOptions(rank=3, max_iter=2, tol=0, dtype="float64")
        cold = train_posterior(*known, options)
        moments = replace(Moments.of(cold), noise=1.0)
        none = [np.zeros(s.degrees.size, bool) for s in cold.sides.values()]
        warm = train_posterior(*known, options, start=start_at(moments, none))
        assert [r.bound for r in warm.history] == [r.bound for r in cold.history]

    def test_other_methods_have_none(self, known):
        start = PosteriorStart(0.0, 1.0, {})
        with pytest.raises(ConfigError, match=r'`start=` with `method="sample"`'):
            train_posterior(*known, PosteriorOptions("sample"), start=start)


def start_at(moments, known):
    """A start at rows that are known."""
    sides = {
        side: SideStart(
            known[k],
            moments.rows[k].copy(),
            moments.packed[k],
            moments.scales[k],
            moments.freedoms[k],
            moments.ridges[k],
        )
        for k, side in enumerate(("user", "item"))
    }
    return PosteriorStart(moments.mean, moments.noise, sides)
