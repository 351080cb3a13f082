"""Quotes that are escaped by backslashes, told from the beginning of a file."""

from __future__ import annotations

import pytest

from als_spark.errors import DataError
from als_spark.spark.read.dialect import refuse_backslashes

HEAD = "user,title,item,rating\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (HEAD + '1,"a \\"b\\", 5, 3",101,4\n', 2),
        (HEAD + '9,ok,101,1\n1,"he said \\"hi\\"\n9,102,2,bye",101,4\n', 3),
        (HEAD.replace(",", "::") + '1::"a \\"b\\":: 5"::101::4\n', 2),
    ],
)
def test_where_fields_end_elsewhere(text: str, line: int) -> None:
    separator = "::" if "::" in text else ","
    with pytest.raises(DataError, match=rf"^a\.csv: line {line} has quotes behind backslashes"):
        refuse_backslashes(text, separator, "a.csv")


@pytest.mark.parametrize(
    "text",
    [
        # A folder of Windows.
        HEAD + '1,"C:\\",101,4\n',
        HEAD + '1,"C:\\" ,101,4\n',
        # Whichever way it is read, the fields are the same.
        HEAD + '1,"he said \\"hi\\" to me",101,4\n',
        HEAD + '1,"a ""b"", 5",101,4\n',
        HEAD + "1,\\N,101,4\n",
    ],
)
def test_where_it_does_not_matter(text: str) -> None:
    refuse_backslashes(text, ",", "a.csv")
