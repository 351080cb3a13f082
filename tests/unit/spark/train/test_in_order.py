"""Factor blocks put in the order of their rows, on lists, without Spark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from als_spark.solve.objective import Objective
from als_spark.spark.train.factor_blocks import FactorBlock, Source, cut_by_rows, fill_piece


@pytest.mark.parametrize("height", [1, 3, 4, 11, 50])
@pytest.mark.parametrize("plain_by", [None, Objective(0.5, bias_reg=2.0, mean=3.0)])
def test_rows_of_blocks_and_shared_rows_meet_in_their_pieces(
    height: int, plain_by: Objective | None
) -> None:
    rng = np.random.default_rng(3)
    trained = rng.random((11, 3))
    block_of = np.array([0, 1, -1, 1, 0, 0, 2, -1, 2, 1, 0])
    source = Source(7, 1, "user", plain_by)
    wanted = trained if plain_by is None else plain_by.plain(trained, "user")
    sent: dict[int, list[Any]] = {}
    # The last block has no rows.
    for block in range(4):
        rows = np.flatnonzero(block_of == block)
        parts = ["a report", FactorBlock(7, rows, [np.zeros((rows.size, 3)), trained[rows]])]
        for number, piece in cut_by_rows(parts, source=source, height=height):
            assert (piece[0] // height == number).all()
            sent.setdefault(number, []).append((number, piece))
    shared = np.flatnonzero(block_of < 0)
    n_pieces = -(-11 // height)
    pieces = [
        piece
        for number in range(n_pieces)
        for piece in fill_piece(
            number, sent.get(number, []), shape=(height, 11), shared=(shared, wanted[shared])
        )
    ]
    assert len(pieces) == n_pieces
    np.testing.assert_array_equal(np.concatenate(pieces), wanted)
