"""Any ratings, written in any dialect, are read as they are, or refused; never anything else."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from als_spark.errors import UserError
from als_spark.spark.read.columns import typed_ratings
from als_spark.spark.read.ids import NULL_WORD, NULL_WORDS, ChangedIds, refuse_two_forms
from als_spark.spark.read.sources import SourceOptions, read_source
from als_spark.types import Side

EXAMPLES = int(os.environ.get("ALS_SPARK_EXAMPLES", "20"))
"""Sources that are drawn: more take a second each."""
TOGETHER = 20
"""Sources whose ratings one job of Spark brings."""
MOST_REFUSED = 0.05
"""Share of the sources: to refuse all would be easy."""
NAMES = {
    "user": ("user", "userId", "User ID", "uid", "customer"),
    "item": ("item", "movieId", "ITEM", "isbn", "product"),
    "rating": ("rating", "Stars", "score"),
    "timestamp": ("timestamp", "ts", "Rated At"),
    "title": ("title", "Über", "a.b c"),
}
PLAIN, SPECIAL = "abXY019é-_.", "abXY019éß ,;|:'\"\t\n"
TEXTS = st.text(SPECIAL, min_size=1, max_size=6).map(str.strip).filter(bool)
PLAIN_IDS = st.text(PLAIN, min_size=1, max_size=5).filter(lambda text: text.strip("-_."))
INTEGERS = st.one_of(st.integers(-5, 40), st.integers(-(2**62), 2**62))
RATINGS = st.integers(1, 10).map(lambda k: k / 2)
Row = tuple[Any, ...]
MISSING = ("", "", 0.0)
"""Where the rows are counted that have no user."""


@dataclass(frozen=True)
class Written:
    """A source: its files, how they are to be read, and what is in them.

    ``n_missing`` rows have a word for a missing id.
    """

    files: dict[str, bytes | pa.Table]
    options: dict[str, str]
    ratings: Counter[tuple[str, str, float]]
    n_missing: int = 0


@st.composite
def sources(draw: st.DrawFn) -> Written:
    kind = draw(st.sampled_from(["csv", "csv", "csv", "json", "parquet"]))
    ids = draw(st.sampled_from([INTEGERS, INTEGERS, PLAIN_IDS, TEXTS]))
    row = st.tuples(ids, ids, RATINGS, st.integers(0, 2**31), TEXTS)
    parts = draw(st.lists(st.lists(row, min_size=1, max_size=4), min_size=1, max_size=3))
    columns = [*NAMES][: draw(st.sampled_from([3, 4, 5]))]
    ratings = Counter((str(u), str(i), r) for part in parts for u, i, r, *_ in part)
    n_missing = 0
    if kind == "csv":
        if ids is INTEGERS:
            parts = [[otherwise(draw, row) for row in part] for part in parts]
            # Not in the first line, which tells whether there is a header.
            words = draw(st.lists(st.sampled_from(NULL_WORDS), max_size=2))
            parts[-1] += [(word, 1, 2.5, 0, "x") for word in words]
            n_missing = len(words)
        files, options = draw(csv_files(parts, columns))
    else:
        options = {}
        write = json_file if kind == "json" else parquet_file
        files = dict(
            draw(write(f"part-{k}", part, columns, ids is INTEGERS)) for k, part in enumerate(parts)
        )
    return Written(files, options, ratings, n_missing)


def otherwise(draw: st.DrawFn, row: Row) -> Row:
    """Write one of the ids of a row with decimals, now and then."""
    user, item, *rest = row
    if draw(st.integers(0, 9)) == 0 and abs(user) < 2**53:
        user = f"{user}{draw(st.sampled_from(['.0', '.00', '.']))}"
    return (user, item, *rest)


@st.composite
def csv_files(
    draw: st.DrawFn, parts: Sequence[Sequence[Row]], columns: Sequence[str]
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Text, with a header in all files, in the first, or in none."""
    encoding = draw(
        st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
    )
    headers = draw(st.sampled_from(["all", "all", "first", "none"]))
    everything = "".join(str(field) for part in parts for row in part for field in row)
    separators = [mark for mark in (",", "\t", ";", "|") if draw(st.booleans())] or [","]
    if not set(everything) & set("\t\n\" ,;|:'"):
        separators += ["::", " "]
    first_order = draw(st.permutations(columns)) if headers != "none" else list(columns)
    files = {}
    for k, part in enumerate(parts):
        order = draw(st.permutations(columns)) if headers == "all" else first_order
        rows: list[list[Any]] = [[row[[*NAMES].index(name)] for name in order] for row in part]
        if headers == "all" or (headers == "first" and k == 0):
            rows.insert(0, [draw(st.sampled_from(NAMES[name])) for name in order])
        text = joined(
            rows,
            draw(st.sampled_from(separators)),
            draw(st.sampled_from(["\n", "\n", "\r\n", "\r"])),
            quote_all=draw(st.booleans()),
        )
        if draw(st.booleans()):
            text = text.rstrip("\r\n")
        pack, ending = draw(
            st.sampled_from(
                [(bytes, ""), (bytes, ""), (gzip.compress, ".gz"), (bz2.compress, ".bz2")]
            )
        )
        files[f"part-{k}.csv{ending}"] = pack(text.encode(encoding))
    # Its mark tells UTF-8 from itself.
    return files, {"encoding": encoding.removesuffix("-sig")}


