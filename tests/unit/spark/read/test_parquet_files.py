"""Parquet files with columns that Spark cannot read, and what it is told of the others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from als_spark.errors import DataError
from als_spark.spark.read.heads import Listing
from als_spark.spark.read.parquet_files import ParquetGroup, parquet_groups

NO_SPARK = cast(SparkSession, None)
MOMENT = datetime(2026, 11, 28, tzinfo=UTC)
RATINGS = {"user": pa.array([1]), "item": pa.array(["a"]), "rating": pa.array([3.5], pa.float32())}
ODD = {
    "moment": pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("ns")),
    "zoned": pa.array([MOMENT], pa.timestamp("ns", "UTC")),
    "half": pa.array(np.array([1], np.float16)),
    "clock": pa.array([time(1)], pa.time32("ms")),
    "clock64": pa.array([time(1)], pa.time64("us")),
    "uuid": pa.array([UUID(int=7).bytes], pa.uuid()),
    "wide": pa.array([Decimal(1)], pa.decimal256(50, 2)),
    "moments": pa.array([[MOMENT.replace(tzinfo=None)]], pa.list_(pa.timestamp("ns"))),
    "inner": pa.array([{"half": np.float16(1)}], pa.struct([("half", pa.float16())])),
}


def write(path: Path, columns: Mapping[str, pa.Array], **options: Any) -> str:
    pq.write_table(pa.table(dict(columns)), path, **options)
    return path.as_uri()


def groups(
    files: Sequence[str], columns: Mapping[str, str], optional: Sequence[str] = ()
) -> list[ParquetGroup]:
    listing = Listing("x", tuple(files), ())
    return parquet_groups(NO_SPARK, listing, files, lambda _names, _label: columns, optional)


USUAL = {"user": "user", "item": "item", "rating": "rating"}


@pytest.mark.parametrize("name", ODD)
def test_a_column_that_nobody_wants_is_left_out(name: str, tmp_path: Path) -> None:
    (group,) = groups([write(tmp_path / "r.parquet", {**RATINGS, name: ODD[name]})], USUAL)
    assert group.schema is not None
    read = ["moment", "zoned"]
    wanted = ["user", "item", "rating", *([name] if name in read else [])]
    assert group.schema.names == wanted
    assert group.unread == (() if name in read else (name,))
    assert group.nanoseconds == ((name,) if name in read else ())
    types = [field.dataType.simpleString() for field in group.schema]
    assert types[:3] == ["bigint", "string", "float"]


def test_files_that_spark_reads_are_left_to_it(tmp_path: Path) -> None:
    plain = {**RATINGS, "day": pa.array([date(2026, 1, 1)]), "tags": pa.array([["a"]])}
    assert groups([write(tmp_path / "r.parquet", plain)], USUAL)[0].schema is None
    # Of old writers: Arrow calls their moments nanoseconds, and Spark reads them.
    old = write(
        tmp_path / "old.parquet",
        {**RATINGS, "moment": ODD["moment"]},
        use_deprecated_int96_timestamps=True,
    )
    assert groups([old], USUAL)[0].schema is None


def test_what_spark_makes_of_the_other_columns(tmp_path: Path) -> None:
    others = {
        "user": pa.array(["u"]).dictionary_encode(),
        "item": pa.array(["i"], pa.large_string()),
        "rating": pa.array([Decimal("3.50")], pa.decimal128(5, 2)),
        "u8": pa.array([1], pa.uint8()),
        "u32": pa.array([1], pa.uint32()),
        "u64": pa.array([1], pa.uint64()),
        "day": pa.array([date(2026, 1, 1)]),
        "micros": pa.array([1], pa.timestamp("us")),
        "seconds": pa.array([1], pa.timestamp("s", "UTC")),
        "flag": pa.array([True]),
        "tags": pa.array([["a"]]),
        "half": ODD["half"],
    }
    (group,) = groups([write(tmp_path / "r.parquet", others)], USUAL)
    assert group.schema is not None
    assert [field.dataType.simpleString() for field in group.schema] == [
        *("string", "string", "decimal(5,2)", "smallint", "bigint", "decimal(20,0)"),
        *("date", "timestamp_ntz", "timestamp", "boolean"),
    ]
    assert group.unread == ("tags", "half")


@pytest.mark.parametrize(
    ("name", "kind", "remedy"),
    [
        ("half", "halffloat", "write it as float32"),
        ("clock", "time32[ms]", "write it as a timestamp or a number"),
        ("clock64", "time64[us]", "write it as a timestamp or a number"),
        ("uuid", "extension<arrow.uuid>", "write it as text"),
        ("wide", "decimal256(50, 2)", "write it with at most 38 digits"),
        ("moments", "list<element: timestamp[ns]>", "write it as text"),
    ],
)
def test_a_column_that_is_wanted_is_named(
    name: str, kind: str, remedy: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "r.parquet", {**RATINGS, name: ODD[name]})
    message = (
        f"{tmp_path}/r.parquet: the rating column {name!r} is of type {kind}, which Spark cannot "
        f'read: {remedy}, or choose another with `columns["rating"]`'
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        groups([file], {**USUAL, "rating": name})
    (group,) = groups([file], {**USUAL, "timestamp": name}, ["timestamp"])
    assert group.unread == (name,)
    with pytest.raises(DataError, match="the timestamp column"):
        groups([file], {**USUAL, "timestamp": name})


def test_one_file_of_several_is_enough(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "a.parquet", {**RATINGS, "half": pa.array([1.0])}),
        write(tmp_path / "b.parquet", {**RATINGS, "half": ODD["half"]}),
        write(tmp_path / "c.parquet", {**RATINGS, "user": pa.array(["x"])}),
    ]
    first, second = groups(files, USUAL)
    assert (first.files, first.unread) == (tuple(files[:2]), ("half",))
    assert (second.files, second.schema) == ((files[2],), None)
