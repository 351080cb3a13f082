"""What is asked of the evaluation, without Spark."""

from __future__ import annotations

import pytest

from als_spark.spark.predict.evaluate import RankingOptions


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (RankingOptions(relevant_from=5.5), "no rating is relevant, for the highest is 5: give a "),
        (RankingOptions(relevant_from=5.0), None),
        (RankingOptions(), None),
        (RankingOptions(relevant_from=1e308, max_users=0), None),
    ],
)
def test_no_rating_is_relevant(options: RankingOptions, found: str | None) -> None:
    said = options.unreachable(5.0)
    assert said is None if found is None else str(said).startswith(found)
