"""What a task reads from text files by itself, and what it leaves to Spark; no Spark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from als_spark.spark.prepare.encode import encode_tasks
from als_spark.spark.read import clean_text
from als_spark.spark.read.clean_files import (
    BATCH_ROWS,
    CleanFiles,
    NotClean,
    Rules,
    TextForm,
    Unit,
    Version,
)
from als_spark.spark.read.clean_text import _ranges, read_lines

COLUMNS = {"user": "u", "item": "i", "rating": "r"}
FORM = TextForm(",", True, ("i", "u", "r", "t"))
HEADER = "i,u,r,t\n"
RULES = Rules(1e18)


def whole(path: Path, text: str) -> Unit:
    path.write_text(text)
    version = Version.of(str(path))
    return Unit(str(path), version, 0, version.n_bytes)


def read(unit: Unit, columns: dict[str, str] = COLUMNS, form: TextForm = FORM) -> pa.Table:
    return pa.Table.from_batches(read_lines([unit], columns, RULES, form))


def test_numbers_are_read_by_their_roles(tmp_path: Path) -> None:
    last = f"{HEADER}2,-1,4.5,1000\n9223372036854775807,0,-0.25,3"
    table = read(whole(tmp_path / "a", last), {**COLUMNS, "timestamp": "t"})
    assert table.to_pydict() == {
        "user": [-1, 0],
        "item": [2, 2**63 - 1],
        "rating": [4.5, -0.25],
        "timestamp": [1000.0, 3.0],
        "bad": [None, None],
    }
    # More than a batch holds.
    long = read(whole(tmp_path / "c", HEADER + (BATCH_ROWS + 9) * "1,2,3,4\n"))
    assert long.num_rows == BATCH_ROWS + 9


@pytest.mark.parametrize("separator", ["\t", "::", "|", "<=>"])
def test_any_separator(separator: str, tmp_path: Path) -> None:
    form = TextForm(separator, False, FORM.names)
    lines = "1,-2,3.5,4\n5,6,-7,8"
    table = read(whole(tmp_path / "a", lines.replace(",", separator)), form=form)
    assert table.drop("bad").to_pydict() == {"user": [-2, 6], "item": [1, 5], "rating": [3.5, -7]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1::2::3:4::5", "part of b'::'"),
        ("1::2:::3::4", "part of b'::'"),
        ("1::2::3::4:", "part of b'::'"),
        ("1::2::3::4\t5", "besides numbers"),
        ("1::2::3\x1f4", "besides numbers"),
        ("1::2::::4", "conversion error"),
        ("1::2::3", "Expected 4 columns"),
        ("01::2::3::4", "begins with a zero"),
    ],
)
def test_what_is_between_long_separators_is_left_to_spark(
    line: str, reason: str, tmp_path: Path
) -> None:
    form = TextForm("::", False, FORM.names)
    with pytest.raises(NotClean, match=reason):
        read(whole(tmp_path / "a", f"5::6::3.5::8\n{line}\n"), form=form)


@pytest.mark.parametrize("n_tasks", [1, 2, 7, 50])
@pytest.mark.parametrize("header", [True, False])
def test_every_line_is_read_by_one_task(
    n_tasks: int, header: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean_text, "BLOCK_BYTES", 32)
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 10 ** rng.integers(1, 9, 90))
    form = FORM._replace(header=header)
    versions = {}
    for name, part in (("a", ids[:60]), ("b", ids[60:60]), ("c", ids[60:])):
        lines = [f"{k},{k + 1},{k % 5},1\n\n"[: -1 if k % 2 else None] for k in part.tolist()]
        unit = whole(tmp_path / name, HEADER * header + "".join(lines))
        versions[unit.path] = unit.version
    tasks = _ranges(versions, n_tasks)
    assert len(tasks) == n_tasks
    found = [batch for task in tasks for batch in read_lines(task, COLUMNS, RULES, form)]
    assert pa.Table.from_batches(found).column("item").to_pylist() == ids.tolist()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("007,1,2,3", "begins with a zero"),
        ("1,00,2,3", "begins with a zero"),
        ("-0,1,2,3", "begins with a zero"),
        ("1,-01,2,3", "begins with a zero"),
        ('"1",1,2,3', "besides numbers"),
        ("+1,1,2,3", "besides numbers"),
        ("1, 1,2,3", "besides numbers"),
        ("1,1,2,3\r", "besides numbers"),
        ("1,1,NaN,3", "besides numbers"),
        ("0x1,1,2,3", "besides numbers"),
        ("1,1,2e3,3", "besides numbers"),
        ("\ufeff1,1,2,3", "besides numbers"),
        ("1,1,2", "Expected 4 columns"),
        ("1,1,2,3,4", "Expected 4 columns"),
        ("1,,2,3", "conversion error"),
        ("1,1,,3", "conversion error"),
        ("1.0,1,2,3", "conversion error"),
        ("9223372036854775808,1,2,3", "conversion error"),
        ("1-2,1,2,3", "conversion error"),
        ("1,1,.,3", "conversion error"),
        ("1,1,2000000000000000000,3", "not a finite number"),
        ("1,1,2," + 199 * "1", "a line is very long"),
    ],
)
def test_what_is_not_a_plain_number_is_left_to_spark(
    line: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean_text, "BLOCK_BYTES", 64)
    unit = whole(tmp_path / "a", f"{HEADER}5,6,3.5,8\n{line}\n")
    with pytest.raises(NotClean, match=reason):
        read(unit)


def test_files_that_change_are_left_to_spark(tmp_path: Path) -> None:
    unit = whole(tmp_path / "a", HEADER + "5,6,3.5,8\n")
    (tmp_path / "a").write_text(HEADER)
    files = CleanFiles(((unit,),), COLUMNS, RULES, FORM)
    (refused,) = encode_tasks([pa.record_batch([pa.array([0])], names=["id"])], files=files)
    assert refused.column("n_ratings").to_pylist() == [-1]
    assert "has changed" in refused.column("bad")[0].as_py()