def joined(rows: Sequence[Sequence[Any]], separator: str, end: str, *, quote_all: bool) -> str:
    if separator in ("::", " "):
        blanks = "  " if separator == " " else separator
        # Names of two words need another separator.
        return "".join(blanks.join(str(f).replace(" ", "_") for f in row) + end for row in rows)
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end).writerows(rows)
    return text.getvalue()


@st.composite
def json_file(
    draw: st.DrawFn, name: str, part: Sequence[Row], columns: Sequence[str], integers: bool
) -> tuple[str, bytes]:
    as_text = not integers or draw(st.booleans())
    names = {role: draw(st.sampled_from(NAMES[role])) for role in columns}
    records = []
    for row in part:
        record = dict(zip(NAMES, row, strict=True))
        if as_text:
            record |= {role: str(record[role]) for role in ("user", "item")}
        records.append({names[role]: record[role] for role in draw(st.permutations(columns))})
    ascii_only = draw(st.booleans())
    lines = [json.dumps(record, ensure_ascii=ascii_only) for record in records]
    text = f"[{','.join(lines)}]" if draw(st.booleans()) else "\n".join(lines)
    return f"{name}.json", text.encode()


@st.composite
def parquet_file(
    draw: st.DrawFn, name: str, part: Sequence[Row], columns: Sequence[str], integers: bool
) -> tuple[str, pa.Table]:
    kinds = [pa.string()]
    if integers:
        kinds += [pa.int64(), pa.decimal128(20, 0)]
        if all(abs(value) < 2**31 for user, item, *_ in part for value in (user, item)):
            kinds += [pa.int32(), pa.float64()]
    arrays = {}
    for role in draw(st.permutations(columns)):
        values = [row[[*NAMES].index(role)] for row in part]
        kind = None
        if role in ("user", "item"):
            kind = draw(st.sampled_from(kinds))
            if kind == pa.string():
                values = [str(value) for value in values]
            elif pa.types.is_decimal(kind):
                values = [Decimal(value) for value in values]
        arrays[draw(st.sampled_from(NAMES[role]))] = pa.array(values, kind)
    return f"{name}.parquet", pa.table(arrays)


def write(folder: Path, written: Written) -> None:
    folder.mkdir(parents=True)
    for name, content in written.files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            pq.write_table(content, folder / name)


def drawn(n_examples: int) -> list[Written]:
    """Draw sources; the same ones for as many as CI draws."""
    found: list[Written] = []

    @settings(
        max_examples=n_examples,
        derandomize=n_examples <= 300,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(sources())
    def draw(written: Written) -> None:
        found.append(written)

    draw()
    return found


def read_together(
    spark: SparkSession, folder: Path, batch: Sequence[Written]
) -> list[str | Counter[tuple[str, str, float]]]:
    """Read sources, their rows in one job: the ratings of each, or why it was refused."""
    frames = []
    results: list[str | Counter[tuple[str, str, float]]] = [Counter() for _ in batch]
    for k, written in enumerate(batch):
        place = folder / f"source-{k}"
        write(place, written)
        try:
            source = read_source(spark, SourceOptions(path=str(place), **written.options))
        except UserError as error:
            results[k] = str(error)
            continue
        typed = typed_ratings(source, need_timestamp=False)
        texts = [F.col(name).cast("string").alias(name) for name in ("user", "item")]
        frames.append(typed.select(F.lit(k).alias("k"), *texts, "rating", "problem", "changed"))
    rows = reduce(DataFrame.union, frames).collect() if frames else []
    changed: dict[int, list[str]] = {}
    for row in rows:
        result = results[row.k]
        if row.problem == f"user is missing: {NULL_WORD}" and isinstance(result, Counter):
            result[MISSING] += 1
        elif row.problem is not None:
            results[row.k] = row.problem
        elif isinstance(result, Counter):
            result[row.user, row["item"], row.rating] += 1
            if row.changed is not None:
                changed.setdefault(row.k, []).append(row.changed)
    for k, words in changed.items():
        result = results[k]
        if isinstance(result, Counter):
            results[k] = unless_in_two_forms(result, words)
    shutil.rmtree(folder)
    return results


def unless_in_two_forms(
    ratings: Counter[tuple[str, str, float]], changed: Sequence[str]
) -> str | Counter[tuple[str, str, float]]:
    """Refuse ids that are only partly whole numbers, as every job does once it has all of them."""
    there = [key for key in ratings if key != MISSING]
    ids: dict[Side, pa.Array] = {
        "user": pa.array([user for user, *_ in there]),
        "item": pa.array([item for _, item, _ in there]),
    }
    try:
        refuse_two_forms("source", ids, ChangedIds.of_column(pa.array(changed)))
    except UserError as error:
        return str(error)
    return ratings


@pytest.mark.slow
def test_ratings_in_any_dialect(spark: SparkSession, tmp_path: Path) -> None:
    examples = drawn(EXAMPLES)
    assert len(examples) >= 0.9 * EXAMPLES
    refused = []
    for start in range(0, len(examples), TOGETHER):
        batch = examples[start : start + TOGETHER]
        found = read_together(spark, tmp_path / "sources", batch)
        for written, result in zip(batch, found, strict=True):
            if isinstance(result, str):
                refused.append(result)
            else:
                assert result.pop(MISSING, 0) == written.n_missing, written
                assert result == written.ratings, written
    assert len(refused) <= MOST_REFUSED * len(examples), refused
