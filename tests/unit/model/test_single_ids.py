"""One id where several are wanted is refused by every public function that takes ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from als_spark import FactorModel, fold_in, recommend, similar_items
from als_spark.errors import DataError
from als_spark.model.recommend import plan_recommendations
from tests.conftest import random_model

TEXT = random_model(text=True)
INTEGERS = random_model()
CALLS: dict[str, Callable[[FactorModel, Any], object]] = {
    "predict, users": lambda model, ids: model.predict(ids, [1, 2]),
    "predict, items": lambda model, ids: model.predict([1, 2], ids),
    "recommend": lambda model, ids: recommend(model, ids),
    "recommend to items": lambda model, ids: recommend(model, ids, side="item"),
    "recommend, exclude": lambda model, ids: recommend(model, exclude=(ids, [1, 2])),
    "recommend, exclude items": lambda model, ids: recommend(model, exclude=([1, 2], ids)),
    "recommend, one pair to exclude": lambda model, ids: recommend(model, exclude=ids),
    "similar items": lambda model, ids: similar_items(model, ids),
    "plan": lambda model, ids: plan_recommendations(model, ids=ids),
    "fold in, users": lambda model, ids: fold_in(model, "user", ids, [1, 2], [3.0, 4.0]),
    "fold in, items": lambda model, ids: fold_in(model, "user", [1, 2], ids, [3.0, 4.0]),
    "rows of": lambda model, ids: model.users.rows_of(ids),
}


@pytest.mark.parametrize("single", ["73", b"73"])
@pytest.mark.parametrize("name", CALLS)
def test_a_single_text(name: str, single: Any) -> None:
    for model in (TEXT, INTEGERS):
        with pytest.raises(DataError, match=r"^ids b?'7\d?'? ?.*given: use a list|^ids 55 given"):
            CALLS[name](model, single)


def test_whole_floats_are_the_integers() -> None:
    users, items = (side.ids.to_pylist()[:3] for side in (INTEGERS.users, INTEGERS.items))
    floats = np.array(users, float)
    expected = INTEGERS.predict(users, items)
    np.testing.assert_array_equal(INTEGERS.predict(floats, items), expected)
    np.testing.assert_array_equal(
        INTEGERS.predict(list(floats), [float(i) for i in items]), expected
    )
    assert recommend(INTEGERS, floats, 2).equals(recommend(INTEGERS, users, 2))
    with pytest.raises(DataError, match=r"^id 1\.5 given: use whole numbers"):
        INTEGERS.predict([1.5, 2.0], items[:2])
