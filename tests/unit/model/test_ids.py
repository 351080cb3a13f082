"""Original ids and dense rows."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from als_spark.errors import DataError
from als_spark.model.ids import (
    IdIndex,
    as_id_array,
    coerce_ids,
    fits_int64,
    id_for_message,
    ids_like,
)

INTEGERS = [30, -1, 10, 2**63 - 1, -(2**63), 0]
TEXTS = ["30", "alpha", "007", "-1", "é", ""]


@pytest.fixture
def integers() -> IdIndex:
    return IdIndex(pa.array(INTEGERS, pa.int64()))


@pytest.fixture
def texts() -> IdIndex:
    return IdIndex(pa.array(TEXTS))


def is_int64(text: str) -> bool:
    """Whether Python and Python alone writes the text for a 64-bit integer."""
    try:
        value = int(text)
    except ValueError:
        return False
    return str(value) == text and -(2**63) <= value < 2**63


class TestRowsOf:
    def test_every_id_has_its_row(self, integers, texts):
        assert integers.rows_of(INTEGERS).tolist() == list(range(6))
        assert texts.rows_of(TEXTS).tolist() == list(range(6))
        assert (len(integers), len(texts)) == (6, 6)
        assert (integers.are_integers, texts.are_integers) == (True, False)

    def test_unknown_ids(self, integers, texts):
        rows = integers.rows_of([10, 11, 30])
        assert rows.tolist() == [2, -1, 0]
        assert rows.dtype == np.int32
        assert texts.rows_of(["beta", "alpha"]).tolist() == [-1, 1]

    def test_text_is_read_as_integers(self, integers):
        asked = ["30", "-1", "9223372036854775807", "-9223372036854775808", "0"]
        assert integers.rows_of(asked).tolist() == [0, 1, 3, 4, 5]

    @pytest.mark.parametrize(
        "text", ["030", "+30", " 30", "30.0", "3e1", "-0", "", "x", "30\n", "9223372036854775808"]
    )
    def test_text_of_another_form_is_another_id(self, integers, text):
        assert integers.rows_of([text, "10"]).tolist() == [-1, 2]

    def test_integers_are_read_as_text(self, texts):
        assert texts.rows_of([30, 7, -1]).tolist() == [0, -1, 3]

    @pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint16, np.uint64])
    def test_numpy_integers(self, integers, texts, dtype):
        asked = np.array([10, 30, 99], dtype)
        assert integers.rows_of(asked).tolist() == [2, 0, -1]
        assert texts.rows_of(asked).tolist() == [-1, 0, -1]

    def test_numpy_texts(self, integers, texts):
        assert texts.rows_of(np.array(["alpha", "30"])).tolist() == [1, 0]
        assert integers.rows_of(np.array(["alpha", "30"], object)).tolist() == [-1, 0]

    @pytest.mark.parametrize(
        "asked",
        [
            pa.array([10, 30], pa.int32()),
            pa.array(["10", "30"], pa.large_string()),
            pa.array(["10", "30"]).dictionary_encode(),
            pa.chunked_array([[10], [30]]),
            pd.Series([10, 30], dtype="Int64"),
            pd.Series(["10", "30"], dtype="string"),
            pd.Series([10, 30]).astype("category"),
        ],
        ids=["int32", "large_string", "dictionary", "chunks", "Int64", "string", "category"],
    )
    def test_arrow_arrays(self, integers, asked):
        assert integers.rows_of(asked).tolist() == [2, 0]

    def test_missing_ids_are_not_found(self, integers, texts):
        assert integers.rows_of([None, 10]).tolist() == [-1, 2]
        assert texts.rows_of(["alpha", None]).tolist() == [1, -1]
        # Among ids of both kinds as well: no id is called "None".
        assert IdIndex(pa.array(["None", "x"])).rows_of([None, 1, "x"]).tolist() == [-1, -1, 1]

    @pytest.mark.parametrize("asked", [[2**63, 10], np.array([2**63, 10], np.uint64), [2**70, 10]])
    def test_integers_beyond_64_bits_are_not_found(self, integers, asked):
        assert integers.rows_of(asked).tolist() == [-1, 2]

    def test_integers_beyond_64_bits_as_text(self):
        index = IdIndex(pa.array([str(2**63), "1"]))
        for asked in ([2**63], np.array([2**63], np.uint64)):
            assert index.rows_of(asked).tolist() == [0]

    @pytest.mark.parametrize("asked", [[], np.zeros(0, np.int64), pa.array([], pa.string())])
    def test_none_asked(self, integers, texts, asked):
        for index in (integers, texts):
            rows = index.rows_of(asked)
            assert rows.size == 0
            assert rows.dtype == np.int32

    def test_no_ids(self):
        assert IdIndex(pa.array([], pa.int64())).rows_of([1, 2]).tolist() == [-1, -1]


class TestAsIdArray:
    @pytest.mark.parametrize(
        ("ids", "kind"),
        [([True], "bool"), ([b"a"], "binary"), ([None], "null"), ([date(2026, 1, 1)], "date32")],
    )
    def test_other_types(self, ids, kind):
        with pytest.raises(DataError, match=f"ids of type {kind}.* given: use integers or strings"):
            as_id_array(ids)

    def test_types(self):
        assert as_id_array([1, 2]).type == pa.int64()
        assert as_id_array(np.array([1], np.int16)).type == pa.int64()
        assert as_id_array(["a"]).type == pa.string()
        assert as_id_array(pa.array(["a"], pa.large_string()).to_pylist()).type == pa.string()
        assert as_id_array([]).type == pa.int64()

    @pytest.mark.parametrize(
        "ids",
        [
            [1.0, -3.0, 2.0**53 - 1],
            np.array([1, -3, 2**53 - 1], np.float64),
            pa.array([1.0, -3.0, 2.0**53 - 1]),
            pa.chunked_array([[1.0, -3.0], [2.0**53 - 1]]),
        ],
        ids=["list", "NumPy", "Arrow", "chunks"],
    )
    def test_whole_floats_are_integers(self, ids):
        found = as_id_array(ids)
        assert (found.type, found.to_pylist()) == (pa.int64(), [1, -3, 2**53 - 1])

    def test_floats_of_32_bits(self):
        found = as_id_array(np.array([1, 2**24 - 1], np.float32))
        assert found.to_pylist() == [1, 2**24 - 1]
        with pytest.raises(DataError, match=r"^id 16777216.0 given: use whole numbers below 2\^24"):
            as_id_array(np.array([2**24 + 1], np.float32))

    def test_floats_that_are_missing(self):
        for ids in ([1.0, float("nan")], np.array([1, np.nan]), pa.array([1.0, None])):
            assert as_id_array(ids).to_pylist() == [1, None]

    @pytest.mark.parametrize("odd", [1.5, -0.1, 2.0**53, 1e300, float("inf"), -float("inf")])
    def test_floats_that_are_no_whole_numbers(self, odd):
        for ids in ([1.0, odd], pa.array([odd])):
            with pytest.raises(DataError, match=r"^id .* given: use whole numbers below 2\^53"):
                as_id_array(ids)

    @pytest.mark.parametrize("single", ["73", b"73", bytearray(b"73"), memoryview(b"73"), 73, 7.0])
    def test_one_id_where_several_are_wanted(self, single):
        with pytest.raises(DataError, match=r"^ids .* given: use a list of ids, such as \["):
            as_id_array(single)

    def test_a_mixture_is_text(self):
        assert as_id_array([1, "a", 2**80]).to_pylist() == ["1", "a", str(2**80)]


class TestFitsInt64:
    SHORT = (
        "0",
        "-0",
        "7",
        "-7",
        "+7",
        "007",
        "1.0",
        "",
        "x",
        " 1",
        "1 ",
        "--1",
        "\u0661",
        "9" * 18,
    )
    LONG = (
        str(2**63 - 1),
        str(2**63),
        str(-(2**63)),
        str(-(2**63) - 1),
        "1" + "0" * 18,
        "9" * 19,
        "-" + "9" * 19,
        "0" * 19,
        "1" * 20,
        "x" * 19,
    )

    @pytest.mark.parametrize("texts", [SHORT, LONG, SHORT + LONG, ("1", "-2"), ("a", "b"), ()])
    def test_against_python(self, texts):
        found = fits_int64(pa.array(texts, pa.string()))
        assert [bool(value) for value in found.to_pylist()] == [is_int64(text) for text in texts]

    @pytest.mark.parametrize("long", [str(2**63 - 1), str(2**63)])
    def test_null_is_no_integer(self, long):
        found = fits_int64(pa.array(["1", None, "x", long]))
        assert [bool(value) for value in found.to_pylist()] == [True, False, False, is_int64(long)]


class TestCoerceIds:
    def test_same_type_is_no_copy(self):
        values = pa.array([1, 2], pa.int64())
        assert coerce_ids(values, pa.int64()) is values

    def test_what_does_not_fit_becomes_null(self):
        values = pa.array(["5", "05", "x", None, "-6"])
        assert coerce_ids(values, pa.int64()).to_pylist() == [5, None, None, None, -6]

    def test_to_text(self):
        assert coerce_ids(pa.array([5, None, -6]), pa.string()).to_pylist() == ["5", None, "-6"]


class TestIdsLike:
    def test_are_of_the_type_of_the_index_known_or_not(self):
        integers, text = IdIndex(pa.array([1, 2], pa.int64())), IdIndex(pa.array(["1", "a"]))
        assert ids_like(integers, ["2", "99"], "user id").equals(pa.array([2, 99], pa.int64()))
        assert ids_like(text, [2, 1], "user id").equals(pa.array(["2", "1"]))
        assert ids_like(text, pa.array(["b"]), "user id").equals(pa.array(["b"]))

    def test_text_among_integers(self):
        index = IdIndex(pa.array([1], pa.int64()))
        with pytest.raises(DataError, match="item id '007': the ids of this model are integers"):
            ids_like(index, ["1", "007"], "item id")

    def test_a_missing_id(self):
        index = IdIndex(pa.array(["a"]))
        with pytest.raises(DataError, match=r"a user id is missing \(null\): leave it out"):
            ids_like(index, pa.array(["a", None]), "user id")


class TestMessages:
    def test_text_and_integers(self) -> None:
        assert id_for_message(pa.array(["a", "é"]), 1) == "é"
        assert id_for_message(pa.array([7, 8]), 1) == 8

    @pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
    def test_bytes_that_are_no_text(self, kind: pa.DataType) -> None:
        whole = pa.array(
            [b"x", b"caf\xe9"], pa.binary() if kind == pa.string() else pa.large_binary()
        )
        ids = pa.Array.from_buffers(kind, 2, whole.buffers())
        assert id_for_message(ids, 1) == r"caf\xe9"
