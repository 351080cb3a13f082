"""A task that trains whole models, on a list of them; no Spark."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np

from als_spark.errors import SolveError
from als_spark.spark.train.per_model import train_partition
from als_spark.train.backend import Factors
from als_spark.train.grid import grid_specs
from als_spark.train.loop import train_models
from als_spark.train.records import TrainingOptions
from tests.conftest import local_backend, random_triples

BACKEND = local_backend(random_triples(), random_triples(seed=1))
OPTIONS = TrainingOptions(tol=0.0, max_iter=4, dtype="float64")


def train(work):
    broadcast = SimpleNamespace(value=BACKEND)
    return list(train_partition(iter(work), backend=broadcast, options=OPTIONS))


def test_models_come_with_their_errors_and_whole_histories():
    specs = grid_specs([2, 3], [0.5])
    returned = train([(spec, None) for spec in specs])
    wanted = train_models(BACKEND, specs, OPTIONS)
    for (found, sums, rankings), expected in zip(returned, wanted, strict=True):
        np.testing.assert_array_equal(found.factors.users, expected.factors.users)
        assert [record.iteration for record in found.history] == [1, 2, 3, 4]
        assert [record.objective for record in found.history] == [
            record.objective for record in expected.history
        ]
        assert sums == BACKEND.errors([found.factors], "")[0]
        assert set(sums) == {"train", "test"}
        assert rankings == {}


def test_errors_only_if_wanted():
    broadcast = SimpleNamespace(value=BACKEND)
    work = [(spec, None) for spec in grid_specs([2], [0.5])]
    run = partial(train_partition, iter(work), backend=broadcast, options=OPTIONS)
    ((model, sums, rankings),) = run(with_errors=False)
    assert (model.iterations, sums, rankings) == (4, {}, {})


def test_given_starts_are_used():
    (spec,) = grid_specs([2], [0.5])
    rng = np.random.default_rng(0)
    start = Factors(rng.normal(size=(40, 2)), rng.normal(size=(30, 2)))
    ((mine, *_),) = train([(spec, start)])
    (wanted,) = train_models(BACKEND, [spec], OPTIONS, starts=[start])
    np.testing.assert_array_equal(mine.factors.items, wanted.factors.items)
    ((usual, *_),) = train([(spec, None)])
    assert not np.array_equal(mine.factors.items, usual.factors.items)


def test_a_system_without_a_solution_is_returned_and_the_next_model_trained():
    bad, good = grid_specs([35], [0.0]) + grid_specs([2], [0.5])
    error, (model, *_) = train([(bad, None), (good, None)])
    assert isinstance(error, SolveError)
    assert model.spec == good


def test_no_models():
    assert train([]) == []
