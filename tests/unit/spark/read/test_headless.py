"""Files without a header whose fields cannot be what they would be taken for."""

from __future__ import annotations

import pytest

from als_spark.errors import DataError
from als_spark.spark.read.headless import refuse_other_order
from als_spark.spark.read.options import ROLES

NUMBERED = [[str(k), str(k * 7 % 5), "101", "3"] for k in range(6)]


def lines(*texts: str) -> list[list[str]]:
    return [text.split(",") for text in texts]


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (lines("1,2014-04-07T10:51:09.277Z,214,0"), "the items are moments, such as 2014-04-07T"),
        (lines("2014-04-07,1,5", "2014-04-08,1,5"), "the users are moments"),
        (lines("1,101,978300760", "2,102,978302109"), "the ratings are moments, such as 978300760"),
        (lines("1,101,2014-04-07 10:51:09,5"), "the ratings are moments"),
        (NUMBERED, "its first field numbers the lines from 0"),
        ([[str(int(k) + 1), *rest] for k, *rest in NUMBERED], "numbers the lines from 1"),
        (lines("0,1,2", "196,242,3"), "its first line '0,1,2' numbers the columns"),
        (lines(",0,1,2", "0,196,242,3"), "its first line ',0,1,2' numbers the columns"),
        (lines("userId,1,2,3", "7,5,3,4"), "seems to name a column for each item"),
        (lines("4,-7.82,8.79,-9.66,-8.16"), "it has 5 of them, and the others are numbers too"),
        (lines("1,101,6,5,4,1000000", "2,102,7,4,5,1000000"), "it has 6 of them"),
    ],
)
def test_other_orders(records: list[list[str]], why: str) -> None:
    with pytest.raises(DataError, match=r"^a\.csv: has no header, .* user, item, rating") as info:
        refuse_other_order(records, ROLES, "a.csv")
    assert why in str(info.value)
    assert str(info.value).endswith("give it a first line that names its columns")


@pytest.mark.parametrize(
    "records",
    [
        lines("196,242,3,881250949", "186,302,3,891717742"),
        lines("1,101,3", "978300760,101,5"),
        lines("1,2014-04-07,3", "2,102,4"),
        # Ratings in the order of their users, of which each has one.
        [[str(k), "101", "3", str(978300760 + k)] for k in range(9)],
        [[str(k), "101", "3"] for k in range(9)],
        NUMBERED[:4],
        lines("0,1,2", "0,2,3", "1,1,2"),
        lines("0,1,3", "1,1,2"),
        lines("user,5,3", "book,5,3"),
        lines("1,101,3,978300760,a title", "2,101,3,978300760,1984"),
    ],
)
def test_orders_that_may_be_right(records: list[list[str]]) -> None:
    refuse_other_order(records, ROLES, "a.csv")


def test_fields_in_the_names_of_folders_are_none_of_the_file() -> None:
    refuse_other_order(lines("101,3,978300760"), ROLES[1:], "a.csv")
    with pytest.raises(DataError, match=r"fields would be item, rating, timestamp; but the r"):
        refuse_other_order(lines("101,978300760,3"), ROLES[1:], "a.csv")
