"""The method of a nightly run: as given, or as the current version has it; and its start."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from als_spark.cli.config.retrain import RetrainConfig
from als_spark.errors import ConfigError, DataError
from als_spark.model.factor_model import FactorModel
from als_spark.model.ids import IdIndex
from als_spark.model.intervals import IntervalModel
from als_spark.nightly.method import (
    Choice,
    Earlier,
    RidgeRows,
    options_of,
    options_record,
    posterior_start,
    ridge_rows,
    ridge_start,
)
from als_spark.nightly.run_record import Spec
from als_spark.solve.blocks import build_block
from als_spark.solve.objective import Objective
from als_spark.train.bayes.loop import train_posterior
from als_spark.train.bayes.options import PosteriorOptions
from als_spark.train.bayes.serve import served, user_prior
from als_spark.train.bayes.spread import Moments, Samples
from als_spark.train.local import LocalBackend
from als_spark.train.metrics import SideStats

LEAST: dict[str, Any] = {"ratings": "r", "store": "s"}
EVERY = (
    PosteriorOptions(rank=3, noise="shared", n_features=4, tol=0.1, max_iter=7),
    PosteriorOptions("sample", rank=3, burn_in=2, samples=9),
    PosteriorOptions("ridge", rank=3, n_features=2, reg=4.0, exponent=0.5, feature_ridge=9.0),
)


def earlier(options: PosteriorOptions | None, features: Any = None) -> Earlier:
    record = None if options is None else options_record(options)
    return Earlier(Spec(6, Objective(0.3)), record, features)


def chosen(before: PosteriorOptions | None, **given: Any) -> PosteriorOptions | None:
    return RetrainConfig(**LEAST, **given).posterior_of(earlier(before), "version v1")


def settled(options: PosteriorOptions | None) -> PosteriorOptions:
    """With defaults that depend on the method filled in."""
    assert options is not None
    return replace(options, tol=options.tolerance)


class TestOptions:
    @pytest.mark.parametrize("options", EVERY)
    def test_they_come_back(self, options: PosteriorOptions) -> None:
        record = options_record(options)
        assert settled(options_of(record, "v")) == settled(options)
        # What came out is passed over, and so are seed and type, which a run has of its own.
        more = {"noise_deviation": 0.9, "bound": -3.0, "freedom": {"user": 3.0}, "seed": 4}
        found = options_of({**record, **more, "dtype": "float64"}, "v")
        assert settled(found) == settled(options)
        assert options_of(None, "v") is None

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            ({"method": "variational", "user_features": "f.csv"}, "with user_features 'f.csv', wh"),
            ({"method": "gibbs"}, "does not say how it was trained .method='gibbs'"),
            ({"rank": "x"}, "does not say how it was trained .rank='x'"),
            ({"rank": [3]}, "does not say how it was trained"),
            ("variational", "does not say how it was trained"),
        ],
    )
    def test_what_cannot_be_kept_is_named(self, record: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=rf"^version v1 .*{message}.*give --method"):
            options_of(record, "version v1")
        # Of a method that is given, it does not matter.
        config = RetrainConfig(**LEAST, method="sample")
        found = config.posterior_of(Earlier(Spec(6, Objective(0.3)), record), "version v1")
        assert found == PosteriorOptions("sample")


FILMS = {"item": {"path": "/lake/films.csv", "chosen": ["genres"], "fingerprint": "ab"}}


def sources(before: Earlier | None, **given: Any) -> dict[str, tuple[str, Any, str | None]]:
    config = RetrainConfig(**LEAST, **given)
    found = config.features_of(before, None if before is None else "version v1")
    for side, own in found.items():
        assert own.source.features_of == side
    return {side: (own.source.label, own.columns, own.remembered) for side, own in found.items()}


class TestFeatures:
    def test_those_of_the_version_are_read_again(self) -> None:
        before = earlier(EVERY[0], FILMS)
        read_again = {"item": ("/lake/films.csv", ("genres",), "version v1")}
        assert sources(before) == read_again
        assert sources(before, method="variational", item_col="movieId") == read_again
        assert sources(before, item_feature_cols=("year",)) == {
            "item": ("/lake/films.csv", ("year",), "version v1")
        }
        table = earlier(EVERY[0], {"user": {"path": "table:lake.users"}})
        assert sources(table) == {"user": ("table lake.users", (), "version v1")}

    def test_given_ones_win(self) -> None:
        before = earlier(EVERY[0], FILMS)
        given = {"user_features": "users.csv", "item_features": "new.csv"}
        assert sources(before, **given) == {
            "user": ("users.csv", (), None),
            "item": ("new.csv", ("genres",), None),
        }
        assert sources(None, item_features="f.csv", item_feature_cols=("year",)) == {
            "item": ("f.csv", ("year",), None)
        }

    def test_they_can_be_left_out(self) -> None:
        before = earlier(EVERY[0], FILMS)
        config = RetrainConfig(**LEAST)
        posterior = config.posterior_of(before, "version v1")
        for given in ({"item_features": "none"}, {"method": "sample"}):
            assert sources(before, **given) == {}
            said = Choice(before.spec, posterior).features_lost(before, "version v1")
            assert said == (
                "trained without the features of items that version v1 has: `item_features=` "
                "keeps them"
            )
        kept = Choice(before.spec, posterior, config.features_of(before, "version v1"))
        assert kept.features_lost(before, "version v1") is None
        assert kept.features_lost(None, "") is None

    def test_a_ridge_with_features_alone_stays_one(self) -> None:
        options = PosteriorOptions("ridge", rank=3, reg=4.0)
        before = earlier(options, FILMS)
        found = RetrainConfig(**LEAST, feature_ridge=9.0).posterior_of(before, "version v1")
        assert settled(found) == settled(replace(options, feature_ridge=9.0))
        config = RetrainConfig(**LEAST, item_features="none")
        assert config.posterior_of(before, "version v1") is None
        given = RetrainConfig(**LEAST, item_features="films.csv").posterior_of(earlier(None), "v")
        assert given == PosteriorOptions("ridge")

    @pytest.mark.parametrize(
        ("record", "given", "message"),
        [
            ({"path": None}, {}, "has features of items, and does not say where they are: give"),
            ("films.csv", {}, "and does not say where .*`item_features=`, or `item_features=.none"),
            ({"path": "s3a://***@b/f"}, {}, "from s3a://...@b/f, whose password is not kept: give"),
            ({"path": "f", "chosen": [3]}, {}, "does not say which columns of items"),
            (None, {"user_feature_cols": ("a",)}, "--user-feature-cols a without --user-features"),
            (
                {"path": "f"},
                {"item_features": "none", "item_feature_cols": ("a",)},
                "--item-feature-cols a without --item-features: has no effect",
            ),
        ],
    )
    def test_what_cannot_be_meant(self, record: Any, given: Any, message: str) -> None:
        before = earlier(EVERY[0], None if record is None else {"item": record})
        with pytest.raises(ConfigError, match=message):
            sources(before, **given)


class TestChoice:
    @pytest.mark.parametrize("options", EVERY)
    def test_the_method_of_the_version_stays(self, options: PosteriorOptions) -> None:
        assert settled(chosen(options)) == settled(options)
        if options.method != "ridge":
            found = chosen(options, rank=5, noise="rows", seed=8, dtype="float64")
            assert found is not None
            assert (found.n_factors, found.noise, found.seed, found.dtype) == (
                *(5, "rows", 8, "float64"),
            )
            assert found.n_features == options.n_features
        assert settled(chosen(options, method=options.method)) == settled(options)

    def test_diagonal_covariances_stay_and_full_ones_do_as_long_as_they_fit(self) -> None:
        found = chosen(replace(EVERY[0], covariance="diagonal"))
        assert found is not None
        assert found.covariance == "diagonal"
        assert chosen(replace(EVERY[0], covariance="full")) == chosen(EVERY[0])
        given = chosen(EVERY[0], covariance="diagonal")
        assert given == replace(EVERY[0], covariance="diagonal", seed=given.seed)
        assert "covariance" not in options_record(EVERY[0])

    def test_of_another_method_nothing_stays(self) -> None:
        assert chosen(EVERY[0], method="sample") == PosteriorOptions("sample")
        assert chosen(EVERY[1], method="ridge") is None
        assert settled(chosen(EVERY[1], samples=4)) == settled(replace(EVERY[1], samples=4))
        assert chosen(EVERY[1], method="variational", tol=0.5, max_iter=3) == PosteriorOptions(
            tol=0.5, max_iter=3
        )

    def test_ridges(self) -> None:
        assert chosen(None) is None
        assert chosen(EVERY[2], implicit_features=0) is None
        found = chosen(None, implicit_features=5, reg=3.0, rank=2)
        assert found == PosteriorOptions("ridge", 2, n_features=5, reg=3.0)

    @pytest.mark.parametrize(
        ("before", "given", "message"),
        [
            (None, {"noise": "rows"}, "^--noise rows with --method ridge: has no effect"),
            (0, {"reg": 3.0}, "^--lambda 3.0 with --method variational .*, as version v1 has it: "),
            (0, {"accelerate": True}, "^--accelerate with --method variational"),
            (1, {"tol": 0.1}, "^--tol 0.1 with --method sample, as version v1 has it"),
            (2, {"noise": "rows"}, "^--noise rows with --method ridge --implicit-features 2"),
            (0, {"exchange": "shuffle"}, "^--exchange shuffle with --method variational"),
            (None, {"covariance": "full"}, "^--covariance full with --method ridge: has no eff"),
            (1, {"covariance": "full"}, "^--covariance full with --method sample"),
            (0, {"samples": 5}, "^--samples 5 with --method variational"),
            (1, {"feature_ridge": 5.0}, "^--feature-ridge 5.0 with --method sample"),
            (2, {"burn_in": 5}, "^--burn-in 5 with --method ridge --implicit-features 2"),
            (None, {"feature_ridge": 5.0}, "^--feature-ridge 5.0 with --method ridge"),
        ],
    )
    def test_what_has_no_effect(
        self, before: int | None, given: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            chosen(None if before is None else EVERY[before], **given)
        # Where the method is given, it is said before anything is read.
        if before is not None and before < 2:
            with pytest.raises(ValueError, match="with --method"):
                RetrainConfig(**LEAST, method=EVERY[before].method, **given)

    def test_words(self) -> None:
        config = RetrainConfig(**LEAST)
        said = config.nightly_words(EVERY[0], "version v1", {})
        assert said == "variational, rank 3, 4 implicit features: as version v1 has it"
        features = config.features_of(earlier(EVERY[1], FILMS), "version v1")
        assert config.nightly_words(EVERY[1], "version v1", features) == (
            "sample, rank 3, features of items in /lake/films.csv: as version v1 has it"
        )
        config = RetrainConfig(**LEAST, method="sample")
        assert config.nightly_words(EVERY[1], "version v1", {}) == "sample, rank 3: as given"


def test_a_start_has_the_rows_that_are_known() -> None:
    """By id, and those only that had a training rating."""
    known = [IdIndex(pa.array(ids)) for ids in (["a", "b", "c"], ["x", "y"])]
    rows = [np.arange(2.0 * n).reshape(n, 2) for n in (3, 2)]
    packed = [np.arange(3.0 * n).reshape(n, 3) for n in (3, 2)]
    moments = Moments(
        *(3.5, 4.0, tuple(rows), tuple(packed), (np.arange(3.0), np.arange(2.0))),
        *((5.0, 6.0), (7.0, 8.0)),
    )
    # The model has its ids in another order: those without a rating come last.
    sides = {
        "user": SimpleNamespace(
            ids=IdIndex(pa.array(["c", "a", "b"])),
            stats=SimpleNamespace(degrees=np.array([2, 3, 0])),
        ),
        "item": SimpleNamespace(ids=known[1], stats=SimpleNamespace(degrees=np.array([1, 4]))),
    }
    model: Any = SimpleNamespace(side=sides.get)
    summary = SimpleNamespace(
        users=IdIndex(pa.array(["b", "new", "c"])), items=IdIndex(pa.array(["y"]))
    )
    prepared: Any = SimpleNamespace(summary=summary)
    start, share = posterior_start(prepared, IntervalModel(*known, moments), model)
    assert (start.mean, start.noise, share) == (3.5, 4.0, 2 / 4)
    users, items = start.sides["user"], start.sides["item"]
    assert users.known.tolist() == [False, False, True]
    assert (users.rows[2].tolist(), users.packed[2].tolist(), users.scales[2]) == (
        *([4.0, 5.0], [6.0, 7.0, 8.0], 2.0),
    )
    assert (items.rows.tolist(), items.freedom, items.ridge) == ([[2.0, 3.0]], 6.0, 8.0)
    sides["user"].ids = IdIndex(pa.array(["c", "a", "z"]))
    with pytest.raises(DataError, match="has users that its model lacks"):
        posterior_start(prepared, IntervalModel(*known, moments), model)
    rows, draws, ones = np.ones((3, 2)), np.ones((3, 4, 2), np.float32), np.ones(3)
    samples = Samples(3.5, 4.0, (rows, rows[:2]), (draws, draws[:2]), (ones, ones[:2]))
    with pytest.raises(ConfigError, match="a sampled model has no covariances to start from"):
        posterior_start(prepared, IntervalModel(*known, samples), model)


def test_the_rows_of_a_ridge_are_those_that_it_ended_with() -> None:
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((20, 15)) < 0.4)
    ratings = 3 + rng.normal(size=users.size)
    by_user = build_block(users, items, ratings, n_rows=20, n_columns=15)
    by_item = build_block(items, users, ratings, n_rows=15, n_columns=20)
    options = PosteriorOptions("ridge", 2, reg=1.0, dtype="float64")
    stats = {
        side: SideStats.of(n, [block])
        for side, n, block in (("user", 20, by_user), ("item", 15, by_item))
    }
    trained = train_posterior(LocalBackend(by_user, by_item), stats["user"], options)
    factors, objective = served(trained)
    description = {"posterior": {"user_mean": user_prior(trained)[0].tolist()}}
    ids = [IdIndex(pa.array(np.arange(n))) for n in (20, 15)]
    model = FactorModel(
        *(ids[0], ids[1], factors, stats["user"], stats["item"]),
        {**description, **objective.as_record()},
    )
    found = ridge_rows(model)
    assert found is not None
    assert (found.mean, found.rank) == (trained.mean, 2)
    np.testing.assert_allclose(found.users, trained.users, atol=1e-12)
    np.testing.assert_allclose(found.items, trained.items, atol=1e-12)
    for record in ({}, {"user_mean": [1.0]}, {"user_mean": "x"}, {"user_mean": [None] * 3}):
        other = {**objective.as_record(), "posterior": record}
        assert ridge_rows(replace(model, description=other)) is None
    summary = SimpleNamespace(users=IdIndex(pa.array([3, 99])), items=IdIndex(pa.array([14, 2])))
    prepared: Any = SimpleNamespace(summary=summary)
    start, share = ridge_start(prepared, RidgeRows(*found), model)
    assert (start.mean, share) == (trained.mean, 3 / 4)
    assert start.sides["user"].known.tolist() == [True, False]
    np.testing.assert_allclose(start.sides["item"].rows, trained.items[[14, 2]], atol=1e-12)
