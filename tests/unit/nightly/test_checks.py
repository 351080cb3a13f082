"""Data checks at, inside and outside their limits."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from als_spark.nightly.checks import CheckLimits, check_parts, check_unknown, check_whole
from als_spark.spark.read.facts import DataFacts, PartFacts

LAST = DataFacts(1000, 100, 50, 1.0, 5.0, 3.5, 1.0, "f")
LIMITS = CheckLimits()


def part(**changes) -> PartFacts:
    fields = {"label": "a.csv", "rows": 1000, "bad_rows": 0, "lowest": 1, "highest": 5, "mean": 3.5}
    return PartFacts(**{**fields, **changes})


def now(**changes) -> DataFacts:
    return dataclasses.replace(LAST, **changes)


def failed(checks) -> list[str]:
    return [check.name for check in checks if not check.passed]


class TestParts:
    @pytest.mark.parametrize(("bad", "passes"), [(0, True), (10, True), (11, False), (1000, False)])
    def test_unusable_rows(self, bad, passes):
        (check,) = check_parts([part(bad_rows=bad)], LAST, LIMITS)
        assert check.passed == passes
        assert check.option == "max_bad_share"
        assert f"{bad:,} of 1,000" in check.value

    def test_a_bad_increment_does_not_drown_in_a_large_base(self):
        parts = [part(rows=10**6), part(label="b.csv", rows=100, bad_rows=50)]
        assert failed(check_parts(parts, LAST, LIMITS)) == ["unusable rows of b.csv"]

    def test_no_rows_are_no_bad_rows(self):
        parts = [part(), part(label="b.csv", rows=0, mean=math.nan)]
        checks = check_parts(parts, LAST, LIMITS)
        # Nor have they a mean to look at.
        assert [check.name for check in checks] == [
            "unusable rows of a.csv",
            "unusable rows of b.csv",
        ]
        assert failed(checks) == []

    @pytest.mark.parametrize(
        ("mean", "rows", "passes"),
        # 0.15 of a range of 4 is 0.6; three standard errors are 0.03, 0.3 and 3.
        [
            *((3.5, 10_000, True), (4.12, 10_000, True), (4.14, 10_000, False)),
            *((2.88, 10_000, True), (2.86, 10_000, False)),
            *((4.39, 100, True), (4.41, 100, False), (1.0, 1, True)),
        ],
    )
    def test_mean_of_an_increment(self, mean, rows, passes):
        # Unusable rows have no part in the mean.
        increment = part(label="b.csv", mean=mean, rows=rows + rows // 100, bad_rows=rows // 100)
        checks = check_parts([part(), increment], LAST, LIMITS)
        assert failed(checks) == ([] if passes else ["mean rating of b.csv"])
        assert checks[-1].previous == "3.5"
        assert checks[-1].option == "max_fresh_mean_shift"

    def test_the_base_is_judged_as_a_whole_only(self):
        checks = check_parts([part(mean=99.0)], LAST, LIMITS)
        assert failed(checks) == []

    def test_first_run(self):
        checks = check_parts([part(), part(label="b.csv", mean=99.0)], None, LIMITS)
        assert [check.option for check in checks] == ["max_bad_share", "max_bad_share"]
        assert failed(checks) == []


class TestWhole:
    def test_the_same_again(self):
        checks = check_whole(LAST, LAST, LIMITS)
        assert failed(checks) == []
        assert len(checks) == 7

    def test_first_run(self):
        assert check_whole(LAST, None, LIMITS) == []

    @pytest.mark.parametrize("field", ["ratings", "users", "items"])
    @pytest.mark.parametrize(
        ("factor", "option"),
        [
            (0.9, None),
            (2.0, None),
            (0.88, "max_shrink"),
            (2.02, "max_growth"),
            (0.0, "max_shrink"),
        ],
    )
    def test_sizes(self, field, factor, option):
        value = round(getattr(LAST, field) * factor)
        checks = check_whole(now(**{field: value}), LAST, LIMITS)
        assert failed(checks) == ([] if option is None else [field])
        (check,) = (check for check in checks if check.name == field)
        assert option is None or check.option == option

    @pytest.mark.parametrize(("most", "passes"), [(1250, True), (1251, False)])
    def test_a_little_less_every_night_adds_up(self, most, passes):
        lately = {"ratings": most, "users": 100, "items": 50}
        checks = check_whole(LAST, LAST, LIMITS, lately)
        # What was the most in the last run has been looked at already.
        (check,) = [check for check in checks if check.option == "max_total_shrink"]
        assert check.name == "ratings since their most"
        assert check.passed == passes
        assert check.limit.endswith(f"of the {most:,} there were")

    def test_any_growth(self):
        limits = CheckLimits(max_growth=math.inf)
        checks = check_whole(now(ratings=10**9), LAST, limits)
        assert failed(checks) == []
        assert "any number" in checks[0].limit

    @pytest.mark.parametrize(
        ("changes", "slack", "names"),
        [
            ({"lowest": 0.5}, 0.0, ["lowest rating"]),
            ({"highest": 5.5}, 0.0, ["highest rating"]),
            ({"lowest": 0.5, "highest": 5.5}, 0.5, []),
            ({"lowest": 0.4, "highest": 5.6}, 0.5, ["lowest rating", "highest rating"]),
            ({"lowest": 2.0, "highest": 4.0}, 0.0, []),
        ],
    )
    def test_range(self, changes, slack, names):
        checks = check_whole(now(**changes), LAST, CheckLimits(range_slack=slack))
        assert failed(checks) == names

    @pytest.mark.parametrize(
        ("mean", "passes"), [(3.69, True), (3.71, False), (3.31, True), (3.29, False)]
    )
    def test_mean(self, mean, passes):
        checks = check_whole(now(mean=mean), LAST, LIMITS)
        assert failed(checks) == ([] if passes else ["mean rating"])

    @pytest.mark.parametrize(
        ("spread", "passes"), [(1.19, True), (1.21, False), (0.81, True), (0.79, False)]
    )
    def test_spread(self, spread, passes):
        # Ratings may come to lie closer together without leaving the range, or moving the mean.
        checks = check_whole(now(spread=spread), LAST, LIMITS)
        assert failed(checks) == ([] if passes else ["standard deviation of the ratings"])

    @pytest.mark.parametrize(
        ("mean", "names"), [(3.3, []), (3.3000000000000003, []), (3.4, ["mean rating"])]
    )
    def test_range_of_a_point(self, mean, names):
        before = now(lowest=3.3, highest=3.3, mean=3.3, spread=0.0)
        after = dataclasses.replace(before, mean=mean)
        assert failed(check_whole(after, before, LIMITS)) == names
        assert failed(check_whole(after, before, CheckLimits(max_mean_shift=math.inf))) == []


class TestUnknown:
    @pytest.mark.parametrize(("share", "passes"), [(0.0, True), (0.5, True), (0.51, False)])
    def test_shares(self, share, passes):
        checks = check_unknown({"user": share, "item": 0.1}, LIMITS)
        assert failed(checks) == ([] if passes else ["ratings of unknown users"])
        assert {check.option for check in checks} == {"max_unknown_share"}

    def test_no_version_to_know_anything(self):
        assert check_unknown({}, LIMITS) == []


class TestLimits:
    def test_every_limit_decides_a_check(self):
        checks = [
            *check_parts([part(), part(label="b.csv")], LAST, LIMITS),
            *check_whole(now(ratings=0), LAST, LIMITS),
            *check_whole(LAST, LAST, LIMITS, {"items": 60}),
            *check_unknown({"user": 0.0}, LIMITS),
        ]
        named = set(CheckLimits.model_fields)
        assert {check.option for check in checks} == named
        json.dumps([dataclasses.asdict(check) for check in checks], allow_nan=False)
