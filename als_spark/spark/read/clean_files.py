"""Files whose ratings a task can read by itself, without a row of Spark's in between: Parquet.

Spark hands rows over to Python one value at a time, which costs more than all else that is done
with them. Where a DataFrame is nothing but columns of Parquet files on a file system of the
machine, tasks read these files with Arrow instead. Only plain numbers are read so, and only if
every row is usable: at the first one that is not, or that may be understood in two ways, all is
left to Spark, whose expressions (:mod:`als_spark.spark.read.columns`) have the only account of
unusable rows. Text files are in :mod:`als_spark.spark.read.clean_text`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from als_spark.spark.read.options import FIRST_MILLISECONDS, LARGEST_SECONDS
from als_spark.types import SIDES, FloatArray

_INTEGERS = {"tinyint": pa.int8(), "smallint": pa.int16(), "int": pa.int32(), "bigint": pa.int64()}
_NUMBERS = {**_INTEGERS, "float": pa.float32(), "double": pa.float64()}
_KINDS = {"user": _INTEGERS, "item": _INTEGERS, "rating": _NUMBERS, "timestamp": _NUMBERS}
_FORMATS = "org.apache.spark.sql.execution.datasources"
_KNOWN_OPTIONS = {"path", "__globpaths__"}
"""What does not change how a file is read."""
_NEEDED_OFF = (
    "spark.sql.files.ignoreCorruptFiles",
    "spark.sql.files.ignoreMissingFiles",
    "spark.sql.parquet.fieldId.read.enabled",
)
MAX_FILES = 1000
"""The driver looks at the end of each file."""
BATCH_ROWS = 1 << 17
_NOTHING = pa.nulls(BATCH_ROWS, pa.string())
_INT = np.iinfo(np.int32)


class Rules(NamedTuple):
    """Which numbers are usable, and what becomes of a rating."""

    largest: float
    """In size, of a rating."""
    single: bool = False
    """Whether ratings are rounded to 32-bit floats."""
    int_ids: bool = False
    """Whether ids must be within the int range."""


class Version(NamedTuple):
    """What a file has changed by, if it has."""

    n_bytes: int
    modified: int
    """Nanoseconds since 1970."""

    @staticmethod
    def of(path: str) -> Version:
        """Look at a file; raises OSError if it is gone."""
        found = os.stat(path)
        return Version(found.st_size, found.st_mtime_ns)


class Unit(NamedTuple):
    """Row groups of a Parquet file, or bytes of a text, ``first`` to below ``stop``."""

    path: str
    version: Version
    """When these were found in it."""
    first: int
    stop: int


class TextForm(NamedTuple):
    """How the lines of text files are written: numbers alone, between separators."""

    separator: str
    """One character, or a word of several."""
    header: bool
    names: tuple[str, ...]
    """Of all fields."""


class CleanFiles(NamedTuple):
    """Ratings that tasks read from files themselves, unless one turns out to be unusable."""

    tasks: tuple[tuple[Unit, ...], ...]
    """What each task reads, in the order of the files."""
    columns: Mapping[str, str]
    """Names of the columns of user, item and rating, perhaps of the timestamp."""
    rules: Rules
    text: TextForm | None = None
    """None of Parquet files."""


class NotClean(Exception):
    """A file has something that is for Spark to read."""


def find_clean_files(
    frame: DataFrame, columns: Mapping[str, str], rules: Rules, n_tasks: int
) -> CleanFiles | None:
    """Find the files of a DataFrame, if it is nothing but columns of numbers in Parquet files.

    Parameters
    ----------
    frame : DataFrame
    columns : mapping of role to name
        Its columns of user, item and rating, perhaps of the timestamp.
    rules : Rules
    n_tasks : int
        Tasks that run at a time.

    Returns
    -------
    CleanFiles or None
        None where Spark has to read them.
    """
    types = {field.name: field.dataType.simpleString() for field in frame.schema.fields}
    wanted = {}
    for role, name in columns.items():
        kind = _KINDS[role].get(types.get(name, ""))
        if kind is None:
            return None
        wanted[name] = kind
    paths = paths_of(frame, set(wanted), "parquet.ParquetFileFormat", _KNOWN_OPTIONS)
    if not paths:
        return None
    units = []
    for path in paths:
        found = _row_groups(path, wanted)
        if found is None:
            return None
        units += found
    return CleanFiles(_share_out(units, n_tasks), dict(columns), rules) if units else None


def paths_of(
    frame: DataFrame, names: set[str], file_format: str, known_options: Collection[str] | None
) -> list[str]:
    """Return the paths of the files of this machine that a DataFrame is columns of; none of others.

    None either if there are too many to be looked at, if one of the columns ``names`` is in the
    names of folders, or if an option is not among those known, where they are given.
    """
    plan: Any = frame._jdf.queryExecution().optimizedPlan()
    while _name(plan) == "Project":
        chosen = plan.projectList()
        if any(_name(chosen.apply(k)) != "AttributeReference" for k in range(chosen.size())):
            return []
        plan = plan.child()
    if _name(plan) != "LogicalRelation" or plan.isStreaming():
        return []
    relation = plan.relation()
    if _name(relation) != "HadoopFsRelation":
        return []
    options = relation.options().keysIterator()
    known = set()
    while options.hasNext():
        known.add(str(options.next()).lower())
    conf = frame.sparkSession.conf
    if (
        relation.fileFormat().getClass().getName() != f"{_FORMATS}.{file_format}"
        or (known_options is not None and not known <= set(known_options))
        or names & set(relation.partitionSchema().fieldNames())
        or any(str(conf.get(name, "false")).lower() != "false" for name in _NEEDED_OFF)
    ):
        return []
    places = [urlsplit(str(file)) for file in relation.location().inputFiles()]
    if len(places) > MAX_FILES or any(p.scheme != "file" or p.netloc for p in places):
        return []
    return [unquote(place.path) for place in places]


def _name(node: Any) -> str:
    return str(node.getClass().getSimpleName())


def _row_groups(path: str, wanted: Mapping[str, pa.DataType]) -> list[tuple[Unit, int]] | None:
    """Return the row groups of a file with their rows; None if its columns are not as wanted."""
    try:
        version = Version.of(path)
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
    except (OSError, pa.ArrowException):
        return None
    # To Spark names that differ by case alone are one, which is there twice.
    lower = [name.lower() for name in schema.names]
    for name, kind in wanted.items():
        if lower.count(name.lower()) != 1 or schema.get_field_index(name) < 0:
            return None
        if schema.field(name).type != kind:
            return None
    return [
        (Unit(path, version, k, k + 1), metadata.row_group(k).num_rows)
        for k in range(metadata.num_row_groups)
    ]


def _share_out(units: Sequence[tuple[Unit, int]], n_tasks: int) -> tuple[tuple[Unit, ...], ...]:
    """Share units out to tasks of about as many rows, in their order; neighbours become one."""
    total = sum(rows for _, rows in units)
    tasks: list[list[Unit]] = [[] for _ in range(n_tasks)]
    before = 0
    for unit, rows in units:
        task = tasks[min((2 * before + rows) * n_tasks // max(2 * total, 1), n_tasks - 1)]
        before += rows
        if task and task[-1].path == unit.path and task[-1].stop == unit.first:
            task[-1] = task[-1]._replace(stop=unit.stop)
        else:
            task.append(unit)
    return tuple(tuple(task) for task in tasks if task)


def read_units(
    units: Sequence[Unit], columns: Mapping[str, str], rules: Rules
) -> Iterator[pa.RecordBatch]:
    """Read ratings as typed batches, as Spark would hand them over; runs on an executor.

    But ids are of the type that they have in the file.

    Raises
    ------
    NotClean
        If a file cannot be read, or a row is not usable.
    """
    names = list(dict.fromkeys(columns.values()))
    try:
        for unit in units:
            check_unchanged(unit)
            with pq.ParquetFile(unit.path) as file:
                groups = range(unit.first, unit.stop)
                batches = file.iter_batches(BATCH_ROWS, groups, names, use_threads=False)
                for batch in batches:
                    yield typed_batch(batch, columns, rules)
    except (OSError, pa.ArrowException) as error:
        raise NotClean(str(error)) from error


def check_unchanged(unit: Unit) -> None:
    """Stop at a file that is another one than that which was looked at.

    Perhaps in a later pass, whose chunks must not be of other ratings.
    """
    if Version.of(unit.path) != unit.version:
        raise NotClean(f"{unit.path} has changed since it was looked at")


def typed_batch(batch: pa.RecordBatch, columns: Mapping[str, str], rules: Rules) -> pa.RecordBatch:
    """Check at most ``BATCH_ROWS`` ratings, and name numbers by their roles; raises NotClean."""
    given = {role: batch.column(name) for role, name in columns.items()}
    if any(column.null_count for column in given.values()):
        raise NotClean("a value is missing")
    ids: dict[str, Any] = {role: given[role] for role in SIDES}
    if rules.int_ids and batch.num_rows:
        for role, values in ids.items():
            if values.type != pa.int64():
                continue
            extremes = pc.min_max(values).as_py()
            if extremes["min"] < _INT.min or extremes["max"] > _INT.max:
                raise NotClean(f"a {role} is beyond the int range")
    ratings = given["rating"].to_numpy(zero_copy_only=False)
    if rules.single:
        with np.errstate(over="ignore"):
            ratings = ratings.astype(np.float32)
    ratings = ratings.astype(np.float64)
    # What is NaN is not below anything.
    if not (np.abs(ratings) <= rules.largest).all():
        raise NotClean("a rating is not a finite number of the usual size")
    typed = {**ids, "rating": pa.array(ratings)}
    if "timestamp" in given:
        typed["timestamp"] = pa.array(_seconds(given["timestamp"].to_numpy(zero_copy_only=False)))
    typed["bad"] = _NOTHING.slice(0, batch.num_rows)
    return pa.record_batch([*typed.values()], names=[*typed])


def _seconds(times: npt.NDArray[Any]) -> FloatArray:
    """Bring times since 1970 to seconds, as :mod:`als_spark.spark.read.columns` does."""
    values = times.astype(np.float64)
    sizes = np.abs(values)
    # What is NaN is not below anything.
    if not (sizes < LARGEST_SECONDS).all():
        raise NotClean("a timestamp is not a time")
    finer = [sizes < FIRST_MILLISECONDS * 10.0**digits for digits in (0, 3, 6)]
    seconds: FloatArray = values / np.select(finer, [1.0, 1e3, 1e6], 1e9)
    return seconds
