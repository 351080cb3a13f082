"""What is told of ids that are not as they were written, or not as most are; no Spark."""

from __future__ import annotations

import pyarrow as pa
import pytest

from als_spark.errors import DataError
from als_spark.spark.read.ids import ChangedIds, Shapes, odd_ids, refuse_two_forms


def test_changed_ids_are_counted_by_side_and_merged():
    column = pa.chunked_array([["user 15.0", None], ["user 7.00, item 3.0", "item 4."]])
    found = ChangedIds.of_column(column)
    assert found.counts == {"user": 2, "item": 2}
    assert found.n == 4
    assert found.lines == [
        "2 user ids written with decimals, such as 15.0: read as 15",
        "2 item ids written with decimals, such as 3.0: read as 3",
    ]
    other = ChangedIds.of_column(pa.array(["user 10.0"]))
    merged = ChangedIds.of([*found.as_found(), *other.as_found()])
    assert merged == ChangedIds.of([*other.as_found(), *found.as_found()])
    assert merged.counts == {"user": 3, "item": 2}
    assert merged.examples["user"] == "10.0"
    for none in (pa.array([], pa.string()), pa.array([None], pa.string())):
        assert ChangedIds.of_column(none) == ChangedIds()


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (
            ["1", "2", "3", "x7"],
            "1 of 4 user ids are not whole numbers, such as 'x7': all are read as text",
        ),
        (["1", "2", "15.5"], "1 of 3 user ids are not whole numbers, such as '15.5': "),
        (["1", "2", "12e5"], "1 of 3 user ids are not whole numbers, such as '12e5': "),
        (["1", "1.000"], "1 of 2 user ids are not whole numbers, such as '1.000': "),
        (
            ["007", "8", "7"],
            "1 of 3 user ids have leading zeros, such as 007: all are read as text, and 007 is",
        ),
        (
            ["0306406152", "030640615X", "01"],
            "2 of 3 user ids have leading zeros, such as 0306406152: all are read as text, and",
        ),
        (["00", "0", "-07"], "2 of 3 user ids have leading zeros, such as 00: "),
    ],
)
def test_ids_that_are_mostly_whole_numbers_and_read_as_text(ids, words):
    told = odd_ids(pa.array(ids), "user")
    assert told is not None
    assert told.startswith(words)


def test_ids_that_differ_by_leading_zeros_alone():
    told = odd_ids(pa.array(["007", "8", "7", "0", "000"]), "item")
    assert told is not None
    assert told.endswith("and 007 is not 7; 2 are told from another id by these alone")
    alone = odd_ids(pa.array(["007", "8"]), "item")
    assert alone is not None
    assert alone.endswith("and 007 is not 7")


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([1, 2, 3]),
        pa.array([], pa.string()),
        pa.array(["a", "b", "7"]),
        pa.array(["12ab", "3f00", "1234", "0a1b"]),
        pa.array(["1", "9223372036854775807"]).cast(pa.int64()),
    ],
    ids=["integers", "none", "text", "hexadecimal", "long"],
)
def test_ids_that_are_alike(ids):
    assert odd_ids(ids, "item") is None


@pytest.mark.parametrize("other", ["1.1", "x", "007", "9223372036854775808"])
def test_whole_numbers_with_decimals_among_ids_that_are_none(other):
    ids = {"user": pa.array([1, 2]), "item": pa.array(["1", other, "~"])}
    changed = ChangedIds({"item": 4}, {"item": "1.0"})
    message = (
        rf"^r\.csv: the item id 1\.0 is a whole number with decimals, '{other}' is none: write all "
        r"item ids as whole numbers, or as text that is no number, such as v1\.0$"
    )
    with pytest.raises(DataError, match=message):
        refuse_two_forms("r.csv", ids, changed)
    refuse_two_forms("r.csv", ids, ChangedIds({"user": 1}, {"user": "1.0"}))
    refuse_two_forms("r.csv", {**ids, "item": pa.array(["1", "2"])}, changed)


@pytest.mark.parametrize(
    "ids",
    [
        ["1", "2", "3", "x7"],
        ["007", "8", "7"],
        ["00", "0", "-07"],
        ["1", "1.000"],
        ["a", "b", "7"],
        ["1", "2", "3"],
        ["+7", "8", str(2**63)],
        ["0a1b", "1234", "3f00"],
    ],
)
@pytest.mark.parametrize("changed", [False, True])
def test_the_shapes_of_ids_never_hide_what_jobs_say(ids: list[str], changed: bool) -> None:
    zeros = sum(len(i) > 1 and i.startswith(("0", "-0")) for i in ids)
    whole = sum(i == "0" or (i.lstrip("-").isdigit() and i.lstrip("-")[0] != "0") for i in ids)
    whole -= str(2**63) in ids
    shapes = Shapes(whole, zeros, len(ids) - whole - zeros)
    array = pa.array(ids) if whole < len(ids) else pa.array(list(map(int, ids)))
    said = odd_ids(array, "user") is not None
    if changed:
        try:
            refuse_two_forms("f", {"user": array}, ChangedIds({"user": 1}, {"user": "1.0"}))
        except DataError:
            said = True
    assert shapes.deserve_a_look(changed) >= said
    if whole == len(ids):
        assert not shapes.deserve_a_look(changed)
