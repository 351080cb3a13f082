"""Recommendations by lower bound and by draw, against dense computations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from als_spark.errors import ConfigError
from als_spark.model.factor_model import FactorModel
from als_spark.model.foldin import fold_in
from als_spark.model.ids import IdIndex
from als_spark.model.intervals import IntervalModel
from als_spark.model.recommend import recommend
from als_spark.model.risk import Risk
from als_spark.solve import topk
from als_spark.train.bayes.loop import train_posterior
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.bayes.serve import served
from als_spark.train.bayes.spread import Samples, spread_of
from als_spark.train.metrics import SideStats
from tests.unit.train.test_posterior_loop import make_backend, make_ratings

USERS, ITEMS = [f"u{k}" for k in range(60)], list(range(100, 140))


@pytest.fixture(scope="module", params=["full", "diagonal", "sample"])
def trained(request: pytest.FixtureRequest) -> tuple[FactorModel, IntervalModel]:
    ratings = make_ratings(60, 40, share=0.2)
    backend, stats = make_backend(ratings)
    options = PosteriorOptions(rank=3, n_features=2)
    if request.param == "sample":
        options = replace(options, method="sample", burn_in=5, samples=30)
    else:
        options = replace(options, covariance=request.param)
    posterior = train_posterior(backend, stats, options)
    factors, objective = served(posterior)
    ids = IdIndex(pa.array(USERS)), IdIndex(pa.array(ITEMS))
    item_stats = SideStats.of(40, [backend.blocks["item"]])
    model = FactorModel(*ids, factors, stats, item_stats, objective.as_record())
    return model, IntervalModel(*ids, spread_of(posterior))


def table_of(found: pa.Table, asked: str, of: str) -> dict[object, list[tuple[object, float]]]:
    return {
        row[asked]: [(pair[of], pair["score"]) for pair in row["recommendations"]]
        for row in found.to_pylist()
        if row["source"] == "model"
    }


def test_the_averse_order_is_that_of_the_lower_bounds(trained, monkeypatch):
    model, intervals = trained
    # In many blocks, of users and of items.
    monkeypatch.setattr(topk, "BLOCK_ITEMS", 7)
    monkeypatch.setattr(topk, "SCORES_BYTES", 500)
    risk = Risk("averse", intervals, coverage=0.8)
    # The last of each side has no rating.
    users, items = USERS[:-1], ITEMS[:-1]
    every = [(user, item) for user in users for item in items]
    lower = intervals.predict(*map(list, zip(*every, strict=True)), coverage=0.8).lower
    lower = lower.reshape(len(users), len(items))
    seen = (["u3", "u3", "u7"], [104, 111, 120])
    lower[3, [4, 11]] = lower[7, 20] = -np.inf
    found = table_of(recommend(model, users, 5, seen, risk=risk), "user", "item")
    plain = table_of(recommend(model, users, 5, seen), "user", "item")
    for row, user in enumerate(users):
        order = np.argsort(-lower[row], kind="stable")[:5]
        assert [item for item, _ in found[user]] == [items[k] for k in order]
        np.testing.assert_allclose([s for _, s in found[user]], lower[row, order], rtol=1e-9)
    assert any([i for i, _ in found[u]] != [i for i, _ in plain[u]] for u in users)
    # Users for items, by the same bounds.
    turned = table_of(recommend(model, items, 3, side="item", risk=risk), "item", "user")
    best = intervals.predict(users, [117] * len(users), coverage=0.8).lower
    order = np.argsort(-best, kind="stable")[:3]
    assert [user for user, _ in turned[117]] == [users[k] for k in order]


@pytest.mark.slow
def test_draws_are_of_the_posterior_and_the_same_for_a_seed(trained):
    model, intervals = trained
    users, items = [4, 9, 30], [2, 17, 33]
    drawn = []
    # Each sample once: all that there is of the posterior.
    sampled = isinstance(intervals.spread, Samples)
    for seed in range(20 if sampled else 3000):
        factors = Risk("thompson", intervals, seed=seed).apply(model).factors
        drawn.append(np.einsum("nd,nd->n", factors.users[users], factors.items[items]))
    means, deviations, _ = intervals.spread.predict(np.array(users), np.array(items))
    bound = 4 * deviations.max() / np.sqrt(len(drawn))
    np.testing.assert_allclose(np.mean(drawn, axis=0), means, atol=bound)
    spread = np.sqrt(np.mean((np.array(drawn) - means) ** 2, axis=0))
    np.testing.assert_allclose(spread, deviations, rtol=1e-9 if sampled else 0.06)
    first, again, other = (
        recommend(model, USERS[:9], 5, risk=Risk("thompson", intervals, seed=seed))
        for seed in (1, 1, 2)
    )
    assert first.equals(again)
    assert not first.equals(other)
    # The scores are those of the draw.
    dense = Risk("thompson", intervals, seed=1).apply(model)
    pairs = table_of(first, "user", "item")["u4"]
    scores = dense.predict(["u4"] * 5, [item for item, _ in pairs])
    np.testing.assert_allclose([score for _, score in pairs], scores, rtol=1e-12)


def test_unusable_risks_are_refused(trained):
    model, intervals = trained
    with pytest.raises(ConfigError, match="risk 'bold': use averse or thompson"):
        Risk("bold", intervals)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"`coverage=1`: use a share between 0 and 1"):
        Risk("averse", intervals, 1)
    with pytest.raises(ConfigError, match=r"`seed=-1`: use a whole number of at least 0"):
        Risk("thompson", intervals, seed=-1)
    other = replace(intervals, users=IdIndex(pa.array([f"v{k}" for k in range(60)])))
    with pytest.raises(ConfigError, match="the intervals and the model have not the same users"):
        recommend(model, top=3, risk=Risk("averse", other))
    folded = fold_in(model, "user", ["new", "new"], [100, 105], [4.0, 2.0])
    with pytest.raises(ConfigError, match=r"folded users with `risk=averse`: nothing tells how"):
        recommend(model, top=3, folded=folded, risk=Risk("averse", intervals))
