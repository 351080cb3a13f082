"""The products of the normal equations, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from als_spark.solve import gram
from als_spark.solve.gram import GENERAL, SMALL_KERNELS, Products, multiply, products_of_blas


def promised(products):
    """The right-hand sides, and the upper triangles below them."""
    return np.triu(products, -1)


class TestMultiply:
    @pytest.mark.parametrize("products", [None, GENERAL, SMALL_KERNELS])
    @pytest.mark.parametrize("rank", [1, 7, 36, 37, 50, 69, 103])
    @pytest.mark.parametrize("width", [1, 63, 64, 401, 1400])
    @pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-3)])
    def test_upper_triangle_and_right_hand_side(
        self, products: Products | None, rank: int, width: int, dtype: str, tolerance: float
    ) -> None:
        drawn = np.random.default_rng(rank).standard_normal((3, width, rank + 1))
        known = drawn.astype(dtype)
        out = np.full((3, rank + 1, rank), np.nan, dtype)
        multiply(known, out, products)
        for augmented, product in zip(known.astype(np.float64), out, strict=True):
            expected = augmented.T @ augmented[:, 1:]
            np.testing.assert_allclose(
                promised(product), promised(expected), rtol=tolerance, atol=tolerance
            )

    def test_a_piece_of_one_rating_at_least(self) -> None:
        known = np.random.default_rng(0).standard_normal((2, 9, 4))
        out = np.empty((2, 4, 3))
        multiply(known, out, Products(2, 0.5, lambda *_: False))
        expected = np.einsum("rwi,rwj->rij", known, known[:, :, 1:])
        np.testing.assert_allclose(promised(out), promised(expected), rtol=1e-12)


@pytest.mark.parametrize(
    ("architectures", "products"),
    [
        (["SkylakeX"], SMALL_KERNELS),
        (["Haswell", "SapphireRapids"], SMALL_KERNELS),
        (["Haswell"], GENERAL),
        (["neoversen1"], GENERAL),
        ([None], GENERAL),
        ([], GENERAL),
    ],
)
def test_the_kernels_of_the_blas_decide(
    architectures: list[str | None], products: Products, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [{"user_api": "blas"} | ({"architecture": a} if a else {}) for a in architectures]
    monkeypatch.setattr(gram.threadpoolctl, "threadpool_info", lambda: found)
    assert products_of_blas.__wrapped__() is products


@pytest.mark.parametrize(
    ("rank", "widths"), [(1, [1]), (36, [36]), (37, [5, 32]), (50, [18, 32]), (100, [36, 32, 32])]
)
def test_panels_leave_few_columns_to_none(rank: int, widths: list[int]) -> None:
    panels = gram._panels(rank, 32)
    assert [stop - start for start, stop in panels] == widths
    assert (panels[0][0], panels[-1][1]) == (0, rank)
