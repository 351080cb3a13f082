"""The exceptions: what catches them, what they say, and that they cross processes."""

from __future__ import annotations

import pickle

import pytest

from als_spark.errors import AlsError, ConfigError, DataError, SolveError, UserError


@pytest.mark.parametrize(
    ("error", "builtin"),
    [(ConfigError, ValueError), (DataError, ValueError), (SolveError, ArithmeticError)],
)
def test_hierarchy(error, builtin):
    assert issubclass(error, UserError)
    assert issubclass(error, builtin)
    assert issubclass(UserError, AlsError)
    assert not issubclass(AlsError, builtin)


class TestSolveError:
    def test_message(self):
        error = SolveError("item", 12, 0.25)
        assert str(error) == (
            "the ridge system of item row 12 has no finite solution at lambda=0.25: "
            "use a larger lambda"
        )

    def test_named_by_the_original_id(self):
        named = SolveError("user", 3, 0.0).named("u-77")
        assert str(named).startswith("the ridge system of user u-77 has no finite solution")
        assert (named.side, named.row, named.reg) == ("user", 3, 0.0)

    def test_ratings_that_are_the_cause(self):
        named = SolveError("user", 3, 0.5).named("u-77", 1e18)
        assert str(named) == (
            "the ridge system of user u-77 has no finite solution at lambda=0.5, for ratings are "
            "as large as 1e+18: mend the ratings, or give all of them in larger units"
        )

    @pytest.mark.parametrize(
        "error", [SolveError("user", 3, 1e-9), SolveError("item", 0, 2.0).named(915, 1e30)]
    )
    def test_pickles(self, error):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is SolveError
        assert str(copy) == str(error)
        assert (copy.side, copy.row, copy.reg) == (error.side, error.row, error.reg)
