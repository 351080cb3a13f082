"""The factors that a training starts from."""

from __future__ import annotations

import numpy as np

from als_spark.train.backend import Start
from als_spark.train.start import draw_rows, initial_factors, start_array


class TestInitialFactors:
    def test_uniform_on_the_unit_interval(self):
        users, items = initial_factors(3000, 2000, 4, 0)
        for side, shape in ((users, (3000, 4)), (items, (2000, 4))):
            assert side.shape == shape
            assert side.dtype == np.float64
            assert side.min() >= 0
            assert side.max() < 1
            # Quartiles of n uniform draws; 0.03 is more than five standard deviations of each.
            np.testing.assert_allclose(
                np.quantile(side, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03
            )

    def test_more_rows_leave_the_first_as_they_are(self):
        few = initial_factors(10, 7, 5, 3)
        many = initial_factors(1000, 900, 5, 3)
        np.testing.assert_array_equal(many.users[:10], few.users)
        np.testing.assert_array_equal(many.items[:7], few.items)

    def test_sides_differ(self):
        users, items = initial_factors(10, 10, 5, 3)
        assert not np.isin(users, items).any()

    def test_seeds_differ(self):
        users, items = initial_factors(10, 10, 5, 0)
        for seed in (1, 2, 2**63 - 1):
            others = initial_factors(10, 10, 5, seed)
            assert not np.isin(np.stack(others), np.stack([users, items])).any()

    def test_reproducible(self):
        np.testing.assert_array_equal(
            np.stack(initial_factors(6, 6, 2, 11)), np.stack(initial_factors(6, 6, 2, 11))
        )

    def test_no_rows(self):
        users, items = initial_factors(0, 4, 2, 0)
        assert (users.shape, items.shape) == ((0, 2), (4, 2))

    def test_some_rows_are_those_of_the_whole(self):
        whole = initial_factors(70_000, 3, 2, 7)
        for side, factors in zip(("user", "item"), whole, strict=True):
            last = factors.shape[0] - 1
            for rows in ([], [0], [last], [1, 2, last], np.arange(0, last, 3)):
                chosen = np.array(rows, np.int32)
                drawn = draw_rows(chosen, 2, 7, side)
                np.testing.assert_array_equal(drawn, factors[chosen])
                start = Start(2, 7, "float32", 3, None)
                array = start_array(start, last + 1, side, chosen)
                assert array.dtype == np.float32
                np.testing.assert_array_equal(array[:, :2], drawn.astype(np.float32))
                assert not array[:, 2].any()
                given = start._replace(given=factors + 1, columns=2)
                np.testing.assert_array_equal(
                    start_array(given, last + 1, side, chosen),
                    (factors[chosen] + 1).astype(np.float32),
                )
