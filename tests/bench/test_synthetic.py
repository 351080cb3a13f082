"""The benchmarks' ratings: distinct, seeded, long-tailed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from scripts.bench.synthetic import generate, main


def test_pairs_are_distinct_and_as_many_as_asked():
    ratings = generate(20_000, 700, 300, seed=1)
    pairs = ratings.users.astype(np.int64) * 300 + ratings.items
    assert np.unique(pairs).size == pairs.size == 20_000
    assert 0 <= ratings.users.min() <= ratings.users.max() < 700
    assert 0 <= ratings.items.min() <= ratings.items.max() < 300


def test_values_are_half_stars_with_a_signal():
    ratings = generate(20_000, 700, 300, seed=1).ratings
    assert set(np.unique(2 * ratings)) <= set(range(1, 11))
    assert 0.8 < ratings.std() < 1.5


def test_degrees_have_long_tails():
    ratings = generate(50_000, 2_000, 500, seed=2)
    for rows in (ratings.users, ratings.items):
        degrees = np.sort(np.bincount(rows))[::-1]
        # A tenth of the rows has several times its share of the ratings.
        assert degrees[: degrees.size // 10].sum() > 0.3 * degrees.sum()


def test_the_seed_decides():
    first, again, other = (generate(5_000, 300, 200, seed=s) for s in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first.users, other.users)


def test_a_dense_matrix_is_refused():
    with pytest.raises(ValueError, match="not sparse"):
        generate(500, 20, 50)


def test_the_program_writes_parquet(tmp_path: Path):
    out = tmp_path / "ratings"
    assert (
        main(["--ratings", "1000", "--users", "200", "--items", "100", "--output", str(out)]) == 0
    )
    table = pq.read_table(out)
    assert table.num_rows == 1000
    assert table.column_names == ["user", "item", "rating"]
